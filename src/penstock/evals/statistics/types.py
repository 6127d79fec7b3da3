"""What statistics are made from, and what comes out beside `Estimate` and `Comparison` of `spec.evaluations`.

Knows nothing of scorers, evaluations or stores. Unknown is None everywhere; no float NaN comes in or goes out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from penstock.spec.evaluations import Direction, Scale

CountedBy = Literal["group", "case"]
"""What stands alone: a group of cases, for what is said of their content; each case, for what is said of the service."""
FloatArray = NDArray[np.float64]


class Measure(Protocol):
    """What a figure needs to know of a score; the information of every scorer has these."""

    @property
    def name(self) -> str:
        """Of the score."""
        ...

    @property
    def direction(self) -> Direction:
        """Which way is better."""
        ...

    @property
    def scale(self) -> Scale:
        """Decides which interval and test is valid."""
        ...

    @property
    def low(self) -> float | None:
        """The smallest possible value; None when there is none."""
        ...

    @property
    def high(self) -> float | None:
        """The largest possible value; None when there is none."""
        ...

    # two further members are read, where they exist: `unit` (`unit_of`) and `counted_by` (`is_by_case`)


@dataclass(frozen=True, kw_only=True)
class PlainMeasure:
    """A measure without a scorer: latency, cost, errors."""

    name: str
    direction: Direction = "higher"
    scale: Scale = "bounded"
    low: float | None = 0.0
    high: float | None = 1.0
    unit: str | None = None
    counted_by: CountedBy = "group"


def unit_of(measure: Measure) -> str | None:
    """Return the unit of a measure, or None where it has none."""
    unit = getattr(measure, "unit", None)
    return unit if isinstance(unit, str) and unit else None


def is_by_case(measure: Measure) -> bool:
    """Whether a measure describes the service (errors, latency, cost, tokens), for which groups of cases mean nothing."""
    return getattr(measure, "counted_by", "group") == "case"


class Figure(Protocol):
    """A figure over many outputs that is no mean of values: a function of the sum of their statistics."""

    def reduce(self, sums: FloatArray) -> FloatArray:
        """Return the figure of each vector in the last axis of `sums`; NaN where it is undefined."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredCase:
    """All scores of one name that one case has: one for each repeat."""

    case_id: str
    group: str | None = None
    """Cases of one group are one cluster; None: the case stands alone."""
    values: list[float] = field(default_factory=list)
    """Of the repeats that were scored, in their order. Averaged before anything else is done with them."""
    statistics: list[list[float]] = field(default_factory=list)
    """For figures: one vector for each value; summed over the repeats and divided by their number."""
    slices: tuple[str, ...] = ()
    """`KEY=VALUE` of every slice that it belongs to: `split=test`, `tag=hard`."""
    n_undefined: int = 0
    """Repeats of the case whose score is undefined, failed, or was not asked."""
    n_errors: int = 0
    n_skipped: int = 0


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with an interval. `low` and `high` are None together, and then `method` says why."""

    value: float | None
    low: float | None
    high: float | None
    level: float
    method: str
    n: int = 0
    n_groups: int | None = None

    def excludes(self, threshold: float) -> bool:
        """Return whether the interval exists and lies wholly on one side of `threshold`."""
        return self.low is not None and self.high is not None and not self.low <= threshold <= self.high


IntervalAt = Callable[[float], Interval]
"""Makes the interval of one figure at any level: what a correction over several looks needs."""
