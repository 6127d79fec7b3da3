"""Measures of the span store, held against the same computed in plain Python."""

import random
import statistics
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.spec.measures import DIMENSIONS, MEASURES, MetricCell, MetricQuery, Subject
from penstock.spec.scores import SpanScore
from penstock.spec.search import All, Compare
from penstock.spec.spans import Span
from penstock.spec.usage import Usage
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.measures import DuckDBMeasures
from penstock.store.spans.port import Measures
from tests.fixtures.spans import T0, make_call_trace, make_span
from tests.store.test_span_migration import _SPAN, OLD, write_old_file

S = 1_000_000_000
DAY = 86_400 * S
WINDOW = {"since_ns": T0, "until_ns": T0 + DAY}


@pytest.fixture
def store() -> Iterator[DuckDBSpanStore]:
    store = DuckDBSpanStore(Path(":memory:"), threads=1)
    yield store
    store.close()


@pytest.fixture
def measures(store: DuckDBSpanStore) -> Measures:
    return DuckDBMeasures(store.file)


def cell(measures: Measures, name: str, **fields: object) -> MetricCell:
    """Return the one cell of one measure over the whole window."""
    rows = measures.measure(MetricQuery(measures=(name,), **{**WINDOW, **fields})).rows  # type: ignore[arg-type]
    return rows[0].cells[name] if rows else MetricCell(value=None, n=0)


def by_group(
    measures: Measures, name: str, *by: str, **fields: object
) -> dict[tuple[str | None, ...], float | None]:
    """Return the values of one measure by group."""
    table = measures.measure(MetricQuery(measures=(name,), by=by, **{**WINDOW, **fields}))  # type: ignore[arg-type]
    return {tuple(row.group.values()): row.cells[name].value for row in table.rows}


def test_a_span_that_ended_before_it_began_is_in_no_percentile(
    store: DuckDBSpanStore, measures: Measures
) -> None:
    store.append(
        [
            make_span(1, kind="llm", start_ns=T0, end_ns=T0 + 10**9),
            make_span(1, trace=2, kind="llm", end_ns=T0 - 10**9),
        ]
    )
    for name in ("latency_p50", "latency_p95"):
        assert cell(measures, name) == MetricCell(value=1000.0, n=1)


def test_a_call_through_an_app_counts_once_where_it_ends(store: DuckDBSpanStore, measures: Measures) -> None:
    store.append([*make_call_trace(1), *make_call_trace(2)])
    money = Decimal("0.000124456789012345")
    for subject in ("call", "span", "trace"):
        found = cell(measures, "cost", subject=subject)
        assert found.exact == 2 * money, subject
        assert cell(measures, "tokens", subject=subject).value == 2 * (5 + 132), subject
    assert by_group(measures, "calls", "model") == {("minilm",): 2, ("pocket",): 2}
    assert by_group(measures, "calls", "route", subject="trace") == {("handbook",): 2}
    assert by_group(measures, "calls", "kind", subject="span")[("llm",)] == 4


def test_a_call_that_gets_a_call_below_it_later_stops_counting(
    store: DuckDBSpanStore, measures: Measures
) -> None:
    upper = make_span(1, kind="llm", model="outer", usage=Usage(input_uncached=7), cost_usd=Decimal("0.5"))
    lower = make_span(
        3,
        kind="llm",
        model="inner",
        parent_id=f"{2:016x}",
        usage=Usage(input_uncached=7),
        cost_usd=Decimal("0.4"),
    )
    middle = make_span(2, kind="app", parent_id=f"{1:016x}")
    store.append([upper])
    assert cell(measures, "cost").exact == Decimal("0.5")
    store.append([lower])
    store.append([middle])
    assert cell(measures, "cost").exact == Decimal("0.4")
    assert by_group(measures, "cost", "model") == {("inner",): 0.4}


def test_lost_attempts_cost_money_and_are_no_calls(store: DuckDBSpanStore, measures: Measures) -> None:
    call = make_span(1, kind="llm", provider="good", cost_usd=Decimal("0.2"), attempts=2)
    lost = make_span(
        2,
        kind="attempt",
        parent_id=f"{1:016x}",
        provider="bad",
        status="error",
        cost_usd=Decimal("0.1"),
        end_ns=T0 + 90 * S,
    )
    store.append([call, lost])
    assert cell(measures, "cost").exact == Decimal("0.3")
    assert cell(measures, "calls").value == 1
    assert cell(measures, "errors").value == 0
    assert cell(measures, "latency_p99").value == 50
    assert cell(measures, "retried_share").value == 1
    assert by_group(measures, "cost", "provider") == {("good",): 0.2, ("bad",): 0.1}


