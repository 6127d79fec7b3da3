"""How a stored recipe searches, and the same recipe with one way of searching alone."""

from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.knowledge.quality.types import Mode
from penstock.knowledge.recipes import read_recipe
from penstock.spec.knowledge import RerankRecipe, SearchRecipe

NEEDS_VECTORS: frozenset[Mode] = frozenset({"dense", "hybrid", "reranked"})


def read_search(recipe: Mapping[str, Any]) -> SearchRecipe:
    """Return the part of a stored recipe that searches; recipes of the older flat form are read too."""
    return read_recipe(recipe).search


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
