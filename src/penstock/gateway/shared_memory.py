"""Numbers that all gateway workers of a machine see: a mapped file in `HOME/run`, one section for each worker.

A worker holds the lock of its section as long as it lives (the kernel gives it back when it dies), writes only there,
and reads all sections; the little that all of them write lies in a part of its own. The whole file is written once when
it is made, because touching a hole of a mapped file kills the process when the disk is full. The first worker of an
instance begins with zeroes. Without a file (tests, no disk) the memory is private and everything else is the same.
"""

import contextlib
import fcntl
import logging
import mmap
import os
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_log = logging.getLogger("penstock.gateway")

N_SECTIONS = 32
WORD_BYTES = 8
_RETRIES = 50


class SharedMemory:
    """`n_common` words for all, then `N_SECTIONS` sections of `n_own` words, as floats and (the same words) integers."""

    def __init__(self, folder: Path | None, *, n_common: int, n_own: int) -> None:
        """Use `folder`, or private memory if it is None or cannot be used, which is logged."""
        self.n_common = n_common
        self.n_own = n_own
        self.section = 0
        self.is_shared = False
        self._own_lock: IO[bytes] | None = None
        self._common_lock: IO[bytes] | None = None
        self._map = self._share_or_say_why_not(folder) if folder is not None else None
        if self._map is None:
            view = memoryview(array("d", bytes(WORD_BYTES * (n_common + n_own)))).cast("B")
        else:
            view = memoryview(self._map)
        self.floats: memoryview[float] = view.cast("d")
        self.words: memoryview[int] = view.cast("Q")
        self.own_start = n_common + self.section * n_own

    def section_starts(self) -> range:
        """Return where the sections begin, of living workers and of dead ones alike."""
        count = N_SECTIONS if self.is_shared else 1
        return range(self.n_common, self.n_common + count * self.n_own, self.n_own)

    @contextlib.contextmanager
    def try_lock(self) -> Iterator[bool]:
        """Hold the lock of the common part inside; gives False, without waiting, while somebody else has it."""
        if self._common_lock is None:
            yield True
            return
        has_it = _try_flock(self._common_lock)
        try:
            yield has_it
        finally:
            if has_it:
                fcntl.flock(self._common_lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the section back."""
        self.floats.release()
        self.words.release()
        if self._map is not None:
            with contextlib.suppress(BufferError):  # somebody still holds a view; it ends with the process
                self._map.close()
        for lock in (self._own_lock, self._common_lock):
            if lock is not None:
                lock.close()

    def _share_or_say_why_not(self, folder: Path) -> mmap.mmap | None:
        try:
            return self._share(folder)
        except OSError as error:
            _log.warning("workers do not share the health of targets", extra={"reason": str(error)})
            return None

    def _share(self, folder: Path) -> mmap.mmap:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        common: IO[bytes] = (folder / "lock").open("ab")
        locks: list[IO[bytes]] = []
        try:
            _flock_soon(common)
            free = []
            for number in range(N_SECTIONS):
                lock: IO[bytes] = (folder / f"worker-{number}.lock").open("ab")
                locks.append(lock)
                if _try_flock(lock):
                    free.append(number)
            if not free:
                raise OSError(f"all {N_SECTIONS} sections are taken")
            self.section = free[0]
            mapped = self._open(folder / "board.bin", is_first=len(free) == N_SECTIONS)
            self._own_lock = locks.pop(free[0])
            self._common_lock = common
            self.is_shared = True
            return mapped
        finally:
            for lock in locks:
                lock.close()
            if self._common_lock is None:
                common.close()
            else:
                fcntl.flock(common, fcntl.LOCK_UN)

    def _open(self, path: Path, *, is_first: bool) -> mmap.mmap:
        size = WORD_BYTES * (self.n_common + N_SECTIONS * self.n_own)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            if is_first or os.fstat(file.fileno()).st_size != size:
                file.truncate(0)
                file.write(bytes(size))
                file.flush()
            mapped = mmap.mmap(file.fileno(), size)
        start = WORD_BYTES * (self.n_common + self.section * self.n_own)
        mapped[start : start + WORD_BYTES * self.n_own] = bytes(WORD_BYTES * self.n_own)
        return mapped


def _try_flock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _flock_soon(file: IO[bytes]) -> None:
    """Take a lock that is only ever held for microseconds; a holder that was stopped must not stop us too."""
    for _ in range(_RETRIES):
        if _try_flock(file):
            return
        time.sleep(0.01)
    raise OSError("the lock is held by a process that does not go on")
