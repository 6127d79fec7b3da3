"""Reading SQL of single traces and of overviews. Values are always bound; only names from this file are spliced."""

from typing import Any

import msgspec

from penstock.spec.spans import Span
from penstock.store.spans.json_text import split_lines
from penstock.store.spans.read_rows import READ_COLUMNS, span_of_row
from penstock.store.spans.rows import is_hex, plain_decimal
from penstock.store.spans.types import Bucket, Overview, Payload, RouteRow, TraceRow

MAX_BUCKETS = 96
_S = 1_000_000_000
_BUCKET_WIDTHS_S = (
    1,
    5,
    15,
    60,
    300,
    900,
    3600,
    3 * 3600,
    6 * 3600,
    86400,
    7 * 86400,
    30 * 86400,
    365 * 86400,
)

_ROW_FIELDS = TraceRow.__struct_fields__
ROW_COLUMNS = ", ".join(
    "replace(traces.trace_id::VARCHAR, '-', '')" if name == "trace_id" else f"traces.{name}"
    for name in _ROW_FIELDS
)
"""Selects the fields of `TraceRow` from `traces`, as `trace_row` reads them."""
_ANSWERED = "FILTER (WHERE status <> 'error')"
_SUMS = (
    "count(*), count(*) FILTER (WHERE status = 'error'), sum(cost_usd), coalesce(sum(n_unpriced), 0)::BIGINT,"
    # An embedding has no tokens to count in its answer; codes of PS-1 and PS-2 were refused before they were sent.
    " count(*) FILTER (WHERE n_model_calls > 0 AND coalesce(error_code, '') NOT SIMILAR TO 'PS-[12].*'"
    " AND (input_tokens IS NULL OR (output_tokens IS NULL AND kind <> 'embedding')))"
)
_TOKENS = "sum(input_tokens)::BIGINT, sum(output_tokens)::BIGINT"
_IN_WINDOW = "FROM traces WHERE start_ns >= ? AND start_ns < ?"


def get_summary(cursor: Any, trace_id: str) -> TraceRow | None:
    """Return the row of one trace, or None when it is unknown."""
    if not is_hex(trace_id, 32):
        return None
    rows = cursor.execute(
        f"SELECT {ROW_COLUMNS} FROM traces WHERE trace_id = ?::UUID",  # noqa: S608 - names of ours
        [trace_id],
    ).fetchall()
    return trace_row(rows[0]) if rows else None


def get_trace(cursor: Any, trace_id: str) -> list[Span]:
    """Return the spans of a trace by start time."""
    reach = find_reach_of(cursor, trace_id)
    if reach is None:
        return []
    rows = cursor.execute(
        f"SELECT {READ_COLUMNS} FROM spans WHERE spans.trace_id = ?::UUID"  # noqa: S608 - names of ours
        " AND start_ns BETWEEN ? AND ? ORDER BY start_ns, span_id",
        [trace_id, *reach],
    ).fetchall()
    return [span_of_row(row) for row in rows]


def get_payload(cursor: Any, trace_id: str, span_id: str) -> Payload | None:
    """Return the payload of a span, or None when the span is unknown."""
    reach = find_reach_of(cursor, trace_id) if is_hex(span_id, 16) else None
    if reach is None:
        return None
    place = [trace_id, int(span_id, 16), *reach]
    where = "WHERE trace_id = ?::UUID AND span_id = ? AND start_ns BETWEEN ? AND ?"
    known = cursor.execute(f"SELECT payload_dropped FROM spans {where}", place).fetchall()  # noqa: S608 - names of ours
    if not known:
        return None
    found = cursor.execute(f"SELECT input, output FROM payloads {where}", place).fetchall()  # noqa: S608 - names of ours
    given, answer = found[0] if found else (None, None)
    return Payload(
        input=None if given is None else msgspec.json.decode(given),
        output=None if answer is None else msgspec.json.decode(answer),
        dropped=known[0][0],
    )


