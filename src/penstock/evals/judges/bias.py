"""Ways in which judges err that have nothing to do with the answer: place, length, kinship. Pure figures with intervals."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from penstock.base.distributions import normal_quantile, t_quantile
from penstock.evals.judges.types import Figure
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
        else PlainMeasure(name="mean")
        if scale == "bounded"
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


def place_figure(wins: Sequence[tuple[int, int]], groups: Sequence[str | None] | None = None) -> Figure:
    """Return how often the first place wins; `wins` of each pair: of the first place and of the second, over both orders.

    The two orders of a pair are the same two answers and count as one; pairs with two ties say nothing.
    """
    decided = [
        (first / (first + second), groups[number] if groups else None)
        for number, (first, second) in enumerate(wins)
        if first + second
    ]
    return mean_figure([value for value, _ in decided], [group for _, group in decided], scale="bounded")


def measure_kinship(
    judged: Sequence[float],
    human: Sequence[float],
    is_own: Sequence[bool],
    groups: Sequence[str | None] | None = None,
) -> Figure | None:
    """Return how much further above people the judge rates answers of its own model than others; None without both.

    Welch's interval, by group where there are groups; none with fewer than `MIN_CORRELATED` outputs, or groups, of either.
    """
    errors = np.array([value - truth for value, truth in zip(judged, human, strict=True)], dtype=np.float64)
    clusters, own = _number(groups, len(errors)), np.array(is_own, dtype=np.bool_)
    if own.all() or not own.any():
        return None
    value = float(errors[own].mean() - errors[~own].mean())
    worth = [len(np.unique(clusters[side])) for side in (own, ~own)]
    unit = "outputs" if groups is None or not any(groups) else "outputs in groups"
    if min(worth) < MIN_CORRELATED:
        method = f"none: {worth[0]} {unit} of its own and {worth[1]} others, {MIN_CORRELATED} of each are the least"
        return Figure(value=value, method=method, n=len(errors))
    parts = []
    for side, sign, n in ((own, 1.0, worth[0]), (~own, -1.0, worth[1])):
        pulls = np.where(side, errors - errors[side].mean(), 0.0) * sign / np.count_nonzero(side)
        parts.append(np.bincount(clusters, weights=pulls) * math.sqrt(n / (n - 1)))
    first, second = (float(np.sum(part**2)) for part in parts)
    spread = float(np.sum((parts[0] + parts[1]) ** 2))
    if spread <= 1e-24:
        return Figure(value=value, method="none: errors do not vary", n=len(errors))
    freedom = (first + second) ** 2 / (first**2 / (worth[0] - 1) + second**2 / (worth[1] - 1))
    half = t_quantile(0.5 + _LEVEL / 2, freedom) * math.sqrt(spread)
    method = f"difference of means (Welch), {int(own.sum())} own and {int((~own).sum())} others"
    return Figure(value=value, low=value - half, high=value + half, method=method, n=len(errors))


def _number(groups: Sequence[str | None] | None, n: int) -> NDArray[np.int64]:
    numbers: dict[tuple[bool, str], int] = {}
    keys = [
        (False, str(position)) if group is None else (True, group)
        for position, group in enumerate(groups or [None] * n)
    ]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


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
