"""Mixes lexical and dense scores by a convex combination and returns the best rows.

Both kinds are brought to 0…1 over the candidates: BM25 by its maximum (its floor, no shared word, is 0 in
theory), cosine between the lowest and the highest candidate. Convex combination rather than reciprocal ranks:
Bruch, Gai, Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", 2023.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.knowledge.index.dense import best_rows
from penstock.knowledge.index.generation import OpenIndex
from penstock.spec.knowledge import SearchRecipe

SEMANTIC_WEIGHT = 0.7
LEXICAL_WEIGHT = 0.2
"""Tuned on the handbook's 795 training phrasings (docs/lab-log.md). The built-in lexical embedder sees the words
that BM25 sees already, so it gets a small say."""


def choose_weight(embedder: str) -> float:
    """Return the dense weight for an embedder by its id."""
    return LEXICAL_WEIGHT if embedder.startswith("lexical") else SEMANTIC_WEIGHT


@dataclass(frozen=True, kw_only=True)
class RowScore:
    """A row of the index with the mixed score and what it came from."""

    row: int
    score: float
    dense: float | None
    lexical: float | None


def search_index(
    index: OpenIndex, query: str, *, vector: NDArray[np.float32] | None, recipe: SearchRecipe, k: int
) -> list[RowScore]:
    """Return at most `k` rows, best first. Without `vector` (length one) the search is lexical alone."""
    chosen = choose_weight(index.embedder) if recipe.dense_weight is None else recipe.dense_weight
    weight = 0.0 if vector is None else chosen
    lexical = (
        dict(
            index.lexical.search(
                query,
                limit=max(k, recipe.n_candidates),
                title_weight=recipe.title_weight,
                section_weight=recipe.section_weight,
            )
        )
        if weight < 1.0
        else {}
    )
    cosines: NDArray[np.float32] | None = None
    candidates = set(lexical)
    if vector is not None and weight > 0.0 and index.places:
        cosines = index.dense.score_all(vector)
        candidates.update(best_rows(cosines, max(k, recipe.n_candidates)))
    rows = sorted(candidates)
    if not rows:
        return []
    top = max(lexical.values(), default=0.0)
    words = np.array([lexical.get(row, 0.0) / top if top > 0 else 0.0 for row in rows])
    mixed = (1.0 - weight) * words
    if cosines is not None:
        mixed = mixed + weight * _spread(cosines[rows].astype(np.float64))
    order = np.lexsort((np.array(rows), -mixed))[:k]
    return [
        RowScore(
            row=rows[place],
            score=float(mixed[place]),
            dense=None if cosines is None else float(cosines[rows[place]]),
            lexical=lexical.get(rows[place]),
        )
        for place in order
    ]


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.ones_like(values)
