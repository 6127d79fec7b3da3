"""Searches in the store find exactly what they mean, in any list, and pages of them neither repeat nor skip."""

import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.base.errors import InvalidInput
from penstock.spec.scores import SpanScore
from penstock.spec.search import All, Compare, Condition, Either, Negated, Related, Words
from penstock.spec.search_fields import FIELDS
from penstock.spec.spans import Span
from penstock.spec.usage import Usage
from penstock.store.spans import listing
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.errors import SearchTooSlow
from penstock.store.spans.field_sql import SPAN_SQL, TRACE_SQL
from penstock.store.spans.rows import facts_of, prepare_span
from penstock.store.spans.search_sql import MAX_DEPTH, MAX_PARTS, compile_condition, find_reach
from penstock.store.spans.summaries import summarise_trace
from penstock.store.spans.trace_lists import DuckDBTraceLists
from penstock.store.spans.types import Order, SpanQuery, TraceQuery
from penstock.traces.search import parse
from tests.fixtures.spans import T0, make_call_trace, make_span
from tests.store.search_reference import Trace, holds_for_span, holds_for_trace

ORDERS: tuple[Order, ...] = ("newest", "oldest", "slowest", "dearest", "longest")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    opened = DuckDBSpanStore(tmp_path / "spans.duckdb", threads=1)
    yield opened
    opened.close()


@pytest.fixture
def lists(store: DuckDBSpanStore) -> DuckDBTraceLists:
    return DuckDBTraceLists(store.file)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DuckDBTraceLists, list[Trace]]]:
    """A store of small, strange traces: lost parents, cycles, unknown ends; and the same in memory."""
    store = DuckDBSpanStore(tmp_path_factory.mktemp("crowd") / "spans.duckdb", threads=1)
    random.seed(7)
    traces = [some_trace(number) for number in range(1, 60)]
    store.append([span for spans in traces for span in spans])
    known = [
        Trace(spans, summarise_trace([facts_of(prepare_span(span)) for span in spans])) for spans in traces
    ]
    yield DuckDBTraceLists(store.file), known
    store.close()


def some_trace(trace: int) -> list[Span]:
    spans = []
    for number in range(1, random.randint(2, 8)):
        start_ns = T0 + trace * 10**9 + random.randint(0, 500) * 10**6
        above = random.choice([None, *range(1, 10)])
        spans.append(
            make_span(
                number,
                trace=trace,
                parent_id=None if number == 1 else f"{above or 1:016x}",
                name=random.choice(["chat", "Search Index", "naïve 100%"]),
                kind=random.choice(["llm", "tool", "retrieval"]),
                start_ns=start_ns,
                end_ns=random.choice([None, start_ns + random.randint(0, 4) * 500_000_000]),
                status=random.choice(["ok", "error", "unset"]),
                model=random.choice([None, "pocket", "gpt-4o"]),
                user_id=random.choice([None, "ann", "bob"]),
                http_status=random.choice([None, 200, 503]),
                cost_usd=random.choice([None, Decimal(0), Decimal("0.02")]),
                usage=random.choice([None, Usage(input_uncached=5, output_text=random.randint(0, 3))]),
                attributes=random.choice([{}, {"temp.x": 0.5}, {"temp.x": "hot"}, {"a/b~": 1}]),
                versions=random.choice([{}, {"prompt:triage": "3@sha256:ab"}, {"prompt:triage": "4"}]),
                input=random.choice([None, "please refund", "hello"]),
                output=random.choice([None, "no refund", ["a", "b"]]),
            )
        )
    return spans


LEAVES: list[Condition] = [
    Compare("name", "=", "chat"),
    Compare("name", "contains", "SEARCH"),
    Compare("name", "starts", "NAÏ"),
    Compare("name", "matches", "^[cn]"),
    Compare("kind", "=", "tool"),
    Compare("kind", "!=", "tool"),
    Compare("status", "=", "error"),
    Compare("user", "exists"),
    Compare("user", "!=", "ann"),
    Compare("duration", ">", 600),
    Compare("duration", "<=", 500),
    Compare("cost", ">=", 0.02),
    Compare("cost", "exists"),
    Compare("tokens", ">", 6),
    Compare("http_status", ">=", 500),
    Compare("attr.temp.x", "=", 0.5),
    Compare("attr.temp.x", "=", "hot"),
    Compare("attr.temp.x", ">", 0.1),
    Compare("attr.a/b~", "exists"),
    Compare("version.prompt:triage", "=", "3"),
    Compare("spans", ">", 3),
    Compare("errors", "=", 0),
    Words("refund"),
    Words("REFUND", "input"),
    Words("b", "output"),
]


