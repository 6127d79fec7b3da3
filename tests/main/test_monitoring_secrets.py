"""What channels name is read where it may be sent, and what keeps alerts from being heard is told."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from penstock.main.monitoring import ChannelSecrets, create_monitoring
from penstock.main.rooms import Rooms
from penstock.monitors.errors import SecretMissing
from penstock.monitors.types import ChannelContent
from penstock.spec.home import Home
from penstock.store.spans.duckdb_file import DuckDBFile
from penstock.store.spans.measures import DuckDBMeasures

HOOK = "https://hooks.example.com/T1/B2/token"


@pytest.fixture
def rooms(home: Home, sqlite_engine: Engine) -> Rooms:
    rooms = Rooms(home, environ={"PENSTOCK_ALERT_URL": f" {HOOK} "})
    rooms.__dict__["engine"] = sqlite_engine
    return rooms


def test_variables_are_read_and_missing_ones_told(rooms: Rooms) -> None:
    secrets = ChannelSecrets(rooms)
    assert secrets(env="PENSTOCK_ALERT_URL", secret=None, url=None) == HOOK
    with pytest.raises(SecretMissing, match="PENSTOCK_ALERT_NONE"):
        secrets(env="PENSTOCK_ALERT_NONE", secret=None, url=None)


def test_a_sealed_secret_goes_to_its_host_alone(rooms: Rooms) -> None:
    rooms.secrets.create("hook", HOOK, url="https://hooks.example.com", actor="ann")
    rooms.secrets.create("key", "top", url="https://hooks.example.com", actor="ann")
    rooms.secrets.create("elsewhere", "https://evil.example/x", url="https://hooks.example.com", actor="ann")
    secrets = ChannelSecrets(rooms)
    assert secrets(env=None, secret="hook", url=None) == HOOK
    assert secrets(env=None, secret="key", url=HOOK) == "top"
    for name, url in (("key", "https://evil.example/"), ("elsewhere", None), ("unknown", None)):
        with pytest.raises(SecretMissing) as caught:
            secrets(env=None, secret=name, url=url)
        assert "top" not in str(caught.value)


def test_messages_that_were_given_up_are_a_warning(rooms: Rooms) -> None:
    file = DuckDBFile(Path(":memory:"))
    try:
        monitoring = create_monitoring(rooms, DuckDBMeasures(file))
        assert monitoring.find_warning() is None
        channel = ChannelContent(kind="webhook", url="http://127.0.0.1:9/", allow_private=True)
        monitoring.channels.put("away", channel, actor="ann")
        message = monitoring.channels.test("away", actor="ann")
        for _ in range(10):
            monitoring.channels.retry(message.id)
            monitoring.delivery.run_once()
        assert monitoring.find_warning() is None
        monitoring.delivery._clock = lambda: 2**62
        for _ in range(10):
            monitoring.delivery.run_once()
            monitoring.delivery._clock = lambda later=monitoring.delivery._clock() + 4000 * 10**9: later  # type: ignore[misc]
        assert "1 messages were given up" in (monitoring.find_warning() or "")
        monitoring.evaluator.problem = "OSError: away"
        assert "away" in (monitoring.find_warning() or "")
    finally:
        file.close()
