"""What a search finds leaves whole: as lines, as OTLP that replays, as Parquet."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import msgspec
import pytest

from penstock.base.errors import InvalidInput
from penstock.spec.spans import Span
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.export_rows import DuckDBSpanExport
from penstock.store.spans.trace_lists import DuckDBTraceLists
from penstock.store.spans.types import SpanQuery, TraceQuery
from penstock.telemetry.otlp import JSON, decode_otlp_traces
from penstock.traces import exports
from penstock.traces.exports import ExportService
from penstock.traces.search import parse
from tests.fixtures.spans import make_call_trace, make_span


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    opened = DuckDBSpanStore(tmp_path / "spans.duckdb", threads=1)
    yield opened
    opened.close()


@pytest.fixture
def service(store: DuckDBSpanStore) -> ExportService:
    return ExportService(DuckDBTraceLists(store.file), DuckDBSpanExport(store.file))


def lines(service: ExportService, query: TraceQuery | SpanQuery) -> list[Span]:
    text = b"".join(service.write(query, "jsonl"))
    return [msgspec.json.decode(line, type=Span) for line in text.splitlines()]


def test_every_span_of_the_traces_found_is_exported_whole(
    store: DuckDBSpanStore, service: ExportService
) -> None:
    traces = [make_call_trace(number) for number in range(1, 8)]
    store.append([span for trace in traces for span in trace])
    store.append([make_span(1, trace=100, status="error")])
    found = lines(service, TraceQuery(where=parse("status:ok")))
    assert sorted(found, key=lambda span: (span.trace_id, span.span_id)) == [
        span for trace in traces for span in trace
    ]
    spans = lines(service, SpanQuery(where=parse("kind:embedding", subject="span")))
    assert [span.name for span in spans] == ["span 4"] * 7
    assert lines(service, TraceQuery(where=parse("nowhere-to-be-found"))) == []


def test_pages_and_traces_that_are_larger_than_a_page_are_exported_once(
    store: DuckDBSpanStore, service: ExportService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PAGE", 3)
    monkeypatch.setattr(exports, "MAX_SPANS", 4)
    random.seed(1)
    spans = [
        make_span(number, trace=trace, input=f"{trace} {number}")
        for trace in range(1, 12)
        for number in range(1, random.randint(2, 9))
    ]
    store.append(spans)
    for query in (TraceQuery(), SpanQuery()):
        found = lines(service, query)
        assert len(found) == len(spans)
        assert {(span.trace_id, span.span_id): span.input for span in found} == {
            (span.trace_id, span.span_id): span.input for span in spans
        }
        assert max(len(page) for page in service.read(query)) <= 8


def test_an_otlp_export_is_read_back(store: DuckDBSpanStore, service: ExportService) -> None:
    trace = make_call_trace(1)
    store.append(trace)
    [body] = b"".join(service.write(TraceQuery(), "otlp")).splitlines()
    back = decode_otlp_traces(body, JSON)
    assert [(span.span_id, span.kind, span.usage, span.input) for span in back] == [
        (span.span_id, span.kind, span.usage, span.input) for span in trace
    ]


def test_a_parquet_export_holds_every_field(
    store: DuckDBSpanStore, service: ExportService, tmp_path: Path
) -> None:
    trace = make_call_trace(1)
    store.append(trace)
    path = tmp_path / "out.parquet"
    path.write_bytes(b"".join(service.write(TraceQuery(), "parquet")))
    rows = duckdb.sql(
        f"SELECT trace_id, span_id, kind, duration_ms, input_uncached, cost_usd, input, versions FROM '{path}'"
        " ORDER BY span_id"
    ).fetchall()
    assert len(rows) == 5
    first, last = rows[0], rows[4]
    assert first[:5] == (trace[0].trace_id, trace[0].span_id, "llm", 50.0, 120)
    assert msgspec.json.decode(first[6]) == trace[0].input
    assert msgspec.json.decode(first[7]) == {"app:handbook": "1"}
    assert last[5] == trace[4].cost_usd
    columns = [row[0] for row in duckdb.sql(f"DESCRIBE SELECT * FROM '{path}'").fetchall()]
    assert {*Span.__struct_fields__} - {"usage"} <= {*columns}


def test_an_export_of_nothing_is_a_file_all_the_same(service: ExportService, tmp_path: Path) -> None:
    assert b"".join(service.write(TraceQuery(), "jsonl")) == b""
    path = tmp_path / "none.parquet"
    path.write_bytes(b"".join(service.write(TraceQuery(), "parquet")))
    assert duckdb.sql(f"SELECT count(*) FROM '{path}'").fetchall() == [(0,)]
    with pytest.raises(InvalidInput):
        service.write(TraceQuery(), "csv")


@pytest.mark.parametrize("query", [TraceQuery(), SpanQuery()])
def test_few_heavy_spans_are_read_in_small_groups(
    store: DuckDBSpanStore,
    service: ExportService,
    monkeypatch: pytest.MonkeyPatch,
    query: TraceQuery | SpanQuery,
) -> None:
    monkeypatch.setattr(exports, "MAX_BYTES", 100_000)
    heavy = [make_span(number, input="x" * 30_000, output={"y": "z" * 15_000}) for number in range(1, 8)]
    heavy.append(make_span(8, attributes={"a": "b" * 90_000}, input="x" * 20_000))
    store.append(heavy)
    groups = list(service.read(query))
    assert [span for group in groups for span in group] == (
        heavy if isinstance(query, TraceQuery) else sorted(heavy, key=lambda span: span.span_id)
    )
    assert [len(group) for group in groups] == [2, 2, 2, 1, 1]


def test_a_parquet_export_lies_where_its_home_says_and_is_gone_afterwards(
    store: DuckDBSpanStore, tmp_path: Path
) -> None:
    @contextmanager
    def hold() -> Iterator[Path]:
        (tmp_path / "run").mkdir()
        yield tmp_path / "run"

    store.append(make_call_trace(1))
    held = ExportService(DuckDBTraceLists(store.file), DuckDBSpanExport(store.file), hold)
    data = held.write(TraceQuery(), "parquet")
    assert next(data)
    assert [path.name for path in (tmp_path / "run").rglob("*.parquet")] == ["spans.parquet"]
    list(data)
    assert list((tmp_path / "run").iterdir()) == []
