"""Packing keeps its budget, shows each thing once and tells what is left out; citations are held to the passages."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.knowledge.retrieval.citations import CitedPassage, check_citations, find_quote
from penstock.knowledge.retrieval.packing import pack_context
from penstock.knowledge.sentences import split_sentences


@dataclass(frozen=True)
class Passage:
    passage_id: str
    text: str
    document: str = "a.md"
    start: int = 0

    @property
    def sentences(self) -> tuple[str, ...]:
        return split_sentences(self.text)


def cited(text: str, quote: str | None = None) -> CitedPassage:
    return CitedPassage(passage_id="p1", text=text, quote=quote)


def count(texts: Sequence[str]) -> list[int]:
    return [len(re.findall(r"\S+", text)) for text in texts]


PASSAGES = [
    Passage("p1", "Tea needs hot water. Wait three minutes.", "tea.md", 50),
    Passage(
        "p2", "Coffee is another drink altogether, and is made in another pot on another day.", "coffee.md"
    ),
    Passage("p3", "Warm the pot first.", "tea.md", 10),
]


def test_passages_are_taken_best_first_and_shorter_ones_fill_what_is_left() -> None:
    context = pack_context(PASSAGES, 12, count)
    assert [item.hit.passage_id for item in context.items] == ["p1", "p3"]
    assert context.n_tokens == 11
    (left,) = context.left_out
    assert (left.passage_id, left.rank, left.reason) == ("p2", 2, "it does not fit into 12 tokens")


def test_sentences_are_taken_in_order_and_a_passage_is_shown_without_holes() -> None:
    long = Passage("p1", "Short one. This second sentence is by far too long to fit. Short two.")
    context = pack_context([long, Passage("p2", "Short three.")], 4, count, unit="sentences")
    assert [item.text for item in context.items] == ["Short one.", "Short three."]
    assert context.left_out[0].reason == "2 sentences do not fit into 4 tokens"


def test_equal_and_nearly_equal_passages_are_shown_once() -> None:
    text = "Water boils at one hundred degrees at the level of the sea, and earlier in the mountains"
    hits = [Passage("p1", text), Passage("p2", text), Passage("p3", text + " "), Passage("p4", text.replace("boils", "cooks")), Passage("p5", "Something else stands here")]  # fmt: skip
    context = pack_context(hits, 1000, count)
    assert [item.hit.passage_id for item in context.items] == ["p1", "p4", "p5"]
    assert [each.reason for each in context.left_out] == ["nearly the same as p1"] * 2
    loose = pack_context(hits, 1000, count, near=0.7)
    assert [item.hit.passage_id for item in loose.items] == ["p1", "p5"]


def test_a_sentence_that_stands_above_is_not_repeated() -> None:
    hits = [Passage("p1", "One thing. Another thing."), Passage("p2", "Another thing.")]
    context = pack_context(hits, 1000, count, unit="sentences", near=2.0)
    assert [item.text for item in context.items] == ["One thing.", "Another thing."]
    assert context.left_out[0].reason == "all its sentences stand above"


def test_document_order_is_that_of_reading() -> None:
    context = pack_context(PASSAGES, 1000, count, order="document")
    assert [item.hit.passage_id for item in context.items] == ["p3", "p1", "p2"]
    assert [item.rank for item in context.items] == [3, 1, 2]


def test_overhead_and_the_number_of_items_count() -> None:
    assert pack_context(PASSAGES, 12, count, overhead=5).n_tokens == 12
    context = pack_context(PASSAGES, 1000, count, max_items=1)
    assert len(context.items) == 1
    assert {each.reason for each in context.left_out} == {"the number of items is reached"}


def test_nothing_packs_to_nothing() -> None:
    assert pack_context([], 10, count).items == ()
    assert pack_context(PASSAGES, 0, count).items == ()


texts = st.lists(
    st.sampled_from(["alpha beta.", "Gamma delta epsilon. Zeta.", "Eta", "", "Alpha beta. Eta theta."]),
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(
    texts,
    st.integers(0, 12),
    st.sampled_from(["passages", "sentences"]),
    st.sampled_from(["best", "document"]),
    st.integers(0, 2),
)
def test_the_budget_holds_and_every_passage_is_shown_or_told(
    made: list[str], budget: int, unit: Any, order: Any, overhead: int
) -> None:
    hits = [Passage(f"p{number}", text, f"{number % 2}.md") for number, text in enumerate(made)]
    context = pack_context(hits, budget, count, unit=unit, order=order, overhead=overhead)
    assert context.n_tokens == sum(item.n_tokens + overhead for item in context.items) <= budget
    shown = [item.text for item in context.items]
    assert len(shown) == len(set(shown))
    told = {item.hit.passage_id for item in context.items} | {each.passage_id for each in context.left_out}
    assert told == {hit.passage_id for hit in hits}


CITED = cited("Bake the cake for 40 minutes at 180 °C. Let it “rest” over-\nnight in a cool place.")


@pytest.mark.parametrize(
    ("quote", "verdict", "found"),
    [
        ("for 40 minutes", "exact", "for 40 minutes"),
        ("bake  the\ncake", "near", "Bake the cake"),
        ('let it "rest" over-night', "near", "Let it “rest” over-\nnight"),
        ("for 45 minutes", "absent", None),
        ("", "absent", None),
    ],
)
def test_a_quote_is_found_in_its_passage_or_not(quote: str, verdict: str, found: str | None) -> None:
    judged = find_quote(cited(CITED.text, quote))
    assert judged.verdict == verdict
    assert (None if judged.start is None else CITED.text[judged.start : judged.end]) == found


@pytest.mark.parametrize(
    ("answer", "carried", "missing"),
    [
        ("Bake the cake for 40 minutes.", True, ()),
        ("The cake bakes at 180 °C for 40 minutes.", True, ()),
        ("Bake the cake for 45 minutes.", False, ("45",)),
        ("Put the dough into the fridge.", False, ()),
    ],
)
def test_a_claim_is_carried_by_words_and_numbers(
    answer: str, carried: bool, missing: tuple[str, ...]
) -> None:
    (claim,) = check_citations(answer, [CITED]).claims
    assert claim.is_carried is carried
    assert claim.missing_numbers == missing


def test_one_bad_sentence_or_quote_is_enough_and_no_claim_is_no_support() -> None:
    report = check_citations("Bake the cake for 40 minutes. Elephants like it.", [CITED])
    assert [claim.is_carried for claim in report.claims] == [True, False]
    assert report.share_carried == 0.5
    assert not report.is_supported
    assert check_citations("Bake the cake for 40 minutes.", [CITED]).is_supported
    assert not check_citations("Bake the cake for 40 minutes.", []).is_supported
    assert not check_citations(
        "Bake the cake for 40 minutes.", [cited(CITED.text, "no such words")]
    ).is_supported
    empty = check_citations("…", [CITED])
    assert (empty.is_supported, empty.share_carried) == (False, None)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab \n\"“”-–'’İß", min_size=1, max_size=30), st.data())
def test_whatever_is_cut_out_of_a_passage_is_found_in_it(text: str, data: Any) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    quote = text[start:end]
    judged = find_quote(cited(text, quote))
    assert (judged.verdict == "absent") is (not quote.strip())
    mangled = find_quote(cited(text, " ".join(quote)))
    assert (mangled.verdict == "absent") is (not quote.strip())
