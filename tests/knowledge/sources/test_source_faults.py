"""Faults of one source, document or value stay its own: others are taken up, and nothing newer is lost."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from penstock.knowledge.sources.errors import InvalidSource, UnknownSource, UnreadableProperties
from penstock.knowledge.sources.kinds.folder import FolderSource
from penstock.knowledge.sources.kinds.jsonl import MAX_STRANGE
from penstock.knowledge.sources.properties import merge_properties, parse_properties, read_moment
from penstock.knowledge.sources.scheduler import WATCH_EVERY_S, SourceScheduler
from penstock.knowledge.sources.service import SourceService
from penstock.knowledge.sources.types import MAX_PROBLEMS, KnownItem, Scan
from penstock.knowledge.sources.watching import fingerprint
from penstock.knowledge.types import InlineContext
from penstock.spec.knowledge import Properties
from tests.knowledge.sources.conftest import LONG_AGO, CountingBlobs, TickingClock
from tests.knowledge.sources.test_source_scheduler import Runs

Write = Callable[..., Path]


def scan(sources: SourceService, ctx: InlineContext | None = None) -> Scan:
    return sources.scan_all("guide", ctx or InlineContext())


@pytest.mark.parametrize("moment", ["1e300", "inf", "nan", "-3000000000000000000", "9999-12-31"])
def test_a_moment_that_nothing_can_show_is_told_at_its_document_alone(
    sources: SourceService, write: Write, tmp_path: Path, moment: str
) -> None:
    write("good.md")
    write("bad.md")
    write("bad.md.meta.toml", f"modified = {moment}")
    sources.ensure_folder("guide", tmp_path / "docs")
    found = scan(sources)
    assert [item.path for item in found.items] == ["good.md"]
    assert "modified" in found.left_out[0].reason


def test_milliseconds_are_read_as_such_and_the_year_one_as_nothing() -> None:
    assert read_moment(1_700_000_000_000, "x") == read_moment(1_700_000_000, "x") == 1_700_000_000 * 10**9
    assert read_moment("0001-01-01T00:00:00", "x") is None
    assert read_moment("2261-01-01", "x")
    for far in (1e17, -(10**15), "2262-12-31", "1600-01-01"):
        with pytest.raises(UnreadableProperties, match="no moment between"):
            read_moment(far, "x")


def test_a_far_moment_that_a_file_or_a_document_has_is_none() -> None:
    far, near = Properties(modified_ns=2**70), Properties(modified_ns=5)
    assert merge_properties(near, far).modified_ns == merge_properties(far, near).modified_ns == 5
    assert merge_properties(far, far).modified_ns is None


def test_values_that_no_database_takes_are_made_storable_or_told(
    sources: SourceService, tmp_path: Path
) -> None:
    lines = [
        '{"id": 1, "text": "One.", "title": "\\ud800\\u0000", "m": 1}',
        '{"id": 2, "text": "Two.", "title": "T", "m": 1e300}',
        '{"id": 3, "text": "Three.", "title": "T", "m": NaN}',
        '{"id": 4, "text": "Four.", "title": "T", "m": 1, "k": 99999999999999999999999}',
    ]
    (tmp_path / "r.jsonl").write_text("\n".join(lines))
    given = {"location": str(tmp_path / "r.jsonl"), "title": "title", "modified": "m", "keep": ["k"]}
    sources.add("guide", "r", "jsonl", given)
    found = scan(sources)
    assert [(item.path, item.properties.values["title"]) for item in found.items] == [("1.txt", "?\ufffd")]
    assert len(found.left_out) == 3


def test_a_source_that_raises_what_nobody_foresaw_does_not_stop_the_others(
    sources: SourceService, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("one/a.md")
    write("two/b.md")
    for name in ("one", "two"):
        sources.add("guide", name, "folder", {"location": str(tmp_path / "docs" / name)})
    scan(sources)
    real = FolderSource.scan

    def stumble(self: FolderSource, known: Mapping[str, KnownItem]) -> Iterator[Any]:
        yield from real(self, known)
        if self._root.name == "one":
            raise ZeroDivisionError("a fault")

    monkeypatch.setattr(FolderSource, "scan", stumble)
    (tmp_path / "docs" / "two" / "c.md").write_text("New.")
    found = scan(sources)
    assert [item.path for item in found.items] == ["a.md", "two/b.md", "two/c.md"]
    assert "ZeroDivisionError" in (found.outcomes[0].error or "")
    assert sources.get("guide", "one").state == "failed"


def test_a_document_that_raises_what_nobody_foresaw_is_left_as_it_was(
    sources: SourceService, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a.md")
    write("b.md")
    sources.ensure_folder("guide", tmp_path / "docs")
    real = Path.read_bytes

    def stumble(self: Path) -> bytes:
        if self.name == "a.md":
            raise ZeroDivisionError
        return real(self)

    monkeypatch.setattr(Path, "read_bytes", stumble)
    found = scan(sources)
    assert [item.path for item in found.items] == ["b.md"]
    assert found.left_out[0].reason == "cannot be read: ZeroDivisionError"


def test_a_watched_source_that_cannot_be_looked_at_holds_up_no_other(
    sources: SourceService, sqlite_engine: Engine, clock: TickingClock, tmp_path: Path
) -> None:
    (tmp_path / "docs").mkdir()
    runs = Runs()
    sources.add("aaa", "bad", "folder", {"location": "/" + "x" * 5000, "watch": True})
    sources.add("team", "docs", "folder", {"location": str(tmp_path / "docs")}, schedule="1h")
    scheduler = SourceScheduler(sqlite_engine, runs, clock=clock, now=lambda: clock.now_ns / 1e9)
    clock.pass_s(4000)
    scheduler.tick()
    assert runs.begun == [("team", ("docs",))]
    bad = sources.get("aaa", "bad")
    assert (bad.state, bad.failures) == ("failed", 1)
    assert "File name too long" in (bad.error or "")
    clock.pass_s(WATCH_EVERY_S)
    scheduler.tick()
    assert sources.get("aaa", "bad").failures == 1  # comes again at its time, as after any failure


def test_other_settings_of_a_record_source_read_every_record_again(
    sources: SourceService, blobs: CountingBlobs, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "wiki.db") as database:
        database.execute("CREATE TABLE t (id TEXT, short TEXT, body TEXT, ch TEXT)")
        database.execute("INSERT INTO t VALUES ('1', 'SHORT', 'LONG', 'v1')")
    database.close()
    given = {"location": f"sqlite:///{tmp_path / 'wiki.db'}", "version": "ch", "text": "short"}
    sources.add("guide", "wiki", "database", {**given, "query": "SELECT * FROM t"})

    def read() -> tuple[bytes, int]:
        found = scan(sources)
        return blobs.get(found.items[0].digest), found.outcomes[0].read

    assert [read(), read()] == [(b"SHORT", 1), (b"SHORT", 0)]
    sources.edit("guide", "wiki", {"text": "body"})
    assert [read(), read()] == [(b"LONG", 1), (b"LONG", 0)]
    sources.edit("guide", "wiki", {"query": "SELECT id, ch, upper(body) || '!' AS body FROM t"})
    assert read() == (b"LONG!", 1)


def test_an_older_scan_does_not_write_over_what_a_newer_one_read(
    control_engine: Engine, blobs: CountingBlobs, clock: TickingClock, write: Write, tmp_path: Path
) -> None:
    place = write("a.md", "OLD")
    sources = SourceService(control_engine, blobs, clock=clock)
    sources.ensure_folder("guide", tmp_path / "docs")

    real = FolderSource.scan

    def slow(self: FolderSource, known: Mapping[str, KnownItem]) -> Iterator[Any]:
        yield from real(self, known)
        if place.read_text() == "OLD":
            place.write_text("NEWER")
            os.utime(place, (LONG_AGO + 9, LONG_AGO + 9))
            scan(sources)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderSource, "scan", slow)
        found = scan(sources)
    assert [blobs.get(item.digest) for item in found.items] == [b"NEWER"]


def test_a_source_removed_while_it_is_scanned_stops_no_other(
    control_engine: Engine, blobs: CountingBlobs, clock: TickingClock, write: Write, tmp_path: Path
) -> None:
    write("one/a.md")
    write("two/b.md")
    sources = SourceService(control_engine, blobs, clock=clock)
    for name in ("one", "two"):
        sources.add("guide", name, "folder", {"location": str(tmp_path / "docs" / name)})

    class Removing(InlineContext):
        def __init__(self, after: int) -> None:
            super().__init__()
            self.left = after

        def check_cancelled(self) -> None:
            self.left -= 1
            if self.left == 0:
                sources.remove("guide", "one")

    found = scan(sources, Removing(2))  # within its scan
    assert [item.path for item in found.items] == ["two/b.md"]
    assert "removed while it was scanned" in (found.outcomes[0].error or "")
    sources.add("guide", "one", "folder", {"location": str(tmp_path / "docs" / "one")})
    with pytest.raises(UnknownSource, match="removed while it was scanned"):
        sources.scan_all("guide", Removing(1), ["one"])  # between the list and its scan


def test_what_removing_a_source_means_for_its_documents_is_said(
    sources: SourceService, write: Write, tmp_path: Path
) -> None:
    write("a.md")
    for name in ("one", "two", "three"):
        sources.add("guide", name, "folder", {"location": str(tmp_path / "docs")})
    assert sources.remove("guide", "one") == "go with the next ingest"
    assert sources.remove("guide", "two", keep_documents=True) == "stay"
    sources.remove("guide", "two")
    assert sources.remove("guide", "three").startswith("are served until the base has another source")


def test_a_file_that_is_no_json_lines_is_not_read_to_its_end(sources: SourceService, tmp_path: Path) -> None:
    lines = [json.dumps({"id": 1, "text": "One."}), *["[garbage", '{"no": "id"}'] * MAX_STRANGE]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    sources.add("guide", "log", "jsonl", {"location": str(tmp_path / "log.jsonl")})
    found = scan(sources)
    assert [item.path for item in found.items] == ["1.txt"]
    assert len(found.left_out) == MAX_STRANGE
    assert len(found.outcomes[0].problems) <= MAX_PROBLEMS
    source = sources.test_settings("jsonl", {"location": str(tmp_path / "log.jsonl")}, limit=5000)
    assert any("read to line" in each for each in source.problems)


def test_watching_sees_properties_and_not_penstocks_own_home(write: Write, tmp_path: Path) -> None:
    write("a.md")
    docs, home = tmp_path / "docs", tmp_path / "docs" / "home"
    settings = {"location": str(docs / "*.md")}
    looks = [fingerprint("files", settings)]
    write("a.md.meta.toml", 'readers = ["group:x"]')
    looks.append(fingerprint("files", settings))
    write("_properties.toml", 'readers = ["group:x"]')
    looks.append(fingerprint("files", settings))
    assert len(set(looks)) == 3
    home.mkdir()
    before = fingerprint("folder", {"location": str(docs)}, private_root=home)
    (home / "control.db").write_text("written all the time")
    assert fingerprint("folder", {"location": str(docs)}, private_root=home) == before
    assert fingerprint("folder", {"location": str(docs)}) != before


def test_paths_are_found_by_a_part_in_any_alphabet(
    control_engine: Engine, clock: TickingClock, write: Write, tmp_path: Path
) -> None:
    write("Übung.md")
    sources = SourceService(control_engine, CountingBlobs(), clock=clock)
    sources.ensure_folder("guide", tmp_path / "docs")
    scan(sources)
    for part in ("übung", "ÜBUNG", "bung.MD"):
        assert [row.path for row in sources.list_items("guide", text=part).items] == ["Übung.md"]


@pytest.mark.parametrize("name", ["Readers", "READERS", "reader", "reders", "readers_"])
def test_a_misspelt_word_for_readers_opens_no_document(name: str) -> None:
    with pytest.raises(UnreadableProperties, match="is written `readers`"):
        parse_properties("a.md.meta.toml", f'{name} = ["group:finance"]'.encode())
    assert parse_properties("a.md.meta.toml", b'header = "x"\nleaders = ["y"]').values["header"] == "x"


def test_a_number_where_text_belongs_is_told_with_how_to_write_it(sources: SourceService) -> None:
    with pytest.raises(InvalidSource) as caught:
        sources.test_settings("folder", {"location": "/docs", "prefix": 10})
    assert "quotes" in (caught.value.hint or "")
