"""Mixes the scores of words and vectors into one, between 0 and 1 over the candidates of one search.

The default brings BM25 to its maximum (its floor, no shared word, is 0 in theory) and cosines between the lowest and
the highest candidate, and adds them by weight: Bruch, Gai, Ingber, "An Analysis of Fusion Functions for Hybrid
Retrieval", 2023. Reciprocal ranks are there for those who want them: Cormack, Clarke, Buettcher, 2009.
"""

import numpy as np
from numpy.typing import NDArray

from penstock.spec.knowledge import SearchRecipe

Floats = NDArray[np.float64]
SEMANTIC_WEIGHT = 0.7
LEXICAL_WEIGHT = 0.2
"""Tuned on the handbook's 795 training phrasings (docs/lab-log.md). The built-in lexical embedder sees the words
that BM25 sees already, so it gets a small say."""


def choose_weight(embedder: str) -> float:
    """Return the dense weight that suits an embedder, by its id."""
    return LEXICAL_WEIGHT if embedder.startswith("lexical") else SEMANTIC_WEIGHT


def find_weight(recipe: SearchRecipe, embedder: str, *, is_exact: bool) -> float:
    """Return the share of the vectors for one question. `is_exact`: it quotes words or holds identifiers."""
    if recipe.fusion == "dense":
        return 1.0
    if recipe.fusion == "lexical":
        return 0.0
    if is_exact and recipe.identifier_weight is not None:
        return recipe.identifier_weight
    if recipe.dense_weight is not None:
        return recipe.dense_weight
    return 0.5 if recipe.fusion == "rrf" else choose_weight(embedder)


def mix_convex(words: Floats, cosines: Floats | None, weight: float) -> Floats:
    """Return `(1 - weight) · BM25 / its maximum + weight · cosine between its lowest and highest`.

    `words` is 0 where no word is shared. Without cosines the words alone count, unweighted.
    """
    if len(words) == 0:
        return np.zeros(0)
    top = float(words.max())
    scaled = words / top if top > 0 else np.zeros_like(words)
    if cosines is None:
        return scaled
    return (1.0 - weight) * scaled + weight * spread(cosines)


def mix_ranks(words: Floats, cosines: Floats | None, weight: float, constant: float) -> Floats:
    """Return weighted reciprocal ranks, 1 for a row that is first in every list it could be in.

    A row without a shared word is in the cosines' list alone. Equal scores share the better rank.
    """
    weight = 0.0 if cosines is None else weight
    total = (1.0 - weight) * _reciprocals(words, constant, listed=words > 0)
    share = 1.0 - weight
    if cosines is not None:
        total = total + weight * _reciprocals(cosines, constant, listed=np.ones(len(cosines), dtype=bool))
        share = 1.0
    best = share / (constant + 1.0)
    return total / best if best > 0 else total


def spread(values: Floats) -> Floats:
    """Return the values between 0 (lowest) and 1 (highest); all 1 when they are equal."""
    if len(values) == 0:
        return np.zeros(0)
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.ones_like(values)


def _reciprocals(values: Floats, constant: float, *, listed: NDArray[np.bool_]) -> Floats:
    ordered = np.sort(-values[listed])
    ranks = np.searchsorted(ordered, -values, side="left") + 1
    return np.where(listed, 1.0 / (constant + ranks), 0.0)
