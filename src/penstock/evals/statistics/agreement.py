"""How well a judge agrees with people: kappa, alpha, confusion, sensitivity and specificity, each with its interval.

Sources: Cohen 1960 and 1968 (weighted); Krippendorff, Content Analysis, chapter 11. Intervals of kappa and alpha are BCa
bootstraps over groups; kappa moves with prevalence alone, so it is never shown without sensitivity and specificity.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from penstock.evals.statistics.estimates import SEED, interval_maker
from penstock.evals.statistics.resampling import Reduce, bootstrap
from penstock.evals.statistics.types import FloatArray, Interval, PlainMeasure, ScoredCase

Weights = Literal["none", "linear", "quadratic"]
Label = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two raters of the same things. The first is the reference: people."""

    n: int
    labels: list[str] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    """Rows: the reference's labels; columns: the other's; in the order of `labels`."""
    observed: Interval
    """Share of equal labels."""
    kappa: Interval
    alpha: Interval
    """Krippendorff's, of the same weights."""
    sensitivity: Interval | None = None
    """With two labels and a `positive` one: share of the reference's positives that the other calls so."""
    specificity: Interval | None = None
    prevalence: Interval | None = None
    """Share of positives by the reference; kappa moves with it even when sensitivity and specificity do not."""


def agreement(
    reference: Sequence[Label],
    rated: Sequence[Label],
    *,
    positive: Label | None = None,
    weights: Weights = "none",
    groups: Sequence[str | None] | None = None,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
    n_resamples: int = 2_000,
) -> Agreement:
    """Return the agreement of two raters over the same things, in the same order.

    Weighted kappa needs labels that are numbers or sort as they rank. Raises `ValueError` for unequal lengths.
    """
    n = len(reference)
    if len(rated) != n or (groups is not None and len(groups) != n):
        raise ValueError("both raters must have rated the same things")
    labels = _sort_labels([*reference, *rated])
    numbers = {label: number for number, label in enumerate(labels)}
    rows = np.array([numbers[str(label)] for label in reference], dtype=np.int64)
    columns = np.array([numbers[str(label)] for label in rated], dtype=np.int64)
    confusion = np.zeros((len(labels), len(labels)))
    np.add.at(confusion, (rows, columns), 1.0)
    distance = _distances(labels, weights)
    cells = _cells_by_group(rows, columns, len(labels), groups)
    rng = rng or np.random.default_rng(SEED)

    def of(reduce: Reduce) -> Interval:
        return _resampled(cells, reduce, n, level=level, rng=rng, n_resamples=n_resamples)

    def share(chosen: Sequence[bool], hits: Sequence[bool]) -> Interval:
        return _share(chosen, hits, groups, level)

    everything = [True] * n
    equal = [str(left) == str(right) for left, right in zip(reference, rated, strict=True)]
    yes = [str(label) == str(positive) for label in reference]
    said = [str(label) == str(positive) for label in rated]
    has_positive = positive is not None
    return Agreement(
        n=n,
        labels=labels,
        confusion=[[int(count) for count in row] for row in confusion],
        observed=share(everything, equal),
        kappa=of(lambda sums: _kappa(sums, distance)),
        alpha=of(lambda sums: _alpha_of_two(sums, distance)),
        sensitivity=share(yes, said) if has_positive else None,
        specificity=share([not it for it in yes], [not it for it in said]) if has_positive else None,
        prevalence=share(everything, yes) if has_positive else None,
    )


def krippendorff_alpha(
    units: Sequence[Sequence[str | float | None]],
    *,
    metric: Literal["nominal", "ordinal", "interval"] = "nominal",
) -> float | None:
    """Return alpha over units with any number of raters (None: not rated); None when it is undefined.

    Undefined: no unit with two ratings, or one and the same label everywhere.
    """
    rated = [[value for value in unit if value is not None] for unit in units]
    rated = [unit for unit in rated if len(unit) > 1]
    labels = _sort_labels([value for unit in rated for value in unit])
    numbers = {label: number for number, label in enumerate(labels)}
    coincidences = np.zeros((len(labels), len(labels)))
    for unit in rated:
        counts = np.zeros(len(labels))
        for value in unit:
            counts[numbers[str(value)]] += 1.0
        coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    marginal = coincidences.sum(axis=0)
    if metric == "nominal":
        distance = 1.0 - np.eye(len(labels))
    elif metric == "interval":
        values = np.array([float(label) for label in labels])
        distance = (values[:, None] - values[None, :]) ** 2
    else:
        cumulative = np.cumsum(marginal) - marginal / 2.0
        distance = (cumulative[:, None] - cumulative[None, :]) ** 2
    n = marginal.sum()
    expected = float(np.sum(np.outer(marginal, marginal) * distance))
    if n < 2 or expected <= 0.0:
        return None
    return 1.0 - (float(n) - 1.0) * float(np.sum(coincidences * distance)) / expected


