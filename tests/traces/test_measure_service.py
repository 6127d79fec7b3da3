"""Measures compared with the period before, and the way from a point to what is behind it."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from penstock.base.errors import InvalidInput
from penstock.main.measuring import create_measures
from penstock.spec.measures import MEASURES, MetricQuery
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.trace_lists import DuckDBTraceLists
from penstock.store.spans.types import SpanQuery, TraceQuery
from penstock.traces.measures.service import MeasureService, choose_bucket, find_shift
from penstock.traces.measures.types import MAX_SLICES, Compare, ReportRow
from penstock.traces.search import parse
from tests.fixtures.spans import make_call_trace, make_span

S = 1_000_000_000
HOUR, DAY = 3600 * S, 86_400 * S
NOW = 20_000 * DAY


@pytest.fixture
def store() -> Iterator[DuckDBSpanStore]:
    store = DuckDBSpanStore(Path(":memory:"), threads=1)
    yield store
    store.close()


@pytest.fixture
def service(store: DuckDBSpanStore) -> MeasureService:
    return create_measures(store.file)


def call(trace: int, at_ns: int, **fields: object) -> object:
    """Return a model call of 100 ms."""
    return make_span(1, trace=trace, kind="llm", start_ns=at_ns, end_ns=at_ns + S // 10, **fields)


def ask(*measures: str, **fields: object) -> MetricQuery:
    """Return a query over the last hour."""
    return MetricQuery(measures=measures, **{"since_ns": NOW - HOUR, "until_ns": NOW, **fields})  # type: ignore[arg-type]


def test_values_stand_beside_those_of_the_period_before(
    store: DuckDBSpanStore, service: MeasureService
) -> None:
    store.append(
        [
            call(1, NOW - HOUR, model="a", cost_usd=Decimal(3)),
            call(2, NOW - 1, model="b", cost_usd=Decimal(1)),
            call(3, NOW - 2 * HOUR, model="a", cost_usd=Decimal(2)),
            call(4, NOW - HOUR - 1, model="gone"),
        ]  # type: ignore[list-item]
    )
    report = service.measure(ask("cost", "calls", by=("model",)), "previous")
    rows = {row.group["model"]: row for row in report.rows}
    assert rows["a"].before["cost"].exact == 2
    assert rows["a"].change == {"cost": 0.5, "calls": 0.0}
    assert rows["b"].before == {}
    assert rows["gone"].cells["calls"].value == 0
    assert rows["gone"].change == {"cost": None, "calls": -1.0}
    assert (report.n_matched, report.n_matched_before) == (2, 2)
    assert (report.before_since_ns, report.before_until_ns) == (NOW - 2 * HOUR, NOW - HOUR)


def test_slices_meet_the_slice_as_far_from_the_beginning(
    store: DuckDBSpanStore, service: MeasureService
) -> None:
    store.append([call(1, NOW - 600 * S), call(2, NOW - 600 * S - DAY), call(3, NOW - 600 * S - DAY + 1)])  # type: ignore[list-item]
    report = service.measure(ask("calls", bucket_ns=600 * S), "day")
    assert [(row.start_ns, row.cells["calls"].value, row.before["calls"].value) for row in report.rows] == [
        (NOW - 600 * S, 1, 2)
    ]
    assert report.slices == tuple(NOW - HOUR + number * 600 * S for number in range(6))


def test_what_went_to_zero_is_told(store: DuckDBSpanStore, service: MeasureService) -> None:
    store.append([call(1, NOW - 2 * HOUR, cost_usd=Decimal(2)), call(2, NOW - 2 * HOUR + 1200 * S)])  # type: ignore[list-item]
    (row,) = service.measure(ask("calls", "cost", "latency_p50"), "previous").rows
    assert (row.n, row.cells["calls"].value, row.cells["cost"].exact, row.cells["latency_p50"].value) == (
        0,
        0,
        0,
        None,
    )
    assert row.change == {"calls": -1.0, "cost": -1.0, "latency_p50": None}
    assert row.before["latency_p50"].value == 100
    sliced = service.measure(ask("calls", bucket_ns=600 * S), "previous")
    assert [(row.start_ns, row.cells["calls"].value, row.before["calls"].value) for row in sliced.rows] == [
        (NOW - HOUR, 0, 1),
        (NOW - HOUR + 1200 * S, 0, 1),
    ]
    assert service.measure(ask("calls"), "previous").rows[0].zoom.since_ns == NOW - HOUR
    assert service.measure(ask("calls", since_ns=NOW - HOUR // 2), "previous").rows == []


def test_groups_that_were_cut_off_are_not_told_as_gone(
    store: DuckDBSpanStore, service: MeasureService
) -> None:
    names = ["a", "a", "b", "c"]
    now = [call(number, NOW - 1, model=name) for number, name in enumerate(names, 1)]
    before = [call(10 + number, NOW - HOUR - 1, model=name) for number, name in enumerate([*names, "gone"])]
    store.append([*now, *before])  # type: ignore[list-item]

    def shown(limit: int) -> list[str | None]:
        report = service.measure(ask("calls", by=("model",), limit=limit), "previous")
        return [row.group["model"] for row in report.rows]

    assert shown(2) == ["a", "b"]
    assert shown(3) == ["a", "b", "c"]
    assert shown(4) == ["a", "b", "c", "gone"]


@pytest.mark.parametrize(
    ("compare", "length", "bucket", "shift"),
    [
        ("previous", HOUR, None, HOUR),
        ("previous", HOUR + 1, HOUR, 2 * HOUR),
        ("day", HOUR, None, DAY),
        ("day", 25 * HOUR, HOUR, 2 * DAY),
        ("week", HOUR, HOUR, 7 * DAY),
    ],
)
def test_the_compared_window_lies_whole_slices_back(
    compare: Compare, length: int, bucket: int | None, shift: int
) -> None:
    query = ask("calls", since_ns=NOW - length, bucket_ns=bucket)
    assert find_shift(query, compare) == shift


def test_nothing_earlier_is_no_comparison(service: MeasureService) -> None:
    with pytest.raises(InvalidInput, match="earlier"):
        service.measure(ask("calls", since_ns=1, until_ns=NOW), "previous")


@pytest.mark.parametrize("measure", ["callz", "score.", "latency_p96"])
def test_unknown_measures_and_dimensions_are_refused(service: MeasureService, measure: str) -> None:
    with pytest.raises(InvalidInput):
        service.measure(ask(measure))
    with pytest.raises(InvalidInput):
        service.measure(ask("calls", by=(measure,)))
    with pytest.raises(InvalidInput):
        service.list_values(measure, 0, NOW)


def zoomed(store: DuckDBSpanStore, row: ReportRow) -> list[str]:
    """Return the traces that a row's zoom finds."""
    lists = DuckDBTraceLists(store.file)
    window = {"since_ns": row.zoom.since_ns, "until_ns": row.zoom.until_ns, "order": row.zoom.order}
    if row.zoom.spans:
        where = parse(row.zoom.search, subject="span")
        return sorted(span.trace_id[-1:] for span in lists.list_spans(SpanQuery(where=where, **window)).rows)  # type: ignore[arg-type]
    where = parse(row.zoom.search, subject="trace")
    return sorted(trace.trace_id[-1:] for trace in lists.list_traces(TraceQuery(where=where, **window)).rows)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "by", ["model", "route", "tag", "user", "error_code", "agent", "version.app:handbook", "attr.a b"]
)
def test_each_point_leads_to_the_traces_behind_it(
    store: DuckDBSpanStore, service: MeasureService, by: str
) -> None:
    odd = 'we"ird (x) OR y'
    store.append(
        [
            call(
                1, NOW - 50 * S, model=odd, route="r", tags=["t", odd], user_id="u", attributes={"a b": odd}
            ),
            call(2, NOW - 40 * S, model="m", versions={"app:handbook": "1@sha256:ff"}),
            call(3, NOW - 30 * S, status="error", error_code="PS-4201", agent="planner"),
            make_span(1, trace=4, kind="tool", tool="t", start_ns=NOW - 20 * S, agent=odd),
        ]  # type: ignore[list-item]
    )
    for subject in ("trace", "call", "span"):
        report = service.measure(ask("calls", by=(by,), subject=subject))
        for row in report.rows:
            assert len(zoomed(store, row)) == row.n, (subject, row.group, row.zoom.search)


