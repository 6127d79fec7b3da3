"""The spool folder that this very process writes: its records come by memory, and from disk only when they must.

What is acknowledged lies on disk either way. As long as the collector keeps up, a record is stored from the span that was
in hand when it was written and never read back; when more waits than may stay in memory, the rest waits on disk alone
and is read from there, so that a flood costs disk and not memory.
"""

import threading
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from penstock.telemetry.spool import Handed, Position, SpoolReader

MAX_LIVE_BYTES = 32 * 1024 * 1024
"""Of records; the spans they were made from take about three times that."""


class LiveBatch(NamedTuple):
    """Records in the order they were written; those without a value have to be decoded."""

    items: list[Handed]
    position: Position | None
    """To be acknowledged once they are stored; None when there are none."""
    n_bytes: int


class _Group(NamedTuple):
    items: list[Handed]
    position: Position
    n_bytes: int


class LiveFolder:
    """What a `SpoolWriter` hands over, kept for one collector. `take` is the writer's; the rest the collector's."""

    def __init__(self, *, max_bytes: int = MAX_LIVE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._guard = threading.Lock()
        self._groups: deque[_Group] = deque()
        self._live_bytes = 0
        self._is_spilled = False
        self._taken: list[_Group] = []
        self._reader: SpoolReader | None = None
        self._written_bytes = 0
        self._stored_bytes = 0
        self.n_spilled = 0
        """How often more waited than memory may hold."""

    @property
    def folder(self) -> Path | None:
        """The folder, once it is known."""
        return None if self._reader is None else self._reader.folder

    @property
    def waiting_bytes(self) -> int:
        """Bytes of records that are on disk and not stored yet."""
        return max(0, self._written_bytes - self._stored_bytes)

    def watch(self, folder: Path) -> None:
        """Say where the records lie."""
        self._reader = SpoolReader(folder)

    def take(self, records: list[Handed], position: Position) -> None:
        """Take a group that is on disk."""
        size = sum(len(item.record) for item in records)
        with self._guard:
            self._written_bytes += size
            if self._is_spilled:
                return
            if self._live_bytes + size > self._max_bytes and self._groups:
                self._is_spilled = True
                self.n_spilled += 1
                return
            self._groups.append(_Group(records, position, size))
            self._live_bytes += size

    def read(self, *, max_bytes: int) -> LiveBatch:
        """Return the next records, about `max_bytes` at most."""
        with self._guard:
            while self._groups and sum(group.n_bytes for group in self._taken) < max_bytes:
                self._taken.append(self._groups.popleft())
            if self._taken:
                items = [item for group in self._taken for item in group.items]
                return LiveBatch(items, self._taken[-1].position, sum(group.n_bytes for group in self._taken))
            if not self._is_spilled:
                return LiveBatch([], None, 0)
        batch = self._read_disk(max_bytes)
        if batch.position is None:
            with self._guard:
                self._is_spilled = False
            batch = self._read_disk(max_bytes)  # what came between looking and saying so
        return batch

    def ack(self, batch: LiveBatch) -> None:
        """Note that a batch is stored, and let go of it."""
        assert self._reader is not None
        assert batch.position is not None
        self._reader.ack(batch.position)
        with self._guard:
            self._live_bytes -= sum(group.n_bytes for group in self._taken)
            self._taken = []
            self._stored_bytes += batch.n_bytes
            if not self._groups and not self._is_spilled:
                self._stored_bytes = self._written_bytes  # what was read twice is no longer of interest

    def rewind(self) -> None:
        """Give back what was read and not stored."""
        with self._guard:
            self._groups.extendleft(reversed(self._taken))
            self._taken = []
        if self._reader is not None:
            self._reader.rewind()

    def _read_disk(self, max_bytes: int) -> LiveBatch:
        assert self._reader is not None
        batch = self._reader.read(max_bytes=max_bytes)
        if not batch.payloads:
            return LiveBatch([], None, 0)
        nothing: Any = None
        items = [Handed(payload, nothing) for payload in batch.payloads]
        return LiveBatch(items, batch.position, sum(map(len, batch.payloads)))
