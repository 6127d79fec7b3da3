"""Sends the calls of a stage when they are due, whatever becomes of those before them.

Two delays are told apart: `late_s`, by which the sender itself woke too late (its own fault, and a reason to distrust the
test), and the wait for a free place when `max_in_flight` calls are open (the server's fault; it counts as latency, because
the call was due). A closed loop has no moments that are due: there a call is due when the one before it has ended.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import msgspec

from penstock.deploy.load.arrivals import draw_arrivals
from penstock.deploy.load.gap_buckets import count_gaps
from penstock.deploy.load.mixes import START_WORDS_PER_TOKEN, Ask, Mix
from penstock.deploy.load.sending import Reply, Sender
from penstock.deploy.load.types import LoadSpec, Sample, Shape

WARMUP_STAGE = -1
STOP_GRACE_S = 5.0
"""What calls that are open get to end when the test is stopped."""
LAG_EVERY_S = 0.02
HEAR_EVERY_S = 0.5
OVER_BUDGET = "the cost cap is reached"


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One stage that is to be run."""

    number: int
    target: str
    shape: Shape
    block: int
    """Moments and prompts are drawn from it: stages of one block are asked alike."""
    seconds: float | None = None
    requests: int | None = None


@dataclass(kw_only=True)
class StageRun:
    """What a stage came to."""

    plan: StagePlan
    samples: list[Sample] = field(default_factory=list)
    ended: str = ""
    max_in_flight: int = 0
    planned_s: float | None = None
    """The time in which calls were due."""
    lags_s: list[float] = field(default_factory=list)
    """How late the sender's own clockwork was while this stage ran, looked at every `LAG_EVERY_S`."""


@dataclass(frozen=True, kw_only=True)
class _Call:
    plan: StagePlan
    number: int
    ask: Ask
    due: float
    woke: float
    reserved: float
    is_warmup: bool = False


class Purse:
    """What may be spent: a call is sent only if the dearest it can become still fits beside those under way."""

    def __init__(self, cap_usd: float | None, prices: tuple[float, float] | None) -> None:
        """`prices` are dollars of a prompt token and of a completion token; None: unknown."""
        self._cap = cap_usd
        self._prices = prices
        self._reserved = 0.0
        self.spent_usd: float | None = 0.0 if prices is not None else None

    def reserve(self, ask: Ask) -> float | None:
        """Return what is set aside for the call, or None when it may not be sent."""
        if self._prices is None:
            return 0.0 if self._cap is None else None
        most = ask.prompt_tokens * self._prices[0] * 1.5 + ask.max_tokens * self._prices[1]
        if self._cap is not None and (self.spent_usd or 0.0) + self._reserved + most > self._cap:
            return None
        self._reserved += most
        return most

    def settle(self, reserved: float, sample: Sample) -> Sample:
        """Count what the call used and return it with its cost.

        One that told nothing and may have been served counts as what was set aside.
        """
        self._reserved -= reserved
        if self._prices is None or self.spent_usd is None:
            return sample
        if sample.completion_tokens is None:
            was_refused = sample.status is not None and sample.status >= 400
            cost = 0.0 if was_refused else reserved
        else:
            prompt, completion = sample.prompt_tokens or 0, sample.completion_tokens
            cost = prompt * self._prices[0] + completion * self._prices[1]
        self.spent_usd += cost
        return msgspec.structs.replace(sample, cost_usd=cost)


