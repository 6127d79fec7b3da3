"""What every span store promises, whatever engine is below."""

import itertools
import random
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput, NotFound
from penstock.spec.search import All, Compare, Words
from penstock.spec.spans import Span
from penstock.spec.usage import Usage
from penstock.store.spans.append import rank_of
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.port import SpanStore
from penstock.store.spans.queries import MAX_BUCKETS, bucket_width_ns
from penstock.store.spans.rows import facts_of, prepare_span
from penstock.store.spans.summaries import summarise_trace
from penstock.store.spans.types import TraceQuery, TraceRow
from tests.fixtures.spans import T0, make_call_trace, make_span, spans


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SpanStore]:
    opened = DuckDBSpanStore(tmp_path / "spans.duckdb", threads=1)
    yield opened
    opened.close()


def without_payload(span: Span) -> Span:
    return msgspec.structs.replace(span, input=None, output=None)


def all_pages(store: SpanStore, query: TraceQuery) -> list[str]:
    found: list[str] = []
    while True:
        page = store.list_traces(query)
        found += [row.trace_id for row in page.rows]
        if page.next_cursor is None:
            return found
        query = msgspec.structs.replace(query, cursor=page.next_cursor)


def test_a_trace_comes_back_as_it_was_stored(store: SpanStore) -> None:
    trace = make_call_trace()
    assert store.append(trace) == 5
    assert store.get_trace(trace[0].trace_id) == [without_payload(span) for span in trace]
    payload = store.get_payload(trace[0].trace_id, trace[0].span_id)
    assert (payload.input, payload.output, payload.dropped) == (trace[0].input, trace[0].output, False)
    assert store.get_payload(trace[1].trace_id, trace[1].span_id).input is None


def test_appending_the_same_again_changes_nothing(store: SpanStore) -> None:
    trace = make_call_trace()
    assert store.append(trace + trace) == 5
    before = store.list_traces(TraceQuery())
    assert store.append(trace) == 0
    assert store.append([]) == 0
    assert store.list_traces(TraceQuery()) == before
    assert len(store.get_trace(trace[0].trace_id)) == 5


def test_a_more_complete_record_replaces_an_open_one_and_not_the_other_way_round(store: SpanStore) -> None:
    done = make_span(1, kind="llm", cost_usd=Decimal(2), input="q", output="a")
    begun = msgspec.structs.replace(done, end_ns=None, status="unset", cost_usd=None, output=None)
    assert store.append([begun]) == 1
    assert store.list_traces(TraceQuery()).rows[0].duration_ms is None
    for record in (done, begun):
        assert store.append([record]) == 0
        assert store.get_trace(done.trace_id) == [without_payload(done)]
        assert store.get_payload(done.trace_id, done.span_id).output == "a"
        row = store.list_traces(TraceQuery()).rows[0]
        assert (row.status, row.cost_usd, row.n_spans, row.duration_ms) == ("ok", Decimal(2), 1, 50.0)


def test_a_row_is_right_when_spans_come_late_and_in_any_order(store: SpanStore) -> None:
    trace = make_call_trace()
    expected = None
    for attempt in range(3):
        moved = [msgspec.structs.replace(span, trace_id=f"{attempt + 7:032x}") for span in trace]
        random.Random(attempt).shuffle(moved)
        for span in moved:
            store.append([span])
        row = store.get_summary(moved[0].trace_id)
        assert row is not None
        seen = msgspec.structs.replace(row, trace_id="")
        expected = expected or seen
        assert seen == expected
        assert row.cost_usd == Decimal("0.000124456789012345")


@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(st.lists(spans(), max_size=6), min_size=1, max_size=4))
def test_any_batches_leave_the_most_complete_record_of_each_span_and_true_rows(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Span]]
) -> None:
    store = DuckDBSpanStore(tmp_path_factory.mktemp("spans") / "s.duckdb", threads=1)
    model: dict[tuple[str, str], Span] = {}
    for batch in batches:
        known = set(model)
        for span in batch:
            key = (span.trace_id, span.span_id)
            if key not in model or rank_of(prepare_span(span)) > rank_of(prepare_span(model[key])):
                model[key] = span
        assert store.append(batch) == len(set(model) - known)
    for trace_id in {key[0] for key in model}:
        kept = [span for key, span in model.items() if key[0] == trace_id]
        stored = {span.span_id: span for span in store.get_trace(trace_id)}
        assert stored == {span.span_id: without_payload(span) for span in kept}
        for span in kept:
            payload = store.get_payload(trace_id, span.span_id)
            assert (payload.input, payload.output) == (span.input, span.output)
        expected = summarise_trace([facts_of(prepare_span(span)) for span in kept])
        row = store.get_summary(trace_id)
        assert row is not None
        joined = ("tags", "models", "providers")  # one text in the table, a list to readers
        for name in joined:
            assert "".join(f"\n{each}" for each in getattr(row, name)) == getattr(expected, name).rstrip("\n")
        for name in set(row.__struct_fields__) & set(expected.__struct_fields__) - set(joined):
            assert getattr(row, name) == getattr(expected, name), name
    assert sorted(all_pages(store, TraceQuery(limit=2))) == sorted({key[0] for key in model})
    store.close()


