"""Rules are checked when they are written, evaluated when they are due, and tell what changed exactly once."""

import threading
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, update

from penstock.base.errors import CallerError, InvalidInput, PenstockError
from penstock.monitors import queries
from penstock.monitors.errors import AlertChanged, RuleInvalid, UnknownChannel, UnknownRule
from penstock.monitors.evaluator import LONGEST_WAIT_S, Evaluator
from penstock.monitors.rules import read_rule, search_of
from penstock.monitors.types import RuleContent, Threshold
from penstock.spec.measures import Example, MetricQuery
from tests.monitors.bench_of_alerts import T0, Bench, S, parse

URL = "http://127.0.0.1:9/hook"


@pytest.fixture
def bench(sqlite_engine: Engine) -> Bench:
    return Bench(sqlite_engine)


def test_a_rule_goes_from_unknown_over_alert_to_ok_and_tells_of_both(control_engine: Engine) -> None:
    bench = Bench(control_engine)
    bench.hook(URL)
    bench.rule(notify=("hook",), labels={"team": "search"}, text="See the runbook.")
    assert bench.step(0, error_share=0.0) == ["ok"]
    assert bench.step(error_share=0.2) == ["alert"]
    assert bench.step(error_share=0.07) == ["alert"]
    assert bench.step(error_share=0.01) == ["ok"]
    assert bench.messages() == [("transition", "alert", "pending"), ("transition", "ok", "pending")]
    history = bench.alerts.history()
    assert [(one.before, one.after) for one in history] == [
        ("alert", "ok"),
        ("ok", "alert"),
        ("unknown", "ok"),
    ]
    opened = history[1]
    assert (opened.value, opened.n, opened.until_ns - opened.since_ns) == (0.2, 100, 300 * S)
    assert opened.examples[0].trace_id == "a" * 32
    assert opened.search == "kind:llm,embedding,rerank status:error"
    payload = bench.channels.messages(limit=9)[1].payload
    assert payload["labels"] == {"team": "search"} and payload["text"] == "See the runbook."
    assert payload["url"] == "http://console.test/alerts/errors"
    assert payload["examples"][0]["url"].startswith("http://console.test/traces/aaaa")
    assert payload["reason"] == "Error share 0.2 is above 0.1 (n = 100)."


def test_rules_are_evaluated_when_they_are_due_and_not_before(bench: Bench) -> None:
    bench.rule(every_s=60)
    bench.measures.asked.clear()
    bench.step(0)
    bench.step(59)
    assert len(bench.measures.asked) == 1
    bench.step(1)
    assert len(bench.measures.asked) == 2
    assert bench.measures.asked[1].until_ns == bench.now


def test_rules_over_the_same_spans_are_answered_by_one_query(bench: Bench) -> None:
    bench.rule("a")
    bench.rule("b", measure="latency_p95", alert=Threshold(above=1000))
    bench.rule("c", window_s=600)
    bench.rule("d", where="refund")
    bench.measures.asked.clear()
    assert bench.step(0, error_share=0.0, latency_p95=2000.0) == ["ok", "alert", "ok", "ok"]
    assert sorted(query.measures for query in bench.measures.asked) == [
        ("error_share",),
        ("error_share",),
        ("error_share", "latency_p95"),
    ]


def test_a_question_that_breaks_is_heard(bench: Bench) -> None:
    bench.hook(URL)
    bench.rule(notify=("hook",))
    bench.step(0, error_share=0.0)
    bench.measures.fault = InvalidInput("There is no such field any more.")
    assert bench.step() == ["broken"]
    assert bench.messages() == [("transition", "broken", "pending")]
    assert "no such field" in bench.alerts.history(limit=1)[0].reason
    bench.measures.fault = None
    assert bench.step() == ["ok"]
    assert bench.messages()[-1][:2] == ("transition", "ok")


def test_a_store_that_is_away_breaks_rules_only_after_a_while(bench: Bench) -> None:
    bench.rule()
    bench.step(0, error_share=0.0)
    for fault in (OSError("disk"), PenstockError("store")):
        bench.measures.fault = fault
        assert [bench.step()[0] for _ in range(3)] == ["ok", "ok", "broken"]
        bench.measures.fault = None
        assert bench.step() == ["ok"]


