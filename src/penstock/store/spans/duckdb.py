"""The span store in one DuckDB file: wide append-only spans, payloads apart, one maintained row per trace.

One process owns the file; its threads share one connection through cursors, and writes go one at a time.
An append is one transaction: it is durable when it returns. Before spans are inserted their traces are
looked up in `traces` (a few bytes a trace), so only spans of known traces are compared with what is stored:
idempotence needs no index.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.spec.spans import Span
from penstock.store.spans import ledger_queries, queries, trace_lists, traffic_queries
from penstock.store.spans.duckdb_file import DuckDBFile, run
from penstock.store.spans.errors import UnknownSpan
from penstock.store.spans.json_text import joined_lines
from penstock.store.spans.ledger_queries import CostDimension, CostQuery, CostRow, LedgerRow, Traffic
from penstock.store.spans.ledger_rows import update_ledger
from penstock.store.spans.rows import (
    OWN,
    PAYLOAD_COLUMNS,
    SPAN_COLUMNS,
    PreparedSpan,
    cache_state_of,
    column_array,
    find_fault,
    money_text,
    payload_arrays,
    prepare_span,
    select_list,
    span_arrays,
)
from penstock.store.spans.schema import (
    FACT_COLUMNS,
    RANK_SQL,
    TRACE_COLUMNS,
)
from penstock.store.spans.score_rows import delete_scores_of, judged_traces, mark_judged, update_scores
from penstock.store.spans.summaries import SpanFacts, TraceSummary, summarise_trace
from penstock.store.spans.types import Overview, Payload, TracePage, TraceQuery, TraceRow

_TRACE_NAMES = ", ".join(name for name, _ in TRACE_COLUMNS)


class DuckDBSpanStore:
    """Spans in the DuckDB file at `path`, made when missing. See `SpanStore` for what the methods promise.

    Raises `SpanStoreInUse` when another process has the file open and `SpanStoreUnreadable` when it is
    damaged or of another version. With `read_only` nothing is written, not even a new file.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, memory_limit: str = "1GB", threads: int | None = None
    ) -> None:
        self.file = DuckDBFile(path, read_only=read_only, memory_limit=memory_limit, threads=threads)

    def append(self, spans: Sequence[Span]) -> int:
        """Store spans in one transaction; raise `InvalidInput` (nothing stored) if one cannot be stored."""
        best: dict[tuple[str, str], PreparedSpan] = {}
        for span in spans:
            fault = find_fault(span)
            if fault is not None:
                raise InvalidInput(
                    f"Span {span.span_id!r} cannot be stored: {fault}.", trace_id=span.trace_id
                )
            prepared = prepare_span(span)
            other = best.get(prepared.key)
            if other is None or rank_of(prepared) > rank_of(other):
                best[prepared.key] = prepared
        if not best:
            return 0
        with self.file.transaction() as cursor:
            return _Append(cursor, list(best.values())).run()

    def list_traces(self, query: TraceQuery) -> TracePage:
        """Return one page of traces, newest first; raise `InvalidCursor` for a foreign cursor."""
        with self.file.cursor() as cursor:
            return trace_lists.list_traces(cursor, query)

    def get_trace(self, trace_id: str) -> list[Span]:
        """Return the trace's spans by start time, without payloads; empty when unknown."""
        with self.file.cursor() as cursor:
            return queries.get_trace(cursor, trace_id)

    def get_summary(self, trace_id: str) -> TraceRow | None:
        """Return the trace's row as lists show it, or None when unknown."""
        with self.file.cursor() as cursor:
            return queries.get_summary(cursor, trace_id)

    def get_payload(self, trace_id: str, span_id: str) -> Payload:
        """Return what went in and out of one span; raise `UnknownSpan`."""
        with self.file.cursor() as cursor:
            payload = queries.get_payload(cursor, trace_id, span_id)
        if payload is None:
            raise UnknownSpan(f"There is no span {span_id} in trace {trace_id}.")
        return payload

    def overview(self, since_ns: int, until_ns: int) -> Overview:
        """Return counts, money and latency of the traces that started in `[since_ns, until_ns)`."""
        with self.file.cursor() as cursor:
            return queries.overview(cursor, since_ns, until_ns)

    def list_route_traffic(
        self, by: traffic_queries.TrafficBy, since_ns: int, until_ns: int
    ) -> list[traffic_queries.TrafficRow]:
        """Return the calls of each route, or the requests to each provider, in `[since_ns, until_ns)`."""
        with self.file.cursor() as cursor:
            return traffic_queries.list_route_traffic(cursor, by, since_ns, until_ns)

    def sum_costs(self, query: CostQuery, by: Sequence[CostDimension]) -> list[CostRow]:
        """Return the ledger's sums by group, the dearest first."""
        with self.file.cursor() as cursor:
            return ledger_queries.sum_costs(cursor, query, by)

    def find_billed(self, identity: str) -> list[LedgerRow]:
        """Return the billed calls of a trace or span, by its id; empty when unknown."""
        with self.file.cursor() as cursor:
            return ledger_queries.find_billed(cursor, identity)

    def list_traffic(self, query: CostQuery, *, limit: int) -> list[Traffic]:
        """Return the newest `limit` calls that were sent to a provider, oldest first."""
        with self.file.cursor() as cursor:
            return ledger_queries.list_traffic(cursor, query, limit=limit)

    def close(self) -> None:
        """Write everything into the main file and let it go."""
        self.file.close()


