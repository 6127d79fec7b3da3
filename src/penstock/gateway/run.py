"""One call on one route: which targets have been asked, which may be asked still, and what the failures amount to."""

import asyncio
import math

from penstock.gateway.answers import Answer, AttemptFailed
from penstock.gateway.asking import Asking, status_of
from penstock.gateway.calls import Call
from penstock.gateway.errors import ProviderKeyMissing, ProviderRefusedKey
from penstock.gateway.health import Lease
from penstock.gateway.routing.backoff import wait_s
from penstock.gateway.routing.errors import DeadlinePassed, TargetsOpen
from penstock.gateway.table import ReadyRoute, ReadyTarget
from penstock.spec.routes import FaultKind, HedgePolicy

_REST_S = 1.0
"""How long a target that refused for its rate and did not say for how long is asked after the others."""
_QUICK_FAULTS: tuple[FaultKind, ...] = ("connect", "server-error")
"""What may be over a moment later, so that one quick repeat comes before another route is asked."""
_QUICK_S = 1.0
"""The longest wait before it."""


class RouteRun:
    """Asks the targets of one route until one answers. Serves one call and is thrown away.

    `serve` asks all that may answer now; `ask_again` is for afterwards, when no other route has helped: it asks those
    that were held back because they asked for rest, and waits for those that have failed.
    """

    __slots__ = (
        "_again",
        "_asking",
        "_best",
        "_call",
        "_covered",
        "_deadline",
        "_faults",
        "_fresh",
        "_held",
        "_is_final",
        "_is_over",
        "_n_asked",
        "_n_waits",
        "_open",
        "ready",
        "reasons",
    )

    def __init__(
        self,
        asking: Asking,
        call: Call,
        ready: ReadyRoute,
        deadline: float,
        *,
        failed: AttemptFailed | None = None,
        covered: frozenset[FaultKind] = frozenset(),
    ) -> None:
        """`failed` is how the route's only target has failed already; `covered` are faults that other routes take over."""
        self._asking = asking
        self._call = call
        self.ready = ready
        self._deadline = deadline
        self._fresh = asking.order(call, ready) if failed is None else []
        self._again: list[tuple[float, ReadyTarget, FaultKind]] = []
        self._open: list[ReadyTarget] = []
        self._held: list[ReadyTarget] = []
        self._covered = covered
        self._faults: set[FaultKind] = set()
        self._best: AttemptFailed | None = None
        self.reasons: dict[tuple[str, str], tuple[str, str | None]] = {}
        """Why each target, by its provider and model, did not serve the call, and what to do; the last of each."""
        self._is_final = False
        self._is_over = False
        self._n_asked = 0
        self._n_waits = 0
        if failed is not None:
            self._n_asked = 1
            self._note(ready.targets[0], failed)

    async def serve(self) -> Answer | None:
        """Return the first committed answer of those that may be asked now; None when there is none."""
        hedge = self.ready.route.hedge
        while (
            not self._is_final and (chosen := self._next_fresh() or await self._repeat_quickly()) is not None
        ):
            target, lease = chosen
            self._n_asked += 1
            try:
                if hedge is not None and self._n_asked == 1 and self._fresh:
                    return await self._race(target, lease, hedge)
                return await self._ask(target, lease)
            except AttemptFailed:
                continue  # `_note` has seen it, and knows whether anything is left to be done
        return None

    async def ask_again(self) -> Answer | None:
        """Ask one of those held back, or wait for the one that may be asked again soonest; None when that fails too."""
        self._covered = frozenset()
        self._fresh += self._held
        self._held = []
        chosen = self._next_fresh() or await self._wait_for_next()
        if chosen is None:
            self._is_over = True
            return None
        self._n_asked += 1
        try:
            return await self._ask(*chosen)
        except AttemptFailed:
            return None

    # -- how it went

    @property
    def failure(self) -> AttemptFailed:
        """What tells most of why nobody has answered."""
        return self._best or self._nobody()

    @property
    def is_refused(self) -> bool:
        """Whether the request itself is wrong, so that asking again cannot help."""
        return self._is_final and self._best is not None and self._best.fault is None

    def failed_by(self, faults: tuple[FaultKind, ...]) -> bool:
        """Return whether one of `faults` is why the route did not serve the call."""
        if self._is_final:
            return self._best is not None and self._best.fault in faults
        return not self._faults.isdisjoint(faults)

    def next_at(self) -> float | None:
        """Return from when on `ask_again` has somebody to ask; None when there is nobody."""
        if self._is_final or self._is_over or not self._may_ask():
            return None
        if self._held or self._fresh:
            return 0.0
        return min((ready_at for ready_at, _, _ in self._again), default=None)

    async def _ask(self, target: ReadyTarget, lease: Lease) -> Answer:
        try:
            return await self._asking.ask(self._call, target, lease, self._deadline)
        except AttemptFailed as failed:
            self._note(target, failed)
            raise

    def _note(self, target: ReadyTarget, failed: AttemptFailed) -> None:
        """Decide what a failure leaves to be done."""
        policy = self.ready.route.retry
        self.reasons[target.provider.name, target.model] = failed.error.message, failed.error.hint
        if failed.fault is None and not (status_of(failed) == 404 and self._fresh):
            self._best, self._is_final = failed, True
            return
        self._best = failed if self._best is None else pick_better(self._best, failed)
        if failed.fault is None:
            return  # this target has no such model, the next one may
        self._faults.add(failed.fault)
        asked_s = failed.retry_after_s or 0.0
        if failed.fault == "rate-limit":
            self._asking.health_of(self.ready, target).rest(asked_s or _REST_S)
        if isinstance(failed.error, ProviderRefusedKey | ProviderKeyMissing):
            return  # another target has another key
        if failed.fault not in policy.on:
            self._is_final = True
        elif policy.same_target and asked_s <= policy.max_retry_after_s:
            self._again.append((self._asking.monotonic() + asked_s, target, failed.fault))

    # -- who is next

    def _may_ask(self) -> bool:
        asking, policy = self._asking, self.ready.route.retry
        return self._n_asked < max(1, policy.max_attempts) and asking.monotonic() < self._deadline

    def _next_fresh(self) -> tuple[ReadyTarget, Lease] | None:
        """Return the next target that has not been asked yet and that its breaker lets through."""
        if not self._may_ask():
            return None
        while self._fresh:
            target = self._fresh.pop(0)
            health = self._asking.health_of(self.ready, target)
            if "rate-limit" in self._covered and health.is_resting:
                self._held.append(target)
                self._pass_over(target, "rate-limit", "has asked to be left alone for now")
                continue
            lease = health.enter(self.ready.route.breaker)
            if lease is not None:
                return target, lease
            self._open.append(target)
            fault = health.last_fault or "server-error"
            left_s = max(1, math.ceil(health.free_in_s()))
            self._pass_over(target, fault, f"failed just now ({fault}) and is left alone for {left_s} s")
        return None

    def _pass_over(self, target: ReadyTarget, fault: FaultKind, reason: str) -> None:
        self._faults.add(fault)
        self.reasons[target.provider.name, target.model] = reason, None

    async def _repeat_quickly(self) -> tuple[ReadyTarget, Lease] | None:
        """Wait a moment, once, for a target that may be well again at once, before another route takes over."""
        if self._n_waits or self._faults.isdisjoint(self._covered):
            return None  # where no other route takes over, `ask_again` sees to all repeats
        now = self._asking.monotonic()
        quick = [item for item in self._again if item[2] in _QUICK_FAULTS and item[0] <= now]
        return await self._wait_for(quick[0], _QUICK_S) if quick and self._may_ask() else None

    async def _wait_for_next(self) -> tuple[ReadyTarget, Lease] | None:
        """Wait for the target that may be asked again soonest; None if there is none or no time or budget for it."""
        while self._again and self._may_ask():
            chosen = await self._wait_for(min(self._again, key=lambda item: item[0]))
            if chosen is not None:
                return chosen
        return None

    async def _wait_for(
        self, item: tuple[float, ReadyTarget, FaultKind], longest_s: float = math.inf
    ) -> tuple[ReadyTarget, Lease] | None:
        """Wait until a target may be asked again; None if there is no time or budget for it, or its breaker is open."""
        asking, policy = self._asking, self.ready.route.retry
        self._again.remove(item)
        ready_at, target, _ = item
        now = asking.monotonic()
        pause_s = min(wait_s(policy, self._n_waits, max(0.0, ready_at - now), asking.rng), longest_s)
        if now + pause_s >= self._deadline:
            return None
        if not asking.retry_budget(self.ready).take(now, floor=asking.least_retries()):
            self._again.clear()
            return None
        self._n_waits += 1
        self._call.begin_wait()
        try:
            await asking.sleep(pause_s)
        finally:
            self._call.end_wait()
        lease = asking.health_of(self.ready, target).enter(self.ready.route.breaker)
        return None if lease is None else (target, lease)

    def _nobody(self) -> AttemptFailed:
        """Return the failure of a call that no target could be asked for."""
        name = self.ready.route.name
        if self._held:
            resting = DeadlinePassed(
                f"The call to {name!r} took as long as it may, and its targets ask for rest."
            )
            return AttemptFailed(resting, fault="rate-limit")
        if not self._open:
            late = DeadlinePassed(f"The call to {name!r} took as long as it may.")
            return AttemptFailed(late, fault="timeout")
        states = [self._asking.health_of(self.ready, target) for target in self._open]
        wait = max(1, math.ceil(min(state.free_in_s() for state in states)))
        fault = states[0].last_fault or "server-error"
        listed = ", ".join(f"{target.provider.name} ({target.model})" for target in self._open)
        error = TargetsOpen(
            f"All targets of {name!r} failed just now ({fault}) and are left alone for {wait} s: {listed}.",
            hint=f"Try again in {wait} s.",
            retry_after_s=wait,
        )
        return AttemptFailed(error, fault=fault, retry_after_s=wait)

    # -- two at once

    async def _race(self, target: ReadyTarget, lease: Lease, hedge: HedgePolicy) -> Answer:
        """Ask `target`, and a second one when it is silent for long; the first to answer wins, the other is left."""
        asking = self._asking
        asking.hedge_budget(self.ready, hedge.max_ratio).note_call(asking.monotonic())
        racing = {asyncio.create_task(self._ask(target, lease))}
        timer = asyncio.ensure_future(asking.sleep(hedge.after_s))
        winner: Answer | None = None
        try:
            await asyncio.wait({*racing, timer}, return_when=asyncio.FIRST_COMPLETED)
            if timer.done() and not next(iter(racing)).done():
                second = self._take_second(hedge)
                if second is not None:
                    self._n_asked += 1
                    racing.add(asyncio.create_task(self._ask(*second)))
            winner = await _first_answer(racing)
        finally:
            timer.cancel()
            try:
                await _leave(racing, winner)
            except BaseException:
                if winner is not None:
                    discard(winner)
                raise
        if winner is None:
            assert self._best is not None
            raise self._best
        return winner

    def _take_second(self, hedge: HedgePolicy) -> tuple[ReadyTarget, Lease] | None:
        asking = self._asking
        if not self._may_ask() or not asking.hedge_budget(self.ready, hedge.max_ratio).take(
            asking.monotonic()
        ):
            return None
        return self._next_fresh()


