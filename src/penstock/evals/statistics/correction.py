"""Estimates of what people would say, from many judged outputs and few that people labelled.

Sources: Rogan and Gladen 1978 with the error of calibration as in Lee et al., arXiv 2511.21140; Angelopoulos et al.,
Prediction-Powered Inference, Science 382 (2023), and PPI++, arXiv 2311.01453, for its power tuning.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penstock.base.distributions import normal_quantile, t_quantile
from penstock.evals.statistics.means import cautious_error, is_constant, standard_error
from penstock.evals.statistics.samples import Sample, make_sample
from penstock.evals.statistics.types import FloatArray, Interval, ScoredCase


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share and how much it rests on."""

    value: float
    worth: float
    """As many independent cases would tell as much: fewer than there are where cases of one group are alike."""
    freedom: float = math.inf
    """Degrees of freedom of its spread; infinite where cases stand alone, 0 where all are in one group."""


def share_of(cases: Sequence[ScoredCase]) -> Share | None:
    """Return the mean of values between 0 and 1 with what it is worth, by group; None without a score.

    What does not vary is worth one case a group: nothing then says that cases of one group are not all alike.
    """
    sample = make_sample(cases)
    if not sample.n:
        return None
    value = min(1.0, max(0.0, float(sample.values.mean())))
    if not sample.is_grouped:
        return Share(value=value, worth=float(sample.n))
    error = cautious_error(sample.values, sample) or 0.0
    worth = float(sample.n_clusters)
    if error > 0.0 and not is_constant(sample.values):
        worth = min(float(sample.n), max(1.0, value * (1.0 - value) / error**2))
    return Share(value=value, worth=worth, freedom=float(sample.n_clusters - 1))


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

    Of `n_positive` human positives the judge found `n_true_positive`, of `n_negative` negatives `n_true_negative`, each case
    alone. No value when the judge may tell nothing (sensitivity + specificity not surely above 1): `method` says so.
    """
    shares = []
    for part, whole in (
        (n_judged_positive, n_judged),
        (n_true_positive, n_positive),
        (n_true_negative, n_negative),
    ):
        if not 0 <= part <= whole:
            raise ValueError("a part cannot be larger than its whole")
        shares.append(Share(value=part / whole, worth=float(whole)) if whole else None)
    judged, sensitivity, specificity = shares
    return correct_share(
        judged, sensitivity, specificity, n_judged=n_judged, n_labels=n_positive + n_negative, level=level
    )


def correct_share(
    judged: Share | None,
    sensitivity: Share | None,
    specificity: Share | None,
    *,
    n_judged: int,
    n_labels: int,
    covariance: float = 0.0,
    level: float = 0.95,
) -> Interval:
    """Return Rogan and Gladen's estimate from shares that may be clustered.

    `covariance` of the two rates, of labels whose groups hold yes and no; counted where it makes the interval wider. No
    interval where all judged cases, and no value where all labels of one kind, are in one group.
    """
    if judged is None or sensitivity is None or specificity is None:
        missing = "no output was judged" if judged is None else "no human label of one of the two kinds"
        return _without_value(f"undefined: {missing}", level)
    if not (sensitivity.freedom and specificity.freedom):
        return _without_value("undefined: all labels of one of the two kinds are in one group", level)
    z = normal_quantile(0.5 + level / 2.0)
    plain = _Corrected(judged.value, specificity.value, sensitivity.value)
    # shares drawn a little towards 1/2 (Agresti and Coull), so that 100 of 100 are not taken for certainty
    drawn = _Corrected(_draw(judged, z * z / 2.0), _draw(specificity, 1.0), _draw(sensitivity, 1.0))
    of_negatives = drawn.specificity * (1.0 - drawn.specificity) / (specificity.worth + 2.0)
    of_positives = drawn.sensitivity * (1.0 - drawn.sensitivity) / (sensitivity.worth + 2.0)
    rates = ((of_negatives, specificity.freedom), (of_positives, sensitivity.freedom))
    doubt = _half(rates, max(0.0, 2.0 * covariance), level)
    if plain.power <= 0.0 or drawn.power <= doubt:
        return _without_value("undefined: on these labels the judge is not surely better than chance", level)
    value = min(1.0, max(0.0, plain.share))
    method = f"Rogan-Gladen, {n_labels} labels"
    if not judged.freedom:
        method = f"{method}; no interval: all cases are in one group"
        return Interval(value=value, low=None, high=None, level=level, method=method, n=n_judged)
    middle = min(1.0, max(0.0, drawn.share))
    parts = (
        (drawn.judged * (1.0 - drawn.judged) / (judged.worth + z * z), judged.freedom),
        ((1.0 - middle) ** 2 * of_negatives, specificity.freedom),
        (middle**2 * of_positives, sensitivity.freedom),
    )
    half = _half(parts, max(0.0, -2.0 * middle * (1.0 - middle) * covariance), level) / drawn.power
    return Interval(
        value=value,
        low=min(value, max(0.0, drawn.share - half)),
        high=max(value, min(1.0, drawn.share + half)),
        level=level,
        method=method,
        n=n_judged,
    )


def _draw(share: Share, weight: float) -> float:
    return (share.value * share.worth + weight) / (share.worth + 2.0 * weight)


def _half(parts: Sequence[tuple[float, float]], more: float, level: float) -> float:
    """Half the interval of a sum of variances with their degrees of freedom: t's, with Satterthwaite's for the sum."""
    total = math.fsum(variance for variance, _ in parts)
    lost = math.fsum(variance**2 / freedom for variance, freedom in parts)
    tail = 0.5 + level / 2.0
    quantile = t_quantile(tail, total**2 / lost) if lost > 0.0 else normal_quantile(tail)
    return quantile * math.sqrt(total + more)


def _without_value(method: str, level: float) -> Interval:
    return Interval(value=None, low=None, high=None, level=level, method=method)


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
