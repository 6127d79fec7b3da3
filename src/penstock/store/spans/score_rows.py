"""Writes the scores that spans bring, one row a judgement, within the transaction that stores the spans.

Of several judgements with one target, name, scorer and identifier the latest holds, whatever order they come in. A
score says itself what it judges; one that does not is about the parent of the `evaluation` span that brings it, or
else about the span it hangs on.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from penstock.spec.scores import SpanScore
from penstock.spec.spans import Span
from penstock.store.spans.json_text import json_text
from penstock.store.spans.rows import PreparedSpan, column_array, is_hex
from penstock.store.spans.summaries import EVALUATION

SCORE_COLUMNS: tuple[tuple[str, str], ...] = (
    ("score_id", "UBIGINT"),
    ("trace_id", "UUID"),
    ("span_id", "UBIGINT"),
    ("session_id", "VARCHAR"),
    ("name", "VARCHAR"),
    ("value", "DOUBLE"),
    ("label", "VARCHAR"),
    ("status", "VARCHAR"),
    ("source", "VARCHAR"),
    ("scorer", "VARCHAR"),
    ("identifier", "VARCHAR"),
    ("comment", "VARCHAR"),
    ("time_ns", "BIGINT"),
    ("evidence", "VARCHAR"),
    ("project", "VARCHAR"),
    ("by_trace_id", "UUID"),
    ("by_span_id", "UBIGINT"),
)
"""`trace_id`, `span_id` and `session_id` are the target, `by_…` the span that brought the score."""
_NAMES = ", ".join(name for name, _ in SCORE_COLUMNS)
_CASTS = ", ".join(f"i.{name}::{sql_type}" for name, sql_type in SCORE_COLUMNS)


class _Target(msgspec.Struct, frozen=True, gc=False):
    trace_id: str | None
    span_id: str | None
    session_id: str | None


def create_scores_statement() -> str:
    """Return the statement that makes an empty table of scores."""
    return f"CREATE TABLE IF NOT EXISTS scores ({', '.join(f'{name} {sql}' for name, sql in SCORE_COLUMNS)})"


def update_scores(cursor: Any, written: Sequence[PreparedSpan]) -> set[str]:
    """Store what `written` brings; return the traces, by id, that some score is about and that may need to know."""
    cells: dict[int, dict[str, Any]] = {}
    for row in written:
        for score in row.span.scores:
            cell = _cells(row, score)
            other = cells.get(cell["score_id"])
            if other is None or (cell["time_ns"], cell["by_span_id"]) >= (
                other["time_ns"],
                other["by_span_id"],
            ):
                cells[cell["score_id"]] = cell
    if not cells:
        return set()
    rows = list(cells.values())
    cursor.register(
        "incoming", {name: column_array(sql, [row[name] for row in rows]) for name, sql in SCORE_COLUMNS}
    )
    cursor.execute(
        "DELETE FROM scores USING incoming i WHERE scores.score_id = i.score_id AND scores.time_ns <= i.time_ns"
    ).fetchall()
    cursor.execute(
        f"INSERT INTO scores ({_NAMES}) SELECT {_CASTS} FROM incoming i"  # noqa: S608 - names of ours
        " WHERE i.score_id NOT IN (SELECT score_id FROM scores)"
    ).fetchall()
    cursor.unregister("incoming")
    return {row["trace_id"] for row in rows if row["trace_id"] is not None}


def delete_scores_of(cursor: Any, doomed: str) -> None:
    """Delete the scores brought by the spans in the registered `doomed` (columns `trace_id`, `span_id`)."""
    cursor.execute(
        f"DELETE FROM scores USING {doomed} WHERE by_span_id = {doomed}.span_id"  # noqa: S608 - a name of ours
        f" AND by_trace_id = {doomed}.trace_id::UUID"
    ).fetchall()


def judged_traces(cursor: Any, ids: str) -> set[str]:
    """Return which traces of the table `ids` (column `trace_id`) have scores."""
    rows = cursor.execute(
        f"SELECT DISTINCT replace(trace_id::VARCHAR, '-', '') FROM scores SEMI JOIN {ids} USING (trace_id)"  # noqa: S608 - a name of ours
    ).fetchall()
    return {row[0] for row in rows}


def mark_judged(cursor: Any, trace_ids: Iterable[str]) -> None:
    """Tell the rows of these traces that there are scores about them."""
    cursor.register("judged", {"trace_id": column_array("UUID", list(trace_ids))})
    cursor.execute(
        "UPDATE traces SET has_scores = true FROM judged WHERE traces.trace_id = judged.trace_id::UUID"
        " AND NOT has_scores"
    ).fetchall()
    cursor.unregister("judged")


def _target_of(span: Span, score: SpanScore) -> _Target:
    """Return what a score is about: ids that are none are taken as not said."""
    trace_id = score.trace_id if score.trace_id is not None and is_hex(score.trace_id, 32) else None
    span_id = score.span_id if score.span_id is not None and is_hex(score.span_id, 16) else None
    if span_id is not None:
        return _Target(trace_id or span.trace_id, span_id, score.session_id)
    if trace_id is not None or score.session_id is not None:
        return _Target(trace_id, None, score.session_id)
    judged = span.parent_id if span.kind == EVALUATION and span.parent_id is not None else span.span_id
    return _Target(span.trace_id, judged, None)


def score_id_of(span: Span, score: SpanScore) -> int:
    """Return the number that all judgements share which replace one another."""
    target = _target_of(span, score)
    about = (target.trace_id, target.span_id) if target.trace_id is not None else (None, target.session_id)
    parts = [span.project, *about, score.name, score.scorer, score.identifier]
    return int.from_bytes(hashlib.sha256(json_text(parts).encode()).digest()[:8], "big")


def _cells(row: PreparedSpan, score: SpanScore) -> dict[str, Any]:
    target = _target_of(row.span, score)
    return {
        "score_id": score_id_of(row.span, score),
        "trace_id": target.trace_id,
        "span_id": None if target.span_id is None else int(target.span_id, 16),
        "session_id": target.session_id,
        "name": score.name,
        "value": score.value,
        "label": score.label,
        "status": score.status,
        "source": score.source,
        "scorer": score.scorer,
        "identifier": score.identifier,
        "comment": score.comment,
        "time_ns": min(max(score.time_ns, 0), 2**63 - 1),
        "evidence": json_text(score.evidence) if score.evidence else None,
        "project": row.span.project,
        "by_trace_id": row.span.trace_id,
        "by_span_id": row.span_id,
    }
