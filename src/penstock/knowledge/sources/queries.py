"""All SQL of sources and of what they hold."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from penstock.knowledge.sources.item_states import told_items
from penstock.store.control.tables import knowledge as tables

sources = tables.knowledge_sources
items = tables.knowledge_items
documents = tables.knowledge_documents
members = tables.knowledge_members
bases = tables.knowledge_bases
KEPT_STATES = ("live", "unreadable")
"""States in which an item has a document in the base, as long as its bytes were read once."""
_SLICE = 500


def add_source(connection: Connection, row: Mapping[str, Any]) -> bool:
    """Add a source; return False when the base has one of that name."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(sources).values(**row).on_conflict_do_nothing().returning(sources.c.id)
    return connection.execute(statement).scalar() is not None


def find_source(connection: Connection, base: str, name: str) -> Row[Any] | None:
    """Return a source by name, or None."""
    query = select(sources).where(sources.c.base == base, sources.c.name == name)
    return connection.execute(query).one_or_none()


def get_source(connection: Connection, source_id: str) -> Row[Any] | None:
    """Return a source by id, or None."""
    return connection.execute(select(sources).where(sources.c.id == source_id)).one_or_none()


def list_sources(connection: Connection, base: str | None = None) -> Sequence[Row[Any]]:
    """Return the sources of a base, or of all, oldest first within a base."""
    query = select(sources).order_by(sources.c.base, sources.c.created_ns, sources.c.id)
    return connection.execute(query if base is None else query.where(sources.c.base == base)).all()


def update_source(connection: Connection, source_id: str, values: Mapping[str, Any]) -> None:
    """Change some columns of a source."""
    connection.execute(update(sources).where(sources.c.id == source_id).values(**values))


def next_epoch(connection: Connection, source_id: str, now_ns: int) -> int | None:
    """Begin a scan: return its number, which is over that of every scan before; None where the source is gone."""
    statement = (
        update(sources)
        .where(sources.c.id == source_id)
        .values(epoch=sources.c.epoch + 1, state="running", started_ns=now_ns, updated_ns=now_ns)
        .returning(sources.c.epoch)
    )
    found = connection.execute(statement).scalar()
    return None if found is None else int(found)


def is_newest_epoch(connection: Connection, source_id: str, epoch: int) -> bool:
    """Return whether no later scan has begun; holds the row until the transaction ends."""
    query = select(sources.c.epoch).where(sources.c.id == source_id).with_for_update()
    return connection.execute(query).scalar() == epoch


def delete_source(connection: Connection, source_id: str) -> None:
    """Forget a source with everything that it held."""
    connection.execute(delete(items).where(items.c.source_id == source_id))
    connection.execute(delete(sources).where(sources.c.id == source_id))


def iterate_items(connection: Connection, source_id: str) -> Iterator[Row[Any]]:
    """Yield all items of a source."""
    query = select(items).where(items.c.source_id == source_id).execution_options(yield_per=2000)
    yield from connection.execute(query)


def iterate_kept(connection: Connection, source_id: str) -> Iterator[Row[Any]]:
    """Yield the items that have a document in the base."""
    query = select(items).where(
        items.c.source_id == source_id, items.c.state.in_(KEPT_STATES), items.c.digest.is_not(None)
    )
    yield from connection.execute(query.execution_options(yield_per=2000))


