"""One writer at a time for a knowledge base, over threads, processes and, on PostgreSQL, machines.

A lock ends with the process that holds it, however it ends: an operating system's file lock, and an advisory lock
on a connection of its own where the control tables lie in PostgreSQL. Two kinds: `contents` is held for as long as
an ingest or a build takes; `tracks` for the moment in which something goes live, so that a rollback never waits
for an ingest.
"""

import fcntl
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine, text

LockKind = Literal["contents", "tracks"]
LOOK_EVERY_S = 0.05


class BaseLocks:
    """Locks of bases, by name. A thread that holds a lock must not ask for the same one again."""

    def __init__(self, engine: Engine, root: Path, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._engine = engine
        self._root = root
        self._sleep = sleep

    @contextmanager
    def hold(
        self, base: str, kind: LockKind, *, while_waiting: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Wait for the lock and hold it; `while_waiting` is called now and then and may raise."""
        folder = self._root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        # The file stays: who removed it could take a lock on a name that another one has open.
        descriptor = os.open(folder / f"{base}.{kind}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not _take(descriptor):
                while_waiting()
                self._sleep(LOOK_EVERY_S)
            with self._hold_remote(f"penstock knowledge {kind} {base}", while_waiting):
                yield
        finally:
            os.close(descriptor)  # which lets go of the lock

    @contextmanager
    def share_blobs(self) -> Iterator[None]:
        """Hold blobs back from deletion: what was written, or found to be there, stays until it is referred to."""
        with self._blob_lock(fcntl.LOCK_SH):
            yield

    @contextmanager
    def hold_blobs_alone(self) -> Iterator[bool]:
        """Yield whether nobody holds blobs back now; nobody can until the end then."""
        with self._blob_lock(fcntl.LOCK_EX | fcntl.LOCK_NB) as is_held:
            yield is_held

    @contextmanager
    def _blob_lock(self, operation: int) -> Iterator[bool]:
        folder = self._root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "blobs", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, operation)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)

    @contextmanager
    def _hold_remote(self, name: str, while_waiting: Callable[[], None]) -> Iterator[None]:
        if self._engine.dialect.name != "postgresql":
            yield
            return
        key = {"key": zlib.crc32(name.encode()) - 2**31}
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not connection.execute(
                text("SELECT pg_try_advisory_lock(4602, CAST(:key AS integer))"), key
            ).scalar():
                while_waiting()
                self._sleep(LOOK_EVERY_S)
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(4602, CAST(:key AS integer))"), key)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
