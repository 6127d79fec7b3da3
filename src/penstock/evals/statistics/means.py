"""Intervals of means whose cases may stand in clusters.

The variance is that of the sums of each cluster's residuals, times G / (G − 1), and the quantile is t's with G − 1 degrees of
freedom (G clusters): Miller, Adding Error Bars to Evals, arXiv 2411.00640; Cameron and Miller, A Practitioner's Guide to
Cluster-Robust Inference, 2015. With every case alone this is the ordinary t interval.

For scores with bounds the interval is Wilson's with the number of cases that a share of the same variance would need
(Korn and Graubard 1998; Dean and Pavlou 2015): it stays within the bounds and is lopsided near them, as it must be.

Where nothing varies, nothing tells how alike the cases of a group are, and `ASSUMED_CORRELATION` is taken. What was not seen is
then bounded as Clopper and Pearson bound zero of n, with the beta-binomial chance that a whole group shows nothing
(Williams 1975): at a correlation of 0 each case counts, at 1 each group counts as one.
"""

import math

import numpy as np

from penstock.base.distributions import t_quantile
from penstock.evals.statistics.samples import Sample
from penstock.evals.statistics.shares import wilson
from penstock.evals.statistics.types import FloatArray, Interval

NO_CASE = "no case has a score"
ONE_CASE = "none: one case has no spread"
ONE_GROUP = "none: all cases are in one group"
ASSUMED_CORRELATION = 0.5
"""Of cases of one group, where the scores themselves cannot tell. Miller (2024) finds standard errors by cluster up to three times
as large as without, in public evaluations of some 16 questions a text: 9 = 1 + 15 × 0.53."""
ENOUGH_CLUSTERS = 10
"""So many groups (or cases that stand alone) with something out of the ordinary tell their own spread."""


def standard_error(values: FloatArray, sample: Sample) -> float | None:
    """Return the standard error of the mean of `values`, by cluster; None with fewer than two clusters."""
    if sample.n_clusters < 2:
        return None
    residuals = sample.by_cluster(values - values.mean())
    factor = sample.n_clusters / (sample.n_clusters - 1)
    return math.sqrt(factor * float(np.sum(residuals**2))) / len(values)


def cautious_error(values: FloatArray, sample: Sample) -> float | None:
    """Return the standard error by cluster, taken partly as assumed where few groups hold anything out of the ordinary.

    Three odd cases may lie in three groups by luck: a spread seen in few groups does not tell how alike their cases are.
    """
    error = standard_error(values, sample)
    if error is None or not sample.is_grouped:
        return error
    known = known_share(values, sample)
    assumed = float(np.var(values, ddof=1)) / worth(sample)
    return math.sqrt(known * error**2 + (1.0 - known) * max(error**2, assumed))


def known_share(values: FloatArray, sample: Sample) -> float:
    """Return 0 to 1: how far the spread is known, by the number of clusters with anything out of the ordinary."""
    common = float(np.median(values))
    odd = np.abs(values - common) > 1e-12 * max(1.0, abs(common))
    n_odd = int(np.count_nonzero(sample.by_cluster(odd.astype(np.float64))))
    return min(1.0, n_odd / min(ENOUGH_CLUSTERS, sample.n_clusters))


def worth(sample: Sample) -> float:
    """Return how many independent cases these are worth for something rare, at `ASSUMED_CORRELATION`.

    At 0.5 a group of m is worth 1 + 1/2 + … + 1/m: the first case tells most.
    """
    weights, counts = _weights(sample)
    return float(np.sum(weights * counts))


def unseen_share(sample: Sample, level: float, *, times: float = 1.0) -> float:
    """Return the largest share of cases that may be otherwise though none was seen to be, in `times` as many groups."""
    weights, counts = _weights(sample)
    tail = math.log((1.0 - level) / 2.0)
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if times * float(np.sum(counts * np.log1p(-middle * weights))) > tail:
            low = middle
        else:
            high = middle
    return high


def _weights(sample: Sample) -> tuple[FloatArray, FloatArray]:
    """How much the first, second … case of a group tells, and how many groups have so many."""
    sizes = sample.sizes
    place = np.arange(int(sizes.max()), dtype=np.float64)
    strength = 1.0 / ASSUMED_CORRELATION - 1.0
    counts = np.array([np.sum(sizes > position) for position in place], dtype=np.float64)
    return np.asarray(strength / (strength + place), dtype=np.float64), counts


def no_interval(sample: Sample, value: float | None, level: float) -> Interval | None:
    """Return the interval-less answer where none can be made, or None where one can."""
    if sample.n >= 2 and sample.n_clusters >= 2:
        return None
    method = NO_CASE if not sample.n else ONE_CASE if sample.n == 1 else ONE_GROUP
    return _interval(sample, value, None, level, method)


