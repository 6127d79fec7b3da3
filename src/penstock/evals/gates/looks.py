"""One look: a rule at all cases or at one slice. Finds the figure and its interval, and what it is held against.

A look is either weighed (a figure with an interval beside a threshold) or counted (a fact: a sum, a worst value, findings case by
case), or it cannot be read and is invalid.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial

import msgspec
import numpy as np

from penstock.evals.gates.figures_text import count_text, figure_text
from penstock.evals.gates.sides import Scores, Side
from penstock.evals.gates.types import Bound, Rule
from penstock.evals.statistics.comparisons import compare, difference_maker
from penstock.evals.statistics.estimates import SEED, bounds_of, estimate, interval_maker
from penstock.evals.statistics.means import is_constant
from penstock.evals.statistics.quantiles import quantile, quantile_difference_maker
from penstock.evals.statistics.samples import method_of, pair_cases, units_of
from penstock.evals.statistics.types import Interval, IntervalAt, ScoredCase
from penstock.evals.types import ScoreColumn
from penstock.spec.evaluations import Comparison, Estimate

_NEVER_MORE = 1e-9


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
    left_out: list[str] = field(default_factory=list)
    """Slices that were too small to be looked at; filled on the way."""


def make_looks(rule: Rule, room: Room) -> list[Look]:
    """Return the looks of a rule: one, or one for each slice of its key."""
    scores = room.candidate.scores(rule.measure)
    if isinstance(scores, str):
        return [Unreadable(rule=rule, part=None, reason=scores, next="Add the scorer, or mend the rule.")]
    if rule.by is None:
        return [_make_look(rule, None, scores, room)]
    parts = sorted({part for case in scores.cases for part in case.slices if part.startswith(f"{rule.by}=")})
    if not parts:
        return [
            Unreadable(
                rule=rule,
                part=None,
                reason=f"no case belongs to a slice by {rule.by!r}",
                next=f'Write slices = ["{rule.by}"] into the evaluation.',
            )
        ]
    looks = []
    for part in parts:
        n = len(scores.part(part))
        if n < room.min_slice_cases:
            room.left_out.append(f"{part} ({count_text(n, 'case')})")
        else:
            looks.append(_make_look(rule, part, scores, room))
    return looks


def _make_look(rule: Rule, part: str | None, scores: Scores, room: Room) -> Look:
    level = rule.level or room.level
    cases = units_of(scores.part(part), scores.column)
    figure = scores.figure if rule.statistic == "mean" else None
    given = scores.part(part)
    made = estimate(given, scores.column, name=rule.measure, level=level, figure=figure, part=part)
    lacking = _coverage_problem(made, room.min_coverage, "")
    if lacking is not None:
        return Unreadable(rule=rule, part=part, reason=lacking, next=_coverage_advice(made), estimate=made)
    if rule.bound.is_baseline:
        return _look_at_both(rule, part, scores, room, made)
    if rule.statistic in {"total", "max", "min", "every"}:
        return _count(rule, part, cases=cases, column=scores.column, room=room, made=made)
    threshold = _number(rule.bound, scores.column)
    if isinstance(threshold, str):
        return Unreadable(rule=rule, part=part, reason=threshold, estimate=made)
    share = rule.quantile
    if share is not None:
        at: IntervalAt = partial(_quantile_at, cases, share)
        made = _as_quantile(made, at(level), method_of(at(level).method, given, scores.column))
    else:
        at = interval_maker(cases, scores.column, figure=figure)
    return Weighed(
        rule=rule,
        part=part,
        column=scores.column,
        at=at,
        threshold=threshold,
        level=level,
        is_difference=False,
        estimate=made,
        cases=cases,
        grown=_if_unvaried(
            [float(np.mean(case.values)) for case in cases if case.values],
            lambda times: interval_maker(cases, scores.column, times=times),
        )
        if share is None and figure is None
        else None,
    )


def _look_at_both(rule: Rule, part: str | None, scores: Scores, room: Room, made: Estimate) -> Look:
    level = rule.level or room.level
    side = room.baseline
    problem = room.baseline_problem
    theirs = side.scores(rule.measure) if side is not None else "there is no baseline"
    if problem is None and isinstance(theirs, str):
        problem = theirs if side is None else f"the baseline has no such score: {theirs}"
    if problem is not None or isinstance(theirs, str) or side is None:
        advice = "Name a baseline with --baseline, or hold the rule against a number." if side is None else ""
        return Unreadable(rule=rule, part=part, reason=str(problem), next=advice, estimate=made)
    if theirs.column.stamp != scores.column.stamp:
        return Unreadable(
            rule=rule,
            part=part,
            reason=(
                f"the two sides were scored by different scorers: {scores.column.stamp} and, "
                f"the baseline, {theirs.column.stamp}"
            ),
            next=f"penstock eval rescore {side.record.id} with the candidate's scorers.",
            estimate=made,
        )
    ours = scores.part(part)
    others = [case for case in theirs.cases if part is None or part in case.slices]
    their_level = estimate(others, theirs.column, name=rule.measure, level=level, n_resamples=200)
    lacking = _coverage_problem(their_level, room.min_coverage, "of the baseline ")
    if lacking is not None:
        return Unreadable(rule=rule, part=part, reason=lacking, next=_coverage_advice(their_level))
    left, right, _, _ = pair_cases(units_of(others, scores.column), units_of(ours, scores.column))
    if not left:
        return Unreadable(rule=rule, part=part, reason="no case has a score on both sides", estimate=made)
    if rule.statistic == "new":
        return _count_new(rule, part, left=left, right=right, column=scores.column, made=made)
    margin = _margin(rule.bound, scores.column)
    if isinstance(margin, str):
        return Unreadable(rule=rule, part=part, reason=margin, estimate=made)
    offset, factor = margin
    figure = scores.figure if rule.statistic == "mean" else None
    compared = compare(
        theirs.cases, scores.cases, scores.column, name=rule.measure, level=level, figure=figure, part=part
    )
    if rule.quantile is not None:
        at, plain = (
            quantile_difference_maker(
                left, right, rule.quantile, factor=each, rng=np.random.default_rng(SEED)
            )
            for each in (factor, 1.0)
        )
        compared = _as_quantile_difference(compared, left, right, rule.quantile, plain(level))
    else:
        at = difference_maker(left, right, scores.column, factor=factor, figure=figure)
    return Weighed(
        rule=rule,
        part=part,
        column=scores.column,
        at=at,
        threshold=offset,
        level=level,
        is_difference=True,
        estimate=made,
        comparison=compared,
        cases=right,
        baseline_cases=left,
        grown=_if_unvaried(
            [
                float(np.mean(b.values)) - factor * float(np.mean(a.values))
                for a, b in zip(left, right, strict=True)
            ],
            lambda times: difference_maker(left, right, scores.column, factor=factor, times=times),
        )
        if rule.quantile is None and figure is None
        else None,
    )


# facts


def _count(
    rule: Rule,
    part: str | None,
    *,
    cases: Sequence[ScoredCase],
    column: ScoreColumn,
    room: Room,
    made: Estimate,
) -> Look:
    threshold = _number(rule.bound, column)
    if isinstance(threshold, str):
        return Unreadable(rule=rule, part=part, reason=threshold, estimate=made)
    values = [value for case in cases for value in case.values if math.isfinite(value)]
    if not values:
        return Unreadable(rule=rule, part=part, reason="nothing was scored", estimate=made)
    if rule.statistic == "every":
        return _count_every(rule, part, cases=cases, column=column, threshold=threshold, made=made)
    if rule.statistic == "total":
        return _count_total(
            rule, values, cases=cases, column=column, room=room, threshold=threshold, made=made
        )
    worst = max(values) if rule.statistic == "max" else min(values)
    text = f"{rule.measure} {rule.statistic} is {figure_text(worst, column)} over {count_text(len(values), 'output')}"
    return Counted(rule=rule, part=part, has_passed=_holds(worst, rule, threshold), text=text, estimate=made)


def _count_every(
    rule: Rule,
    part: str | None,
    *,
    cases: Sequence[ScoredCase],
    column: ScoreColumn,
    threshold: float,
    made: Estimate,
) -> Counted:
    scored = [case for case in cases if case.values]
    off = [
        case.case_id
        for case in scored
        if any(abs(value - threshold) > _NEVER_MORE * max(1.0, abs(threshold)) for value in case.values)
    ]
    wanted = figure_text(threshold, column)
    if off:
        named = ", ".join(off[:5]) + (" …" if len(off) > 5 else "")
        text = (
            f"{rule.measure} is not {wanted} in {len(off):,} of {count_text(len(scored), 'case')} ({named})"
        )
        return Counted(
            rule=rule,
            part=part,
            has_passed=False,
            text=text,
            estimate=made,
            next=f"Look at {off[0]}: penstock eval cases shows its output.",
        )
    unseen = 1.0 - (1.0 - made.level) ** (1.0 / max(1, made.n_groups or len(scored)))
    text = (
        f"{rule.measure} is {wanted} in all {count_text(len(scored), 'case')} "
        f"(at {100 * made.level:g} % fewer than {100 * unseen:.2g} % of such cases are otherwise)"
    )
    return Counted(rule=rule, part=part, has_passed=True, text=text, estimate=made)


def _count_total(
    rule: Rule,
    values: Sequence[float],
    *,
    cases: Sequence[ScoredCase],
    column: ScoreColumn,
    room: Room,
    threshold: float,
    made: Estimate,
) -> Counted:
    total, n_unknown = math.fsum(values), 0
    if rule.measure == "cost_usd":
        record = room.candidate.record
        n_unknown = record.n_cost_unknown
        # what was paid, judges too; a kept output costs nothing again but its first price counts here
        total = max(total, float(record.cost_usd or Decimal(0)))
    else:
        n_unknown = sum(case.n_undefined + case.n_errors + case.n_skipped for case in cases)
    text = f"{rule.measure} total is {figure_text(total, column)}"
    has_passed = _holds(total, rule, threshold)
    is_open = bool(n_unknown) and has_passed == (rule.operator in {"<=", "<"})
    if n_unknown:
        text += f", without {count_text(n_unknown, 'call')} of which it is unknown"
    advice = "Set a price for the model: penstock price create." if rule.measure == "cost_usd" else ""
    return Counted(
        rule=rule,
        part=None,
        has_passed=has_passed,
        text=text,
        is_open=is_open,
        next=advice if is_open else "",
        estimate=made,
    )


def _count_new(
    rule: Rule,
    part: str | None,
    *,
    left: Sequence[ScoredCase],
    right: Sequence[ScoredCase],
    column: ScoreColumn,
    made: Estimate,
) -> Look:
    bounds = bounds_of(column)
    best = column.low if column.direction == "lower" else column.high
    if column.direction == "none" or (bounds is None and column.direction == "higher") or best is None:
        return Unreadable(
            rule=rule,
            part=part,
            reason=f"{rule.measure} does not say which value means that nothing was found",
        )

    def has_finding(case: ScoredCase) -> bool:
        return any(abs(value - best) > _NEVER_MORE for value in case.values)

    new = [b.case_id for a, b in zip(left, right, strict=True) if has_finding(b) and not has_finding(a)]
    gone = sum(has_finding(a) and not has_finding(b) for a, b in zip(left, right, strict=True))
    if new:
        named = ", ".join(new[:5]) + (" …" if len(new) > 5 else "")
        text = f"{rule.measure} is new in {count_text(len(new), 'case')} of {len(right):,} ({named})"
        return Counted(
            rule=rule,
            part=part,
            has_passed=False,
            text=text,
            estimate=made,
            next=f"Look at {new[0]}: penstock eval diff shows both outputs.",
        )
    text = f"{rule.measure} is new in none of {count_text(len(right), 'paired case')}"
    if gone:
        text += f", gone from {gone:,}"
    return Counted(rule=rule, part=part, has_passed=True, text=text, estimate=made)


# bounds


def _holds(value: float, rule: Rule, threshold: float) -> bool:
    return {
        ">=": value >= threshold,
        ">": value > threshold,
        "<=": value <= threshold,
        "<": value < threshold,
        "==": value == threshold,
    }[rule.operator]


def _number(bound: Bound, column: ScoreColumn) -> float | str:
    """The threshold in the score's unit, or why it has none."""
    unit, own = bound.unit, column.unit
    if unit in {"", own}:
        return bound.amount
    if unit == "s" and own == "ms":
        return 1000.0 * bound.amount
    if unit == "ms" and own == "s":
        return bound.amount / 1000.0
    if unit in {"%", "point"}:
        bounds = bounds_of(column)
        if bounds is not None:
            return bounds[0] + bound.amount / 100.0 * (bounds[1] - bounds[0])
        return f"{column.name} has no bounds, so {bound.amount:g} {unit} of it means nothing"
    return f"{column.name} is measured in {own or 'plain numbers'}, not in {unit}"


