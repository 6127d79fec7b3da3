"""Looks that need no interval: of each case, a total, the worst value, findings that are new.

The surprise: what has no score is unknown, not clean. A finding fails, however much is unknown; without one the rule is only
passed when every answer was looked at.
"""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

from penstock.evals.gates.bounds import holds, number_of
from penstock.evals.gates.figures_text import count_text, figure_text
from penstock.evals.gates.look_types import Counted, Look, Room, Unreadable
from penstock.evals.gates.types import Rule
from penstock.evals.statistics.estimates import bounds_of
from penstock.evals.statistics.types import ScoredCase
from penstock.evals.types import ScoreColumn
from penstock.spec.evaluations import Estimate

_NEVER_MORE = 1e-9


def count(
    rule: Rule,
    part: str | None,
    *,
    cases: Sequence[ScoredCase],
    column: ScoreColumn,
    room: Room,
    made: Estimate,
) -> Look:
    """Return a look at a total, a worst value, or each case."""
    threshold = number_of(rule, column)
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
    has_passed = holds(worst, rule, threshold)
    n_unknown = sum(_n_unknown(case) for case in cases)
    # one more value can only raise a largest one, and lower a smallest one
    is_open = n_unknown > 0 and has_passed == ((rule.statistic == "max") == (rule.operator in {"<=", "<"}))
    return Counted(
        rule=rule,
        part=part,
        has_passed=has_passed,
        text=text + _without(n_unknown),
        is_open=is_open,
        next=_look_again(cases) if is_open else "",
        estimate=made,
    )


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
        text = f"{rule.measure} is not {wanted} in {len(off):,} of {count_text(len(scored), 'case')} ({_named(off)})"
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
    n_unknown = sum(_n_unknown(case) for case in cases)
    if n_unknown:
        text = f"{rule.measure} is {wanted} wherever it is known{_without(n_unknown)}"
    return Counted(
        rule=rule,
        part=part,
        has_passed=True,
        text=text,
        is_open=n_unknown > 0,
        next=_look_again(cases) if n_unknown else "",
        estimate=made,
    )


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
    has_passed = holds(total, rule, threshold)
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


def count_new(
    rule: Rule,
    part: str | None,
    *,
    baseline: Sequence[ScoredCase],
    candidate: Sequence[ScoredCase],
    column: ScoreColumn,
    made: Estimate,
) -> Look:
    """Return a look at findings of the candidate in cases where the baseline has none, over all cases that the candidate was asked.

    A finding beside a baseline that is unknown may be new or old, and an answer without a score may hold one.
    """
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

    known: Mapping[str, ScoredCase] = {case.case_id: case for case in baseline if case.values}
    found = [case.case_id for case in candidate if has_finding(case)]
    new = [case_id for case_id in found if case_id in known and not has_finding(known[case_id])]
    doubtful = [case_id for case_id in found if case_id not in known]
    n_unknown = sum(_n_unknown(case) for case in candidate)
    n_paired = sum(case.case_id in known and bool(case.values) for case in candidate)
    if new:
        text = f"{rule.measure} is new in {count_text(len(new), 'case')} of {n_paired:,} ({_named(new)})"
        return Counted(
            rule=rule,
            part=part,
            has_passed=False,
            text=text,
            estimate=made,
            next=f"Look at {new[0]}: penstock eval diff shows both outputs.",
        )
    text = f"{rule.measure} is new in none of {count_text(n_paired, 'paired case')}"
    gone = sum(has_finding(known[case.case_id]) for case in candidate if case.case_id in known)
    gone -= len(found) - len(doubtful)
    if gone > 0:
        text += f", gone from {gone:,}"
    advice = _look_again(candidate) if n_unknown else ""
    if doubtful:
        text += f", but found in {count_text(len(doubtful), 'case')} of which the baseline is unknown ({_named(doubtful)})"
        advice = f"Look at {doubtful[0]}, or resume the baseline (penstock eval resume) so that it has a score there."
    return Counted(
        rule=rule,
        part=part,
        has_passed=True,
        text=text + _without(n_unknown),
        is_open=bool(doubtful) or n_unknown > 0,
        next=advice,
        estimate=made,
    )


def _n_unknown(case: ScoredCase) -> int:
    """Answers of a case that have no usable score."""
    n = case.n_undefined + case.n_errors + case.n_skipped
    n += sum(not math.isfinite(value) for value in case.values)
    return n if n or case.values else 1


def _without(n_unknown: int) -> str:
    return f", without {count_text(n_unknown, 'answer')} of which it is unknown" if n_unknown else ""


def _look_again(cases: Sequence[ScoredCase]) -> str:
    if any(case.n_errors for case in cases):
        return "Resume the evaluation (penstock eval resume) once the cause of the errors is mended."
    if any(case.n_skipped or not (case.values or case.n_undefined) for case in cases):
        return "Resume the evaluation (penstock eval resume) with a larger budget."
    return "The scorer finds these answers undefined: look at them, or choose one that applies to each."


def _named(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (" …" if len(ids) > 5 else "")
