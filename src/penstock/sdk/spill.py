"""Batches that wait for a collector which does not answer: one file each in a folder of their own, or memory.

A file holds a line about the batch and one line a record, and gets its name when it is whole. Several processes may
share a folder: a batch that is sent twice changes nothing, since spans and scores are known by their ids.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import msgspec

SUFFIX = ".batch"
_LIST_AGAIN_S = 5.0
_HALF_WRITTEN_S = 3600.0

RecordKind = Literal["spans", "scores"]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Encoded records of one kind that go out in one request."""

    kind: RecordKind
    resource: msgspec.Raw
    """Who sends: the OTLP resource of the spans."""
    parts: list[bytes]
    name: str = ""
    """Of its file, once it has one."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all records."""
        return sum(map(len, self.parts))


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    kind: RecordKind
    resource: msgspec.Raw


class Gone(NamedTuple):
    """Records of this process that are no longer kept."""

    n_sent: int = 0
    """Another process has sent them."""
    n_lost: int = 0
    """Their file was damaged."""


class Spill(Protocol):
    """Keeps batches, oldest first."""

    n_records: int
    """Those that this process put in and that are still there."""

    def put(self, batch: Batch) -> bool:
        """Keep a batch; False when it did not fit."""

    def first(self, skip: Collection[str] = ()) -> Batch | None:
        """Return the oldest batch there is, of any process, that is not named in `skip`."""

    def remove(self, batch: Batch) -> int:
        """Forget a batch that `first` returned; return how many of its records this process had put in."""

    def take_gone(self) -> Gone:
        """Return what became of records of this process without its doing, each once."""


class MemorySpill:
    """Keeps batches in memory, where there is no folder to write to."""

    is_durable = False

    def __init__(self, max_bytes: int) -> None:
        self.n_records = 0
        self._left = max_bytes
        self._batches: dict[str, Batch] = {}
        self._numbers = itertools.count()

    def put(self, batch: Batch) -> bool:
        """Keep a batch; False when it did not fit."""
        if batch.size_bytes > self._left:
            return False
        self._left -= batch.size_bytes
        self.n_records += len(batch.parts)
        name = str(next(self._numbers))
        self._batches[name] = msgspec.structs.replace(batch, name=name)
        return True

    def first(self, skip: Collection[str] = ()) -> Batch | None:
        """Return the oldest batch that is not named in `skip`."""
        return next((self._batches[name] for name in list(self._batches) if name not in skip), None)

    def take_gone(self) -> Gone:
        """Return nothing: nobody else can see these."""
        return Gone()

    def remove(self, batch: Batch) -> int:
        """Forget a batch that `first` returned."""
        del self._batches[batch.name]
        self._left += batch.size_bytes
        self.n_records -= len(batch.parts)
        return len(batch.parts)


@dataclass
class _Known:
    n_records: int
    size_bytes: int


class DiskSpill:
    """Keeps batches as files that outlive the process. A folder that cannot be used keeps nothing."""

    is_durable = True

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.n_records = 0
        self._folder = folder
        self._max_bytes = max_bytes
        self._own: dict[str, _Known] = {}
        self._numbers = itertools.count()
        self._names: dict[str, None] = {}
        """Known batches, oldest first."""
        self._listed_at = float("-inf")
        self._gone = Gone()

    def put(self, batch: Batch) -> bool:
        """Write a batch; False when the folder is full or cannot be written."""
        data = b"\n".join([_encode_head(batch), *batch.parts])
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(self._numbers)}{SUFFIX}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._used_bytes() + len(data) > self._max_bytes:
                return False
            part = self._folder / f".{name}"
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            part.replace(self._folder / name)
        except OSError:
            return False
        self._own[name] = _Known(len(batch.parts), len(data))
        self._names[name] = None
        self.n_records += len(batch.parts)
        return True

    def first(self, skip: Collection[str] = ()) -> Batch | None:
        """Return the oldest batch there is, of any process, that is not named in `skip`.

        A damaged one is removed and counted; one that cannot be read just now (no descriptor free, a disk that
        stumbles) stays for later.
        """
        for name in self._waiting(skip):
            path = self._folder / name
            try:
                head, *parts = path.read_bytes().split(b"\n")
                found = msgspec.json.decode(head, type=_Head)
                return Batch(kind=found.kind, resource=found.resource, parts=parts, name=name)
            except FileNotFoundError:
                n_sent, n_lost = self._gone
                self._gone = Gone(n_sent + self._forget(name), n_lost)  # another process has sent it
            except OSError:
                continue
            except msgspec.MsgspecError:
                n_sent, n_lost = self._gone
                self._gone = Gone(n_sent, n_lost + self._forget(name))
                with contextlib.suppress(OSError):
                    path.unlink()
        return None

    def remove(self, batch: Batch) -> int:
        """Remove a batch; return how many of its records this process had put in."""
        with contextlib.suppress(OSError):
            (self._folder / batch.name).unlink()
        return self._forget(batch.name)

    def take_gone(self) -> Gone:
        """Return what became of records of this process without its doing, each once."""
        taken, self._gone = self._gone, Gone()
        return taken

    def _forget(self, name: str) -> int:
        self._names.pop(name, None)
        known = self._own.pop(name, None)
        if known is None:
            return 0
        self.n_records -= known.n_records
        return known.n_records

    def _waiting(self, skip: Collection[str]) -> Iterator[str]:
        """Yield names, oldest first; when none of the known is left, the folder is listed, now and then."""
        yield from (name for name in list(self._names) if name not in skip)
        if time.monotonic() - self._listed_at < _LIST_AGAIN_S:
            return
        self._listed_at = time.monotonic()
        found: list[str] = []
        with contextlib.suppress(OSError):
            found = [name for name in self._list_names() if name not in self._names]
        self._names.update(dict.fromkeys(found))
        yield from found

    def _list_names(self) -> list[str]:
        """Return the names of whole batches; what a process left half written an hour ago is removed."""
        found = []
        for path in self._folder.iterdir():
            if path.name.startswith("."):
                if time.time() - path.stat().st_mtime > _HALF_WRITTEN_S:
                    path.unlink(missing_ok=True)
            elif path.name.endswith(SUFFIX):
                found.append(path.name)
        return sorted(found)

    def _used_bytes(self) -> int:
        total = 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat().st_size
        return total


def _encode_head(batch: Batch) -> bytes:
    return msgspec.json.encode(_Head(kind=batch.kind, resource=batch.resource))
