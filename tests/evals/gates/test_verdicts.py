"""Verdicts: what passes, fails, stays undecided or is invalid, and what is said of it."""

from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from penstock.evals.gates.errors import GateBusy
from penstock.evals.gates.files import make_gate
from penstock.evals.gates.reports import EXIT_CODES, to_junit, to_lines, to_markdown
from penstock.evals.gates.service import GateService
from penstock.evals.statistics.types import ScoredCase
from penstock.evals.types import ScoreColumn
from penstock.spec.evaluations import GateResult
from penstock.store.control.engine import open_control
from tests.evals.gates.fakes import FakeEvaluations, scored

RNG = np.random.default_rng(1)
EASE = RNG.beta(3, 1, 200)


@pytest.fixture
def house(tmp_path: Any) -> tuple[FakeEvaluations, GateService]:
    evaluations = FakeEvaluations()
    engine = open_control(f"sqlite:///{tmp_path / 'control.db'}")
    return evaluations, GateService(engine, evaluations, evaluations.figure, clock=lambda: 1_000)


House = tuple[FakeEvaluations, GateService]


def judge(house: House, *rules: str, baseline: bool = True, **further: Any) -> GateResult:
    spec = make_gate({"name": "triage", "rules": list(rules), **further})
    return house[1].judge(spec, candidate="new", baseline="old" if baseline else None, actor="ann")


def put_pair(house: House, shift: float, n: int = 200, **further: Any) -> None:
    rng = np.random.default_rng(2)
    old = np.clip(EASE[:n] + rng.normal(0, 0.05, n), 0, 1)
    new = np.clip(old + shift + rng.normal(0, 0.05, n), 0, 1)
    house[0].put("old", {"token_f1": scored(old)}, model="prompt:triage@6")
    house[0].put("new", {"token_f1": scored(new)}, **further)


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.04, "pass"), (0.005, "pass"), (-0.004, "undecided"), (-0.05, "fail")]
)
def test_a_margin_is_passed_failed_or_undecided(house: House, shift: float, verdict: str) -> None:
    put_pair(house, shift)
    result = judge(house, "token_f1 >= baseline - 1 point")
    assert result.verdict == verdict
    assert result.rules[0].comparison is not None
    assert bool(result.rules[0].next) == (verdict != "pass")


def test_the_sentence_tells_figure_interval_pairs_and_verdict(house: House) -> None:
    new = [1.0] * 30 + [1.0] * 120 + [0.0] * 64
    old = [0.0] * 30 + [1.0] * 120 + [1.0] * 8 + [0.0] * 56
    house[0].put("old", {"exact": scored(old)})
    house[0].put("new", {"exact": scored(new)})
    result = judge(house, "exact > baseline", "exact >= 0.6")
    assert result.rules[0].sentence == (
        "exact 0.70 beats baseline 0.60 by 10.3 points (95 % interval 4.7 to 15.8, 214 paired cases): pass."
    )
    assert result.rules[1].sentence == (
        "exact 0.70 (95 % interval 0.64 to 0.76, 214 cases), at least 0.60 asked for: pass."
    )


def test_what_chance_may_explain_is_called_neither_better_nor_worse(house: House) -> None:
    put_pair(house, 0.001)
    sentence = judge(house, "token_f1 > baseline").rules[0].sentence
    assert "beats" not in sentence
    assert "points below baseline" in sentence


def test_a_mean_at_the_bound_is_no_coin_to_toss(house: House) -> None:
    house[0].put("new", {"exact": scored([1.0] * 80 + [0.0] * 20)})
    result = judge(house, "exact >= 0.8", baseline=False)
    assert result.verdict == "undecided"
    assert '">= 0.71" would pass with the cases that are there' in result.rules[0].next
    house[0].put("new", {"exact": scored([1.0] * 81 + [0.0] * 19)})
    told = judge(house, "exact >= 0.8", baseline=False).rules[0].next
    assert "About 16,000 more cases" in told
    assert '">= 0.72" would pass with' in told


