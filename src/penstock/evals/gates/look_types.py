"""What a look is: weighed (a figure with an interval beside a threshold), counted (a fact: a sum, a worst value, findings
case by case), or unreadable, which is invalid. And the room that looks are made in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from penstock.evals.gates.sides import Side
from penstock.evals.gates.types import Rule
from penstock.evals.statistics.types import Interval, IntervalAt, ScoredCase
from penstock.evals.types import ScoreColumn
from penstock.spec.evaluations import Comparison, Estimate


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """A figure with an interval, beside a threshold."""

    rule: Rule
    part: str | None
    column: ScoreColumn
    at: IntervalAt
    threshold: float
    """In the figure's own terms: of a difference where the rule is about the baseline."""
    level: float
    is_difference: bool
    estimate: Estimate | None = None
    comparison: Comparison | None = None
    cases: Sequence[ScoredCase] = ()
    baseline_cases: Sequence[ScoredCase] = ()
    """Of both sides, paired, where it is a difference."""
    grown: Callable[[float], IntervalAt] | None = None
    """Makes the interval of so many times the cases, all alike, where nothing varies; None where something does."""

    @property
    def interval(self) -> Interval:
        """At the rule's own level."""
        return self.at(self.level)


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A fact that needs no interval."""

    rule: Rule
    part: str | None
    has_passed: bool
    text: str
    """What was found, in words, without the verdict."""
    is_open: bool = False
    """It passed as far as it is known, but not all of it is known."""
    next: str = ""
    estimate: Estimate | None = None


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """Nothing that the rule asks for can be read."""

    rule: Rule
    part: str | None
    reason: str
    next: str = ""
    estimate: Estimate | None = None


Look = Weighed | Counted | Unreadable


@dataclass(frozen=True, kw_only=True)
class Room:
    """What looks are made in."""

    candidate: Side
    baseline: Side | None
    baseline_problem: str | None
    """Why the two may not be compared at all, or None."""
    level: float
    min_coverage: float
    min_slice_cases: int
    different: frozenset[str] = frozenset()
    """Ids under which the two were asked different things: no pairs."""
    left_out: list[str] = field(default_factory=list)
    """Slices that were too small to be looked at; filled on the way."""
