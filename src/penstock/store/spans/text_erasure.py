"""Erasing texts from the DuckDB file: every trace in which one stands loses what was asked and answered.

A whole trace, not the one span: an answer says in other words what a passage said. What happened, when, and what it
cost stays. The bytes are gone once the file was written anew.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.store.spans.duckdb_file import DuckDBFile, run
from penstock.store.spans.rows import column_array
from penstock.store.spans.upkeep import BARE_EVENTS, BARE_SCORES

ERASED = "[erased]"
_HEX = "replace(trace_id::VARCHAR, '-', '')"
_COLUMNS = {
    "payloads": ("input", "output"),
    "spans": ("attributes", "events", "status_message", "preview", "scores", "links", "name", "tags"),
    "traces": ("preview", "tags"),
    "scores": ("comment", "evidence", "label"),
}


class Blanked(msgspec.Struct, frozen=True, kw_only=True):
    """What was taken out."""

    n_traces: int
    n_payloads: int
    n_attributes: int
    """Spans in whose raw attributes a text stood."""


def write_forms(text: str) -> list[str]:
    """Return a text as it may stand in JSON, and in JSON within JSON, besides as it is."""
    once = {json.dumps(text, ensure_ascii=is_ascii)[1:-1] for is_ascii in (True, False)}
    twice = {json.dumps(each, ensure_ascii=False)[1:-1] for each in once}
    return sorted({text, *once, *twice})


class DuckDBTextErasure:
    """Over the shared file."""

    def __init__(self, file: DuckDBFile) -> None:
        self._file = file

    def find(self, texts: Sequence[str]) -> list[str]:
        """Return the ids of traces in which one of the texts stands, as it is or as JSON writes it."""
        if not texts:
            return []
        with self._file.cursor() as cursor:
            _take_needles(cursor, texts)
            found: set[str] = set()
            for table, columns in _COLUMNS.items():
                ids = ("trace_id", "by_trace_id") if table == "scores" else ("trace_id",)
                holds = _holds(table, columns)
                for name in ids:
                    column = _HEX.replace("trace_id", name)
                    rows = cursor.execute(f"SELECT DISTINCT {column} FROM {table} t WHERE {holds}").fetchall()  # noqa: S608 - names of ours
                    found.update(row[0] for row in rows if row[0] is not None)
        return sorted(found)

    def blank(self, trace_ids: Sequence[str], texts: Sequence[str]) -> Blanked:
        """Take out of these traces what was asked and answered, as if it had never been captured, and the texts from
        what else programs sent of them."""
        if not trace_ids:
            return Blanked(n_traces=0, n_payloads=0, n_attributes=0)
        with self._file.transaction() as cursor:
            cursor.register("raw_ids", {"trace_id": column_array("UUID", list(trace_ids))})
            run(cursor, "CREATE OR REPLACE TEMP TABLE told AS SELECT trace_id::UUID AS trace_id FROM raw_ids")
            cursor.unregister("raw_ids")
            _take_needles(cursor, texts)
            n_payloads = cursor.execute("DELETE FROM payloads WHERE trace_id IN (FROM told)").fetchall()[0][0]
            n_attributes = _scrub_attributes(cursor, texts)
            bare_events = f"CASE WHEN {_holds('spans', ('events',))} THEN NULL ELSE {BARE_EVENTS} END"
            run(
                cursor,
                "UPDATE spans t SET payload_dropped = true, preview = NULL, search_text = lower(name),"  # noqa: S608 - names of ours
                f" status_message = NULL, events = {bare_events}, scores = {BARE_SCORES}"
                " WHERE trace_id IN (FROM told)",
            )
            for name in ("trace_id", "by_trace_id"):
                run(cursor, f"UPDATE scores SET comment = NULL, evidence = NULL WHERE {name} IN (FROM told)")  # noqa: S608 - names of ours
            run(cursor, "UPDATE traces SET preview = NULL WHERE trace_id IN (FROM told)")
        return Blanked(n_traces=len(trace_ids), n_payloads=int(n_payloads), n_attributes=n_attributes)


def _take_needles(cursor: Any, texts: Sequence[str]) -> None:
    forms = sorted({form for text in texts for form in write_forms(text)})
    cursor.register("raw_needles", {"needle": column_array("VARCHAR", forms)})
    run(cursor, "CREATE OR REPLACE TEMP TABLE needles AS SELECT needle::VARCHAR AS needle FROM raw_needles")
    cursor.unregister("raw_needles")


def _holds(table: str, columns: Sequence[str]) -> str:
    within = [f"coalesce(contains(t.{column}, n.needle), false)" for column in columns]
    if table == "spans" and "attributes" in columns:  # it is in lower case, and of more than payloads
        within.append("coalesce(contains(t.search_text, lower(n.needle)), false)")
    return f"EXISTS (SELECT 1 FROM needles n WHERE {' OR '.join(within)})"  # noqa: S608 - names of ours


def _scrub_attributes(cursor: Any, texts: Sequence[str]) -> int:
    """Write over texts in the raw attributes and links that programs sent; return of how many spans."""
    holds = _holds("links", ("attributes", "links", "name", "tags"))
    rows = cursor.execute(
        f"SELECT t.trace_id, t.span_id, t.attributes, t.links, t.name, t.tags FROM spans t WHERE {holds}"  # noqa: S608 - names of ours
    ).fetchall()
    forms = sorted({form for text in texts for form in write_forms(text)}, key=len, reverse=True)
    for trace_id, span_id, *values in rows:
        clean = [None if value is None else _scrub(value, forms) for value in values]
        cursor.execute(
            "UPDATE spans SET attributes = ?, links = ?, name = ?, tags = ? WHERE trace_id = ? AND span_id = ?",
            [*clean, trace_id, span_id],
        ).fetchall()
    return len(rows)


def _scrub(value: str, forms: Sequence[str]) -> str:
    for form in forms:
        value = value.replace(form, ERASED)
    return value
