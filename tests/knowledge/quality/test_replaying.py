"""How far two result lists agree: reference values, and agreement over different cuttings of the same text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.knowledge.quality.replaying import agree, rank_biased_overlap
from penstock.knowledge.types import Hit


def hit(name: str, text: str, document: str = "a.md") -> Hit:
    return Hit(
        passage_id=name,
        document=document,
        title=None,
        section=None,
        anchor=None,
        text=text,
        sentences=(text,),
        score=1.0,
        dense_score=None,
        lexical_score=1.0,
    )


def test_rank_biased_overlap_has_the_values_of_the_paper() -> None:
    """Webber et al. 2010, §4: two lists, p = 0.9; identical lists give 1, disjoint ones 0."""
    assert rank_biased_overlap([1, 2, 3], [1, 2, 3]) == pytest.approx(1.0)
    assert rank_biased_overlap([1, 2, 3], [4, 5, 6]) == 0.0
    # by hand for equal lengths: RBO_ext = X_k/k p^k + (1 − p)/p Σ X_d/d p^d
    p = 0.9
    by_hand = 2 / 3 * p**3 + (1 - p) / p * (0 / 1 * p + 1 / 2 * p**2 + 2 / 3 * p**3)
    assert rank_biased_overlap([1, 2, 3], [2, 4, 1], p) == pytest.approx(by_hand)


@given(st.permutations(list(range(8))), st.integers(1, 8), st.integers(1, 8))
def test_rank_biased_overlap_is_symmetric_and_between_0_and_1(order: list[int], n: int, m: int) -> None:
    first, second = list(range(8))[:n], order[:m]
    value = rank_biased_overlap(first, second)
    assert 0.0 <= value <= 1.0
    assert value == pytest.approx(rank_biased_overlap(second, first))


def test_the_same_text_cut_otherwise_is_the_same_place() -> None:
    """Overlap by passage ids is 0 after every change of the chunker, however little changed."""
    text = "the deposit for a rowing boat is forty crowns and is given back when the boat returns in time"
    words = text.split()
    whole = [hit("w", " ".join(words))]
    halves = [hit("h1", " ".join(words[:9])), hit("h2", " ".join(words[9:]))]
    found = agree(whole, halves, 5)
    assert found.overlap == 1.0 and found.same_first == 1.0 and found.rank_overlap == pytest.approx(1.0)
    other = agree(whole, [hit("x", " ".join(words), document="b.md")], 5)
    assert (other.overlap, other.same_first) == (0.0, 0.0)


def test_nothing_on_both_sides_is_undefined_and_on_one_side_is_no_agreement() -> None:
    assert agree([], [], 5).overlap is None
    assert agree([hit("a", "some words here now")], [], 5).overlap == 0.0


def test_only_the_first_k_count() -> None:
    left = [hit(f"a{n}", f"left number {n} says something else entirely") for n in range(4)]
    assert agree(left, [*left[:2], hit("z", "quite another thing was found here")], 2).overlap == 1.0
