"""One figure over many scores: the entry point that picks value, interval and method for a kind of score.

| scale | interval |
|---|---|
| binary, every case alone, one repeat | Wilson |
| binary or bounded otherwise | score interval whose variance is that of the groups, t with groups − 1 |
| unbounded | t interval clustered by group |
| a figure (BLEU, F1 …) | bootstrap over groups of the summed statistics, BCa |

The surprise: a case with several repeats counts once, by its mean; more repeats make no more cases.
"""

from collections.abc import Sequence

import numpy as np

from penstock.evals.statistics.types import Figure, IntervalAt, Measure, ScoredCase
from penstock.spec.evaluations import Estimate


def estimate(
    cases: Sequence[ScoredCase],
    measure: Measure,
    *,
    name: str | None = None,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
    figure: Figure | None = None,
    part: str | None = None,
    n_resamples: int = 10_000,
) -> Estimate:
    """Return the figure of all cases, or of those in `part` (a slice, `KEY=VALUE`), with its interval and coverage.

    `name` is what the score is called (the measure's own when None). `rng` is used by figures alone; None takes
    a fixed seed, so that the same scores give the same interval. `value` is None when nothing was scored.
    """
    raise NotImplementedError


def estimate_slices(
    cases: Sequence[ScoredCase],
    measure: Measure,
    *,
    name: str | None = None,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
    figure: Figure | None = None,
) -> list[Estimate]:
    """Return one estimate for each slice that any case belongs to, by the slice's name."""
    raise NotImplementedError


def interval_maker(
    cases: Sequence[ScoredCase],
    measure: Measure,
    *,
    rng: np.random.Generator | None = None,
    figure: Figure | None = None,
    n_resamples: int = 10_000,
) -> IntervalAt:
    """Return what gives the interval of `estimate` at any level."""
    raise NotImplementedError
