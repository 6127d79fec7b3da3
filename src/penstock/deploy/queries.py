"""All SQL of the deploy room, for SQLite and PostgreSQL alike. Transactions are the caller's."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, text, update

from penstock.deploy.objects import StoredObject
from penstock.store.control.tables.deploy import config_objects, config_versions


def lock_objects(connection: Connection) -> None:
    """Let one change of objects at a time go on, so that two which are each right alone are checked together."""
    if connection.dialect.name == "postgresql":  # on SQLite a write transaction is alone anyhow
        connection.execute(text("LOCK TABLE config_objects IN SHARE ROW EXCLUSIVE MODE"))


def list_objects(connection: Connection, kind: str | None = None) -> tuple[StoredObject, ...]:
    """Return the objects of one kind, or of all, by kind and name."""
    query = select(config_objects).order_by(config_objects.c.kind, config_objects.c.name)
    if kind is not None:
        query = query.where(config_objects.c.kind == kind)
    return tuple(_object(row) for row in connection.execute(query))


def get_object(connection: Connection, kind: str, name: str) -> StoredObject | None:
    """Return one object, or None."""
    query = select(config_objects).where(config_objects.c.kind == kind, config_objects.c.name == name)
    row = connection.execute(query).one_or_none()
    return None if row is None else _object(row)


def put_object(connection: Connection, item: StoredObject, *, is_new: bool) -> None:
    """Add an object, or replace the one of its kind and name."""
    values = {
        "content": dict(item.content),
        "version": item.version,
        "actor": item.actor,
        "updated_ns": item.updated_ns,
    }
    if is_new:
        connection.execute(insert(config_objects).values(kind=item.kind, name=item.name, **values))
        return
    change = update(config_objects).where(
        config_objects.c.kind == item.kind, config_objects.c.name == item.name
    )
    connection.execute(change.values(**values))


def delete_object(connection: Connection, kind: str, name: str) -> None:
    """Forget an object."""
    connection.execute(
        delete(config_objects).where(config_objects.c.kind == kind, config_objects.c.name == name)
    )


def insert_version(connection: Connection, values: Mapping[str, Any]) -> int:
    """Add a published configuration and return its number."""
    number = connection.execute(
        insert(config_versions).values(**values).returning(config_versions.c.number)
    ).scalar_one()
    return int(number)


def newest_version(connection: Connection) -> Row[Any] | None:
    """Return the configuration that was published last, or None."""
    query = select(config_versions).order_by(config_versions.c.number.desc()).limit(1)
    return connection.execute(query).one_or_none()


def get_version(connection: Connection, number: int) -> Row[Any] | None:
    """Return a published configuration, or None."""
    return connection.execute(select(config_versions).where(config_versions.c.number == number)).one_or_none()


def list_versions(connection: Connection, *, limit: int, before: int | None) -> Sequence[Row[Any]]:
    """Return published configurations without their content, newest first."""
    columns = [column for column in config_versions.c if column.name != "content"]
    query = select(*columns).order_by(config_versions.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(config_versions.c.number < before)
    return connection.execute(query).all()


def prune_versions(connection: Connection, *, keep: int) -> None:
    """Forget all but the newest `keep`."""
    newest = connection.execute(select(func.max(config_versions.c.number))).scalar()
    if newest is not None:
        connection.execute(delete(config_versions).where(config_versions.c.number <= newest - keep))


def _object(row: Row[Any]) -> StoredObject:
    return StoredObject(
        kind=row.kind,
        name=row.name,
        content=row.content,
        version=row.version,
        actor=row.actor,
        updated_ns=row.updated_ns,
    )
