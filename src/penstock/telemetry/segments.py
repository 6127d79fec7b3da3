"""Segment files and the folder lock: what writer and reader of a spool folder share.

A failed write never leaves its segment open: the torn tail is cut off and the next write begins a new
segment, so that bytes a reader has seen never change under it.
"""

import errno
import fcntl
import os
import re
from collections.abc import Sequence
from pathlib import Path

from penstock.base.files import sync_directory
from penstock.telemetry.frames import HEAD_BYTES, MAGIC, encode_head

LOCK_NAME = "writer.lock"
POSITION_NAME = "reader.json"
_SEGMENT_NAME = re.compile(r"seg-(\d{10})\.log")


def is_spool_file(path: Path) -> bool:
    """Return whether `path` is one of the files that a spool folder is made of."""
    return bool(_SEGMENT_NAME.fullmatch(path.name)) or path.name.startswith((LOCK_NAME, POSITION_NAME))


def list_segments(folder: Path) -> list[tuple[int, Path]]:
    """Return (number, path) of the segments in `folder`, oldest first."""
    found = [(_SEGMENT_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((int(match[1]), path) for match, path in found if match)


class SegmentAppender:
    """The open end of a spool folder."""

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        numbers = [number for number, _ in list_segments(folder)]
        self._next = max(numbers, default=0) + 1
        self._path = folder
        self._descriptor: int | None = None
        self._size = 0

    @property
    def end(self) -> tuple[int, int]:
        """Number of the open segment and the offset behind what was written last."""
        return self._next - 1, self._size

    def write(self, payloads: Sequence[bytes]) -> None:
        """Append a record of each and return once they are on disk; raise `OSError` if one of them may not be."""
        group: list[bytes] = []
        size = 0
        for payload in payloads:
            n_bytes = HEAD_BYTES + len(payload)
            if group and size + n_bytes > self._limit_bytes:
                self._write_group(b"".join(group))
                group, size = [], 0
            group.append(encode_head(payload))
            group.append(payload)
            size += n_bytes
        if group:
            self._write_group(b"".join(group))

    def _write_group(self, data: bytes) -> None:
        if self._descriptor is None or self._size + len(data) > self._limit_bytes:
            self._open_next()
        assert self._descriptor is not None
        try:
            written = 0
            while written < len(data):
                count = os.write(self._descriptor, data[written:] if written else data)
                if count == 0:
                    raise OSError(errno.EIO, "the disk took no bytes")
                written += count
            os.fdatasync(self._descriptor)
        except OSError:
            self._give_up()
            raise
        self._size += len(data)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open_next(self) -> None:
        self.close()
        self._path = self._folder / f"seg-{self._next:010d}.log"
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._next += 1
        self._size = 0
        try:
            os.write(self._descriptor, MAGIC)
            self._size = len(MAGIC)
            sync_directory(self._folder)
        except OSError:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Cut the torn tail and leave the segment for good, since a reader may have seen its bytes."""
        assert self._descriptor is not None
        try:
            if self._size <= len(MAGIC):
                self._path.unlink(missing_ok=True)
            else:
                os.ftruncate(self._descriptor, self._size)
        except OSError:
            pass  # a torn tail is harmless: readers step over it
        self.close()


class FolderLock:
    """An `flock` that is known to be on the file that the path still names."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, folder: Path) -> "FolderLock | None":
        """Return the lock of `folder`, or None when somebody holds it or the folder was just removed."""
        path = folder / LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return cls(descriptor)
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        return None

    def close(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)
