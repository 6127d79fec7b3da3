"""`kill -9` at each step between a span's arrival and its place in the store, of real processes.

Whatever step it is: the next process finds every span that was acknowledged, once, and rows that say the same as if
nothing had happened.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.mortal.house import KILLED, MortalHouse
from tests.main.recorded import FarSide, assert_recorded

LIVES = "tests.main.lives"


@pytest.fixture
def house(mortal_house: MortalHouse) -> MortalHouse:
    return mortal_house


@pytest.fixture
def far() -> Iterator[FarSide]:
    opened = FarSide()
    yield opened
    opened.close()


def at(place: str, when: str = "before", nth: int = 1, given: str | None = None) -> dict[str, Any]:
    return {"place": f"penstock.{place}", "when": when, "nth": nth, "given": given}


_COLLECTOR = "traces.collector:Collector"
_APPEND = "store.spans.append:Append"
_WAYS_TO_DIE = {
    "before the spool is written": at("telemetry.segments:SegmentAppender._write_group", nth=3),
    "written and not synced": at("telemetry.segments:os.fdatasync", nth=3),
    "synced and not acknowledged": at("telemetry.segments:os.fdatasync", "after", 3),
    "acknowledged and not stored": at(f"{_COLLECTOR}._store_round", nth=2),
    "before an event waits on disk": at("traces.late_events:LateEvents._wait_for", nth=2),
    "after an event waits on disk": at("traces.late_events:LateEvents.join", "after", 2),
    "transaction begun": at("store.spans.append:Append.run", nth=2),
    "old records deleted": at(f"{_APPEND}._delete_spans", "after"),
    "spans inserted, traces not": at(f"{_APPEND}._insert_spans", "after", 2),
    "all written, before the commit": at("store.spans.duckdb_file:run", nth=2, given="'COMMIT'"),
    "committed, spool not acknowledged": at("store.spans.duckdb_file:run", "after", 2, given="'COMMIT'"),
    "before events are put into stored spans": at("store.spans.duckdb:DuckDBSpanStore.rewrite"),
    "before it is kept for sending on": at("traces.forward:Forwarder.tap", nth=2),
    "kept for sending on, not acknowledged": at("traces.forward:Forwarder.tap", "after", 2),
    "one folder acknowledged, the other not": at("telemetry.spool:SpoolReader.ack", "after", 2),
    "while waiting events are written anew": at("traces.late_events:LateEvents.settle", nth=2),
    "before a body is sent on": at("traces.forward:post_http", nth=2),
    "after a body was sent on": at("traces.forward:post_http", "after", 2),
    "while a dead writer's folder is removed": at("traces.collector:is_spool_file", "after", 2),
    "while it stops": at("main.recording:Recording.close"),
    "while the store is closed": at("store.spans.duckdb_file:DuckDBFile.close"),
}


@pytest.mark.parametrize("way", _WAYS_TO_DIE)
def test_whatever_was_acknowledged_is_stored_once_wherever_the_process_was_killed(
    house: MortalHouse, far: FarSide, tmp_path: Path, way: str
) -> None:
    root, notes, scratch = tmp_path / "home", tmp_path / "notes", tmp_path / "scratch"
    scratch.mkdir()
    end = house.live(f"{LIVES}:record", moment=_WAYS_TO_DIE[way], root=root, notes=notes, forward_url=far.url)
    assert end.status == KILLED, end.log
    assert_recorded(root, notes, scratch, far)
