"""Keys: made once, shown once, kept only as a digest.

A key is `ps-` and 43 URL-safe characters that carry 256 random bits, so a plain SHA-256 is enough: a slow
hash protects guessable secrets, and this one cannot be guessed.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from penstock.access import queries
from penstock.access.errors import LastOwnerKey, UnknownKey
from penstock.access.permissions import GRANTABLE_SCOPES
from penstock.access.types import KeyInfo, NewKey
from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput, suggest
from penstock.base.ids import new_id
from penstock.spec.routes import KeyRow

KEY_PREFIX = "ps-"
MAX_LIMIT = 2**31 - 1


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
        digest = hash_secret(secret)
        try:
            with self._engine.begin() as connection:
                found = queries.find_id(connection, digest)
                return found or self._insert(
                    connection, secret, name=name, scopes=list(dict.fromkeys(scopes))
                )
        except IntegrityError:  # on PostgreSQL, another process adopted it between our look and our insert
            with self._engine.connect() as connection:
                found = queries.find_id(connection, digest)
        assert found is not None
        return found

    def verify(self, secret: str) -> KeyRow | None:
        """Return the key that `secret` is, or None when it is unknown or revoked."""
        digest = hash_secret(secret)
        with self._engine.connect() as connection:
            row = queries.find_valid(connection, digest)
        # The index finds by digest, whose timing says nothing about the secret; the last word is constant-time.
        return row if row is not None and hmac.compare_digest(row.secret_sha256, digest) else None

    def rows(self) -> tuple[KeyRow, ...]:
        """Return the keys that are valid now, as a snapshot carries them."""
        with self._engine.connect() as connection:
            return queries.list_valid(connection)

    def list(self) -> tuple[KeyInfo, ...]:
        """Return all keys, oldest first, the revoked ones too."""
        with self._engine.connect() as connection:
            return queries.list_all(connection)

    def revoke(self, key_id: str) -> KeyInfo:
        """End the key. Revoking twice changes nothing. Raises `UnknownKey`, `LastOwnerKey`."""
        with self._engine.begin() as connection:
            valid = queries.list_valid(connection, for_update=True)
            if [key.id for key in valid if "owner" in key.scopes] == [key_id]:
                raise LastOwnerKey(
                    f"{key_id} is the only key with scope owner.",
                    hint="Create another one first.",
                    key=key_id,
                )
            queries.set_revoked(connection, key_id, self._clock())
            info = queries.get_key(connection, key_id)
        if info is None:
            raise UnknownKey(key_id)
        return info

    def _insert(self, connection: Connection, secret: str, *, project: str = "default", **values: Any) -> str:
        key_id = new_id("key")
        fixed = {
            "id": key_id,
            "secret_sha256": hash_secret(secret),
            "hint": f"{KEY_PREFIX}…{secret[-4:]}",
            "project": project,
            "created_ns": self._clock(),
        }
        queries.insert_key(connection, {**values, **fixed})
        return key_id


def new_secret() -> str:
    """Return the text of a fresh key."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """Return the hex SHA-256 of the whole key, as `KeyRow.secret_sha256` holds it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def check_routes(wanted: Iterable[str], known: Collection[str]) -> None:
    """Raise `InvalidInput` for the first route that a key is to be limited to and that does not exist.

    Where `openai/*` exists, so does `openai/gpt-4o`.
    """
    for name in wanted:
        if name not in known and f"{name.partition('/')[0]}/*" not in known:
            raise InvalidInput(
                f"There is no route {name!r}.",
                hint=suggest(name, known) or "`penstock route list` shows all of them.",
                route=name,
            )


def _check_text(what: str, text: str, longest: int) -> None:
    if not 1 <= len(text) <= longest or not text.isprintable() or text != text.strip():
        raise InvalidInput(f"A key's {what} must be 1 to {longest} printable characters.")


def _check_scopes(scopes: Sequence[str]) -> None:
    known = GRANTABLE_SCOPES
    if not scopes or isinstance(scopes, str):
        raise InvalidInput(f"A key needs at least one scope of {', '.join(known)}.")
    for scope in scopes:
        if scope not in known:
            raise InvalidInput(
                f"unknown scope {scope!r}; known: {', '.join(known)}.", hint=suggest(scope, known)
            )
