"""A graph of more rows is searched wider, or its recall would fall with its size."""

from penstock.knowledge.index.expansion import choose_expansion
from penstock.spec.knowledge import IndexRecipe


def test_what_a_recipe_says_stands_at_any_size() -> None:
    assert choose_expansion(IndexRecipe(expansion_search=40), 5_000_000) == 40


def test_searches_widen_with_the_index_and_never_narrow_below_the_least() -> None:
    sizes = [0, 1_000, 100_000, 400_000, 1_000_000]
    assert [choose_expansion(IndexRecipe(), size) for size in sizes] == [96, 96, 96, 192, 304]
