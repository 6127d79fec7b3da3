"""How many calls go out at once: one limit for targets and judges alike, which gives way when a provider asks for it.

Additive increase, multiplicative decrease: a call that was told to slow down cuts the limit to 0.8 of it, at most once for all
calls that were under way together; each success lets it grow by one per round. Failures of the provider's own (5xx) say
nothing about pace and change nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

CUT = 0.8
MAX_WAIT_S = 120.0
"""Longest pause that a provider may ask for in one go."""


class Pace:
    """A limit on calls under way. For one event loop."""

    def __init__(
        self,
        most: int,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """At most `most` calls at once; `clock` gives seconds that only grow."""
        self._most = max(1, most)
        self._limit = float(self._most)
        self._clock = clock
        self._sleep = sleep
        self._under_way = 0
        self._changed = asyncio.Condition()
        self._cut_at = float("-inf")
        self._open_at = float("-inf")

    @property
    def limit(self) -> int:
        """How many calls may be under way now."""
        return max(1, int(self._limit))

    @property
    def under_way(self) -> int:
        """How many are."""
        return self._under_way

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Wait for a place and hold it; yields when the call began, for `slow_down`."""
        async with self._changed:
            while True:
                await self._changed.wait_for(lambda: self._under_way < self.limit)
                wait_s = self._open_at - self._clock()
                if wait_s <= 0:
                    break
                self._changed.release()
                try:
                    await self._sleep(wait_s)
                finally:
                    await self._changed.acquire()
            self._under_way += 1
        try:
            yield self._clock()
        finally:
            self._under_way -= 1
            async with self._changed:
                self._changed.notify_all()

    def succeeded(self) -> None:
        """A call went well: the limit may grow."""
        self._limit = min(float(self._most), self._limit + 1.0 / self._limit)

    def slow_down(self, began: float, retry_after_s: float | None) -> float:
        """A call that began then was told to slow down; return how long its next attempt should wait.

        Calls that went out before the last cut say nothing new: together they cut once.
        """
        now = self._clock()
        if began >= self._cut_at:
            self._limit = max(1.0, self._limit * CUT)
            self._cut_at = now
        wait_s = min(MAX_WAIT_S, retry_after_s if retry_after_s is not None else 1.0)
        self._open_at = max(self._open_at, now + wait_s)
        return wait_s