def test_paging_never_repeats_or_skips_even_with_equal_times_and_new_arrivals(store: SpanStore) -> None:
    store.append([make_span(1, trace=trace, start_ns=T0 + trace // 7, end_ns=None) for trace in range(1, 60)])
    found: list[str] = []
    query = TraceQuery(limit=7)
    for step in range(20):
        page = store.list_traces(query)
        found += [row.trace_id for row in page.rows]
        store.append([make_span(1, trace=1000 + step, start_ns=T0 + 1000 + step)])
        if page.next_cursor is None:
            break
        query = TraceQuery(limit=7, cursor=page.next_cursor)
    expected = sorted(range(1, 60), key=lambda trace: (T0 + trace // 7, trace), reverse=True)
    assert found == [f"{trace:032x}" for trace in expected]


def test_filters_choose_traces_by_their_root_and_models_by_any_span(store: SpanStore) -> None:
    store.append(make_call_trace(1))
    store.append(
        [
            make_span(
                1, trace=2, kind="http", status="error", session_id="s", end_ns=T0 + 2_001_000_000 + 10**9
            )
        ]
    )

    def found(since_ns: int | None = None, until_ns: int | None = None, **wanted: str) -> list[int]:
        where = All(tuple(Compare(name, "=", value) for name, value in wanted.items()))
        query = TraceQuery(since_ns=since_ns, until_ns=until_ns, where=where)
        return [int(row.trace_id, 16) for row in store.list_traces(query).rows]

    assert found() == [2, 1]
    assert found(route="handbook") == [1]
    assert found(route="pocket") == []
    assert found(model="pocket") == found(model="handbook") == found(provider="engine") == [1]
    assert found(model="poc") == []
    assert found(status="error") == found(kind="http") == found(session="s") == [2]
    assert found(key="key_a") == [1]
    slow = TraceQuery(where=Compare("duration", ">=", 500.0))
    assert [int(row.trace_id, 16) for row in store.list_traces(slow).rows] == [2]
    assert found(since_ns=T0 + 2_000_000_000) == [2]
    assert found(until_ns=T0 + 2_000_000_000) == [1]
    assert found(status="error", kind="llm") == []


def test_text_search_sees_questions_answers_and_names_but_no_json_keys(store: SpanStore) -> None:
    store.append(make_call_trace(1, answer="Gehen Sie täglich 100% ihrer_Wege"))
    store.append([make_span(1, trace=2, name="Nightly Job")])

    def found(text: str) -> list[int]:
        return [int(row.trace_id, 16) for row in store.list_traces(TraceQuery(where=Words(text))).rows]

    assert found("how MUCH should") == found("TÄGLICH") == found("100% IHRER_w") == [1]
    assert found("nightly") == [2]
    assert found("messages") == found("100_") == found("'; DROP TABLE spans; --") == []


def test_an_overview_counts_calls_errors_money_and_latency(store: SpanStore) -> None:
    for number in range(1, 5):
        store.append(make_call_trace(number))
    store.append([make_span(1, trace=5, kind="llm", route="pocket", status="error")])
    seen = store.overview(T0, T0 + 10_000_000_000)
    assert (seen.n_calls, seen.n_errors, seen.n_unpriced) == (5, 1, 1)
    assert seen.cost_usd == 4 * Decimal("0.000124456789012345")
    assert (seen.input_tokens, seen.output_tokens) == (500, 48)
    assert (seen.p50_ms, seen.p99_ms, seen.p50_ttft_ms) == (50.0, 50.0, 31.5)
    assert [(row.route, row.n_calls, row.n_errors, row.cost_usd is None) for row in seen.by_route] == [
        ("handbook", 4, 0, False),
        ("pocket", 1, 1, True),
    ]
    assert sum(bucket.n_calls for bucket in seen.series) == 5
    assert sum(bucket.n_errors for bucket in seen.series) == 1
    starts = [bucket.start_ns for bucket in seen.series]
    assert len({after - before for before, after in itertools.pairwise(starts)}) == 1


def test_every_sum_of_an_overview_says_what_it_leaves_out(store: SpanStore) -> None:
    store.append(make_call_trace(1))
    store.append([make_span(1, trace=2, kind="llm", route="handbook")])
    store.append([make_span(1, trace=3, kind="embedding", route="minilm", usage=Usage(input_uncached=4))])
    refused = {"status": "error", "error_code": "PS-2201", "route": "minilm", "cost_usd": Decimal(0)}
    store.append([make_span(1, trace=4, kind="llm", **refused)])
    seen = store.overview(T0, T0 + 10_000_000_000)
    assert (seen.n_unpriced, seen.n_without_usage) == (2, 1)
    assert [(row.route, row.n_unpriced, row.n_without_usage) for row in seen.by_route] == [
        ("handbook", 1, 1),
        ("minilm", 1, 0),
    ]
    assert sum(bucket.n_unpriced for bucket in seen.series) == 2
    assert sum(bucket.n_without_usage for bucket in seen.series) == 1


def test_latency_is_of_calls_that_were_answered(store: SpanStore) -> None:
    store.append(make_call_trace(1))
    for number in range(2, 9):
        span = make_span(1, trace=number, kind="llm", route="handbook", status="error")
        store.append([msgspec.structs.replace(span, end_ns=span.start_ns + 200_000)])
    seen = store.overview(T0, T0 + 10_000_000_000)
    assert (seen.p50_ms, seen.p99_ms, seen.by_route[0].p50_ms) == (50.0, 50.0, 50.0)
    assert {bucket.p95_ms for bucket in seen.series} <= {50.0, None}


def test_an_unknown_field_of_a_trace_is_null_and_not_missing(store: SpanStore) -> None:
    store.append([make_span(1)])
    row = msgspec.json.decode(msgspec.json.encode(store.list_traces(TraceQuery()).rows[0]))
    assert set(row) == set(TraceRow.__struct_fields__)
    assert (row["cost_usd"], row["model"], row["n_unpriced"]) == (None, None, 0)


def test_an_overview_of_nothing_knows_nothing(store: SpanStore) -> None:
    seen = store.overview(T0, T0 + 10**12)
    assert (seen.n_calls, seen.cost_usd, seen.input_tokens, seen.p50_ms) == (0, None, None, None)
    assert (seen.n_errors, seen.n_unpriced, seen.n_without_usage) == (0, 0, 0)
    assert all(bucket.n_calls == 0 and bucket.p95_ms is None for bucket in seen.series)
    assert store.overview(T0, T0).series == []


@given(st.integers(0, 2**61), st.integers(0, 2**60))
def test_a_series_has_a_bounded_number_of_slices_that_cover_the_window(since_ns: int, length: int) -> None:
    width = bucket_width_ns(since_ns, since_ns + length)
    assert width * MAX_BUCKETS >= length
    assert width > 0


@pytest.mark.parametrize("cursor", ["", "x", "!!!!", "MTIz", "é", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk6YQ"])
def test_a_foreign_cursor_is_refused(store: SpanStore, cursor: str) -> None:
    with pytest.raises(InvalidInput):
        store.list_traces(TraceQuery(cursor=cursor))


@pytest.mark.parametrize("trace_id", ["", "xyz", "0" * 32, "A" * 32, "'" * 32, "f" * 32])
def test_an_unknown_trace_is_empty_and_its_payload_not_found(store: SpanStore, trace_id: str) -> None:
    store.append(make_call_trace())
    assert store.get_trace(trace_id) == []
    assert store.get_summary(trace_id) is None
    with pytest.raises(NotFound):
        store.get_payload(trace_id, "1" * 16)
    with pytest.raises(NotFound):
        store.get_payload(f"{1:032x}", "not hex")


@pytest.mark.parametrize(
    "fields",
    [
        {"trace_id": "xyz"},
        {"trace_id": "0" * 32},
        {"span_id": "f" * 15},
        {"parent_id": "no"},
        {"start_ns": -1},
        {"start_ns": 2**63},
        {"end_ns": 2**64},
        {"attempts": 2**60},
    ],
)
def test_a_span_that_cannot_be_stored_is_refused_and_nothing_of_its_batch_is_kept(
    store: SpanStore, fields: dict[str, object]
) -> None:
    bad = msgspec.structs.replace(make_span(2), **fields)
    with pytest.raises(InvalidInput):
        store.append([make_span(1), bad])
    assert store.list_traces(TraceQuery()).rows == []
    assert store.append([make_span(1)]) == 1


def test_strange_content_is_kept_as_well_as_it_can_be(store: SpanStore) -> None:
    deep: object = "bottom"
    for _ in range(5000):
        deep = [deep]
    trace = [
        make_span(1, name="nul \0 and 😀", input="half \ud800 pair", output=deep, cost_usd=Decimal("NaN")),
        make_span(2, input=msgspec.Raw(b'"broken \xff utf-8"'), attributes={"big": 2**63}),
        make_span(3, input=float("inf"), cost_usd=Decimal("1E+30")),
    ]
    assert store.append(trace) == 3
    stored = store.get_trace(trace[0].trace_id)
    assert stored[0].name == "nul \0 and 😀"
    assert [span.cost_usd for span in stored] == [None, None, None]
    assert stored[1].attributes == {"big": 2**63}
    for span in trace:
        store.get_payload(span.trace_id, span.span_id)


def test_readers_and_a_writer_do_not_disturb_each_other(store: SpanStore) -> None:
    stop = threading.Event()
    faults: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                for row in store.list_traces(TraceQuery()).rows:
                    assert len(store.get_trace(row.trace_id)) == row.n_spans == 5
                    store.overview(T0, T0 + 10**12)
        except BaseException as error:
            faults.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(1, 15):
        store.append(make_call_trace(number))
    stop.set()
    for reader in readers:
        reader.join()
    assert faults == []
