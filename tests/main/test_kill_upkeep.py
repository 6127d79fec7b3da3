"""`kill -9` while the span file is tidied, copied, migrated, mapped anew or erased from: the old state or the new, whole."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from penstock.main.restore import check_backup
from penstock.spec.home import Home
from penstock.spec.spans import FOREIGN_MARK
from penstock.store.control.engine import newest_revision
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.upkeep_types import Subject
from penstock.telemetry.mapping_table import load_table
from penstock.traces.upkeep.receipts import read_content
from tests.fixtures.mortal.house import KILLED, MortalHouse
from tests.main import lives
from tests.main.recorded import assert_whole, dump
from tests.store.test_span_migration import OLD, write_old_file

LIVES = "tests.main.lives"
FILE = "store.spans.duckdb_file"


@pytest.fixture
def house(mortal_house: MortalHouse) -> MortalHouse:
    return mortal_house


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with spans, to copy from."""
    root = tmp_path_factory.mktemp("filled") / "home"
    lives.fill(root)
    return root


@pytest.fixture
def root(filled: Path, tmp_path: Path) -> Path:
    shutil.copytree(filled, tmp_path / "home")
    (tmp_path / "scratch").mkdir()
    return tmp_path / "home"


def at(place: str, when: str = "before", nth: int = 1, given: str | None = None) -> dict[str, Any]:
    return {"place": f"penstock.{place}", "when": when, "nth": nth, "given": given}


def reopened(root: Path) -> DuckDBSpanStore:
    return DuckDBSpanStore(Home(root=root).span_db)


COMPACTING = {
    "before anything": at(f"{FILE}:DuckDBFile.rebuild"),
    "with an empty new file": at(f"{FILE}:run", given="DELETE FROM fresh.store_meta"),
    "while tables are copied": at("store.spans.upkeep:run", "after", given="INSERT INTO fresh.scores"),
    "between two slices": at("store.spans.upkeep:_slices", "after"),
    "before the new file is whole": at(f"{FILE}:run", given="CHECKPOINT fresh"),
    "with both files": at(f"{FILE}:DuckDBFile._swap"),
    "before the rename": at("pathlib:Path.replace", given="fresh") | {"place": "pathlib:Path.replace"},
    "after the rename": at("pathlib:Path.replace", "after", given="fresh")
    | {"place": "pathlib:Path.replace"},
    "before the new file is open": at(f"{FILE}:DuckDBFile._open", nth=2),
}


@pytest.mark.parametrize("way", COMPACTING)
def test_a_file_that_was_being_written_anew_is_the_old_one_or_the_new(
    house: MortalHouse, root: Path, way: str
) -> None:
    before = read(root)
    end = house.live(f"{LIVES}:compact", moment=COMPACTING[way], root=root)
    assert end.status == KILLED, end.log
    assert_same(root, before)
    assert sorted(path.name for path in root.glob("*.duckdb*")) == ["spans.duckdb"]


@pytest.mark.parametrize("where", ["before_header", "after_free_list_write", "before_truncate"])
def test_what_was_in_the_log_is_there_after_a_checkpoint_that_was_cut_off(
    house: MortalHouse, root: Path, where: str
) -> None:
    before = read(root)
    end = house.live(f"{LIVES}:checkpoint_that_dies", root=root, where=where)
    assert end.status == KILLED, end.log
    store = reopened(root)
    found = assert_whole(store, root.parent / "scratch")
    store.close()
    assert len(found["spans"]) == len(before["spans"]) + 1


def read(root: Path) -> dict[str, Any]:
    store = reopened(root)
    found = dump(store)
    store.close()
    return found


def assert_same(root: Path, before: dict[str, Any]) -> None:
    store = reopened(root)
    assert assert_whole(store, root.parent / "scratch") == before
    store.close()


@pytest.mark.parametrize("nth", [1, 2])
def test_retention_that_was_cut_off_leaves_whole_traces_and_goes_on(
    house: MortalHouse, root: Path, nth: int
) -> None:
    moment = at(f"{FILE}:run", nth=nth, given="'COMMIT'")
    end = house.live(f"{LIVES}:expire", moment=moment, root=root)
    assert end.status == KILLED, end.log
    store = reopened(root)
    with store.file.cursor() as cursor:
        assert cursor.execute(
            "SELECT count(*) FROM traces WHERE n_spans <> (SELECT count(*) FROM spans s WHERE s.trace_id = traces.trace_id)"
        ).fetchall() == [(0,)]
    store.close()
    assert house.live(f"{LIVES}:expire", root=root).status == 0
    store = reopened(root)
    with store.file.cursor() as cursor:
        assert cursor.execute("SELECT count(*) FROM payloads p JOIN spans s USING (trace_id, span_id)"
                              " WHERE s.project = 'shop'").fetchall() == [(0,)]  # fmt: skip
    store.close()


@pytest.mark.parametrize("way", [at(f"{FILE}:os.fsync"), at(f"{FILE}:sync_directory")])
def test_a_copy_that_was_cut_off_is_no_copy_and_the_next_one_is_whole(
    house: MortalHouse, root: Path, way: dict[str, Any]
) -> None:
    before, out = read(root), root.parent / "copy.duckdb"
    end = house.live(f"{LIVES}:copy", moment=way, root=root, out=out)
    assert end.status == KILLED, end.log
    if out.exists():
        store = DuckDBSpanStore(out, read_only=True)
        assert dump(store) == before
        store.close()
        out.unlink()
    assert house.live(f"{LIVES}:copy", root=root, out=out).status == 0
    assert sorted(path.name for path in root.parent.glob("copy*")) == ["copy.duckdb"]
    assert_same(root, before)


