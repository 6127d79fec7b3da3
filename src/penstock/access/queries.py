"""All SQL of the access room, for SQLite and PostgreSQL alike. Transactions are the caller's."""

from typing import Any

from sqlalchemy import Connection, Row, insert, or_, select, update

from penstock.access.types import KeyInfo
from penstock.spec.routes import KeyRow
from penstock.store.control.tables.access import keys


def insert_key(connection: Connection, values: dict[str, Any]) -> None:
    """Add a key."""
    connection.execute(insert(keys).values(**values))


def find_id(connection: Connection, secret_sha256: str) -> str | None:
    """Return the id of the key with this digest, revoked or not."""
    return connection.execute(select(keys.c.id).where(keys.c.secret_sha256 == secret_sha256)).scalar()


def find_valid(connection: Connection, secret_sha256: str) -> KeyRow | None:
    """Return the key with this digest, or with this one before its rotation, unless it is revoked."""
    query = select(keys).where(
        or_(keys.c.secret_sha256 == secret_sha256, keys.c.previous_sha256 == secret_sha256),
        keys.c.revoked_ns.is_(None),
    )
    row = connection.execute(query).one_or_none()
    return _key_row(row) if row is not None else None


def list_valid(connection: Connection, *, for_update: bool = False) -> tuple[KeyRow, ...]:
    """Return the keys that are not revoked, by id; `for_update` holds them until the transaction ends."""
    query = select(keys).where(keys.c.revoked_ns.is_(None)).order_by(keys.c.id)
    return tuple(
        _key_row(row) for row in connection.execute(query.with_for_update() if for_update else query)
    )


def list_all(connection: Connection) -> tuple[KeyInfo, ...]:
    """Return every key, by id."""
    return tuple(_key_info(row) for row in connection.execute(select(keys).order_by(keys.c.id)))


def get_key(connection: Connection, key_id: str) -> KeyInfo | None:
    """Return one key, or None."""
    row = connection.execute(select(keys).where(keys.c.id == key_id)).one_or_none()
    return _key_info(row) if row is not None else None


def get_digest(connection: Connection, key_id: str) -> str | None:
    """Return the digest of a key's present text."""
    return connection.execute(select(keys.c.secret_sha256).where(keys.c.id == key_id)).scalar()


def update_key(connection: Connection, key_id: str, values: dict[str, Any]) -> None:
    """Change some columns of a key."""
    connection.execute(update(keys).where(keys.c.id == key_id).values(**values))


def set_revoked(connection: Connection, key_id: str, revoked_ns: int) -> None:
    """End a key that was not ended before."""
    change = update(keys).where(keys.c.id == key_id, keys.c.revoked_ns.is_(None))
    connection.execute(change.values(revoked_ns=revoked_ns))


def _key_row(row: Row[Any]) -> KeyRow:
    return KeyRow(
        id=row.id,
        name=row.name,
        secret_sha256=row.secret_sha256,
        project=row.project,
        scopes=tuple(row.scopes),
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        routes=None if row.routes is None else tuple(row.routes),
        user=row.user,
        expires_ns=row.expires_ns,
        previous_sha256=row.previous_sha256,
        previous_until_ns=row.previous_until_ns,
    )


def _key_info(row: Row[Any]) -> KeyInfo:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name for the mapping view
    del values["secret_sha256"], values["previous_sha256"]
    values["scopes"] = tuple(row.scopes)
    values["routes"] = None if row.routes is None else tuple(row.routes)
    return KeyInfo(**values)
