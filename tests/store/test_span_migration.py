"""Span files of earlier versions: brought up to date when opened, with everything that was in them."""

import json
import shutil
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from penstock.spec.scores import SpanScore
from penstock.spec.spans import FOREIGN_MARK
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.errors import SpanStoreUnreadable
from penstock.store.spans.schema import SCHEMA_VERSION
from penstock.store.spans.types import TraceQuery
from tests.fixtures.spans import T0, make_call_trace, make_span

_SCHEMA_2 = Path(__file__).parent / "schemas" / "spans_2.sql"
_SPAN = """
INSERT INTO spans (trace_id, span_id, parent_id, name, kind, start_ns, end_ns, status, project, service, model, route,
                   usage_estimated, input_uncached, output_text, cost_usd, cost_source, versions, attributes, events,
                   payload_dropped, completeness, preview, search_text)
VALUES (?::UUID, ?, ?, ?, ?, ?, ?, ?, 'default', 'gateway', 'pocket', 'handbook', false, 7, 3, 0.25, 'settings', NULL,
        ?, NULL, false, 15, 'hello', 'old call\nhello there')
"""
_TRACE = """
INSERT INTO traces (trace_id, root_id, name, kind, start_ns, first_ns, last_ns, duration_ms, status, project, route,
                    model, models, providers, n_spans, n_model_calls, n_unpriced, input_tokens, output_tokens,
                    cost_usd, preview)
VALUES (?::UUID, 1, 'old call', 'llm', ?, ?, ?, 1.0, 'ok', 'default', 'handbook', 'pocket', '\npocket\n', '', 2, 1, 0,
        7, 3, 0.25, 'hello')
"""
OLD = f"{0xABC:032x}"


def write_old_file(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        for statement in _SCHEMA_2.read_text().split(";"):
            if statement.strip():
                connection.execute(statement).fetchall()
        state = '{"penstock.cache":"hit"}'
        connection.execute(_SPAN, [OLD, 1, None, "old call", "llm", T0, T0 + 10**6, "ok", state]).fetchall()
        connection.execute(_SPAN, [OLD, 2, 1, "old step", "tool", T0 + 5, T0 + 9, "error", None]).fetchall()
        connection.execute(_TRACE, [OLD, T0, T0, T0 + 5]).fetchall()
        connection.execute(
            "INSERT INTO payloads VALUES (?::UUID, 1, ?, '\"hello there\"', '\"hi\"')", [OLD, T0]
        ).fetchall()


def test_a_file_of_schema_2_opens_with_all_it_had_and_takes_new_spans(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    write_old_file(path)
    with pytest.raises(SpanStoreUnreadable, match="older"):
        DuckDBSpanStore(path, read_only=True)
    store = DuckDBSpanStore(path)
    (row,) = store.list_traces(TraceQuery()).rows
    assert (row.trace_id, row.n_spans, row.cost_usd, row.preview) == (OLD, 2, Decimal("0.25"), "hello")
    assert (row.cache, row.n_errors, row.tags, row.environment, row.has_scores) == ("hit", 1, [], None, False)
    call, step = store.get_trace(OLD)
    assert (call.cache, call.tags, call.links, call.scores) == ("hit", [], [], [])
    assert (step.status, step.cache) == ("error", None)
    assert store.get_payload(OLD, call.span_id).input == "hello there"
    late = make_span(3, trace=0xABC, start_ns=T0 + 20, agent="planner", tags=["a", "b"])
    assert store.append([late, *make_call_trace(1)]) == 6
    (grown,) = (row for row in store.list_traces(TraceQuery()).rows if row.trace_id == OLD)
    assert (grown.n_spans, grown.agent, grown.tags, grown.n_errors, grown.cache) == (
        3,
        "planner",
        ["a", "b"],
        1,
        "hit",
    )
    store.append(
        [make_span(4, trace=0xABC, kind="evaluation", scores=[SpanScore(name="x", value=1, time_ns=1)])]
    )
    store.close()
    reader = DuckDBSpanStore(path, read_only=True)
    assert reader.list_traces(TraceQuery(limit=1)).rows
    reader.close()


def test_a_call_of_an_older_file_gives_way_to_nothing_that_was_sent_and_what_was_sent_there_does(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s.duckdb"
    write_old_file(path)
    sent = json.dumps({FOREIGN_MARK: 2})
    with duckdb.connect(str(path)) as connection:
        connection.execute(_SPAN, [OLD, 3, 1, "sent", "tool", T0 + 5, None, "unset", sent]).fetchall()
        connection.execute("UPDATE spans SET completeness = 0 WHERE span_id = 3").fetchall()
    store = DuckDBSpanStore(path)
    mark = {FOREIGN_MARK: 2}
    full = {"trace": 0xABC, "status": "ok", "usage": None, "input": "q", "output": "a", "attributes": mark}
    store.append([make_span(1, name="taken over", **full), make_span(3, name="ended", **full)])
    assert {span.name for span in store.get_trace(OLD)} == {"old call", "ended", "old step"}
    store.close()


def test_a_migration_that_was_cut_off_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.duckdb"
    write_old_file(path)
    monkeypatch.setattr(
        "penstock.store.spans.duckdb_file.migration_statements",
        lambda version: ["DROP TABLE payloads", "no sql"],
    )
    with pytest.raises(duckdb.Error):
        DuckDBSpanStore(path)
    monkeypatch.undo()
    shutil.copy(path, tmp_path / "copy.duckdb")
    store = DuckDBSpanStore(tmp_path / "copy.duckdb")
    assert store.get_payload(OLD, f"{1:016x}").output == "hi"
    store.close()
    with duckdb.connect(str(tmp_path / "copy.duckdb")) as connection:
        assert connection.execute("SELECT schema_version FROM store_meta").fetchall() == [(SCHEMA_VERSION,)]
