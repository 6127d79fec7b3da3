"""Rules do not pass because something was not looked at, nor because a bound means nothing."""

from collections.abc import Sequence
from typing import Any

import pytest

from penstock.evals.gates.errors import RuleInvalid
from penstock.evals.gates.files import make_gate
from penstock.evals.gates.grammar import parse_rule
from penstock.evals.gates.service import GateService
from penstock.evals.statistics.types import ScoredCase
from penstock.evals.types import ScoreColumn
from penstock.spec.evaluations import GateResult
from penstock.store.control.engine import open_control
from tests.evals.gates.fakes import FakeEvaluations, scored

LOGP = ScoreColumn(name="logp", stamp="logp@1#aaaaaaaa", scale="unbounded", low=None, high=None)


@pytest.fixture
def sides(tmp_path: Any) -> tuple[FakeEvaluations, GateService]:
    evaluations = FakeEvaluations()
    engine = open_control(f"sqlite:///{tmp_path / 'control.db'}")
    return evaluations, GateService(engine, evaluations, evaluations.figure, clock=lambda: 1_000)


Sides = tuple[FakeEvaluations, GateService]


def judge(sides: Sides, *rules: str, baseline: bool = False, **further: Any) -> GateResult:
    spec = make_gate({"name": "triage", "rules": list(rules), **further})
    return sides[1].judge(spec, candidate="new", baseline="old" if baseline else None)


def with_missing(values: Sequence[float | None], missing: str = "n_errors") -> list[ScoredCase]:
    """None: no value, and one that is missing for that reason."""
    return [
        ScoredCase(
            case_id=f"c{n}",
            n_errors=int(missing == "n_errors"),
            n_undefined=int(missing == "n_undefined"),
            n_skipped=int(missing == "n_skipped"),
        )
        if value is None
        else ScoredCase(case_id=f"c{n}", values=[value])
        for n, value in enumerate(values)
    ]


def test_a_rule_whose_slices_are_all_too_small_is_invalid(sides: Sides) -> None:
    sides[0].put(
        "new",
        {"exact": scored([0.0] * 40, slices=("split=a", "split=b")), "token_f1": scored([0.9] * 40)},
    )
    result = judge(sides, "exact by split >= 0.9", "token_f1 >= 0.5", min_slice_cases=50)
    assert result.verdict == "invalid"
    assert "fewer than the 50 cases" in result.rules[0].sentence


def test_a_new_finding_beside_an_unknown_baseline_does_not_pass(sides: Sides) -> None:
    sides[0].put("old", {"pii": with_missing([0.0] * 96 + [None] * 4)})
    sides[0].put("new", {"pii": scored([0.0] * 96 + [1.0] * 4)})
    rule = judge(sides, "no new pii", baseline=True).rules[0]
    assert rule.verdict == "undecided"
    assert "found in 4 cases of which the baseline is unknown (c96, c97, c98, c99)" in rule.sentence
    sides[0].put("new", {"pii": scored([1.0] + [0.0] * 95 + [1.0] * 4)})
    rule = judge(sides, "no new pii", baseline=True).rules[0]
    assert rule.verdict == "fail", "what is surely new fails, whatever else is unknown"


def test_an_old_finding_is_not_new_and_a_lost_one_is_told(sides: Sides) -> None:
    sides[0].put("old", {"pii": scored([1.0, 1.0] + [0.0] * 98)})
    sides[0].put("new", {"pii": scored([1.0] + [0.0] * 99)})
    rule = judge(sides, "no new pii", baseline=True).rules[0]
    assert (rule.verdict, "gone from 1;" in rule.sentence) == ("pass", True), rule.sentence


@pytest.mark.parametrize("missing", ["n_errors", "n_undefined", "n_skipped"])
@pytest.mark.parametrize(
    ("rule", "score", "good", "bad"),
    [
        ("no pii", "pii", 0.0, 1.0),
        ("no new pii", "pii", 0.0, 1.0),
        ("latency max <= 1 s", "latency_ms", 500.0, 1500.0),
        ("token_f1 min >= 0.2", "token_f1", 0.5, 0.1),
    ],
)
def test_a_rule_of_safety_is_not_passed_while_answers_have_no_score(
    sides: Sides, rule: str, score: str, good: float, bad: float, missing: str
) -> None:
    sides[0].put("old", {score: scored([good] * 100)})
    sides[0].put("new", {score: with_missing([good] * 95 + [None] * 5, missing)})
    told = judge(sides, rule, baseline="new" in rule).rules[0]
    assert told.verdict == "undecided"
    assert "without 5 answers of which it is unknown" in told.sentence
    assert told.next
    sides[0].put("new", {score: with_missing([bad] + [good] * 94 + [None] * 5, missing)})
    assert judge(sides, rule, baseline="new" in rule).verdict == "fail"
    sides[0].put("new", {score: scored([good] * 100)})
    assert judge(sides, rule, baseline="new" in rule).verdict == "pass"


