"""Whole spans with what went in and out, by the ids of a page: what exports read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from penstock.spec.spans import Span
from penstock.store.spans.duckdb_file import DuckDBFile, run
from penstock.store.spans.read_rows import READ_COLUMNS, span_of_row
from penstock.store.spans.rows import column_array
from penstock.store.spans.skeleton_queries import MAX_SCORES, list_scores
from penstock.store.spans.types import ScoreQuery, ScoreRow

_ORDER = "ORDER BY spans.trace_id, spans.start_ns, spans.span_id"
_BYTES_OF_SPAN = "coalesce(strlen(attributes), 0) + coalesce(strlen(events), 0) + 1000"
_BYTES_OF_PAYLOAD = "coalesce(strlen(input), 0) + coalesce(strlen(output), 0)"


class DuckDBSpanExport:
    """Reads spans of a `DuckDBFile` with their payloads. See the port `SpanExport`."""

    def __init__(self, file: DuckDBFile) -> None:
        self._file = file

    def read_traces(self, trace_ids: Sequence[str]) -> list[Span]:
        """Return all spans of these traces, with payloads, trace by trace and by start time."""
        return self._read(_of_traces(trace_ids)) if trace_ids else []

    def read_spans(self, keys: Sequence[tuple[str, str]]) -> list[Span]:
        """Return these spans (trace id, span id), with payloads, trace by trace and by start time."""
        return self._read(_of_spans(keys)) if keys else []

    def find_children(
        self, parents: Sequence[tuple[str, str]], *, kind: str, name: str
    ) -> list[tuple[str, str, str]]:
        """Return trace id, id of the parent and own id of spans right below these, of one kind and name, by start time."""
        if not parents:
            return []
        with self._wanted(_of_spans(parents)) as (cursor, reach):
            if reach[0] is None:
                return []
            rows = cursor.execute(
                "SELECT replace(spans.trace_id::VARCHAR, '-', ''), parent_id, spans.span_id FROM spans SEMI JOIN wanted"
                " ON spans.trace_id = wanted.trace_id AND spans.parent_id = wanted.span_id"
                " WHERE start_ns BETWEEN ? AND ? AND kind = ? AND name = ? ORDER BY start_ns, spans.span_id",
                [*reach, kind, name],
            ).fetchall()
        return [(trace_id, f"{parent:016x}", f"{own:016x}") for trace_id, parent, own in rows]

    def list_scores_of(self, trace_ids: Sequence[str], *, source: str) -> list[ScoreRow]:
        """Return the judgements of these traces and their spans by one kind of judge, the latest first."""
        if not trace_ids:
            return []
        with self._wanted(_of_traces(trace_ids)) as (cursor, _):
            return list_scores(cursor, ScoreQuery(source=source, limit=MAX_SCORES), within="wanted")

    def weigh_traces(self, trace_ids: Sequence[str]) -> list[tuple[str, str, int]]:
        """Return what `read_traces` would, as trace id, span id and bytes of text."""
        return self._weigh(_of_traces(trace_ids)) if trace_ids else []

    def weigh_spans(self, keys: Sequence[tuple[str, str]]) -> list[tuple[str, str, int]]:
        """Return what `read_spans` would, as trace id, span id and bytes of text."""
        return self._weigh(_of_spans(keys)) if keys else []

    def _read(self, wanted: dict[str, Any]) -> list[Span]:
        names = ", ".join(wanted)
        with self._wanted(wanted) as (cursor, reach):
            if reach[0] is None:
                return []
            rows = cursor.execute(
                f"SELECT {READ_COLUMNS} FROM spans SEMI JOIN wanted USING ({names})"  # noqa: S608 - names of ours
                f" WHERE start_ns BETWEEN ? AND ? {_ORDER}",
                reach,
            ).fetchall()
            payloads = cursor.execute(
                "SELECT replace(trace_id::VARCHAR, '-', ''), span_id, input, output"  # noqa: S608 - names of ours
                f" FROM payloads SEMI JOIN wanted USING ({names}) WHERE start_ns BETWEEN ? AND ?",
                reach,
            ).fetchall()
        found = {
            (trace_id, f"{span_id:016x}"): (given, answer) for trace_id, span_id, given, answer in payloads
        }
        return [_with_payload(span_of_row(row), found) for row in rows]

    def _weigh(self, wanted: dict[str, Any]) -> list[tuple[str, str, int]]:
        names = ", ".join(wanted)
        with self._wanted(wanted) as (cursor, reach):
            if reach[0] is None:
                return []
            rows = cursor.execute(
                f"WITH found AS (SELECT trace_id, span_id, start_ns, {_BYTES_OF_SPAN} AS n_bytes FROM spans"  # noqa: S608 - names of ours
                f" SEMI JOIN wanted USING ({names}) WHERE start_ns BETWEEN ? AND ?),"
                f" paid AS (SELECT trace_id, span_id, {_BYTES_OF_PAYLOAD} AS n_bytes FROM payloads"
                f" SEMI JOIN wanted USING ({names}) WHERE start_ns BETWEEN ? AND ?)"
                " SELECT replace(spans.trace_id::VARCHAR, '-', ''), spans.span_id,"
                " spans.n_bytes + coalesce(paid.n_bytes, 0)"
                f" FROM found spans LEFT JOIN paid USING (trace_id, span_id) {_ORDER}",
                [*reach, *reach],
            ).fetchall()
        return [(trace_id, f"{span_id:016x}", n_bytes) for trace_id, span_id, n_bytes in rows]

    @contextmanager
    def _wanted(self, wanted: dict[str, Any]) -> Iterator[tuple[Any, tuple[int | None, int | None]]]:
        """Yield a cursor that has a table of what is wanted, and the range of starts in which it lies."""
        casts = "trace_id::UUID AS trace_id" + (", span_id" if "span_id" in wanted else "")
        with self._file.cursor() as cursor:
            cursor.register("raw_wanted", wanted)
            run(cursor, f"CREATE OR REPLACE TEMP TABLE wanted AS SELECT {casts} FROM raw_wanted")  # noqa: S608 - names of ours
            cursor.unregister("raw_wanted")
            reach = cursor.execute(
                "SELECT min(first_ns), max(last_ns) FROM traces SEMI JOIN wanted USING (trace_id)"
            ).fetchall()[0]
            yield cursor, reach
            run(cursor, "DROP TABLE wanted")


def _of_traces(trace_ids: Sequence[str]) -> dict[str, Any]:
    return {"trace_id": column_array("UUID", list(trace_ids))}


def _of_spans(keys: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {
        "trace_id": column_array("UUID", [trace_id for trace_id, _ in keys]),
        "span_id": column_array("UBIGINT", [int(span_id, 16) for _, span_id in keys]),
    }


def _with_payload(span: Span, found: dict[tuple[str, str], tuple[str | None, str | None]]) -> Span:
    given, answer = found.get((span.trace_id, span.span_id), (None, None))
    if given is None and answer is None:
        return span
    return msgspec.structs.replace(
        span,
        input=None if given is None else msgspec.json.decode(given),
        output=None if answer is None else msgspec.json.decode(answer),
    )
