"""Ending a run as soon as its question is decided, without fooling oneself by looking often.

Groups of cases are asked in an order that the seed alone decides, and enter a confidence sequence in that order as soon as a whole
group is scored, whichever answer came first: quick answers weigh no more than slow ones. The interval holds at every look
at once, so a run that stops by it is as valid as one that does not. The surprise: every group is one value, its mean.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

import msgspec

from penstock.evals.errors import EvaluationInvalid
from penstock.evals.statistics.estimates import bounds_of
from penstock.evals.statistics.sequential import ConfidenceSequence
from penstock.evals.statistics.types import Interval, Measure, ScoredCase
from penstock.evals.types import EvaluationRecord
from penstock.spec.evaluations import Comparison, ComparisonWord, Estimate, StopWhen

DECIDED = "decided early: "
"""How the reason of a run begins that its rule ended."""
MIN_GROUPS = 10


def planned_order(keys: Sequence[tuple[str, str | None]], seed: int) -> list[list[str]]:
    """Return the cases (id, group) in groups, in an order that `seed` and the group's name decide."""
    groups: dict[str, list[str]] = {}
    for case_id, group in keys:
        groups.setdefault(f"g:{group}" if group is not None else f"c:{case_id}", []).append(case_id)
    # not the order by which a limited draw takes groups: the first drawn would always be the first asked
    return [groups[key] for key in sorted(groups, key=lambda key: _digest(f"order:{seed}:{key}"))]


class EarlyStop:
    """The rule of one run. Hears of scores in any order; `reason` says why the run should end, once it should."""

    def __init__(
        self,
        rule: StopWhen,
        measure: Measure,
        *,
        n_values: int,
        baseline: Mapping[str, float] | None = None,
    ) -> None:
        """`n_values`: scores that a case has; `baseline`: its values by case id, where the rule names one.

        Raises `EvaluationInvalid` for a score without bounds: nothing holds at every look for it.
        """
        bounds = bounds_of(measure)
        if bounds is None:
            raise EvaluationInvalid(
                f"A run cannot stop by {rule.score!r}: it has no bounds.",
                hint="Choose a score between two bounds.",
                where="stop_when.score",
            )
        self.rule = rule
        self._sign = -1.0 if measure.direction == "lower" else 1.0
        self._n_values = n_values
        self._baseline = baseline
        low, high = bounds if baseline is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
        self._sequence = ConfidenceSequence(low=low, high=high, level=rule.level)
        self._groups: list[list[str]] = []
        self._n_cases = self._next = self._n_seen = self._n_groups = 0
        self._values: dict[str, dict[int, float | None]] = {}
        self.reason: str | None = None

    def plan(self, keys: Sequence[tuple[str, str | None]], seed: int) -> list[str]:
        """Take the cases of the run and return their ids in the order in which they are to be asked."""
        self._groups = planned_order(keys, seed)
        self._n_cases = len(keys)
        self._look()
        return [case_id for group in self._groups for case_id in group]

    def see(self, case_id: str, repeat: int, value: float | None) -> None:
        """Hear of a score; None: the answer has none, which is known now."""
        self._values.setdefault(case_id, {})[repeat] = value
        self._look()

    def interval(self) -> Interval:
        """Return what is known after all whole groups so far: of the mean, or of the mean difference to the baseline."""
        return self._sequence.interval()

    def _look(self) -> None:
        while self._next < len(self._groups):
            group = self._groups[self._next]
            if any(len(self._values.get(case_id, ())) < self._n_values for case_id in group):
                return
            self._next += 1
            self._n_seen += len(group)
            value = self._mean(group)
            if value is None:
                continue
            try:
                self._sequence.update([value])
            except (
                ValueError
            ):  # a score that leaves its own bounds: nothing holds for it, so nothing stops by it
                self._groups = []
                return
            self._n_groups += 1
            self.reason = self.reason or self._decide()

    def _mean(self, group: Sequence[str]) -> float | None:
        means = []
        for case_id in group:
            known = [value for value in self._values[case_id].values() if value is not None]
            if not known or (self._baseline is not None and case_id not in self._baseline):
                continue
            mean = math.fsum(known) / len(known)
            means.append(mean - self._baseline[case_id] if self._baseline is not None else mean)
        return math.fsum(means) / len(means) if means else None

    def _decide(self) -> str | None:
        rule, found = self.rule, self._sequence.interval()
        is_rule = rule.half_width is not None or rule.threshold is not None or rule.baseline is not None
        if not is_rule or self._n_groups < MIN_GROUPS or found.low is None or found.high is None:
            return None
        if rule.half_width is not None:
            if (found.high - found.low) / 2.0 > rule.half_width:
                return None
            told = f"is known to ± {rule.half_width:g}"
        else:
            bound = -self._sign * rule.margin if rule.threshold is None else rule.threshold
            if not found.excludes(bound):
                return None
            side = "above" if found.low > bound else "below"
            if rule.threshold is not None:
                told = f"is {side} {bound:g}"
            else:
                told = f"minus that of {rule.baseline} is {side} {bound:g}"
        return (
            f"{DECIDED}{rule.score} {told} ({rule.level * 100:g} % confidence sequence {found.low:.3g} to "
            f"{found.high:.3g}) after {self._n_seen:,} of {self._n_cases:,} cases"
        )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def held_interval(
    cases: Sequence[ScoredCase],
    measure: Measure,
    *,
    seed: int,
    level: float,
    baseline: Sequence[ScoredCase] | None = None,
) -> Interval:
    """Return the confidence sequence of what a run with a rule has scored: of the mean, or of the mean difference.

    It is that of all whole groups before the first that was not asked, in the order of the run.
    """
    rule = StopWhen(score=measure.name, level=level)
    before = (
        None if baseline is None else {each.case_id: _mean(each.values) for each in baseline if each.values}
    )
    early = EarlyStop(rule, measure, n_values=1, baseline=before)
    for case in cases:
        if case.values or not case.n_skipped:
            early.see(case.case_id, 0, _mean(case.values) if case.values else None)
    early.plan([(case.case_id, case.group) for case in cases], seed)
    return early.interval()


