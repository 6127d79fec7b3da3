"""Scores over REST: judged once, said twice changes nothing, a later word replaces the earlier."""

from typing import Any

import pytest

from penstock.store.spans.types import ScoreQuery
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import TRACE_ID, Furnished

SPAN_ID = "00000000000000aa"


@pytest.fixture
def caller(furnished: Furnished) -> AsgiClient:
    from penstock.control.app import create_control

    return AsgiClient(create_control(furnished.services), bearer=furnished.call_key)


def stored(furnished: Furnished, **query: Any) -> list[tuple[str, float | None, str | None]]:
    rows = furnished.spans.list_scores(ScoreQuery(**query))
    return [(row.name, row.value, row.label) for row in rows]


def test_a_score_of_a_span_is_listed_with_its_trace(caller: AsgiClient, owner: AsgiClient) -> None:
    body = {"name": "helpful", "value": True, "trace_id": TRACE_ID.upper(), "span_id": SPAN_ID, "comment": "good",
            "source": "human", "scorer": "ada", "evidence": {"quote": "seven"}}  # fmt: skip
    reply = caller.post_json("/api/v1/scores", body)
    assert reply.status == 201
    (carrier,) = reply.json()["scores"]
    assert carrier["trace_id"] == TRACE_ID
    (row,) = owner.get(f"/api/v1/traces/{TRACE_ID}/scores").json()["scores"]
    wanted = {"name": "helpful", "value": 1.0, "span_id": SPAN_ID, "scorer": "ada", "comment": "good",
              "evidence": {"quote": "seven"}, "by_span_id": carrier["span_id"]}  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted


def test_the_later_word_of_the_same_judge_holds_and_another_judge_stands_beside(
    caller: AsgiClient, furnished: Furnished
) -> None:
    def say(value: float, at: int, **more: Any) -> None:
        body = {"name": "quality", "value": value, "trace_id": TRACE_ID, "time_ns": at, **more}
        assert caller.post_json("/api/v1/scores", body).status == 201

    say(0.2, 1_000)
    say(0.8, 2_000)
    say(0.5, 1_500)  # came late, was said earlier
    say(0.8, 2_000)
    assert stored(furnished, trace_id=TRACE_ID) == [("quality", 0.8, None)]
    say(0.1, 3_000, scorer="judge@2")
    say(0.9, 3_500, identifier="second look")
    assert sorted(value for _, value, _ in stored(furnished, trace_id=TRACE_ID)) == [0.1, 0.8, 0.9]


def test_many_scores_are_stored_together_or_not_at_all(caller: AsgiClient, furnished: Furnished) -> None:
    good = {"name": "a", "value": 1, "trace_id": TRACE_ID}
    wrong = {"scores": [good, {"name": "b", "value": 1, "trace_id": "xyz"}]}
    reply = caller.post_json("/api/v1/scores", wrong)
    assert reply.status == 400
    assert reply.json()["error"]["fields"]["where"] == "scores.1.trace_id"
    assert stored(furnished) == []
    both = {"scores": [good, {"name": "tone", "label": "calm", "session_id": "s1"}]}
    assert len(caller.post_json("/api/v1/scores", both).json()["scores"]) == 2
    assert stored(furnished, session_id="s1") == [("tone", None, "calm")]


def test_a_score_changes_no_number_of_its_trace(caller: AsgiClient, furnished: Furnished) -> None:
    before = furnished.spans.get_summary(TRACE_ID)
    assert before is not None
    caller.post_json("/api/v1/scores", {"name": "quality", "value": 0, "trace_id": TRACE_ID})
    after = furnished.spans.get_summary(TRACE_ID)
    assert after is not None
    assert after.has_scores
    assert (after.name, after.duration_ms, after.n_model_calls, after.cost_usd, after.status) == (
        before.name,
        before.duration_ms,
        before.n_model_calls,
        before.cost_usd,
        before.status,
    )


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": " "}, "name"),
        ({"trace_id": None}, "trace_id"),
        ({"trace_id": None, "span_id": SPAN_ID}, "trace_id"),
        ({"span_id": "12"}, "span_id"),
        ({"trace_id": "0" * 32}, "trace_id"),
        ({"value": None}, "value"),
        ({"status": "undefined"}, "status"),
        ({"comment": "x" * 20_001}, "comment"),
        ({"time_ns": -1}, "time_ns"),
        ({"valeu": 1}, "valeu"),
    ],
)
def test_what_is_wrong_about_a_score_is_named(caller: AsgiClient, change: dict[str, Any], where: str) -> None:
    body = {"name": "a", "value": 1, "trace_id": TRACE_ID, **change}
    reply = caller.post_json("/api/v1/scores", body)
    assert reply.status == 400
    assert where in reply.json()["error"]["fields"]["where"]


def test_an_undefined_score_has_no_value(caller: AsgiClient, furnished: Furnished) -> None:
    body = {"name": "f1", "status": "undefined", "trace_id": TRACE_ID, "comment": "no reference"}
    assert caller.post_json("/api/v1/scores", body).status == 201
    assert stored(furnished) == [("f1", None, None)]


def test_who_may_not_read_content_may_not_read_judgements(caller: AsgiClient) -> None:
    assert caller.get(f"/api/v1/traces/{TRACE_ID}/scores").status == 403
