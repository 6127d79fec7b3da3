"""An exchange that answers from a script, a clock that only moves when somebody sleeps, and calls to use them with."""

import asyncio
import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from penstock.base.errors import UpstreamError
from penstock.dialects.port import Envelope
from penstock.gateway.answers import Answer, AttemptFailed
from penstock.gateway.asking import Asking
from penstock.gateway.attempts import Attempts
from penstock.gateway.calls import AttemptRecord, Call
from penstock.gateway.endpoints import CALLS
from penstock.gateway.health import HealthBoard
from penstock.gateway.table import ReadyTarget, Table
from penstock.spec.routes import FaultKind, Provider, Route, Target
from penstock.spec.snapshot import Snapshot


class Clock:
    """Time that passes only while everybody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """What the code under test sleeps with."""
        self.slept.append(seconds)
        await self.wait(seconds)

    async def wait(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self.now + seconds, next(self._numbers), future))
        await future

    async def run(self, work: Any) -> Any:
        """Await `work`, moving time on whenever nothing else can happen."""
        task = asyncio.ensure_future(work)
        while not task.done():
            for _ in range(12):
                await asyncio.sleep(0)
            if not task.done() and self._waiting:
                self.now = max(self.now, self._waiting[0][0])
                while self._waiting and self._waiting[0][0] <= self.now:
                    future = heapq.heappop(self._waiting)[2]
                    if not future.done():
                        future.set_result(None)
        return task.result()


@dataclass
class Step:
    """What one attempt does: after `takes_s`, an answer, or a failure with `fault` (or None: the caller's)."""

    takes_s: float = 0.0
    ok: bool = True
    fault: FaultKind | None = None
    retry_after_s: float | None = None
    status: int | None = None
    error: Exception | None = None


def fails(fault: FaultKind | None, **more: Any) -> Step:
    return Step(ok=False, fault=fault, **more)


class ScriptedAnswer(Answer):
    """Counts its releases."""

    n_releases = 0

    def release(self) -> None:
        self.n_releases += 1
        super().release()


@dataclass
class ScriptedExchange:
    """Answers each target's attempts from its script, the last step for ever."""

    clock: Clock
    scripts: dict[str, list[Step]] = field(default_factory=lambda: defaultdict(lambda: [Step()]))
    asked: list[tuple[float, str]] = field(default_factory=list)
    answers: list[ScriptedAnswer] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    n_running: int = 0
    body: bytes = b"{}"
    on_attempt: Callable[[Call], None] = lambda _call: None

    @property
    def names(self) -> list[str]:
        return [name for _, name in self.asked]

    async def attempt(self, call: Call, target: ReadyTarget, deadline: float) -> Answer:
        assert deadline > self.clock.now
        name = target.provider.name
        step_number = min(self.names.count(name), len(self.scripts[name]) - 1)
        step = self.scripts[name][step_number]
        self.asked.append((self.clock.now, name))
        self.deadlines.append(deadline)
        record = AttemptRecord(target)
        record.sent_ns = 1
        call.attempt_log.append(record)
        call.attempts += 1
        call.target = target
        self.on_attempt(call)
        self.n_running += 1
        try:
            if step.takes_s:
                left_s = deadline - self.clock.now
                await self.clock.wait(min(step.takes_s, left_s))
                if step.takes_s >= left_s:
                    raise self._failure(target, fails("timeout"), record)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            record.outcome = "abandoned"
            raise
        finally:
            self.n_running -= 1
        if step.error is not None:
            raise step.error
        if not step.ok:
            raise self._failure(target, step, record)
        record.outcome = "served"
        answer = ScriptedAnswer(target, status=200, record=record, body=self.body)
        self.answers.append(answer)
        return answer

    def _failure(self, target: ReadyTarget, step: Step, record: AttemptRecord) -> AttemptFailed:
        record.outcome = "failed"
        told = Answer(target, status=step.status, body=b"told") if step.status is not None else None
        return AttemptFailed(
            UpstreamError(f"{target.provider.name} failed: {step.fault}"),
            fault=step.fault,
            retry_after_s=step.retry_after_s,
            answer=told,
            was_sent=step.fault != "connect",
        )


class Scene:
    """Attempts over a table made from routes, with a provider for each name that a target has."""

    def __init__(self, *routes: Route, scripts: dict[str, list[Step]] | None = None, seed: int = 0) -> None:
        self.clock = Clock()
        self.exchange = ScriptedExchange(self.clock)
        self.exchange.scripts.update(scripts or {})
        names = {
            target.provider
            for route in routes
            for targets in (route.targets, *(pin.targets for pin in route.pins))
            for target in targets
        }
        providers = tuple(
            Provider(name=name, base_url=f"http://{name}.test/v1", auth="none") for name in sorted(names)
        )
        self.table = Table(
            Snapshot(digest="d", written_ns=0, providers=providers, routes=routes),
            environ={},
            internal_key=None,
        )
        self.health = HealthBoard(monotonic=self.clock)
        self.attempts = Attempts(
            Asking(
                self.exchange,
                self.health,
                rng=random.Random(seed),
                sleep=self.clock.sleep,
                monotonic=self.clock,
                now_s=lambda: 1_795_248_000.0,  # 2026-11-21
            )
        )

    def call(self, model: str = "r", **envelope: Any) -> Call:
        call = Call(CALLS["/v1/chat/completions"], None)
        call.envelope = Envelope(model=model, **envelope)
        found = self.table.find_route(model)
        assert found is not None
        call.route = found[1]
        return call

    async def ask(self, call: Call | None = None) -> Answer:
        answer: Answer = await self.clock.run(self.attempts.find_answer(call or self.call()))
        return answer

    async def ask_and_release(self, call: Call | None = None) -> str:
        """Return the name of the provider that answered."""
        answer = await self.ask(call)
        answer.release()
        return answer.target.provider.name

    def in_flight(self) -> float:
        return sum(target.in_flight for target in self.health._targets.values())


def targets(*names: str, **more: Any) -> tuple[Target, ...]:
    return tuple(Target(provider=name, model="m", **more) for name in names)
