"""Ingest: only what changed is done, nothing is lost silently, and what was live stays live until the end."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from penstock.base.errors import InvalidInput, UpstreamUnavailable
from penstock.knowledge.errors import (
    MassDeletion,
    NoDocuments,
    ParserDied,
    UnknownDocument,
    UnknownKnowledge,
    UnusableEmbedding,
)
from penstock.knowledge.generations.errors import RecipeIsNotLive
from penstock.knowledge.parse import ParserPool
from penstock.knowledge.service import KnowledgeService
from penstock.spec.knowledge import ParseRecipe, Recipe, SearchRecipe
from tests.knowledge.embedders import HashingEmbedder, MemoryBlobs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    (root / "deep").mkdir(parents=True)
    (root / "sleep.md").write_text(
        "# Sleep\n\n## Length\n\nAdults need 7 to 9 hours.\n\n## Noise\n\nQuiet rooms help.\n"
    )
    (root / "water.html").write_text("<main><h1>Water</h1><h2>Thirst</h2><p>Drink when thirsty.</p></main>")
    (root / "deep" / "salt.csv").write_text("food,salt\nbread,little\ncheese,much\n")
    return root


@pytest.fixture
def embedder() -> HashingEmbedder:
    return HashingEmbedder()


@pytest.fixture
def make(tmp_path: Path, sqlite_engine: Engine) -> Callable[..., KnowledgeService]:
    def build(embedder: HashingEmbedder, **more: Any) -> KnowledgeService:
        return KnowledgeService(sqlite_engine, MemoryBlobs(), tmp_path / "indexes", embedder, **more)

    return build


Make = Callable[..., KnowledgeService]


def test_a_folder_becomes_searchable(make: Make, embedder: HashingEmbedder, folder: Path) -> None:
    service = make(embedder)
    report = service.ingest("guide", folder)
    assert (report.added, report.changed, report.unchanged, report.deleted) == (3, 0, 0, 0)
    assert report.passages == report.embedded == 5
    assert report.dropped == ()
    (hit, *_) = service.search("guide", "how many hours do adults need", 3)
    assert (hit.document, hit.section, hit.title) == ("sleep.md", "Length", "Sleep")
    assert hit.sentences == ("Adults need 7 to 9 hours.",)
    assert [row.path for row in service.list_documents("guide")] == [
        "deep/salt.csv",
        "sleep.md",
        "water.html",
    ]
    assert service.list_passages("guide", "sleep.md")[1].text == "Quiet rooms help."


def test_the_same_folder_again_does_nothing_and_is_the_same_generation(
    make: Make, embedder: HashingEmbedder, folder: Path
) -> None:
    first = make(embedder).ingest("guide", folder)
    embedder.n_texts = 0
    again = make(embedder).ingest("guide", folder)
    assert again.generation == first.generation
    assert (again.added, again.changed, again.unchanged, again.embedded) == (0, 0, 3, 0)
    assert embedder.n_texts == 0


def test_an_edit_embeds_only_the_passage_that_changed(
    make: Make, embedder: HashingEmbedder, folder: Path
) -> None:
    service = make(embedder)
    service.ingest("guide", folder)
    before = {hit.passage_id for hit in service.search("guide", "quiet rooms", 1)}
    (folder / "sleep.md").write_text(
        "# Sleep\n\n## Length\n\nAdults need rest.\n\n## Noise\n\nQuiet rooms help.\n"
    )
    report = service.ingest("guide", folder)
    assert (report.added, report.changed, report.unchanged, report.embedded) == (0, 1, 2, 1)
    assert "7 to 9" not in " ".join(hit.text for hit in service.search("guide", "adults need hours", 5))
    assert {hit.passage_id for hit in service.search("guide", "quiet rooms", 1)} == before


def test_a_deleted_file_leaves_the_index_and_a_renamed_one_moves(
    make: Make, embedder: HashingEmbedder, folder: Path
) -> None:
    service = make(embedder)
    service.ingest("guide", folder)
    (folder / "water.html").unlink()
    (folder / "sleep.md").rename(folder / "rest.md")
    report = service.ingest("guide", folder)
    assert (report.added, report.deleted, report.embedded) == (1, 2, 0)
    found = service.search("guide", "drink when thirsty", 10)
    assert {hit.document for hit in found} <= {"rest.md", "deep/salt.csv"}


def test_everything_left_out_is_named_with_its_reason(
    make: Make, embedder: HashingEmbedder, folder: Path, tmp_path: Path
) -> None:
    (folder / "scan.pdf").write_bytes(b"%PDF-1.4 broken")
    (folder / "empty.html").write_text("<html></html>")
    (folder / "old.doc").write_bytes(b"x")
    (folder / ".hidden").write_text("x")
    (folder / "latin.txt").write_bytes("Café au lait is a drink.".encode("cp1252"))
    (folder / "link.md").symlink_to(folder / "sleep.md")
    (folder / "locked.docx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest")
    os.mkfifo(folder / "pipe.md")
    service = make(embedder)
    report = service.ingest("guide", folder)
    reasons = {each.path: each.reason for each in report.dropped}
    assert set(reasons) == {
        "scan.pdf", "empty.html", "old.doc", ".hidden", "latin.txt", "link.md", "locked.docx", "pipe.md"
    }  # fmt: skip
    assert "Windows-1252" in reasons["latin.txt"]
    assert "no text" in reasons["empty.html"]
    assert "password" in reasons["locked.docx"]
    states = {row.path: row.error is None for row in service.list_documents("guide")}
    assert states["latin.txt"]
    assert not states["scan.pdf"]
    assert {each.path: each.reason for each in service.ingest("guide", folder).dropped} == reasons


class DyingPool(ParserPool):
    """Dies on every web page."""

    def parse_all(self, items: Any, recipe: Any = None) -> Any:
        for name, outcome in super().parse_all(items, recipe or ParseRecipe()):
            yield name, ParserDied(f"{name!r}: its parser died.") if name.endswith(".html") else outcome


def test_a_parser_that_breaks_on_one_file_is_named_and_the_others_go_on(
    make: Make, embedder: HashingEmbedder, folder: Path
) -> None:
    report = make(embedder, make_pool=DyingPool).ingest("guide", folder)
    assert [(each.path, "died" in each.reason) for each in report.dropped] == [("water.html", True)]
    assert report.passages == 4


def test_odd_characters_are_kept_out_of_the_tables(control_engine: Engine, tmp_path: Path) -> None:
    root = tmp_path / "odd"
    root.mkdir()
    (root / "a.html").write_bytes(
        b"<main><h2 id='x\x00y'>T\x00wo</h2><p>On\x00e &#xD800; \xf0\x9f\x8d\xb0.</p></main>"
    )
    (root / "b.csv").write_bytes(b"k,v\na\x00b,c\n")
    (root / "c.md").write_text("# T\x00\n\n```\nx\x00y\n```\n")
    (root / os.fsdecode(b"caf\xe9.txt")).write_text("Coffee is hot.")
    service = KnowledgeService(control_engine, MemoryBlobs(), tmp_path / "indexes", HashingEmbedder())
    service.ingest("odd", root)
    assert service.search("odd", "coffee", 1)[0].document == "caf\ufffd.txt"
    assert "🍰" in service.list_passages("odd", "a.html")[0].text


def test_a_vanished_folder_does_not_empty_the_index(
    make: Make, embedder: HashingEmbedder, tmp_path: Path
) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(12):
        (root / f"{number}.txt").write_text(f"Fact number {number} is here.")
    service = make(embedder)
    live = service.ingest("guide", root).generation
    for number in range(7):
        (root / f"{number}.txt").unlink()
    with pytest.raises(MassDeletion, match="7 of 12"):
        service.ingest("guide", root)
    assert service.retrieve("guide", "fact").generation == live
    assert service.ingest("guide", root, allow_mass_deletion=True).deleted == 7
    shutil.rmtree(root)
    with pytest.raises(InvalidInput, match="not a folder"):
        service.ingest("guide", root)


def test_a_failing_embedder_leaves_the_live_generation(
    make: Make, embedder: HashingEmbedder, folder: Path
) -> None:
    service = make(embedder)
    live = service.ingest("guide", folder).generation
    (folder / "new.txt").write_text("Something new.")
    embedder.is_down = True
    with pytest.raises(UpstreamUnavailable):
        service.ingest("guide", folder)
    retrieval = service.retrieve("guide", "adults")
    assert retrieval.generation == live
    assert retrieval.mode == "lexical"
    assert "down" in (retrieval.note or "")
    embedder.is_down = False
    assert service.ingest("guide", folder).added == 1


def test_another_embedder_makes_another_generation_and_the_first_is_cached(
    make: Make, embedder: HashingEmbedder, folder: Path
) -> None:
    first = make(embedder).ingest("guide", folder)
    other = HashingEmbedder("hashing@2", dims=32)
    service = make(other)
    assert "hashing@1" in (service.retrieve("guide", "adults").note or "")
    second = service.ingest("guide", folder)
    assert (second.unchanged, second.embedded) == (3, 5)
    assert second.generation != first.generation
    assert service.retrieve("guide", "adults").mode == "hybrid"
    back = make(embedder).ingest("guide", folder)
    assert (back.generation, back.embedded) == (first.generation, 0)


def test_a_recipe_is_kept_with_the_base_and_another_one_never_goes_live_by_an_ingest(
    make: Make, embedder: HashingEmbedder, folder: Path
) -> None:
    service = make(embedder)
    words = Recipe(search=SearchRecipe(dense_weight=0.0))
    first = service.ingest("guide", folder, recipe=words)
    (folder / "new.txt").write_text("Something new.")
    second = service.ingest("guide", folder)
    assert service.retrieve("guide", "adults").mode == "lexical"
    with pytest.raises(RecipeIsNotLive, match="another recipe"):
        service.ingest("guide", folder, recipe=Recipe())
    assert service.ingest("guide", folder, recipe=words).generation == second.generation != first.generation


def test_vectors_of_a_wrong_shape_are_refused(make: Make, folder: Path) -> None:
    class Broken(HashingEmbedder):
        def embed(self, texts: Any, kind: str, *, traceparent: str | None = None) -> Any:
            return super().embed(texts, kind)[:-1]

    with pytest.raises(UnusableEmbedding):
        make(Broken()).ingest("guide", folder)


def test_an_interrupted_ingest_goes_on_where_it_stopped(
    make: Make, embedder: HashingEmbedder, folder: Path
) -> None:
    class Stop(Exception):
        pass

    class Context:
        def __init__(self, journal: dict[str, Any], stop_after: int) -> None:
            self.journal, self.left, self.ran = journal, stop_after, []

        def step(self, name: str, inputs: dict[str, Any], fn: Callable[[], Any]) -> Any:
            key = f"{name}{sorted(inputs.items())}"
            if key not in self.journal:
                if self.left == 0:
                    raise Stop
                self.left -= 1
                self.ran.append(key)
                self.journal[key] = fn()
            return self.journal[key]

        def progress(self, fraction: float, message: str) -> None:
            assert 0 <= fraction <= 1

        def log(self, text: str) -> None: ...
        def check_cancelled(self) -> None: ...

    journal: dict[str, Any] = {}
    ran: list[str] = []
    for _ in range(10):
        context = Context(journal, stop_after=1)
        try:
            report = make(embedder).ingest("guide", folder, context)
            break
        except Stop:
            pass
        finally:
            ran += context.ran
    assert report.passages == 5
    assert len(ran) == len(set(ran)) == 1  # one batch; documents are found again in the tables
    assert embedder.n_texts == 5


def test_index_files_of_old_generations_are_removed_and_come_back_when_needed(
    make: Make, embedder: HashingEmbedder, folder: Path, tmp_path: Path
) -> None:
    generations = []
    for number in range(6):
        (folder / "sleep.md").write_text(f"# Sleep\n\nVersion {number} of the text.\n")
        generations.append(make(embedder).ingest("guide", folder).generation)
    kept = {path.name for path in (tmp_path / "indexes" / "guide").iterdir()}
    assert len(kept) == 3
    (folder / "sleep.md").write_text("# Sleep\n\nVersion 0 of the text.\n")
    back = make(embedder).ingest("guide", folder)
    assert (back.generation, back.embedded) == (generations[0], 0)
    assert make(embedder).search("guide", "version 0", 1)[0].text == "Version 0 of the text."


def test_unknown_names_say_what_is_known(make: Make, embedder: HashingEmbedder, folder: Path) -> None:
    service = make(embedder)
    with pytest.raises(UnknownKnowledge, match="Ingest a folder"):
        service.search("guide", "x")
    service.ingest("guide", folder)
    with pytest.raises(UnknownKnowledge, match="Known: guide"):
        service.search("giude", "x")
    with pytest.raises(UnknownDocument):
        service.list_passages("guide", "nothing.md")
    with pytest.raises(InvalidInput):
        service.ingest("No Name", folder)
    assert [base.name for base in service.list_bases()] == ["guide"]


def test_a_folder_without_a_readable_document_is_refused_and_leaves_no_base(
    make: Make, embedder: HashingEmbedder, tmp_path: Path
) -> None:
    root = tmp_path / "none"
    root.mkdir()
    service = make(embedder)
    with pytest.raises(NoDocuments, match="it is empty"):
        service.ingest("guide", root, allow_mass_deletion=True)
    (root / "scan.pdf").write_bytes(b"%PDF-1.4 broken")
    (root / "notes.xyz").write_text("x")
    with pytest.raises(NoDocuments, match=r"notes\.xyz .*1 more"):
        service.ingest("guide", root)
    assert service.list_bases() == []
    with pytest.raises(UnknownKnowledge):
        service.retrieve("guide", "anything")
    (root / "sleep.txt").write_text("Adults need sleep.")
    assert service.ingest("guide", root).added == 1


def test_a_base_is_emptied_only_when_deletion_is_allowed(
    make: Make, embedder: HashingEmbedder, folder: Path, tmp_path: Path
) -> None:
    service = make(embedder)
    live = service.ingest("guide", folder).generation
    (tmp_path / "none").mkdir()
    with pytest.raises(MassDeletion) as refused:
        service.ingest("guide", tmp_path / "none")
    assert "--allow-mass-deletion" in (refused.value.hint or "")
    assert service.retrieve("guide", "adults").generation == live
    assert service.list_bases()[0].source == str(folder.resolve())
    assert service.ingest("guide", tmp_path / "none", allow_mass_deletion=True).deleted == 3
    assert service.retrieve("guide", "anything").mode == "none"


@pytest.mark.parametrize(("n_before", "n_gone", "stops"), [(3, 2, True), (4, 2, False), (2, 1, False)])
def test_small_bases_are_guarded_too(
    make: Make, embedder: HashingEmbedder, tmp_path: Path, n_before: int, n_gone: int, stops: bool
) -> None:
    root = tmp_path / "few"
    root.mkdir()
    for number in range(n_before):
        (root / f"{number}.txt").write_text(f"Fact number {number} is here.")
    service = make(embedder)
    service.ingest("guide", root)
    for number in range(n_gone):
        (root / f"{number}.txt").unlink()
    if stops:
        with pytest.raises(MassDeletion, match=f"{n_gone} of {n_before}"):
            service.ingest("guide", root)
    else:
        assert service.ingest("guide", root).deleted == n_gone


def test_what_cannot_be_parsed_is_not_counted_as_live(
    make: Make, embedder: HashingEmbedder, folder: Path
) -> None:
    (folder / "scan.pdf").write_bytes(b"%PDF-1.4 broken")
    service = make(embedder)
    assert service.ingest("guide", folder).added == 3
    assert service.list_bases()[0].n_documents == 3
    assert len(service.list_documents("guide")) == 4
    assert service.ingest("guide", folder).unchanged == 3


def test_what_can_be_read_no_longer_stays_as_it_was_read_last_and_is_listed(
    make: Make, embedder: HashingEmbedder, folder: Path
) -> None:
    """Of others the failing document vanished without a word (llama_index #22639)."""
    service = make(embedder)
    first = service.ingest("guide", folder)
    for name in ("sleep.md", "water.html"):
        (folder / name).write_bytes(b"")
    report = service.ingest("guide", folder)
    assert report.kept_old == ("sleep.md", "water.html")
    assert (report.unchanged, report.deleted, report.embedded) == (3, 0, 0)
    assert all("still searched" in each.reason for each in report.dropped)
    assert len(report.dropped) == 2
    assert service.search("guide", "hours adults need", 1)[0].document == "sleep.md"
    states = {row.path: (row.n_passages, row.error) for row in service.list_documents("guide")}
    assert states["sleep.md"][0] == 2
    assert "still searched" in (states["sleep.md"][1] or "")
    (folder / "sleep.md").write_text("# Sleep\n\nReadable again.\n")
    assert service.ingest("guide", folder).kept_old == ("water.html",)
    (folder / "water.html").unlink()
    assert service.ingest("guide", folder).deleted == 1
    assert first.documents == 3


def test_the_tables_work_on_each_database(control_engine: Engine, tmp_path: Path, folder: Path) -> None:
    service = KnowledgeService(control_engine, MemoryBlobs(), tmp_path / "indexes", HashingEmbedder())
    report = service.ingest("guide", folder)
    assert service.ingest("guide", folder).unchanged == 3
    assert service.search("guide", "thirsty", 1)[0].document == "water.html"
    assert service.list_bases()[0].n_passages == report.passages
    assert service.rebuild("guide") == report.generation


def test_a_row_of_a_table_is_found_with_its_columns_names(
    make: Make, embedder: HashingEmbedder, folder: Path
) -> None:
    (folder / "teams.md").write_text(
        "# Teams\n\n| Team | Budget |\n| --- | --- |\n| Marketing | 700 |\n| Platform | 900 |\n"
    )
    service = make(embedder)
    service.ingest("guide", folder)
    (hit, *_) = service.search("guide", "budget of the platform team", 3)
    assert hit.sentences == ("Team: Marketing; Budget: 700", "Team: Platform; Budget: 900")
