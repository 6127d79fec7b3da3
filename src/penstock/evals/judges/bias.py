"""Ways in which judges err that have nothing to do with the answer: place, length, kinship. Pure figures with intervals."""

import math
from collections.abc import Mapping, Sequence

from penstock.evals.judges.types import Figure
from penstock.evals.statistics.distributions import normal_quantile
from penstock.evals.statistics.estimates import estimate
from penstock.evals.statistics.types import PlainMeasure, ScoredCase

PREVALENCES = (0.5, 0.7, 0.9, 0.95, 0.98)
MIN_CORRELATED = 10
_LEVEL = 0.95


def share_figure(hits: Sequence[bool], groups: Sequence[str | None] | None = None) -> Figure:
    """Return the share of hits with its interval."""
    return mean_figure([float(hit) for hit in hits], groups, scale="binary")


def mean_figure(
    values: Sequence[float],
    groups: Sequence[str | None] | None = None,
    *,
    scale: str = "unbounded",
) -> Figure:
    """Return the mean with its interval, by group where there are groups."""
    cases = [
        ScoredCase(case_id=str(number), group=groups[number] if groups else None, values=[value])
        for number, value in enumerate(values)
    ]
    measure = (
        PlainMeasure(name="share", scale="binary")
        if scale == "binary"
        else PlainMeasure(name="mean", scale="unbounded", low=None, high=None)
    )
    found = estimate(cases, measure)
    return Figure(value=found.value, low=found.low, high=found.high, method=found.method, n=found.n)


def correlate(first: Sequence[float], second: Sequence[float], *, n_controlled: int = 0) -> Figure:
    """Return Pearson's correlation with Fisher's interval; None where one of the two does not vary.

    `n_controlled` is the number of further variables whose effect was taken out of both before.
    """
    n = len(first)
    if n < MIN_CORRELATED + n_controlled:
        return Figure(value=None, method=f"undefined: {n} outputs are too few", n=n)
    mean_a, mean_b = math.fsum(first) / n, math.fsum(second) / n
    a, b = [value - mean_a for value in first], [value - mean_b for value in second]
    power = math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))
    if power <= 1e-12:
        return Figure(value=None, method="undefined: one of the two does not vary", n=n)
    r = max(-1.0, min(1.0, math.fsum(x * y for x, y in zip(a, b, strict=True)) / power))
    if abs(r) >= 1.0 - 1e-12:
        return Figure(value=r, method="none: they go together without exception", n=n)
    half = normal_quantile(0.5 + _LEVEL / 2) / math.sqrt(n - 3 - n_controlled)
    centre = math.atanh(r)
    return Figure(
        value=r, low=math.tanh(centre - half), high=math.tanh(centre + half), method="Pearson, Fisher z", n=n
    )


def measure_length_bias(
    judged: Sequence[float], lengths: Sequence[int], human: Sequence[float | str]
) -> Figure:
    """Return the correlation of the judge's value with log length, among outputs that people hold equal.

    Both are taken relative to the mean of the outputs with the same human label, so that good answers being long
    is no bias. Numbers of people with many different values are cut into quarters.
    """
    strata = _strata(human)
    logs = [math.log1p(length) for length in lengths]
    return correlate(
        _within(judged, strata), _within(logs, strata), n_controlled=max(0, len(set(strata)) - 1)
    )


def measure_kinship(judged: Sequence[float], human: Sequence[float], is_own: Sequence[bool]) -> Figure | None:
    """Return how much further above people the judge rates answers of its own model than others; None without both."""
    errors = [value - truth for value, truth in zip(judged, human, strict=True)]
    own = [error for error, mine in zip(errors, is_own, strict=True) if mine]
    others = [error for error, mine in zip(errors, is_own, strict=True) if not mine]
    if len(own) < 2 or len(others) < 2:
        return None
    first, second = mean_figure(own), mean_figure(others)
    assert first.value is not None
    assert second.value is not None
    value = first.value - second.value
    spread = _variance(own) / len(own) + _variance(others) / len(others)
    if spread <= 0.0:
        return Figure(value=value, method="none: errors do not vary", n=len(errors))
    half = normal_quantile(0.5 + _LEVEL / 2) * math.sqrt(spread)
    method = f"difference of means, {len(own)} own and {len(others)} others"
    return Figure(value=value, low=value - half, high=value + half, method=method, n=len(errors))


def kappa_at(sensitivity: float, specificity: float, prevalence: float) -> float | None:
    """Return Cohen's kappa of a judge with these rates where people say yes with this share."""
    both = prevalence * sensitivity + (1 - prevalence) * specificity
    said = prevalence * sensitivity + (1 - prevalence) * (1 - specificity)
    chance = prevalence * said + (1 - prevalence) * (1 - said)
    return None if chance >= 1.0 else (both - chance) / (1 - chance)


def kappa_table(sensitivity: float | None, specificity: float | None) -> Mapping[str, float]:
    """Return kappa by share of yes: what moves though the judge stays the same."""
    if sensitivity is None or specificity is None:
        return {}
    found = {f"{share:.0%}": kappa_at(sensitivity, specificity, share) for share in PREVALENCES}
    return {share: round(kappa, 4) for share, kappa in found.items() if kappa is not None}


def _strata(human: Sequence[float | str]) -> list[str]:
    distinct = set(human)
    if len(distinct) <= 5 or any(isinstance(value, str) for value in distinct):
        return [str(value) for value in human]
    ranked = sorted(float(value) for value in human)
    cuts = [ranked[len(ranked) * quarter // 4] for quarter in (1, 2, 3)]
    return [str(sum(float(value) >= cut for cut in cuts)) for value in human]


def _within(values: Sequence[float], strata: Sequence[str]) -> list[float]:
    sums: dict[str, list[float]] = {}
    for value, stratum in zip(values, strata, strict=True):
        sums.setdefault(stratum, []).append(value)
    means = {stratum: math.fsum(group) / len(group) for stratum, group in sums.items()}
    return [value - means[stratum] for value, stratum in zip(values, strata, strict=True)]


def _variance(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