def hold_estimate(made: Estimate, cases: Sequence[ScoredCase], measure: Measure, *, seed: int) -> Estimate:
    """Return the estimate of a score by which a run could stop, with the interval that holds although it was looked at."""
    if bounds_of(measure) is None:  # its run was refused
        return made
    found = held_interval(cases, measure, seed=seed, level=made.level)
    if found.low is None:
        return made
    return msgspec.structs.replace(
        made, value=found.value, low=found.low, high=found.high, method=f"{found.method}, valid at any stop"
    )


def hold_comparison(
    made: Comparison,
    baseline: Sequence[ScoredCase],
    candidate: Sequence[ScoredCase],
    measure: Measure,
    *,
    seed: int,
) -> Comparison:
    """Return the comparison by which a run could stop, with the interval that holds although it was looked at."""
    if bounds_of(measure) is None:
        return made
    found = held_interval(candidate, measure, seed=seed, level=made.level, baseline=baseline)
    if found.low is None or found.high is None or made.word == "invalid":
        return made
    word: ComparisonWord = "undecided"
    if found.excludes(0.0) and measure.direction != "none":
        word = "better" if (found.low > 0.0) == (measure.direction == "higher") else "worse"
    return msgspec.structs.replace(
        made,
        difference=found.value,
        low=found.low,
        high=found.high,
        p_value=None,
        p_adjusted=None,
        correction=None,
        method=f"{found.method}, valid at any stop",
        word=word,
        reason="" if word != "undecided" else "the interval holds 0",
    )


def early_text(rule: StopWhen) -> str:
    """Return what a rule may do, before anything is asked."""
    if rule.half_width is not None:
        what = f"{rule.score} is known to ± {rule.half_width:g}"
    elif rule.threshold is not None:
        what = f"{rule.score} is surely above or below {rule.threshold:g}"
    else:
        what = f"it is sure whether {rule.score} is worse than that of {rule.baseline} by more than {rule.margin:g}"
    return f"It may end early, as soon as {what}: calls, tokens and cost are the most that it can take."


def saved_by(record: EvaluationRecord) -> str | None:
    """Return what an early end saved, in a sentence; None where the run did not end by its rule."""
    n_asked = record.n_asked
    if record.state != "stopped" or not (record.reason or "").startswith(DECIDED) or n_asked is None:
        return None
    n_left, n_paid = n_asked - record.n_outputs, record.n_outputs - record.n_cached
    told = []
    if n_paid > 0:
        tokens = (record.input_tokens or 0) + (record.output_tokens or 0)
        if tokens:
            told.append(f"about {tokens * n_left // n_paid:,} tokens")
        if record.cost_usd:
            told.append(f"${record.cost_usd * n_left / n_paid:.4f}")
    saved = f": {' and '.join(told)} saved" if told else ""
    return f"{n_left:,} of {n_asked:,} answers were not needed{saved}."


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
