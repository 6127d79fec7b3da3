"""Scans: what is unchanged is not read, what vanished goes only when all was seen, and everything has a line."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from penstock.base.errors import InvalidInput
from penstock.knowledge.errors import MassDeletion
from penstock.knowledge.sources.errors import InvalidSource
from penstock.knowledge.sources.kinds.folder import FolderSource
from penstock.knowledge.sources.service import SourceService
from penstock.knowledge.sources.types import Scan
from penstock.knowledge.types import InlineContext
from tests.knowledge.sources.conftest import CountingBlobs, TickingClock

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    # Files of a test are as young as the test: take their times for settled.
    monkeypatch.setattr("penstock.knowledge.sources.kinds.folder.SETTLED_NS", -(10**18))


def scan(sources: SourceService, **more: bool) -> Scan:
    return sources.scan_all("guide", InlineContext(), **more)


def paths(found: Scan) -> list[str]:
    return [item.path for item in found.items]


def states(sources: SourceService) -> dict[str, str]:
    return {row.path: row.state for row in sources.list_items("guide", limit=1000).items}


def test_a_second_scan_reads_nothing_and_finds_the_same(
    sources: SourceService, blobs: CountingBlobs, write: Write, tmp_path: Path
) -> None:
    write("a.md", "One.")
    write("deep/b.txt", "Two.")
    sources.ensure_folder("guide", tmp_path / "docs")
    first = scan(sources)
    assert paths(first) == ["a.md", "deep/b.txt"]
    assert [blobs.kept[item.digest] for item in first.items] == [b"One.", b"Two."]
    assert (first.outcomes[0].read, first.outcomes[0].added, first.outcomes[0].read_bytes) == (2, 2, 8)
    again = scan(sources)
    assert again.items == first.items
    assert (again.outcomes[0].read, again.outcomes[0].added, blobs.n_puts) == (0, 0, 2)
    row = sources.list_items("guide", limit=1).items[0]
    assert row.changed_ns == row.first_seen_ns < row.last_seen_ns


def test_a_file_that_changed_just_now_is_read_again_though_its_times_are_the_same(
    sources: SourceService, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two writes within one tick of a file system's clock leave equal times and sizes."""
    monkeypatch.setattr("penstock.knowledge.sources.kinds.folder.SETTLED_NS", 10**18)
    write("a.md", "One.")
    sources.ensure_folder("guide", tmp_path / "docs")
    assert scan(sources).outcomes[0].read == 1
    assert scan(sources).outcomes[0].read == 1


def test_documents_of_equal_content_are_separate_and_each_can_go(
    sources: SourceService, write: Write, tmp_path: Path
) -> None:
    """Where identity is the content's hash, a copy is never taken up and never deleted (llama_index #22706)."""
    for name in ("a.md", "b.md", "c.md"):
        write(name, "The same.")
    sources.ensure_folder("guide", tmp_path / "docs")
    assert paths(scan(sources)) == ["a.md", "b.md", "c.md"]
    (tmp_path / "docs" / "b.md").unlink()
    after = scan(sources)
    assert (paths(after), after.gone) == (["a.md", "c.md"], ["b.md"])
    assert states(sources)["b.md"] == "gone"


def test_a_moved_file_says_where_it_was(sources: SourceService, write: Write, tmp_path: Path) -> None:
    write("old.md", "Moving.")
    write("stays.md", "Staying.")
    sources.ensure_folder("guide", tmp_path / "docs")
    scan(sources)
    (tmp_path / "docs" / "old.md").rename(tmp_path / "docs" / "new.md")
    after = scan(sources)
    assert [(item.path, item.moved_from) for item in after.items] == [
        ("new.md", "old.md"),
        ("stays.md", None),
    ]
    assert (after.outcomes[0].moved, after.outcomes[0].gone) == (1, 1)


def test_most_of_a_source_vanishing_is_refused_until_it_is_allowed(
    sources: SourceService, write: Write, tmp_path: Path
) -> None:
    for number in range(5):
        write(f"{number}.md", f"Text {number}.")
    sources.ensure_folder("guide", tmp_path / "docs")
    before = scan(sources)
    for number in range(4):
        (tmp_path / "docs" / f"{number}.md").unlink()
    with pytest.raises(MassDeletion, match="4 of 5"):
        scan(sources)
    row = sources.get("guide", "folder")
    assert (row.state, row.counts) == ("failed", {"live": 5})
    assert "4 of 5" in (row.error or "")
    assert paths(scan(sources, allow_mass_deletion=True)) == ["4.md"]
    assert len(before.items) == 5


def test_a_mistaken_pattern_is_guarded_like_a_deletion(
    sources: SourceService, write: Write, tmp_path: Path
) -> None:
    for number in range(5):
        write(f"{number}.md", f"Text {number}.")
    sources.ensure_folder("guide", tmp_path / "docs")
    scan(sources)
    sources.edit("guide", "folder", {"exclude": ["*.md"]})
    with pytest.raises(MassDeletion):
        scan(sources)
    assert set(states(sources).values()) == {"live"}
    assert paths(scan(sources, allow_mass_deletion=True)) == []
    assert set(states(sources).values()) == {"left_out"}


