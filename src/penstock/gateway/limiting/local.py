"""Counters of this machine that always answer: its file, or the worker's memory while the file cannot be written."""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from penstock.gateway.limiting.memory import MemoryCounters
from penstock.store.counters import Adjustment, Ask, Counter, Taken
from penstock.store.errors import CountersUnreadable

_log = logging.getLogger("penstock.gateway")
_PURGE_EVERY_S = 600.0


class Counters(Protocol):
    """What the limiter needs of the counters of a machine; `store.counters.CounterStore` is one."""

    def reserve(self, asks: Sequence[Ask]) -> list[Taken]:
        """Count all asks in one atomic step, or none."""
        ...

    def adjust(self, adjustments: Sequence[Adjustment]) -> None:
        """Add to windows that are not over."""
        ...

    def list_counters(self, prefix: str = "") -> list[Counter]:
        """Return the counters whose key begins with `prefix`."""
        ...

    def purge(self, now_s: int) -> int:
        """Remove some of the counters whose window has ended."""
        ...


class LocalCounters:
    """Never raises for the state of the disk: limits then hold for each worker by itself, which is said."""

    def __init__(self, counters: Counters, *, now_s: Callable[[], float]) -> None:
        self.problem: str | None = None
        """Why the file is not used, while it is not."""
        self._file = counters
        self._memory = MemoryCounters()
        self._now_s = now_s
        self._purge_at = 0.0

    def reserve(self, asks: Sequence[Ask]) -> list[Taken]:
        """Count all asks (of distinct keys) in one atomic step, or none of them if one does not fit its limit."""
        try:
            self._purge()
            taken = self._file.reserve(asks)
        except CountersUnreadable as error:
            self._note(error)
            return self._memory.reserve(asks)
        if self.problem is not None:
            self.problem = None
            _log.info("the counters can be written again")
        return taken

    def adjust(self, adjustments: Sequence[Adjustment]) -> None:
        """Add each amount to its window, where that is not over."""
        try:
            self._file.adjust(adjustments)
        except CountersUnreadable as error:
            self._note(error)
            self._memory.adjust(adjustments)

    def list_counters(self, prefix: str) -> list[Counter]:
        """Return the counters whose key begins with `prefix`."""
        try:
            return self._file.list_counters(prefix)
        except CountersUnreadable as error:
            self._note(error)
            return []

    def _purge(self) -> None:
        # a clock set far ahead by mistake must not end this month's budget, so what has just ended stays for a day
        now_s = self._now_s()
        if now_s >= self._purge_at:
            self._purge_at = now_s + _PURGE_EVERY_S
            self._file.purge(int(now_s) - 86_400)

    def _note(self, error: CountersUnreadable) -> None:
        if self.problem is None:
            _log.error(
                "the counters cannot be written, each worker counts by itself",
                extra={"reason": error.message},
            )
        self.problem = "The counters cannot be written; limits hold for each worker by itself."
