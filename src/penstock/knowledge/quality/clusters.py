"""Questions that ask nearly the same, put together by the likeness of their vectors or, without vectors, of their words.

The question with most near ones is taken first with all of them, then the next of those that are left: deterministic, and each
cluster's first is its most typical. Memory grows with the square of the number, so that is bounded.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.knowledge.quality.words import content_words

MAX_CLUSTERED = 2000
NEAR_VECTORS = 0.7
"""Cosine from which two questions ask nearly the same."""
NEAR_WORDS = 0.5
"""The same for the share of words that two questions have in common (Jaccard)."""


def cluster_vectors(vectors: Any, *, near: float = NEAR_VECTORS) -> list[list[int]]:
    """Return clusters of rows (of length one), the largest first; each begins with its most typical row."""
    rows = np.asarray(vectors, dtype=np.float32)
    return _gather(rows @ rows.T >= near)


def cluster_words(texts: Sequence[str], *, near: float = NEAR_WORDS) -> list[list[int]]:
    """Return clusters of texts by the words that they share."""
    sets = [frozenset(content_words(text)) for text in texts]
    alike = np.zeros((len(sets), len(sets)), dtype=bool)
    for a, left in enumerate(sets):
        for b in range(a, len(sets)):
            union = left | sets[b]
            alike[a, b] = alike[b, a] = a == b or (bool(union) and len(left & sets[b]) / len(union) >= near)
    return _gather(alike)


def _gather(alike: NDArray[np.bool_]) -> list[list[int]]:
    left = np.ones(len(alike), dtype=bool)
    clusters: list[list[int]] = []
    while left.any():
        counts = np.where(left, (alike & left).sum(axis=1), -1)
        first = int(counts.argmax())
        members = np.flatnonzero(alike[first] & left)
        clusters.append([first, *(int(each) for each in members if each != first)])
        left[members] = False
        left[first] = False
    return clusters
