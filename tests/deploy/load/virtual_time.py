"""An event loop whose time passes only when everybody waits, and a target that answers as a script says."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from penstock.deploy.load.mixes import Ask
from penstock.deploy.load.sending import Reply
from penstock.deploy.load.streams import ReplyReader, _Usage


class _NoWait(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self.passed += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Sleeping takes no time at all, and exactly as long as it says."""

    def __init__(self) -> None:
        self._own = _NoWait()
        super().__init__(self._own)

    def time(self) -> float:
        return 1000.0 + self._own.passed

    def stall(self, seconds: float) -> None:
        """Let time pass in which nothing of this loop runs."""
        self._own.passed += seconds


def run_virtual(make: Callable[[Callable[[], float]], Coroutine[Any, Any, Any]]) -> Any:
    """Run `make(clock)` in virtual time and return what it returns."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(make(loop.time))
    finally:
        loop.close()


class Scripted:
    """A sender: `first` seconds to the first token, `each` for any further one, `n_slots` calls at once, others wait.

    `frozen` are moments between which it begins nothing; `stalls` are (after, seconds) for which the sender itself stands still.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        first: float = 0.05,
        each: float = 0.01,
        n_slots: int = 1000,
        tokens: Callable[[str, Ask], int] | None = None,
        slower: dict[str, float] | None = None,
        frozen: tuple[float, float] = (0.0, 0.0),
        fails: Callable[[int], str] = lambda _number: "",
        fails_at: dict[str, Callable[[int], str]] | None = None,
        stalls: Sequence[tuple[float, float]] = (),
    ) -> None:
        self._clock = clock
        self._first, self._each = first, each
        self._slots = asyncio.Semaphore(n_slots)
        self._tokens = tokens or (lambda _target, ask: ask.max_tokens)
        self._slower = slower or {}
        self._frozen = frozen
        self._began = clock()
        self._fails, self._fails_at = fails, fails_at or {}
        loop = asyncio.get_running_loop()
        for after, lasts in stalls:
            assert isinstance(loop, VirtualLoop)
            loop.call_later(after, loop.stall, lasts)
        self.asked: list[tuple[str, Ask, float]] = []
        self.most = 0
        self._open = 0

    async def send(self, target: str, ask: Ask) -> Reply:
        reply = Reply(sent_s=self._clock(), ended_s=0.0, status=200)
        number = len(self.asked)
        self.asked.append((target, ask, self._clock() - self._began))
        self._open += 1
        self.most = max(self.most, self._open)
        try:
            error = self._fails_at.get(target, self._fails)(number)
            if error:
                reply.error, reply.status = error, 500
            else:
                async with self._slots:
                    await self._answer(target, ask, reply.reader)
        finally:
            self._open -= 1
        reply.headers = {"x-penstock-version": f"model:{target}@1", "x-penstock-attempts": "1"}
        reply.ended_s = self._clock()
        return reply

    async def _answer(self, target: str, ask: Ask, reader: ReplyReader) -> None:
        begin, end = self._frozen
        now = self._clock() - self._began
        if begin <= now < end:
            await asyncio.sleep(end - now)
        times = self._slower.get(target, 1.0)
        n_tokens = self._tokens(target, ask)
        words = sum(len(str(each["content"]).split()) for each in ask.messages)
        for number in range(n_tokens):
            await asyncio.sleep(times * (self._first if number == 0 else self._each))
            now = self._clock()
            reader.n_pieces += 1
            if reader.first_s is None:
                reader.first_s = now
            else:
                reader.gaps_ms.append((now - (reader.last_s or now)) * 1000)
            reader.last_s = now
        reader.is_done = True
        reader.usage = _Usage(prompt_tokens=2 * words, completion_tokens=n_tokens)