def test_every_value_says_what_stands_behind_it_and_what_is_left_out(
    store: DuckDBSpanStore, measures: Measures
) -> None:
    spans = [
        make_span(
            1, trace=1, kind="llm", cost_usd=Decimal("0.1"), usage=Usage(input_uncached=10, output_text=5)
        ),
        make_span(1, trace=2, kind="llm"),  # tells neither
        make_span(
            1, trace=3, kind="llm", status="error", error_code="PS-2101", cost_usd=Decimal(0)
        ),  # refused
        make_span(1, trace=4, kind="llm", status="error", error_code="PS-4201", cost_usd=Decimal(0)),
    ]
    store.append(spans)
    assert cell(measures, "cost") == MetricCell(value=0.1, n=3, n_left_out=1, exact=Decimal("0.1"))
    tokens = cell(measures, "tokens")
    assert (tokens.value, tokens.n, tokens.n_left_out) == (15, 1, 2)
    share = cell(measures, "error_share")
    assert (share.value, share.n) == (0.5, 4)
    assert share.low is not None and share.high is not None and 0 < share.low < 0.5 < share.high < 1
    latency = cell(measures, "latency_p95")
    assert (latency.value, latency.n) == (50, 2), "of those that did not fail"
    sessions = cell(measures, "sessions")
    assert (sessions.value, sessions.n_left_out) == (0, 4)


def test_unknown_is_none_and_not_zero(store: DuckDBSpanStore, measures: Measures) -> None:
    store.append([make_span(1, kind="llm", end_ns=None)])
    for name in MEASURES:
        value = cell(measures, name).value
        expected = (
            0 if name in {"errors", "sessions", "users", "error_share"} else 1 if name == "calls" else None
        )
        assert value == expected, name


def test_answers_of_the_cache_used_no_tokens(store: DuckDBSpanStore, measures: Measures) -> None:
    usage = Usage(input_uncached=100, output_text=10)
    store.append(
        [
            make_span(1, trace=1, kind="llm", cache="miss", usage=usage, cost_usd=Decimal("0.1")),
            make_span(1, trace=2, kind="llm", cache="hit", usage=usage, cost_usd=Decimal(0)),
            make_span(1, trace=3, kind="llm", cache="semantic", usage=usage, cost_usd=Decimal(0)),
            make_span(1, trace=4, kind="llm", cache="bypass", usage=usage, cost_usd=Decimal("0.1")),
        ]
    )
    for subject in ("call", "trace"):
        assert cell(measures, "tokens", subject=subject).value == 220
        hits = cell(measures, "cache_hit_share", subject=subject)
        assert (hits.value, hits.n) == (pytest.approx(2 / 3), 3), "of those that asked it"


def test_the_prompt_cache_is_a_share_of_tokens(store: DuckDBSpanStore, measures: Measures) -> None:
    store.append(
        [
            make_span(1, trace=1, kind="llm", usage=Usage(input_uncached=100, input_cache_read=300)),
            make_span(1, trace=2, kind="llm", usage=Usage(input_uncached=100)),
        ]
    )
    assert cell(measures, "prompt_cache_share").value == 0.6
    assert cell(measures, "tokens.input_cache_read").value == 300
    assert cell(measures, "input_tokens").value == 500, "cached ones are part of it, once"


def test_output_speed_leaves_out_the_wait_for_the_first_content(
    store: DuckDBSpanStore, measures: Measures
) -> None:
    fields = {"kind": "llm", "start_ns": T0, "usage": Usage(output_text=100)}
    store.append(
        [
            make_span(1, trace=1, end_ns=T0 + 3 * S, ttft_ms=1000.0, **fields),
            make_span(1, trace=2, end_ns=T0 + 2 * S, **fields),
            make_span(1, trace=3, end_ns=T0 + 4 * S, **fields),
        ]
    )
    assert cell(measures, "output_rate").value == 50


