"""Shared counters of one machine on LMDB: rate limits and budgets that several gateways count together.

An `add` is one LMDB write transaction: it reads, compares with the limit and writes atomically across
processes, in a few microseconds. Counters are windows that end: they need not survive power loss, so nothing
waits for the disk (`sync=False`); they do survive `kill -9` of every process.
"""

import struct
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from penstock.base.errors import InvalidInput
from penstock.store.errors import CountersUnreadable

MAP_BYTES = 256 * 1024 * 1024
_ENTRY = struct.Struct("<qq")  # value, end of the window
_MAX_KEY_BYTES = 480


class CounterResult(msgspec.Struct, frozen=True, kw_only=True):
    """`value` is the counter after the call; `allowed` is False when the limit kept it unchanged."""

    value: int
    allowed: bool


class CounterStore:
    """Counters in the folder `path`. Safe for threads and processes; open it after forking, once a process."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        try:
            self._env: Any = lmdb.open(
                str(path), map_size=MAP_BYTES, sync=False, metasync=False, max_readers=1024, max_dbs=0
            )
        except lmdb.Error as error:
            raise CountersUnreadable(
                f"The counters in {path} cannot be opened: {error}",
                hint="They hold only the current windows: remove the folder to begin anew.",
            ) from error

    def add(self, key: str, amount: int, *, window_end_s: int, limit: int | None) -> CounterResult:
        """Add `amount` to the counter of the window that ends at `window_end_s`, unless that passes `limit`.

        A counter whose window has changed starts from zero. A negative `amount` gives back; the value
        never falls below zero, and giving back is always allowed.
        """
        name = _key_bytes(key)
        with self._env.begin(write=True) as transaction:
            value = _value(transaction.get(name), window_end_s)
            wanted = max(0, value + amount)
            if limit is not None and amount > 0 and wanted > limit:
                return CounterResult(value=value, allowed=False)
            transaction.put(name, _ENTRY.pack(wanted, window_end_s))
        return CounterResult(value=wanted, allowed=True)

    def get(self, key: str, *, window_end_s: int | None = None) -> int:
        """Return the counter's value, or 0 when it is unknown (or, if given, of another window)."""
        with self._env.begin() as transaction:
            entry = transaction.get(_key_bytes(key))
        if entry is None:
            return 0
        value, end_s = _ENTRY.unpack(entry)
        return 0 if window_end_s is not None and end_s != window_end_s else int(value)

    def purge(self, now_s: int) -> int:
        """Remove the counters whose window has ended; return how many."""
        with self._env.begin(write=True) as transaction:
            with transaction.cursor() as cursor:
                ended = [bytes(name) for name, entry in cursor if _ENTRY.unpack(entry)[1] <= now_s]
            for name in ended:
                transaction.delete(name)
        return len(ended)

    def close(self) -> None:
        """Let go of the file."""
        self._env.close()


def _value(entry: bytes | None, window_end_s: int) -> int:
    if entry is None:
        return 0
    value, end_s = _ENTRY.unpack(entry)
    return int(value) if end_s == window_end_s else 0


def _key_bytes(key: str) -> bytes:
    name = key.encode()
    if not 0 < len(name) <= _MAX_KEY_BYTES:
        raise InvalidInput(f"A counter's key has 1 to {_MAX_KEY_BYTES} bytes, this one has {len(name)}.")
    return name