def overview(cursor: Any, since_ns: int, until_ns: int) -> Overview:
    """Return the figures of the traces that started in `[since_ns, until_ns)`."""
    window = [since_ns, until_ns]
    total = cursor.execute(
        f"SELECT {_SUMS}, {_TOKENS}, quantile_cont(duration_ms, [0.5, 0.95, 0.99]) {_ANSWERED},"
        f" quantile_cont(ttft_ms, 0.5) {_ANSWERED} {_IN_WINDOW}",
        window,
    ).fetchall()[0]
    routes = cursor.execute(
        f"SELECT {_SUMS}, {_TOKENS}, quantile_cont(duration_ms, [0.5, 0.95]) {_ANSWERED}, route"
        f" {_IN_WINDOW} GROUP BY route ORDER BY 1 DESC, route NULLS LAST",
        window,
    ).fetchall()
    quantiles = total[7] or [None, None, None]
    return Overview(
        since_ns=since_ns,
        until_ns=until_ns,
        n_calls=total[0],
        n_errors=total[1],
        cost_usd=plain_decimal(total[2]),
        n_unpriced=total[3],
        n_without_usage=total[4],
        input_tokens=total[5],
        output_tokens=total[6],
        p50_ms=quantiles[0],
        p95_ms=quantiles[1],
        p99_ms=quantiles[2],
        p50_ttft_ms=total[8],
        by_route=[_route_row(row) for row in routes],
        series=_series(cursor, since_ns, until_ns),
    )


def bucket_width_ns(since_ns: int, until_ns: int) -> int:
    """Return the smallest round width that cuts the window into at most `MAX_BUCKETS` slices."""
    for width_s in _BUCKET_WIDTHS_S:
        if (until_ns - since_ns) <= width_s * _S * MAX_BUCKETS:
            return width_s * _S
    return -(-(until_ns - since_ns) // MAX_BUCKETS)


def _series(cursor: Any, since_ns: int, until_ns: int) -> list[Bucket]:
    if until_ns <= since_ns:
        return []
    width = bucket_width_ns(since_ns, until_ns)
    rows = cursor.execute(
        f"SELECT start_ns // ? AS slot, {_SUMS}, quantile_cont(duration_ms, 0.95) {_ANSWERED}"
        f" {_IN_WINDOW} GROUP BY slot",
        [width, since_ns, until_ns],
    ).fetchall()
    found: dict[int, tuple[Any, ...]] = {row[0]: row[1:] for row in rows}
    series = []
    for slot in range(since_ns // width, (until_ns - 1) // width + 1):
        n_calls, n_errors, cost, n_unpriced, n_without_usage, p95 = found.get(slot, (0, 0, None, 0, 0, None))
        series.append(
            Bucket(
                start_ns=slot * width,
                n_calls=n_calls,
                n_errors=n_errors,
                cost_usd=plain_decimal(cost),
                n_unpriced=n_unpriced,
                n_without_usage=n_without_usage,
                p95_ms=p95,
            )
        )
    return series


def find_reach_of(cursor: Any, trace_id: str) -> tuple[int, int] | None:
    """Return the range of `start_ns` in which the trace's rows lie, or None when it is unknown."""
    if not is_hex(trace_id, 32):
        return None
    found: list[tuple[int, int]] = cursor.execute(
        "SELECT first_ns, last_ns FROM traces WHERE trace_id = ?::UUID", [trace_id]
    ).fetchall()
    return found[0] if found else None


def trace_row(row: tuple[Any, ...]) -> TraceRow:
    """Return the trace that a row of `ROW_COLUMNS` holds."""
    fields = dict(zip(_ROW_FIELDS, row, strict=True))
    fields["cost_usd"] = plain_decimal(fields["cost_usd"])
    for name in ("tags", "models", "providers"):
        fields[name] = split_lines(fields[name])
    return TraceRow(**fields)


def _route_row(row: tuple[Any, ...]) -> RouteRow:
    p50, p95 = row[7] or (None, None)
    return RouteRow(
        route=row[8],
        n_calls=row[0],
        n_errors=row[1],
        cost_usd=plain_decimal(row[2]),
        n_unpriced=row[3],
        n_without_usage=row[4],
        input_tokens=row[5],
        output_tokens=row[6],
        p50_ms=p50,
        p95_ms=p95,
    )