def _sort_labels(values: Sequence[Label]) -> list[str]:
    unique = {str(value): value for value in values}
    try:
        return sorted(unique, key=float)
    except ValueError:
        return sorted(unique)


def _distances(labels: Sequence[str], weights: Weights) -> FloatArray:
    if weights == "none":
        return 1.0 - np.eye(len(labels))
    try:
        places = np.array([float(label) for label in labels])
    except ValueError:
        places = np.arange(len(labels), dtype=np.float64)
    apart = np.abs(places[:, None] - places[None, :])
    return np.asarray(apart if weights == "linear" else apart * apart, dtype=np.float64)


def _cells_by_group(
    rows: np.ndarray, columns: np.ndarray, k: int, groups: Sequence[str | None] | None
) -> FloatArray:
    """Counts of each cell of the confusion table ([k · k], row by row) in each group."""
    numbers: dict[tuple[bool, str], int] = {}
    clusters = [
        numbers.setdefault((False, str(position)) if group is None else (True, group), len(numbers))
        for position, group in enumerate(groups or [None] * len(rows))
    ]
    cells = np.zeros((len(numbers), k * k))
    np.add.at(cells, (np.array(clusters, dtype=np.int64), rows * k + columns), 1.0)
    return cells


def _kappa(sums: FloatArray, distance: FloatArray) -> FloatArray:
    k = len(distance)
    table = sums.reshape(*sums.shape[:-1], k, k)
    n = table.sum(axis=(-2, -1))
    expected = np.einsum("...i,...j,ij->...", table.sum(axis=-1), table.sum(axis=-2), distance)
    observed = (table * distance).sum(axis=(-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0.0, 1.0 - observed * n / expected, np.nan)


def _alpha_of_two(sums: FloatArray, distance: FloatArray) -> FloatArray:
    k = len(distance)
    table = sums.reshape(*sums.shape[:-1], k, k)
    both = table + np.swapaxes(table, -1, -2)
    marginal = both.sum(axis=-1)
    n = marginal.sum(axis=-1)
    expected = np.einsum("...i,...j,ij->...", marginal, marginal, distance)
    observed = (both * distance).sum(axis=(-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0.0, 1.0 - (n - 1.0) * observed / expected, np.nan)


def _resampled(
    cells: FloatArray, reduce: Reduce, n: int, *, level: float, rng: np.random.Generator, n_resamples: int
) -> Interval:
    resampled = bootstrap(cells, reduce, rng, n_resamples) if len(cells) else None
    bounds = None
    if resampled is None:
        method = "undefined: nothing was rated" if not n else "undefined: both use one label only"
    elif len(cells) < 2:
        method = "none: all are in one group" if n > 1 else "none: one thing has no spread"
    else:
        bounds = resampled.interval(level)
        method = "bootstrap ABC" if resampled.line is not None else f"bootstrap BCa, {n_resamples:,}"
        if bounds is None:
            method = "none: undefined in too many resamples"
        elif bounds[0] == bounds[1]:
            bounds, method = None, "none: all resamples are the same"
    return Interval(
        value=None if resampled is None else resampled.value,
        low=None if bounds is None else bounds[0],
        high=None if bounds is None else bounds[1],
        level=level,
        method=method,
        n=n,
        n_groups=len(cells) if len(cells) < n else None,
    )


def _share(
    chosen: Sequence[bool], hits: Sequence[bool], groups: Sequence[str | None] | None, level: float
) -> Interval:
    cases = [
        ScoredCase(case_id=str(position), group=groups[position] if groups else None, values=[float(hit)])
        for position, (is_chosen, hit) in enumerate(zip(chosen, hits, strict=True))
        if is_chosen
    ]
    return interval_maker(cases, PlainMeasure(name="share", scale="binary"))(level)