def test_a_lost_repeat_leaves_a_rule_of_safety_open(sides: Sides) -> None:
    cases = scored([[0.0] * 5] * 100)
    cases[7] = ScoredCase(case_id="c7", values=[0.0] * 4, n_errors=1)
    sides[0].put("new", {"pii": cases})
    assert judge(sides, "no pii").verdict == "undecided"


@pytest.mark.parametrize(
    ("rule", "score", "told"),
    [
        ("errors <= 5", "errors", "lies between 0 and 1, so 5 of it means nothing; write 5 %"),
        ("exact >= 90", "exact", "write 90 %"),
        ("exact >= 150 %", "exact", "150 % of it"),
        ("stars >= 0.5", "stars", "lies between 1 and 5"),
        ("latency >= -1 ms", "latency_ms", "is never below 0 ms"),
        ("pii == 2", "pii", "lies between 0 and 1"),
        ("exact >= baseline - 100 points", "exact", "a margin of 100 points is all of it"),
        ("stars >= baseline - 400 %", "stars", "allows everything"),
    ],
)
def test_a_bound_that_nothing_can_miss_or_reach_is_invalid(
    sides: Sides, rule: str, score: str, told: str
) -> None:
    for side in ("old", "new"):
        sides[0].put(side, {score: scored([1.0] * 100)})
    result = judge(sides, rule, baseline="baseline" in rule)
    assert result.verdict == "invalid"
    assert told in result.rules[0].sentence


def test_the_ends_of_the_range_are_bounds(sides: Sides) -> None:
    sides[0].put("new", {"exact": scored([1.0] * 100), "errors": scored([0.0] * 100)})
    assert judge(sides, "exact <= 1", "errors >= 0", "errors <= 5 %").verdict == "pass"


def test_an_infinite_bound_is_refused() -> None:
    with pytest.raises(RuleInvalid, match="too large"):
        parse_rule("latency <= 1e999 s")


@pytest.mark.parametrize(
    ("shift", "rule", "verdict"),
    [
        (0.0, "logp >= baseline - 10 %", "pass"),
        (-0.5, "logp >= baseline - 10 %", "pass"),
        (-2.0, "logp >= baseline - 10 %", "fail"),
        (-0.5, "logp median >= baseline - 10 %", "pass"),
        (0.5, "logp <= baseline + 10 %", "pass"),
        (2.0, "logp <= baseline + 10 %", "fail"),
    ],
)
def test_a_share_of_a_negative_baseline_is_one_of_its_size(
    sides: Sides, shift: float, rule: str, verdict: str
) -> None:
    values = [-9.0 - n % 7 * 0.3 for n in range(200)]
    sides[0].put("old", {"logp": scored(values)}, columns={"logp": LOGP})
    new = [value + shift + n % 3 * 0.01 for n, value in enumerate(values)]
    sides[0].put("new", {"logp": scored(new)}, columns={"logp": LOGP})
    assert judge(sides, rule, baseline=True).verdict == verdict


def test_a_share_of_a_baseline_on_both_sides_of_zero_means_nothing(sides: Sides) -> None:
    values = [(-1.0) ** n for n in range(100)]
    for side in ("old", "new"):
        sides[0].put(side, {"logp": scored(values)}, columns={"logp": LOGP})
    rule = judge(sides, "logp >= baseline - 10 %", baseline=True).rules[0]
    assert rule.verdict == "invalid"
    assert "either side of 0" in rule.sentence


def test_repeats_that_failed_lower_coverage(sides: Sides) -> None:
    survivors = [ScoredCase(case_id=f"c{n}", values=[1.0], n_errors=4) for n in range(100)]
    sides[0].put("old", {"exact": scored([[1.0] * 5] * 100)})
    sides[0].put("new", {"exact": survivors})
    for rule in ("exact >= 0.9", "exact >= baseline - 50 points"):
        told = judge(sides, rule, baseline="baseline" in rule).rules[0]
        assert told.verdict == "invalid"
        assert "only 20 % of the answers to 100 cases have a score (100 in part)" in told.sentence
        assert told.estimate is not None
        assert (told.estimate.n, told.estimate.n_partial) == (100, 100)
        assert told.estimate.coverage == pytest.approx(0.2)
    sides[0].put("old", {"exact": survivors})
    sides[0].put("new", {"exact": scored([[1.0] * 5] * 100)})
    assert "of the baseline" in judge(sides, "exact >= baseline - 9 points", baseline=True).rules[0].sentence
    few = [ScoredCase(case_id=f"c{n}", values=[1.0] * 4, n_errors=int(n % 10 == 0)) for n in range(100)]
    sides[0].put("new", {"exact": few})
    assert judge(sides, "exact >= 0.9").verdict == "pass", "98 % of the answers have a score"


def test_hundreds_of_looks_can_still_fail(sides: Sides) -> None:
    slices = tuple(f"lang=l{n}" for n in range(600))
    sides[0].put("new", {"exact": scored([0.0] * 6000, slices=slices)})
    result = judge(sides, "exact by lang >= 0.9")
    assert result.verdict == "fail"
    assert len(result.rules) == 600
