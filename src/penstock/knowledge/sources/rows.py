"""Rows of the control tables made into what lists show, and places in long lists."""

import base64
import binascii
from typing import Any

import msgspec
from sqlalchemy import Row

from penstock.base.errors import InvalidInput
from penstock.knowledge.sources.types import DocumentVersion, ItemRow, SourceOutcome, SourceRow

DETACHED = "detached"
"""Member of a source's report."""


def make_source(row: Row[Any], counts: dict[str, int]) -> SourceRow:
    """Return a source as lists show it."""
    report = row.report or {}
    outcome = report.get("outcome")
    return SourceRow(
        id=row.id,
        base=row.base,
        name=row.name,
        kind=row.kind,
        location=row.settings["location"],
        settings=row.settings,
        schedule=row.schedule,
        is_paused=bool(row.is_paused),
        is_detached=bool(report.get(DETACHED)),
        state=row.state,
        error=row.error,
        counts=counts,
        outcome=msgspec.convert(outcome, SourceOutcome) if outcome else None,
        failures=int(report.get("failures", 0)),
        job=report.get("job"),
        due_ns=row.due_ns,
        started_ns=row.started_ns,
        ended_ns=row.ended_ns,
        created_ns=row.created_ns,
        updated_ns=row.updated_ns,
    )


def make_item(row: Row[Any], source: str, prefix: str) -> ItemRow:
    """Return an item as lists show it."""
    return ItemRow(
        source=source,
        path=prefix + row.path,
        item=row.path,
        state=row.state,
        reason=row.reason,
        digest=row.digest,
        size_bytes=row.size_bytes,
        properties=row.properties,
        moved_from=None if row.moved_from is None else prefix + row.moved_from,
        first_seen_ns=row.first_seen_ns,
        last_seen_ns=row.last_seen_ns,
        changed_ns=row.changed_ns,
    )


def make_version(row: Row[Any]) -> DocumentVersion:
    """Return a version of a document as lists show it."""
    return DocumentVersion(
        id=row.id,
        digest=row.digest,
        title=row.title,
        media_type=row.media_type,
        size_bytes=row.size_bytes,
        n_passages=row.n_passages,
        n_dropped_chars=row.n_dropped_chars,
        problems=list(row.problems),
        error=row.error,
        properties=row.properties,
        is_live=bool(row.is_live),
        created_ns=row.created_ns,
    )


def write_cursor(path: str, source_id: str) -> str:
    """Return the place after an item."""
    return base64.urlsafe_b64encode(msgspec.json.encode([path, source_id])).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[str, str]:
    """Return the item that a cursor comes after; raise `InvalidInput`."""
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(data, type=tuple[str, str])
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise InvalidInput(
            "The cursor is none of ours.", hint="Take `next_cursor` of the page before."
        ) from error
