"""The spool folder that this very process writes: its records come by memory, and from disk only when they must.

What is acknowledged lies on disk either way. As long as the collector keeps up, a record is stored from the span that was
in hand when it was written and never read back; when more waits than may stay in memory, the rest waits on disk alone
and is read from there, so that a flood costs disk and not memory. Before it comes to that, senders are made to wait for
room a while (`wait_for_room`): reading back costs more than storing from memory.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from penstock.telemetry.spool import Handed, Position, SpoolReader

MAX_LIVE_BYTES = 64 * 1024 * 1024
"""Of records; the spans they were made from take about three times that."""


class LiveBatch(NamedTuple):
    """Records in the order they were written; those without a value have to be decoded."""

    items: list[Handed]
    position: Position | None
    """To be acknowledged once they are stored; None when that is further on than what is to be stored."""
    n_bytes: int


class _Group(NamedTuple):
    items: list[Handed]
    position: Position | None
    """Just behind the last item; None where a part of what was written at once was cut off."""
    n_bytes: int


class LiveFolder:
    """What a `SpoolWriter` hands over, kept for one collector. `take` is the writer's; the rest the collector's."""

    def __init__(
        self, *, max_bytes: int = MAX_LIVE_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._guard = threading.Lock()
        self._has_room = threading.Condition(self._guard)
        self._groups: deque[_Group] = deque()
        self._oldest_at = 0.0
        """When the first of `_groups` came, or the last batch was read."""
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
            if not self._groups:
                self._oldest_at = self._clock()
            self._groups.append(_Group(records, position, size))
            self._live_bytes += size

    def wait_for_room(self, timeout_s: float) -> None:
        """Return once half of what may stay in memory is free, or the time is up; at once while the rest waits on disk."""
        with self._has_room:
            self._has_room.wait_for(
                lambda: self._is_spilled or self._live_bytes <= self._max_bytes // 2, timeout=timeout_s
            )

    def fill_wait_s(self, n_items: int, *, within_s: float) -> float | None:
        """Return after how many seconds `n_items` will wait, as it looks; None where that is no matter of `within_s`.

        That is: they wait already, come too slowly, or nothing waits in memory. Time runs from the oldest.
        """
        with self._guard:
            n_waiting = sum(len(group.items) for group in self._groups)
            if self._is_spilled or not 0 < n_waiting < n_items:
                return None
            age_s = self._clock() - self._oldest_at
            full_at_s = age_s * n_items / n_waiting
            return None if max(full_at_s, age_s) > within_s else max(full_at_s - age_s, 0.01)

    def read(self, *, max_bytes: int, max_items: int | None = None) -> LiveBatch:
        """Return the next records, about `max_bytes`; from memory no more than `max_items`."""
        with self._guard:
            self._take_groups(max_bytes, max_items)
            if self._taken:
                items = [item for group in self._taken for item in group.items]
                ends = [group.position for group in self._taken if group.position is not None]
                return LiveBatch(
                    items, ends[-1] if ends else None, sum(group.n_bytes for group in self._taken)
                )
            if not self._is_spilled:
                return LiveBatch([], None, 0)
        batch = self._read_disk(max_bytes)
        if batch.position is None:
            with self._guard:
                self._is_spilled = False
            batch = self._read_disk(max_bytes)  # what came between looking and saying so
        return batch

    def _take_groups(self, max_bytes: int, max_items: int | None) -> None:
        """Move groups to those taken; one that is larger than what is left is cut in two."""
        n_bytes = sum(group.n_bytes for group in self._taken)
        n_items = sum(len(group.items) for group in self._taken)
        while self._groups and n_bytes < max_bytes and (max_items is None or n_items < max_items):
            group = self._groups.popleft()
            if max_items is not None and n_items + len(group.items) > max_items:
                group, rest = _cut(group, max_items - n_items)
                self._groups.appendleft(rest)
            self._taken.append(group)
            n_bytes, n_items = n_bytes + group.n_bytes, n_items + len(group.items)
        self._oldest_at = self._clock()

    def ack(self, batch: LiveBatch) -> None:
        """Note that a batch is stored, and let go of it."""
        assert self._reader is not None
        if batch.position is not None:
            self._reader.ack(batch.position)
        with self._has_room:
            self._live_bytes -= sum(group.n_bytes for group in self._taken)
            self._taken = []
            self._stored_bytes += batch.n_bytes
            if not self._groups and not self._is_spilled:
                self._stored_bytes = self._written_bytes  # what was read twice is no longer of interest
            self._has_room.notify_all()

    def rewind(self) -> None:
        """Give back what was read and not stored."""
        with self._has_room:
            self._groups.extendleft(reversed(self._taken))
            self._oldest_at = -math.inf  # it has waited long enough to be tried
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


def _cut(group: _Group, n_items: int) -> tuple[_Group, _Group]:
    """Return the first items of a group, which end nowhere that could be acknowledged, and the others."""
    first = group.items[:n_items]
    n_bytes = sum(len(item.record) for item in first)
    return (
        _Group(first, None, n_bytes),
        _Group(group.items[n_items:], group.position, group.n_bytes - n_bytes),
    )
