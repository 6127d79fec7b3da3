"""Two evaluations side by side, leaderboards and grids: what may be compared, and what is certain."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from penstock.evals.errors import ExperimentInvalid
from penstock.evals.figures import sentence_of
from penstock.evals.grids import cell_spec, make_cells
from penstock.evals.leaderboards import _is_front, correct_together, family_of
from penstock.evals.types import (
    ComparedQuery,
    EvaluationQuery,
    EvaluationRecord,
    ExperimentSpec,
    ScoreColumn,
)
from penstock.spec.cases import Case
from penstock.spec.evaluations import Comparison, EvaluationBudget, ScorerSpec, TargetSpec
from tests.evals.running.house import House, echo


def by_model(body: Mapping[str, Any], n_before: int) -> str:
    """`strong` is always right, `weak` on every third question."""
    text = echo(body, n_before)
    is_right = body["model"] == "strong" or int(text[1:]) % 3 == 0
    return text if is_right else "no idea"


def pair(house: House, n_cases: int = 60) -> tuple[EvaluationRecord, EvaluationRecord]:
    house.fill(n_cases)
    house.gateway.answer = by_model
    weak, strong = (house.evaluate(target=TargetSpec(model=model)) for model in ("weak", "strong"))
    return weak, strong


def test_the_better_one_is_found_with_its_interval(house: House) -> None:
    weak, strong = pair(house)
    report = house.service.compare(weak.id, strong.id)
    (exact,) = report.comparisons
    assert (exact.word, exact.n_pairs, exact.n_wins, exact.n_losses) == ("better", 60, 40, 0)
    assert exact.low is not None
    assert exact.low > 0.5
    assert report.problems == []
    assert "60 paired cases): better." in report.sentences[0]
    assert house.service.compare(strong.id, weak.id).comparisons[0].word == "worse"


def test_an_evaluation_beside_itself_is_never_better(house: House) -> None:
    weak, _ = pair(house)
    (exact,) = house.service.compare(weak.id, weak.id).comparisons
    assert (exact.word, exact.difference, exact.n_ties) == ("undecided", 0.0, 60)


def test_other_scorer_parameters_are_no_verdict(house: House) -> None:
    house.fill(10)
    one = house.evaluate(scorers=[ScorerSpec(scorer="contains", parameters={"values": ["w"]})])
    other = house.evaluate(scorers=[ScorerSpec(scorer="contains", parameters={"values": ["x"]})])
    report = house.service.compare(one.id, other.id)
    assert [each.word for each in report.comparisons] == ["invalid"]
    assert "score one of them again" in report.problems[0]
    assert report.comparisons[0].difference is None


def test_other_cases_are_told_and_only_common_ones_paired(house: House) -> None:
    house.fill(10)
    one = house.evaluate()
    house.source.cases = [*house.source.cases[5:], Case(id="new", inputs={"input": "n"}, expected="n")]
    other = house.evaluate()
    report = house.service.compare(one.id, other.id)
    assert "asked different cases" in report.problems[0]
    assert (report.comparisons[0].n_pairs, report.comparisons[0].n_only_baseline) == (5, 5)


def test_prompts_that_were_rendered_in_two_ways_are_told_beside_the_figures(house: House) -> None:
    weak, strong = pair(house, 6)

    def render(record: EvaluationRecord, mark: str) -> None:
        stamp = f"{mark * 12}@sha256:{mark * 64}"
        house.store.change(
            record.id, lambda old: msgspec.structs.replace(old, versions={"renderer:pocket": stamp})
        )

    render(weak, "a")
    assert house.service.compare(weak.id, strong.id).problems == [], "of one side nothing is known"
    render(strong, "a")
    assert house.service.compare(weak.id, strong.id).problems == []
    render(strong, "b")
    report = house.service.compare(weak.id, strong.id)
    assert f"{'a' * 12} and {'b' * 12}" in report.problems[0]
    assert report.comparisons[0].word != "invalid", "a model with another template may be compared"


def test_cases_with_both_sides_are_filtered_by_what_changed(house: House) -> None:
    weak, strong = pair(house, 9)
    page = house.service.compared_cases(weak.id, strong.id, ComparedQuery(change="improved"))
    assert [row.case.id for row in page.rows] == ["c1", "c2", "c4", "c5", "c7", "c8"]
    assert page.counts == {"improved": 6, "changed": 6, "same": 3}
    first = page.rows[0]
    assert first.baseline is not None
    assert first.candidate is not None
    assert (first.baseline.outputs[0].text, first.candidate.outputs[0].text) == ("no idea", "w1")
    regressed = house.service.compared_cases(strong.id, weak.id, ComparedQuery(change="regressed", limit=2))
    assert regressed.n_matching == 6
    assert regressed.next_cursor == "2"


def test_a_leaderboard_names_a_best_one_only_when_it_is_certain(house: House) -> None:
    weak, strong = pair(house)
    board = house.service.leaderboard([weak.id, strong.id])
    assert (board.best, [row.key for row in board.rows]) == ("strong", ["strong", "weak"])
    assert board.sentence.endswith("(95 %, corrected for one look).")
    assert board.rows[0].is_front
    assert board.rows[0].cost_per_case_usd == Decimal("0.01")
    again = house.evaluate(target=TargetSpec(model="strong", parameters={"top_p": 1}))
    open_board = house.service.leaderboard([weak.id, strong.id, again.id])
    assert open_board.best is None
    assert open_board.sentence.startswith("Not decided")


@pytest.mark.parametrize(("n_rows", "n_looks"), [(3, 3), (20, 190), (33, 400), (300, 400)])
def test_a_clear_leader_is_told_from_many_rows(n_rows: int, n_looks: int) -> None:
    assert family_of(n_rows) == n_looks
    clear = Comparison(
        name="f1", baseline=0.15, candidate=0.9, difference=0.75, low=0.7, high=0.8, p_value=1e-4, n_pairs=500
    )
    together = correct_together([clear] * (n_rows - 1), family=family_of(n_rows))
    assert {each.word for each in together} == {"better"}, "the smallest p that 10,000 resamples tell"
    weak = msgspec.structs.replace(clear, p_value=0.05 / n_looks * 1.1, low=0.001)
    one = correct_together([weak], family=family_of(n_rows))
    assert [each.word for each in one] == ["undecided"]


def grid(house: House, **changes: Any) -> ExperimentSpec:
    fields = {"name": "grid", "evaluation": house.spec(), "models": ["weak", "strong"]}
    return ExperimentSpec(**{**fields, **changes})


def run_grid(house: House, spec: ExperimentSpec) -> Any:
    record = house.experiments.start(spec, actor="test")
    house.grids.run(record.id, tell=lambda *_: None, should_stop=lambda: None)
    return house.experiments.get(record.id)


def test_a_grid_runs_every_cell_and_ranks_them(house: House) -> None:
    house.fill(30)
    house.gateway.answer = by_model
    record = run_grid(house, grid(house, parameters={"temperature": [0, 1]}))
    assert (record.state, record.n_done, len(record.cells)) == ("done", 4, 4)
    assert record.cost_usd == Decimal("1.20")
    assert house.gateway.n_calls == 120
    board = house.experiments.leaderboard(record.id)
    assert [row.key for row in board.rows][2:] == ["weak · temperature=0", "weak · temperature=1"]
    assert board.best is None
    found = house.service.list(house_query(record.id)).rows
    assert {each.experiment_id for each in found} == {record.id}


def house_query(experiment_id: str) -> EvaluationQuery:
    return EvaluationQuery(experiment_id=experiment_id)


def test_the_cells_share_one_budget(house: House) -> None:
    house.fill(30)
    evaluation = house.spec(budget=EvaluationBudget(usd=Decimal("0.20")))
    record = run_grid(house, grid(house, evaluation=evaluation))
    assert record.state == "stopped"
    assert record.cost_usd == Decimal("0.20")
    assert house.gateway.n_calls == 20


def test_a_cell_that_fails_does_not_end_the_others(house: House) -> None:
    house.fill(5)
    house.gateway.answer = lambda body, n: 400 if body["model"] == "weak" else echo(body, n)
    record = run_grid(house, grid(house))
    assert record.state == "done"
    assert [each.state for each in house.experiments.evaluations(record.id)] == ["failed", "done"]
    assert "1 cells failed" in (record.reason or "")


def test_an_experiment_goes_on_with_what_is_not_done(house: House) -> None:
    house.fill(8)
    record = house.experiments.start(grid(house), actor="test")
    house.grids.run(
        record.id,
        tell=lambda *_: None,
        should_stop=lambda: "stopped by hand" if house.gateway.n_calls >= 4 else None,
    )
    assert house.experiments.get(record.id).state == "stopped"
    house.experiments.resume(record.id)
    house.grids.run(record.id, tell=lambda *_: None, should_stop=lambda: None)
    assert house.experiments.get(record.id).state == "done"
    assert house.gateway.n_calls == 16


def test_a_grid_without_a_model_or_with_a_cell_twice_is_refused(house: House) -> None:
    with pytest.raises(ExperimentInvalid, match="twice"):
        make_cells(grid(house, models=["a", "a"]))
    with pytest.raises(ExperimentInvalid, match="no values"):
        make_cells(grid(house, parameters={"temperature": []}))
    with pytest.raises(ExperimentInvalid, match="at most 256"):
        make_cells(grid(house, parameters={"seed": list(range(200))}))


def test_prompts_without_models_are_asked_for_their_own(house: House) -> None:
    spec = house.spec()
    own = msgspec.structs.replace(spec, target=TargetSpec(model="prompt:a@1"))
    grid_spec = grid(house, evaluation=own, models=[], prompts=["prompt:a@1", "prompt:a@2"])
    targets = [cell_spec(grid_spec, cell).target for cell in make_cells(grid_spec)]
    assert [(each.model, each.prompt) for each in targets] == [("prompt:a@1", None), ("prompt:a@2", None)]


def test_what_is_unknown_throws_nobody_off_the_front() -> None:
    points = [(-0.9, None, None), (-0.8, 0.001, 100.0), (-0.8, 0.002, 100.0), (None, 0.0, 1.0)]
    assert [_is_front(points, at) for at in range(4)] == [True, True, False, False]


def test_differences_are_told_in_hundredths_of_the_scores_range() -> None:
    stars = ScoreColumn(name="stars", stamp="stars@1", low=1.0, high=5.0)
    change = Comparison(name="stars", baseline=3.0, candidate=3.5, difference=0.5, word="better", n_pairs=9)
    assert sentence_of(change, stars) == "stars: +12.5 points: better."


def test_a_deleted_cell_is_passed_over_and_a_broken_one_ends_nothing(house: House) -> None:
    house.fill(3)
    spec = ExperimentSpec(name="g", evaluation=house.spec(), models=["a", "b", "c"])
    record = house.experiments.start(spec, actor="test")
    house.store.delete(str(record.cells[0].evaluation_id))
    count, broken = house.store.count, str(record.cells[1].evaluation_id)

    def fail_once(evaluation_id: str, **fields: Any) -> Any:
        if evaluation_id == broken and fields.get("state") == "done":
            raise RuntimeError("database is locked")
        return count(evaluation_id, **fields)

    house.store.count = fail_once  # type: ignore[method-assign]
    ended = house.grids.run(record.id, tell=lambda *_: None, should_stop=lambda: None)
    assert (ended.state, ended.reason) == ("done", "1 cells failed: RuntimeError: database is locked")
    states = [house.store.get(str(cell.evaluation_id)).state for cell in record.cells[1:]]
    assert states == ["failed", "done"]


def test_an_experiment_says_failed_whatever_ends_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.fill(3)
    spec = ExperimentSpec(name="g", evaluation=house.spec(), models=["a"])
    record = house.experiments.start(spec, actor="test")

    def find(_evaluation_id: str) -> Any:
        raise RuntimeError("database is locked")

    monkeypatch.setattr(house.store, "find", find)
    with pytest.raises(RuntimeError):
        house.grids.run(record.id, tell=lambda *_: None, should_stop=lambda: None)
    monkeypatch.undo()
    assert house.experiments.get(record.id).state == "failed"


def test_a_cell_that_was_stopped_while_it_waited_is_not_run(house: House) -> None:
    house.fill(3)
    spec = ExperimentSpec(name="g", evaluation=house.spec(concurrency=1), models=["a", "b", "c", "d", "e"])
    record = house.experiments.start(spec, actor="test")
    last = str(record.cells[-1].evaluation_id)

    def stop_last(body: Any, n_before: int) -> str:
        house.service.stop(last)
        return echo(body, n_before)

    house.gateway.answer = stop_last
    house.grids.run(record.id, tell=lambda *_: None, should_stop=lambda: None)
    stopped = house.store.get(last)
    assert (stopped.state, stopped.n_outputs) == ("stopped", 0)
