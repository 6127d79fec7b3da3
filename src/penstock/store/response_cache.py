"""Kept replies on this machine: an LMDB file shared by gateway workers, bounded in bytes, the oldest thrown out first.

Records of the semantic cache count as replies do, and go when it is their turn: `order` holds both, by age.

A cache may be lost at any time, so nothing waits for the disk. Purging writes a mark instead of looking at every entry:
an entry is valid if it was stored after the marks of all, its route and its project. What is thrown out or expires is
removed when room is needed or when it is found.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from penstock.spec.usage import Usage
from penstock.store.errors import CacheUnusable
from penstock.store.lmdb_pages import overwrite_free_pages

DEFAULT_MAX_BYTES = 256 * 1024 * 1024
_SEQUENCE = struct.Struct(">Q")
_COUNT = struct.Struct("<q")
_SIZE_KEY = b"size"
_OVERHEAD_BYTES = 256
_ROUNDS = 8
_KEY_BYTES = 32
_CHANGED_AT_ONCE = 200
_LAYOUT_KEY = b"layout"
_LAYOUT = 2
"""2: records of the semantic cache stand in `order` and count."""


class KeptReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A complete, successful reply as a client got it, and what is known of it."""

    project: str
    route: str
    stored_ns: int
    expires_ns: int
    content_type: bytes
    body: bytes
    """Whole; for a stream all its events."""
    is_stream: bool = False
    provider: str | None = None
    """Who gave it."""
    model: str | None = None
    usage: Usage | None = None
    """What it used then, and what a hit saves."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """More of the reply's headers that belong to it."""


class Mark(msgspec.Struct, frozen=True):
    """What a purge is for: everything, a route or a project."""

    kind: str
    name: str = ""

    def text(self) -> str:
        """Return it as the key it is stored under."""
        return f"{self.kind}:{self.name}" if self.name else self.kind


EVERYTHING = Mark("all")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(KeptReply)


def encode_reply(reply: KeptReply) -> bytes:
    """Return the bytes a reply is stored as."""
    return _encoder.encode(reply)


