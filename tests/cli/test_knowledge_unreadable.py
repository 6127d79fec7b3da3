"""What could not be parsed is told alike by every list and count, now and after another ingest."""

from pathlib import Path

import pytest

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


def ingest(home: Path, docs: Path) -> IngestReport:
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
