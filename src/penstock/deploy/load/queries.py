"""All SQL of load tests, for SQLite and PostgreSQL alike. Transactions are the caller's."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from penstock.store.control.tables.tuning import load_tests


def insert_test(connection: Connection, values: Mapping[str, Any]) -> None:
    """Add a load test."""
    connection.execute(insert(load_tests).values(**values))


def update_test(connection: Connection, test_id: str, values: Mapping[str, Any]) -> None:
    """Set columns of a test whose row this transaction holds."""
    connection.execute(update(load_tests).where(load_tests.c.id == test_id).values(**values))


def get_content(connection: Connection, test_id: str, *, for_update: bool = False) -> Any:
    """Return the record as JSON value, or None when it is unknown."""
    query = select(load_tests.c.content).where(load_tests.c.id == test_id)
    return connection.execute(query.with_for_update() if for_update else query).scalar_one_or_none()


def list_contents(
    connection: Connection, conditions: Mapping[str, Any], *, before: tuple[int, str] | None, limit: int
) -> Sequence[Any]:
    """Return records as JSON values, newest first; `conditions` are columns and their values."""
    table = load_tests
    query = select(table.c.content).where(*(table.c[name] == value for name, value in conditions.items()))
    if before is not None:
        created_ns, last_id = before
        older = and_(table.c.created_ns == created_ns, table.c.id < last_id)
        query = query.where(or_(table.c.created_ns < created_ns, older))
    query = query.order_by(table.c.created_ns.desc(), table.c.id.desc()).limit(limit)
    return list(connection.execute(query).scalars())


def count_tests(connection: Connection, conditions: Mapping[str, Any]) -> int:
    """Return how many tests there are."""
    query = select(func.count()).select_from(load_tests)
    found = connection.execute(
        query.where(*(load_tests.c[name] == value for name, value in conditions.items()))
    )
    return int(found.scalar_one())


def delete_test(connection: Connection, test_id: str) -> None:
    """Forget a test."""
    connection.execute(delete(load_tests).where(load_tests.c.id == test_id))