@pytest.mark.parametrize(
    ("n_groups", "n_more"),
    [(None, "About 87 more cases (≈ $0.35) that come"), (16, "About 360 more cases in about 59 more groups")],
)
def test_pairs_that_are_all_equal_say_how_many_more_would_decide(
    house: House, n_groups: int | None, n_more: str
) -> None:
    groups = None if n_groups is None else [str(n % n_groups) for n in range(96)]
    values = RNG.random(96)
    for side in ("old", "new"):
        house[0].put(side, {"token_f1": scored(values, groups=groups)})
    rule = judge(house, "token_f1 >= baseline - 2 points").rules[0]
    assert (rule.verdict, n_more in rule.next) == ("undecided", True), rule.next
    assert "come out like these would decide it" in rule.next
    bold = judge(house, "token_f1 >= baseline - 10 points").rules[0]
    assert bold.verdict == "pass", "96 equal pairs in 16 groups bound what was not seen at 9.1 points"
    nothing = judge(house, "token_f1 >= baseline").rules[0]
    assert f'">= baseline − {9.2 if n_groups else 3.8} points" would pass' in nothing.next
    # what is advised does decide it
    n = 96 + (360 if n_groups else 87)
    groups = None if n_groups is None else [str(i // 6) for i in range(n)]
    for side in ("old", "new"):
        house[0].put(side, {"token_f1": scored(RNG.random(n) * 0 + 0.5, groups=groups)})
    assert judge(house, "token_f1 >= baseline - 2 points").verdict == "pass"


def test_perfect_scores_say_how_many_more_would_decide(house: House) -> None:
    groups = [str(n % 8) for n in range(48)]
    house[0].put("new", {"exact": scored([1.0] * 48, groups=groups)})
    rule = judge(house, "exact >= 0.9", baseline=False).rules[0]
    assert rule.verdict == "undecided"
    assert "more cases in about" in rule.next
    assert "come out like these would decide it" in rule.next


def test_what_describes_the_service_is_counted_by_case_whatever_the_groups(house: House) -> None:
    groups = [str(n % 16) for n in range(96)]
    house[0].put(
        "new",
        {
            "errors": scored([0.0] * 96, groups=groups),
            "latency_ms": scored(np.linspace(100, 900, 96), groups=groups),
        },
    )
    result = judge(house, "errors <= 5 %", "latency p95 <= 2 s", baseline=False)
    assert [rule.verdict for rule in result.rules] == ["pass", "pass"]
    assert [rule.estimate.method for rule in result.rules if rule.estimate] == [
        "wilson, by case",
        "order statistics, by case",
    ]


def test_more_cases_are_counted_and_priced(house: House) -> None:
    house[0].put("new", {"exact": scored([1.0] * 85 + [0.0] * 15)})
    told = judge(house, "exact >= 0.8", baseline=False).rules[0].next
    assert told.startswith("About ")
    assert "more cases (≈ $0." in told


def test_more_repeats_are_named_for_whoever_has_no_more_cases(house: House) -> None:
    house[0].put("new", {"exact": scored([[1.0, 1.0]] * 42 + [[1.0, 0.0]] * 18)})
    told = judge(house, "exact >= 0.8", baseline=False).rules[0].next
    assert ", or repeats = 8 of the same cases, would decide" in told
    house[0].put("new", {"exact": scored([[1.0, 1.0]] * 51 + [[0.0, 0.0]] * 9)})
    told = judge(house, "exact >= 0.8", baseline=False).rules[0].next
    assert "repeats" not in told, "what differs between cases is not averaged out by repeats"


def test_a_tail_needs_enough_outputs(house: House) -> None:
    house[0].put("new", {"latency_ms": scored(np.linspace(100, 900, 50))})
    result = judge(house, "latency p95 <= 2 s", baseline=False)
    assert (result.verdict, result.rules[0].next) == (
        "undecided",
        "At least 72 cases bound it at all: 22 more (≈ $0.044).",
    )
    house[0].put("new", {"latency_ms": scored(np.linspace(100, 900, 100))})
    assert judge(house, "latency p95 <= 2 s", baseline=False).verdict == "pass"
    assert judge(house, "latency p95 <= 300 ms", baseline=False).verdict == "fail"


def test_facts_need_no_interval(house: House) -> None:
    clean, found = [0.0] * 60, [0.0] * 59 + [1.0]
    house[0].put("old", {"pii": scored(found)})
    house[0].put(
        "new", {"pii": scored(clean), "cost_usd": scored([0.01] * 60), "latency_ms": scored([9.0] * 60)}
    )
    result = judge(house, "no pii", "no new pii", "cost total <= 1 usd", "latency max <= 10")
    assert [rule.verdict for rule in result.rules] == ["pass"] * 4
    assert "in all 60 cases" in result.rules[0].sentence
    assert "gone from 1" in result.rules[1].sentence
    house[0].put("new", {"pii": scored([1.0, *clean[1:]])})
    result = judge(house, "no pii", "no new pii")
    assert [rule.verdict for rule in result.rules] == ["fail", "fail"]
    assert "(c0)" in result.rules[1].sentence


def test_an_unknown_cost_leaves_a_bound_open(house: House) -> None:
    house[0].put("new", {"cost_usd": scored([0.01] * 60)}, n_cost_unknown=3)
    result = judge(house, "cost total <= 1 usd", baseline=False)
    assert (result.verdict, "price create" in result.rules[0].next) == ("undecided", True)
    assert judge(house, "cost total <= 0.1 usd", baseline=False).verdict == "fail", (
        "the known part is too much"
    )


def test_slices_are_judged_each(house: House) -> None:
    slices = ("lang=de", "lang=en", "lang=en", "lang=en")
    good, bad = np.full(400, 0.9), np.where(np.arange(400) % 4 == 0, 0.2, 0.9)
    noise = np.random.default_rng(4).normal(0, 0.03, 400)
    house[0].put("old", {"token_f1": scored(np.clip(good + noise, 0, 1), slices=slices)})
    house[0].put("new", {"token_f1": scored(np.clip(bad - noise, 0, 1), slices=slices)})
    result = judge(house, "token_f1 by lang >= baseline - 2 points")
    assert [(rule.slice, rule.verdict) for rule in result.rules] == [("lang=de", "fail"), ("lang=en", "pass")]
    assert judge(house, "token_f1 by tag >= 0.1").verdict == "invalid"
    few = judge(house, "token_f1 by lang >= 0.1", min_slice_cases=200)
    assert (few.left_out, len(few.rules)) == (["lang=de (100 cases)"], 1)


def test_fails_are_corrected_for_the_number_of_looks_and_passes_are_not(house: House) -> None:
    rng = np.random.default_rng(5)
    old = rng.binomial(1, 0.8, 120).astype(float)
    new = old.copy()
    new[np.flatnonzero(old)[:7]] = 0.0
    steady = scored(np.full(120, 0.9) + rng.normal(0, 0.01, 120))
    house[0].put("old", {"exact": scored(old), "token_f1": steady})
    house[0].put("new", {"exact": scored(new), "token_f1": steady})
    assert judge(house, "exact >= baseline").verdict == "fail"
    looks = [*["token_f1 >= 0.5"] * 10, "exact >= baseline"]
    among = judge(house, *looks)
    assert among.verdict == "undecided"
    assert "as one of 11 looks" in among.rules[-1].sentence
    assert [rule.verdict for rule in among.rules[:-1]] == ["pass"] * 10
    assert judge(house, *looks, correction="none").verdict == "fail"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"set_id": "set_2", "dataset_stamp": "2@sha256:eeeeeeeeeeee"}, "asked different cases"),
        ({"state": "failed", "reason": "no route"}, "evaluation old failed: no route"),
        (
            {"columns": {"token_f1": ScoreColumn(name="token_f1", stamp="token_f1@2#bbbbbbbb")}},
            "different scorers",
        ),
    ],
)
def test_sides_that_may_not_be_compared_are_invalid(house: House, fields: dict[str, Any], told: str) -> None:
    put_pair(house, 0.1)
    house[0].put("old", {"token_f1": scored(EASE)}, **fields)
    result = judge(house, "token_f1 >= baseline", "token_f1 >= 0.1")
    assert result.verdict == "invalid"
    assert told in result.rules[0].sentence
    assert result.rules[1].verdict == "pass", "a rule against a number needs no baseline"


