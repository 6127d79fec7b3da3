"""The state of what sources hold, as every list and count tells it: how it was read, and whether it could be parsed.

A scan knows only whether bytes were fetched. Whether they could be parsed is told by the live generation, so it is
looked up there instead of being written twice.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Subquery, and_, case, func, literal, null, select

from penstock.store.control.tables import knowledge as tables

_items = tables.knowledge_items
_bases = tables.knowledge_bases
_documents = tables.knowledge_documents
_members = tables.knowledge_members
STAYS = " The version before it is still searched."


def told_items(sources: Sequence[Row[Any]]) -> Subquery:
    """Return the items of these sources; what was fetched and not parsed is `unreadable`, with the parser's reason."""
    if not sources:
        return select(_items).where(null().is_not(None)).subquery("told")
    base = case({row.id: literal(row.base) for row in sources}, value=_items.c.source_id)
    prefix = case(
        {row.id: literal((row.settings or {}).get("prefix") or "") for row in sources},
        value=_items.c.source_id,
    )
    failed = _failed(sorted({row.base for row in sources}))
    is_failed = and_(_items.c.state == "live", failed.c.error.is_not(None))
    kept = [column for column in _items.c if column.name not in {"state", "reason"}]
    here = and_(
        failed.c.path == prefix.op("||")(_items.c.path),
        failed.c.digest == _items.c.digest,
        failed.c.base == base,
    )
    return (
        select(
            *kept,
            case((is_failed, "unreadable"), else_=_items.c.state).label("state"),
            case((is_failed, failed.c.error), else_=_items.c.reason).label("reason"),
        )
        .select_from(_items.outerjoin(failed, here))
        .where(_items.c.source_id.in_([row.id for row in sources]))
        .subquery("told")
    )


def _failed(bases: Sequence[str]) -> Subquery:
    """What the live generations of these bases hold and could not parse, each path and bytes once."""
    older = _documents.alias("older")
    held = _members.alias("held")
    stays = (
        select(older.c.id)
        .join(held, held.c.document_id == older.c.id)
        .where(
            held.c.generation == _bases.c.live_generation,
            older.c.base == _documents.c.base,
            older.c.path == _documents.c.path,
            older.c.n_passages > 0,
        )
        .exists()
    )
    told = _documents.c.error.op("||")(case((stays, STAYS), else_=""))
    return (
        select(_documents.c.base, _documents.c.path, _documents.c.digest, func.min(told).label("error"))
        .join(_members, _members.c.document_id == _documents.c.id)
        .join(_bases, _bases.c.live_generation == _members.c.generation)
        .where(_bases.c.name.in_(bases), _documents.c.base == _bases.c.name, _documents.c.error.is_not(None))
        .group_by(_documents.c.base, _documents.c.path, _documents.c.digest)
        .subquery("failed")
    )
