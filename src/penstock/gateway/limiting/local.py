"""Counters of this machine that always answer: its file, or the worker's memory while the file cannot be written."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from penstock.gateway.limiting.memory import MemoryCounters
from penstock.store.counters import Adjustment, Ask, Counter, Taken
from penstock.store.errors import CountersUnreadable

_log = logging.getLogger("penstock.gateway")
_PURGE_EVERY_S = 600.0
SETTLE_WITHIN_S = 0.02


class Counters(Protocol):
    """What the limiter needs of the counters of a machine; `store.counters.CounterStore` is one."""

    def reserve_each(
        self, calls: Sequence[Sequence[Ask]], before: Sequence[Adjustment] = ()
    ) -> list[list[Taken]]:
        """Count all asks of a call in one atomic step, or none, for one call after the other; adjust `before` that."""
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
        self._owed: dict[tuple[str, int], int] = {}
        self._waiting: list[tuple[Sequence[Ask], asyncio.Future[list[Taken]]]] = []
        """What has been asked for in this turn of the event loop."""
        self._timer: asyncio.TimerHandle | None = None

    def reserve(self, asks: Sequence[Ask]) -> list[Taken]:
        """Count all asks (of distinct keys) in one atomic step, or none of them if one does not fit its limit."""
        return self._reserve_each([asks])[0]

    async def reserve_soon(self, asks: Sequence[Ask]) -> list[Taken]:
        """The same, in one transaction with the calls that came in the same turn of the event loop.

        A transaction costs more than all else that limits need, and under load many calls come in one turn.
        """
        loop = asyncio.get_running_loop()
        counting: asyncio.Future[list[Taken]] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._reserve_waiting)
        self._waiting.append((asks, counting))
        try:
            return await counting
        except asyncio.CancelledError:
            if counting.done() and not counting.cancelled():  # counted for a call that is not going to be
                self.adjust(
                    [
                        Adjustment(ask.key, -one.taken, one.window_end_s)
                        for ask, one in zip(asks, counting.result(), strict=True)
                        if one.taken
                    ]
                )
            raise

    def _reserve_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        calls = [(asks, counting) for asks, counting in waiting if not counting.cancelled()]
        try:
            told = self._reserve_each([asks for asks, _ in calls])
        except Exception as error:  # nobody else would tell those who wait
            for _, counting in calls:
                counting.set_exception(error)
            return
        for (_, counting), taken in zip(calls, told, strict=True):
            counting.set_result(taken)

    def _reserve_each(self, calls: Sequence[Sequence[Ask]]) -> list[list[Taken]]:
        owed = self._take_owed() if self._owed else ()
        try:
            self._purge()
            taken = self._file.reserve_each(calls, owed)
        except CountersUnreadable as error:
            self._note(error)
            self._memory.adjust(owed)
            return [self._memory.reserve(asks) for asks in calls]
        if self.problem is not None:
            self.problem = None
            _log.info("the counters can be written again")
        return taken

    def adjust(self, adjustments: Sequence[Adjustment]) -> None:
        """Add each amount to its window, where that is not over.

        What is given back is written with the next `reserve`, or after `SETTLE_WITHIN_S`: a step of its own for each
        call would cost as much as reserving did. What was used beyond a reservation is written at once, so that a
        worker that is killed never leaves less counted than was used.
        """
        owed = self._owed
        is_more = False
        for one in adjustments:
            place = (one.key, one.window_end_s)
            owed[place] = owed.get(place, 0) + one.amount
            is_more = is_more or one.amount > 0
        if is_more:
            self.settle()
        elif self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(SETTLE_WITHIN_S, self.settle)
            except RuntimeError:  # nobody would wake us
                self.settle()

    def settle(self) -> None:
        """Write what is owed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._owed:
            return
        adjustments = self._take_owed()
        try:
            self._file.adjust(adjustments)
        except CountersUnreadable as error:
            self._note(error)
            self._memory.adjust(adjustments)

    def _take_owed(self) -> list[Adjustment]:
        owed, self._owed = self._owed, {}
        return [Adjustment(key, amount, end_s) for (key, end_s), amount in owed.items() if amount]

    def list_counters(self, prefix: str) -> list[Counter]:
        """Return the counters whose key begins with `prefix`."""
        self.settle()
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
