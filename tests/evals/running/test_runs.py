"""Runs of evaluations over real tables: nothing is asked twice, nothing is lost, nothing undefined counts as zero."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from penstock.evals.errors import CasesInvalid, EvaluationInvalid, LocalOnly, NoCases, PreflightFailed
from penstock.evals.running.runner import Progress
from penstock.evals.scorers.types import ScorerInfo, ScorerTools, make_error, make_score
from penstock.evals.types import CaseQuery
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import EvaluationBudget, ScorerSpec, TargetSpec
from penstock.spec.scores import Score
from tests.evals.running.house import House, echo, reply_body


class Scripted:
    """A scorer that does what a test says."""

    figure = None

    def __init__(self, does: Any, **facts: Any) -> None:
        self.does = does
        self.name = "scripted"
        self.info = ScorerInfo(name="scripted", **facts)

    async def score(self, case: Case, outputs: Sequence[Output], tools: ScorerTools) -> list[Score]:
        del tools
        value = self.does(case, outputs)
        return [make_score(self, value, reason=None if value is not None else "nobody knows")]


def with_scorer(house: House, does: Any, **facts: Any) -> list[ScorerSpec]:
    house.extra_scorers["scripted"] = lambda _spec: Scripted(does, **facts)
    return [ScorerSpec(scorer="scripted")]


def figures(house: House, evaluation_id: str) -> dict[str, Any]:
    return {each.name: each for each in house.service.estimates(evaluation_id).estimates}


def test_every_case_is_asked_once_and_scored_with_cost_and_trace(house: House) -> None:
    house.fill(30)
    record = house.evaluate(slices=["split"])
    assert (record.state, record.n_ok, record.n_cases, record.n_errors) == ("done", 30, 30, 0)
    assert house.gateway.n_calls == 30
    assert record.cost_usd == Decimal("0.30")
    assert record.n_cost_unknown == 0
    exact = figures(house, record.id)["exact"]
    assert (exact.value, exact.n, exact.coverage) == (1.0, 30, 1.0)
    assert {score.identifier for score in house.notes.scores} == {f"eval:{record.id}"}
    assert len(house.notes.scores) == 30
    assert house.gateway.headers[0]["x-penstock-session"] == f"eval:{record.id}"


def test_calls_do_not_take_replies_that_the_gateway_keeps(house: House) -> None:
    house.fill(2)
    house.evaluate()
    assert {headers["x-penstock-cache"] for headers in house.gateway.headers} == {"bypass"}


def test_the_same_question_is_answered_from_before_and_costs_nothing_again(house: House) -> None:
    house.fill(5)
    house.evaluate()
    again = house.evaluate(name="again")
    assert house.gateway.n_calls == 5
    assert (again.n_cached, again.cost_usd) == (5, Decimal(0))
    view = house.service.case(again.id, "c0")
    assert view.outputs[0].is_cached
    assert view.outputs[0].trace_id is not None
    assert view.outputs[0].original_cost_usd == Decimal("0.01")
    assert figures(house, again.id)["cost_usd"].value == pytest.approx(0.01)


def test_repeats_are_never_served_from_each_other(house: House) -> None:
    house.fill(3)
    record = house.evaluate(repeats=4)
    assert house.gateway.n_calls == 12
    again = house.evaluate(repeats=6)
    assert (house.gateway.n_calls, again.n_cached) == (18, 12)
    assert record.n_ok == 12


def test_other_parameters_are_another_question(house: House) -> None:
    house.fill(2)
    house.evaluate()
    house.evaluate(target=TargetSpec(model="small", parameters={"temperature": 0.5}))
    assert house.gateway.n_calls == 4


def test_without_a_cache_everything_is_asked_anew(house: House) -> None:
    house.fill(2)
    house.evaluate()
    house.evaluate(cache=False)
    assert house.gateway.n_calls == 4


def test_a_stopped_run_is_valid_and_goes_on_where_it_was(house: House) -> None:
    house.fill(40)
    seen: list[int] = []

    def should_stop() -> str | None:
        return "stopped by hand" if house.gateway.n_calls >= 11 else None

    def hear(progress: Progress) -> None:
        seen.append(progress.n_done)

    record = house.run(house.start().id, should_stop=should_stop, tell=hear)
    assert (record.state, record.reason) == ("stopped", "stopped by hand")
    assert 11 <= record.n_ok <= 16
    partial = figures(house, record.id)["exact"]
    assert (partial.value, partial.n, partial.n_skipped) == (1.0, record.n_ok, 40 - record.n_ok)
    house.service.resume(record.id)
    ended = house.run(record.id)
    assert (ended.state, ended.n_ok) == ("done", 40)
    assert house.gateway.n_calls == 40
    assert max(house.gateway.asked.values()) == 1
    assert seen == sorted(seen)


def test_what_failed_in_passing_is_asked_again_by_resume_and_nothing_else(house: House) -> None:
    def flaky(body: Mapping[str, Any], n_before: int) -> Any:
        return 503 if str(body["messages"][-1]["content"]) == "w2" and n_before < 3 else echo(body, n_before)

    house.fill(6)
    house.gateway.answer = flaky
    first = house.evaluate()
    assert (first.n_ok, first.n_errors) == (5, 1)
    errors = house.service.estimates(first.id).errors
    assert [(each.where, each.code, each.n, each.is_transient) for each in errors] == [
        ("target", "E503", 1, True)
    ]
    house.service.resume(first.id)
    second = house.run(first.id)
    assert (second.n_ok, second.n_errors, second.state) == (6, 0, "done")
    assert house.gateway.asked["w2"] == 4
    assert sum(house.gateway.asked.values()) == 9


def test_an_error_of_the_target_is_no_fail(house: House) -> None:
    house.fill(10)
    house.gateway.answer = lambda body, n: 400 if body["messages"][-1]["content"] == "w7" else echo(body, n)
    record = house.evaluate()
    exact = figures(house, record.id)["exact"]
    assert (exact.value, exact.n, exact.n_errors) == (1.0, 9, 1)
    assert exact.worst == pytest.approx(0.9)
    assert figures(house, record.id)["errors"].value == pytest.approx(0.1)


def test_a_refusal_is_told_apart_from_an_error(house: House) -> None:
    def refuse(body: Mapping[str, Any], n_before: int) -> Any:
        if body["messages"][-1]["content"] != "w1":
            return echo(body, n_before)
        return reply_body(None, choices=[{"message": {"refusal": "I will not."}, "finish_reason": "stop"}])

    house.fill(4)
    house.gateway.answer = refuse
    record = house.evaluate()
    assert (record.n_refused, record.n_errors, record.n_ok) == (1, 0, 3)


def test_a_scorer_that_raises_ends_nothing_and_is_an_error(house: House) -> None:
    def scores(case: Case, _outputs: Sequence[Output]) -> float:
        if case.id == "c3":
            raise KeyError("no such thing")
        return 0.5

    house.fill(6)
    record = house.evaluate(scorers=with_scorer(house, scores))
    scripted = figures(house, record.id)["scripted"]
    assert (record.state, scripted.value, scripted.n, scripted.n_errors) == ("done", 0.5, 5, 1)
    (score,) = house.service.case(record.id, "c3").scores
    assert (score.status, score.fault, score.value) == ("error", "scorer", None)
    assert "KeyError" in (score.reason or "")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_number_that_is_none_leaves_a_scorer(house: House, value: float) -> None:
    house.fill(2)
    record = house.evaluate(scorers=with_scorer(house, lambda *_: value), preflight=False)
    assert figures(house, record.id)["scripted"].value is None
    assert house.service.case(record.id, "c0").scores[0].fault == "scorer"


def test_all_undefined_gives_no_figure_and_says_why(house: House) -> None:
    house.fill(5)
    record = house.evaluate(scorers=with_scorer(house, lambda *_: None))
    scripted = figures(house, record.id)["scripted"]
    assert (record.state, scripted.value, scripted.low, scripted.n, scripted.n_undefined) == (
        "done",
        None,
        None,
        0,
        5,
    )


def test_one_case_has_a_value_and_no_interval(house: House) -> None:
    house.fill(1)
    exact = figures(house, house.evaluate().id)["exact"]
    assert (exact.value, exact.n) == (1.0, 1)
    assert exact.low is None


def test_an_empty_dataset_is_refused_before_anything_is_asked(house: House) -> None:
    record = house.start()
    with pytest.raises(NoCases):
        house.run(record.id)
    told = house.service.get(record.id)
    assert (told.state, house.gateway.n_calls) == ("failed", 0)
    assert told.error is not None
    assert told.error["code"] == "PS-1333"


def test_two_cases_of_one_id_are_refused_by_number(house: House) -> None:
    house.fill(3)
    house.source.cases.append(house.source.cases[1])
    record = house.start()
    with pytest.raises(CasesInvalid, match="number 2 and number 4"):
        house.run(record.id)
    assert house.gateway.n_calls == 0


def test_text_in_any_script_comes_back_as_it_was(house: House) -> None:
    texts = ["東京は日本の首都です", "مرحبا بالعالم", "🦆\u0301 e\u0301", "nul\x00 inside", "हिन्दी"]
    house.source.cases = [
        Case(id=f"字{number}", inputs={"input": text}, expected=text) for number, text in enumerate(texts)
    ]
    record = house.evaluate()
    assert record.n_ok == 5
    assert house.service.case(record.id, "字0").outputs[0].text == texts[0]
    assert figures(house, record.id)["exact"].value == pytest.approx(1.0)


def test_the_first_cases_are_tried_before_the_rest_is_spent(house: House) -> None:
    house.fill(50)
    house.gateway.answer = lambda *_: 400
    record = house.start()
    with pytest.raises(PreflightFailed, match="status 400"):
        house.run(record.id)
    assert house.gateway.n_calls == 3
    assert house.service.get(record.id).state == "failed"


def test_a_scorer_that_never_works_is_found_before_the_rest_is_spent(house: House) -> None:
    def scores(*_: Any) -> float:
        raise TypeError("wrong from the start")

    house.fill(50)
    record = house.start(scorers=with_scorer(house, scores))
    with pytest.raises(PreflightFailed, match="wrong from the start"):
        house.run(record.id)
    assert house.gateway.n_calls == 3


def test_one_bad_first_case_does_not_end_the_run(house: House) -> None:
    house.fill(5)
    house.gateway.answer = lambda body, n: 400 if body["messages"][-1]["content"] == "w0" else echo(body, n)
    record = house.evaluate()
    assert (record.state, record.n_ok, record.n_errors, house.gateway.n_calls) == ("done", 4, 1, 5)


def test_the_budget_is_never_passed_by_more_than_a_call(house: House) -> None:
    house.fill(50)
    record = house.evaluate(budget=EvaluationBudget(usd=Decimal("0.105")), concurrency=8)
    assert record.state == "stopped"
    assert "budget of $0.105" in (record.reason or "")
    assert record.cost_usd is not None
    assert record.cost_usd <= Decimal("0.105")
    assert record.n_ok == 10
    house.service.resume(record.id, budget=EvaluationBudget(usd=Decimal(10)))
    assert house.run(record.id).n_ok == 50
    assert house.gateway.n_calls == 50


class Asking(Scripted):
    """A scorer that asks a judge."""

    async def score(self, case: Case, outputs: Sequence[Output], tools: ScorerTools) -> list[Score]:
        assert tools.ask is not None
        messages = [{"role": "user", "content": f"judge {case.id}"}]
        told = await tools.ask("judge", messages, {}, purpose="judge:test")
        if told.status != "ok":
            return [make_error(self, "no room", fault="judge")]
        score = make_score(self, 1.0)
        return [msgspec.structs.replace(score, source="model", cost_usd=told.cost_usd)]


def test_judges_are_paid_from_the_same_budget_and_wait_for_room_in_it(house: House) -> None:
    house.fill(20)
    house.extra_scorers["asking"] = lambda _spec: Asking(None, kind="model")
    budget = EvaluationBudget(usd=Decimal("0.205"))
    record = house.evaluate(scorers=[ScorerSpec(scorer="asking")], budget=budget, concurrency=8)
    assert record.state == "stopped"
    assert record.cost_usd is not None
    assert Decimal("0.15") <= record.cost_usd <= Decimal("0.205")
    house.service.resume(record.id, budget=EvaluationBudget(usd=Decimal(10)))
    ended = house.run(record.id)
    assert (ended.state, ended.n_ok, ended.cost_usd) == ("done", 20, Decimal("0.40"))
    assert ended.judge_cost_usd == Decimal("0.20")
    assert house.gateway.n_calls == 40


def test_unknown_costs_are_counted_and_told(house: House) -> None:
    house.fill(3)
    house.facts.cost_usd = None
    record = house.evaluate(budget=EvaluationBudget(usd=Decimal(1)))
    assert (record.state, record.cost_usd, record.n_cost_unknown) == ("done", None, 3)
    assert any("3 calls is unknown" in note for note in house.service.estimates(record.id).notes)


def test_a_target_that_is_down_ends_the_run_and_the_rest_is_kept_for_later(house: House) -> None:
    house.fill(100)
    house.gateway.answer = lambda body, n: echo(body, n) if body["messages"][-1]["content"] == "w0" else 502
    record = house.evaluate(concurrency=2)
    assert record.state == "stopped"
    assert "failed 20 times in a row" in (record.reason or "")
    house.gateway.answer = echo
    house.service.resume(record.id)
    assert house.run(record.id).n_ok == 100


def test_concurrency_is_a_bound(house: House) -> None:
    house.fill(30)
    house.evaluate(concurrency=3)
    assert house.gateway.most_at_once <= 3


def test_scorers_of_all_repeats_see_them_together(house: House) -> None:
    house.fill(2)
    seen: list[int] = []

    def scores(_case: Case, outputs: Sequence[Output]) -> float:
        seen.append(len(outputs))
        return 1.0

    specs = with_scorer(house, scores, needs=frozenset({"samples"}))
    house.evaluate(repeats=3, scorers=specs)
    assert seen == [3, 3]


def test_stored_outputs_are_scored_again_without_asking(house: House) -> None:
    house.fill(6)
    first = house.evaluate()
    second = house.service.rescore(first.id, [ScorerSpec(scorer="levenshtein")], actor="test")
    ended = house.run(second.id)
    assert (ended.state, ended.n_ok, ended.cost_usd, house.gateway.n_calls) == ("done", 6, Decimal(0), 6)
    assert (ended.source, ended.dataset, ended.set_id) == (first.id, first.dataset, first.set_id)
    assert figures(house, second.id)["levenshtein"].n == 6


def test_further_scores_in_place_keep_the_others(house: House) -> None:
    house.fill(4)
    first = house.evaluate()
    house.service.rescore(first.id, [ScorerSpec(scorer="levenshtein")], actor="test", is_new=False)
    assert house.jobs.queued[-1] == (first.id, True)
    ended = house.run(first.id, score_only=True)
    assert [column.name for column in ended.columns] == ["exact", "levenshtein"]
    assert ended.columns[1].added_ns is not None
    assert house.gateway.n_calls == 4


def test_two_scorers_of_one_name_are_refused(house: House) -> None:
    with pytest.raises(EvaluationInvalid, match="called 'exact'"):
        house.start(scorers=[ScorerSpec(scorer="exact"), ScorerSpec(scorer="exact")])


def test_user_code_is_not_run_by_control(house: House) -> None:
    with pytest.raises(LocalOnly):
        house.start(target=TargetSpec(python="os:getcwd"))
    with pytest.raises(LocalOnly):
        house.start(scorers=[ScorerSpec(scorer="checks.py:mine")])


def test_equal_cases_are_kept_once_and_go_with_their_last_evaluation(house: House) -> None:
    house.fill(3)
    one, other = house.evaluate(), house.evaluate(name="other")
    assert one.set_id == other.set_id
    house.service.delete(one.id)
    assert len(house.service.cases(other.id).rows) == 3
    house.service.delete(other.id)
    assert list(house.store.cases(str(other.set_id))) == []


def test_pages_of_cases_filter_sort_and_go_on(house: House) -> None:
    house.fill(25)
    house.gateway.answer = lambda body, n: (
        "wrong" if body["messages"][-1]["content"] in {"w3", "w9"} else echo(body, n)
    )
    record = house.evaluate()
    page = house.service.cases(record.id, CaseQuery(score="exact", high=0.0))
    assert [view.case.id for view in page.rows] == ["c3", "c9"]
    page = house.service.cases(record.id, CaseQuery(score="exact", sort="score", limit=3))
    assert [view.case.id for view in page.rows][:2] == ["c3", "c9"]
    assert page.n_matching == 25
    rest = house.service.cases(record.id, CaseQuery(limit=20, cursor="20"))
    assert len(rest.rows) == 5
    assert rest.next_cursor is None
    assert [view.case.id for view in house.service.cases(record.id, CaseQuery(text="WRONG")).rows] == [
        "c3",
        "c9",
    ]


def test_a_case_without_anything_to_ask_says_what_it_has(house: House) -> None:
    house.source.cases = [Case(id="c0", inputs={"a": 1, "b": 2}, expected="x")]
    record = house.start()
    with pytest.raises(PreflightFailed, match="it has a, b"):
        house.run(record.id)
    assert house.gateway.n_calls == 0
