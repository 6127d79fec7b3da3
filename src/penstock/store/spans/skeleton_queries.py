"""Reading SQL of what hangs on one trace: its skeleton as columns, single spans of it, and judgements."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from penstock.spec.spans import Span
from penstock.store.spans.queries import find_reach_of
from penstock.store.spans.read_rows import READ_COLUMNS, span_of_row
from penstock.store.spans.rows import column_array, is_hex
from penstock.store.spans.schema import INPUT_SQL, OUTPUT_SQL
from penstock.store.spans.skeleton import Skeleton
from penstock.store.spans.types import ScoreQuery, ScoreRow

_SKELETON_SQL = {
    "span_ids": "span_id",
    "parent_ids": "parent_id",
    "names": "name",
    "kinds": "kind",
    "statuses": "status",
    "start_ns": "start_ns",
    "end_ns": "end_ns",
    "models": "model",
    "agents": "agent",
    "tools": "tool",
    "error_codes": "error_code",
    "input_tokens": f"{INPUT_SQL}::BIGINT",
    "output_tokens": f"{OUTPUT_SQL}::BIGINT",
    "cost_usd": "cost_usd::VARCHAR",
    "ttft_ms": "ttft_ms",
    "n_scores": "coalesce(json_array_length(scores), 0)::BIGINT",
    "payload_dropped": "payload_dropped",
}
_WHERE = "WHERE spans.trace_id = ?::UUID AND start_ns BETWEEN ? AND ?"
MAX_SCORES = 100_000


def get_skeleton(cursor: Any, trace_id: str) -> Skeleton:
    """Return the trace's spans as columns; of no spans when it is unknown."""
    reach = find_reach_of(cursor, trace_id)
    if reach is None:
        return Skeleton()
    columns = ", ".join(f"{sql} AS {name}" for name, sql in _SKELETON_SQL.items())
    arrays = cursor.execute(
        f"SELECT {columns} FROM spans {_WHERE} ORDER BY spans.start_ns, spans.span_id",  # noqa: S608 - names of ours
        [trace_id, *reach],
    ).fetchnumpy()
    cells = {name: _values(arrays[name]) for name in _SKELETON_SQL}
    money: dict[str, Decimal] = {}
    cells["cost_usd"] = [None if text is None else _amount(text, money) for text in cells["cost_usd"]]
    versions: dict[str, str] = {}
    for (text,) in cursor.execute(
        f"SELECT versions FROM spans {_WHERE} AND versions IS NOT NULL GROUP BY versions"  # noqa: S608 - names of ours
        " ORDER BY min(start_ns), min(span_id)",
        [trace_id, *reach],
    ).fetchall():
        versions.update(msgspec.json.decode(text))
    return Skeleton(**cells, versions=dict(sorted(versions.items())))


def get_spans(cursor: Any, trace_id: str, span_ids: Sequence[str]) -> list[Span]:
    """Return those of the trace's spans, by start time."""
    numbers = [int(span_id, 16) for span_id in span_ids if is_hex(span_id, 16)]
    reach = find_reach_of(cursor, trace_id) if numbers else None
    if reach is None:
        return []
    cursor.register("wanted", {"span_id": column_array("UBIGINT", numbers)})
    rows = cursor.execute(
        f"SELECT {READ_COLUMNS} FROM spans {_WHERE} AND span_id IN (SELECT span_id FROM wanted)"  # noqa: S608 - names of ours
        " ORDER BY start_ns, span_id",
        [trace_id, *reach],
    ).fetchall()
    cursor.unregister("wanted")
    return [span_of_row(row) for row in rows]


def list_scores(cursor: Any, query: ScoreQuery, *, within: str | None = None) -> list[ScoreRow]:
    """Return the judgements that match, the latest first; `within` names a table of the traces they must be of."""
    conditions, values = ["true"], list[Any]()
    for name in ("session_id", "name", "project", "source", "status"):
        if (wanted := getattr(query, name)) is not None:
            conditions.append(f"{name} = ?")
            values.append(wanted)
    if query.since_ns is not None:
        conditions.append("time_ns >= ?")
        values.append(query.since_ns)
    if query.trace_id is not None:
        if not is_hex(query.trace_id, 32):
            return []
        conditions.append("trace_id = ?::UUID")
        values.append(query.trace_id)
    if within is not None:
        conditions.append(f"trace_id IN (SELECT trace_id FROM {within})")  # noqa: S608 - names of ours
    rows = cursor.execute(
        f"SELECT {', '.join(_SCORE_SQL.get(name, name) for name in ScoreRow.__struct_fields__)} FROM scores"  # noqa: S608 - names of ours
        f" WHERE {' AND '.join(conditions)} ORDER BY time_ns DESC, score_id LIMIT ?",
        [*values, max(1, min(query.limit, MAX_SCORES))],
    ).fetchall()
    return [_score_of_row(row) for row in rows]


_SCORE_SQL = {
    "trace_id": "replace(trace_id::VARCHAR, '-', '')",
    "by_trace_id": "replace(by_trace_id::VARCHAR, '-', '')",
}


def _score_of_row(row: Sequence[Any]) -> ScoreRow:
    cells = dict(zip(ScoreRow.__struct_fields__, row, strict=True))
    for name in ("span_id", "by_span_id"):
        cells[name] = None if cells[name] is None else f"{cells[name]:016x}"
    cells["evidence"] = msgspec.json.decode(cells["evidence"]) if cells["evidence"] else {}
    return ScoreRow(**cells)


def _values(column: Any) -> list[Any]:
    """Return a column as a list; masked entries are None."""
    found: list[Any] = column.tolist()
    return found


def _amount(text: str, known: dict[str, Decimal]) -> Decimal:
    """Return the amount without the trailing zeros of its column; prices repeat, so each is read once."""
    if text not in known:
        amount = Decimal(text)
        known[text] = Decimal(f"{amount.normalize():f}") if amount else Decimal(0)
    return known[text]
