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
from penstock.spec.routes import HedgePolicy

_REST_S = 1.0
"""How long a target that refused for its rate and did not say for how long is asked after the others."""


class RouteRun:
    """Asks the targets of one route until one answers. Serves one call and is thrown away."""

    __slots__ = (
        "_again",
        "_asking",
        "_best",
        "_call",
        "_deadline",
        "_fresh",
        "_is_final",
        "_n_asked",
        "_n_waits",
        "_open",
        "_ready",
    )

    def __init__(
        self,
        asking: Asking,
        call: Call,
        ready: ReadyRoute,
        deadline: float,
        failed: AttemptFailed | None = None,
    ) -> None:
        """`failed` is how the route's only target has failed already."""
        self._asking = asking
        self._call = call
        self._ready = ready
        self._deadline = deadline
        self._fresh = asking.order(call, ready) if failed is None else []
        self._again: list[tuple[float, ReadyTarget]] = []
        self._open: list[ReadyTarget] = []
        self._best: AttemptFailed | None = None
        self._is_final = False
        self._n_asked = 0
        self._n_waits = 0
        if failed is not None:
            self._n_asked = 1
            self._note(ready.targets[0], failed)

    async def serve(self) -> Answer:
        """Return the first committed answer; raise the `AttemptFailed` that tells most when there is none."""
        hedge = self._ready.route.hedge
        while (
            not self._is_final and (chosen := self._next_fresh() or await self._wait_for_next()) is not None
        ):
            target, lease = chosen
            self._n_asked += 1
            try:
                if hedge is not None and self._n_asked == 1 and self._fresh:
                    return await self._race(target, lease, hedge)
                return await self._ask(target, lease)
            except AttemptFailed:
                continue  # `_note` has seen it, and knows whether anything is left to be done
        raise self._best or self._nobody()

    async def _ask(self, target: ReadyTarget, lease: Lease) -> Answer:
        try:
            return await self._asking.ask(self._call, target, lease, self._deadline)
        except AttemptFailed as failed:
            self._note(target, failed)
            raise

    def _note(self, target: ReadyTarget, failed: AttemptFailed) -> None:
        """Decide what a failure leaves to be done."""
        policy = self._ready.route.retry
        if failed.fault is None and not (status_of(failed) == 404 and self._fresh):
            self._best, self._is_final = failed, True
            return
        self._best = failed if self._best is None else pick_better(self._best, failed)
        if failed.fault is None:
            return  # this target has no such model, the next one may
        asked_s = failed.retry_after_s or 0.0
        if failed.fault == "rate-limit":
            self._asking.health_of(self._ready, target).rest(asked_s or _REST_S)
        if isinstance(failed.error, ProviderRefusedKey | ProviderKeyMissing):
            return  # another target has another key
        if failed.fault not in policy.on:
            self._is_final = True
        elif policy.same_target and asked_s <= policy.max_retry_after_s:
            self._again.append((self._asking.monotonic() + asked_s, target))

    # -- who is next

    def _may_ask(self) -> bool:
        asking, policy = self._asking, self._ready.route.retry
        return self._n_asked < max(1, policy.max_attempts) and asking.monotonic() < self._deadline

    def _next_fresh(self) -> tuple[ReadyTarget, Lease] | None:
        """Return the next target that has not been asked yet and that its breaker lets through."""
        if not self._may_ask():
            return None
        while self._fresh:
            target = self._fresh.pop(0)
            lease = self._asking.health_of(self._ready, target).enter(self._ready.route.breaker)
            if lease is not None:
                return target, lease
            self._open.append(target)
        return None

    async def _wait_for_next(self) -> tuple[ReadyTarget, Lease] | None:
        """Wait for the target that may be asked again soonest; None if there is none or no time or budget for it."""
        asking, policy = self._asking, self._ready.route.retry
        while self._again and self._may_ask():
            chosen = min(self._again, key=lambda item: item[0])
            self._again.remove(chosen)
            ready_at, target = chosen
            now = asking.monotonic()
            pause_s = wait_s(policy, self._n_waits, max(0.0, ready_at - now), asking.rng)
            if now + pause_s >= self._deadline:
                continue
            if not asking.retry_budget(self._ready).take(now, floor=asking.least_retries()):
                return None
            self._n_waits += 1
            self._call.begin_wait()
            try:
                await asking.sleep(pause_s)
            finally:
                self._call.end_wait()
            lease = asking.health_of(self._ready, target).enter(self._ready.route.breaker)
            if lease is not None:
                return target, lease
        return None

    def _nobody(self) -> AttemptFailed:
        """Return the failure of a call that no target could be asked for."""
        name = self._ready.route.name
        if not self._open:
            late = DeadlinePassed(f"The call to {name!r} took as long as it may.")
            return AttemptFailed(late, fault="timeout")
        states = [self._asking.health_of(self._ready, target) for target in self._open]
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
        asking.hedge_budget(self._ready, hedge.max_ratio).note_call(asking.monotonic())
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
        if not self._may_ask() or not asking.hedge_budget(self._ready, hedge.max_ratio).take(
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
