"""Writes the ledger within the transaction that stores the spans."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.store.spans.ledger import BILLED_KINDS, LEDGER_COLUMNS, ledger_cells, step_of
from penstock.store.spans.rows import PreparedSpan, column_array, money_text
from penstock.store.spans.summaries import SpanFacts

_Key = tuple[str, str]
_NAMES = ", ".join(name for name, _ in LEDGER_COLUMNS)
_CASTS = ", ".join(f"i.{name}::{sql_type}" for name, sql_type in LEDGER_COLUMNS)


def update_ledger(cursor: Any, written: Sequence[PreparedSpan], known: Mapping[_Key, SpanFacts]) -> None:
    """Add the billed ones of `written`, and name the step of calls whose parent has only come now.

    `known` has the facts of all spans of the touched traces, `written` included.
    """
    billed = [row for row in written if row.marks is not None]
    if billed:
        _insert(cursor, billed, known)
    if len(known) > len(written):
        _name_steps(cursor, {row.key for row in written}, known)


def _insert(cursor: Any, billed: Sequence[PreparedSpan], known: Mapping[_Key, SpanFacts]) -> None:
    cells = []
    for row in billed:
        assert row.marks is not None
        parent = known.get((row.span.trace_id, row.span.parent_id or ""))
        cells.append(
            {
                **ledger_cells(row.span, row.marks),
                "trace_id": row.span.trace_id,
                "span_id": row.span_id,
                "parent_id": row.parent_id,
                "step": step_of(parent.kind, parent.name) if parent is not None else None,
                "cost_usd": money_text(row.cost_usd),
            }
        )
    arrays = {name: column_array(sql, [cell[name] for cell in cells]) for name, sql in LEDGER_COLUMNS}
    starts = [row.span.start_ns for row in billed]
    cursor.register("incoming", arrays)
    # Rows outlive their traces, so a call that comes again after its trace was deleted is looked for here.
    cursor.execute(
        f"INSERT INTO ledger ({_NAMES}) SELECT {_CASTS} FROM incoming i"  # noqa: S608 - names of ours
        " WHERE NOT EXISTS (SELECT 1 FROM ledger l WHERE l.start_ns BETWEEN ? AND ?"
        " AND l.trace_id = i.trace_id::UUID AND l.span_id = i.span_id)",
        [min(starts), max(starts)],
    ).fetchall()
    cursor.unregister("incoming")


def _name_steps(cursor: Any, new_keys: set[_Key], known: Mapping[_Key, SpanFacts]) -> None:
    late = [
        (facts, known[parent])
        for key, facts in known.items()
        if facts.kind in BILLED_KINDS and key not in new_keys and facts.parent_id is not None
        if (parent := (key[0], f"{facts.parent_id:016x}")) in new_keys
    ]
    if not late:
        return
    starts = [facts.start_ns for facts, _ in late]
    cursor.register(
        "late",
        {
            "trace_id": column_array("UUID", [facts.trace_id for facts, _ in late]),
            "span_id": column_array("UBIGINT", [facts.span_id for facts, _ in late]),
            "step": column_array("VARCHAR", [step_of(above.kind, above.name) for _, above in late]),
        },
    )
    cursor.execute(
        "UPDATE ledger SET step = late.step FROM late WHERE ledger.trace_id = late.trace_id::UUID"
        " AND ledger.span_id = late.span_id AND ledger.start_ns BETWEEN ? AND ?",
        [min(starts), max(starts)],
    ).fetchall()
    cursor.unregister("late")