def test_a_folder_that_cannot_be_opened_deletes_nothing_and_is_told(
    sources: SourceService, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a.md", "One.")
    write("shut/b.md", "Two.")
    write("shut/c.md", "Three.")
    sources.ensure_folder("guide", tmp_path / "docs")
    scan(sources)
    real = os.scandir

    def refuse(path: str | Path) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    (tmp_path / "docs" / "a.md").unlink()
    after = scan(sources)
    assert paths(after) == ["a.md", "shut/b.md", "shut/c.md"]
    assert after.gone == []
    assert not after.outcomes[0].complete
    assert "shut/ cannot be opened: Permission denied" in after.outcomes[0].problems
    assert sources.get("guide", "folder").state == "incomplete"
    monkeypatch.setattr(os, "scandir", real)
    assert paths(scan(sources)) == ["shut/b.md", "shut/c.md"]


def test_a_document_that_cannot_be_read_any_more_stays_as_it_was_and_is_listed(
    sources: SourceService, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting the old version before the new one is there loses documents (llama_index #22639)."""
    write("a.md", "One.")
    sources.ensure_folder("guide", tmp_path / "docs")
    (before,) = scan(sources).items
    write("a.md", "Another.", at=1_800_000_000)
    real = Path.read_bytes

    def refuse(self: Path) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    after = scan(sources)
    assert [(item.path, item.digest) for item in after.items] == [("a.md", before.digest)]
    assert after.items[0].problem == "cannot be read: Input/output error"
    assert [(each.path, each.reason) for each in after.left_out] == [
        ("a.md", "cannot be read: Input/output error")
    ]
    assert states(sources) == {"a.md": "unreadable"}
    monkeypatch.setattr(Path, "read_bytes", real)
    (now,) = scan(sources).items
    assert now.digest != before.digest
    assert now.problem is None


def test_everything_that_is_left_out_has_a_line(sources: SourceService, write: Write, tmp_path: Path) -> None:
    write("a.md")
    write(".hidden.md")
    write("old.doc")
    write("big.md", "x" * 100)
    write("drafts/b.md")
    (tmp_path / "docs" / "link.md").symlink_to(tmp_path / "docs" / "a.md")
    os.mkfifo(tmp_path / "docs" / "pipe.md")
    sources.add(
        "guide",
        "folder",
        "folder",
        {"location": str(tmp_path / "docs"), "max_bytes": 50, "exclude": ["drafts/"]},
    )
    found = scan(sources)
    assert paths(found) == ["a.md"]
    assert {each.path: each.reason for each in found.left_out} == {
        ".hidden.md": "hidden",
        "big.md": "100 bytes; the limit is 50.",
        "drafts/b.md": "excluded by 'drafts/'",
        "link.md": "symbolic links are not followed",
        "old.doc": "no parser for .doc",
        "pipe.md": "not a plain file",
    }
    assert sources.get("guide", "folder").counts == {"live": 1, "left_out": 6}


def test_one_failing_source_does_not_stop_the_others(
    sources: SourceService, write: Write, tmp_path: Path
) -> None:
    write("one/a.md")
    write("two/b.md")
    sources.add("guide", "one", "folder", {"location": str(tmp_path / "docs" / "one")})
    sources.add("guide", "two", "folder", {"location": str(tmp_path / "docs" / "two")})
    assert paths(scan(sources)) == ["a.md", "two/b.md"]
    (tmp_path / "docs" / "two" / "b.md").unlink()
    (tmp_path / "docs" / "two").rmdir()
    found = scan(sources)
    assert paths(found) == ["a.md", "two/b.md"]
    assert [outcome.error is None for outcome in found.outcomes] == [True, False]
    with pytest.raises(InvalidInput, match="not a folder"):
        sources.scan_all("guide", InlineContext(), ["two"])
    assert (sources.get("guide", "two").state, sources.get("guide", "one").state) == ("failed", "ok")


def test_two_sources_with_one_path_are_told_of_and_the_first_counts(
    sources: SourceService, write: Write, tmp_path: Path
) -> None:
    write("one/a.md", "First.")
    write("two/a.md", "Second.")
    sources.add("guide", "one", "folder", {"location": str(tmp_path / "docs" / "one")})
    sources.add("guide", "two", "folder", {"location": str(tmp_path / "docs" / "two"), "prefix": ""})
    found = scan(sources)
    assert [(item.path, item.source) for item in found.items] == [("a.md", "one")]
    assert "set another prefix" in found.left_out[0].reason


def test_paused_sources_keep_their_documents_and_removed_ones_lose_them(
    sources: SourceService, write: Write, tmp_path: Path
) -> None:
    for name in ("one", "two", "three"):
        write(f"{name}/a.md")
        sources.add("guide", name, "folder", {"location": str(tmp_path / "docs" / name)})
    scan(sources)
    sources.pause("guide", "one")
    write("one/new.md")
    sources.remove("guide", "two")
    sources.remove("guide", "three", keep_documents=True)
    assert paths(sources.scan_all("guide", InlineContext(), [])) == [
        "a.md",
        "three/a.md",
    ]
    assert paths(sources.scan_all("guide", InlineContext(), ["one"])) == ["a.md", "new.md", "three/a.md"]
    assert sources.get("guide", "three").is_detached


def test_a_base_from_before_there_were_sources_guards_its_documents_at_once(
    sources: SourceService, blobs: CountingBlobs, write: Write, tmp_path: Path
) -> None:
    seed = {f"{number}.md": blobs.put_bytes(f"Text {number}.".encode()) for number in range(4)}
    write("0.md", "Text 0.")
    sources.ensure_folder("guide", tmp_path / "docs", seed=seed)
    with pytest.raises(MassDeletion, match="3 of 4"):
        scan(sources)
    for number in range(1, 3):
        write(f"{number}.md", f"Text {number}.")
    found = scan(sources)
    assert (found.gone, found.outcomes[0].added, found.outcomes[0].changed) == (["3.md"], 0, 0)


def test_a_scan_that_was_overtaken_takes_nothing_away(
    sources: SourceService, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.md", "b.md", "c.md"):
        write(name, f"Text of {name}.")
    sources.ensure_folder("guide", tmp_path / "docs")
    scan(sources)
    real = FolderSource.scan
    inner: list[Scan] = []

    def scan_twice(self: FolderSource, known: object) -> object:
        if not inner:
            inner.append(None)  # type: ignore[arg-type]
            yield from real(self, known)  # type: ignore[arg-type]
            (tmp_path / "docs" / "d.md").write_text("New.")
            inner[0] = scan(sources)
        else:
            yield from real(self, known)  # type: ignore[arg-type]

    (tmp_path / "docs" / "a.md").unlink()
    monkeypatch.setattr(FolderSource, "scan", scan_twice)
    outer = scan(sources)
    assert paths(inner[0]) == paths(outer) == ["b.md", "c.md", "d.md"]
    assert "a later scan began meanwhile" in outer.outcomes[0].problems[0]


def test_a_stopped_scan_goes_on_where_it_was(
    sources: SourceService,
    blobs: CountingBlobs,
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stopped(BaseException):
        pass

    class Context(InlineContext):
        def __init__(self, after: int) -> None:
            super().__init__()
            self.left = after

        def check_cancelled(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise Stopped

    monkeypatch.setattr("penstock.knowledge.sources.scanning.BATCH", 2)
    for number in range(10):
        write(f"{number}.md", f"Text {number}.")
    sources.ensure_folder("guide", tmp_path / "docs")
    with pytest.raises(Stopped):
        sources.scan_all("guide", Context(7))
    row = sources.get("guide", "folder")
    assert (row.state, row.error) == ("failed", "it was stopped: Stopped")
    n_before = blobs.n_puts
    assert len(scan(sources).items) == 10
    assert blobs.n_puts - n_before == 10 - 6


def test_odd_names_are_stored_on_both_databases(
    control_engine: Engine, clock: TickingClock, tmp_path: Path
) -> None:
    root = tmp_path / "odd"
    root.mkdir()
    (root / "caf\udcff.md").write_text("Broken name.")
    (root / "ok.md").write_text("Fine.")
    service = SourceService(control_engine, CountingBlobs(), clock=clock)
    service.ensure_folder("guide", root)
    assert [item.path for item in service.scan_all("guide", InlineContext()).items] == [
        "caf\ufffd.md",
        "ok.md",
    ]
    assert service.scan_all("guide", InlineContext()).outcomes[0].gone == 0
    page = service.list_items("guide", limit=1)
    assert page.next_cursor
    assert [row.path for row in service.list_items("guide", cursor=page.next_cursor).items] == ["ok.md"]
    assert [row.path for row in service.list_items("guide", text="OK", states=["live"]).items] == ["ok.md"]


def test_penstocks_own_home_is_never_read(
    sqlite_engine: Engine, clock: TickingClock, write: Write, tmp_path: Path
) -> None:
    write("a.md")
    write("home/run/notes.md")
    home = tmp_path / "docs" / "home"
    service = SourceService(sqlite_engine, CountingBlobs(), clock=clock, private_root=home)
    service.add("guide", "around", "folder", {"location": str(tmp_path / "docs")})
    found = service.scan_all("guide", InlineContext())
    assert paths(found) == ["a.md"]
    assert [(each.path, each.reason) for each in found.left_out] == [("home/", "Penstock's own home")]
    (tmp_path / "docs" / "link").symlink_to(home)
    for kind, location, more in (
        ("folder", home / "run", {}),
        ("folder", tmp_path / "docs" / "link", {}),
        ("files", tmp_path / "docs" / "**" / "*.md", {}),
        ("files", home / "run" / "notes.md", {}),
        ("jsonl", home / "x.jsonl", {}),
        ("store", f"file://{tmp_path / 'docs'}", {}),
        ("database", f"sqlite:///{home / 'control.db'}", {"query": "SELECT 1"}),
    ):
        with pytest.raises(InvalidSource, match="own home"):
            service.test_settings(kind, {"location": str(location), **more})