class _Append:
    """One append within its transaction."""

    def __init__(self, cursor: Any, rows: list[PreparedSpan]) -> None:
        self._cursor = cursor
        self._rows = rows

    def run(self) -> int:
        """Insert what is new or more complete, bring the touched traces up to date, count the new."""
        stored = self._stored_facts()
        fresh = [row for row in self._rows if row.key not in stored]
        better = [row for row in self._rows if row.key in stored and is_better(row, stored[row.key])]
        if not fresh and not better:
            return 0
        if better:
            self._delete_spans(better)
        self._insert_spans(fresh + better)
        known = {key: item.facts for key, item in stored.items()}
        known.update((row.key, facts_of(row)) for row in fresh + better)
        update_ledger(self._cursor, fresh + better, known)
        judged = update_scores(self._cursor, fresh + better)
        self._replace_summaries(stored, known, fresh + better)
        if judged:
            mark_judged(self._cursor, judged)
        return len(fresh)

    def _stored_facts(self) -> "dict[tuple[str, str], _Stored]":
        self._register_ids("batch", {row.span.trace_id for row in self._rows})
        ranges = self._cursor.execute(
            "SELECT min(first_ns), max(last_ns), count(*) FROM traces SEMI JOIN batch USING (trace_id)"
        ).fetchall()[0]
        if not ranges[2]:
            return {}
        rows = self._cursor.execute(
            f"SELECT {FACT_COLUMNS}, {RANK_SQL} FROM spans SEMI JOIN batch USING (trace_id)"  # noqa: S608 - names of ours
            " WHERE start_ns BETWEEN ? AND ?",
            ranges[:2],
        ).fetchall()
        facts = [_Stored(SpanFacts(*row[:-1]), row[-1]) for row in rows]
        return {(item.facts.trace_id, f"{item.facts.span_id:016x}"): item for item in facts}

    def _register_ids(self, name: str, trace_ids: Iterable[str]) -> None:
        self._cursor.register("raw_ids", {"trace_id": column_array("UUID", list(trace_ids))})
        run(
            self._cursor,
            f"CREATE OR REPLACE TEMP TABLE {name} AS"  # noqa: S608 - a name of ours
            " SELECT trace_id::UUID AS trace_id FROM raw_ids",
        )
        self._cursor.unregister("raw_ids")

    def _delete_spans(self, rows: list[PreparedSpan]) -> None:
        doomed = payload_arrays(rows)
        self._cursor.register("doomed", {name: doomed[name] for name in ("trace_id", "span_id")})
        for table in ("spans", "payloads", "ledger"):
            run(
                self._cursor,
                f"DELETE FROM {table} USING doomed WHERE {table}.span_id = doomed.span_id"  # noqa: S608 - names of ours
                f" AND {table}.trace_id = doomed.trace_id::UUID",
            )
        if any(row.span.scores for row in rows):
            delete_scores_of(self._cursor, "doomed")
        self._cursor.unregister("doomed")

    def _insert_spans(self, rows: list[PreparedSpan]) -> None:
        with_payload = [row for row in rows if row.input is not None or row.output is not None]
        for table, columns, arrays_of, chosen in (
            ("spans", SPAN_COLUMNS, span_arrays, rows),
            ("payloads", PAYLOAD_COLUMNS, payload_arrays, with_payload),
        ):
            if chosen:
                self._cursor.register("incoming", arrays_of(chosen))
                names = ", ".join(column.name for column in columns)
                run(
                    self._cursor,
                    f"INSERT INTO {table} ({names}) SELECT {select_list(columns)} FROM incoming",  # noqa: S608 - names of ours
                )
                self._cursor.unregister("incoming")

    def _replace_summaries(
        self,
        stored: "dict[tuple[str, str], _Stored]",
        facts: dict[tuple[str, str], SpanFacts],
        written: list[PreparedSpan],
    ) -> None:
        touched = {row.span.trace_id for row in written}
        by_trace: dict[str, list[SpanFacts]] = {}
        for (trace_id, _), item in facts.items():
            if trace_id in touched:
                by_trace.setdefault(trace_id, []).append(item)
        known = {trace_id for trace_id, _ in stored} & touched
        if known:
            self._register_ids("outdated", known)
            run(self._cursor, "DELETE FROM traces WHERE trace_id IN (FROM outdated)")
        judged = judged_traces(self._cursor, "batch")
        self._insert_summaries(
            [summarise_trace(spans, is_judged=trace_id in judged) for trace_id, spans in by_trace.items()]
        )

    def _insert_summaries(self, summaries: list[TraceSummary]) -> None:
        columns = list(zip(*map(msgspec.structs.astuple, summaries), strict=True))
        arrays = {}
        for (name, sql_type), values in zip(TRACE_COLUMNS, columns, strict=True):
            is_money = sql_type.startswith("DECIMAL")
            arrays[name] = column_array(
                sql_type, [money_text(value) for value in values] if is_money else values
            )
        self._cursor.register("incoming", arrays)
        casts = ", ".join(f"{name}::{sql_type}" for name, sql_type in TRACE_COLUMNS)
        run(self._cursor, f"INSERT INTO traces ({_TRACE_NAMES}) SELECT {casts} FROM incoming")  # noqa: S608 - names of ours
        self._cursor.unregister("incoming")