def test_one_rule_that_cannot_be_asked_does_not_break_those_beside_it(bench: Bench) -> None:
    bench.rule("a")
    bench.rule("b", where="refund")
    real = bench.measures.measure

    def measure(query: Any) -> Any:
        if query.where != bench.measures.asked[0].where and bench.now > T0:
            raise InvalidInput("That word is not searched for.")
        return real(query)

    bench.measures.measure = measure  # type: ignore[method-assign]
    assert bench.step(error_share=0.0) == ["ok", "broken"]


def test_a_silence_keeps_the_state_and_tells_nobody_until_it_ends(bench: Bench) -> None:
    bench.hook(URL)
    bench.rule(notify=("hook",))
    bench.step(0, error_share=0.0)
    view = bench.alerts.silence("errors", bench.now + 100 * S, actor="ann")
    assert view.is_silenced and view.status.silenced_by == "ann"
    assert bench.step(error_share=0.5) == ["alert"]
    assert bench.alerts.history(limit=1)[0].silenced
    assert bench.messages() == []
    bench.step(30)
    bench.step(30)
    assert bench.messages() == []
    bench.step(30)
    assert bench.messages() == [("reminder", "alert", "pending")], "it is still news when the silence ends"


def test_trouble_that_came_and_went_in_a_silence_is_not_told(bench: Bench) -> None:
    bench.hook(URL)
    bench.rule(notify=("hook",))
    bench.alerts.silence("errors", bench.now + 70 * S, actor="ann")
    bench.step(0, error_share=0.5)
    bench.step(30, error_share=0.0)
    bench.step(60)
    assert bench.messages() == []


def test_a_silence_can_be_ended_and_lies_in_the_future(bench: Bench) -> None:
    bench.rule()
    with pytest.raises(InvalidInput):
        bench.alerts.silence("errors", bench.now, actor="ann")
    bench.alerts.silence("errors", bench.now + S, actor="ann")
    assert not bench.alerts.silence("errors", None, actor="ann").is_silenced


def test_what_stays_bad_is_told_again_where_the_rule_wants_it(bench: Bench) -> None:
    bench.hook(URL)
    bench.rule(notify=("hook",), remind_s=60)
    bench.step(0, error_share=0.5)
    for _ in range(4):
        bench.step(30)
    assert [kind for kind, _, _ in bench.messages()] == ["transition", "reminder", "reminder"]


def test_no_data_is_told_where_the_rule_wants_it(bench: Bench) -> None:
    bench.hook(URL)
    bench.rule(notify=("hook",), no_data="tell", min_n=10)
    bench.step(0, error_share=0.0)
    bench.measures.n = 0
    assert bench.step() == ["no-data"]
    assert "0 in the window, at least 10" in bench.channels.messages()[0].payload["reason"]


def test_calls_that_stop_coming_are_noticed(bench: Bench) -> None:
    bench.rule(measure="calls", alert=Threshold(below=1), min_n=0)
    bench.measures.n = 0
    assert bench.step(0) == ["alert"]


def test_a_changed_rule_begins_anew_and_keeps_silence_and_history(bench: Bench) -> None:
    bench.hook(URL)
    bench.rule(notify=("hook",))
    bench.step(0, error_share=0.5)
    bench.alerts.silence("errors", bench.now + 999 * S, actor="ann")
    bench.rule(notify=("hook",), alert=Threshold(above=0.9))
    view = bench.alerts.get("errors")
    assert (view.status.state, view.is_silenced, view.rule.version) == ("unknown", True, 2)
    bench.alerts.silence("errors", None, actor="ann")
    assert bench.step(1) == ["ok"]
    assert bench.messages()[-1][:2] == ("transition", "ok"), "who was told of the alert is told of its end"


def test_a_deleted_rule_leaves_its_history_and_no_messages(bench: Bench) -> None:
    bench.hook(URL)
    bench.rule(notify=("hook",))
    bench.step(0, error_share=0.5)
    bench.alerts.delete("errors")
    assert bench.alerts.list() == []
    assert bench.messages() == [("transition", "alert", "dropped")]
    assert bench.alerts.history("errors")[0].after == "alert"
    with pytest.raises(UnknownRule):
        bench.alerts.get("errors")


def test_a_disabled_rule_is_not_asked(bench: Bench) -> None:
    bench.rule(enabled=False)
    bench.measures.asked.clear()
    assert bench.step() == ["unknown"]
    assert bench.measures.asked == []


