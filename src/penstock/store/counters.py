"""Counters shared by the processes of one node: LMDB, one transaction for all counters of a call, forgotten by window.

Counters here are windows that end: they need not survive power loss, so nothing waits for the disk (`sync=False`);
they do survive `kill -9` of every process. The surprise: a window only ever moves forward. A process whose clock lags
behind (or was set back by less than a window) counts into the window that is already there and never empties it.
"""

import contextlib
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from penstock.base.errors import InvalidInput
from penstock.store.errors import CountersUnreadable

MAP_BYTES = 256 * 1024 * 1024
MAX_VALUE = 2**53 - 1
"""Largest exact value: what the scripts of Redis can still count one by one. In nano-dollars, nine million dollars."""
PURGE_BATCH = 10_000
_ENTRY = struct.Struct("<qq")  # value, end of the window
_MAX_KEY_BYTES = 480


class Ask(msgspec.Struct, frozen=True, gc=False):
    """A wish to count `amount`, or as much of it as the limit leaves if that is at least `least`."""

    key: str
    amount: int
    least: int
    """Equal to `amount` where it is all or nothing."""
    limit: int | None
    """None: count whatever the value."""
    window_end_s: int
    window_s: int
    """Length of the window: how far ahead a stored window may end and still be the one to count in."""


class Taken(msgspec.Struct, frozen=True, gc=False):
    """What became of an `Ask`. Of several asks either all are counted or none is."""

    value: int
    """The counter now; after a refusal, what it was and still is."""
    window_end_s: int
    """End of the window that was looked at: what an `Adjustment` must name."""
    taken: int
    """What was added, so that giving it back leaves what was there: less than asked at `MAX_VALUE` too."""
    allowed: bool
    """False: this ask is one that did not fit."""

    def given_back(self) -> "Taken":
        """Return the same for an ask that is not counted after all."""
        return Taken(self.value - self.taken, self.window_end_s, 0, self.allowed)


class Adjustment(msgspec.Struct, frozen=True, gc=False):
    """An addition without limit, negative to give back, for one window only: if that is over, nothing happens."""

    key: str
    amount: int
    window_end_s: int


class Counter(msgspec.Struct, frozen=True):
    """One counter as it stands."""

    key: str
    value: int
    window_end_s: int


class CounterStore:
    """Counters in the folder `path`. Safe for threads and processes; open it after forking, once a process."""

    def __init__(self, path: Path, *, map_bytes: int = MAP_BYTES) -> None:
        path.mkdir(parents=True, exist_ok=True)
        try:
            self._env: Any = lmdb.open(
                str(path), map_size=map_bytes, sync=False, metasync=False, max_readers=1024, max_dbs=0
            )
        except lmdb.Error as error:
            raise CountersUnreadable(
                f"The counters in {path} cannot be opened: {error}",
                hint="They hold only the current windows: remove the folder to begin anew.",
            ) from error

    def reserve(self, asks: Sequence[Ask], before: Sequence[Adjustment] = ()) -> list[Taken]:
        """Count all asks (of distinct keys) in one atomic step, or none of them if one does not fit its limit.

        `before` that, and whatever comes of it, the adjustments are made. Raises `CountersUnreadable` when the file cannot be written.
        """
        return self.reserve_each([asks], before)[0]

    def reserve_each(
        self, calls: Sequence[Sequence[Ask]], before: Sequence[Adjustment] = ()
    ) -> list[list[Taken]]:
        """Do what `reserve` does for each of `calls`, one after the other, in one transaction."""
        try:
            with self._env.begin(write=True) as transaction:
                drafts = _Drafts(transaction)
                for one in before:
                    drafts.adjust(one)
                told = [drafts.reserve(asks) for asks in calls]
                drafts.write()
        except lmdb.Error as error:
            raise _unwritable(error) from error
        return told

    def adjust(self, adjustments: Sequence[Adjustment]) -> None:
        """Add each amount to its window, which begins if there is none; no value falls below zero.

        Raises `CountersUnreadable` when the file cannot be written; then nothing has been added.
        """
        try:
            with self._env.begin(write=True) as transaction:
                drafts = _Drafts(transaction)
                for one in adjustments:
                    drafts.adjust(one)
                drafts.write()
        except lmdb.Error as error:
            raise _unwritable(error) from error

    def get(self, key: str, *, window_end_s: int | None = None) -> int:
        """Return the counter's value, or 0 when it is unknown (or, if given, of another window)."""
        with self._env.begin() as transaction:
            value, end_s = _read(transaction.get(_key_bytes(key)))
        return 0 if window_end_s is not None and end_s != window_end_s else value

    def list_counters(self, prefix: str = "") -> list[Counter]:
        """Return the counters whose key begins with `prefix`, in the order of their keys."""
        with _legible(), self._env.begin() as transaction:
            return [_counter(name, entry) for name, entry in _scan(transaction, prefix)]

    def purge(self, now_s: int) -> int:
        """Remove counters whose window has ended, at most `PURGE_BATCH`; return how many."""
        ended: list[bytes] = []
        with _legible(), self._env.begin() as transaction, transaction.cursor() as cursor:
            for name, entry in cursor:
                if _ENTRY.unpack(entry)[1] <= now_s:
                    ended.append(bytes(name))
                    if len(ended) == PURGE_BATCH:
                        break
        if not ended:
            return 0
        with _legible(), self._env.begin(write=True) as transaction:
            still = [name for name in ended if 0 < _read(transaction.get(name))[1] <= now_s]
            for name in still:
                transaction.delete(name)
        return len(still)

    def close(self) -> None:
        """Let go of the file."""
        self._env.close()


