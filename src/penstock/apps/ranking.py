"""How a search in OpenAI's shape says that its results be ranked: threshold, ranker, and what words and vectors weigh. Pure."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from penstock.apps.errors import UnsupportedRequest
from penstock.base.errors import InvalidInput
from penstock.spec.knowledge import SearchRecipe

Adjust = Callable[[SearchRecipe], SearchRecipe]
_RANKERS = ("auto", "none", "default-2024-11-15", "default-2024-08-21")


class HybridSearch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What vectors and words weigh against each other."""

    embedding_weight: float
    text_weight: float


class RankingOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`ranking_options` of a search."""

    score_threshold: float | None = None
    ranker: str | None = None
    """`none` leaves out the base's second look; the others are the base's own way."""
    hybrid_search: HybridSearch | None = None


def read_ranking(told: Any) -> RankingOptions:
    """Return the options; raise `InvalidInput` that names what is wrong or not known."""
    if told is None:
        return RankingOptions()
    try:
        options = msgspec.convert(told, RankingOptions)
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"`ranking_options` is wrong: {error}.",
            hint="Known: score_threshold, ranker, hybrid_search with embedding_weight and text_weight.",
            param="ranking_options",
        ) from None
    if options.ranker is not None and options.ranker not in _RANKERS:
        raise UnsupportedRequest(
            f"There is no ranker {options.ranker[:80]!r}.",
            hint="`auto` ranks as the base is set up to, `none` without its second look.",
            param="ranking_options.ranker",
        )
    weights = options.hybrid_search
    if weights is not None:
        each = (weights.embedding_weight, weights.text_weight)
        if not all(0 <= weight < float("inf") for weight in each) or sum(each) == 0:
            raise InvalidInput(
                "The weights of `hybrid_search` must be 0 or more, and one of them above 0.",
                param="ranking_options.hybrid_search",
            )
    return options


def make_adjust(options: RankingOptions) -> Adjust | None:
    """Return what changes a base's own search for one call; None where nothing is asked for."""
    if options.hybrid_search is None and options.ranker != "none":
        return None
    return partial(_adjust, options)


def _adjust(options: RankingOptions, recipe: SearchRecipe) -> SearchRecipe:
    if options.ranker == "none":
        recipe = msgspec.structs.replace(recipe, rerank=None, min_rerank_score=None)
    if options.hybrid_search is None:
        return recipe
    weights = options.hybrid_search
    return msgspec.structs.replace(
        recipe,
        fusion="rrf" if recipe.fusion == "rrf" else "convex",
        dense_weight=weights.embedding_weight / (weights.embedding_weight + weights.text_weight),
        identifier_weight=None,
    )
