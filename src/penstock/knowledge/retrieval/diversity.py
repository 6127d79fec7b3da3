"""Keeps near-equal passages from filling the first ranks: maximal marginal relevance (Carbonell, Goldstein, 1998)."""

import numpy as np
from numpy.typing import NDArray


def order_diversely(
    scores: NDArray[np.float64], vectors: NDArray[np.float32], diversity: float, *, n_first: int
) -> list[int]:
    """Return places in an order where each next is best by `(1 - diversity) · score - diversity · nearest above`.

    The first `n_first` are chosen so, the rest follow in their old order. `vectors` have length one; ties keep the
    old order; with `diversity` 0 nothing moves.
    """
    n = len(scores)
    if n == 0 or diversity <= 0:
        return list(range(n))
    left = np.ones(n, dtype=bool)
    nearest = np.zeros(n)
    chosen: list[int] = []
    for _ in range(min(n_first, n)):
        worth = (1.0 - diversity) * scores - diversity * nearest
        worth[~left] = -np.inf
        best = int(np.argmax(worth))
        chosen.append(best)
        left[best] = False
        cosines = (vectors @ vectors[best]).astype(np.float64)
        nearest = cosines if len(chosen) == 1 else np.maximum(nearest, cosines)
    return [*chosen, *(int(place) for place in np.flatnonzero(left))]
