"""Estimates of what people would say, from many judged outputs and few that people labelled."""

from collections.abc import Sequence

import numpy as np

from penstock.evals.statistics.types import Interval


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
    No value when sensitivity + specificity is about 1 (the judge tells nothing): `method` says so.
    """
    raise NotImplementedError


def ppi_mean(
    labels: Sequence[float],
    judged_labelled: Sequence[float],
    judged_unlabelled: Sequence[float],
    *,
    groups: Sequence[str | None] | None = None,
    tuning: float | None = None,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
) -> Interval:
    """Return the mean of what people would say over all outputs: prediction-powered, power-tuned (PPI++).

    `judged_labelled` are the judge's values of the outputs that have `labels`, in the same order. `tuning` None
    estimates it, 1 is plain PPI, 0 uses the labels alone.
    """
    raise NotImplementedError
