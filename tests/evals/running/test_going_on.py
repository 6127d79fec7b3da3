"""Runs that go on after a stop or a kill: what was spent stays spent, and what was never asked is no error."""

import threading
from decimal import Decimal

import pytest
from sqlalchemy import Connection

from penstock.evals import queries
from penstock.evals.errors import EvaluationInvalid
from penstock.evals.types import EvaluationRecord, ExperimentSpec
from penstock.spec.cases import Output
from penstock.spec.evaluations import EvaluationBudget, ScorerSpec
from tests.evals.running.house import House


def stop_after(house: House, n_calls: int, **changes: object) -> EvaluationRecord:
    house.fill(30)
    record = house.start(**changes)
    return house.run(
        record.id, should_stop=lambda: "stopped by hand" if house.gateway.n_calls >= n_calls else None
    )


def killed(house: House, record: EvaluationRecord) -> None:
    """Leave the record as a kill does before it was ever counted."""
    house.store.update(record.id, state="queued", reason=None, cost_usd=None, input_tokens=None)


def test_what_was_spent_before_a_kill_counts(house: House) -> None:
    record = stop_after(house, 6, budget=EvaluationBudget(usd=Decimal("0.105")), concurrency=1)
    killed(house, record)
    ended = house.run(record.id)
    assert ended.state == "stopped"
    assert ended.cost_usd is not None
    assert Decimal("0.09") <= ended.cost_usd <= Decimal("0.105")


def test_prices_that_came_after_a_kill_count(house: House) -> None:
    house.facts.cost_usd = None
    record = stop_after(house, 6, concurrency=1)
    assert record.cost_usd is None
    house.facts.cost_usd = Decimal("0.01")
    house.store.update(
        record.id,
        state="queued",
        spec=house.spec(budget=EvaluationBudget(usd=Decimal("0.105")), concurrency=1),
    )
    ended = house.run(record.id)
    assert ended.cost_usd is not None
    assert Decimal("0.09") <= ended.cost_usd <= Decimal("0.105")
    assert house.store.get(record.id).n_cost_unknown == 0


def test_what_cells_spent_before_a_kill_counts_for_all(house: House) -> None:
    house.fill(30)
    budget = EvaluationBudget(usd=Decimal("0.105"))
    spec = ExperimentSpec(name="g", evaluation=house.spec(budget=budget, concurrency=1), models=["a", "b"])
    record = house.experiments.start(spec, actor="test")
    house.grids.run(
        record.id, tell=lambda *_: None, should_stop=lambda: "x" if house.gateway.n_calls >= 6 else None
    )
    for cell in record.cells:
        killed(house, house.store.get(str(cell.evaluation_id)))
    house.grids.run(record.id, tell=lambda *_: None, should_stop=lambda: None)
    cost_usd = house.experiments.get(record.id).cost_usd
    assert cost_usd is not None
    assert Decimal("0.08") <= cost_usd <= Decimal("0.105")


def test_scoring_a_stopped_run_again_leaves_it_stopped(house: House) -> None:
    record = stop_after(house, 9)
    asked = house.service.rescore(record.id, [ScorerSpec(scorer="contains")], actor="test", is_new=False)
    ended = house.run(asked.id, score_only=True)
    assert (ended.state, ended.reason, ended.n_outputs) == ("stopped", "stopped by hand", record.n_outputs)
    house.service.resume(record.id)
    assert house.run(record.id).state == "done"
    asked = house.service.rescore(record.id, [ScorerSpec(scorer="exact")], actor="test", is_new=False)
    again = house.run(asked.id, score_only=True)
    assert (again.state, again.reason) == ("done", None)


def test_cases_that_were_never_asked_are_no_errors_where_a_stopped_run_is_scored_again(house: House) -> None:
    record = stop_after(house, 9)
    asked = house.service.rescore(record.id, [ScorerSpec(scorer="contains")], actor="test")
    ended = house.run(asked.id)
    n_absent = 30 - record.n_ok
    assert (ended.state, ended.n_ok, ended.n_errors) == ("stopped", record.n_ok, 0)
    assert f"{n_absent} of 30 outputs are not there" in str(ended.reason)
    figures = {each.name: each for each in house.service.estimates(ended.id).estimates}
    assert (figures["contains"].n, figures["contains"].n_skipped) == (record.n_ok, n_absent)
    assert figures["errors"].value == 0.0
    house.service.resume(record.id)
    house.run(record.id)
    house.service.resume(ended.id)
    assert house.run(ended.id).n_ok == 30


def test_answers_that_were_sent_in_are_never_taken_for_answers_of_a_model(house: House) -> None:
    house.fill(2)
    keys = [
        row.request_key for row in house.store.output_facts(house.evaluate().id)
    ]  # anybody may work them out
    for listed in house.service.list().rows:
        house.service.delete(listed.id)
    forged = house.service.begin_local(house.spec(), None, [], actor="test")
    outputs = [(Output(case_id=f"c{number}", repeat=0, text="FORGED"), keys[number]) for number in range(2)]
    house.service.record(forged.id, outputs)
    record = house.evaluate()
    assert record.n_cached == 0
    assert [output.text for output in house.store.outputs(record.id)] == ["w0", "w1"]


def test_cases_stay_that_another_evaluation_is_just_taking(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.fill(30)
    first = house.evaluate()
    record = house.start(name="second", cache=False)
    find_set = queries.find_set

    def delete_then_find(connection: Connection, digest: str) -> str | None:
        monkeypatch.undo()
        found = find_set(connection, digest)
        deleting.start()  # waits until the second one has them
        return found

    deleting = threading.Thread(target=lambda: house.service.delete(first.id))
    monkeypatch.setattr(queries, "find_set", delete_then_find)
    ended = house.run(record.id)
    deleting.join(240)
    assert (ended.state, ended.n_ok) == ("done", 30)
    assert len(list(house.store.cases(str(ended.set_id)))) == 30


def test_a_run_whose_cases_are_gone_fails(house: House) -> None:
    house.fill(3)
    record = house.start()
    house.store.update(record.id, set_id="cases_none", n_cases=3)
    with pytest.raises(EvaluationInvalid, match="no longer there"):
        house.run(record.id)
    assert house.store.get(record.id).state == "failed"
