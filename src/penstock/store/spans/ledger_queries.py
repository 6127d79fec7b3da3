"""Reading SQL of the ledger: sums by one or more dimensions, single rows, repeats. Values are always bound."""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.spec.usage import INPUT_CLASSES, OUTPUT_CLASSES, TOKEN_CLASSES
from penstock.store.spans.ledger_types import CostDimension, CostQuery, CostRow, LedgerRow, Traffic
from penstock.store.spans.rows import is_hex, plain_decimal

_DIMENSION_SQL: dict[str, str] = {
    "day": "strftime(make_timestamp(start_ns // 1000), '%Y-%m-%d')",
    "model": "model",
    "provider": "provider",
    "key": "key_id",
    "user": "user_id",
    "project": "project",
    "route": "route",
    "prompt": "prompt",
    "step": "step",
    "session": "session_id",
    "source": "cost_source",
}
_IN = "list_sum([" + ", ".join(INPUT_CLASSES) + "])"
_OUT = "list_sum([" + ", ".join(OUTPUT_CLASSES) + "])"


def sum_costs(cursor: Any, query: CostQuery, by: Sequence[CostDimension]) -> list[CostRow]:
    """Return the sums of each group, the dearest first; one row of everything where `by` is empty."""
    keys = [_DIMENSION_SQL[name] for name in by]
    where, values = _conditions(query)
    given, written = f"CASE WHEN cached THEN 0 ELSE {_IN} END", f"CASE WHEN cached THEN 0 ELSE {_OUT} END"
    sums = (
        "count(*), sum(cost_usd), count(*) FILTER (WHERE cost_usd IS NULL), count(*) FILTER (WHERE estimated),"
        f" sum(cost_usd) FILTER (WHERE estimated), sum({given})::BIGINT, sum({written})::BIGINT,"
        " count(*) FILTER (WHERE cached), sum(saved_usd),"
        f" sum({given}) FILTER (WHERE estimated)::BIGINT, sum({written}) FILTER (WHERE estimated)::BIGINT"
    )
    classes = ", ".join(f"sum(CASE WHEN cached THEN 0 ELSE {name} END)::BIGINT" for name in TOKEN_CLASSES)
    columns = ", ".join([*keys, sums, classes])
    group = f" GROUP BY {', '.join(str(number + 1) for number in range(len(keys)))}" if keys else ""
    order = f" ORDER BY sum(cost_usd) DESC NULLS LAST, count(*) DESC{', 1' if keys else ''}"
    rows = cursor.execute(f"SELECT {columns} FROM ledger WHERE {where}{group}{order}", values).fetchall()  # noqa: S608 - names of ours
    return [_cost_row(by, row) for row in rows]


def find_billed(cursor: Any, identity: str) -> list[LedgerRow]:
    """Return the billed calls of a trace (32 hex characters), or the one of a span (16)."""
    if is_hex(identity, 32):
        condition = "trace_id = ?::UUID"
    elif is_hex(identity, 16):
        condition = "span_id = ('0x' || ?)::UBIGINT"
    else:
        return []
    names = LedgerRow.__struct_fields__
    columns = ", ".join("NULL" if name == "classes" else name for name in names)
    rows = cursor.execute(
        f"SELECT {columns}, {', '.join(TOKEN_CLASSES)} FROM ledger WHERE {condition} ORDER BY start_ns, span_id",  # noqa: S608 - names of ours
        [identity],
    ).fetchall()
    found = []
    for row in rows:
        cells = dict(zip(names, row, strict=False))
        cells["trace_id"] = str(cells["trace_id"]).replace("-", "")
        cells["span_id"] = f"{cells['span_id']:016x}"
        cells["classes"] = _counts(row[len(names) :])
        for name in ("versions", "rates"):
            cells[name] = msgspec.json.decode(cells[name]) if cells[name] else {}
        for name in ("cost_usd", "saved_usd"):
            cells[name] = plain_decimal(cells[name])
        found.append(LedgerRow(**cells))
    return found


def list_traffic(cursor: Any, query: CostQuery, *, limit: int) -> list[Traffic]:
    """Return the newest `limit` calls that were sent to a provider, oldest first."""
    where, values = _conditions(query)
    names = [name for name in Traffic.__struct_fields__ if name != "classes"]
    rows = cursor.execute(
        f"SELECT {', '.join(names)}, {', '.join(TOKEN_CLASSES)} FROM ledger"  # noqa: S608 - names of ours
        f" WHERE {where} AND NOT cached ORDER BY start_ns DESC LIMIT ?",
        [*values, limit],
    ).fetchall()
    found = []
    for row in reversed(rows):
        cells = dict(zip(names, row, strict=False))
        cells["cost_usd"] = plain_decimal(cells["cost_usd"])
        cells["rates"] = msgspec.json.decode(cells["rates"]) if cells["rates"] else {}
        found.append(Traffic(classes=_counts(row[len(names) :]), **cells))
    return found


def _cost_row(by: Sequence[str], row: Sequence[Any]) -> CostRow:
    n = len(by)
    n_calls, cost, n_unpriced, n_estimated, estimated, given, answered, n_cached, saved = row[n : n + 9]
    estimated_given, estimated_answered = row[n + 9 : n + 11]
    return CostRow(
        group=dict(zip(by, row[:n], strict=True)),
        n_calls=n_calls,
        cost_usd=plain_decimal(cost),
        n_unpriced=n_unpriced,
        n_estimated=n_estimated,
        estimated_usd=plain_decimal(estimated),
        input_tokens=given,
        output_tokens=answered,
        classes=_counts(row[n + 11 :]),
        n_cached=n_cached,
        saved_usd=plain_decimal(saved),
        estimated_input_tokens=estimated_given,
        estimated_output_tokens=estimated_answered,
    )


def _counts(values: Sequence[int | None]) -> dict[str, int]:
    return {
        name: count for name, count in zip(TOKEN_CLASSES, values, strict=True) if count is not None and count
    }


def _conditions(query: CostQuery) -> tuple[str, list[Any]]:
    conditions = ["start_ns >= ?", "start_ns < ?"]
    wanted: list[Any] = [query.since_ns, query.until_ns]
    for name in ("project", "key", "user", "route", "provider", "model"):
        value = getattr(query, name)
        if value is not None:
            conditions.append(f"{_DIMENSION_SQL[name]} = ?")
            wanted.append(value)
    if query.only_sent:
        conditions.append("NOT cached")
        if query.provider is None:
            conditions.append("cost_source IS DISTINCT FROM 'local'")
    return " AND ".join(conditions), wanted
