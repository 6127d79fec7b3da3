"""Upstream keys at rest: entered once, sealed, replaced or deleted, and never shown again.

A secret is bound to the host it was entered for. Who may edit providers can therefore not read it by pointing one at
a host of their own.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from penstock.access import secret_queries as queries
from penstock.access.errors import SecretExists, SecretInUse, UnknownSecret
from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput
from penstock.store.sealing import (
    MasterKeys,
    lock_master_keys,
    make_master_keys,
    new_master_key,
    origin_of,
    read_master_keys,
    sealing_key_id,
    write_master_keys,
)

MAX_CHARS = 64 * 1024
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")


@dataclass(frozen=True, kw_only=True)
class SecretInfo:
    """A secret as lists show it: everything but what it says."""

    name: str
    origin: str
    """Scheme, host and port it is sent to."""
    key_id: str | None
    """Which master key sealed it."""
    actor: str
    """Who entered it last."""
    created_ns: int
    updated_ns: int


class SecretService:
    """Secrets on the control tables, sealed with the master key in `key_path`, which is made when first needed."""

    def __init__(self, engine: Engine, key_path: Path, *, clock: Callable[[], int] = wall_clock) -> None:
        self._engine = engine
        self._key_path = key_path
        self._clock = clock

    def create(self, name: str, text: str, *, url: str, actor: str) -> SecretInfo:
        """Enter a secret for the host of `url`. Raises `InvalidInput`, `SecretExists`, `MasterKeyUnusable`."""
        return self._enter(name, text, url=url, actor=actor, is_new=True)

    def put(self, name: str, text: str, *, url: str, actor: str, used_by: Collection[str] = ()) -> SecretInfo:
        """Enter a secret, or enter one again.

        Another host than before is refused while providers use it (`used_by`). Raises `InvalidInput`, `SecretInUse`,
        `MasterKeyUnusable`.
        """
        return self._enter(name, text, url=url, actor=actor, used_by=used_by)

    def rotate(self, name: str, text: str, *, actor: str) -> SecretInfo:
        """Replace what a secret says, for the same host. Raises `InvalidInput`, `UnknownSecret`."""
        return self._enter(name, text, url=self.get(name).origin, actor=actor)

    def list(self) -> tuple[SecretInfo, ...]:
        """Return all secrets by name."""
        with self._engine.connect() as connection:
            return tuple(_info(row) for row in queries.list_all(connection))

    def get(self, name: str) -> SecretInfo:
        """Return one secret. Raises `UnknownSecret`."""
        with self._engine.connect() as connection:
            row = queries.get(connection, name)
        if row is None:
            raise UnknownSecret(name)
        return _info(row)

    def delete(self, name: str, *, used_by: Collection[str] = ()) -> None:
        """Forget a secret. Raises `UnknownSecret`, and `SecretInUse` while providers use it (`used_by`)."""
        self.get(name)
        _refuse_use(name, used_by, "deleted")
        with self._engine.begin() as connection:
            queries.delete(connection, name)

    def sealed(self) -> dict[str, str]:
        """Return all secrets as a snapshot carries them."""
        with self._engine.connect() as connection:
            return {row.name: row.sealed for row in queries.list_all(connection)}

    def open(self, name: str, url: str) -> str:
        """Return what a secret says, to be sent to the host of `url`.

        Raises `UnknownSecret`, `InvalidInput` when it was entered for another host, `MasterKeyUnusable`, `SealBroken`.
        """
        with self._engine.connect() as connection:
            row = queries.get(connection, name)
        if row is None:
            raise UnknownSecret(name)
        origin = origin_of(url)
        if row.origin != origin:
            raise InvalidInput(
                f"The secret {name!r} was entered for {row.origin}, not for {origin or url}.",
                hint=f"Enter one for it: penstock secret set NAME --url {origin or url}",
                name=name,
            )
        return read_master_keys(self._key_path).open(row.sealed, name=name, origin=origin)

    def rekey(self, publish: Callable[[], object]) -> tuple[str, int]:
        """Seal every secret again under a new master key; return its id and how many there are.

        Killed at any moment, every secret still opens: the old key stays in the file until `publish` has told
        gateways the new texts. Raises `MasterKeyUnusable`, `SealBroken`.
        """
        with lock_master_keys(self._key_path):
            old = make_master_keys(self._key_path)
            both = MasterKeys((new_master_key(), *old.keys))
            write_master_keys(self._key_path, both)
            with self._engine.begin() as connection:
                rows = queries.list_all(connection)
                for row in rows:
                    text = both.open(row.sealed, name=row.name, origin=row.origin)
                    sealed = both.seal(text, name=row.name, origin=row.origin)
                    queries.update(connection, row.name, {"sealed": sealed})
            publish()
            write_master_keys(self._key_path, MasterKeys(both.keys[:1]))
        return both.current_id, len(rows)

    def _enter(
        self,
        name: str,
        text: str,
        *,
        url: str,
        actor: str,
        is_new: bool = False,
        used_by: Collection[str] = (),
    ) -> SecretInfo:
        origin, text = _check(name, text, url), text.strip()
        now = self._clock()
        with lock_master_keys(self._key_path), self._engine.begin() as connection:
            found = queries.get(connection, name)
            if found is None:
                keys = make_master_keys(self._key_path)
                values = {"created_ns": now}
            elif is_new:
                raise SecretExists(
                    f"There is a secret {name!r} already.",
                    hint=f"Replace what it says: penstock secret rotate {name}",
                    name=name,
                )
            else:
                if found.origin != origin:
                    _refuse_use(name, used_by, f"entered for {origin}")
                # Of secrets that are there, the master key must be: a fresh one would seal beside what stays closed.
                keys = read_master_keys(self._key_path)
                values = {}
            sealed = keys.seal(text, name=name, origin=origin)
            row = {**values, "origin": origin, "sealed": sealed, "actor": actor, "updated_ns": now}
            if found is None:
                queries.insert(connection, {**row, "name": name})
            else:
                queries.update(connection, name, row)
        return self.get(name)


def _check(name: str, text: str, url: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "A secret's name must be 1 to 80 lower-case letters, digits, dots, dashes and underscores.",
            hint="The secret itself is asked for, or read from standard input.",
        )
    if not 1 <= len(text.strip()) <= MAX_CHARS:
        raise InvalidInput(f"A secret must have 1 to {MAX_CHARS} characters.")
    if any(not char.isprintable() and char not in "\r\n\t" for char in text):
        raise InvalidInput("A secret must be text without control characters.")
    origin = origin_of(url)
    if not origin:
        raise InvalidInput(
            "A secret is entered for an address such as https://api.example.com.",
            hint="Name it with --url, or the provider with --provider.",
        )
    return origin


def _refuse_use(name: str, used_by: Collection[str], what: str) -> None:
    if used_by:
        raise SecretInUse(
            f"The secret {name!r} is used by {', '.join(sorted(used_by))}, so it cannot be {what}.",
            hint="Enter another secret, and name it in the provider together with its new address.",
            name=name,
            used_by=sorted(used_by),
        )


def _info(row: Any) -> SecretInfo:
    return SecretInfo(
        name=row.name,
        origin=row.origin,
        key_id=sealing_key_id(row.sealed),
        actor=row.actor,
        created_ns=row.created_ns,
        updated_ns=row.updated_ns,
    )
