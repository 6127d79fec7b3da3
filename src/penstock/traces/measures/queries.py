"""All SQL of dashboards, for SQLite and PostgreSQL alike. Transactions are the caller's."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from penstock.store.control.tables.measures import dashboards


def list_all(connection: Connection) -> Sequence[Row[Any]]:
    """Return every dashboard by name."""
    return connection.execute(select(dashboards).order_by(dashboards.c.name)).all()


def get(connection: Connection, name: str) -> Row[Any] | None:
    """Return one dashboard, or None."""
    return connection.execute(select(dashboards).where(dashboards.c.name == name)).one_or_none()


def add(connection: Connection, values: dict[str, Any]) -> None:
    """Add a dashboard; raises `IntegrityError` when there is one of the name."""
    connection.execute(insert(dashboards).values(**values))


def replace(connection: Connection, name: str, version: int, values: dict[str, Any]) -> bool:
    """Replace a dashboard that is at `version`; return whether it was."""
    change = update(dashboards).where(dashboards.c.name == name, dashboards.c.version == version)
    return connection.execute(change.values(**values)).rowcount == 1


def remove(connection: Connection, name: str) -> None:
    """Forget a dashboard."""
    connection.execute(delete(dashboards).where(dashboards.c.name == name))
