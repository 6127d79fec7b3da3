"""Looking as often as one likes: intervals that hold at every look at once, and a rule to stop a run by."""

from collections.abc import Iterable, Sequence
from typing import Literal

from penstock.evals.statistics.types import Interval


class ConfidenceSequence:
    """The mean of independent values within [low, high]; its interval is valid after any value, whenever one looks."""

    def __init__(self, *, low: float = 0.0, high: float = 1.0, level: float = 0.95) -> None:
        raise NotImplementedError

    def update(self, values: Iterable[float]) -> None:
        """Take further values, in the order in which they came; raises `ValueError` for one out of bounds."""
        raise NotImplementedError

    def interval(self) -> Interval:
        """Return the interval after all values so far; never wider than an earlier one."""
        raise NotImplementedError


class StoppingRule:
    """Stops a run as soon as a threshold is decided: `margin` for paired differences, a level for one mean.

    A group of cases is one value (their mean), taken when the whole group is there.
    """

    def __init__(
        self, *, threshold: float, low: float, high: float, level: float = 0.95, minimum: int = 10
    ) -> None:
        raise NotImplementedError

    def update(self, values: Sequence[float]) -> Literal["above", "below"] | None:
        """Take further values; return on which side of the threshold the mean is, or None while nobody can tell."""
        raise NotImplementedError