class _Drafts:
    """Counters as they are going to stand after one transaction: each is read once and written once."""

    __slots__ = ("_changed", "_transaction")

    def __init__(self, transaction: Any) -> None:
        self._transaction = transaction
        self._changed: dict[bytes, tuple[int, int]] = {}

    def adjust(self, one: Adjustment) -> None:
        name = _key_bytes(one.key)
        value, end_s = self._read(name)
        if end_s <= one.window_end_s:
            value = (value if end_s == one.window_end_s else 0) + one.amount
            self._changed[name] = min(max(0, value), MAX_VALUE), one.window_end_s

    def reserve(self, asks: Sequence[Ask]) -> list[Taken]:
        names = [_key_bytes(ask.key) for ask in asks]
        found = [_weigh(ask, self._read(name)) for ask, name in zip(asks, names, strict=True)]
        for one in found:
            if not one.allowed:
                return [one.given_back() for one in found]
        for name, one in zip(names, found, strict=True):
            self._changed[name] = one.value, one.window_end_s
        return found

    def write(self) -> None:
        for name, entry in self._changed.items():
            self._transaction.put(name, _ENTRY.pack(*entry))

    def _read(self, name: bytes) -> tuple[int, int]:
        return self._changed.get(name) or _read(self._transaction.get(name))


def _weigh(ask: Ask, stored: tuple[int, int]) -> Taken:
    value, end_s = stored
    if not ask.window_end_s <= end_s <= ask.window_end_s + ask.window_s:
        value, end_s = 0, ask.window_end_s
    after = value + ask.amount
    if ask.limit is not None and after > ask.limit:
        after = ask.limit
    if after - value < ask.least:
        return Taken(value, end_s, 0, False)
    after = min(after, MAX_VALUE)
    return Taken(after, end_s, after - value, True)


def _read(entry: bytes | None) -> tuple[int, int]:
    if entry is None:
        return 0, 0
    value, end_s = _ENTRY.unpack(entry)
    return value, end_s


def _scan(transaction: Any, prefix: str) -> list[tuple[bytes, bytes]]:
    start = prefix.encode()
    found: list[tuple[bytes, bytes]] = []
    with transaction.cursor() as cursor:
        if cursor.set_range(start):
            for name, entry in cursor:
                if not bytes(name).startswith(start):
                    break
                found.append((bytes(name), bytes(entry)))
    return found


def _counter(name: bytes, entry: bytes) -> Counter:
    value, end_s = _ENTRY.unpack(entry)
    return Counter(key=name.decode(), value=value, window_end_s=end_s)


@contextlib.contextmanager
def _legible() -> Iterator[None]:
    try:
        yield
    except lmdb.Error as error:
        raise _unwritable(error) from error


def _unwritable(error: Exception) -> CountersUnreadable:
    return CountersUnreadable(
        f"The counters cannot be written: {error}",
        hint="Check the disk's free space; the folder `counters` of the home may be removed to begin anew.",
    )


@lru_cache(maxsize=8192)
def _key_bytes(key: str) -> bytes:
    name = key.encode()
    if not 0 < len(name) <= _MAX_KEY_BYTES:
        raise InvalidInput(f"A counter's key has 1 to {_MAX_KEY_BYTES} bytes, this one has {len(name)}.")
    return name
