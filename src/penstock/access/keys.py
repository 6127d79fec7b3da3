"""Keys: made once, shown once, kept only as a digest.

A key is `ps-` and 43 URL-safe characters that carry 256 random bits, so a plain SHA-256 is enough: a slow
hash protects guessable secrets, and this one cannot be guessed.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from penstock.access import queries
from penstock.access.errors import KeyEnded, LastOwnerKey, UnknownKey
from penstock.access.permissions import GRANTABLE_SCOPES
from penstock.access.types import KeyInfo, NewKey
from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput, suggest
from penstock.base.ids import new_id
from penstock.spec.routes import KeyRow

KEY_PREFIX = "ps-"
MAX_LIMIT = 2**31 - 1
MAX_OVERLAP_S = 90 * 86_400


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
        user: str | None = None,
        expires_ns: int | None = None,
    ) -> NewKey:
        """Make a key and return its text, which nobody can read again. Names need not be unique.

        `routes` are the names it may call, None for all. Raises `InvalidInput`.
        """
        values = {
            "name": name,
            "scopes": scopes,
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "routes": routes,
            "project": project,
            "user": user,
            "expires_ns": expires_ns,
        }
        checked = check_values(values, now_ns=self._clock())
        secret = new_secret()
        with self._engine.begin() as connection:
            key_id = self._insert(connection, secret, **checked)
        return NewKey(id=key_id, key=secret)

    def edit(self, key_id: str, **changes: Any) -> KeyInfo:
        """Change what a key may do and return it; None takes a bound away. Its text stays.

        `changes` are keywords of `create`. Raises `InvalidInput`, `UnknownKey`, `KeyEnded`, `LastOwnerKey`.
        """
        checked = check_values(changes, now_ns=self._clock())
        with self._engine.begin() as connection:
            self._get_usable(connection, key_id)
            if ("scopes" in checked and "owner" not in checked["scopes"]) or checked.get("expires_ns"):
                self._need_other_owner(connection, key_id, "be limited")
            if checked:
                queries.update_key(connection, key_id, checked)
            return self._get(connection, key_id)

    def rotate(self, key_id: str, *, overlap_s: float = 0.0) -> NewKey:
        """Give a key a new text and return it; the text before goes on working for `overlap_s` seconds.

        Id, name, limits and routes stay, so that usage counts on. Rotating again ends the text before the last one
        at once. Raises `InvalidInput`, `UnknownKey`, `KeyEnded`.
        """
        if not 0 <= overlap_s <= MAX_OVERLAP_S:
            raise InvalidInput(f"An overlap must be between 0 and {MAX_OVERLAP_S // 86_400} days.")
        secret, now = new_secret(), self._clock()
        with self._engine.begin() as connection:
            previous = self._get_usable(connection, key_id)
            until = now + round(overlap_s * 1e9)
            if previous.expires_ns is not None:
                until = min(until, previous.expires_ns)
            values = {
                "secret_sha256": hash_secret(secret),
                "hint": write_hint(secret),
                "previous_sha256": queries.get_digest(connection, key_id) if overlap_s else None,
                "previous_until_ns": until if overlap_s else None,
                "rotated_ns": now,
            }
            queries.update_key(connection, key_id, values)
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
        """Return the key that `secret` is, or None when it is unknown, revoked or expired."""
        digest, now = hash_secret(secret), self._clock()
        with self._engine.connect() as connection:
            row = queries.find_valid(connection, digest)
        if row is None or is_expired(row, now):
            return None
        # The index finds by digest, whose timing says nothing about the secret; the last word is constant-time.
        if hmac.compare_digest(row.secret_sha256, digest):
            return row
        if row.previous_sha256 is None or row.previous_until_ns is None or row.previous_until_ns <= now:
            return None
        return row if hmac.compare_digest(row.previous_sha256, digest) else None

    def find(self, key_id: str) -> KeyRow | None:
        """Return the key with this id while it is valid."""
        now = self._clock()
        return next((row for row in self.rows() if row.id == key_id and not is_expired(row, now)), None)

    def rows(self) -> tuple[KeyRow, ...]:
        """Return the keys that are not revoked, as a snapshot carries them: expired ones too, to be refused as such."""
        now = self._clock()
        with self._engine.connect() as connection:
            found = queries.list_valid(connection)
        return tuple(_without_ended_text(row, now) for row in found)

    def list(self) -> tuple[KeyInfo, ...]:
        """Return all keys, oldest first, the revoked ones too."""
        with self._engine.connect() as connection:
            return queries.list_all(connection)

    def get(self, key_id: str) -> KeyInfo:
        """Return one key. Raises `UnknownKey`."""
        with self._engine.connect() as connection:
            return self._get(connection, key_id)

    def find_named(self, wanted: str) -> KeyInfo:
        """Return the key with this id or name; of keys with one name the only one that is not revoked.

        Raises `UnknownKey`, and `InvalidInput` where the name does not tell which.
        """
        found = [key for key in self.list() if wanted in (key.id, key.name)]
        for fitting in (
            [key for key in found if key.id == wanted],
            [key for key in found if key.revoked_ns is None],
            found,
        ):
            if len(fitting) == 1:
                return fitting[0]
        if not found:
            raise UnknownKey(wanted)
        raise InvalidInput(
            f"{len(found)} keys have the name {wanted!r}.",
            hint=f"Give the id of one: {', '.join(key.id for key in found[:5])}.",
        )

    def revoke(self, key_id: str) -> KeyInfo:
        """End the key. Revoking twice changes nothing. Raises `UnknownKey`, `LastOwnerKey`."""
        with self._engine.begin() as connection:
            self._need_other_owner(connection, key_id, "be revoked")
            queries.set_revoked(connection, key_id, self._clock())
            return self._get(connection, key_id)

    def _get(self, connection: Connection, key_id: str) -> KeyInfo:
        info = queries.get_key(connection, key_id)
        if info is None:
            raise UnknownKey(key_id)
        return info

    def _get_usable(self, connection: Connection, key_id: str) -> KeyInfo:
        info = self._get(connection, key_id)
        if info.revoked_ns is not None:
            raise KeyEnded(
                f"{key_id} is revoked.", hint="Make a new one: penstock key create --name NAME", key=key_id
            )
        return info

    def _need_other_owner(self, connection: Connection, key_id: str, what: str) -> None:
        """Raise `LastOwnerKey` when no other key could make keys over the network."""
        valid = queries.list_valid(connection, for_update=True)
        owners = [key.id for key in valid if "owner" in key.scopes and not is_expired(key, self._clock())]
        if owners == [key_id]:
            raise LastOwnerKey(
                f"{key_id} is the only key with scope owner, so it cannot {what}.",
                hint="Create another one first.",
                key=key_id,
            )

    def _insert(self, connection: Connection, secret: str, *, project: str = "default", **values: Any) -> str:
        key_id = new_id("key")
        fixed = {
            "id": key_id,
            "secret_sha256": hash_secret(secret),
            "hint": write_hint(secret),
            "project": project,
            "created_ns": self._clock(),
        }
        queries.insert_key(connection, {**values, **fixed})
        return key_id


def new_secret() -> str:
    """Return the text of a fresh key."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def write_hint(secret: str) -> str:
    """Return what lists show of a key's text."""
    return f"{KEY_PREFIX}…{secret[-4:]}"


