"""Equal requests that are in flight at the same time share one call upstream.

The call runs in a task of its own, so that it outlives the client that was first as long as others wait for its reply;
when the last one leaves, it is cancelled. Everybody gets all of the reply's bytes, whenever they came. The surprise: the
fastest reader sets the pace, and one that falls far behind is left behind rather than holding up the others.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from penstock.base.errors import PenstockError
from penstock.gateway.errors import BrokenStream
from penstock.gateway.http import Send

AHEAD_BYTES = 1024 * 1024
"""How far the reply may run ahead of its fastest reader."""
BEHIND_BYTES = 16 * 1024 * 1024
"""How far a reader may fall behind before it is given up."""


class Flight:
    """One call upstream and those who wait for its reply."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        """What the call ended with, if it could not begin to reply."""
        self._messages: list[dict[str, Any]] = []
        self._total = 0
        self._readers: dict[object, int] = {}
        self._is_over = False
        self._is_left = False
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._when_over: list[Callable[[], None]] = []

    @property
    def is_open(self) -> bool:
        """Whether one may still join: the call goes on and is not being given up."""
        return not self._is_over and not self._is_left

    @property
    def n_readers(self) -> int:
        """How many wait for the reply."""
        return len(self._readers)

    def begin(self, fly: Callable[[Send], Awaitable[None]], when_over: Callable[[], None]) -> None:
        """Start the call; `fly` gets where to send the reply. `when_over` is called at the very end."""
        self._when_over.append(when_over)
        self._task = asyncio.create_task(self._run(fly), name="shared-call")

    def call_when_over(self, action: Callable[[], None]) -> None:
        """Have `action` called when the call has ended, at once if it has."""
        if self._is_over:
            action()
        else:
            self._when_over.append(action)

    async def follow(self, send: Send, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Send the whole reply; `change` makes the head this reader's own. Raises what the call was refused with.

        Cancelled, it leaves; if nobody else is there, the call upstream is cancelled too.
        """
        me = object()
        self._readers[me] = 0
        number = 0
        try:
            while True:
                while number < len(self._messages):
                    message = self._messages[number]
                    number += 1
                    await send(change(message) if message["type"] == "http.response.start" else message)
                    self._readers[me] += len(message.get("body", b""))
                    self._wake()
                    if self._total - self._readers[me] > BEHIND_BYTES:
                        raise BrokenStream("The reply was read too slowly.", hint="Send the request again.")
                if self._is_over:
                    break
                await self._moved.wait()
        except asyncio.CancelledError:
            await self._leave(me)
            raise
        finally:
            self._readers.pop(me, None)
        if self.failure is not None:
            raise self.failure

    async def _leave(self, me: object) -> None:
        self._readers.pop(me, None)
        self._wake()
        if not self._readers and self._task is not None and not self._is_over:
            self._is_left = True
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, fly: Callable[[Send], Awaitable[None]]) -> None:
        try:
            await fly(self._take)
        except PenstockError as error:
            self.failure = error
        except asyncio.CancelledError:
            self.failure = BrokenStream("The call that this one shared was cancelled.", hint="Send it again.")
            raise
        except (
            Exception
        ) as error:  # the edge of this task: whoever waits must hear of it, and does so as a bug
            self.failure = error
        finally:
            self._is_over = True
            self._wake()
            for action in self._when_over:
                action()

    async def _take(self, message: dict[str, Any]) -> None:
        self._messages.append(message)
        self._total += len(message.get("body", b""))
        self._wake()
        while self._readers and self._total - max(self._readers.values()) > AHEAD_BYTES:
            await self._moved.wait()

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
