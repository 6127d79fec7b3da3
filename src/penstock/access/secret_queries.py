"""All SQL of secrets, for SQLite and PostgreSQL alike. Transactions are the caller's."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_in

from penstock.store.control.tables.access import secrets


def list_all(connection: Connection) -> Sequence[Row[Any]]:
    """Return every secret by name."""
    return connection.execute(select(secrets).order_by(secrets.c.name)).all()


def get(connection: Connection, name: str) -> Row[Any] | None:
    """Return one secret, or None."""
    return connection.execute(select(secrets).where(secrets.c.name == name)).one_or_none()


def insert(connection: Connection, values: dict[str, Any]) -> None:
    """Add a secret."""
    connection.execute(insert_into(secrets).values(**values))


def update(connection: Connection, name: str, values: dict[str, Any]) -> None:
    """Change a secret."""
    connection.execute(update_in(secrets).where(secrets.c.name == name).values(**values))


def delete(connection: Connection, name: str) -> None:
    """Forget a secret."""
    connection.execute(delete_from(secrets).where(secrets.c.name == name))