def test_two_processes_evaluate_a_rule_once(control_engine: Engine) -> None:
    bench, other = Bench(control_engine), Bench(control_engine)
    bench.hook(URL)
    bench.rule(notify=("hook",))
    real = bench.measures.measure

    def measure(query: Any) -> Any:
        other.now = bench.now
        other.measures.values = {"error_share": 0.5}
        other.evaluator.run_once()  # the other is faster
        return real(query)

    bench.measures.measure = measure  # type: ignore[method-assign]
    assert bench.step(0, error_share=0.5) == ["alert"]
    assert len(bench.messages()) == 1 and len(bench.alerts.history()) == 1


def test_a_process_that_dies_while_it_writes_has_lost_neither_change_nor_message(bench: Bench) -> None:
    bench.hook(URL)
    bench.rule(notify=("hook",))
    bench.step(0, error_share=0.0)
    real = bench.evaluator._tell

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    bench.evaluator._tell = die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        bench.step(error_share=0.5)
    assert bench.alerts.get("errors").status.state == "ok" and len(bench.alerts.history()) == 1
    bench.evaluator._tell = real  # type: ignore[method-assign]
    assert bench.step(1) == ["alert"]
    assert len(bench.messages()) == 1


def test_a_preview_says_what_would_be_and_keeps_nothing(bench: Bench) -> None:
    bench.measures.values = {"error_share": 0.3}
    found = bench.alerts.preview(
        RuleContent(measure="error_share", window_s=60, alert=Threshold(above=0.1), for_evaluations=5)
    )
    assert (found.state, found.value, found.n, found.unit) == ("alert", 0.3, 100, "share")
    assert [end for end, _ in found.series] == [T0 - number * 60 * S for number in range(23, -1, -1)]
    assert bench.alerts.list() == []


def test_a_test_message_goes_through_every_channel_and_changes_nothing(bench: Bench) -> None:
    bench.hook(URL)
    bench.hook(URL, name="second")
    bench.rule(notify=("hook", "second"))
    assert len(bench.alerts.test("errors", actor="ann")) == 2
    assert {kind for kind, _, _ in bench.messages()} == {"test"}
    assert bench.alerts.get("errors").status.state == "unknown" and bench.alerts.history() == []
    bench.rule("mute")
    with pytest.raises(RuleInvalid):
        bench.alerts.test("mute", actor="ann")


@pytest.mark.parametrize(
    "fields",
    [
        {"measure": "error_shape"},
        {"alert": Threshold()},
        {"alert": Threshold(above=1, below=0)},
        {"alert": Threshold(above=0.1, recover=0.2)},
        {"alert": Threshold(below=0.1, recover=0.05)},
        {"alert": Threshold(above=float("nan"))},
        {"warning": Threshold(above=0.5)},
        {"warning": Threshold(below=0.01)},
        {"window_s": 5},
        {"for_evaluations": 0},
        {"every_s": 0},
        {"remind_s": 5},
        {"min_n": -1},
        {"where": "("},
        {"notify": ("nobody",)},
        {"labels": {"a": "x" * 500}},
    ],
)
def test_a_rule_that_contradicts_itself_is_refused(bench: Bench, fields: dict[str, Any]) -> None:
    with pytest.raises((RuleInvalid, UnknownChannel, InvalidInput)):
        bench.rule(**fields)
    assert bench.alerts.list() == []


@pytest.mark.parametrize("name", ["", "Errors", "a/b", "x" * 81])
def test_names_are_parts_of_addresses(bench: Bench, name: str) -> None:
    with pytest.raises(CallerError):
        bench.rule(name)


def test_a_change_of_what_somebody_else_changed_is_refused(bench: Bench) -> None:
    content = bench.rule()
    with pytest.raises(AlertChanged):
        bench.alerts.put("errors", content, actor="bob", expected_version=0)
    assert bench.alerts.put("errors", content, actor="bob", expected_version=1).rule.version == 2


def test_what_cannot_be_read_names_the_setting() -> None:
    with pytest.raises(RuleInvalid, match="window_s"):
        read_rule({"measure": "calls", "window_s": "soon", "alert": {"above": 1}})
    with pytest.raises(RuleInvalid, match="abov"):
        read_rule({"measure": "calls", "window_s": 60, "alert": {"abov": 1}})