@pytest.mark.parametrize(
    "moment",
    [
        at("main.backup:_Writer._add_spans"),
        at("main.backup:_Writer._add_file", given="run/backup"),
        at("main.backup:_Writer._add_blobs"),
        at("pathlib:Path.replace", given="tar") | {"place": "pathlib:Path.replace"},
    ],
)
def test_a_backup_that_was_cut_off_hinders_no_other(
    house: MortalHouse, root: Path, moment: dict[str, Any]
) -> None:
    before, out = read(root), root.parent / "home.tar"
    end = house.live(f"{LIVES}:copy_home", moment=moment, root=root, out=out)
    assert end.status == KILLED, end.log
    assert not out.exists()
    again = house.live(f"{LIVES}:copy_home", root=root, out=out)
    assert again.status == 0, again.log
    assert check_backup(out).n_files > 0
    assert sorted(path.name for path in root.parent.iterdir()) == ["home", "home.tar", "scratch"]
    assert list((root / "run" / "backup").iterdir()) == []
    assert_same(root, before)


@pytest.mark.parametrize("given", ["ADD COLUMN IF NOT EXISTS tags", "SET schema_version", "'COMMIT'"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_migration_that_was_killed_begins_again_or_is_done(
    house: MortalHouse, tmp_path: Path, given: str, when: str
) -> None:
    home = lives.prepare(tmp_path / "home")
    write_old_file(home.span_db)
    end = house.live(f"{LIVES}:migrate", moment=at(f"{FILE}:run", when, given=given), root=home.root)
    assert end.status == KILLED, end.log
    store = DuckDBSpanStore(home.span_db)
    assert [span.cache for span in store.get_trace(OLD)] == ["hit", None]
    assert store.get_payload(OLD, f"{1:016x}").output == "hi"
    (row,) = [store.get_summary(OLD)]
    assert row is not None and (row.n_spans, row.n_errors, row.cache) == (2, 1, "hit")
    store.close()


@pytest.mark.parametrize("nth", [1, 2])
def test_mapping_anew_that_was_killed_goes_on_and_changes_nothing_twice(
    house: MortalHouse, root: Path, nth: int
) -> None:
    moment = at(f"{FILE}:run", "before" if nth == 1 else "after", given="'COMMIT'")
    end = house.live(f"{LIVES}:remap", moment=moment, root=root)
    assert end.status == KILLED, end.log
    assert house.live(f"{LIVES}:remap", root=root).status == 0
    store = reopened(root)
    found = assert_whole(store, root.parent / "scratch")
    store.close()
    assert {span.attributes[FOREIGN_MARK] for span in found["spans"]} == {load_table().version}
    assert {span.model for span in found["spans"]} == {"m"}
    assert len(found["spans"]) == 60


ERASURE = "traces.upkeep.erasure:ErasureService"
ERASING = {
    "asked for": at(f"{ERASURE}.submit", "after"),
    "before the late ones are kept out": at("traces.upkeep.tombstones:Tombstones.add", nth=2),
    "before places are cleared": at(f"{ERASURE}._clear_places"),
    "before the store is cleared": at("store.spans.upkeep:DuckDBUpkeep.erase"),
    "cleared, not written anew": at("store.spans.upkeep:DuckDBUpkeep.compact"),
    "written anew": at("store.spans.upkeep:DuckDBUpkeep.compact", "after"),
    "before the name is forgotten": at(f"{ERASURE}._forget_name"),
    "before the receipt": at(f"{ERASURE}._write_receipt"),
    "after the receipt": at(f"{ERASURE}._write_receipt", "after"),
}


@pytest.mark.parametrize("way", ERASING)
def test_an_erasure_that_was_killed_is_carried_out_once_the_process_is_back(
    house: MortalHouse, root: Path, migrated_sqlite: Path, way: str
) -> None:
    home = Home(root=root)
    home.control_db.write_bytes(migrated_sqlite.read_bytes())
    end = house.live(f"{LIVES}:erase", moment=ERASING[way], root=root)
    assert end.status == KILLED, end.log
    with lives.open_upkeep(home) as (store, upkeep):
        upkeep.erasures.carry_out_waiting()
        (done,) = upkeep.erasures.list_newest()
        assert (done.state, done.error) == ("done", None)
        assert done.receipt is not None
        content = read_content(upkeep.erasures.receipts.get(done.receipt).content)
        removed = {place.place: place.removed for place in content.places}
        assert removed["span store"]["spans"] == 2
        assert len(upkeep.erasures.receipts.list()) == 1
        assert len(assert_whole(store, root.parent / "scratch")["spans"]) == 58
        assert upkeep.erasures.find(Subject(kind="user", id=lives.USER)).n_spans == 0
    name = lives.USER.encode()
    assert [path.name for path in root.rglob("*") if path.is_file() and name in path.read_bytes()] == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_control_database_whose_migration_was_killed_is_brought_forward_again(
    house: MortalHouse, tmp_path: Path, when: str
) -> None:
    path = tmp_path / "control.db"
    url = f"sqlite:///{path}"
    assert house.live(f"{LIVES}:old_control", url=url, revision="0004").status == 0
    moment = {"place": "alembic.op:create_table", "when": when, "nth": 3, "given": None}
    end = house.live(f"{LIVES}:migrate_control", moment=moment, url=url)
    assert end.status == KILLED, end.log
    assert house.live(f"{LIVES}:migrate_control", url=url).status == 0
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(newest_revision(),)]
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
