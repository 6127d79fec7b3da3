"""What a change of keys, aliases or models does for those who serve: the snapshot, and the engine's restart."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.jobs.service import JobService
from penstock.jobs.worker import Worker
from penstock.main.engine_files import EngineFile, SharedEngine, write_engine, write_shared
from penstock.main.errors import SettingsInvalid
from penstock.main.home_files import restart_folder
from penstock.main.instance import own_home
from penstock.main.job_handlers import pull_model
from penstock.main.rooms import Rooms
from penstock.registry.types import AliasMove
from penstock.spec.home import Home

NO_SUCH_PROVIDER = '[routes.far]\ntargets = [{provider = "nobody", model = "m"}]\n'


@pytest.fixture
def rooms(home: Home, migrated_sqlite: Path) -> Iterator[Rooms]:
    shutil.copy(migrated_sqlite, home.control_db)
    opened = Rooms(home, environ={}, keeps_running=True)
    yield opened
    opened.close()


def asks_for_restart(home: Home) -> list[str]:
    return sorted(path.name for path in restart_folder(home).iterdir())


def move(kind: str, alias: str) -> AliasMove:
    return AliasMove(
        id=1,
        kind=kind,  # type: ignore[arg-type]
        name="pocket",
        alias=alias,
        from_number=1,
        to_number=2,
        actor="test",
        moved_ns=1,
        evidence=None,
        reason=None,
        is_override=False,
        undoes=None,
    )


@pytest.mark.parametrize("damage", ["oops = 1\n", "[up\n", NO_SUCH_PROVIDER])
def test_keys_are_made_and_revoked_for_gateways_while_the_settings_are_damaged(
    rooms: Rooms, damage: str
) -> None:
    good = '[providers.far]\nbase_url = "http://127.0.0.1:9/v1"\n'
    rooms.home.settings.write_text(good)
    old = rooms.keys.create("old").id
    rooms.publish_snapshot()
    rooms.home.settings.write_text(damage)
    rooms.keys.revoke(old)
    new = rooms.keys.create("new").id
    published = rooms.publish_snapshot()
    assert [key.id for key in published.keys] == [new]
    assert "far" in {provider.name for provider in published.providers}
    assert old not in rooms.home.snapshot.read_text()
    with pytest.raises(SettingsInvalid):
        rooms.take_up_settings()
    rooms.home.settings.write_text("")
    assert "far" not in {provider.name for provider in rooms.take_up_settings().providers}


def test_damaged_settings_are_told_once_until_they_are_right(
    rooms: Rooms, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> int:
        return sum("settings are damaged" in one.message for one in caplog.records)

    rooms.publish_snapshot()
    for count in (1, 2):
        rooms.home.settings.write_text("[up\n")
        rooms.publish_snapshot()
        rooms.publish_snapshot()
        assert told() == count
        rooms.home.settings.write_text("")
        rooms.publish_snapshot()


def test_a_command_that_does_not_keep_running_refuses_damaged_settings(rooms: Rooms) -> None:
    rooms.publish_snapshot()
    rooms.home.settings.write_text(NO_SUCH_PROVIDER)
    with pytest.raises(SettingsInvalid, match="nobody"):
        Rooms(rooms.home, environ={}).publish_snapshot()


def test_a_moved_alias_is_published_and_restarts_nothing(rooms: Rooms) -> None:
    """The shared engine sees for itself where `prod` stands, and takes it up beside what serves."""
    for kind, alias in (("model", "canary"), ("app", "prod"), ("model", "prod")):
        rooms.home.snapshot.unlink(missing_ok=True)
        rooms.take_up_alias(move(kind, alias))
        assert rooms.home.snapshot.exists()
    assert asks_for_restart(rooms.home) == []


class Puller:
    """An installation whose pull makes version 2 live."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.models = self
        self.live = "sha256:1"

    def find_version(self, _kind: str, _name: str) -> Any:
        return SimpleNamespace(digest=self.live)

    def publish_snapshot(self) -> None:
        """Nothing reads it here."""

    def pull(self, _name: str, _source: str, **_: Any) -> Any:
        self.live = "sha256:2"
        return SimpleNamespace(number=2, digest=self.live, is_new=False, is_live=True, parity={})


def pull(rooms: Rooms) -> list[str]:
    """Pull, and return what the job says."""
    installation: Any = Puller(rooms.home)
    worker = Worker(rooms.engine, {"pull": lambda ctx, spec: pull_model(installation, ctx, spec)}, "test")
    jobs = JobService(rooms.engine)
    job = jobs.submit("pull", {"name": "pocket", "source": "folder:x"})
    worker.run_once()
    assert jobs.get(job.id).state == "done"
    return [line.text for line in jobs.logs(job.id)]


def test_a_pull_is_done_when_the_engine_hosts_what_was_pulled(rooms: Rooms) -> None:
    with own_home(rooms.home):
        write_shared(rooms.home, SharedEngine(child="engine~2", port=1))
        write_engine(rooms.home, EngineFile(child="engine~2", port=1, role="shared", models={"pocket": 2}))
        assert "the engine hosts model:pocket@2" in pull(rooms)


def test_a_pull_says_when_the_engine_refuses_what_was_pulled(rooms: Rooms) -> None:
    with own_home(rooms.home):
        write_shared(rooms.home, SharedEngine(child="engine", port=1, refused={"pocket": 2}))
        write_engine(rooms.home, EngineFile(child="engine", port=1, role="shared", models={"pocket": 1}))
        assert any("does not host model:pocket@2" in line for line in pull(rooms))


def test_a_pull_waits_for_no_engine_where_none_runs(rooms: Rooms) -> None:
    assert not any("host" in line for line in pull(rooms))
