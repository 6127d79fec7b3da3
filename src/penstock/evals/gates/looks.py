"""One look: a rule at all cases or at one slice. Finds the figure and its interval, and what it is held against.

A look is either weighed (a figure with an interval beside a threshold) or counted (a fact: a sum, a worst value, findings case by
case), or it cannot be read and is invalid.
"""

from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import numpy as np

from penstock.evals.gates.bounds import margin_of, number_of
from penstock.evals.gates.counting import count, count_new
from penstock.evals.gates.figures_text import count_text
from penstock.evals.gates.look_types import Look, Room, Unreadable, Weighed
from penstock.evals.gates.sides import Scores
from penstock.evals.gates.types import Rule
from penstock.evals.statistics.comparisons import compare, difference_maker
from penstock.evals.statistics.estimates import SEED, estimate, interval_maker
from penstock.evals.statistics.means import is_constant
from penstock.evals.statistics.quantiles import quantile, quantile_difference_maker
from penstock.evals.statistics.samples import method_of, pair_cases, units_of
from penstock.evals.statistics.types import Interval, IntervalAt, ScoredCase
from penstock.spec.evaluations import Comparison, Estimate

_NEVER_MORE = 1e-9


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
    looks: list[Look] = []
    for part in parts:
        n = len(scores.part(part))
        if n < room.min_slice_cases:
            room.left_out.append(f"{part} ({count_text(n, 'case')})")
        else:
            looks.append(_make_look(rule, part, scores, room))
    if not looks:
        return [
            Unreadable(
                rule=rule,
                part=None,
                reason=f"each slice by {rule.by!r} has fewer than the {room.min_slice_cases:,} cases asked for",
                next="Ask more cases, or lower min_slice_cases.",
            )
        ]
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
        return count(rule, part, cases=cases, column=scores.column, room=room, made=made)
    threshold = number_of(rule, scores.column)
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
    others = theirs.part(part)
    their_level = estimate(
        others,
        theirs.column,
        name=rule.measure,
        level=level,
        figure=theirs.figure if rule.statistic == "mean" else None,
        n_resamples=1000,
    )
    lacking = _coverage_problem(their_level, room.min_coverage, "of the baseline ")
    if lacking is not None:
        return Unreadable(rule=rule, part=part, reason=lacking, next=_coverage_advice(their_level))
    n_cases = max(len(ours), len(others))
    others = [case for case in others if case.case_id not in room.different]
    left, right, _, _ = pair_cases(units_of(others, scores.column), units_of(ours, scores.column))
    if len(left) < room.min_coverage * n_cases - 1e-9:
        return Unreadable(
            rule=rule,
            part=part,
            reason=(
                f"only {len(left):,} of {count_text(n_cases, 'case')} can be paired (with the same id, question and expected "
                f"answer, and a score on both sides), under the {100 * room.min_coverage:g} % asked for"
            ),
            next="Evaluate both over the same cases.",
            estimate=made,
        )
    if rule.statistic == "new":
        return count_new(rule, part, baseline=others, candidate=ours, column=scores.column, made=made)
    if not left:
        return Unreadable(rule=rule, part=part, reason="no case has a score on both sides", estimate=made)
    margin = margin_of(
        rule,
        scores.column,
        left,
        their_level if scores.figure is not None and rule.statistic == "mean" else None,
    )
    if isinstance(margin, str):
        return Unreadable(rule=rule, part=part, reason=margin, estimate=made)
    offset, factor = margin
    figure = scores.figure if rule.statistic == "mean" else None
    compared = compare(others, ours, scores.column, name=rule.measure, level=level, figure=figure, part=part)
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
        if made.n_partial:
            why.append(f"{made.n_partial:,} in part")
        told = ", ".join(
            text.removesuffix("s") if "undefined" in text or "skipped" in text else text for text in why
        )
        amount = f"{made.n:,} of {count_text(made.n_cases, 'case')}"
        if made.n_partial:
            amount = (
                f"{100 * (made.coverage or 0.0):.3g} % of the answers to {count_text(made.n_cases, 'case')}"
            )
        return f"only {amount} {whose}have a score ({told}), under the {100 * least:g} % asked for"
    return None


def _coverage_advice(made: Estimate) -> str:
    if made.n_partial and not (made.n_errors or made.n_skipped or made.n_undefined):
        return "Look at why some repeats have no score (penstock eval cases), then resume the evaluation."
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
