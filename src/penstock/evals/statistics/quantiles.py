"""Quantiles, such as the 95th percentile of latency, with intervals from order statistics.

Source: David and Nagaraja, Order Statistics, section 7.1: between the values of two ranks the quantile lies with a chance that
is a sum of binomial terms, whatever the distribution. Repeats of a case are all used, which makes a case a cluster; for
clusters the ranks are those of the number of independent values that know the share below the quantile as well (Woodruff 1952).
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from penstock.base.distributions import binomial_cdf
from penstock.evals.statistics.types import FloatArray, Interval, IntervalAt, ScoredCase


def quantile(
    cases: Sequence[ScoredCase],
    share: float,
    *,
    level: float = 0.95,
) -> Interval:
    """Return the `share` quantile (0.95 for p95) of all values with its interval.

    The value is the smallest one that at least `share` of the values do not exceed. `low` and `high` are None together where
    there are too few values to bound it on both sides: 72 are needed for p95 at 95 %.
    """
    if not 0.0 < share < 1.0:
        raise ValueError("a quantile lies between 0 and 1, such as 0.95")
    values, clusters = _flatten(cases)
    n, n_clusters = len(values), len(set(clusters.tolist()))
    n_groups = n_clusters if any(case.group is not None for case in cases) else None
    if not n:
        return Interval(value=None, low=None, high=None, level=level, method="no case has a score")
    ordered = np.sort(values)
    value = float(ordered[max(0, math.ceil(share * n - 1e-9) - 1)])
    bounds: tuple[float, float] | None = None
    # what so many values in clusters are worth in independent ones; never more than there are
    worth = _independent(values <= value, clusters, n_clusters) if n_clusters < n else float(n)
    method = f"none: {n_clusters} groups are too few for p{100 * share:g}"
    ranks = quantile_ranks(int(worth), share, level) if n_clusters >= min(n, 20) else None
    if ranks is not None:
        low = max(1, math.floor(ranks[0] / int(worth) * n))
        high = min(n, math.ceil(ranks[1] / int(worth) * n))
        bounds = (float(ordered[low - 1]), float(ordered[high - 1]))
        method = "order statistics" + (f", clustered by {n_clusters}" if n_clusters < n else "")
    elif n_clusters == n:
        method = f"none: {n} values are too few for p{100 * share:g}"
    return Interval(
        value=value,
        low=None if bounds is None else min(bounds[0], value),
        high=None if bounds is None else max(bounds[1], value),
        level=level,
        method=method,
        n=n,
        n_groups=n_groups,
    )


def quantile_difference_maker(
    baseline: Sequence[ScoredCase],
    candidate: Sequence[ScoredCase],
    share: float,
    *,
    factor: float = 1.0,
    rng: np.random.Generator,
    n_resamples: int = 2_000,
) -> IntervalAt:
    """Return what gives the interval of candidate's quantile − factor × baseline's, over paired cases.

    A bootstrap over clusters, percentile: order statistics say nothing of differences.
    """
    clusters = {case.case_id: (case.group is not None, case.group or case.case_id) for case in candidate}
    sides = [_flatten(side, clusters) for side in (baseline, candidate)]
    n_clusters = len({number for _, numbers in sides for number in numbers.tolist()})
    n = len(candidate)
    value: float | None = None
    figures = np.empty(0)
    if n and all(len(values) for values, _ in sides):
        ordered = []
        for values, numbers in sides:
            order = np.argsort(values, kind="stable")
            ordered.append((values[order], numbers[order]))
        once = np.ones((1, n_clusters))
        value = float(
            _weighted(*ordered[1], once, share)[0] - factor * _weighted(*ordered[0], once, share)[0]
        )
        parts = []
        size = max(1, 2_000_000 // max(len(values) for values, _ in ordered))
        for start in range(0, n_resamples, size):
            rows = min(size, n_resamples - start)
            counts = rng.multinomial(n_clusters, np.full(n_clusters, 1.0 / n_clusters), size=rows).astype(
                float
            )
            parts.append(
                _weighted(*ordered[1], counts, share) - factor * _weighted(*ordered[0], counts, share)
            )
        figures = np.sort(np.concatenate(parts))

    def at(level: float) -> Interval:
        bounds: tuple[float, float] | None = None
        method = f"bootstrap by case, {n_resamples:,}"
        if value is None:
            method = "no case has a score on both sides"
        elif n_clusters < values_needed(share, level):
            method = f"none: {n_clusters} cases are too few for p{100 * share:g}"
        else:
            low, high = np.quantile(figures, ((1.0 - level) / 2.0, (1.0 + level) / 2.0))
            bounds = (min(float(low), value), max(float(high), value))
        return Interval(
            value=value,
            low=None if bounds is None else bounds[0],
            high=None if bounds is None else bounds[1],
            level=level,
            method=method,
            n=n,
            n_groups=n_clusters if n_clusters < n else None,
        )

    return at


def _weighted(
    values: FloatArray, clusters: NDArray[np.int64], counts: FloatArray, share: float
) -> FloatArray:
    """Quantiles of sorted `values` of which each counts as often as its cluster does, for each row of `counts`."""
    weights = np.cumsum(counts[:, clusters], axis=1)
    reached = weights >= share * weights[:, -1:] - 1e-9
    return np.asarray(values[np.argmax(reached, axis=1)], dtype=np.float64)


def values_needed(share: float, level: float = 0.95) -> int:
    """Return how many independent values bound the `share` quantile on both sides at all."""
    tail = (1.0 - level) / 2.0
    return math.ceil(math.log(tail) / math.log(max(share, 1.0 - share)))


def quantile_ranks(n: int, share: float, level: float) -> tuple[int, int] | None:
    """Return the ranks (from 1) of the two values that bound the quantile, or None where `n` is too small."""
    tail = (1.0 - level) / 2.0
    # P(X_(low) > q) = P(at most low − 1 values below q)
    if n < 2 or binomial_cdf(0, n, share) > tail or binomial_cdf(n - 1, n, share) < 1.0 - tail:
        return None
    low = _first(lambda k: binomial_cdf(k, n, share) > tail, n)
    high = _first(lambda k: binomial_cdf(k, n, share) >= 1.0 - tail, n) + 1
    return low, high


def _independent(below: NDArray[np.bool_], clusters: NDArray[np.int64], n_clusters: int) -> float:
    share = float(below.mean())
    residuals = np.bincount(clusters, weights=below - share, minlength=n_clusters)
    variance = n_clusters / max(1, n_clusters - 1) * float(np.sum(residuals**2)) / len(below) ** 2
    if variance <= 0.0:
        return float(n_clusters)
    return min(float(len(below)), share * (1.0 - share) / variance)


def _first(holds: Callable[[int], bool], n: int) -> int:
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _flatten(
    cases: Sequence[ScoredCase], known: Mapping[str, tuple[bool, str]] | None = None
) -> tuple[FloatArray, NDArray[np.int64]]:
    """All values, and the number of the cluster of each; with `known` clusters both sides number them alike."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(known.values()))} if known else {}
    values: list[float] = []
    clusters: list[int] = []
    for case in cases:
        key = (case.group is not None, case.group if case.group is not None else case.case_id)
        if known is not None:
            key = known[case.case_id]
        for value in case.values:
            if math.isfinite(value):
                values.append(value)
                clusters.append(numbers.setdefault(key, len(numbers)))
    return np.array(values, dtype=np.float64), np.array(clusters, dtype=np.int64)