def some_condition(depth: int) -> Condition:
    shape = random.choice(["leaf", "all", "either", "not", "related", "count"]) if depth else "leaf"
    if shape == "leaf":
        leaf = random.choice(LEAVES)
        if isinstance(leaf, Compare) and leaf.field in {"tokens", "model"}:
            return Related("any", leaf)  # a trace's sum is over leaf model calls: told elsewhere
        return leaf
    if shape == "not":
        return Negated(some_condition(depth - 1))
    if shape in {"all", "either"}:
        parts = tuple(some_condition(depth - 1) for _ in range(random.randint(0, 3)))
        return All(parts) if shape == "all" else Either(parts)
    relation: Any = random.choice(["any", "child", "descendant", "parent", "ancestor", "root"])
    if shape == "related":
        return Related(relation, some_condition(depth - 1))
    sign: Any = random.choice(["=", "!=", "<", "<=", ">", ">="])
    return Related(relation, some_condition(depth - 1), sign, random.randint(0, 3))


@pytest.mark.parametrize("seed", range(6))
def test_a_search_finds_exactly_the_traces_and_spans_that_satisfy_it(
    crowd: tuple[DuckDBTraceLists, list[Trace]], seed: int
) -> None:
    lists, traces = crowd
    random.seed(seed)
    for _ in range(15):
        where = some_condition(3)
        window = random.choice([{}, {"since_ns": T0 + 20_250_000_000, "until_ns": T0 + 41_250_000_000}])
        since, until = window.get("since_ns", 0), window.get("until_ns", 2**63)
        found = {
            row.trace_id for row in lists.list_traces(TraceQuery(where=where, limit=1000, **window)).rows
        }
        expected = {
            trace.summary.trace_id
            for trace in traces
            if since <= trace.summary.start_ns < until and holds_for_trace(where, trace)
        }
        assert found == expected, where
        spans = lists.list_spans(SpanQuery(where=where, limit=1000, **window)).rows
        wanted = {
            (span.trace_id, span.span_id)
            for trace in traces
            for span in trace.spans
            if since <= span.start_ns < until and holds_for_span(where, span, trace)
        }
        assert {(row.trace_id, row.span_id) for row in spans} == wanted, where


def test_the_searches_that_the_language_exists_for_read_naturally(
    store: DuckDBSpanStore, lists: DuckDBTraceLists
) -> None:
    store.append(make_call_trace(1))
    empty = make_call_trace(2)
    empty[2] = msgspec.structs.replace(empty[2], attributes={"retrieval.n_hits": 0})
    store.append(empty)
    hidden = make_call_trace(3)
    hidden[1] = msgspec.structs.replace(hidden[1], status="error")
    store.append(hidden)
    deep = make_call_trace(4)
    deep[4] = msgspec.structs.replace(deep[4], status="error")
    store.append(deep)

    def found(text: str) -> list[int]:
        return sorted(int(row.trace_id, 16) for row in lists.list_traces(TraceQuery(where=parse(text))).rows)

    assert found("any(kind:retrieval passages=0)") == found("passages:0") == [2]
    assert found("status:ok child(status:error)") == [3]
    assert found("status:ok any(status:error)") == found("errors>0") == [3, 4]
    assert found("status:ok descendant(kind:llm status:error)") == [4]
    assert found("any(kind:llm parent(kind:app status:error))") == [3]
    assert found("any(status:error ancestor(kind:app))") == [4]
    assert found("count(kind:llm)=2") == [1, 2, 3, 4]
    assert found("child(kind:app)=0") == []
    assert found("-any(status:error) -passages:0") == [1]
    assert found("cost>0.0001 model:pocket tokens>100 route:handbook") == [1, 2, 3, 4]
    assert found("any(kind:embedding root(route:handbook))") == [1, 2, 3, 4]