def unbounded_mean(values: FloatArray, sample: Sample, level: float) -> Interval:
    """Return the t interval of the mean of values without bounds."""
    value = float(values.mean()) if len(values) else None
    none = no_interval(sample, value, level)
    if none is not None or value is None:
        return none or _interval(sample, None, None, level, NO_CASE)
    error = standard_error(values, sample)
    if not error or is_constant(values):
        return _interval(sample, value, None, level, "none: all values are the same")
    half = t_quantile(0.5 + level / 2.0, sample.n_clusters - 1) * error
    return _interval(sample, value, (value - half, value + half), level, f"t{_by_group(sample)}")


def bounded_mean(
    values: FloatArray,
    sample: Sample,
    level: float,
    *,
    low: float,
    high: float,
    is_binary: bool,
    times: float = 1.0,
) -> Interval:
    """Return the score interval of the mean of values between `low` and `high`.

    `times`: of as many times the cases and groups, all like these; for what does not vary.
    """
    value = float(values.mean()) if len(values) else None
    none = no_interval(sample, value, level)
    if none is not None or value is None:
        return none or _interval(sample, None, None, level, NO_CASE)
    width = high - low
    share = min(1.0, max(0.0, (value - low) / width))
    if is_binary and not sample.is_grouped and sample.is_single:
        bounds, method = wilson(share, times * sample.n, level), "wilson"
    else:
        error = 0.0 if is_constant(values) else (cautious_error(values, sample) or 0.0) / width
        effective = share * (1.0 - share) / error**2 if error > 0.0 else 0.0
        if is_binary:
            effective = min(effective, float(sample.n))
        quantile = t_quantile(0.5 + level / 2.0, max(1, round(times * sample.n_clusters) - 1))
        # without spread, or at a bound, only the number of cases says how much is known
        bounds = wilson(share, effective or times * worth(sample), level, quantile=quantile)
        method = f"score interval with t{_by_group(sample)}{'' if effective else _assumed(sample)}"
    scaled = (low + width * bounds[0], low + width * bounds[1])
    return _interval(sample, value, (min(scaled[0], value), max(scaled[1], value)), level, method)


def mean_difference(
    differences: FloatArray,
    sample: Sample,
    level: float,
    *,
    reach: tuple[float, float] | None,
    times: float = 1.0,
) -> Interval:
    """Return the t interval of the mean of paired differences; `reach` is between what they can be, if that has bounds.

    `times`: of as many times the cases and groups, all like these; for what does not vary.
    """
    value = float(differences.mean()) if len(differences) else None
    none = no_interval(sample, value, level)
    if none is not None or value is None:
        return none or _interval(sample, None, None, level, NO_CASE)
    error = cautious_error(differences, sample)
    if error and not is_constant(differences):
        half = t_quantile(0.5 + level / 2.0, sample.n_clusters - 1) * error
        if reach is not None:
            # few that differ may be few by luck: of what was not seen as much counts as they leave unknown
            half = max(
                half,
                (1.0 - known_share(differences, sample)) * unseen_share(sample, level) * max(map(abs, reach)),
            )
        low, high = value - half, value + half
        if reach is not None:
            low, high = min(max(low, reach[0]), value), max(min(high, reach[1]), value)
        return _interval(sample, value, (low, high), level, f"paired t{_by_group(sample)}")
    if reach is None:
        return _interval(sample, value, None, level, "none: all differences are the same")
    # Nothing differs from the rest, so the spread is unknown; but a pair that does may be this rare and go unseen.
    unseen = unseen_share(sample, level, times=times)
    middle = (1.0 - unseen) * value
    bounds = (min(middle + unseen * reach[0], value), max(middle + unseen * reach[1], value))
    method = f"all differences are the same: bound of what was not seen{_assumed(sample)}"
    return _interval(sample, value, bounds, level, method)


def is_constant(values: FloatArray) -> bool:
    """Return whether all values are the same but for rounding."""
    spread = float(values.max() - values.min())
    return spread <= 1e-12 * max(1.0, float(np.abs(values).max()))


def _by_group(sample: Sample) -> str:
    return f", clustered by {sample.n_clusters} groups" if sample.is_grouped else ""


def _assumed(sample: Sample) -> str:
    return f", correlation {ASSUMED_CORRELATION:g} within groups assumed" if sample.is_grouped else ""


def _interval(
    sample: Sample, value: float | None, bounds: tuple[float, float] | None, level: float, method: str
) -> Interval:
    return Interval(
        value=value,
        low=None if bounds is None else bounds[0],
        high=None if bounds is None else bounds[1],
        level=level,
        method=method,
        n=sample.n,
        n_groups=sample.n_groups,
    )