def test_without_baseline_pairs_score_or_coverage_a_rule_is_invalid(house: House) -> None:
    put_pair(house, 0.1)
    assert "there is no baseline" in judge(house, "token_f1 >= baseline", baseline=False).reason
    assert "has no score 'bleu'" in judge(house, "bleu >= 0.3").reason
    same = house[1].judge(
        make_gate({"name": "g", "rules": ["token_f1 >= baseline"]}), candidate="new", baseline="new"
    )
    assert "the same evaluation" in same.reason
    errors = [ScoredCase(case_id=f"e{n}", n_errors=1) for n in range(20)]
    house[0].put("new", {"token_f1": [*scored([0.9] * 180), *errors]})
    lacking = judge(house, "token_f1 >= 0.5", baseline=False)
    assert (lacking.verdict, "only 180 of 200 cases have a score (20 errors)" in lacking.reason) == (
        "invalid",
        True,
    )
    assert judge(house, "token_f1 >= 0.5", baseline=False, min_coverage=0.9).verdict == "pass"
    house[0].put("new", {"token_f1": [ScoredCase(case_id="u", n_undefined=1)]})
    assert judge(house, "token_f1 >= 0.5", baseline=False, min_coverage=0.0).verdict == "invalid"
    house[0].put("new", {"token_f1": []}, n_cases=0)
    assert "has no cases" in judge(house, "token_f1 >= 0.5", baseline=False).reason