def _margin(bound: Bound, column: ScoreColumn) -> tuple[float, float] | str:
    """Offset and factor of the baseline, or why there are none."""
    if bound.unit == "%":
        return 0.0, 1.0 + bound.amount / 100.0
    if bound.unit == "point":
        bounds = bounds_of(column)
        if bounds is None:
            return (
                f"{column.name} has no bounds, so points of it mean nothing; write a number or a share in %"
            )
        return bound.amount / 100.0 * (bounds[1] - bounds[0]), 1.0
    offset = _number(bound, column)
    return offset if isinstance(offset, str) else (offset, 1.0)


# coverage and shapes


def _coverage_problem(made: Estimate, least: float, whose: str) -> str | None:
    if not made.n_cases:
        return f"no case {whose}belongs to it".replace("  ", " ")
    if made.n == 0 or (made.coverage or 0.0) < least - 1e-12:
        why = [
            count_text(n, noun)
            for n, noun in (
                (made.n_errors, "error"),
                (made.n_undefined, "undefined"),
                (made.n_skipped, "skipped"),
            )
            if n
        ]
        told = ", ".join(
            text.removesuffix("s") if "undefined" in text or "skipped" in text else text for text in why
        )
        return (
            f"only {made.n:,} of {count_text(made.n_cases, 'case')} {whose}have a score "
            f"({told}), under the {100 * least:g} % asked for"
        )
    return None


