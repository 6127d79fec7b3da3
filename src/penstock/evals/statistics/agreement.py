"""How well a judge agrees with people: kappa, alpha, confusion, sensitivity and specificity, each with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from penstock.evals.statistics.types import Interval

Weights = Literal["none", "linear", "quadratic"]


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
    reference: Sequence[str | int | float | bool],
    rated: Sequence[str | int | float | bool],
    *,
    positive: str | int | float | bool | None = None,
    weights: Weights = "none",
    groups: Sequence[str | None] | None = None,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
    n_resamples: int = 2_000,
) -> Agreement:
    """Return the agreement of two raters over the same things, in the same order.

    Weighted kappa needs labels that are numbers or sort as they rank. Raises `ValueError` for unequal lengths.
    """
    raise NotImplementedError


def krippendorff_alpha(
    units: Sequence[Sequence[str | float | None]],
    *,
    metric: Literal["nominal", "ordinal", "interval"] = "nominal",
) -> float | None:
    """Return alpha over units with any number of raters (None: not rated); None when it is undefined."""
    raise NotImplementedError
