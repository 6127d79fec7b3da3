"""What clients do beside asking: they send slowly, and they leave."""

import asyncio

from penstock.gateway.calls import Call
from penstock.gateway.http import Receive

WATCH_AFTER_S = 0.02
"""Whether a client has left is watched from then on: most calls are over by then, and a task per call is not free."""


class Departure:
    """Cancels the call's task when the client leaves, unless the call is to be read to its end all the same."""

    __slots__ = ("_call", "_receive", "_task", "_watch", "_watcher", "keeps_going")

    def __init__(self, receive: Receive, call: Call, watch: "DepartureWatch") -> None:
        self.keeps_going = False
        """Set where the route wants replies to be read to their end although nobody waits for them."""
        self._call = call
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self._task = asyncio.current_task(watch.loop)
        self._watch = watch
        watch.add(self)

    def close(self) -> None:
        """Stop watching."""
        self._task = None
        if self._watcher is not None:
            self._watcher.cancel()
        else:
            self._watch.remove(self)

    def begin(self) -> None:
        """Start to watch."""
        self._watcher = asyncio.create_task(self._wait(), name="client-watch")

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._task is not None:
            self._call.client_left = True
            if not self.keeps_going:
                self._task.cancel()


class DepartureWatch:
    """Begins to watch the clients of calls that have lasted for a while, and at most twice as long.

    One timer serves all calls, and no clock is looked at for each: calls that it finds again are no longer new.
    """

    def __init__(self, after_s: float = WATCH_AFTER_S) -> None:
        self._after_s = after_s
        self._new: dict[Departure, None] = {}
        self._known: dict[Departure, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The one that all calls run on. Asking for it each time costs a call to the kernel."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def add(self, departure: Departure) -> None:
        """Take a new call."""
        self._new[departure] = None
        if self._timer is None:
            self._timer = self.loop.call_later(self._after_s, self._sweep)

    def remove(self, departure: Departure) -> None:
        """Forget a call that is over."""
        if departure in self._new:
            del self._new[departure]
        else:
            self._known.pop(departure, None)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        lasting, self._known, self._new = self._known, self._new, {}
        for departure in lasting:
            departure.begin()
        self._timer = self.loop.call_later(self._after_s, self._sweep) if self._known else None


class Uploads:
    """Cancels the tasks whose body does not arrive in time. One timer serves all: one for each call is not free."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._end_at: dict[asyncio.Task[None], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: asyncio.Task[None]) -> None:
        """Start the time of a task that reads a body."""
        loop = asyncio.get_running_loop()
        self._end_at[task] = loop.time() + self.limit_s
        if self._timer is None:
            self._timer = loop.call_later(self.limit_s, self._sweep)

    def is_over(self, task: asyncio.Task[None]) -> bool:
        """Return whether the task was cancelled because its time was over."""
        return task not in self._end_at

    def end(self, task: asyncio.Task[None]) -> None:
        """Say that the body is there."""
        self._end_at.pop(task, None)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        now = loop.time()
        for task in [task for task, end_at in self._end_at.items() if end_at <= now]:
            del self._end_at[task]
            task.cancel()
        if self._end_at:
            self._timer = loop.call_at(next(iter(self._end_at.values())), self._sweep)
