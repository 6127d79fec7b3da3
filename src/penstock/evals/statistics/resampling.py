"""Resampling whole clusters: bootstrap intervals (percentile and BCa) of any figure over sums, and sign flips.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 14 (BCa); Hesterberg, The American Statistician 69
(2015), for widening it where there are few clusters; Phipson and Smyth 2010 for p-values that are never 0. More than 2,000 clusters are first put together at random into 2,000 blocks: sums of independent clusters are
independent too, and a variance known to 2 % is enough for an interval.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from penstock.evals.statistics.distributions import normal_cdf, normal_quantile, t_quantile
from penstock.evals.statistics.types import FloatArray

MAX_BLOCKS = 2_000
MAX_UNDEFINED = 0.05
"""Share of resamples without a figure above which an interval would be about other data than these."""
_EXACT_CLUSTERS = 14
_CELLS = 4_000_000

Reduce = Callable[[FloatArray], FloatArray]
"""Figures of vectors of sums in the last axis; NaN where undefined."""


@dataclass(frozen=True)
class Bootstrap:
    """Figures of resamples, sorted, and what BCa needs to read an interval from them at any level."""

    value: float
    n_clusters: int
    figures: FloatArray
    undefined: float
    bias: float
    acceleration: float

    def interval(self, level: float, *, is_bca: bool = True) -> tuple[float, float] | None:
        """Return the interval, or None where too many resamples have no figure."""
        if self.undefined > MAX_UNDEFINED or not len(self.figures):
            return None
        # resamples of few clusters vary too little: take a t's tail, and the factor that makes a variance unbiased
        widened = math.sqrt(self.n_clusters / (self.n_clusters - 1)) if self.n_clusters > 1 else 1.0
        tail = normal_cdf(-widened * t_quantile(0.5 + level / 2.0, max(1, self.n_clusters - 1)))
        tails = (tail, 1.0 - tail)
        if is_bca:
            tails = (self._shift(tails[0]), self._shift(tails[1]))
        low, high = np.quantile(self.figures, tails)
        return float(low), float(high)

    def _shift(self, tail: float) -> float:
        if not 0.0 < tail < 1.0:
            return tail
        z = self.bias + normal_quantile(tail)
        divisor = 1.0 - self.acceleration * z
        return normal_cdf(self.bias + z / divisor) if divisor > 0.0 else float(z > 0)


def bootstrap(
    sums: FloatArray, reduce: Reduce, rng: np.random.Generator, n_resamples: int = 10_000
) -> Bootstrap | None:
    """Return the bootstrap of `reduce` over clusters' `sums` ([clusters, k]); None where the figure is undefined."""
    total = sums.sum(axis=0)
    value = float(reduce(total[None, :])[0])
    if not math.isfinite(value):
        return None
    blocks = put_together(sums, rng)
    figures = np.concatenate([reduce(counts @ blocks) for counts in _draw(len(blocks), rng, n_resamples)])
    finite = np.sort(figures[np.isfinite(figures)])
    left_out = reduce(total[None, :] - blocks)
    left_out = left_out[np.isfinite(left_out)]
    below = (float(np.mean(finite < value)) + float(np.mean(finite <= value))) / 2.0 if len(finite) else 0.5
    edge = 0.5 / max(len(finite), 1)
    return Bootstrap(
        value=value,
        n_clusters=len(sums),
        figures=finite,
        undefined=1.0 - len(finite) / len(figures),
        bias=normal_quantile(min(max(below, edge), 1.0 - edge)),
        acceleration=_acceleration(left_out),
    )


def put_together(sums: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return `sums` of clusters as those of at most `MAX_BLOCKS` random blocks of clusters of about equal number."""
    if len(sums) <= MAX_BLOCKS:
        return sums
    order = rng.permutation(len(sums))
    edges = np.linspace(0, len(sums), MAX_BLOCKS + 1).astype(np.int64)[:-1]
    return np.asarray(np.add.reduceat(sums[order], edges, axis=0))


def flip_signs(sums: FloatArray, rng: np.random.Generator, n_resamples: int = 10_000) -> tuple[float, str]:
    """Return the two-sided p-value of clusters' summed differences being symmetric about 0, and how it was made.

    All sign flips are tried when there are few clusters that differ, else `n_resamples`, with p = (k + 1) / (B + 1).
    """
    moved = put_together(sums[sums != 0.0], rng)
    if len(moved) < 2:  # a single difference is as likely either way round
        return 1.0, "sign flips, exact"
    observed = abs(float(moved.sum()))
    # equal sums in another order of adding must count as equal
    limit = observed - 1e-9 * float(np.abs(moved).sum())
    if len(moved) <= _EXACT_CLUSTERS:
        # by symmetry the first sign may stand
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(moved) - 1))).reshape(
            -1, len(moved) - 1
        )
        flipped = np.abs(moved[0] + signs @ moved[1:])
        return float(np.mean(flipped >= limit)), "sign flips, exact"
    hits = 0
    for size in _portions(len(moved), n_resamples):
        signs = rng.integers(0, 2, size=(size, len(moved)), dtype=np.int8).astype(np.float32) * 2.0 - 1.0
        hits += int(np.sum(np.abs(signs @ moved) >= limit))
    return (hits + 1) / (n_resamples + 1), f"sign flips, {n_resamples:,}"


def swap_sides(
    baseline: FloatArray,
    candidate: FloatArray,
    reduce: Reduce,
    rng: np.random.Generator,
    n_resamples: int = 10_000,
) -> float | None:
    """Return the two-sided p-value of a difference of figures when both sides of each cluster may be exchanged."""
    both = put_together(np.concatenate([baseline, candidate], axis=1), rng)
    width = baseline.shape[1]
    left, step = both[:, :width], both[:, width:] - both[:, :width]
    base, moved = left.sum(axis=0), step.sum(axis=0)
    observed = float((reduce((base + moved)[None, :]) - reduce(base[None, :]))[0])
    if not math.isfinite(observed):
        return None
    hits = n_defined = 0
    for size in _portions(len(both), n_resamples):
        swapped = rng.integers(0, 2, size=(size, len(both)), dtype=np.int8).astype(np.float64) @ step
        differences = reduce(base + moved - swapped) - reduce(base + swapped)
        differences = differences[np.isfinite(differences)]
        n_defined += len(differences)
        hits += int(np.sum(np.abs(differences) >= abs(observed) - 1e-12))
    return (hits + 1) / (n_defined + 1)


def _acceleration(left_out: FloatArray) -> float:
    if len(left_out) < 3:
        return 0.0
    spread = left_out.mean() - left_out
    squares = float(np.sum(spread**2))
    return float(np.sum(spread**3)) / (6.0 * squares**1.5) if squares > 1e-300 else 0.0


def _portions(width: int, total: int) -> list[int]:
    size = max(1, min(total, _CELLS // max(width, 1)))
    whole, rest = divmod(total, size)
    return [size] * whole + ([rest] if rest else [])


def _draw(n: int, rng: np.random.Generator, n_resamples: int) -> Iterator[FloatArray]:
    """Yield how often each cluster is in each of the resamples, a portion of resamples at a time."""
    for size in _portions(n, n_resamples):
        picked = rng.integers(0, n, size=(size, n)) + np.arange(size)[:, None] * n
        yield np.bincount(picked.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
