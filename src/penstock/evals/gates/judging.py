"""Verdicts: each look pass, fail, undecided or invalid, and the gate from all of them.

A look passes when its interval lies wholly on the right side of its bound, and fails when wholly on the wrong one. The
surprise: only fails are corrected for the number of looks. A gate passes when every look does, so that a wrong pass needs one
look to be wrong at the stated level, however many there are (an intersection-union test; Berger, Technometrics 24, 1982);
a wrong fail of any one look would fail it, and that chance grows with each look unless it is corrected (Holm).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.evals.gates.advice import advise
from penstock.evals.gates.look_types import Counted, Look, Room, Unreadable, Weighed
from penstock.evals.gates.looks import make_looks
from penstock.evals.gates.sentences import sentence_of
from penstock.evals.gates.types import CorrectionWord, Rule
from penstock.evals.statistics.comparisons import threshold_p
from penstock.evals.statistics.families import adjust
from penstock.evals.statistics.types import Interval
from penstock.spec.evaluations import RuleResult, VerdictWord

WEIGHT: dict[VerdictWord, int] = {"invalid": 3, "fail": 2, "undecided": 1, "pass": 0}
"""The gate's verdict is the heaviest of its rules'."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A gate's verdict with that of each look."""

    verdict: VerdictWord
    reason: str
    rules: list[RuleResult]


def judge_rules(rules: Sequence[Rule], room: Room, *, correction: CorrectionWord = "holm") -> Judged:
    """Return the verdict of all rules together."""
    problem = room.candidate.problem
    if problem is not None:
        return Judged(verdict="invalid", reason=f"{problem}.".capitalize(), rules=[])
    looks = [look for rule in rules for look in make_looks(rule, room)]
    weighed = [look for look in looks if isinstance(look, Weighed)]
    intervals = [look.interval for look in weighed]
    failing = [_side(look, interval) == "wrong" for look, interval in zip(weighed, intervals, strict=True)]
    p_values: list[float | None] = [
        _fail_p(look, interval, is_failing)
        for look, interval, is_failing in zip(weighed, intervals, failing, strict=True)
    ]
    adjusted = p_values if correction == "none" else adjust(p_values, correction)
    told = dict(zip(map(id, weighed), adjusted, strict=True))
    results = [_judge(look, room, told.get(id(look)), len(weighed), correction) for look in looks]
    words: list[VerdictWord] = [result.verdict for result in results] or ["invalid"]
    verdict = max(words, key=WEIGHT.__getitem__)
    return Judged(verdict=verdict, reason=_reason(verdict, results), rules=results)


def _judge(
    look: Look, room: Room, adjusted: float | None, n_looks: int, correction: CorrectionWord
) -> RuleResult:
    verdict: VerdictWord
    note, advice = "", ""
    if isinstance(look, Unreadable):
        verdict, advice = "invalid", look.next
    elif isinstance(look, Counted):
        verdict = "undecided" if look.is_open else "pass" if look.has_passed else "fail"
        advice = look.next
    else:
        verdict, note, advice = _weigh(look, room, adjusted, n_looks, correction)
    return RuleResult(
        rule=look.rule.text,
        verdict=verdict,
        sentence=sentence_of(look, verdict, note),
        next=advice if verdict != "pass" else "",
        estimate=look.estimate,
        comparison=look.comparison if isinstance(look, Weighed) else None,
        slice=look.part,
    )


def _weigh(
    look: Weighed, room: Room, adjusted: float | None, n_looks: int, correction: CorrectionWord
) -> tuple[VerdictWord, str, str]:
    interval = look.interval
    side = _side(look, interval)
    if side == "right":
        return "pass", "", ""
    cost = room.candidate.cost_per_output
    if side == "wrong":
        if adjusted is not None and adjusted <= 1.0 - look.level + 1e-12:
            return "fail", "", _after_fail(look)
        note = f"as one of {n_looks} looks p = {adjusted:.2g} ({correction})" if adjusted is not None else ""
        return "undecided", note, advise(look, cost_per_output=cost, corrected=adjusted)
    return "undecided", "", advise(look, cost_per_output=cost)


def _side(look: Weighed, interval: Interval) -> str:
    """On which side of the bound the whole interval lies: right, wrong, or neither."""
    if interval.low is None or interval.high is None:
        return "neither"
    low, high, bound = interval.low, interval.high, look.threshold
    match look.rule.operator:
        case ">=":
            return "right" if low >= bound else "wrong" if high < bound else "neither"
        case ">":
            return "right" if low > bound else "wrong" if high <= bound else "neither"
        case "<=":
            return "right" if high <= bound else "wrong" if low > bound else "neither"
        case _:
            return "right" if high < bound else "wrong" if low >= bound else "neither"


def _fail_p(look: Weighed, interval: Interval, is_failing: bool) -> float | None:
    """The p-value against the bound where the figure is on its wrong side; else 1: it speaks for no fail."""
    if interval.value is None:
        return None
    if not is_failing:
        return 1.0
    p = threshold_p(look.at, look.threshold)
    return 1.0 if p is None else p


def _after_fail(look: Weighed) -> str:
    where = f" of {look.part}" if look.part else ""
    if look.is_difference:
        return f"Look at the cases{where} that got worse: penstock eval diff."
    return f"Look at the worst cases{where}: penstock eval cases."


def _reason(verdict: VerdictWord, results: Sequence[RuleResult]) -> str:
    counts = {word: sum(result.verdict == word for result in results) for word in WEIGHT}
    heaviest = [result for result in results if result.verdict == verdict]
    n = len(results)
    if verdict == "pass":
        text = f"All {n} looks pass." if n > 1 else results[0].sentence
    else:
        first = heaviest[0].sentence if heaviest else "There is nothing to judge."
        others = counts[verdict] - 1
        text = first + (f" And {others} more like it." if others > 0 else "")
    return text