def test_slices_are_aligned_and_groups_keep_their_order(store: DuckDBSpanStore, measures: Measures) -> None:
    hour = 3600 * S
    start = T0 - T0 % hour + hour
    spans = [
        make_span(1, trace=number, kind="llm", model=model, start_ns=start + at, end_ns=start + at + S)
        for number, (model, at) in enumerate(
            [("b", 0), ("a", 1), ("b", hour), ("b", 2 * hour + 5), ("a", 2 * hour), ("c", hour - 1)], 1
        )
    ]
    store.append(spans)
    query = MetricQuery(
        measures=("calls",),
        by=("model",),
        since_ns=start - 5,
        until_ns=start + 3 * hour,
        bucket_ns=hour,
        limit=2,
    )
    table = measures.measure(query)
    assert [(row.group["model"], row.start_ns, row.n) for row in table.rows] == [
        ("b", start, 1),
        ("b", start + hour, 1),
        ("b", start + 2 * hour, 1),
        ("a", start, 1),
        ("a", start + 2 * hour, 1),
    ]
    assert (table.n_groups, table.n_matched) == (3, 6)


def test_groups_are_ranked_by_money_where_money_is_asked(store: DuckDBSpanStore, measures: Measures) -> None:
    spans = [
        make_span(1, trace=number, kind="llm", model="many", cost_usd=Decimal("0.01"))
        for number in range(1, 6)
    ]
    store.append([*spans, make_span(1, trace=9, kind="llm", model="dear", cost_usd=Decimal(1))])
    assert [*by_group(measures, "cost", "model", limit=1)] == [("dear",)]
    assert [*by_group(measures, "latency_p50", "model", limit=1)] == [("many",)]


def test_tags_versions_and_attributes_are_dimensions(store: DuckDBSpanStore, measures: Measures) -> None:
    store.append(
        [
            make_span(
                1, trace=1, kind="llm", tags=["x", "y", "x"], versions={"prompt:triage": "3@sha256:ab"}
            ),
            make_span(1, trace=2, kind="llm", tags=["y"], attributes={"app/tier": "gold"}),
            make_span(1, trace=3, kind="llm"),
        ]
    )
    for subject in ("call", "trace"):
        assert by_group(measures, "calls", "tag", subject=subject) == {("x",): 1, ("y",): 2, (None,): 1}
        assert by_group(measures, "calls", "version.prompt:triage", subject=subject) == {
            ("3",): 1,
            (None,): 2,
        }
        assert by_group(measures, "calls", "attr.app/tier", subject=subject) == {("gold",): 1, (None,): 2}


def test_every_dimension_is_answered_for_every_subject(store: DuckDBSpanStore, measures: Measures) -> None:
    store.append(make_call_trace(1))
    for name in DIMENSIONS:
        for subject in ("trace", "call", "span"):
            assert by_group(measures, "calls", name, subject=subject), (name, subject)


def test_scores_are_means_with_intervals_and_shares_where_they_are_yes_or_no(
    store: DuckDBSpanStore, measures: Measures
) -> None:
    spans = [
        make_span(1, trace=number, kind="llm", model="m" if number < 3 else "k") for number in (1, 2, 3, 4)
    ]
    store.append([*spans, make_call_trace(9)[1]])

    def judge(trace: int, value: float | None, name: str = "good", **fields: object) -> Span:
        score = SpanScore(
            name=name,
            value=value,
            time_ns=T0,
            trace_id=f"{trace:032x}",
            span_id=f"{1:016x}",
            **fields,  # type: ignore[arg-type]
        )
        return make_span(
            50, trace=trace, kind="evaluation", name=f"score {name}", parent_id=f"{1:016x}", scores=[score]
        )

    store.append([judge(1, 1.0), judge(2, 0.0), judge(3, 1.0), judge(4, None, status="undefined")])
    found = cell(measures, "score.good")
    assert (found.value, found.n, found.n_left_out) == (pytest.approx(2 / 3), 3, 1)
    assert found.low is not None and 0 < found.low < found.value
    assert by_group(measures, "score.good", "model") == {("m",): 0.5, ("k",): 1.0}
    assert cell(measures, "score.good", subject="trace").n == 3
    assert cell(measures, "score.unheard").value is None
    assert cell(measures, "calls").value == 4, "a judgement is no call"
    assert cell(measures, "calls", subject="span").value == 5, "and no span of the work"
    worst = measures.find_examples(MetricQuery(measures=("score.good",), **WINDOW), limit=1, lowest=True)  # type: ignore[arg-type]
    assert worst[0].trace_id == f"{2:032x}"


