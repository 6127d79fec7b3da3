"""Scored cases for tests of statistics."""

from collections.abc import Sequence

import numpy as np

from penstock.evals.statistics.types import FloatArray, PlainMeasure, ScoredCase

BINARY = PlainMeasure(name="exact", scale="binary")
BOUNDED = PlainMeasure(name="token_f1")
LOWER = PlainMeasure(name="toxicity", direction="lower")
UNBOUNDED = PlainMeasure(
    name="latency_ms", direction="lower", scale="unbounded", low=0.0, high=None, unit="ms"
)


def cases_of(
    values: Sequence[float] | Sequence[Sequence[float]] | FloatArray,
    groups: Sequence[object] | None = None,
    slices: Sequence[str] | None = None,
) -> list[ScoredCase]:
    """One case a value, or a list of values for repeats."""
    return [
        ScoredCase(
            case_id=f"c{position}",
            group=None if groups is None or groups[position] is None else str(groups[position]),
            values=[float(each) for each in np.atleast_1d(value)],
            slices=() if slices is None else (slices[position],),
        )
        for position, value in enumerate(values)
    ]


class Ratio:
    """A figure that is no mean: a sum over another."""

    size = 2

    def reduce(self, sums: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)


def ratio_cases(parts: Sequence[tuple[float, float]]) -> list[ScoredCase]:
    """One case a pair of numerator and denominator."""
    return [
        ScoredCase(case_id=f"c{position}", values=[a / b if b else 0.0], statistics=[[float(a), float(b)]])
        for position, (a, b) in enumerate(parts)
    ]
