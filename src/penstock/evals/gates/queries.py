"""All SQL of gates, for SQLite and PostgreSQL alike. Transactions are the caller's."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, and_, insert, or_, select

from penstock.store.control.tables.gates import gate_results


def insert_result(connection: Connection, values: Mapping[str, Any]) -> None:
    """Add a verdict."""
    connection.execute(insert(gate_results).values(**values))


def get_content(connection: Connection, result_id: str) -> str | None:
    """Return a verdict's JSON, or None when it is unknown."""
    query = select(gate_results.c.content).where(gate_results.c.id == result_id)
    return connection.execute(query).scalar_one_or_none()


def list_contents(
    connection: Connection, conditions: Mapping[str, str], *, before: tuple[int, str] | None, limit: int
) -> list[str]:
    """Return verdicts' JSON, newest first, of those whose columns equal `conditions`."""
    table = gate_results
    query = select(table.c.content)
    for name, value in conditions.items():
        query = query.where(table.c[name] == value)
    if before is not None:
        made_ns, last_id = before
        query = query.where(
            or_(table.c.made_ns < made_ns, and_(table.c.made_ns == made_ns, table.c.id < last_id))
        )
    query = query.order_by(table.c.made_ns.desc(), table.c.id.desc()).limit(limit)
    return list(connection.execute(query).scalars())
