"""Sessions and users as the span store tells of them: sums, order, turns, and pages that hold still."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.spec.scores import SpanScore
from penstock.spec.spans import Span
from penstock.spec.usage import Usage
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.errors import InvalidCursor
from penstock.store.spans.session_queries import MAX_PAYLOAD, DuckDBSessions
from penstock.store.spans.session_types import N_SLICES, SessionOrder, SessionQuery, UserQuery
from tests.fixtures.spans import T0

MINUTE = 60_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    opened = DuckDBSpanStore(tmp_path / "spans.duckdb", threads=1)
    yield opened
    opened.close()


@pytest.fixture
def sessions(store: DuckDBSpanStore) -> DuckDBSessions:
    return DuckDBSessions(store.file)


def make_turn(number: int, session: str | None = "talk", **fields: Any) -> Span:
    """Return the only span of one trace; later numbers start later."""
    start = T0 + number * MINUTE
    defaults: dict[str, Any] = {
        "name": "chat",
        "kind": "llm",
        "start_ns": start,
        "end_ns": start + 1_000_000_000,
        "status": "ok",
        "usage": Usage(input_uncached=10, output_text=2),
        "cost_usd": Decimal("0.25"),
        "input": {"messages": [{"role": "user", "content": f"question {number}"}]},
        "output": {"choices": [{"message": {"role": "assistant", "content": f"answer {number}"}}]},
        "user_id": "ada",
    }
    fields = {**defaults, **fields}
    return Span(trace_id=f"{number:032x}", span_id=f"{number:016x}", session_id=session, **fields)


def judge(number: int, **fields: Any) -> Span:
    """Return the span that brings one score, in a trace of its own unless told."""
    score = {"name": "helpful", "time_ns": T0, **fields.pop("score")}
    return Span(
        trace_id=fields.pop("trace_id", f"{number:032x}"),
        span_id=f"{number:016x}",
        name="score helpful",
        kind="evaluation",
        start_ns=T0 + number * MINUTE,
        end_ns=T0 + number * MINUTE,
        scores=[SpanScore(**score)],
        **fields,
    )


def test_a_session_sums_its_turns_and_keeps_what_is_not_known_apart(
    store: DuckDBSpanStore, sessions: DuckDBSessions
) -> None:
    store.append(
        [
            make_turn(1),
            make_turn(2, status="error", cost_usd=None, usage=None, user_id="bo"),
            make_turn(3, cost_usd=Decimal("0.0000000000000001")),
            make_turn(4, session="other"),
            make_turn(5, session=None),
        ]
    )
    row = sessions.get_session("talk")
    assert row is not None
    assert (row.n_turns, row.n_failed, row.n_spans, row.n_unpriced) == (3, 1, 3, 1)
    assert row.cost_usd == Decimal("0.2500000000000001")
    assert (row.input_tokens, row.output_tokens, row.busy_ms) == (20, 4, 3000.0)
    assert (row.first_ns, row.last_ns) == (T0 + MINUTE, T0 + 3 * MINUTE)
    assert (row.users, row.n_users) == (["ada", "bo"], 2)
    assert (row.preview, row.last_preview) == ("question 1", "question 3")
    assert sessions.get_session("nobody") is None


def test_of_a_session_without_prices_or_counts_the_sums_are_unknown(
    store: DuckDBSpanStore, sessions: DuckDBSessions
) -> None:
    store.append([make_turn(1, cost_usd=None, usage=None, end_ns=None, user_id=None)])
    row = sessions.get_session("talk")
    assert row is not None
    assert (row.cost_usd, row.input_tokens, row.output_tokens, row.busy_ms) == (None, None, None, None)
    assert (row.users, row.n_unpriced) == ([], 1)


def test_turns_come_oldest_first_with_what_was_said_and_judged(
    store: DuckDBSpanStore, sessions: DuckDBSessions
) -> None:
    score = {"value": 0.5, "span_id": f"{2:016x}", "scorer": "ada", "source": "human"}
    store.append([make_turn(3), make_turn(1), make_turn(2)])
    store.append([judge(99, trace_id=f"{2:032x}", parent_id=f"{2:016x}", score=score)])
    turns = sessions.list_turns("talk", limit=10).turns
    assert [turn.trace_id for turn in turns] == [f"{number:032x}" for number in (1, 2, 3)]
    assert turns[0].input["messages"][0]["content"] == "question 1"
    assert turns[2].output["choices"][0]["message"]["content"] == "answer 3"
    assert [(each.name, each.value, each.span_id) for each in turns[1].scores] == [
        ("helpful", 0.5, f"{2:016x}")
    ]
    assert turns[0].scores == []


def test_a_payload_too_long_for_a_list_is_left_out_and_said_to_be(
    store: DuckDBSpanStore, sessions: DuckDBSessions
) -> None:
    store.append([make_turn(1, output="x" * (MAX_PAYLOAD + 1)), make_turn(2)])
    first, second = sessions.list_turns("talk", limit=10).turns
    assert (first.is_large, first.output) == (True, None)
    assert first.input is not None
    assert (second.is_large, second.output is None) == (False, False)


def test_a_judgement_is_no_turn_and_counts_for_its_session(
    store: DuckDBSpanStore, sessions: DuckDBSessions
) -> None:
    store.append([make_turn(1), make_turn(2)])
    store.append(
        [
            judge(7, session_id="talk", score={"value": 1.0, "session_id": "talk", "scorer": "ada"}),
            judge(8, trace_id=f"{1:032x}", parent_id=f"{1:016x}", score={"value": 0.0, "scorer": "bo"}),
            judge(9, trace_id=f"{2:032x}", parent_id=f"{2:016x}", score={"label": "good", "name": "tone"}),
        ]
    )
    row = sessions.get_session("talk")
    assert row is not None
    assert row.n_turns == 2
    assert [(each.name, each.n, each.mean) for each in row.scores] == [
        ("helpful", 2, 0.5),
        ("tone", 1, None),
    ]
    user = sessions.list_users(UserQuery()).rows[0]
    assert [(each.name, each.n) for each in user.scores] == [("helpful", 1), ("tone", 1)]


def test_a_session_belongs_to_every_window_that_one_of_its_turns_began_in(
    store: DuckDBSpanStore, sessions: DuckDBSessions
) -> None:
    store.append([make_turn(1), make_turn(10), make_turn(5, session="short")])

    def ids(**window: int) -> list[str]:
        return [row.session_id for row in sessions.list_sessions(SessionQuery(**window)).rows]

    assert ids() == ["talk", "short"]
    assert ids(since_ns=T0 + 6 * MINUTE) == ["talk"]
    assert ids(until_ns=T0 + 5 * MINUTE) == ["talk"]
    assert ids(until_ns=T0 + MINUTE) == []
    before = sessions.list_sessions(SessionQuery(until_ns=T0 + 5 * MINUTE)).rows[0]
    assert before.n_turns == 1, "what came after the window's end is not summed"


@pytest.mark.parametrize(
    ("order", "first"), [("recent", "late"), ("dearest", "dear"), ("longest", "long"), ("failed", "bad")]
)
def test_sessions_and_users_come_in_the_order_that_was_asked_for(
    store: DuckDBSpanStore, sessions: DuckDBSessions, order: SessionOrder, first: str
) -> None:
    store.append(
        [
            *(make_turn(number, session="long", user_id="long") for number in (1, 2, 3)),
            make_turn(4, session="dear", user_id="dear", cost_usd=Decimal(9)),
            make_turn(5, session="bad", user_id="bad", status="error", cost_usd=None),
            make_turn(6, session="late", user_id="late"),
        ]
    )
    found = sessions.list_sessions(SessionQuery(order=order)).rows
    assert (found[0].session_id, len(found)) == (first, 4)
    assert sessions.list_users(UserQuery(order=order)).rows[0].user_id == first


def test_sessions_are_found_by_a_part_of_their_id_and_by_who_took_part(
    store: DuckDBSpanStore, sessions: DuckDBSessions
) -> None:
    store.append([make_turn(1, session="Support/17"), make_turn(2, session="100%", user_id="bo")])

    def ids(**query: str) -> list[str]:
        return [row.session_id for row in sessions.list_sessions(SessionQuery(**query)).rows]

    assert ids(text="support/") == ["Support/17"]
    assert ids(text="%") == ["100%"]
    assert ids(text="_") == []
    assert ids(user_id="bo") == ["100%"]


def test_users_are_summed_within_the_window_and_counted_in_slices(
    store: DuckDBSpanStore, sessions: DuckDBSessions
) -> None:
    store.append([make_turn(number) for number in range(1, 25)])
    store.append([make_turn(30, session="b", status="error", user_id="bo")])
    page = sessions.list_users(UserQuery(since_ns=T0 + MINUTE, until_ns=T0 + 25 * MINUTE))
    assert [(row.user_id, row.n_traces, row.n_sessions, row.n_failed) for row in page.rows] == [
        ("ada", 24, 1, 0)
    ]
    assert page.rows[0].calls == [1] * N_SLICES
    everyone = sessions.list_users(UserQuery())
    assert [row.user_id for row in everyone.rows] == ["bo", "ada"]
    assert [sum(row.failed) for row in everyone.rows] == [1, 0]
    alone = sessions.list_users(UserQuery(user_id="bo")).rows
    assert [(row.user_id, row.p95_ms) for row in alone] == [("bo", None)]


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    order=st.sampled_from(["recent", "dearest", "longest", "failed"]),
    size=st.integers(1, 4),
    before=st.lists(st.integers(0, 7), min_size=1, max_size=14),
    meanwhile=st.lists(st.integers(0, 9), max_size=6),
)
def test_pages_neither_repeat_nor_skip_while_turns_come_in(
    tmp_path_factory: pytest.TempPathFactory,
    order: SessionOrder,
    size: int,
    before: list[int],
    meanwhile: list[int],
) -> None:
    store = DuckDBSpanStore(tmp_path_factory.mktemp("paged") / "spans.duckdb", threads=1)
    sessions = DuckDBSessions(store.file)
    store.append([make_turn(at, session=f"s{who}", user_id=f"s{who}") for at, who in enumerate(before, 1)])
    later = iter(
        [make_turn(at, session=f"s{who}", user_id=f"s{who}") for at, who in enumerate(meanwhile, 100)]
    )
    seen: list[str] = []
    query = SessionQuery(order=order, limit=size)
    while True:
        page = sessions.list_sessions(query)
        seen += [row.session_id for row in page.rows]
        if page.next_cursor is None:
            break
        query = msgspec.structs.replace(query, cursor=page.next_cursor)
        if (turn := next(later, None)) is not None:
            store.append([turn])
    store.close()
    assert sorted(seen) == sorted({f"s{who}" for who in before})


def test_turns_are_paged_without_gaps_also_where_they_begin_at_once(
    store: DuckDBSpanStore, sessions: DuckDBSessions
) -> None:
    store.append([make_turn(number, start_ns=T0 + number // 3 * MINUTE) for number in range(1, 12)])
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = sessions.list_turns("talk", limit=2, cursor=cursor)
        seen += [turn.trace_id for turn in page.turns]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"{number:032x}" for number in range(1, 12)]


@pytest.mark.parametrize("cursor", ["", "x", "bm90aGluZw", "WyJyZWNlbnQiXQ", "é", "W10"])
def test_a_foreign_cursor_is_refused(store: DuckDBSpanStore, sessions: DuckDBSessions, cursor: str) -> None:
    store.append([make_turn(1)])
    for ask in (
        lambda: sessions.list_sessions(SessionQuery(cursor=cursor)),
        lambda: sessions.list_users(UserQuery(cursor=cursor)),
        lambda: sessions.list_turns("talk", limit=1, cursor=cursor),
    ):
        with pytest.raises(InvalidCursor):
            ask()


def test_a_cursor_of_another_order_is_refused(store: DuckDBSpanStore, sessions: DuckDBSessions) -> None:
    store.append([make_turn(1), make_turn(2, session="b")])
    cursor = sessions.list_sessions(SessionQuery(limit=1)).next_cursor
    assert cursor is not None
    with pytest.raises(InvalidCursor):
        sessions.list_sessions(SessionQuery(order="dearest", cursor=cursor))
    bad = sessions.list_sessions(SessionQuery(limit=1, order="dearest")).next_cursor
    assert bad is not None


def test_an_empty_store_has_neither_sessions_nor_users(sessions: DuckDBSessions) -> None:
    assert sessions.list_sessions(SessionQuery()).rows == []
    page = sessions.list_users(UserQuery())
    assert (page.rows, page.since_ns) == ([], None)