class Generator:
    """Runs stages one after another. Use from one event loop."""

    def __init__(
        self,
        spec: LoadSpec,
        sender: Sender,
        mix: Mix,
        *,
        clock: Callable[[], float],
        purse: Purse,
        should_stop: Callable[[], str] = lambda: "",
        on_sample: Callable[[Sample], None] = lambda _sample: None,
    ) -> None:
        """`should_stop` returns why the test is to end, or an empty text; it is asked often and must be quick."""
        self._spec, self._sender, self._mix = spec, sender, mix
        self._clock, self._purse = clock, purse
        self._should_stop, self._on_sample = should_stop, on_sample
        self._began = clock()
        self._in_flight = 0
        self._bug: BaseException | None = None
        self.words_per_token = START_WORDS_PER_TOKEN
        self._lags_s: list[float] = []
        self._look_due: float | None = None
        """When the watch over this loop should look next."""

    async def watch_lag(self) -> None:
        """Note how late this event loop is, until cancelled: replies are read as late as that."""
        while True:
            self._look_due = self._clock() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self._note_lag()

    def _note_lag(self) -> None:
        if self._look_due is not None:
            self._lags_s.append(max(0.0, self._clock() - self._look_due))

    async def warm_up(self, target: str) -> list[Sample]:
        """Ask one call after another, of each class in turn, and learn how long words are."""
        found: list[Sample] = []
        words = tokens = 0
        kinds = [one.name for one in self._spec.mix]
        for number in range(self._spec.warmup):
            if self._should_stop():
                break
            kind = kinds[number % len(kinds)]
            ask = self._mix.draw(-1, number, self.words_per_token, kind)
            plan = StagePlan(number=WARMUP_STAGE, target=target, shape=Shape(kind="closed"), block=-1)
            reserved = self._purse.reserve(ask)
            if reserved is None:
                break
            now = self._clock()
            sample = await self._send(
                _Call(plan=plan, number=number, ask=ask, due=now, woke=now, reserved=reserved, is_warmup=True)
            )
            found.append(sample)
            if sample.prompt_tokens:
                tokens += sample.prompt_tokens
                words += sum(len(str(each.get("content", "")).split()) for each in ask.messages)
        if words and tokens and words / tokens > START_WORDS_PER_TOKEN / 10:
            self.words_per_token = words / tokens
        return found

    async def run(self, plan: StagePlan) -> StageRun:
        """Run one stage to its end and return its calls, in the order they were due."""
        run = StageRun(plan=plan)
        self._in_flight = 0
        # each stage answers for its own lateness, not for that of those before it
        self._lags_s = run.lags_s
        if self._look_due is not None:
            self._look_due = max(self._look_due, self._clock())
        await (self._run_closed(run) if plan.shape.kind == "closed" else self._run_open(run))
        self._note_lag()  # what is overdue now would be told after the stage
        self._lags_s = []
        run.samples = _leave_out_beginning(
            sorted(run.samples, key=lambda sample: sample.number), self._spec.settle_s
        )
        return run

    async def _run_open(self, run: StageRun) -> None:
        plan = run.plan
        offsets = draw_arrivals(
            plan.shape,
            Random(f"{self._spec.seed}/arrivals/{plan.block}"),
            seconds=plan.seconds,
            requests=plan.requests,
        )
        asks = [self._mix.draw(plan.block, number, self.words_per_token) for number in range(len(offsets))]
        slots = asyncio.Semaphore(self._spec.max_in_flight)
        tasks: set[asyncio.Task[None]] = set()
        start = self._clock()
        run.planned_s = plan.seconds if plan.seconds is not None else (offsets[-1] if offsets else 0.0)
        for number, offset in enumerate(offsets):
            due = start + offset
            # in steps, so that a stop is heard between calls that are far apart
            while not self._hear_stop(run) and (left := due - self._clock()) > 0:  # noqa: ASYNC110 - a moment is waited for, no state
                await asyncio.sleep(min(left, HEAR_EVERY_S))
            woke = self._clock()
            reserved = None if run.ended else self._purse.reserve(asks[number])
            if reserved is None:
                run.ended = run.ended or OVER_BUDGET
                break
            call = _Call(plan=plan, number=number, ask=asks[number], due=due, woke=woke, reserved=reserved)
            task = asyncio.create_task(self._call_in_slot(run, slots, call))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(self._note_bug)
        await self._finish(run, tasks)

    async def _run_closed(self, run: StageRun) -> None:
        plan, start = run.plan, self._clock()
        numbers = iter(range(plan.requests if plan.requests is not None else 10**9))

        async def call_again() -> None:
            while not run.ended and not self._hear_stop(run):
                due = self._clock()
                if plan.seconds is not None and due - start >= plan.seconds:
                    return
                number = next(numbers, None)
                if number is None:
                    return
                ask = self._mix.draw(plan.block, number, self.words_per_token)
                reserved = self._purse.reserve(ask)
                if reserved is None:
                    run.ended = run.ended or OVER_BUDGET
                    return
                call = _Call(plan=plan, number=number, ask=ask, due=due, woke=due, reserved=reserved)
                sample = await self._send(call)
                run.samples.append(sample)
                if sample.ended_s - sample.sent_s < 0.001:
                    await asyncio.sleep(
                        0.01
                    )  # a target that refuses at once is not asked as fast as it can refuse

        callers = run.max_in_flight = min(plan.shape.concurrency, self._spec.max_in_flight)
        tasks = {asyncio.create_task(call_again()) for _ in range(callers)}
        for task in tasks:
            task.add_done_callback(self._note_bug)
        await self._finish(run, tasks)

    async def _finish(self, run: StageRun, tasks: set[asyncio.Task[None]]) -> None:
        """Wait for open calls: each ends by its own timeout, or soon when the test is stopped."""
        waiting = set(tasks)
        while waiting:
            if run.ended or self._hear_stop(run):
                _, waiting = await asyncio.wait(waiting, timeout=STOP_GRACE_S)
                break
            _, waiting = await asyncio.wait(waiting, timeout=HEAR_EVERY_S)
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)
        if self._bug is not None:
            raise self._bug

    def _note_bug(self, task: asyncio.Task[None]) -> None:
        """Whatever goes wrong with a call is in its reply; anything else is an error of this program."""
        if not task.cancelled() and task.exception() is not None:
            self._bug = self._bug or task.exception()

    def _hear_stop(self, run: StageRun) -> bool:
        run.ended = run.ended or ("an error" if self._bug is not None else self._should_stop())
        return bool(run.ended)

    async def _call_in_slot(self, run: StageRun, slots: asyncio.Semaphore, call: _Call) -> None:
        self._in_flight += 1
        run.max_in_flight = max(run.max_in_flight, self._in_flight)
        try:
            async with slots:
                run.samples.append(await self._send(call))
        except asyncio.CancelledError:
            # stopped while it waited for a place: it was due and got no answer
            now = self._clock()
            never = Reply(sent_s=now, ended_s=now, error="unfinished", detail="stopped before it was sent")
            run.samples.append(self._purse.settle(call.reserved, self._to_sample(call, never)))
        finally:
            self._in_flight -= 1

    async def _send(self, call: _Call) -> Sample:
        sent = self._clock()
        try:
            reply = await self._sender.send(call.plan.target, call.ask)
        except asyncio.CancelledError:
            reply = Reply(
                sent_s=sent, ended_s=self._clock(), error="unfinished", detail="stopped before it ended"
            )
        sample = self._purse.settle(call.reserved, self._to_sample(call, reply))
        self._on_sample(sample)
        return sample

    def _to_sample(self, call: _Call, reply: Reply) -> Sample:
        reader, headers, zero = reply.reader, reply.headers, self._began
        attempts = _number(headers.get("x-penstock-attempts"))
        return Sample(
            stage=call.plan.number,
            number=call.number,
            target=call.plan.target,
            kind=call.ask.kind,
            due_s=call.due - zero,
            late_s=max(0.0, call.woke - call.due),
            sent_s=reply.sent_s - zero,
            first_s=None if reader.first_s is None else reader.first_s - zero,
            ended_s=reply.ended_s - zero,
            status=reply.status,
            error=reply.error,
            detail=reply.detail,
            prompt_tokens=reader.prompt_tokens,
            completion_tokens=reader.completion_tokens,
            cached_tokens=reader.cached_tokens,
            max_tokens=call.ask.max_tokens,
            n_pieces=reader.n_pieces,
            gaps=count_gaps(reader.gaps_ms),
            longest_gap_ms=max(reader.gaps_ms, default=None),
            finish=reader.finish,
            version=headers.get("x-penstock-version"),
            provider=headers.get("x-penstock-provider"),
            model=headers.get("x-penstock-model"),
            attempts=None if attempts is None else int(attempts),
            overhead_ms=_number(headers.get("x-penstock-overhead-ms")),
            cache=headers.get("x-penstock-cache"),
            trace_id=headers.get("x-penstock-trace-id"),
            is_warmup=call.is_warmup,
        )


def _leave_out_beginning(samples: list[Sample], settle_s: float) -> list[Sample]:
    if not settle_s or not samples:
        return samples
    begin = min(sample.due_s for sample in samples) + settle_s
    return [
        msgspec.structs.replace(sample, is_warmup=True) if sample.due_s < begin else sample
        for sample in samples
    ]


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
