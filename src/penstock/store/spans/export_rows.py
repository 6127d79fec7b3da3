"""Whole spans with what went in and out, by the ids of a page: what exports read."""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.spec.spans import Span
from penstock.store.spans.duckdb_file import DuckDBFile, run
from penstock.store.spans.read_rows import READ_COLUMNS, span_of_row
from penstock.store.spans.rows import column_array


class DuckDBSpanExport:
    """Reads spans of a `DuckDBFile` with their payloads. See the port `SpanExport`."""

    def __init__(self, file: DuckDBFile) -> None:
        self._file = file

    def read_traces(self, trace_ids: Sequence[str]) -> list[Span]:
        """Return all spans of these traces, with payloads, trace by trace and by start time."""
        return (
            self._read({"trace_id": column_array("UUID", list(trace_ids))}, "trace_id") if trace_ids else []
        )

    def read_spans(self, keys: Sequence[tuple[str, str]]) -> list[Span]:
        """Return these spans (trace id, span id), with payloads, trace by trace and by start time."""
        if not keys:
            return []
        wanted = {
            "trace_id": column_array("UUID", [trace_id for trace_id, _ in keys]),
            "span_id": column_array("UBIGINT", [int(span_id, 16) for _, span_id in keys]),
        }
        return self._read(wanted, "trace_id, span_id")

    def _read(self, wanted: dict[str, Any], names: str) -> list[Span]:
        casts = "trace_id::UUID AS trace_id" + (", span_id" if "span_id" in wanted else "")
        with self._file.cursor() as cursor:
            cursor.register("raw_wanted", wanted)
            run(cursor, f"CREATE OR REPLACE TEMP TABLE wanted AS SELECT {casts} FROM raw_wanted")  # noqa: S608 - names of ours
            cursor.unregister("raw_wanted")
            reach = cursor.execute(
                "SELECT min(first_ns), max(last_ns) FROM traces SEMI JOIN wanted USING (trace_id)"
            ).fetchall()[0]
            if reach[0] is None:
                return []
            rows = cursor.execute(
                f"SELECT {READ_COLUMNS} FROM spans SEMI JOIN wanted USING ({names})"  # noqa: S608 - names of ours
                " WHERE start_ns BETWEEN ? AND ? ORDER BY spans.trace_id, start_ns, span_id",
                reach,
            ).fetchall()
            payloads = cursor.execute(
                "SELECT replace(trace_id::VARCHAR, '-', ''), span_id, input, output"  # noqa: S608 - names of ours
                f" FROM payloads SEMI JOIN wanted USING ({names}) WHERE start_ns BETWEEN ? AND ?",
                reach,
            ).fetchall()
            run(cursor, "DROP TABLE wanted")
        found = {
            (trace_id, f"{span_id:016x}"): (given, answer) for trace_id, span_id, given, answer in payloads
        }
        return [_with_payload(span_of_row(row), found) for row in rows]


def _with_payload(span: Span, found: dict[tuple[str, str], tuple[str | None, str | None]]) -> Span:
    given, answer = found.get((span.trace_id, span.span_id), (None, None))
    if given is None and answer is None:
        return span
    return msgspec.structs.replace(
        span,
        input=None if given is None else msgspec.json.decode(given),
        output=None if answer is None else msgspec.json.decode(answer),
    )