class _Stored(msgspec.Struct, frozen=True, gc=False):
    facts: SpanFacts
    completeness: int


def rank_of(row: PreparedSpan) -> tuple[int, int, int]:
    """Return what decides between two records of one span: the later judgement, else the more complete record."""
    own = min(row.completeness, OWN)
    return (own, row.span.end_ns or 0 if row.span.scores else 0, row.completeness)


def is_better(row: PreparedSpan, stored: _Stored) -> bool:
    """Return whether `row` replaces what is stored of its span."""
    own = min(stored.completeness, OWN)
    judged_ns = stored.facts.end_ns or 0 if stored.facts.has_scores else 0
    return rank_of(row) > (own, judged_ns, stored.completeness)


def facts_of(row: PreparedSpan) -> SpanFacts:
    """Return what the trace's summary needs of a span, as `FACT_COLUMNS` would read it back."""
    span = row.span
    return SpanFacts(
        trace_id=span.trace_id,
        span_id=row.span_id,
        parent_id=row.parent_id,
        name=span.name,
        kind=span.kind,
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        status=span.status,
        error_code=span.error_code,
        project=span.project,
        key_id=span.key_id,
        user_id=span.user_id,
        session_id=span.session_id,
        route=span.route,
        provider=span.provider,
        model=span.model,
        ttft_ms=span.ttft_ms,
        input_tokens=span.usage.input_tokens if span.usage else None,
        output_tokens=span.usage.output_tokens if span.usage else None,
        cost_usd=row.cost_usd,
        preview=row.preview,
        environment=span.environment,
        release=span.release,
        agent=span.agent,
        cache=span.cache or cache_state_of(span),
        tags=joined_lines(span.tags),
        has_scores=bool(span.scores),
    )