def test_conditions_narrow_what_is_measured(store: DuckDBSpanStore, measures: Measures) -> None:
    store.append([*make_call_trace(1), make_span(1, trace=2, kind="llm", model="other", status="error")])
    where = Compare("model", "=", "pocket")
    assert cell(measures, "calls", where=where).value == 1
    assert cell(measures, "calls", where=All((where, Compare("status", "=", "error")))).value is None
    assert cell(measures, "calls", subject="trace", where=Compare("errors", ">", 0)).value == 1


def test_examples_are_the_spans_that_make_a_value_bad(store: DuckDBSpanStore, measures: Measures) -> None:
    store.append(
        [
            make_span(1, trace=number, kind="llm", end_ns=T0 + number * 2 * S, start_ns=T0 + number * S)
            for number in (1, 2, 3)
        ]
    )
    store.append([make_span(1, trace=4, kind="llm", status="error", end_ns=T0 + 90 * S)])
    query = MetricQuery(measures=("latency_p95",), **WINDOW)  # type: ignore[arg-type]
    assert [one.trace_id for one in measures.find_examples(query, limit=2)] == [f"{3:032x}", f"{2:032x}"]
    failed = MetricQuery(measures=("error_share",), **WINDOW)  # type: ignore[arg-type]
    assert [one.trace_id for one in measures.find_examples(failed, limit=5)] == [f"{4:032x}"]
    for name in MEASURES:
        measures.find_examples(MetricQuery(measures=(name,), **WINDOW), limit=1)  # type: ignore[arg-type]


def test_values_of_a_dimension_come_the_most_frequent_first(
    store: DuckDBSpanStore, measures: Measures
) -> None:
    store.append([make_span(1, trace=number, model="b" if number % 3 else "a") for number in range(1, 7)])
    assert measures.list_values("model", T0, T0 + DAY, limit=5) == ["b", "a"]


