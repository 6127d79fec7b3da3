"""Texts of erased documents in the control tables beside those of knowledge bases: written over where that may be.

What is named by its digest, such as a registered version, is not changed: it is found and told.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import JSON, Connection, Engine, String, Table, Text, delete, select, update

from penstock.knowledge.erasure.types import Gone, PlaceDone, Target
from penstock.store.control.metadata import metadata
from penstock.store.control.tables.views import saved_views
from penstock.store.spans.text_erasure import ERASED, write_forms

_WRITTEN_OVER = {
    "jobs": ("result", "error", "message"),
    "job_steps": ("output",),
    "job_logs": ("text",),
    "knowledge_sources": ("report", "error"),
    "knowledge_items": ("reason",),
    "knowledge_documents": ("problems", "error"),
    "knowledge_feedback": ("question", "document"),
    "knowledge_measurements": ("content",),
    "knowledge_comparisons": ("content",),
    "knowledge_tracks": ("note",),
    "alias_moves": ("evidence", "reason"),
    "evaluation_outputs": ("content",),
    "evaluation_scores": ("content",),
}
_OWN = frozenset({"knowledge_erasures", "knowledge_kept_out", "privacy_receipts"})
MAX_TOLD = 20


class TableScrub:
    """Goes through every text column of the control tables."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def clear(self, target: Target, gone: Gone) -> PlaceDone:
        """Write over what copies are known by; delete saved views whose search holds it; tell where it stays."""
        texts = [*gone.needles(), *([target.value] if target.kind == "text" else [])]
        if not texts:
            return PlaceDone(place="control tables", removed={"cells": 0})
        forms = sorted({form for text in texts for form in write_forms(text)}, key=len, reverse=True)
        n_cells, n_views = 0, 0
        left: list[str] = []
        for table in metadata.sorted_tables:
            if table.name in _OWN:
                continue
            if table is saved_views:
                n_views = self._delete_views(forms)
                continue
            names = _WRITTEN_OVER.get(table.name, ())
            n_cells += self._write_over(table, names, forms)
            left += self._find_left(table, names, forms)
        note = None
        if left:
            more = f" and {len(left) - MAX_TOLD} more" if len(left) > MAX_TOLD else ""
            note = f"not changed, since others rest on it: {', '.join(left[:MAX_TOLD])}{more}"
        return PlaceDone(
            place="control tables", removed={"cells": n_cells, "saved views": n_views}, note=note
        )

    def _write_over(self, table: Table, names: Sequence[str], forms: Sequence[str]) -> int:
        n = 0
        if not names:
            return 0
        with self._engine.begin() as connection:
            for row in list(_matching(connection, table, names, forms)):
                changed = {
                    name: _clean(getattr(row, name), forms)
                    for name in names
                    if getattr(row, name) is not None and _holds(getattr(row, name), forms)
                }
                own = [column == getattr(row, column.name) for column in table.primary_key.columns]
                connection.execute(update(table).where(*own).values(changed))
                n += len(changed)
        return n

    def _find_left(self, table: Table, changed: Sequence[str], forms: Sequence[str]) -> list[str]:
        names = [
            column.name
            for column in table.columns
            if isinstance(column.type, String | Text | JSON) and column.name not in changed
        ]
        if not names:
            return []
        found: dict[str, int] = {}
        with self._engine.connect() as connection:
            for row in _matching(connection, table, names, forms):
                for name in names:
                    value = getattr(row, name)
                    if value is not None and _holds(value, forms):
                        found[name] = found.get(name, 0) + 1
        return [f"{table.name}.{name} ({n})" for name, n in sorted(found.items())]

    def _delete_views(self, forms: Sequence[str]) -> int:
        with self._engine.begin() as connection:
            rows = list(_matching(connection, saved_views, ("query",), forms))
            for row in rows:
                own = [column == getattr(row, column.name) for column in saved_views.primary_key.columns]
                connection.execute(delete(saved_views).where(*own))
        return len(rows)


def _matching(
    connection: Connection, table: Table, names: Sequence[str], forms: Sequence[str]
) -> Iterator[Any]:
    keys = [column.name for column in table.primary_key.columns]
    columns = [table.c[name] for name in dict.fromkeys([*keys, *names])]
    for row in connection.execute(select(*columns).execution_options(yield_per=500)):
        if any(getattr(row, name) is not None and _holds(getattr(row, name), forms) for name in names):
            yield row


def _holds(value: Any, forms: Sequence[str]) -> bool:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return any(form in text for form in forms)


def _clean(value: Any, forms: Sequence[str]) -> Any:
    return _walk(value, lambda text: _replace(text, forms))


def _walk(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_walk(each, change) for each in value]
    if isinstance(value, dict):
        return {change(name): _walk(each, change) for name, each in value.items()}
    return value


def _replace(text: str, forms: Sequence[str]) -> str:
    for form in forms:
        text = text.replace(form, ERASED)
    return text
