"""Intervals of means whose cases may stand in clusters.

The variance is that of the sums of each cluster's residuals, times G / (G − 1), and the quantile is t's with G − 1 degrees of
freedom (G clusters): Miller, Adding Error Bars to Evals, arXiv 2411.00640; Cameron and Miller, A Practitioner's Guide to
Cluster-Robust Inference, 2015. With every case alone this is the ordinary t interval.

For scores with bounds the interval is Wilson's with the number of cases that a share of the same variance would need
(Korn and Graubard 1998; Dean and Pavlou 2015): it stays within the bounds and is lopsided near them, as it must be.
"""

import math

import numpy as np

from penstock.evals.statistics.distributions import t_quantile
from penstock.evals.statistics.samples import Sample
from penstock.evals.statistics.shares import wilson
from penstock.evals.statistics.types import FloatArray, Interval

NO_CASE = "no case has a score"
ONE_CASE = "none: one case has no spread"
ONE_GROUP = "none: all cases are in one group"


def standard_error(values: FloatArray, sample: Sample) -> float | None:
    """Return the standard error of the mean of `values`, by cluster; None with fewer than two clusters."""
    if sample.n_clusters < 2:
        return None
    residuals = sample.by_cluster(values - values.mean())
    factor = sample.n_clusters / (sample.n_clusters - 1)
    return math.sqrt(factor * float(np.sum(residuals**2))) / len(values)


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
    values: FloatArray, sample: Sample, level: float, *, low: float, high: float, is_binary: bool
) -> Interval:
    """Return the score interval of the mean of values between `low` and `high`."""
    value = float(values.mean()) if len(values) else None
    none = no_interval(sample, value, level)
    if none is not None or value is None:
        return none or _interval(sample, None, None, level, NO_CASE)
    width = high - low
    share = min(1.0, max(0.0, (value - low) / width))
    if is_binary and not sample.is_grouped and sample.is_single:
        bounds, method = wilson(share, sample.n, level), "wilson"
    else:
        error = (standard_error(values, sample) or 0.0) / width
        if is_constant(values):
            error = 0.0
        # without spread, or at a bound, only the number of clusters says how much is known
        effective = share * (1.0 - share) / error**2 if error > 0.0 else 0.0
        if is_binary:
            effective = min(effective, float(sample.n))
        quantile = t_quantile(0.5 + level / 2.0, sample.n_clusters - 1)
        bounds = wilson(share, effective or sample.n_clusters, level, quantile=quantile)
        method = f"score interval with t{_by_group(sample)}"
    scaled = (low + width * bounds[0], low + width * bounds[1])
    return _interval(sample, value, (min(scaled[0], value), max(scaled[1], value)), level, method)


def mean_difference(
    differences: FloatArray, sample: Sample, level: float, *, width: float | None
) -> Interval:
    """Return the t interval of the mean of paired differences; `width` is that of the score's range, if it has one."""
    value = float(differences.mean()) if len(differences) else None
    none = no_interval(sample, value, level)
    if none is not None or value is None:
        return none or _interval(sample, None, None, level, NO_CASE)
    error = standard_error(differences, sample)
    if error and not is_constant(differences):
        half = t_quantile(0.5 + level / 2.0, sample.n_clusters - 1) * error
        low, high = value - half, value + half
        if width is not None:
            low, high = max(low, -width), min(high, width)
        return _interval(sample, value, (low, high), level, f"paired t{_by_group(sample)}")
    if width is None:
        return _interval(sample, value, None, level, "none: all differences are the same")
    # Nothing differs from the rest, so the spread is unknown; but a pair that does may be this rare and go unseen.
    unseen = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / sample.n_clusters)
    middle = (1.0 - unseen) * value
    bounds = (max(-width, middle - unseen * width), min(width, middle + unseen * width))
    return _interval(sample, value, bounds, level, "all differences are the same: bound of what was not seen")


def is_constant(values: FloatArray) -> bool:
    """Return whether all values are the same but for rounding."""
    spread = float(values.max() - values.min())
    return spread <= 1e-12 * max(1.0, float(np.abs(values).max()))


def _by_group(sample: Sample) -> str:
    return f", clustered by {sample.n_clusters} groups" if sample.is_grouped else ""


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
