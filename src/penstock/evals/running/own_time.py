"""A time-out of what a task does itself: it stands still while calls wait that have time-outs of their own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Aside:
    """Sets the time of calls aside. For one event loop; calls may be side by side."""

    def __init__(self, limit: asyncio.Timeout, timeout_s: float) -> None:
        self._limit = limit
        self._left_s = timeout_s
        self._clock = asyncio.get_running_loop().time
        self._since = self._clock()
        self._n_calls = 0
        self.is_over = False

    def of(
        self, call: Callable[P, Coroutine[Any, Any, R]] | None
    ) -> Callable[P, Coroutine[Any, Any, R]] | None:
        """Return the call with its time set aside; None as None."""
        if call is None:
            return None
        asked = call

        @wraps(asked)
        async def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            self._pause()
            try:
                return await asked(*args, **kwargs)
            finally:
                self._go_on()

        return timed

    def _pause(self) -> None:
        self._n_calls += 1
        if self._n_calls == 1 and not self._has_ended():
            self._left_s -= self._clock() - self._since
            self._limit.reschedule(None)

    def _go_on(self) -> None:
        self._n_calls -= 1
        if self._n_calls == 0 and not self._has_ended():
            self._since = self._clock()
            self._limit.reschedule(self._since + self._left_s)

    def _has_ended(self) -> bool:
        return self.is_over or self._limit.expired()


@asynccontextmanager
async def own_time(timeout_s: float) -> AsyncIterator[Aside]:
    """Raise `TimeoutError` once the block took longer than that, calls that were set aside not counted."""
    async with asyncio.timeout(timeout_s) as limit:
        aside = Aside(limit, timeout_s)
        try:
            yield aside
        finally:
            aside.is_over = True
