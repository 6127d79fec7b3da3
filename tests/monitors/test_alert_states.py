"""The state machine of alerts: thresholds with a gap, several evaluations that must agree, no data, broken, silence."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.monitors.states import advance, cadence_s, fail, judge, must_tell
from penstock.monitors.types import AlertState, AlertStatus, RuleContent, Threshold
from penstock.spec.measures import MetricCell

S = 1_000_000_000


def rule(**fields: Any) -> RuleContent:
    """Return a rule on the error share: alert above 0.1 until 0.05, warning above 0.04 until 0.02."""
    defaults: dict[str, Any] = {
        "measure": "error_share",
        "window_s": 300,
        "alert": Threshold(above=0.1, recover=0.05),
        "warning": Threshold(above=0.04, recover=0.02),
    }
    return RuleContent(**{**defaults, **fields})


def walk(
    content: RuleContent, *values: float | None, n: int = 100, state: AlertState = "unknown"
) -> list[AlertState]:
    """Return the states that a rule goes through when it measures these values."""
    status, seen = AlertStatus(rule="r", state=state), []
    for number, value in enumerate(values):
        status = advance(
            content, status, MetricCell(value=value, n=n if value is not None else 0), number * S
        )
        seen.append(status.state)
    return seen


def test_a_state_is_left_only_past_the_point_of_recovery() -> None:
    assert walk(rule(), 0.01, 0.2, 0.09, 0.06, 0.05, 0.03, 0.02) == [
        *("ok", "alert", "alert", "alert", "warning", "warning", "ok")
    ]
    assert walk(rule(warning=None), 0.11, 0.1, 0.051, 0.05) == ["alert", "alert", "alert", "ok"]


def test_bounds_below_work_the_other_way_round() -> None:
    content = rule(alert=Threshold(below=10, recover=20), warning=None)
    assert walk(content, 15, 9, 10, 19, 20, 15) == ["ok", "alert", "alert", "alert", "ok", "ok"]


def test_as_many_evaluations_must_agree_as_the_rule_wants() -> None:
    content = rule(for_evaluations=3)
    assert walk(content, 0, 1, 1, 0, 1, 1, 1) == ["ok", "ok", "ok", "ok", "ok", "ok", "alert"]
    assert walk(content, 1, 1, 1, 0, 0, 1, 0, 0, 0) == [
        *("unknown", "unknown", "alert"),
        *["alert"] * 5,
        "ok",
    ]


def test_mixed_bad_news_raises_to_the_mildest_and_mixed_good_news_lowers_to_the_worst() -> None:
    content = rule(for_evaluations=3)
    assert walk(content, 1, 0.045, 1, state="ok")[-1] == "warning"
    assert walk(content, 1, 0.045, 1)[-1] == "warning"
    assert walk(content, 0.03, 0, 0.03, state="alert")[-1] == "warning"


def test_good_news_after_nothing_or_a_fault_needs_no_second_opinion() -> None:
    assert walk(rule(for_evaluations=5), 0.0) == ["ok"]
    assert walk(rule(for_evaluations=5), 0.0, state="broken") == ["ok"]


@pytest.mark.parametrize(
    ("no_data", "states"),
    [("keep", ["alert", "alert"]), ("ok", ["alert", "ok"]), ("tell", ["alert", "no-data"])],
)
def test_too_few_spans_do_what_the_rule_says(no_data: str, states: list[str]) -> None:
    content = rule(no_data=no_data, min_n=10)
    assert walk(content, 1, None) == states
    assert (
        judge(content, MetricCell(value=1.0, n=9), "ok")
        == {"keep": "ok", "ok": "ok", "tell": "no-data"}[no_data]
    )


def test_a_rule_may_judge_silence_itself() -> None:
    content = rule(measure="calls", alert=Threshold(below=1), warning=None, min_n=0)
    assert judge(content, MetricCell(value=0.0, n=0), "ok") == "alert"


def test_a_senseless_question_breaks_at_once_and_a_store_that_is_away_after_three() -> None:
    status = AlertStatus(rule="r", state="ok")
    assert fail(rule(), status, "no such field", 5, at_once=True).state == "broken"
    for expected in ("ok", "ok", "broken", "broken"):
        status = fail(rule(), status, "away", 5, at_once=False)
        assert (status.state, status.problem) == (expected, "away")
    assert advance(rule(), status, MetricCell(value=0.0, n=5), 9).problem is None


def told(status: AlertStatus, content: RuleContent, now: int) -> bool:
    """Return whether a rule in this status is told of."""
    return must_tell(content, status, now)


def test_news_is_told_once_and_the_end_too() -> None:
    assert not told(AlertStatus(rule="r", state="ok"), rule(), 0), (
        "that all is well from the start is no news"
    )
    assert told(AlertStatus(rule="r", state="alert"), rule(), 0)
    assert not told(AlertStatus(rule="r", state="alert", told="alert", told_ns=0), rule(), 9 * S)
    assert told(AlertStatus(rule="r", state="warning", told="alert", told_ns=0), rule(), 0)
    assert told(AlertStatus(rule="r", state="ok", told="warning", told_ns=0), rule(), 0)
    assert not told(AlertStatus(rule="r", state="unknown", told="alert", told_ns=0), rule(), 0)
    for state in ("broken", "no-data"):
        assert told(AlertStatus(rule="r", state=state), rule(), 0)  # type: ignore[arg-type]


def test_a_silence_holds_news_back_until_it_ends() -> None:
    status = AlertStatus(rule="r", state="alert", silenced_until_ns=10)
    assert not told(status, rule(), 9)
    assert told(status, rule(), 10)


def test_what_stays_bad_is_told_again_if_the_rule_wants_it() -> None:
    status = AlertStatus(rule="r", state="alert", told="alert", told_ns=0)
    assert not told(status, rule(remind_s=60), 59 * S)
    assert told(status, rule(remind_s=60), 60 * S)
    assert not told(AlertStatus(rule="r", state="ok", told="ok", told_ns=0), rule(remind_s=60), 99 * S)


@pytest.mark.parametrize(("window", "every"), [(10, 10), (60, 10), (300, 30), (3600, 360), (86_400, 600)])
def test_the_cadence_follows_the_window(window: int, every: int) -> None:
    assert cadence_s(rule(window_s=window)) == every
    assert cadence_s(rule(window_s=window, every_s=7)) == 7


@given(
    values=st.lists(st.none() | st.sampled_from([0.0, 0.03, 0.045, 0.07, 0.2]), max_size=40),
    needed=st.integers(1, 4),
)
def test_any_walk_changes_state_only_when_all_of_the_last_values_speak_against_it(
    values: list[float | None], needed: int
) -> None:
    content = rule(for_evaluations=needed, no_data="tell")
    status = AlertStatus(rule="r", state="ok")
    spoken: list[AlertState] = []
    for number, value in enumerate(values):
        cell = MetricCell(value=value, n=0 if value is None else 50)
        before, word = status.state, judge(content, cell, status.state)
        status = advance(content, status, cell, number)
        spoken.append(word)
        assert len(status.recent) <= needed
        if status.state != before:
            assert before not in spoken[-needed:] and len(spoken) >= needed
            assert status.state in spoken[-needed:]
            assert status.since_ns == number
            spoken.clear()
        elif needed == 1:
            assert word == before