def decode_reply(data: bytes) -> KeptReply | None:
    """Return a stored reply, None for bytes of another version."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        return None


def marks_of(reply_route: str, project: str) -> tuple[Mark, Mark, Mark]:
    """Return the marks that an entry must be younger than."""
    return EVERYTHING, Mark("route", reply_route), Mark("project", project)


class ResponseStore:
    """Replies by key (32 bytes). Safe for threads and processes; open it after forking, once a process."""

    def __init__(self, path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        """Open or create the folder `path`; raises `CacheUnusable`."""
        self.max_bytes = max_bytes
        self.n_evicted = 0
        """Replies thrown out for room by this process."""
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._env: Any = lmdb.open(
                str(path), map_size=max_bytes * 2 + 32 * 1024 * 1024, sync=False, metasync=False,
                max_readers=1024, max_dbs=8,
            )  # fmt: skip
            self._entries = self._env.open_db(b"entries")
            self._order = self._env.open_db(b"order")
            self._marks = self._env.open_db(b"marks")
            self._counts = self._env.open_db(b"counts")
            self._vectors = self._env.open_db(b"vectors")
            self._parts = (self._entries, self._order, self._marks, self._counts, self._vectors)
            self._begin_layout()
        except (lmdb.Error, OSError) as error:
            raise CacheUnusable(
                f"The cache in {path} cannot be opened: {error}",
                hint="It holds nothing that cannot be made again: remove the folder to begin anew.",
            ) from error

    def get(self, key: bytes, *, now_ns: int) -> KeptReply | None:
        """Return the reply if it is there, has not expired and was not purged. Raises `CacheUnusable`."""
        try:
            with self._env.begin() as transaction:
                found = transaction.get(key, db=self._entries)
                reply = decode_reply(found[_SEQUENCE.size :]) if found is not None else None
                if reply is None or reply.expires_ns <= now_ns:
                    return None
                for mark in marks_of(reply.route, reply.project):
                    purged = transaction.get(mark.text().encode(), db=self._marks)
                    if purged is not None and _COUNT.unpack(purged)[0] >= reply.stored_ns:
                        return None
                return reply
        except lmdb.Error as error:
            raise _unusable(error) from error

    def put(self, key: bytes, reply: KeptReply) -> bool:
        """Store a reply in place of any other under `key`; returns False if it is too large for the whole cache.

        The oldest are removed as far as its room is needed. Raises `CacheUnusable`.
        """
        data = encode_reply(reply)

        def write(transaction: Any) -> None:
            sequence = self._next_sequence(transaction)
            transaction.put(key, sequence + data, db=self._entries)
            transaction.put(sequence, key, db=self._order)

        return self._write(len(data) + _OVERHEAD_BYTES, write, before=lambda it: self._remove(it, key))

    def purge(self, mark: Mark, *, now_ns: int) -> None:
        """Make everything that `mark` names and that was stored until now invalid. Raises `CacheUnusable`."""
        try:
            with self._env.begin(write=True) as transaction:
                transaction.put(mark.text().encode(), _COUNT.pack(now_ns), db=self._marks)
        except lmdb.Error as error:
            raise _unusable(error) from error

    def remove_where(self, is_theirs: Callable[[KeptReply], bool]) -> int:
        """Remove replies for good, so that none of their bytes stay in the file; return how many.

        Raises `CacheUnusable`.
        """
        try:
            with self._env.begin() as transaction, transaction.cursor(db=self._entries) as cursor:
                doomed = [bytes(key) for key, value in cursor if _is_chosen(value, is_theirs)]
            # All are overwritten before one is deleted: what is deleted within a page would stay in it, and deleting
            # moves neighbours from page to page.
            self._for_each(doomed, self._blank)
            self._for_each(doomed, self._remove)
            if doomed:
                overwrite_free_pages(self._env, self._parts)
        except lmdb.Error as error:
            raise _unusable(error) from error
        return len(doomed)

    def size_bytes(self) -> int:
        """Return how many bytes replies and records take, those that have expired and not been removed yet included."""
        with self._env.begin() as transaction:
            return _read_count(transaction.get(_SIZE_KEY, db=self._counts))

    def n_entries(self) -> int:
        """Return how many replies are stored, expired ones included."""
        with self._env.begin() as transaction:
            return int(transaction.stat(self._entries)["entries"])

    def add_counts(self, counts: Mapping[str, int]) -> None:
        """Add to the named counts of all workers together. Raises `CacheUnusable`."""
        try:
            with self._env.begin(write=True) as transaction:
                for name, amount in counts.items():
                    key = b"n:" + name.encode()
                    value = _read_count(transaction.get(key, db=self._counts)) + amount
                    transaction.put(key, _COUNT.pack(value), db=self._counts)
        except lmdb.Error as error:
            raise _unusable(error) from error

    def read_counts(self) -> dict[str, int]:
        """Return the named counts."""
        with self._env.begin() as transaction, transaction.cursor(db=self._counts) as cursor:
            return {
                bytes(key)[2:].decode(): _read_count(value)
                for key, value in cursor
                if bytes(key).startswith(b"n:")
            }

    # -- for the semantic cache: entries of a partition, newest last

    def add_vector(self, partition: bytes, key: bytes, record: bytes, *, keep: int) -> None:
        """Append a record to a partition (16 bytes), for the reply under `key`; only the newest `keep` stay.

        The oldest replies and records are removed as far as its room is needed. Raises `CacheUnusable`.
        """
        assert len(partition) != _KEY_BYTES, "the length tells records from replies"

        def forget_oldest(transaction: Any) -> None:
            for name in self._names(transaction, partition)[: 1 - keep or None]:
                self._remove_vector(transaction, name)

        def write(transaction: Any) -> None:
            sequence = self._next_sequence(transaction)
            transaction.put(partition + sequence, key + record, db=self._vectors)
            transaction.put(sequence, partition, db=self._order)

        self._write(len(key) + len(record) + _OVERHEAD_BYTES, write, before=forget_oldest)

    def list_vectors(self, partition: bytes) -> list[tuple[bytes, bytes]]:
        """Return (key of the reply, record) of a partition."""
        try:
            with self._env.begin() as transaction:
                return [
                    (value[:_KEY_BYTES], value[_KEY_BYTES:])
                    for _, value in self._scan(transaction, partition)
                ]
        except lmdb.Error as error:
            raise _unusable(error) from error

    def drop_vectors(self, partition: bytes, keys: Iterable[bytes]) -> None:
        """Remove the records of replies that are there no more."""
        gone = frozenset(keys)
        try:
            with self._env.begin(write=True) as transaction:
                for name, value in self._scan(transaction, partition):
                    if value[:_KEY_BYTES] in gone:
                        self._remove_vector(transaction, name)
        except lmdb.Error as error:
            raise _unusable(error) from error

    def close(self) -> None:
        """Let go of the file."""
        self._env.close()

    def _begin_layout(self) -> None:
        with self._env.begin() as transaction:
            layout = _read_count(transaction.get(_LAYOUT_KEY, db=self._counts))
        if layout < _LAYOUT:
            with self._env.begin(write=True) as transaction:
                if _read_count(transaction.get(_LAYOUT_KEY, db=self._counts)) < _LAYOUT:
                    transaction.drop(self._vectors, delete=False)
                    transaction.put(_LAYOUT_KEY, _COUNT.pack(_LAYOUT), db=self._counts)

    def _write(self, size: int, write: Callable[[Any], None], *, before: Callable[[Any], None]) -> bool:
        """Make room for `size` bytes and write; False if they are too many for the whole cache."""
        if size > self.max_bytes // 4:
            return False
        room = self.max_bytes
        try:
            for _ in range(_ROUNDS):
                try:
                    with self._env.begin(write=True) as transaction:
                        before(transaction)
                        self._make_room(transaction, room - size)
                        write(transaction)
                        self._add_size(transaction, size)
                    return True
                except lmdb.MapFullError:
                    room = room * 3 // 4  # free pages are there but not side by side: throw out more
                    with self._env.begin(write=True) as transaction:
                        self._make_room(transaction, room - size)
        except lmdb.Error as error:
            raise _unusable(error) from error
        raise _unusable(lmdb.MapFullError("no room could be made"))

    def _names(self, transaction: Any, partition: bytes) -> list[bytes]:
        found: list[bytes] = []
        with transaction.cursor(db=self._vectors) as cursor:
            if cursor.set_range(partition):
                for name in cursor.iternext(keys=True, values=False):
                    if bytes(name[: len(partition)]) != partition:
                        break
                    found.append(bytes(name))
        return found

    def _scan(self, transaction: Any, partition: bytes) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        with transaction.cursor(db=self._vectors) as cursor:
            if cursor.set_range(partition):
                for name, value in cursor:
                    if bytes(name[: len(partition)]) != partition:
                        break
                    found.append((bytes(name), bytes(value)))
        return found

    def _for_each(self, keys: Sequence[bytes], change: Callable[[Any, bytes], None]) -> None:
        for start in range(0, len(keys), _CHANGED_AT_ONCE):
            with self._env.begin(write=True) as transaction:
                for key in keys[start : start + _CHANGED_AT_ONCE]:
                    change(transaction, key)

    def _blank(self, transaction: Any, key: bytes) -> None:
        found = transaction.get(key, db=self._entries)
        if found is not None:
            blank = bytes(found[: _SEQUENCE.size]) + bytes(len(found) - _SEQUENCE.size)
            transaction.put(key, blank, db=self._entries)

    def _remove(self, transaction: Any, key: bytes) -> None:
        found = transaction.get(key, db=self._entries)
        if found is not None:
            transaction.delete(bytes(found[: _SEQUENCE.size]), db=self._order)
            transaction.delete(key, db=self._entries)
            self._add_size(transaction, _SEQUENCE.size - len(found) - _OVERHEAD_BYTES)

    def _remove_vector(self, transaction: Any, name: bytes) -> None:
        found = transaction.get(name, db=self._vectors)
        if found is not None:
            size = len(found)
            transaction.delete(name[-_SEQUENCE.size :], db=self._order)
            transaction.delete(name, db=self._vectors)
            self._add_size(transaction, -size - _OVERHEAD_BYTES)

    def _make_room(self, transaction: Any, most: int) -> None:
        size = _read_count(transaction.get(_SIZE_KEY, db=self._counts))
        with transaction.cursor(db=self._order) as cursor:
            while size > most and cursor.first():
                sequence, key = bytes(cursor.key()), bytes(cursor.value())
                if len(key) == _KEY_BYTES:
                    found = transaction.get(key, db=self._entries)
                    size += _SEQUENCE.size - len(found) - _OVERHEAD_BYTES
                    transaction.delete(key, db=self._entries)
                    self.n_evicted += 1
                else:
                    found = transaction.get(key + sequence, db=self._vectors)
                    size -= len(found) + _OVERHEAD_BYTES
                    transaction.delete(key + sequence, db=self._vectors)
                cursor.delete()
        transaction.put(_SIZE_KEY, _COUNT.pack(size), db=self._counts)

    def _add_size(self, transaction: Any, amount: int) -> None:
        size = _read_count(transaction.get(_SIZE_KEY, db=self._counts)) + amount
        transaction.put(_SIZE_KEY, _COUNT.pack(size), db=self._counts)

    def _next_sequence(self, transaction: Any) -> bytes:
        number = _read_count(transaction.get(b"sequence", db=self._counts)) + 1
        transaction.put(b"sequence", _COUNT.pack(number), db=self._counts)
        return _SEQUENCE.pack(number)


def _is_chosen(value: bytes, is_theirs: Callable[[KeptReply], bool]) -> bool:
    reply = decode_reply(value[_SEQUENCE.size :])
    return reply is None or is_theirs(reply)


def _read_count(value: bytes | None) -> int:
    return 0 if value is None else int(_COUNT.unpack(value)[0])


def _unusable(error: Exception) -> CacheUnusable:
    return CacheUnusable(
        f"The cache cannot be used: {error}",
        hint="Check the disk's free space; the folder `cache` of the home may be removed to begin anew.",
    )
