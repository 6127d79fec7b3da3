"""Runs that end as soon as their question is decided: in planned order, with an interval that holds, and the saving told."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from penstock.evals.early_stop import DECIDED, EarlyStop, planned_order
from penstock.evals.errors import EvaluationInvalid
from penstock.evals.statistics.types import PlainMeasure
from penstock.spec.evaluations import ScorerSpec, StopWhen
from tests.evals.running.house import House, echo

EXACT = PlainMeasure(name="exact", scale="binary")
ALWAYS = StopWhen(score="exact", threshold=0.5)


def figure(house: House, evaluation_id: str) -> Any:
    report = house.service.estimates(evaluation_id)
    return next(each for each in report.estimates if each.name == "exact"), report.notes


def test_a_run_ends_when_its_score_is_decided_and_tells_what_that_saved(house: House) -> None:
    house.fill(400)
    record = house.evaluate(stop_when=ALWAYS)
    assert record.state == "stopped"
    assert (record.reason or "").startswith(f"{DECIDED}exact is above 0.5 (95 % confidence sequence")
    assert 10 <= record.n_ok < 60
    found, notes = figure(house, record.id)
    assert found.method == "confidence sequence by betting, valid at any stop"
    assert found.low is not None
    assert found.low > 0.5
    assert any(f"{400 - record.n_ok} of 400 answers were not needed: about" in note for note in notes), notes
    house.service.resume(record.id)
    ended = house.run(record.id)
    assert (ended.state, ended.n_ok, max(house.gateway.asked.values())) == ("done", 400, 1)


def test_an_undecided_run_asks_every_case(house: House) -> None:
    house.fill(60)
    record = house.evaluate(stop_when=StopWhen(score="exact", half_width=0.001))
    assert (record.state, record.n_ok) == ("done", 60)
    assert "confidence sequence" in figure(house, record.id)[0].method


def test_a_run_ends_when_the_difference_to_a_baseline_is_decided(house: House) -> None:
    house.fill(400)
    before = house.evaluate(name="before")

    def worse(body: Mapping[str, Any], n_before: int) -> str:
        return "wrong" if body["model"] == "bad" else echo(body, n_before)

    house.gateway.answer = worse
    target = {"model": "bad"}
    rule = StopWhen(score="exact", baseline=f"eval:{before.id}", margin=0.02)
    spec_target = house.spec().target.__class__(**target)
    after = house.evaluate(name="after", target=spec_target, stop_when=rule)
    assert (after.state, "is below -0.02" in (after.reason or "")) == ("stopped", True)
    assert after.n_ok < 100
    compared = house.service.compare(before.id, after.id).comparisons[0]
    assert (compared.word, compared.method) == ("worse", "confidence sequence by betting, valid at any stop")
    assert compared.high is not None
    assert compared.high < -0.02


def test_the_order_is_that_of_the_seed_and_not_of_the_answers() -> None:
    keys = [(f"c{n}", f"g{n // 3}") for n in range(60)]
    order = planned_order(keys, 1)
    assert order == planned_order(keys, 1) != planned_order(keys, 2)
    assert sorted(case for group in order for case in group) == sorted(case for case, _ in keys)
    assert order != [[f"c{3 * n + k}" for k in range(3)] for n in range(20)]
    # quick answers wait for slow ones of groups before them
    early = EarlyStop(ALWAYS, EXACT, n_values=1)
    flat = early.plan(keys, 1)
    for case_id in flat[1:]:
        early.see(case_id, 0, 1.0)
    assert (early.reason, early.interval().n) == (None, 0)
    early.see(flat[0], 0, None)
    assert early.reason is not None
    assert early.interval().n == 20, "a group is one value"


def test_looking_after_every_case_raises_no_more_false_alarms_than_promised() -> None:
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(200):
        early = EarlyStop(ALWAYS, EXACT, n_values=1)
        order = early.plan([(str(n), None) for n in range(200)], 1)
        for case_id, value in zip(order, rng.binomial(1, 0.5, 200), strict=True):
            early.see(case_id, 0, float(value))
        alarms += early.reason is not None
    assert alarms / 200 <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (StopWhen(score="exact"), "Exactly one of stop_when"),
        (StopWhen(score="exact", half_width=0.1, threshold=0.5), "2 are"),
        (StopWhen(score="exact", half_width=-0.1), "half_width"),
        (StopWhen(score="exact", threshold=0.5, margin=0.1), "margin"),
    ],
)
def test_a_rule_that_says_nothing_is_refused(house: House, rule: StopWhen, told: str) -> None:
    house.fill(20)
    with pytest.raises(EvaluationInvalid, match=told):
        house.evaluate(stop_when=rule)


def test_scores_without_bounds_or_scorer_are_refused(house: House) -> None:
    house.fill(20)
    scorers = [ScorerSpec(scorer="exact"), ScorerSpec(scorer="latency")]
    for name, told in (("latency", "no bounds"), ("bleu", "no scorer gives it")):
        with pytest.raises(EvaluationInvalid, match=told):
            house.evaluate(scorers=scorers, stop_when=StopWhen(score=name, half_width=0.1))


def test_a_plan_says_that_it_may_end_early(house: House) -> None:
    house.fill(60)
    plan = house.service.plan(house.spec(stop_when=StopWhen(score="exact", half_width=0.03)))
    assert any("as soon as exact is known to ± 0.03" in problem for problem in plan.problems)
