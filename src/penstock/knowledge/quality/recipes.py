"""How a stored recipe searches, and the same recipe with one way of searching alone."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from penstock.knowledge.quality.types import Mode
from penstock.knowledge.recipes import read_recipe
from penstock.knowledge.retrieval.fusion import find_weight
from penstock.knowledge.retrieval.question import analyse_question
from penstock.spec.knowledge import RerankRecipe, SearchRecipe


class Wanted(NamedTuple):
    """What a search is to use, so that one that did without is known for what it is."""

    search: SearchRecipe
    has_vectors: bool = True
    """Whether there are any. A generation without vectors searches words by its own will."""

    def wants_vectors(self, question: str, embedder: str) -> bool:
        """Whether the search of a question is to use vectors: questions for exact words may be to do without."""
        is_exact = analyse_question(question).is_exact
        return self.has_vectors and find_weight(self.search, embedder, is_exact=is_exact) > 0


def read_search(recipe: Mapping[str, Any]) -> SearchRecipe:
    """Return the part of a stored recipe that searches; recipes of the older flat form are read too."""
    return read_recipe(recipe).search


def read_wanted(recipe: Mapping[str, Any], mode: Mode = "as_is") -> Wanted:
    """Return what searches of a generation are to use in a row of a table."""
    whole = read_recipe(recipe)
    told = search_as(mode, whole.search)
    if told is None:
        return Wanted(whole.search, has_vectors=whole.index.kind != "none")
    return Wanted(told)


def search_as(mode: Mode, search: SearchRecipe) -> SearchRecipe | None:
    """Return the recipe of one row of a table; None for `as_is`, which is whatever the generation does."""
    if mode == "as_is":
        return None
    if mode == "dense":
        return msgspec.structs.replace(search, fusion="dense", dense_weight=1.0, rerank=None)
    if mode == "lexical":
        return msgspec.structs.replace(search, fusion="lexical", dense_weight=0.0, rerank=None)
    fusion = search.fusion if search.fusion in {"convex", "rrf"} else "convex"
    weight = search.dense_weight if search.dense_weight not in {0.0, 1.0} else None
    mixed = msgspec.structs.replace(search, fusion=fusion, dense_weight=weight, rerank=None)
    if mode == "hybrid":
        return mixed
    return msgspec.structs.replace(
        mixed, rerank=search.rerank or RerankRecipe(kind="late-interaction", timeout_s=60.0)
    )
