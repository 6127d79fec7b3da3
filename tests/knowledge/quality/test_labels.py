"""Labels name documents, sections and words, so that cutting anew keeps them valid; what nothing fulfils says why.

Retrieval sets that name passage ids are worthless after every change of the chunker (the research's point on re-chunking).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.knowledge.quality.asking import Question, Reply
from penstock.knowledge.quality.corpus import StoredCorpus
from penstock.knowledge.quality.figures import covered_share
from penstock.knowledge.quality.labels import LabelMapper, PassageText, choose_labels, make_target
from penstock.knowledge.quality.types import Label, LabelledQuestion, MappedLabel
from penstock.knowledge.quality.words import cover, likeness, split_words
from penstock.knowledge.service import KnowledgeService
from penstock.store.control.engine import open_control
from tests.knowledge.embedders import HashingEmbedder, MemoryBlobs
from tests.knowledge.inline_pool import InlinePool
from tests.knowledge.quality.conftest import ARTICLES, QUESTIONS, Island

TEXT = (
    "When the storm flag flies, all boats stay ashore. The harbour master lowers the flag when the wind drops below "
    "twenty knots. A rowing boat is hired by the hour at the jetty. The deposit for a rowing boat is forty crowns."
)


class Shelf:
    """One document cut as a test says."""

    def __init__(
        self, *texts: str, path: str = "a.md", error: str | None = None, older: dict[str, str] | None = None
    ) -> None:
        self.path = path
        self._older = older or {}
        self.paths = [path]
        self._error = error
        self._texts = texts

    def passages(self, path: str) -> Sequence[PassageText]:
        return [
            PassageText(id=f"psg_{number}", section=None, anchor=None, text=text)
            for number, text in enumerate(self._texts)
            if path == self.path
        ]

    def error(self, path: str) -> str | None:
        return self._error if path == self.path else None

    def find_text(self, passage_id: str) -> tuple[str, str] | None:
        return None

    def find_section(self, path: str, section: str) -> str | None:
        return None

    def find_shingle(self, words: Sequence[str]) -> Sequence[str]:
        return [self.path]

    def find_older(self, path: str) -> str | None:
        return self._older.get(path)

    def add_prefixes(self, path: str) -> Sequence[str]:
        return [f"docs/{path}"] if f"docs/{path}" == self.path else []


def test_quotations_are_found_in_every_cutting(island: Island) -> None:
    found: list[list[list[str]]] = []
    for generation in (island.fine, island.coarse):
        corpus = StoredCorpus(island.engine, "island", generation)
        mapper = LabelMapper(corpus)
        mapped = [mapper.map(Label(document=document, quote=answer)) for _, _, document, answer in QUESTIONS]
        for (_, _, document, answer), each in zip(QUESTIONS, mapped, strict=True):
            texts = [one.text for one in corpus.passages(document) if one.id in each.passages]
            assert texts and all(likeness(split_words(answer), split_words(text)) >= 0.5 for text in texts)
        found.append([each.passages for each in mapped])
    n_same = sum(first == second for first, second in zip(*found, strict=True))
    assert n_same < len(QUESTIONS) / 2, "labels by passage id would be lost"


def test_a_section_is_found_in_a_cutting_that_crosses_sections_by_the_words_of_another_cutting(
    island: Island,
) -> None:
    corpus = StoredCorpus(island.engine, "island", island.fine)
    mapper = LabelMapper(corpus)
    mapped = mapper.map(Label(document="bees.md", section="honey"))
    assert mapped.how == "section" and len(mapped.passages) >= 2
    flat = Shelf(" ".join(ARTICLES["bees.md"].split()), path="bees.md")
    flat.find_section = corpus.find_section  # type: ignore[method-assign]
    assert LabelMapper(flat).map(Label(document="bees.md", section="Honey")).passages == ["psg_0"]


def test_a_passage_of_an_older_cutting_is_found_by_its_words(island: Island) -> None:
    old = StoredCorpus(island.engine, "island", island.coarse)
    passage = old.passages("library.md")[0]
    mapped = LabelMapper(StoredCorpus(island.engine, "island", island.fine)).map(Label(passage_id=passage.id))
    assert mapped.passages and mapped.how in {"words", "near"}
    same = LabelMapper(old).map(Label(passage_id=passage.id))
    assert same.how == "id" and same.n_words == mapped.n_words == len(same.held[passage.id])


@given(st.integers(min_value=3, max_value=40))
def test_a_quotation_that_was_cut_in_pieces_is_found_however_small_the_pieces(size: int) -> None:
    words = TEXT.split()
    pieces = [" ".join(words[at : at + size]) for at in range(0, len(words), size)]
    mapped = LabelMapper(Shelf(*pieces)).map(Label(document="a.md", quote=TEXT[:110]))
    if size >= 8:  # shorter pieces hold no run of four words of it for sure
        assert mapped.passages
    assert all(cover(split_words(TEXT[:110]), split_words(pieces[int(name[4:])])) for name in mapped.passages)


@pytest.mark.parametrize("size", [5, 10, 20, 60])
def test_what_is_covered_of_a_quotation_is_one_yardstick_for_every_cutting(size: int) -> None:
    """With a tenth of a long quotation in hand recall is 1: a piece fulfils it. Its words say how much there is."""
    quote = [f"q{number}" for number in range(40)]
    words = [f"a{number}" for number in range(60)] + quote + [f"b{number}" for number in range(60)]
    shelf = Shelf(*(" ".join(words[at : at + size]) for at in range(0, len(words), size)))
    target = make_target(
        [LabelMapper(shelf).map(Label(document="a.md", quote=" ".join(quote)))], count_unmapped=True
    )
    hits = [SimpleNamespace(passage_id=f"psg_{number}") for number in range(60 // size, -(-160 // size))]
    reply = Reply(question=Question(id="q", text="?"), hits=tuple(hits))  # type: ignore[arg-type]
    assert covered_share(reply, target, 1) == pytest.approx(min(1.0, size / 40))
    assert covered_share(reply, target, 99) == 1.0
    assert covered_share(replace(reply, hits=()), target, 5) == 0.0


def test_another_parsers_spelling_is_near_and_not_lost() -> None:
    other = (
        TEXT.replace("fl", "ﬂ")
        .replace("harbour", "har\u00adbour")
        .replace("forty", "FORTY")
        .replace(", all", " all")
    )
    mapped = LabelMapper(Shelf(other)).map(Label(document="a.md", quote=TEXT))
    assert mapped.passages == ["psg_0"] and mapped.how == "words"
    changed = TEXT.replace("twenty knots", "thirty knots").replace("forty", "fifty")
    assert LabelMapper(Shelf(changed)).map(Label(document="a.md", quote=TEXT)).how == "near"


def test_a_document_that_moved_is_found_by_its_words_and_never_by_its_name_alone() -> None:
    """A label of a document that is gone meant whatever else was called README.md."""
    moved = Shelf(TEXT, path="moved/to/a.md", older={"a.md": f"{TEXT} And one sentence that is gone."})
    found = LabelMapper(moved).map(Label(document="a.md"))
    assert (found.passages, found.how) == (["psg_0"], "moved")
    assert LabelMapper(moved).map(Label(document="b.md", quote=TEXT[:60])).passages == ["psg_0"]
    root = Shelf(
        TEXT,
        path="README.md",
        older={"guides/billing/README.md": "Bills are sent on the first of the month."},
    )
    lost = LabelMapper(root).map(Label(document="guides/billing/README.md"))
    assert lost.how == "none" and "holds no document" in (lost.reason or "")
    deep = Shelf(
        TEXT, path="guides/billing/README.md", older={"README.md": "Read this before anything else, please."}
    )
    assert LabelMapper(deep).map(Label(document="README.md")).passages == []
    never_held = Shelf(TEXT, path="x/README.md")
    assert LabelMapper(never_held).map(Label(document="README.md")).passages == []


def test_a_path_without_the_prefix_of_its_source_is_that_document() -> None:
    found = LabelMapper(Shelf(TEXT, path="docs/a.md")).map(Label(document="a.md"))
    assert (found.passages, found.how) == (["psg_0"], "document")


def test_a_document_of_a_stored_base_that_is_gone_is_lost_and_one_that_moved_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    (folder / "guides").mkdir(parents=True)
    (folder / "README.md").write_text("# Start\n\nRead this page before anything else on the island, please.")
    (folder / "guides" / "README.md").write_text(
        "# Bills\n\nBills are sent on the first of every month by post."
    )
    (folder / "boats.md").write_text(ARTICLES["boats.md"])
    engine = open_control(f"sqlite:///{tmp_path / 'control.sqlite'}")
    knowledge = KnowledgeService(
        engine, MemoryBlobs(), tmp_path / "indexes", HashingEmbedder(dims=32), make_pool=InlinePool
    )
    knowledge.ingest("isle", folder)
    (folder / "guides" / "README.md").unlink()
    (folder / "boats.md").rename(folder / "harbour.md")
    generation = knowledge.ingest("isle", folder).generation
    mapper = LabelMapper(StoredCorpus(engine, "isle", generation))
    assert mapper.map(Label(document="guides/README.md")).how == "none"
    assert mapper.map(Label(document="boats.md")).how == "moved"
    assert mapper.map(Label(document="boats.md", section="Storms")).how == "moved"
    engine.dispose()


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (Label(document="boat.md"), "holds no document 'boat.md'"),
        (Label(document="boats.md", section="Sails"), "has no section 'Sails'"),
        (
            Label(document="boats.md", quote="Submarines dive at midnight under the full moon."),
            "do not stand",
        ),
        (Label(passage_id="psg_0000"), "no generation holds a passage"),
        (Label(document="boats.md", quote="…"), "has no words"),
    ],
)
def test_what_nothing_fulfils_says_why(island: Island, label: Label, reason: str) -> None:
    mapped = LabelMapper(StoredCorpus(island.engine, "island", island.fine)).map(label)
    assert mapped.how == "none" and not mapped.passages
    assert reason in (mapped.reason or "")


def test_a_document_that_could_not_be_read_is_told_with_its_error() -> None:
    mapped = LabelMapper(Shelf(error="password-protected")).map(Label(document="a.md", quote=TEXT))
    assert mapped.reason == "a.md could not be read: password-protected"
    assert mapped.n_words == len(split_words(TEXT)), "what is lost is asked for all the same"


def test_a_short_quotation_without_a_document_is_looked_for_everywhere(island: Island) -> None:
    mapper = LabelMapper(StoredCorpus(island.engine, "island", island.fine))
    assert mapper.map(Label(quote="forty crowns")).passages
    assert mapper.map(Label(quote="the village oven is lit on Fridays")).passages


def test_the_finest_labels_of_a_document_count_alone() -> None:
    quote, section, whole, other = (
        Label(document="a.md", quote="some words"),
        Label(document="a.md", section="Part"),
        Label(document="a.md"),
        Label(document="b.md"),
    )
    question = LabelledQuestion(id="q", question="?", labels=[quote, section, whole, other], answer="Forty.")
    assert choose_labels(question, "finest") == [quote, other]
    assert choose_labels(question, "document") == [whole, other]
    assert choose_labels(question, "section") == [section]
    assert choose_labels(question, "quote") == [quote]
    assert choose_labels(question, "answer") == [Label(document="a.md", quote="Forty.")]
    assert choose_labels(LabelledQuestion(id="q", question="?", labels=[whole]), "answer") == []


def test_a_thumb_down_on_a_passage_leaves_its_document_wanted_without_that_passage() -> None:
    """Feedback `missing` and `down` about one document: the judged passage hid the document that should be found."""
    whole, bad = Label(document="x.md"), Label(document="x.md", quote="bad words here now", grade=0)
    question = LabelledQuestion(id="q", question="?", labels=[whole, bad])
    assert choose_labels(question, "finest") == [whole, bad]
    assert choose_labels(question, "document") == [whole]
    target = make_target(
        [MappedLabel(label=whole, passages=["p1", "p2"]), MappedLabel(label=bad, passages=["p2"])],
        count_unmapped=True,
    )
    assert len(target.wanted) == 1 and set(target.meets) == {"p1"} and target.judged == {"p1", "p2"}
    only = make_target(
        [MappedLabel(label=whole, passages=["p2"]), MappedLabel(label=bad, passages=["p2"])],
        count_unmapped=True,
    )
    assert set(only.meets) == {"p2"}, "a document of one passage was asked for all the same"
    judged = LabelledQuestion(id="q", question="?", labels=[bad])
    assert choose_labels(judged, "document") == choose_labels(judged, "section") == []


def test_a_lost_label_keeps_its_grade() -> None:
    """A grade of 3 that a candidate cannot fulfil any more weighed as much as a grade of 1."""
    big = MappedLabel(label=Label(document="gone.md", grade=3), reason="gone")
    small = MappedLabel(label=Label(document="a.md"), passages=["p1"])
    target = make_target([small, big], count_unmapped=True)
    assert sorted(target.grades[name] for name in target.wanted) == [1, 3]
    lost = MappedLabel(label=Label(document="a.md", quote="four words are gone"), reason="gone", n_words=4)
    reply = Reply(question=Question(id="q", text="?"))
    assert covered_share(reply, make_target([lost], count_unmapped=True), 5) == 0.0
    assert covered_share(reply, make_target([small], count_unmapped=True), 5) is None


def test_labels_that_the_same_passages_fulfil_are_one_need_and_grade_0_is_none() -> None:
    mapped = [
        MappedLabel(label=Label(document="a.md", quote="one"), passages=["p1", "p2"]),
        MappedLabel(label=Label(document="a.md", quote="two", grade=3), passages=["p2", "p1"]),
        MappedLabel(label=Label(document="b.md", grade=0), passages=["p3"]),
        MappedLabel(label=Label(document="c.md"), reason="gone"),
    ]
    counted, left = make_target(mapped, count_unmapped=True), make_target(mapped, count_unmapped=False)
    assert (len(counted.wanted), len(left.wanted)) == (2, 1)
    assert counted.judged == {"p1", "p2", "p3"} and set(counted.meets) == {"p1", "p2"}
    assert sorted(counted.grades.values()) == [1, 3]
    assert [each.reason for each in counted.unmapped] == ["gone"]