def _coverage_advice(made: Estimate) -> str:
    if made.n_errors:
        return "Resume the evaluation (penstock eval resume) once the cause of the errors is mended."
    if made.n_skipped:
        return "Resume the evaluation (penstock eval resume) with a larger budget."
    return "The scorer finds these outputs undefined: choose one that applies, or lower min_coverage."


def _if_unvaried(
    values: Sequence[float], make: Callable[[float], IntervalAt]
) -> Callable[[float], IntervalAt] | None:
    return make if len(values) > 1 and is_constant(np.array(values)) else None


def _quantile_at(cases: Sequence[ScoredCase], share: float, level: float) -> Interval:
    return quantile(cases, share, level=level)


def _as_quantile(made: Estimate, found: Interval, method: str) -> Estimate:
    return msgspec.structs.replace(
        made, value=found.value, low=found.low, high=found.high, method=method, worst=None, best=None
    )


def _as_quantile_difference(
    compared: Comparison,
    left: Sequence[ScoredCase],
    right: Sequence[ScoredCase],
    share: float,
    found: Interval,
) -> Comparison:
    return msgspec.structs.replace(
        compared,
        baseline=quantile(left, share).value,
        candidate=quantile(right, share).value,
        difference=found.value,
        low=found.low,
        high=found.high,
        p_value=None,
        method=found.method,
        detectable=None,
        word="undecided",
        reason="",
    )
