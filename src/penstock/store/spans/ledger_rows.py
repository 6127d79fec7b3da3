"""Writes the ledger within the transaction that stores the spans."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from penstock.spec.usage import TOKEN_CLASSES
from penstock.store.spans.ledger import LEDGER_COLUMNS, NO_MARKS, ledger_columns, step_of
from penstock.store.spans.rows import (
    Key,
    PreparedSpan,
    any_told,
    column_array,
    count_array,
    money_text,
    usage_columns,
)

_COUNTS = frozenset(TOKEN_CLASSES)
Parents = Mapping[Key, tuple[str, str]]
"""Kind and name of spans."""


def update_ledger(
    cursor: Any, written: Sequence[PreparedSpan], parents: Parents, known: Collection[str], since_ns: int
) -> None:
    """Add the billed ones of `written`, and name the step of calls whose parent has only come now.

    `parents` has the parents of what is billed; `known` are the traces that had rows before, none of them with a call
    before `since_ns`.
    """
    billed = [row for row in written if row.marks is not None]
    if billed:
        _insert(cursor, billed, parents)
    above = [row for row in written if row.key[0] in known]
    if above:
        _name_steps(cursor, above, since_ns)


def _insert(cursor: Any, billed: Sequence[PreparedSpan], parents: Parents) -> None:
    columns = _columns_of(billed, parents)
    told = [(name, sql) for name, sql in LEDGER_COLUMNS if any_told(columns[name])]
    arrays = {
        name: count_array(columns[name]) if name in _COUNTS else column_array(sql, columns[name])
        for name, sql in told
    }
    starts = [row.span.start_ns for row in billed]
    cursor.register("incoming", arrays)
    # Rows outlive their traces, so a call that comes again after its trace was deleted is looked for here.
    cursor.execute(
        f"INSERT INTO ledger ({', '.join(name for name, _ in told)})"  # noqa: S608 - names of ours
        f" SELECT {', '.join(f'i.{name}::{sql}' for name, sql in told)} FROM incoming i"
        " WHERE NOT EXISTS (SELECT 1 FROM ledger l WHERE l.start_ns BETWEEN ? AND ?"
        " AND l.trace_id = i.trace_id::UUID AND l.span_id = i.span_id)",
        [min(starts), max(starts)],
    ).fetchall()
    cursor.unregister("incoming")


def _columns_of(billed: Sequence[PreparedSpan], parents: Parents) -> dict[str, Sequence[Any]]:
    columns = ledger_columns([row.span for row in billed], [row.marks or NO_MARKS for row in billed])
    columns.update(usage_columns([row.span.usage for row in billed]))
    columns["estimated"] = [bool(is_estimated) for is_estimated in columns["usage_estimated"]]
    columns["span_id"] = [row.span_id for row in billed]
    columns["parent_id"] = [row.parent_id for row in billed]
    columns["cost_usd"] = [money_text(row.cost_usd) for row in billed]
    above = [parents.get((row.span.trace_id, row.span.parent_id or "")) for row in billed]
    columns["step"] = [step_of(*parent) if parent is not None else None for parent in above]
    return columns


def _name_steps(cursor: Any, above: Sequence[PreparedSpan], since_ns: int) -> None:
    cursor.register(
        "late",
        {
            "trace_id": column_array("UUID", [row.key[0] for row in above]),
            "parent_id": column_array("UBIGINT", [row.span_id for row in above]),
            "step": column_array("VARCHAR", [step_of(row.span.kind, row.span.name) for row in above]),
        },
    )
    cursor.execute(
        "UPDATE ledger SET step = late.step FROM late WHERE ledger.trace_id = late.trace_id::UUID"
        " AND ledger.parent_id = late.parent_id AND ledger.start_ns >= ?",
        [since_ns],
    ).fetchall()
    cursor.unregister("late")
