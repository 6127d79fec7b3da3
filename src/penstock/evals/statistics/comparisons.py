"""Two evaluations beside each other, case by case: the entry point that picks test and interval.

| scale | test | interval of the difference |
|---|---|---|
| binary, every case alone, one repeat | McNemar, exact | Newcombe's for paired shares |
| binary or bounded otherwise, unbounded | sign flips of group sums (exact when few groups) | t clustered by group |
| a figure (BLEU, F1 …) | swaps of both sides by group | bootstrap over groups, percentile |

`better` and `worse` need both: the p-value (after correction) and an interval without zero.
"""

from collections.abc import Sequence

import numpy as np

from penstock.evals.statistics.types import Figure, IntervalAt, Measure, ScoredCase
from penstock.spec.evaluations import Comparison


def compare(
    baseline: Sequence[ScoredCase],
    candidate: Sequence[ScoredCase],
    measure: Measure,
    *,
    name: str | None = None,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
    figure: Figure | None = None,
    part: str | None = None,
    n_resamples: int = 10_000,
) -> Comparison:
    """Return the difference candidate − baseline over the cases that both have a score for.

    The word is `invalid` when there is no pair; `undecided` when the pairs cannot tell.
    """
    raise NotImplementedError


def compare_slices(
    baseline: Sequence[ScoredCase],
    candidate: Sequence[ScoredCase],
    measure: Measure,
    *,
    name: str | None = None,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
    figure: Figure | None = None,
    correction: str | None = "holm",
) -> list[Comparison]:
    """Return one comparison for each slice, by name, with p-values corrected over the slices."""
    raise NotImplementedError


def correct(comparisons: Sequence[Comparison], *, correction: str = "holm") -> list[Comparison]:
    """Return the comparisons as one family that was looked at: adjusted p-values, and words that hold with them."""
    raise NotImplementedError


def difference_maker(
    baseline: Sequence[ScoredCase],
    candidate: Sequence[ScoredCase],
    measure: Measure,
    *,
    rng: np.random.Generator | None = None,
    figure: Figure | None = None,
    n_resamples: int = 10_000,
) -> IntervalAt:
    """Return what gives the interval of `compare` at any level."""
    raise NotImplementedError
