"""Waits for the traces of calls: cost, versions and what was retrieved are read from them once they are stored."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from penstock.evals.ports import TraceFact, TraceFacts

POLL_S = 0.25
PATIENCE_S = 20.0
"""A trace usually arrives within a second; after this its facts stay unknown."""
_BATCH = 200
_log = logging.getLogger("penstock.evals")


class TraceFollower:
    """Looks for the traces of many calls at once. For one event loop; without `facts` nothing is ever known."""

    def __init__(
        self,
        facts: TraceFacts | None,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._facts = facts
        self._clock = clock
        self._sleep = sleep
        self._patience_s = patience_s
        self._waiting: dict[str, tuple[float, asyncio.Future[TraceFact | None]]] = {}
        self._task: asyncio.Task[None] | None = None

    def follow(self, trace_id: str | None) -> "asyncio.Future[TraceFact | None]":
        """Return what will hold the facts of this trace, or None when it has not come in time."""
        loop = asyncio.get_running_loop()
        if trace_id is None or self._facts is None:
            known: asyncio.Future[TraceFact | None] = loop.create_future()
            known.set_result(None)
            return known
        if trace_id not in self._waiting:
            self._waiting[trace_id] = (self._clock() + self._patience_s, loop.create_future())
            if self._task is None or self._task.done():
                self._task = loop.create_task(self._look())
        return self._waiting[trace_id][1]

    async def close(self) -> None:
        """Stop looking; whatever has not come stays unknown."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for _, future in self._waiting.values():
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def _look(self) -> None:
        assert self._facts is not None
        while self._waiting:
            wanted = list(self._waiting)[:_BATCH]
            try:
                found = await asyncio.to_thread(self._facts.find, wanted)
            except (
                Exception
            ) as error:  # the edge of a task: calls wait for what it finds, and time goes on without
                _log.warning("traces of an evaluation cannot be read", extra={"reason": str(error)})
                found = {}
            now = self._clock()
            for trace_id in wanted:
                until, future = self._waiting[trace_id]
                if trace_id not in found and now < until:
                    self._waiting[trace_id] = self._waiting.pop(trace_id)  # behind those not looked for yet
                    continue
                del self._waiting[trace_id]
                if not future.done():
                    future.set_result(found.get(trace_id))
            if self._waiting:
                await self._sleep(POLL_S)