@pytest.mark.parametrize(
    ("measure", "subject", "where", "search"),
    [
        ("latency_p95", "trace", "", ""),
        ("latency_p95", "trace", "a OR b", "a OR b"),
        ("errors", "trace", "a OR b", "(a OR b) status:error"),
        ("errors", "call", "a OR b", "kind:llm,embedding,rerank (a OR b) status:error"),
        ("errors", "span", "status:error x", "status:error x"),
    ],
)
def test_an_alert_leads_to_what_it_measured(measure: str, subject: Any, where: str, search: str) -> None:
    content = RuleContent(
        measure=measure, window_s=60, alert=Threshold(above=1), subject=subject, where=where
    )
    assert search_of(content) == search


def test_a_round_that_fails_is_told_and_the_thread_lives_on(bench: Bench) -> None:
    stop, rounds = threading.Event(), []

    def run_once() -> int:
        rounds.append(bench.evaluator.problem)
        if len(rounds) == 1:
            raise OSError("the database is away")
        if len(rounds) == 3:
            stop.set()
        return 0

    bench.evaluator.run_once = run_once  # type: ignore[method-assign]
    bench.evaluator.run(stop, interval_s=0)
    assert rounds == [None, "OSError: the database is away", None]


def test_examples_that_cannot_be_found_hold_back_no_alert(sqlite_engine: Engine) -> None:
    bench = Bench(sqlite_engine)
    bench.rule()

    def fail(query: MetricQuery, *, limit: int, lowest: bool = False) -> list[Example]:
        raise RuntimeError("out of memory")

    bench.measures.find_examples = fail  # type: ignore[method-assign]
    assert bench.step(0, error_share=0.5) == ["alert"]


def test_a_rule_whose_change_cannot_be_written_stops_no_other(
    sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(sqlite_engine)
    bench.rule("first")
    bench.rule("second")
    write = queries.add_transition

    def fail(connection: Any, identity: str, rule: str, at_ns: int, content: dict[str, Any]) -> None:
        if rule == "first":
            raise RuntimeError("cannot be written")
        write(connection, identity, rule, at_ns, content)

    with monkeypatch.context() as patch:
        patch.setattr(queries, "add_transition", fail)
        with pytest.raises(RuntimeError, match="cannot be written"):
            bench.step(0, error_share=0.5)
    states = {view.rule.name: view.status.state for view in bench.alerts.list()}
    assert states == {"first": "unknown", "second": "alert"}
    bench.step(1)
    assert {view.status.state for view in bench.alerts.list()} == {"alert"}, "it is tried again"


def test_a_rule_that_cannot_be_read_stops_no_other(sqlite_engine: Engine) -> None:
    bench = Bench(sqlite_engine)
    bench.rule("first")
    bench.rule("second")
    broken = update(queries.RULES).where(queries.RULES.c.name == "first").values(content={"measure": 4})
    with sqlite_engine.begin() as connection:
        connection.execute(broken)
    bench.measures.values |= {"error_share": 0.5}
    with pytest.raises(msgspec.ValidationError):
        bench.evaluator.run_once()
    with sqlite_engine.connect() as connection:
        states = {row.rule: row.content["state"] for row in queries.list_states(connection)}
    assert states["second"] == "alert"


@pytest.mark.parametrize("catches_up", [True, False])
def test_after_a_start_rules_wait_for_spans_that_were_taken_and_are_not_stored_yet(
    sqlite_engine: Engine, catches_up: bool
) -> None:
    bench = Bench(sqlite_engine)
    behind = [True]
    bench.evaluator = Evaluator(
        sqlite_engine,
        bench.measures,
        parse=parse,
        find_console_url=str,
        clock=bench.clock,
        is_behind=lambda: behind[0],
    )
    bench.rule(measure="calls", alert=Threshold(below=1))
    assert bench.step(0, calls=0.0) == ["unknown"]
    if catches_up:
        behind[0] = False
        assert bench.step(30, calls=5.0) == ["ok"]
        behind[0] = True
        assert bench.step(30, calls=0.0) == ["alert"], "a lag later on holds up nothing"
    else:
        assert bench.step(LONGEST_WAIT_S - 1) == ["unknown"]
        assert bench.step(1) == ["alert"]
