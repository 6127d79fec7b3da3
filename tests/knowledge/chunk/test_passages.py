"""Chunking: nothing is lost, nothing is over budget, cuts fall between sentences, ids survive edits elsewhere."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from penstock.knowledge.chunk import chunk_document, count_words
from penstock.knowledge.sentences import find_sentences, split_sentences
from penstock.knowledge.types import ParsedDocument, Section
from penstock.spec.knowledge import ChunkRecipe

TEXTS = st.text(alphabet=st.sampled_from("ab Z.!?\n 1-。é|\t"), max_size=300) | st.text(max_size=120)


def document(*sections: tuple[str | None, str]) -> ParsedDocument:
    return ParsedDocument(
        title="T", media_type="text/plain", sections=tuple(Section(heading=h, text=t) for h, t in sections)
    )


@given(st.lists(TEXTS, max_size=4), st.integers(1, 40))
def test_every_visible_character_is_in_one_passage_or_counted_as_dropped(
    texts: list[str], max_words: int
) -> None:
    parsed = document(*((f"h{n}", text) for n, text in enumerate(texts)))
    chunks = chunk_document(parsed, path="a.md", recipe=ChunkRecipe(size=max_words))
    covered = [0] * len(parsed.text)
    for passage in chunks.passages:
        assert parsed.text[passage.start : passage.end] == passage.text
        assert count_words(passage.text) <= max_words
        for index in range(passage.start, passage.end):
            covered[index] += 1
    visible = [index for index, char in enumerate(parsed.text) if not char.isspace()]
    assert max((covered[index] for index in visible), default=0) <= 1
    assert sum(covered[index] == 0 for index in visible) == chunks.n_dropped_chars
    assert len({passage.id for passage in chunks.passages}) == len(chunks.passages)


@given(TEXTS)
def test_every_visible_character_is_in_exactly_one_sentence(text: str) -> None:
    spans = find_sentences(text)
    assert "".join("".join(text[a:b] for a, b in spans).split()) == "".join(text.split())
    assert all(b <= c for (_, b), (c, _) in itertools.pairwise(spans))


def test_sentences_end_where_a_reader_would_say() -> None:
    text = "Dr. Smith slept 7.5 hours. Was it enough? Yes, e.g. for him!\n\nNext “one.” Last"
    assert split_sentences(text) == (
        "Dr. Smith slept 7.5 hours.",
        "Was it enough?",
        "Yes, e.g. for him!",
        "Next “one.”",
        "Last",
    )
    assert len(split_sentences("Sun makes vitamin D. J. Smith and John F. Kennedy say so. We rest.")) == 3


def test_a_long_section_gives_even_parts_cut_between_sentences() -> None:
    sentences = " ".join(f"Sentence number {n} has exactly seven words." for n in range(30))
    chunks = chunk_document(document(("H", sentences)), path="a.md", recipe=ChunkRecipe(size=160))
    sizes = [count_words(passage.text) for passage in chunks.passages]
    assert len(sizes) == 2
    assert max(sizes) - min(sizes) <= 7
    assert all(passage.text.endswith(".") for passage in chunks.passages)


def test_tables_and_code_stay_in_one_passage_when_they_fit() -> None:
    table = "\n".join(f"| row {n} | x |" for n in range(10))
    chunks = chunk_document(document((None, f"Before.\n\n{table}")), path="a.md", recipe=ChunkRecipe(size=70))
    assert any(table in passage.text for passage in chunks.passages)


def test_an_edit_of_one_section_leaves_the_ids_of_the_others() -> None:
    before = chunk_document(document(("A", "One."), ("B", "Two.")), path="a.md", recipe=ChunkRecipe(size=50))
    after = chunk_document(
        document(("A", "One, but longer."), ("B", "Two.")), path="a.md", recipe=ChunkRecipe(size=50)
    )
    assert before.passages[1].id == after.passages[1].id
    assert before.passages[0].id != after.passages[0].id
    other = chunk_document(document(("A", "One."), ("B", "Two.")), path="b.md", recipe=ChunkRecipe(size=50))
    assert other.passages[1].id != before.passages[1].id


def test_rows_of_dashes_are_dropped_and_counted() -> None:
    chunks = chunk_document(document(("A", "-----\n\n")), path="a.md", recipe=ChunkRecipe(size=50))
    assert chunks.passages == ()
    assert chunks.n_dropped_chars == 5
