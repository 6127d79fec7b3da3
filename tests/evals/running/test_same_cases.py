"""Cases are paired only where both sides were asked the same; finished local runs keep what they have."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from penstock.evals.errors import OutputsInvalid
from penstock.evals.gates.files import make_gate
from penstock.evals.gates.service import GateService
from penstock.evals.types import EvaluationRecord, ScoreColumn
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import EvaluationSpec, GateResult, StopWhen, TargetSpec
from penstock.spec.scores import Score
from penstock.store.control.engine import open_control
from tests.evals.running.house import House

EXACT = ScoreColumn(name="exact", stamp="exact@1#aaaaaaaa", scale="binary")


def questions(n: int, word: str = "q", expected: str = "yes") -> list[Case]:
    return [Case(id=str(i), inputs={"input": f"{word}{i}"}, expected=expected) for i in range(n)]


def begin(house: House, cases: Sequence[Case], columns: Sequence[ScoreColumn] = (EXACT,)) -> EvaluationRecord:
    spec = EvaluationSpec(name="local", target=TargetSpec(python="module:function"))
    return house.service.begin_local(spec, cases, columns, actor="ann")


def send(house: House, record: EvaluationRecord, cases: Sequence[Case], value: float) -> None:
    scores = [
        (case.id, 0, Score(name="exact", scorer=EXACT.stamp, status="scored", value=value)) for case in cases
    ]
    outputs = [(Output(case_id=case.id, text="x"), None) for case in cases]
    house.service.record(record.id, outputs, scores)


def run_local(house: House, cases: Sequence[Case], value: float) -> EvaluationRecord:
    record = begin(house, cases)
    send(house, record, cases, value)
    return house.service.finish_local(record.id, columns=[EXACT])


def judge(house: House, tmp_path: Path, candidate: str, baseline: str, *, least: float = 0.95) -> GateResult:
    engine = open_control(f"sqlite:///{tmp_path / 'gates.db'}")
    gates = GateService(engine, house.service, house.service.figures.figure)
    spec = make_gate({"name": "g", "rules": ["exact >= baseline - 1 point"], "min_coverage": least})
    return gates.judge(spec, candidate=candidate, baseline=baseline)


def test_other_questions_under_the_same_ids_are_no_pairs(house: House, tmp_path: Path) -> None:
    old = run_local(house, questions(40, "old"), 0.0)
    new = run_local(house, questions(40, "new"), 1.0)
    (exact,) = house.service.compare(old.id, new.id).comparisons
    assert (exact.word, exact.n_pairs, exact.n_only_candidate) == ("invalid", 0, 40)
    board = house.service.leaderboard([old.id, new.id])
    assert board.best is None
    assert "Not decided" in board.sentence
    result = judge(house, tmp_path, new.id, old.id)
    assert result.verdict == "invalid"
    assert "only 0 of 40 cases can be paired" in result.rules[0].sentence


def test_another_expected_answer_is_another_question(house: House) -> None:
    old = run_local(house, questions(40), 0.0)
    new = run_local(house, [*questions(39), *questions(40, expected="no")[39:]], 1.0)
    report = house.service.compare(old.id, new.id)
    assert (report.comparisons[0].word, report.comparisons[0].n_pairs) == ("better", 39)
    assert "same id, question and expected answer" in report.problems[0]


def test_other_groups_splits_and_tags_are_the_same_question(house: House, tmp_path: Path) -> None:
    old = run_local(house, questions(40), 0.0)
    labelled = [
        Case(id=case.id, inputs=case.inputs, expected=case.expected, split="test", tags=["hard"])
        for case in questions(40)
    ]
    new = run_local(house, labelled, 1.0)
    assert house.service.compare(old.id, new.id).comparisons[0].n_pairs == 40
    assert judge(house, tmp_path, new.id, old.id).verdict == "pass"


def test_a_gate_wants_most_cases_of_both_sides_in_pairs(house: House, tmp_path: Path) -> None:
    old = run_local(house, questions(100), 0.0)
    new = run_local(house, questions(200)[92:192], 1.0)
    result = judge(house, tmp_path, new.id, old.id)
    assert result.verdict == "invalid"
    assert "only 8 of 100 cases can be paired" in result.rules[0].sentence
    told = judge(house, tmp_path, new.id, old.id, least=0.05)
    assert told.verdict != "invalid", "who asks for less coverage gets it"
    assert told.rules[0].comparison is not None
    assert told.rules[0].comparison.n_pairs == 8


def exact_of(house: House, evaluation_id: str) -> tuple[float | None, float]:
    """As the report says, and as gates and comparisons read it."""
    report = house.service.estimates(evaluation_id)
    cases, _ = house.service.scored_cases(evaluation_id, "exact")
    return report.estimates[0].value, sum(case.values[0] for case in cases) / len(cases)


def test_scores_of_a_finished_evaluation_stay_as_they_are(house: House) -> None:
    cases = questions(20)
    record = run_local(house, cases, 0.0)
    assert exact_of(house, record.id) == (0.0, 0.0)
    with pytest.raises(OutputsInvalid, match="is done"):
        send(house, record, cases, 1.0)
    assert exact_of(house, record.id) == (0.0, 0.0)
    assert house.service.finish_local(record.id, state="failed").state == "done"
    house.service.reopen_local(record.id)
    assert exact_of(house, record.id) == (0.0, 0.0)
    send(house, record, cases, 1.0)
    house.service.finish_local(record.id)
    assert exact_of(house, record.id) == (1.0, 1.0)


def test_a_run_that_was_stopped_by_hand_takes_no_more_and_still_learns_its_columns(house: House) -> None:
    cases = questions(4)
    record = begin(house, cases, columns=())
    house.service.stop(record.id)
    with pytest.raises(OutputsInvalid, match="is stopped") as error:
        send(house, record, cases, 1.0)
    assert f"--resume {record.id}" in str(error.value.hint)
    ended = house.service.finish_local(record.id, state="failed", columns=[EXACT])
    assert (ended.state, [column.name for column in ended.columns]) == ("stopped", ["exact"])


@pytest.mark.parametrize("value", [7.0, -0.5, float("nan")])
def test_a_value_that_its_score_cannot_have_is_refused(house: House, value: float) -> None:
    cases = questions(3)
    record = begin(house, cases)
    with pytest.raises(OutputsInvalid, match="lies between 0 and 1"):
        send(house, record, cases, value)
    send(house, record, cases, 1.0)
    assert house.service.get(record.id).n_outputs == 3


def test_no_run_ends_early_by_a_baseline_that_was_asked_other_questions(house: House) -> None:
    house.source.cases = questions(60, "old")
    house.gateway.answer = lambda _body, _n: "yes"
    before = house.evaluate(name="before")
    house.source.cases = questions(60, "new")
    house.gateway.answer = lambda _body, _n: "no"
    rule = StopWhen(score="exact", baseline=f"eval:{before.id}", margin=0.02)
    after = house.evaluate(name="after", stop_when=rule)
    assert (after.state, after.n_ok) == ("done", 60)
    assert house.service.compare(before.id, after.id).comparisons[0].word == "invalid"
    house.source.cases = questions(60, "old")
    again = house.evaluate(name="again", target=TargetSpec(model="bad"), stop_when=rule)
    assert again.state == "stopped"
    assert again.n_ok < 60
