"""`kill -9` at any change of any file: before a write, after it, half-way through it.

A small library between process and C library counts what changes files below the home, so that a life can be ended at
each of these changes in turn: also inside of the engine's own log, checkpoints and headers, where no step of the
program can be named. A sample of them is taken; `PENSTOCK_EVERY_WRITE=1` takes them all.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.spec.home import Home
from penstock.spec.spans import FOREIGN_MARK
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.telemetry.mapping_table import load_table
from tests.fixtures.mortal.house import KILLED, MortalHouse
from tests.main import lives
from tests.main.recorded import FarSide, assert_recorded, assert_whole, dump
from tests.store.test_span_migration import OLD, write_old_file

LIVES = "tests.main.lives"
EVERY_WRITE = bool(os.environ.get("PENSTOCK_EVERY_WRITE"))
SAMPLE = 3
pytestmark = pytest.mark.timeout(300 if not EVERY_WRITE else 3000)


@pytest.fixture
def house(mortal_house: MortalHouse) -> MortalHouse:
    if not mortal_house.can_break_disk:
        pytest.skip("needs Linux and a C compiler")
    return mortal_house


def chosen(n_changes: int, sample: int = SAMPLE) -> list[tuple[int, str]]:
    """Return at which changes to kill, and how: each way at each change, or some spread evenly, the ways in turn."""
    ways = ("before", "torn", "after")
    assert n_changes > 0
    if EVERY_WRITE:
        return [(number, way) for number in range(1, n_changes + 1) for way in ways]
    sample = min(sample, n_changes)
    return [
        (1 + (2 * index + 1) * n_changes // (2 * sample), ways[index % len(ways)]) for index in range(sample)
    ]


def test_recording_loses_and_doubles_nothing(house: MortalHouse, tmp_path: Path) -> None:
    far = FarSide()
    (tmp_path / "scratch").mkdir()

    def live(number: int, way: str) -> tuple[int | None, Path, Path]:
        root, notes = tmp_path / f"home-{number}-{way}", tmp_path / f"notes-{number}-{way}"
        lives.prepare(root)
        end = house.live(
            f"{LIVES}:record", disk=(root, way, number, 1), root=root, notes=notes, forward_url=far.url
        )
        assert end.status == (0 if way == "count" else KILLED), (number, way, end.log)
        return end.n_changes, root, notes

    n_changes, root, notes = live(0, "count")
    n_acknowledged = {assert_recorded(root, notes, tmp_path / "scratch", far)}
    assert n_acknowledged == {4 * lives.N_REQUESTS - 2}
    for number, way in chosen(n_changes or 0, 5):
        far.n_seen.clear()
        _, root, notes = live(number, way)
        n_acknowledged.add(assert_recorded(root, notes, tmp_path / "scratch", far))
        shutil.rmtree(root)
    assert len(n_acknowledged) > 2, "they died early and late"
    far.close()


def same(before: int) -> Callable[[DuckDBSpanStore, Path], None]:
    def check(store: DuckDBSpanStore, scratch: Path) -> None:
        assert len(assert_whole(store, scratch)["spans"]) == before

    return check


def is_mapped(store: DuckDBSpanStore, scratch: Path) -> None:
    spans = assert_whole(store, scratch)["spans"]
    assert len(spans) == 60
    assert {span.attributes[FOREIGN_MARK] for span in spans} == {load_table().version}


def is_expired(store: DuckDBSpanStore, scratch: Path) -> None:
    with store.file.cursor() as cursor:
        left = cursor.execute("SELECT project, count(*), count(preview) FROM spans GROUP BY 1").fetchall()
        n_payloads = cursor.execute(
            "SELECT count(*) FROM payloads JOIN spans USING (trace_id, span_id) WHERE project = 'shop'"
        ).fetchall()
    assert {project: n_spans for project, n_spans, _ in left}["shop"] == 20
    assert n_payloads == [(0,)]


@pytest.mark.parametrize(
    ("scenario", "check"),
    [("compact", same(60)), ("checkpoint", same(62)), ("remap", is_mapped), ("expire", is_expired)],
)
def test_what_is_done_to_the_file_is_whole_after_it_is_done_again(
    house: MortalHouse, tmp_path: Path, scenario: str, check: Callable[[DuckDBSpanStore, Path], None]
) -> None:
    lives.fill(tmp_path / "filled")
    (tmp_path / "scratch").mkdir()

    def live(number: int, way: str) -> tuple[int | None, Path]:
        root = tmp_path / f"home-{number}-{way}"
        shutil.copytree(tmp_path / "filled", root)
        end = house.live(f"{LIVES}:{scenario}", disk=(root, way, number, 1), root=root)
        assert end.status == (0 if way == "count" else KILLED), (number, way, end.log)
        return end.n_changes, root

    n_changes, _ = live(0, "count")
    for number, way in chosen(n_changes or 0):
        _, root = live(number, way)
        again = house.live(f"{LIVES}:{scenario}", root=root)
        assert again.status == 0, (number, way, again.log)
        store = DuckDBSpanStore(Home(root=root).span_db)
        check(store, tmp_path / "scratch")
        store.close()
        assert [path.name for path in root.glob("*.fresh")] == []
        shutil.rmtree(root)


def test_a_migration_is_whole_when_it_is_opened_again(house: MortalHouse, tmp_path: Path) -> None:
    def live(number: int, way: str) -> tuple[int | None, Home]:
        home = lives.prepare(tmp_path / f"home-{number}-{way}")
        write_old_file(home.span_db)
        end = house.live(f"{LIVES}:migrate", disk=(home.root, way, number, 1), root=home.root)
        assert end.status == (0 if way == "count" else KILLED), (number, way, end.log)
        return end.n_changes, home

    n_changes, _ = live(0, "count")
    for number, way in chosen(n_changes or 0):
        _, home = live(number, way)
        store = DuckDBSpanStore(home.span_db)
        found = dump(store)
        assert [span.cache for span in found["spans"]] == ["hit", None]
        assert found["payloads"][OLD, f"{1:016x}"].output == "hi"
        store.close()
