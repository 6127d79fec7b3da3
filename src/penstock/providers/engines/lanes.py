"""A lane carries the calls of one model from the event loop to its engine's threads and back.

Text comes back through a pump: the engine's thread appends, the loop takes all that has gathered. The first piece
is taken at once; after that the loop looks at most every 4 ms, because a small model makes a token in less time
than waking the loop costs. Waiting is bounded, and a call that was given up never starts.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from penstock.providers.engines.errors import EngineBusy

Outcome = TypeVar("Outcome")
PAUSE_S = 0.004


class TextPump:
    """Hands pieces of text from an engine's thread to the event loop, in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pieces: deque[str] = deque()
        self._event = asyncio.Event()
        self._is_woken = False
        self.is_cancelled = False
        """Set by the loop; the engine stops at its next token."""

    def put(self, text: str) -> bool:
        """Append a piece (from any one thread) and return whether to stop."""
        self._pieces.append(text)
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._event.set)
        return self.is_cancelled

    async def drain(
        self, job: "asyncio.Future[Outcome]", *, pause_s: float = PAUSE_S
    ) -> AsyncIterator[list[str]]:
        """Yield what has gathered, until `job` is done and all is taken; never two batches within `pause_s`."""
        job.add_done_callback(lambda _: self._event.set())
        while True:
            await self._event.wait()
            self._event.clear()
            is_done = job.done()  # looked at before taking: nothing comes after it is done
            pieces = []
            while self._pieces:
                pieces.append(self._pieces.popleft())
            if pieces:
                yield pieces
            if is_done:
                return
            await asyncio.wait((job,), timeout=pause_s)
            # from here on the next piece wakes the loop; one that came during the pause is waiting already
            self._is_woken = False
            if self._pieces:
                self._event.set()


class Lane:
    """Runs blocking calls of one model on `n_slots` threads; at most `max_waiting` more may wait."""

    def __init__(self, name: str, *, n_slots: int, max_waiting: int) -> None:
        self._name = name
        self.n_slots = n_slots
        self._limit = n_slots + max_waiting
        self._n_inside = 0
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max_workers=n_slots, thread_name_prefix=f"engine-{name}")

    @property
    def n_inside(self) -> int:
        """Calls running or waiting."""
        return self._n_inside

    def submit(self, work: Callable[[], Outcome]) -> "asyncio.Future[Outcome]":
        """Start `work` when a thread is free. Raises `EngineBusy` at once when too many wait."""
        with self._lock:
            if self._n_inside >= self._limit:
                raise EngineBusy(
                    f"{self._n_inside} calls run or wait for {self._name}; no more are taken.",
                    hint="Try again in a moment, or send fewer at a time.",
                )
            self._n_inside += 1
        job = asyncio.get_running_loop().run_in_executor(self._threads, work)
        job.add_done_callback(self._leave)
        return job

    def _leave(self, _: object) -> None:
        with self._lock:
            self._n_inside -= 1

    def close(self) -> None:
        """Wait for the running calls and end the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)
