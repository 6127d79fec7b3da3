"""Questions that quote or name codes are told from questions of plain words; mixing keeps to its formulas."""

import numpy as np
import pytest

from penstock.knowledge.retrieval.fusion import find_weight, mix_convex, mix_ranks, spread
from penstock.knowledge.retrieval.question import analyse_question
from penstock.spec.knowledge import SearchRecipe


@pytest.mark.parametrize(
    ("question", "quoted", "identifiers"),
    [
        ("why does E-1042 show", (), ("E-1042",)),
        ("what does foo_bar do in src/app.py", (), ("foo_bar", "src/app.py")),
        ("upgrade from v2.1.0", (), ("v2.1.0",)),
        ("what is maxTokens", (), ("maxTokens",)),
        ("std::vector growth", (), ("std::vector",)),
        ("RFC9110 says", (), ("RFC9110",)),
        ('where is "break the seal" said', ("break the seal",), ()),
        ("“hard stop” and «weich»", ("hard stop", "weich"), ()),
        ("covid-19 and 24-hour care at 10:30 for 5kg", (), ()),
        ("how long should I sleep, 7 or 8 hours?", (), ()),
        ("", (), ()),
        ('""', (), ()),
    ],
)
def test_what_wants_exact_words(question: str, quoted: tuple[str, ...], identifiers: tuple[str, ...]) -> None:
    analysis = analyse_question(question)
    assert (analysis.quoted, analysis.identifiers) == (quoted, identifiers)
    assert analysis.is_exact is bool(quoted or identifiers)


def test_the_weight_is_the_recipes_the_questions_or_the_embedders() -> None:
    assert find_weight(SearchRecipe(), "minilm@1", is_exact=False) == 0.7
    assert find_weight(SearchRecipe(), "lexical@1", is_exact=False) == 0.2
    assert find_weight(SearchRecipe(dense_weight=0.4), "minilm@1", is_exact=True) == 0.4
    assert find_weight(SearchRecipe(identifier_weight=0.1), "minilm@1", is_exact=True) == 0.1
    assert find_weight(SearchRecipe(fusion="dense", identifier_weight=0.1), "x", is_exact=True) == 1.0


def test_convex_mixing_by_hand() -> None:
    words, cosines = np.array([4.0, 2.0, 0.0]), np.array([0.2, 0.6, 0.4])
    assert mix_convex(words, cosines, 0.5).tolist() == pytest.approx([0.5, 0.75, 0.25])
    assert mix_convex(words, None, 0.5).tolist() == [1.0, 0.5, 0.0]
    assert mix_convex(np.zeros(2), None, 0.5).tolist() == [0.0, 0.0]


def test_reciprocal_ranks_by_hand() -> None:
    """A row that shares no word is in the vectors' list alone; equal scores share the better rank."""
    words, cosines = np.array([3.0, 0.0, 1.0]), np.array([0.1, 0.9, 0.9])
    expected = [0.5 / 61 + 0.5 / 63, 0.5 / 61, 0.5 / 62 + 0.5 / 61]
    assert mix_ranks(words, cosines, 0.5, 60.0).tolist() == pytest.approx([each * 61 for each in expected])


def test_equal_values_spread_to_one() -> None:
    assert spread(np.array([0.3, 0.3])).tolist() == [1.0, 1.0]
    assert spread(np.zeros(0)).tolist() == []