def test_units_must_fit_the_score(house: House) -> None:
    house[0].put("old", {"stars": scored([3.0, 4.0] * 50), "latency_ms": scored([100.0, 90.0] * 50)})
    house[0].put("new", {"stars": scored([3.1, 4.1] * 50), "latency_ms": scored([100.0, 91.0] * 50)})
    result = judge(
        house, "stars >= baseline - 10 points", "stars >= 50 %", "latency <= 5 %", "latency <= 3 usd"
    )
    assert [rule.verdict for rule in result.rules] == ["pass", "pass", "invalid", "invalid"]
    assert judge(house, "latency <= baseline + 10 points").verdict == "invalid"
    assert judge(house, "latency <= baseline + 10 %").verdict == "pass"
    assert judge(house, "latency p50 <= baseline + 5 ms").verdict == "pass"


def test_one_case_decides_nothing(house: House) -> None:
    house[0].put("old", {"token_f1": scored([0.1])})
    house[0].put("new", {"token_f1": scored([0.9])})
    result = judge(house, "token_f1 >= baseline", "token_f1 >= 0.5")
    assert [rule.verdict for rule in result.rules] == ["undecided", "undecided"]


def test_a_verdict_is_kept_and_found(house: House) -> None:
    put_pair(house, 0.05)
    result = judge(house, "token_f1 >= baseline")
    assert house[1].get(f"gate:{result.id}") == result
    assert (result.candidate, result.baseline, result.actor) == ("prompt:triage@7", "prompt:triage@6", "ann")
    assert result.versions["prompt:triage"] == "7@sha256:000000000007"
    assert result.versions["baseline prompt:triage"] == "6@sha256:000000000006"
    assert [row.id for row in house[1].list().rows] == [result.id]


def test_a_running_evaluation_is_waited_for(house: House) -> None:
    put_pair(house, 0.0, state="running")
    with pytest.raises(GateBusy):
        judge(house, "token_f1 >= 0.1")


def test_reports_hold_every_rule_whatever_its_text(house: House) -> None:
    put_pair(house, -0.05)
    result = judge(house, "token_f1 >= baseline", "token_f1 >= 0.1", '"a|<b>" >= 1', "token_f1 >= 0.75")
    tree = ET.fromstring(to_junit(result))
    assert (tree.get("tests"), tree.get("failures"), tree.get("errors")) == ("4", "2", "1")
    assert [case.get("name") for case in tree] == [rule.rule for rule in result.rules]
    markdown = to_markdown(result)
    assert "<b>" not in markdown.replace('`"a\\|<b>" >= 1`', "")
    assert markdown.splitlines()[0] == "### ! triage: invalid"
    assert len(to_lines(result)) > len(result.rules)
    assert (EXIT_CODES["pass"], len(set(EXIT_CODES.values()))) == (0, 4)


@pytest.mark.parametrize(("value", "is_told"), [(0.0, True), (0.5, False), (1.0, False)])
def test_a_comparison_in_which_nobody_could_do_worse_says_that_it_shows_nothing(
    house: House, value: float, is_told: bool
) -> None:
    for name, number in (("old", 6), ("new", 7)):
        house[0].put(name, {"token_f1": scored([value] * 60)}, model=f"prompt:triage@{number}")
    (rule,) = judge(house, "token_f1 >= baseline - 20 points").rules
    assert ("so this shows nothing" in rule.sentence) == is_told