def test_scores_tags_and_ids_are_found(store: DuckDBSpanStore, lists: DuckDBTraceLists) -> None:
    trace = make_call_trace(1)
    low = SpanScore(
        name="helpful", value=0.2, time_ns=1, trace_id=trace[0].trace_id, span_id=trace[4].span_id
    )
    verdict = SpanScore(name="verdict", label="Too long", time_ns=1, trace_id=trace[0].trace_id)
    for number, score in enumerate((low, verdict)):
        judgement = {"kind": "evaluation", "parent_id": score.span_id or trace[0].span_id, "scores": [score]}
        trace.append(make_span(100 + number, trace=1, **judgement))
    store.append(trace)
    store.append([make_span(1, trace=2, tags=["beta", "two words"], cache="hit", agent="planner")])

    def traces(text: str) -> list[int]:
        return [int(row.trace_id, 16) for row in lists.list_traces(TraceQuery(where=parse(text))).rows]

    def spans(text: str) -> list[int]:
        where = parse(text, subject="span")
        return [int(row.span_id, 16) for row in lists.list_spans(SpanQuery(where=where)).rows]

    assert traces("score.helpful<0.5") == traces("has:score") == traces("score.verdict:*LONG*") == [1]
    assert traces("score.helpful>0.5") == traces("score.nothing<1") == []
    assert spans("score.helpful<0.5") == [5]
    assert spans("child(has:score)") == [2]
    assert traces('tag:beta tag:"two words" cache:hit agent:planner') == traces("tag:be*") == [2]
    assert traces("tag:bet") == []
    assert traces(f"trace:{trace[0].trace_id}") == traces(f"trace:{trace[0].trace_id[:31]}*") == [2, 1][
        1:
    ] or [1]
    assert spans("span:0000000000000005") == [5]
    assert traces("-has:tag") == [1]


def test_every_field_is_compiled_for_traces_and_for_spans(lists: DuckDBTraceLists) -> None:
    assert {field.name for field in FIELDS} == {*SPAN_SQL, *TRACE_SQL, "input", "output"}
    for field in FIELDS:
        for text in (field.example, f"has:{field.name}", f"-has:{field.name}", f"any({field.example})"):
            assert lists.list_traces(TraceQuery(where=parse(text))).rows == []
            assert lists.list_spans(SpanQuery(where=parse(text, subject="span"))).rows == []


def test_a_search_of_unreasonable_size_or_unknown_fields_is_refused() -> None:
    many = Either(tuple(Compare("name", "=", str(number)) for number in range(MAX_PARTS)))
    deep: Condition = Compare("name", "=", "x")
    for _ in range(MAX_DEPTH):
        deep = Negated(deep)
    for condition in (
        many,
        deep,
        Compare("nothing", "=", "x"),
        Compare("name", "<", 1),
        Compare("tokens", "=", "x"),
    ):
        with pytest.raises(InvalidInput):
            compile_condition(condition, "trace")


def test_no_value_becomes_part_of_a_statement() -> None:
    nasty = "'; DROP TABLE spans; --"
    for condition in (
        Compare("name", "=", nasty),
        Compare(f"attr.{nasty}", "=", nasty),
        Compare(f"score.{nasty}", "contains", nasty),
        Compare(f"version.{nasty}", "=", nasty),
        Words(nasty),
        Words(nasty, "input"),
        Compare("trace", "starts", nasty),
        Compare("tag", "matches", nasty),
    ):
        for subject in ("trace", "span"):
            sql, values = compile_condition(Related("any", condition), subject)  # type: ignore[arg-type]
            assert "DROP" not in sql
            assert sql.count("?") == len(values)


def test_a_pattern_that_the_engine_refuses_is_told_as_a_wrong_search(
    store: DuckDBSpanStore, lists: DuckDBTraceLists
) -> None:
    store.append([make_span(1)])
    with pytest.raises(InvalidInput):
        lists.list_traces(TraceQuery(where=Compare("name", "matches", "((a{1000}){1000}){1000}")))


