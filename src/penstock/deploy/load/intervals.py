"""Intervals of what calls of one run show. Pure.

Neighbouring calls are alike: a queue that is long for one is long for the next. Counting them as independent makes intervals
too narrow, so each is made for the number of independent calls that would tell as much (`effective_count`).
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from penstock.base.distributions import beta_cdf, normal_quantile, t_quantile
from penstock.deploy.load.types import Estimate

MIN_SLICES = 5
LEAST_EFFECTIVE = 10.0
"""Where a queue grows all the time no two halves of a run are alike, and no correlation tells how much is known; that calls
came too late is clear all the same."""
_DECIMALS = 3
"""Of a millisecond: what a clock cannot tell apart is equal."""
_SLICES = 12


def effective_count(flags: "np.ndarray") -> float:
    """Return how many independent values tell as much about a share as these, which are in the order they were made.

    By the sum of autocorrelations, ended where a pair of neighbouring lags adds nothing (Geyer's initial positive sequence).
    """
    n = len(flags)
    if n < 4:
        return float(n)
    centred = flags.astype(np.float64) - flags.mean()
    variance = float(centred @ centred)
    if variance <= 0:
        return float(n)
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    correlations = np.fft.irfft(spectrum * np.conj(spectrum), size)[: max(2, n // 3)] / variance
    total = 0.0
    for lag in range(1, len(correlations) - 1, 2):
        pair = float(correlations[lag] + correlations[lag + 1])
        if pair <= 0:
            break
        total += pair
    return min(float(n), max(LEAST_EFFECTIVE, n / (1 + 2 * total)))


def quantile_estimate(values: Sequence[float], share: float, *, level: float = 0.95) -> Estimate | None:
    """Return the `share` quantile of values in the order they were made, with an interval from order statistics.

    A failed call may stand in as infinity: it is slower than any bound. A bound that so few values cannot give is None, as
    is a value that lies among the failed.
    """
    n = len(values)
    if n == 0:
        return None
    data = np.round(np.asarray(values, np.float64), _DECIMALS)
    ordered = np.sort(data)
    value = _at(ordered, share)
    n_effective = effective_count(data <= value)
    tail = (1 - level) / 2
    # how many values are at most the true quantile is binomial, so its rank is between two of these
    least, most = _ranks(n_effective, share, tail)
    low = None if least < 1 else float(ordered[math.floor(least / n_effective * n) - 1])
    high = None if most > n_effective else float(ordered[min(n, math.ceil(most / n_effective * n)) - 1])
    return Estimate(value=_finite(value), low=_finite(low), high=_finite(high), n=n)


def plain_quantile(values: Sequence[float], share: float) -> float | None:
    """Return the `share` quantile alone."""
    return _at(np.sort(np.asarray(values, np.float64)), share) if len(values) else None


def share_estimate(flags: Sequence[bool], *, level: float = 0.95) -> Estimate | None:
    """Return the share of true flags, in the order they were made, with Wilson's interval."""
    n = len(flags)
    if n == 0:
        return None
    data = np.asarray(flags, bool)
    share = float(data.mean())
    n_effective, z = effective_count(data), normal_quantile((1 + level) / 2)
    square = z * z
    centre = (share + square / (2 * n_effective)) / (1 + square / n_effective)
    half = (
        z
        / (1 + square / n_effective)
        * math.sqrt(share * (1 - share) / n_effective + square / (4 * n_effective**2))
    )
    low = 0.0 if share == 0 else max(0.0, centre - half)
    high = 1.0 if share == 1 else min(1.0, centre + half)
    return Estimate(value=share, low=low, high=high, n=n)


def mean_estimate(values: Sequence[float], *, level: float = 0.95) -> Estimate | None:
    """Return the mean of independent values with Student's interval; without one for fewer than two."""
    n = len(values)
    if n == 0:
        return None
    mean = float(np.mean(values))
    if n < 2:
        return Estimate(value=mean, n=n)
    half = t_quantile((1 + level) / 2, n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Estimate(value=mean, low=mean - half, high=mean + half, n=n)


def series_mean_estimate(values: Sequence[float], *, level: float = 0.95) -> Estimate | None:
    """Return the mean of values in the order they were made, with Student's interval for as many as are independent."""
    plain = mean_estimate(values, level=level)
    if plain is None or plain.value is None or plain.low is None:
        return plain
    n_effective = effective_count(np.asarray(values, np.float64))
    spread = float(np.std(values, ddof=1)) / math.sqrt(n_effective)
    half = t_quantile((1 + level) / 2, max(1.0, n_effective - 1)) * spread
    return Estimate(value=plain.value, low=plain.value - half, high=plain.value + half, n=plain.n)


def rate_estimate(
    at_s: Sequence[float], amounts: Sequence[float], start_s: float, end_s: float, *, level: float = 0.95
) -> Estimate | None:
    """Return what came a second between two moments, with an interval over slices of equal length.

    Each amount counts where it came. None without time; no interval for fewer than a handful of amounts.
    """
    if end_s <= start_s:
        return None
    rate = float(sum(amounts)) / (end_s - start_s)
    if len(at_s) < 2 * MIN_SLICES:
        return Estimate(value=rate, n=len(at_s))
    n_slices = min(_SLICES, len(at_s) // 2)
    width = (end_s - start_s) / n_slices
    sums, _ = np.histogram(at_s, bins=n_slices, range=(start_s, end_s), weights=np.asarray(amounts, float))
    spread = float(np.std(sums / width, ddof=1)) / math.sqrt(n_slices)
    half = t_quantile((1 + level) / 2, n_slices - 1) * spread
    return Estimate(value=rate, low=max(0.0, rate - half), high=rate + half, n=len(at_s))


def clustered_quantile(
    counts: "np.ndarray", middles: "np.ndarray", share: float, *, level: float, seed: int, rounds: int = 200
) -> Estimate | None:
    """Return a quantile over all that calls counted in buckets, with a bootstrap interval over calls.

    `counts` is calls × buckets. Times within a call are alike, so calls are drawn again, not times.
    """
    total = counts.sum(axis=0)
    if total.sum() == 0:
        return None
    value = _bucket_quantile(total[None, :], middles, share)[0]
    if len(counts) < 5:
        return Estimate(value=_finite(float(value)), n=int(total.sum()))
    rng = np.random.default_rng(seed)
    chosen = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=rounds)
    again = _bucket_quantile(chosen.astype(np.float64) @ counts.astype(np.float64), middles, share)
    # the nearest that was drawn: between one that has an end and one that has none nothing can be interpolated
    low, high = np.quantile(again, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return Estimate(
        value=_finite(float(value)),
        low=_finite(float(low)),
        high=_finite(float(high)),
        n=int(total.sum()),
    )


def _bucket_quantile(sums: "np.ndarray", middles: "np.ndarray", share: float) -> "np.ndarray":
    grown = np.cumsum(sums, axis=1)
    at = np.minimum((grown < share * grown[:, -1:]).sum(axis=1), len(middles) - 1)
    return np.asarray(middles[at])


@lru_cache(maxsize=4096)
def _ranks(n: float, share: float, tail: float) -> tuple[int, int]:
    """The order statistics between which the quantile lies; the first is 0, the second over `n`, where none is far enough."""
    low, high = 0, math.floor(n) + 1
    while low < high:  # the first rank that is too high for the lower bound
        middle = (low + high) // 2
        if _chance_of_at_most(middle, n, share) <= tail:
            low = middle + 1
        else:
            high = middle
    least = low
    low, high = 1, math.floor(n) + 1
    while low < high:
        middle = (low + high) // 2
        if _chance_of_at_most(middle - 1, n, share) >= 1 - tail:
            high = middle
        else:
            low = middle + 1
    most = low
    return least, most


def _chance_of_at_most(count: int, n: float, share: float) -> float:
    """The binomial distribution, for numbers of tries that need not be whole."""
    return 1.0 if count >= n else beta_cdf(1 - share, n - count, count + 1)


def _at(ordered: "np.ndarray", share: float) -> float:
    """The order statistic that has at least `share` of all at or below it; nothing is interpolated."""
    return float(ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered) - 1e-9) - 1))])


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value