def test_a_point_of_errors_leads_to_those_that_failed(
    store: DuckDBSpanStore, service: MeasureService
) -> None:
    store.append([call(1, NOW - 50 * S, status="error"), call(2, NOW - 40 * S), *make_call_trace(3)])  # type: ignore[list-item]
    for subject in ("trace", "call"):
        row = service.measure(ask("error_share", bucket_ns=600 * S, subject=subject)).rows[0]
        assert zoomed(store, row) == ["1"]
        assert (row.zoom.since_ns, row.zoom.until_ns) == (NOW - 600 * S, NOW)
    where = parse("model:zz OR status:ok", subject="trace")
    row = service.measure(ask("calls", subject="trace", where=where)).rows[0]
    assert zoomed(store, row) == ["2"]


def test_zooms_are_in_the_order_that_explains_the_measure(
    store: DuckDBSpanStore, service: MeasureService
) -> None:
    store.append([call(1, NOW - S)])  # type: ignore[list-item]
    orders = {name: service.measure(ask(name)).rows[0].zoom.order for name in MEASURES}
    assert (orders["latency_p95"], orders["cost"], orders["calls"]) == ("slowest", "dearest", "newest")


@pytest.mark.parametrize("length_s", [1, 59, 3600, 86_400, 30 * 86_400, 366 * 86_400, 30 * 366 * 86_400])
def test_a_window_is_cut_into_a_bounded_number_of_round_slices(length_s: int) -> None:
    width = choose_bucket(NOW - length_s * S, NOW)
    assert width % S == 0
    assert length_s * S / width <= MAX_SLICES


def test_a_trace_belongs_to_the_group_of_its_root(store: DuckDBSpanStore, service: MeasureService) -> None:
    below = make_span(2, trace=1, kind="llm", model="x", parent_id=f"{1:016x}", start_ns=NOW - 50 * S)
    store.append([call(1, NOW - 50 * S, model="m"), below, call(2, NOW - 40 * S, model="x")])  # type: ignore[list-item]
    rows = {
        row.group["model"]: row for row in service.measure(ask("calls", subject="trace", by=("model",))).rows
    }
    assert zoomed(store, rows["x"]) == ["2"]
    assert zoomed(store, rows["m"]) == ["1"]