def test_a_search_without_end_is_ended(store: DuckDBSpanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_SEARCH_S", 0.1)
    endless = "SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range * b.range % 7 = ?"
    with store.file.cursor() as cursor, pytest.raises(SearchTooSlow), listing.at_one_moment(cursor):
        cursor.execute(endless, [3]).fetchall()


def all_ids(lists: DuckDBTraceLists, query: Any, between: Any = lambda: None) -> list[Any]:
    found: list[Any] = []
    is_traces = isinstance(query, TraceQuery)
    while True:
        page = lists.list_traces(query) if is_traces else lists.list_spans(query)
        found += [row.trace_id if is_traces else (row.trace_id, row.span_id) for row in page.rows]
        if page.next_cursor is None:
            return found
        query = msgspec.structs.replace(query, cursor=page.next_cursor)
        between()


@pytest.mark.parametrize("order", ORDERS)
def test_pages_in_any_order_hold_each_row_once_while_others_arrive(
    store: DuckDBSpanStore, lists: DuckDBTraceLists, order: Order
) -> None:
    random.seed(order)
    store.append([span for number in range(1, 40) for span in some_trace(number)])
    before_traces = all_ids(lists, TraceQuery(limit=1000))
    before_spans = all_ids(lists, SpanQuery(limit=1000))
    arrivals = iter(range(1000, 2000))

    def arrive() -> None:
        number, grown = next(arrivals), random.randint(1, 39)
        late = [
            msgspec.structs.replace(span, start_ns=span.start_ns - random.choice([0, 970, 990]) * 10**9)
            for span in some_trace(number)
        ]
        store.append([*late, make_span(number, trace=grown, parent_id=f"{1:016x}", kind="tool", end_ns=None)])

    for query, before in (
        (TraceQuery(limit=8, order=order), before_traces),
        (SpanQuery(limit=30, order=order), before_spans),
    ):
        found = all_ids(lists, query, arrive)
        assert len(found) == len(set(found))
        assert set(before) <= set(found)


def test_a_list_is_in_the_order_asked_for_with_the_unknown_last(
    store: DuckDBSpanStore, lists: DuckDBTraceLists
) -> None:
    random.seed(3)
    store.append([span for number in range(1, 30) for span in some_trace(number)])

    def tokens(row: Any) -> Any:
        known = [count for count in (row.input_tokens, row.output_tokens) if count is not None]
        return sum(known) if known else None

    for order, value in (
        ("slowest", lambda row: row.duration_ms),
        ("dearest", lambda row: row.cost_usd),
        ("longest", tokens),
    ):
        for rows in (
            lists.list_traces(TraceQuery(order=order)).rows,  # type: ignore[arg-type]
            lists.list_spans(SpanQuery(order=order, limit=500)).rows,  # type: ignore[arg-type]
        ):
            seen = [value(row) for row in rows]  # type: ignore[no-untyped-call]
            known = [each for each in seen if each is not None]
            assert known == sorted(known, reverse=True)
            assert seen == known + [None] * (len(seen) - len(known))
    newest = [row.start_ns for row in lists.list_spans(SpanQuery()).rows]
    oldest = [row.start_ns for row in lists.list_spans(SpanQuery(order="oldest")).rows]
    assert newest == sorted(newest, reverse=True)
    assert oldest == sorted(oldest)


def test_a_cursor_is_good_for_its_own_order_only(store: DuckDBSpanStore, lists: DuckDBTraceLists) -> None:
    store.append([make_span(1, trace=trace) for trace in range(1, 5)])
    cursor = lists.list_traces(TraceQuery(limit=1)).next_cursor
    for query in (TraceQuery(order="slowest", cursor=cursor), TraceQuery(cursor="WyJuZXdlc3QiLCJ4IiwieSJd")):
        with pytest.raises(InvalidInput):
            lists.list_traces(query)
    with pytest.raises(InvalidInput):
        lists.list_spans(SpanQuery(cursor=cursor))


def test_counting_stops_at_a_bound(store: DuckDBSpanStore, lists: DuckDBTraceLists) -> None:
    store.append([make_span(number, trace=1 + number % 2, kind="tool") for number in range(1, 8)])
    assert (lists.count(SpanQuery(where=parse("kind:tool"))).n, lists.count(TraceQuery()).n) == (7, 2)
    assert lists.count(SpanQuery(where=parse("kind:llm"))).n == 0


def test_values_and_names_complete_from_what_is_stored(
    store: DuckDBSpanStore, lists: DuckDBTraceLists
) -> None:
    store.append(make_call_trace(1))
    store.append([make_span(9, trace=2, model="pocket", attributes={"a.b": "x", "c": 1}, tags=["t1", "t2"])])
    assert lists.complete("model", "PO", limit=5) == [("pocket", 2)]
    assert lists.complete("tag", "", limit=5) == [("t1", 1), ("t2", 1)]
    assert ("a.b", 1) in lists.complete("attr.", "a", limit=5)
    assert lists.complete("attr.a.b", "", limit=5) == [("x", 1)]
    assert lists.complete("version.", "", limit=5) == [("app:handbook", 1)]
    assert lists.complete("version.app:handbook", "", limit=5) == [("1", 1)]
    assert lists.complete("duration", "", limit=5) == lists.complete("nothing", "", limit=5) == []


def test_the_reach_of_a_window_covers_spans_far_from_their_root(
    store: DuckDBSpanStore, lists: DuckDBTraceLists
) -> None:
    far = T0 + 10**15
    late = make_span(2, trace=1, parent_id=f"{1:016x}", start_ns=far, end_ns=far + 1, status="error")
    store.append([make_span(1, trace=1), late])
    with store.file.cursor() as cursor:
        assert find_reach(cursor, T0, T0 + 2 * 10**9) == (T0 + 1_001_000_000, far)
        assert find_reach(cursor, 5, 6) == (0, 0)
        assert find_reach(cursor, None, None) is None
    window = {"since_ns": T0, "until_ns": T0 + 2 * 10**9}
    assert len(lists.list_traces(TraceQuery(where=parse("child(status:error)"), **window)).rows) == 1