async def _first_answer(racing: set[asyncio.Task[Answer]]) -> Answer | None:
    """Return the first answer; None when all have failed. Raises what is no `AttemptFailed`."""
    pending = set(racing)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            error = task.exception()
            if error is None:
                return task.result()
            if not isinstance(error, AttemptFailed):
                raise error
            if error.fault is None and status_of(error) != 404:
                return None  # the request is wrong everywhere
    return None


async def _leave(racing: set[asyncio.Task[Answer]], winner: Answer | None) -> None:
    """Cancel what still runs, and let go of answers that came too late."""
    for task in racing:
        task.cancel()
    for result in await asyncio.gather(*racing, return_exceptions=True):
        if isinstance(result, Answer) and result is not winner:
            discard(result)


def discard(answer: Answer) -> None:
    """Let go of an answer that nobody gets; the provider may charge for it."""
    if answer.record is not None:
        answer.record.outcome = "abandoned"
        answer.record.usage = answer.told_usage()
    answer.release()


def pick_better(first: AttemptFailed, second: AttemptFailed) -> AttemptFailed:
    """Return the failure that tells the client more; the later one where both tell as much."""
    return first if _worth(first) > _worth(second) else second


def _worth(failed: AttemptFailed) -> int:
    if failed.answer is None:
        return 0 if isinstance(failed.error, TargetsOpen | ProviderKeyMissing) else 1
    if failed.fault in ("context-length", "content-filter"):
        return 4  # says what is wrong with the request
    return 3 if failed.fault == "rate-limit" else 2
