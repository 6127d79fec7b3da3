"""What could not be parsed is told alike by every list and count, now and after another ingest."""

from pathlib import Path

import pytest

from penstock.cli.knowledge_ingested import print_ingested
from penstock.knowledge.service import KnowledgeService
from penstock.knowledge.types import IngestReport
from penstock.knowledge.versions import RegistryVersions
from penstock.main.knowledge_rooms import KnowledgeRooms
from penstock.spec.home import Home
from tests.cli.commands import call
from tests.knowledge.embedders import HashingEmbedder


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.md").write_text(f"# {name}\n\nText of {name}.\n")
    (folder / "half.pdf").write_bytes(b"%PDF-1.4\nnothing more")
    (folder / "odd.bin").write_bytes(b"x")
    return folder


def ingest(home: Path, docs: Path | None) -> IngestReport:
    rooms = KnowledgeRooms(Home(root=home))
    service = KnowledgeService(
        rooms.engine,
        rooms.blobs,
        rooms.home.indexes,
        HashingEmbedder(),
        RegistryVersions(rooms.registry),
        sources=rooms.sources,
    )
    report = service.ingest("wiki", docs)
    rooms.close()
    return report


def states(home: Path, *more: str) -> dict[str, tuple[str, str]]:
    rows = call("knowledge", "document", "list", "wiki", "--json", *more, home=home).json
    return {row["path"]: (row["state"], row["reason"] or "") for row in rows}


def test_what_cannot_be_parsed_is_unreadable_in_every_list_and_count(tmp_path: Path, docs: Path) -> None:
    home = tmp_path / "home"
    for _ in range(2):
        ingest(home, docs)
        told = states(home)
        assert {path for path, (state, _) in told.items() if state == "live"} == {"a.md", "b.md", "c.md"}
        assert told["half.pdf"][0] == "unreadable" and told["half.pdf"][1]
        assert list(states(home, "--state", "unreadable")) == ["half.pdf"]
        assert list(states(home, "--state", "live")) == ["a.md", "b.md", "c.md"]
        [source] = call("knowledge", "source", "list", "wiki", "--json", home=home).json
        assert source["counts"] == {"live": 3, "unreadable": 1, "left_out": 1}
        assert call("knowledge", "show", "wiki", "--json", home=home).json["unreadable"] == 1
        shown = call("knowledge", "document", "show", "wiki", "half.pdf", home=home).out
        assert "state\tunreadable" in shown and f"reason\t{told['half.pdf'][1]}" in shown


def test_a_document_is_unreadable_as_long_as_its_present_bytes_are(tmp_path: Path, docs: Path) -> None:
    home = tmp_path / "home"
    (docs / "half.pdf").unlink()
    ingest(home, docs)
    assert "half.pdf" not in states(home)
    (docs / "half.pdf").write_bytes(b"%PDF-1.4\nnothing more")
    ingest(home, docs)
    assert states(home, "--state", "unreadable").keys() == {"half.pdf"}
    (docs / "half.pdf").unlink()
    ingest(home, docs)
    assert states(home)["half.pdf"][0] == "gone"


def test_the_sum_of_an_ingest_counts_documents_apart_from_parts_and_files_of_other_kinds(
    tmp_path: Path, docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (docs / "fm.md").write_text("---\ntitle: a: b\n  - odd\n---\n\nText that is searched.\n")
    report = ingest(tmp_path / "home", docs)
    assert report.n_unreadable == 1
    assert {each.path: each.what for each in report.dropped} == {
        "half.pdf": "unreadable",
        "fm.md": "part",
        "odd.bin": "left_out",
    }
    print_ingested("wiki", {"report": report.as_dict()})
    out = capsys.readouterr().out.splitlines()
    assert out[1] == "1 document could not be read"
    [front_matter] = [line for line in out if "fm.md" in line]
    assert front_matter.startswith("in part     fm.md: the front matter cannot be read: ")
    assert front_matter.endswith("in line 2")
    assert [line[:10] for line in out if line.split(":")[0][12:] in docs_of(docs)] == [
        "unreadable",
        "left out  ",
        "in part   ",
    ]


def docs_of(docs: Path) -> set[str]:
    return {place.name for place in docs.iterdir()}


def test_documents_that_nobody_may_read_are_told_by_every_step(
    tmp_path: Path, docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Readers fail closed: without a word of it, people look for documents that nobody finds."""
    lines = tmp_path / "faq.jsonl"
    lines.write_text(
        '{"id": 1, "text": "Dogs are welcome.", "readers": ["everyone"], "at": "2026-10-01"}\n'
        '{"id": 2, "text": "Cats are not.", "at": "2026-10-01"}\n{"id": 3, "text": "Nor are birds."}\n'
    )
    home = tmp_path / "home"
    add = ("knowledge", "source", "add", "wiki", "faq", "jsonl", str(lines))
    call(*add, "--set", "readers_from=readers", "--set", "modified=at", home=home)
    told = "2 of 3 documents name no readers: nobody finds them"
    assert told in call("knowledge", "source", "test", "wiki", "faq", home=home).out
    report = ingest(home, None)
    print_ingested("wiki", {"report": report.as_dict()})
    assert f"problem     faq: {told}" in capsys.readouterr().out
    assert told in call("knowledge", "source", "show", "wiki", "faq", home=home).out
    shown = call("knowledge", "document", "show", "wiki", "2.txt", home=home).out
    assert "readers\tnobody" in shown and "modified\t2026-10-01" in shown and "modified_ns" not in shown
    listed = call("knowledge", "document", "list", "wiki", home=home).out
    assert listed.count("nobody may read it") == 2


@pytest.mark.parametrize("flag", ["--as", "--principal"])
def test_principals_are_named_as_the_guides_and_rest_name_them(tmp_path: Path, docs: Path, flag: str) -> None:
    ingest(tmp_path / "home", docs)
    asked = ("knowledge", "search", "wiki", "text of a", flag, "user:ada", "--json")
    assert call(*asked, home=tmp_path / "home").json["hits"]