@pytest.mark.parametrize(
    "fields",
    [
        {"measures": ("latency_p42",)},
        {"measures": ()},
        {"measures": ("calls",), "by": ("shoe",)},
        {"measures": ("calls",), "by": ("model", "model")},
        {"measures": ("tokens.output_text",), "subject": "trace"},
        {"measures": ("calls",), "until_ns": T0},
        {"measures": ("calls",), "bucket_ns": 1},
        {"measures": ("calls",), "bucket_ns": S},
        {"measures": ("calls",), "limit": 0},
        {"measures": ("calls",), "where": Compare("shoe", "=", 1)},
    ],
)
def test_a_question_without_meaning_is_refused(measures: Measures, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        measures.measure(MetricQuery(**{**WINDOW, **fields}))  # type: ignore[arg-type]


_calls = st.builds(
    lambda number, model, status, took, cost, ttft, tokens: make_span(
        1,
        trace=number,
        kind="llm",
        model=model,
        status=status,
        start_ns=T0 + number * 977_000_000_000 % DAY,
        end_ns=None if took is None else T0 + number * 977_000_000_000 % DAY + took,
        cost_usd=cost,
        ttft_ms=ttft,
        usage=tokens,
    ),
    number=st.integers(1, 10_000),
    model=st.none() | st.sampled_from(["a", "b", "c"]),
    status=st.sampled_from(["ok", "error", "unset"]),
    took=st.none() | st.integers(0, 10**10),
    cost=st.none() | st.decimals(0, 10, places=9),
    ttft=st.none() | st.floats(0, 1e4),
    tokens=st.none()
    | st.builds(Usage, input_uncached=st.none() | st.integers(0, 10**6), output_text=st.integers(0, 99)),
)


def _quantile(values: Sequence[float], fraction: float) -> float | None:
    """Interpolate between neighbours, as numpy does by default."""
    if not values:
        return None
    ordered = sorted(values)
    place = fraction * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@settings(max_examples=20, deadline=None)
@given(
    spans=st.lists(_calls, max_size=30, unique_by=lambda span: span.trace_id),
    subject=st.sampled_from(["call", "trace", "span"]),
)
def test_any_calls_give_what_plain_python_gives(spans: list[Span], subject: Subject) -> None:
    store = DuckDBSpanStore(Path(":memory:"), threads=1)
    try:
        store.append(spans)
        names = (
            "calls",
            "error_share",
            "latency_p50",
            "latency_p99",
            "latency_mean",
            "ttft_p90",
            "cost",
            "tokens",
        )
        table = DuckDBMeasures(store.file).measure(
            MetricQuery(measures=names, by=("model",), subject=subject, **WINDOW)  # type: ignore[arg-type]
        )
    finally:
        store.close()
    groups: dict[str | None, list[Span]] = {}
    for span in spans:
        groups.setdefault(span.model, []).append(span)
    assert {row.group["model"] for row in table.rows} == set(groups)
    for row in table.rows:
        group = groups[row.group["model"]]
        good = [span for span in group if span.status != "error"]
        took = [span.duration_ms for span in good if span.duration_ms is not None]
        ttft = [span.ttft_ms for span in good if span.ttft_ms is not None]
        costs = [span.cost_usd for span in group if span.cost_usd is not None]
        tokens = [
            count
            for span in group
            if span.usage
            for count in (span.usage.input_tokens, span.usage.output_tokens)
            if count is not None
        ]
        expected = {
            "calls": len(group),
            "error_share": 1 - len(good) / len(group),
            "latency_p50": _quantile(took, 0.5),
            "latency_p99": _quantile(took, 0.99),
            "latency_mean": statistics.fmean(took) if took else None,
            "ttft_p90": _quantile(ttft, 0.9),
            "tokens": sum(tokens) if tokens else None,
        }
        assert row.cells["cost"].exact == (sum(costs) if costs else None)
        for name, value in expected.items():
            assert row.cells[name].value == (None if value is None else pytest.approx(value, rel=1e-9)), name


def test_a_large_trace_counts_nothing_twice_either(
    store: DuckDBSpanStore, measures: Measures, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = [
        span
        for number in range(20)
        for span in (
            make_span(3 * number + 1, kind="llm", cost_usd=Decimal(1)),
            make_span(3 * number + 2, kind="app", parent_id=f"{3 * number + 1:016x}"),
            make_span(
                3 * number + 3, kind="llm", parent_id=f"{3 * number + 2:016x}", cost_usd=Decimal("0.1")
            ),
        )
    ]
    monkeypatch.setattr("penstock.store.spans.append.LARGE_TRACE", 10)
    store.append(spans[:12])
    store.append(spans[12:])
    assert cell(measures, "cost").exact == 2 == cell(measures, "cost", subject="trace").exact


def test_files_of_schema_2_count_nothing_twice_either(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    write_old_file(path)
    with duckdb.connect(str(path)) as connection:
        connection.execute(_SPAN, [OLD, 3, 2, "inner call", "llm", T0 + 6, T0 + 8, "ok", None]).fetchall()
    store = DuckDBSpanStore(path)
    try:
        assert cell(DuckDBMeasures(store.file), "cost").exact == Decimal("0.25"), "of the lower of two calls"
        assert cell(DuckDBMeasures(store.file), "calls").value == 1
    finally:
        store.close()


@pytest.mark.parametrize("by", [("model",), ("status", "model"), ("route",)])
@pytest.mark.parametrize(
    "names", [("cost", "latency_p95"), ("tokens",), ("calls", "score.good"), ("error_share",)]
)
def test_slices_of_few_groups_come_from_one_reading_and_are_the_same(
    measures: Measures,
    store: DuckDBSpanStore,
    monkeypatch: pytest.MonkeyPatch,
    by: tuple[str, ...],
    names: tuple[str, ...],
) -> None:
    rng = random.Random(3)
    store.append(
        [
            make_span(
                1,
                trace=number,
                kind=rng.choice(("llm", "llm", "attempt")),
                model=rng.choice((None, "a", "b", "c")),
                status=rng.choice(("ok", "error")),
                cost_usd=rng.choice((None, Decimal("0.1"), Decimal("0.3"))),
                start_ns=T0 + rng.randrange(10) * 1000 * S,
                end_ns=T0 + rng.randrange(10_000, 20_000) * S,
                scores=[SpanScore(name="good", value=rng.random(), time_ns=1)] if number % 3 else [],
            )
            for number in range(1, 80)
        ]
    )
    for limit in (1, 2, 3, 50):
        query = MetricQuery(measures=names, by=by, bucket_ns=3600 * S, limit=limit, **WINDOW)  # type: ignore[arg-type]
        found = measures.measure(query)
        with monkeypatch.context() as patch:
            patch.setattr("penstock.store.spans.measures.FEW_VALUES", frozenset())
            assert found == measures.measure(query)
