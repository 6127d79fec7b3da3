"""Metrics of one question, by hand: needs count once, and what is divided by follows from the labels alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.knowledge.quality.metrics import score
from penstock.knowledge.quality.ports import RankedQuestion

METRICS = ("recall", "precision", "ndcg", "mrr", "hit")
NOTHING: frozenset[str] = frozenset()


def ranked(wanted: str, *found: str, **grades: int) -> RankedQuestion:
    return RankedQuestion(
        id="q", wanted=tuple(wanted), found=[frozenset(each) for each in found], grades=grades
    )


def test_a_passage_that_meets_several_needs_finds_each_of_them() -> None:
    """Needs beyond two of a passage fell away, so that 3 of 4 was 2 of 3."""
    assert score("recall", 5, ranked("abcd", "abc")) == 0.75
    late = ranked("abcd", "d", *[""] * 8, "abc")
    assert score("recall", 1, late) == 0.25, "what stands at rank 10 changes nothing at rank 1"
    assert score("recall", 10, late) == 1.0
    assert score("precision", 5, ranked("ab", "a", "a", "b")) == pytest.approx(2 / 5), "a need counts once"


def test_metrics_of_plain_questions() -> None:
    second = ranked("xy", "", "x", "x")
    assert [score(metric, 3, second) for metric in METRICS] == [
        0.5,
        pytest.approx(1 / 3),
        pytest.approx(math.log2(2) / math.log2(3) / (1 + 1 / math.log2(3))),
        0.5,
        1.0,
    ]
    assert [score(metric, 3, ranked("x")) for metric in METRICS] == [0.0] * 5
    assert [score(metric, 3, ranked("", "")) for metric in METRICS] == [None] * 5
    assert score("hit", 1, second) == score("mrr", 1, second) == 0.0


def test_grades_weigh_what_is_found_first() -> None:
    """Gains 2^grade − 1: the better need at rank 2 after the lesser one at rank 1."""
    late = ranked("lh", "l", "h", h=3)
    assert score("ndcg", 5, late) == pytest.approx((1 + 7 / math.log2(3)) / (7 + 1 / math.log2(3)))
    assert score("ndcg", 5, ranked("lh", "h", "l", h=3)) == pytest.approx(1.0)


def test_a_best_document_that_is_lost_costs_what_it_weighs() -> None:
    """A candidate that lost the document of grade 3 had 0.613 for the one of grade 1; it has 0.131."""
    assert score("ndcg", 5, ranked("bs", "s", b=3)) == pytest.approx(1 / (7 + 1 / math.log2(3)))


def test_one_passage_that_meets_everything_is_perfect() -> None:
    whole = RankedQuestion(
        id="q",
        wanted="bs",
        found=[frozenset("bs")],
        grades={"b": 3},
        passages=[frozenset("bs"), frozenset("s")],
    )
    assert score("ndcg", 5, whole) == 1.0
    late = RankedQuestion(id="q", wanted="bs", found=[NOTHING, frozenset("bs")], passages=[frozenset("bs")])
    assert score("ndcg", 5, late) == pytest.approx(1 / math.log2(3))
    parts = RankedQuestion(id="q", wanted="bs", found=[frozenset("b")], passages=[frozenset("bs")])
    assert score("ndcg", 5, parts) == 0.5, "half of what the best passage holds"


@given(
    st.lists(st.frozensets(st.sampled_from("abcd")), max_size=6),
    st.lists(st.frozensets(st.sampled_from("abcd"), min_size=1), max_size=4),
    st.integers(min_value=1, max_value=6),
)
def test_every_metric_lies_between_0_and_1_and_a_need_more_never_lowers_recall(
    found: list[frozenset[str]], passages: list[frozenset[str]], k: int
) -> None:
    question = RankedQuestion(id="q", wanted="abcd", found=found, passages=passages, grades={"a": 2})
    for metric in METRICS:
        value = score(metric, k, question)
        assert value is not None and 0.0 <= value <= 1.0
    recall, deeper = score("recall", k, question), score("recall", k + 1, question)
    assert recall is not None and deeper is not None and recall <= deeper
