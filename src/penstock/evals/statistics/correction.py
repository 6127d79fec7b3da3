"""Estimates of what people would say, from many judged outputs and few that people labelled.

Sources: Rogan and Gladen 1978 with the error of calibration as in Lee et al., arXiv 2511.21140; Angelopoulos et al.,
Prediction-Powered Inference, Science 382 (2023), and PPI++, arXiv 2311.01453, for its power tuning.
"""

import math
from collections.abc import Sequence

import numpy as np

from penstock.evals.statistics.distributions import normal_quantile, t_quantile
from penstock.evals.statistics.means import standard_error
from penstock.evals.statistics.samples import Sample, make_sample
from penstock.evals.statistics.types import FloatArray, Interval, ScoredCase


def rogan_gladen(
    *,
    n_judged: int,
    n_judged_positive: int,
    n_positive: int,
    n_true_positive: int,
    n_negative: int,
    n_true_negative: int,
    level: float = 0.95,
) -> Interval:
    """Return the true share of positives, and the interval that includes the error of the calibration.

    Of `n_positive` human positives the judge found `n_true_positive`, of `n_negative` negatives `n_true_negative`.
    No value when the judge may tell nothing (sensitivity + specificity not surely above 1): `method` says so.
    """
    for part, whole in (
        (n_judged_positive, n_judged),
        (n_true_positive, n_positive),
        (n_true_negative, n_negative),
    ):
        if not 0 <= part <= whole:
            raise ValueError("a part cannot be larger than its whole")
    if not (n_judged and n_positive and n_negative):
        missing = "no output was judged" if not n_judged else "no human label of one of the two kinds"
        return Interval(value=None, low=None, high=None, level=level, method=f"undefined: {missing}")
    z = normal_quantile(0.5 + level / 2.0)
    plain = _Corrected(
        n_judged_positive / n_judged, n_true_negative / n_negative, n_true_positive / n_positive
    )
    # shares drawn a little towards 1/2 (Agresti and Coull), so that 100 of 100 are not taken for certainty
    drawn = _Corrected(
        (n_judged_positive + z * z / 2.0) / (n_judged + z * z),
        (n_true_negative + 1.0) / (n_negative + 2.0),
        (n_true_positive + 1.0) / (n_positive + 2.0),
    )
    doubt = z * math.sqrt(
        drawn.specificity * (1.0 - drawn.specificity) / (n_negative + 2.0)
        + drawn.sensitivity * (1.0 - drawn.sensitivity) / (n_positive + 2.0)
    )
    if plain.power <= 0.0 or drawn.power <= doubt:
        method = "undefined: on these labels the judge is not surely better than chance"
        return Interval(value=None, low=None, high=None, level=level, method=method)
    value = min(1.0, max(0.0, plain.share))
    middle = min(1.0, max(0.0, drawn.share))
    variance = (
        drawn.judged * (1.0 - drawn.judged) / (n_judged + z * z)
        + (1.0 - middle) ** 2 * drawn.specificity * (1.0 - drawn.specificity) / (n_negative + 2.0)
        + middle**2 * drawn.sensitivity * (1.0 - drawn.sensitivity) / (n_positive + 2.0)
    )
    half = z * math.sqrt(variance) / drawn.power
    return Interval(
        value=value,
        low=min(value, max(0.0, drawn.share - half)),
        high=max(value, min(1.0, drawn.share + half)),
        level=level,
        method=f"Rogan-Gladen, {n_positive + n_negative} labels",
        n=n_judged,
    )


class _Corrected:
    """The judge's share of positives, its two rates, and the true share that follows."""

    def __init__(self, judged: float, specificity: float, sensitivity: float) -> None:
        self.judged, self.specificity, self.sensitivity = judged, specificity, sensitivity
        self.power = specificity + sensitivity - 1.0
        self.share = (judged + specificity - 1.0) / self.power if self.power else 0.0


def ppi_mean(
    labels: Sequence[float],
    judged_labelled: Sequence[float],
    judged_unlabelled: Sequence[float],
    *,
    groups: Sequence[str | None] | None = None,
    unlabelled_groups: Sequence[str | None] | None = None,
    tuning: float | None = None,
    level: float = 0.95,
) -> Interval:
    """Return the mean of what people would say over all outputs: prediction-powered, power-tuned (PPI++).

    `judged_labelled` are the judge's values of the outputs that have `labels`, in the same order; the labelled
    must be a random part of all outputs. `tuning` None estimates it, 1 is plain PPI, 0 uses the labels alone.
    """
    if len(labels) != len(judged_labelled):
        raise ValueError("each label needs the judge's value of the same output")
    few = _sample(labels, groups)
    many = _sample(judged_unlabelled, unlabelled_groups)
    if few.n < 2 or few.n_clusters < 2:
        method = "undefined: two labels of two groups are the least"
        return Interval(value=None, low=None, high=None, level=level, method=method)
    is_tuned = tuning is None
    tuning = 0.0 if tuning is None else tuning
    truth, judged = few.values, np.array(judged_labelled, dtype=np.float64)
    if many.n < 2 or many.n_clusters < 2:
        tuning = 0.0
        is_tuned = False
    elif is_tuned:
        tuning = _tune(truth, judged, many.values)
    error = standard_error(truth - tuning * judged, few) or 0.0
    if (
        is_tuned
    ):  # a weight fitted to the same labels makes them look better than they are, by a degree of freedom
        error *= math.sqrt((few.n_clusters - 1) / max(1, few.n_clusters - 2))
    value = float((truth - tuning * judged).mean())
    if tuning:
        value += tuning * float(many.values.mean())
        error = math.hypot(error, tuning * (standard_error(many.values, many) or 0.0))
    method = f"prediction-powered, {few.n} labels, tuning {tuning:.2f}" if tuning else f"{few.n} labels alone"
    half = t_quantile(0.5 + level / 2.0, few.n_clusters - 1) * error
    known = error > 0.0
    return Interval(
        value=value,
        low=value - half if known else None,
        high=value + half if known else None,
        level=level,
        method=method if known else "none: labels do not vary",
        n=few.n + many.n,
        n_groups=few.n_groups,
    )


def _tune(truth: FloatArray, judged: FloatArray, unlabelled: FloatArray) -> float:
    """The weight of the judge with the smallest variance: 0 where it says nothing, near 1 where it is like people."""
    variance = float(np.var(np.concatenate([judged, unlabelled]), ddof=1))
    if variance <= 0.0:
        return 0.0
    covariance = float(np.cov(truth, judged)[0, 1])
    return min(1.0, max(0.0, covariance / ((1.0 + len(truth) / len(unlabelled)) * variance)))


def _sample(values: Sequence[float], groups: Sequence[str | None] | None) -> Sample:
    if not all(math.isfinite(value) for value in values):
        raise ValueError("labels and judged values are numbers")
    return make_sample(
        [
            ScoredCase(
                case_id=str(position), group=groups[position] if groups else None, values=[float(value)]
            )
            for position, value in enumerate(values)
        ]
    )
