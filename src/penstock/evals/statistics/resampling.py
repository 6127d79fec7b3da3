"""Resampling whole clusters: bootstrap intervals (percentile, BCa and ABC) of any figure over sums, and sign flips.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 14 (BCa); DiCiccio and Efron, Biometrika 79 (1992) (ABC: what BCa
tends to, without resampling); Hesterberg, The American Statistician 69 (2015), for widening it where there are few clusters; Phipson and
Smyth 2010 for p-values that are never 0.

From `MANY` clusters on a figure that is nearly straight in their sums gets ABC, which is nearer to BCa than 10,000 resamples are and takes
a hundredth of the time; one that bends, or rests on few clusters, is resampled as ever. More than 2,000 clusters are first put together at
random into 2,000 blocks for that: sums of independent clusters are independent too, and a variance known to 2 % is enough for an interval.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from penstock.base.distributions import normal_cdf, normal_quantile, t_quantile
from penstock.evals.statistics.types import FloatArray

MAX_BLOCKS = 2_000
MAX_UNDEFINED = 0.05
"""Share of resamples without a figure above which an interval would be about other data than these."""
MANY = 1_000
"""Clusters from which on straight lines are tried before resampling."""
_MOST_SKEW, _MOST_BEND = 0.03, 0.05
"""The largest acceleration, and the largest curvature and bias in standard errors, for which ABC stands in for BCa."""
_MOST_WEIGHT = 0.1
"""Of one cluster in the spread of a sum of signs that is taken for normal: a hundredth of the variance."""
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
    n_drawn: int = 0
    line: "_Line | None" = None
    """Set where nothing was resampled."""

    def method(self, *, is_grouped: bool) -> str:
        """Return how intervals are made."""
        by = "by group" if is_grouped else "by case"
        return f"bootstrap ABC {by}" if self.line is not None else f"bootstrap BCa {by}, {self.n_drawn:,}"

    def interval(self, level: float, *, is_bca: bool = True) -> tuple[float, float] | None:
        """Return the interval, or None where too many resamples have no figure."""
        if self.line is not None:
            z = t_quantile(0.5 + level / 2.0, self.n_clusters - 1)
            return self.line.at(self.value, -z), self.line.at(self.value, z)
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


@dataclass(frozen=True)
class _Line:
    """A figure near the sums that were found: how far it moves with them, how lopsided, and how it bends."""

    error: float
    acceleration: float
    bend: float
    bias: float

    def at(self, value: float, z: float) -> float:
        """Return the end of the ABC interval that lies `z` standard errors off (ABC's quadratic form)."""
        moved = self.bias + z
        moved /= (1.0 - self.acceleration * moved) ** 2
        return value + self.error * (moved + self.bend * moved**2)


def _find_line(sums: FloatArray, total: FloatArray, value: float, reduce: Reduce) -> _Line | None:
    """Return what ABC needs, or None where the figure is not straight enough, or not known without some cluster."""
    n = len(sums)
    left_out = reduce(total[None, :] - sums)
    if not np.all(np.isfinite(left_out)):
        return None
    middle = float(left_out.mean())
    influence = (n - 1) * (middle - left_out)
    squares = float(np.sum(influence**2))
    error = math.sqrt(squares / (n * (n - 1)))
    if error <= 1e-12 * max(1.0, abs(value)):
        return None
    half = 0.5 * (influence @ sums) / (n * error)  # the way in which the figure moves most, half an error far
    above, below = (float(figure) for figure in reduce(np.stack([total + half, total - half])))
    bend = (above - 2.0 * value + below) / (0.5 * error)
    offset = (n - 1) * (middle - value) / error - bend
    acceleration = _acceleration(left_out)
    is_straight = math.isfinite(bend) and max(abs(bend), abs(offset)) <= _MOST_BEND
    if not is_straight or abs(acceleration) > _MOST_SKEW:
        return None
    bias = normal_quantile(2.0 * normal_cdf(acceleration) * normal_cdf(-offset))
    return _Line(error=error, acceleration=acceleration, bend=bend, bias=bias)


def bootstrap(
    sums: FloatArray, reduce: Reduce, rng: np.random.Generator, n_resamples: int = 10_000
) -> Bootstrap | None:
    """Return the bootstrap of `reduce` over clusters' `sums` ([clusters, k]); None where the figure is undefined."""
    total = sums.sum(axis=0)
    value = float(reduce(total[None, :])[0])
    if not math.isfinite(value):
        return None
    line = _find_line(sums, total, value, reduce) if len(sums) >= MANY else None
    if line is not None:
        return Bootstrap(
            value=value,
            n_clusters=len(sums),
            figures=np.empty(0),
            undefined=0.0,
            bias=line.bias,
            acceleration=line.acceleration,
            line=line,
        )
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
        n_drawn=n_resamples,
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

    All sign flips are tried when there are few clusters that differ, else `n_resamples`, with p = (k + 1) / (B + 1). Sums of many
    signs, none of which weighs much, are normal to more digits than resamples tell; smaller p-values than theirs are not given.
    """
    moved = sums[sums != 0.0]
    if len(moved) >= MANY:
        spread = math.sqrt(float(np.sum(moved**2)))
        if float(np.abs(moved).max()) <= _MOST_WEIGHT * spread:
            p_value = math.erfc(abs(float(moved.sum())) / spread / math.sqrt(2.0))
            return max(p_value, 1.0 / (n_resamples + 1)), "sign flips, normal"
    moved = put_together(moved, rng)
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
    flipped = _flip(moved, rng, n_resamples)
    hits = int(np.sum(np.abs(flipped) >= limit))
    return (hits + 1) / (n_resamples + 1), f"sign flips, {n_resamples:,}"


def _flip(moved: FloatArray, rng: np.random.Generator, n_resamples: int) -> FloatArray:
    """Return sums of `moved` under random signs. Eight signs are a byte, whose 256 sums are counted beforehand."""
    eights = np.pad(moved, (0, -len(moved) % 8)).reshape(-1, 8)
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    sums = np.ascontiguousarray(eights @ (2.0 * bits.T - 1.0))
    drawn = rng.integers(0, 256, size=(len(eights), n_resamples), dtype=np.uint8)
    flipped = np.zeros(n_resamples)
    for of_byte, row in zip(sums, drawn, strict=True):
        flipped += of_byte[row]
    return flipped


def swap_sides(
    baseline: FloatArray,
    candidate: FloatArray,
    reduce: Reduce,
    rng: np.random.Generator,
    n_resamples: int = 10_000,
) -> tuple[float, str] | None:
    """Return the two-sided p-value of a difference of figures when both sides of each cluster may be exchanged, and how it was made.

    The difference is an odd function of the signs, so with many clusters it is a sum over them in all but the third order; where
    that sum is the difference that was found, signs of sums are flipped instead.
    """
    if len(baseline) >= MANY:
        parts = _parts_of_difference(baseline, candidate, reduce)
        if parts is not None:
            p_value, method = flip_signs(parts, rng, n_resamples)
            return p_value, f"swapped sides, {method.removeprefix('sign flips, ')}"
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
    return (hits + 1) / (n_defined + 1), f"swapped sides, {n_resamples:,}"


def _parts_of_difference(baseline: FloatArray, candidate: FloatArray, reduce: Reduce) -> FloatArray | None:
    """Return what each cluster adds to the difference of figures; None where these do not add up to it."""
    middle = 0.5 * (baseline.sum(axis=0) + candidate.sum(axis=0))
    half = 0.5 * (candidate - baseline)
    parts = reduce(middle + half) - reduce(middle - half)
    moved = half.sum(axis=0)
    observed = float((reduce((middle + moved)[None, :]) - reduce((middle - moved)[None, :]))[0])
    if not (math.isfinite(observed) and np.all(np.isfinite(parts))):
        return None
    spread = math.sqrt(float(np.sum(parts**2)))
    adds_up = abs(float(parts.sum()) - observed) <= 0.01 * (spread + abs(observed))
    return np.asarray(parts, dtype=np.float64) if adds_up else None


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
