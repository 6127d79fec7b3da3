"""Series of one worker in a mapped file: what is there survives `kill -9`, because the pages are the kernel's.

A file has a head (magic, bytes used) and then entries: lengths, the series' name as JSON, its numbers as floats. An
entry is written whole before the head counts it, so a reader never sees half of one. The file is filled with zeroes when
it is made, because touching a hole of a mapped file kills the process when the disk is full.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from penstock.gateway.metering.families import FAMILIES, Family

FILE_BYTES = 1024 * 1024
_ROOM_BYTES = 16 * 1024
_MAGIC = b"PSMETER1"
_HEAD = struct.Struct("<8sQ")
_ENTRY = struct.Struct("<III4x")  # length of the entry, of its name, count of its numbers

SeriesName = tuple[str, tuple[str, ...]]
"""The family's name, and the values of its labels in its order."""


class Cells:
    """The numbers of this worker. `floats` is written directly; `place` says where."""

    def __init__(self, path: Path | None, *, size: int = FILE_BYTES) -> None:
        """Keep the numbers in a new file at `path`, whose lock is held as long as this lives; or in memory only."""
        self._file: IO[bytes] | None = None
        self._map = mmap.mmap(-1, size) if path is None else self._create(path, size)
        self._size = size
        self._used = _HEAD.size
        _HEAD.pack_into(self._map, 0, _MAGIC, self._used)
        self.floats: memoryview[float] = memoryview(self._map).cast("d")
        self._places: dict[SeriesName, int] = {}

    def place(self, family: Family, labels: Sequence[str]) -> int | None:
        """Return where the numbers of a series begin in `floats`, None when there is no room for it."""
        name = family.name, tuple(labels)
        found = self._places.get(name)
        if found is not None:
            return found
        raw = msgspec.json.encode(name)
        raw += b" " * (-len(raw) % 8)
        length = _ENTRY.size + len(raw) + 8 * family.n_values
        if self._used + length > self._size:
            return None
        start = self._used
        _ENTRY.pack_into(self._map, start, length, len(raw), family.n_values)
        self._map[start + _ENTRY.size : start + _ENTRY.size + len(raw)] = raw
        self._used = start + length
        _HEAD.pack_into(self._map, 0, _MAGIC, self._used)
        at = self._places[name] = (start + _ENTRY.size + len(raw)) // 8
        return at

    @property
    def is_shared(self) -> bool:
        """Whether other workers can read the numbers."""
        return self._file is not None

    @property
    def has_room(self) -> bool:
        """Whether there is room for all series of a new kind of call."""
        return self._size - self._used > _ROOM_BYTES

    def series(self) -> Iterator[tuple[SeriesName, list[float]]]:
        """Give all series."""
        return read_series(self.read())

    def read(self) -> bytes:
        """Return the content as a reader of the file sees it."""
        return self._map[: self._used]

    def close(self) -> None:
        """Let go of the file, which from now on counts as that of a dead worker."""
        self.floats.release()
        self._map.close()
        if self._file is not None:
            self._file.close()

    def _create(self, path: Path, size: int) -> mmap.mmap:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unready = path.with_suffix(".new")
        file: IO[bytes] = os.fdopen(os.open(unready, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b")
        try:
            # lock first, name later: a file without a lock is taken for a dead worker's
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(bytes(size))
            file.flush()
            mapped = mmap.mmap(file.fileno(), size)
            unready.rename(path)
        except OSError:
            unready.unlink(missing_ok=True)
            file.close()
            raise
        self._file = file
        return mapped


def read_series(raw: bytes) -> Iterator[tuple[SeriesName, list[float]]]:
    """Give the series of a file's content; what this version does not know or cannot read is left out."""
    if len(raw) < _HEAD.size:
        return
    magic, used = _HEAD.unpack_from(raw)
    if magic != _MAGIC:
        return
    at, end = _HEAD.size, min(used, len(raw))
    while at + _ENTRY.size <= end:
        length, name_length, count = _ENTRY.unpack_from(raw, at)
        start = at + _ENTRY.size
        if length < _ENTRY.size or at + length > end:
            return
        try:
            family, labels = msgspec.json.decode(raw[start : start + name_length], type=SeriesName)
        except msgspec.DecodeError:
            return
        known = FAMILIES.get(family)
        if known is not None and known.n_values == count and len(known.labels) == len(labels):
            yield (family, labels), list(struct.unpack_from(f"<{count}d", raw, start + name_length))
        at += length
