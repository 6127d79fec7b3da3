"""The span store in one DuckDB file: wide append-only spans, payloads apart, one maintained row per trace.

One process owns the file; its threads share one connection through cursors, and writes go one at a time.
An append is one transaction: it is durable when it returns. Before spans are inserted their traces are
looked up in `traces` (a few bytes a trace), so only spans of known traces are compared with what is stored:
idempotence needs no index.
"""

from collections.abc import Sequence
from pathlib import Path

from penstock.spec.spans import Span
from penstock.store.spans import ledger_queries, queries, skeleton_queries, trace_lists, traffic_queries
from penstock.store.spans.append import Append, keep_payloads, prepare_spans
from penstock.store.spans.duckdb_file import DuckDBFile
from penstock.store.spans.errors import UnknownSpan
from penstock.store.spans.ledger_types import CostDimension, CostQuery, CostRow, LedgerRow, Traffic
from penstock.store.spans.skeleton import Skeleton
from penstock.store.spans.types import (
    Overview,
    Payload,
    ScoreQuery,
    ScoreRow,
    TracePage,
    TraceQuery,
    TraceRow,
)


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
        return self._write(spans, replaces=False)

    def rewrite(self, spans: Sequence[Span]) -> int:
        """Store spans in one transaction as they are, in place of what is stored of them."""
        return self._write(spans, replaces=True)

    def list_traces(self, query: TraceQuery) -> TracePage:
        """Return one page of traces, newest first; raise `InvalidCursor` for a foreign cursor."""
        with self.file.cursor() as cursor:
            return trace_lists.list_traces(cursor, query, self.file.known_texts)

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

    def get_skeleton(self, trace_id: str) -> Skeleton:
        """Return what drawing the tree of a trace needs; of no spans when it is unknown."""
        with self.file.cursor() as cursor:
            return skeleton_queries.get_skeleton(cursor, trace_id)

    def get_spans(self, trace_id: str, span_ids: Sequence[str]) -> list[Span]:
        """Return those of a trace's spans, by start time, without payloads; unknown ids are left out."""
        with self.file.cursor() as cursor:
            return skeleton_queries.get_spans(cursor, trace_id, span_ids)

    def list_scores(self, query: ScoreQuery) -> list[ScoreRow]:
        """Return the judgements that match, the latest first."""
        with self.file.cursor() as cursor:
            return skeleton_queries.list_scores(cursor, query)

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

    def _write(self, spans: Sequence[Span], *, replaces: bool) -> int:
        rows = prepare_spans(spans)
        if not rows:
            return 0
        with self.file.transaction() as cursor:
            if replaces:
                rows = prepare_spans(keep_payloads(cursor, [row.span for row in rows]))
            append = Append(cursor, rows, replaces=replaces)
            n_new = append.run()
            self.file.tell_written(append.written_from)
            return n_new

    def close(self) -> None:
        """Write everything into the main file and let it go."""
        self.file.close()
