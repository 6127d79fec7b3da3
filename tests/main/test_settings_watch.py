"""The watch over `penstock.toml`: what it takes up, what it reports, and when a report is over."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.main.rooms import Rooms
from penstock.main.settings_watch import RETRY_LOOKS, SettingsWatch
from penstock.spec.home import Home

ROUTE = '[routes.r]\ntargets = [{provider = "later", model = "m"}]\n'


@pytest.fixture
def rooms(home: Home, migrated_sqlite: Path) -> Iterator[Rooms]:
    shutil.copy(migrated_sqlite, home.control_db)
    opened = Rooms(home, environ={}, keeps_running=True)
    yield opened
    opened.close()


def test_a_report_ends_when_what_the_file_lacked_is_made_elsewhere(
    rooms: Rooms, caplog: pytest.LogCaptureFixture
) -> None:
    rooms.publish_snapshot()
    watch = SettingsWatch(rooms.home, rooms.take_up_settings)
    rooms.home.settings.write_text(ROUTE)
    for _ in range(4 * RETRY_LOOKS):
        watch.look()
    assert "later" in (watch.problem or "")
    assert len([one for one in caplog.records if "not taken up" in one.message]) == 1, "told once"
    rooms.configuration.put("provider", "later", {"base_url": "http://127.0.0.1:9/v1"}, actor="ada")
    assert [watch.look() for _ in range(RETRY_LOOKS)].count(True) == 1
    assert watch.problem is None


def test_a_file_that_is_right_is_taken_up_once() -> None:
    taken: list[int] = []

    class Place:
        settings = Path(__file__)

    watch = SettingsWatch(Place(), lambda: taken.append(1))  # type: ignore[arg-type]
    assert [watch.look() for _ in range(3 * RETRY_LOOKS)].count(True) == len(taken) == 1