def save_items(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write items, new or known, but for those that a later scan wrote; when an item was first seen stays."""
    if not rows:
        return
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(items)
    kept = {"source_id", "path", "first_seen_ns"}
    changes = {column.name: statement.excluded[column.name] for column in items.c if column.name not in kept}
    statement = statement.on_conflict_do_update(
        index_elements=["source_id", "path"],
        set_=changes,
        where=items.c.epoch <= statement.excluded.epoch,
    )
    connection.execute(statement, [dict(row) for row in rows])


def add_items(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add items that are not there."""
    if rows:
        connection.execute(insert(items), [dict(row) for row in rows])


def mark_seen(connection: Connection, source_id: str, epoch: int, now_ns: int) -> None:
    """Note that everything that is not gone was seen by this scan."""
    connection.execute(
        update(items)
        .where(items.c.source_id == source_id, items.c.state != "gone", items.c.epoch < epoch)
        .values(epoch=epoch, last_seen_ns=now_ns)
    )


def mark_gone(connection: Connection, source_id: str, paths: Sequence[str], now_ns: int) -> None:
    """Note that items are no longer there."""
    for start in range(0, len(paths), _SLICE):
        part = list(paths[start : start + _SLICE])
        connection.execute(
            update(items)
            .where(items.c.source_id == source_id, items.c.path.in_(part))
            .values(state="gone", reason=None, token=None, moved_from=None, changed_ns=now_ns)
        )


def mark_moved(connection: Connection, source_id: str, moves: Mapping[str, str]) -> None:
    """Note which path each of these items had before."""
    for path, before in moves.items():
        connection.execute(
            update(items)
            .where(items.c.source_id == source_id, items.c.path == path)
            .values(moved_from=before)
        )


def forget_gone(connection: Connection, source_id: str, before_ns: int) -> None:
    """Remove items that have been gone for long."""
    connection.execute(
        delete(items).where(
            items.c.source_id == source_id, items.c.state == "gone", items.c.changed_ns < before_ns
        )
    )


def count_states(connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, dict[str, int]]:
    """Return how many items of these sources are in which state, by source."""
    counts: dict[str, dict[str, int]] = {row.id: {} for row in rows}
    told = told_items(rows)
    query = select(told.c.source_id, told.c.state, func.count().label("n_items"))
    for row in connection.execute(query.group_by(told.c.source_id, told.c.state)):
        counts[row.source_id][row.state] = row.n_items
    return counts


def list_items(
    connection: Connection,
    rows: Sequence[Row[Any]],
    *,
    states: Collection[str],
    text: str | None,
    after: tuple[str, str] | None,
    limit: int,
) -> Sequence[Row[Any]]:
    """Return items of these sources by path, then source, from after (path, source id) on."""
    items = told_items(rows)
    query = select(items)
    if states:
        query = query.where(items.c.state.in_(list(states)))
    if text:
        query = query.where(_lower(connection, items.c.path).contains(text.lower(), autoescape=True))
    if after is not None:
        path, source_id = after
        later = and_(items.c.path == path, items.c.source_id > source_id)
        query = query.where((items.c.path > path) | later)
    return connection.execute(query.order_by(items.c.path, items.c.source_id).limit(limit)).all()


def _lower(connection: Connection, column: Any) -> Any:
    """Return a column in lower case, of any alphabet: SQLite's own `lower` knows ASCII alone."""
    if connection.dialect.name != "sqlite":
        return func.lower(column)
    driver: Any = connection.connection.driver_connection
    driver.create_function("lower_of_any_alphabet", 1, str.lower, deterministic=True)
    return func.lower_of_any_alphabet(column)


def find_item(connection: Connection, source: Row[Any], path: str) -> Row[Any] | None:
    """Return one item of a source, or None."""
    told = told_items([source])
    return connection.execute(select(told).where(told.c.path == path)).one_or_none()


def list_versions(connection: Connection, base: str, path: str) -> Sequence[Row[Any]]:
    """Return the versions of the document at a path, newest first, each with whether it is live."""
    is_live = (
        select(members.c.document_id)
        .join(bases, bases.c.live_generation == members.c.generation)
        .where(bases.c.name == base, members.c.document_id == documents.c.id)
        .exists()
    )
    query = (
        select(documents, is_live.label("is_live"))
        .where(documents.c.base == base, documents.c.path == path)
        .order_by(documents.c.created_ns.desc(), documents.c.id)
    )
    return connection.execute(query).all()
