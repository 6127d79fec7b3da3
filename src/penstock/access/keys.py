"""Keys: made once, shown once, kept only as a digest.

A key is `ps-` and 43 URL-safe characters that carry 256 random bits, so a plain SHA-256 is enough: a slow
hash protects guessable secrets, and this one cannot be guessed.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from penstock.access.errors import LastOwnerKey, UnknownKey
from penstock.access.permissions import SCOPE_PERMISSIONS
from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput, suggest
from penstock.base.ids import new_id
from penstock.spec.routes import KeyRow
from penstock.store.control.tables.access import keys

KEY_PREFIX = "ps-"
MAX_LIMIT = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A key at the only moment its text is known."""

    id: str
    key: str

    def __repr__(self) -> str:
        return f"NewKey(id={self.id!r}, key='ps-…')"


@dataclass(frozen=True, kw_only=True)
class KeyInfo:
    """A key as lists show it: everything but the secret."""

    id: str
    name: str
    hint: str
    """`ps-…` and the last four characters, to recognise it by."""
    project: str
    scopes: tuple[str, ...]
    requests_per_minute: int | None
    tokens_per_minute: int | None
    routes: tuple[str, ...] | None
    created_ns: int
    last_used_ns: int | None
    """None: not known to have been used."""
    revoked_ns: int | None


class KeyService:
    """Keys on the control tables. Gateways see a change with the next snapshot."""

    def __init__(self, engine: Engine, *, clock: Callable[[], int] = wall_clock) -> None:
        self._engine = engine
        self._clock = clock

    def create(
        self,
        name: str,
        scopes: Sequence[str] = ("call",),
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        routes: Sequence[str] | None = None,
        project: str = "default",
    ) -> NewKey:
        """Make a key and return its text, which nobody can read again. Names need not be unique.

        `routes` are the names it may call, None for all. Raises `InvalidInput`.
        """
        _check_text("name", name, 200)
        _check_text("project", project, 80)
        _check_scopes(scopes)
        for what, limit in (("requests", requests_per_minute), ("tokens", tokens_per_minute)):
            if limit is not None and not 1 <= limit <= MAX_LIMIT:
                raise InvalidInput(f"{what} per minute must be between 1 and {MAX_LIMIT}, not {limit}.")
        if routes is not None and (not routes or isinstance(routes, str)):
            raise InvalidInput("routes must name at least one route, or be left out for all of them.")
        for route in routes or ():
            _check_text("route", route, 256)
        secret = new_secret()
        with self._engine.begin() as connection:
            key_id = self._insert(
                connection,
                secret,
                name=name,
                project=project,
                scopes=list(dict.fromkeys(scopes)),
                requests_per_minute=requests_per_minute,
                tokens_per_minute=tokens_per_minute,
                routes=None if routes is None else list(dict.fromkeys(routes)),
            )
        return NewKey(id=key_id, key=secret)

    def adopt(self, secret: str, name: str, scopes: Sequence[str] = ("call",)) -> str:
        """Make a key whose text exists already (in a file of the home) known, and return its id.

        Adopting it again changes nothing, and a revoked key stays revoked: so a first start may write the
        file, then adopt it, and be killed at any moment between. Raises `InvalidInput`.
        """
        if len(secret) != len(KEY_PREFIX) + 43 or not secret.startswith(KEY_PREFIX) or not secret.isascii():
            raise InvalidInput("This is not the text of a key.", hint="A key is `ps-` and 43 characters.")
        _check_text("name", name, 200)
        _check_scopes(scopes)
        known = select(keys.c.id).where(keys.c.secret_sha256 == hash_secret(secret))
        try:
            with self._engine.begin() as connection:
                found = connection.execute(known).scalar_one_or_none()
                return found or self._insert(
                    connection, secret, name=name, scopes=list(dict.fromkeys(scopes))
                )
        except IntegrityError:  # on PostgreSQL, another process adopted it between our look and our insert
            with self._engine.connect() as connection:
                return str(connection.execute(known).scalar_one())

    def verify(self, secret: str) -> KeyRow | None:
        """Return the key that `secret` is, or None when it is unknown or revoked."""
        digest = hash_secret(secret)
        with self._engine.connect() as connection:
            row = connection.execute(select(keys).where(keys.c.secret_sha256 == digest)).one_or_none()
        # The index finds by digest, whose timing says nothing about the secret; the last word is constant-time.
        if row is None or not hmac.compare_digest(row.secret_sha256, digest) or row.revoked_ns is not None:
            return None
        return _key_row(row)

    def rows(self) -> tuple[KeyRow, ...]:
        """Return the keys that are valid now, as a snapshot carries them."""
        query = select(keys).where(keys.c.revoked_ns.is_(None)).order_by(keys.c.id)
        with self._engine.connect() as connection:
            return tuple(_key_row(row) for row in connection.execute(query))

    def list(self) -> tuple[KeyInfo, ...]:
        """Return all keys, oldest first, the revoked ones too."""
        with self._engine.connect() as connection:
            return tuple(_key_info(row) for row in connection.execute(select(keys).order_by(keys.c.id)))

    def revoke(self, key_id: str) -> KeyInfo:
        """End the key. Revoking twice changes nothing. Raises `UnknownKey`, `LastOwnerKey`."""
        with self._engine.begin() as connection:
            valid = select(keys).where(keys.c.revoked_ns.is_(None)).with_for_update()
            owners = [row.id for row in connection.execute(valid) if "owner" in row.scopes]
            row = _get(connection, key_id)
            if owners == [key_id]:
                raise LastOwnerKey(
                    f"{key_id} is the only key with scope owner.",
                    hint="Create another one first.",
                    key=key_id,
                )
            if row.revoked_ns is None:
                change = update(keys).where(keys.c.id == key_id).values(revoked_ns=self._clock())
                connection.execute(change)
            return _key_info(_get(connection, key_id))

    def _insert(self, connection: Connection, secret: str, *, project: str = "default", **values: Any) -> str:
        key_id = new_id("key")
        fixed = {
            "id": key_id,
            "secret_sha256": hash_secret(secret),
            "hint": f"{KEY_PREFIX}…{secret[-4:]}",
            "project": project,
            "created_ns": self._clock(),
        }
        connection.execute(insert(keys).values(**values, **fixed))
        return key_id


def new_secret() -> str:
    """Return the text of a fresh key."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """Return the hex SHA-256 of the whole key, as `KeyRow.secret_sha256` holds it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _get(connection: Connection, key_id: str) -> Row[Any]:
    row = connection.execute(select(keys).where(keys.c.id == key_id)).one_or_none()
    if row is None:
        raise UnknownKey(key_id)
    return row


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
    )


def _key_info(row: Row[Any]) -> KeyInfo:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name for the mapping view
    del values["secret_sha256"]
    values["scopes"] = tuple(row.scopes)
    values["routes"] = None if row.routes is None else tuple(row.routes)
    return KeyInfo(**values)


def _check_text(what: str, text: str, longest: int) -> None:
    if not 1 <= len(text) <= longest or not text.isprintable() or text != text.strip():
        raise InvalidInput(f"A key's {what} must be 1 to {longest} printable characters.")


def _check_scopes(scopes: Sequence[str]) -> None:
    known = tuple(SCOPE_PERMISSIONS)
    if not scopes or isinstance(scopes, str):
        raise InvalidInput(f"A key needs at least one scope of {', '.join(known)}.")
    for scope in scopes:
        if scope not in known:
            raise InvalidInput(
                f"unknown scope {scope!r}; known: {', '.join(known)}.", hint=suggest(scope, known)
            )