def hash_secret(secret: str) -> str:
    """Return the hex SHA-256 of the whole key, as `KeyRow.secret_sha256` holds it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def is_expired(row: KeyRow, now_ns: int) -> bool:
    """Return whether the key's time is over."""
    return row.expires_ns is not None and row.expires_ns <= now_ns


def _without_ended_text(row: KeyRow, now_ns: int) -> KeyRow:
    if row.previous_until_ns is None or row.previous_until_ns > now_ns:
        return row
    return msgspec.structs.replace(row, previous_sha256=None, previous_until_ns=None)


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


def check_values(values: Mapping[str, Any], *, now_ns: int) -> dict[str, Any]:
    """Return what is to be kept of a key's fields; raise `InvalidInput` for what cannot be."""
    checked = dict(values)
    for what, longest in (("name", 200), ("project", 80)):
        if what in values:
            _check_text(what, values[what], longest)
    if values.get("user") is not None:
        _check_text("user", values["user"], 200)
    if "scopes" in values:
        _check_scopes(values["scopes"])
        checked["scopes"] = list(dict.fromkeys(values["scopes"]))
    for what in ("requests", "tokens"):
        limit = values.get(f"{what}_per_minute")
        if limit is not None and not 1 <= limit <= MAX_LIMIT:
            raise InvalidInput(f"{what} per minute must be between 1 and {MAX_LIMIT}, not {limit}.")
    routes = values.get("routes")
    if routes is not None:
        if not routes or isinstance(routes, str):
            raise InvalidInput("routes must name at least one route, or be left out for all of them.")
        for route in routes:
            _check_text("route", route, 256)
        checked["routes"] = list(dict.fromkeys(routes))
    expires_ns = values.get("expires_ns")
    if expires_ns is not None and not now_ns < expires_ns < 2**63:
        raise InvalidInput(
            "A key must expire in the future.", hint="A key that is there is ended now by revoking it."
        )
    return checked


def _check_text(what: str, text: object, longest: int) -> None:
    if not isinstance(text, str):
        raise InvalidInput(f"A key's {what} must be text.")
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
