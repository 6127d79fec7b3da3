"""What a call needs to ask targets: their order, their health, budgets, and one attempt that tells its lease how it went.

Knows single attempts and nothing of what follows from a failure; that is `run.py` for one route, `attempts.py` for all.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Protocol

from penstock.gateway.answers import Answer, AttemptFailed
from penstock.gateway.calls import Call
from penstock.gateway.health import HealthBoard, Lease, TargetHealth
from penstock.gateway.routing.affinity import find_response_id, tag_of
from penstock.gateway.routing.budget import Budget
from penstock.gateway.routing.order import order_targets
from penstock.gateway.routing.sticky import rank
from penstock.gateway.table import ReadyRoute, ReadyTarget
from penstock.gateway.text_sizes import estimate_prompt_tokens
from penstock.providers.prices import PriceBook
from penstock.spec.usage import Usage

MIN_RETRIES = 10
"""Retries of a route that are allowed in ten seconds however few calls it has, over all workers."""
_MAX_BUDGETS = 1024
_MAX_PLAIN = 1024
_USUAL_OUTPUT_TOKENS = 500


class Attempter(Protocol):
    """Makes one attempt."""

    async def attempt(self, call: Call, target: ReadyTarget, deadline: float) -> Answer:
        """Return a committed answer before `deadline`, or raise `AttemptFailed`."""
        ...


class PlainRoute:
    """A route with one target, which needs no choice: all that a call on it needs, looked up once."""

    __slots__ = ("bound_s", "budget", "health", "policy", "ready", "target", "whole_s")

    def __init__(self, ready: ReadyRoute, health: TargetHealth, budget: Budget) -> None:
        self.ready = ready
        self.target = target = ready.targets[0]
        self.health = health
        self.policy = ready.route.breaker
        self.budget = budget
        self.whole_s = ready.route.deadline_s or ready.longest_s
        self.bound_s = min(self.whole_s, target.timeout_s or target.provider.timeout_s)


class Asking:
    """The means of all calls. One per process, on one event loop."""

    def __init__(
        self,
        exchange: Attempter,
        health: HealthBoard,
        *,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        now_s: Callable[[], float] = time.time,
        price: Callable[[Call, ReadyTarget], Decimal | None] = lambda _call, _target: None,
    ) -> None:
        """`price` estimates what a call costs at a target, for routes balanced by cost; it must not block."""
        self._exchange = exchange
        self.health = health
        self.rng = rng or random.Random()
        self.sleep = sleep
        self.monotonic = monotonic
        self.now_s = now_s
        self._price = price
        self._retries: dict[tuple[str, float], Budget] = {}
        self._hedges: dict[tuple[str, float], Budget] = {}
        self._plain: dict[int, PlainRoute] = {}

    def plain_of(self, ready: ReadyRoute) -> PlainRoute | None:
        """Return what is known of a route with one target; None for others."""
        found = self._plain.get(id(ready))
        if found is not None and found.ready is ready:
            return found
        if len(ready.targets) != 1:
            return None
        if len(self._plain) >= _MAX_PLAIN:
            self._plain.clear()
        made = PlainRoute(ready, self.health_of(ready, ready.targets[0]), self.retry_budget(ready))
        self._plain[id(ready)] = made
        return made

    def order(self, call: Call, ready: ReadyRoute) -> list[ReadyTarget]:
        """Return all targets in the order to ask them: by tier, within one by stickiness or balance.

        Those that asked to be left alone and those without a key come last.
        """
        if len(ready.targets) == 1:
            return list(ready.targets)
        home = self._home_of(call, ready)
        if home:
            return home
        order: list[ReadyTarget] = []
        key = sticky_key(call, ready)
        for tier in ready.tiers:
            if key is not None:
                order += rank(key, tier)
                continue
            order += order_targets(
                ready.route.balance,
                tier,
                self.rng,
                in_flight=lambda target: self.health_of(ready, target).in_flight,
                latency_s=lambda target: self.health_of(ready, target).latency_s,
                price=lambda target: self._price(call, target),
            )
        order.sort(key=lambda target: target.missing is not None or self.health_of(ready, target).is_resting)
        return order

    def is_bound(self, call: Call, ready: ReadyRoute) -> bool:
        """Return whether only one target can serve the call, because it continues a response that this one made."""
        return bool(self._home_of(call, ready))

    def health_of(self, ready: ReadyRoute, target: ReadyTarget) -> TargetHealth:
        """Return the health of a target as its route judges it."""
        if target.is_open:
            return self.health.chosen(target.health_id, target.model, ready.route.breaker)
        return self.health.target(target.health_id, ready.route.breaker)

    async def ask(self, call: Call, target: ReadyTarget, lease: Lease, deadline: float) -> Answer:
        """Make one attempt, within the target's own bound, and tell the lease how it went."""
        now = self.monotonic()
        bound = min(deadline, now + (target.timeout_s or target.provider.timeout_s))
        return await self.ask_until(call, target, lease, now, bound)

    async def ask_until(
        self, call: Call, target: ReadyTarget, lease: Lease, now: float, bound: float
    ) -> Answer:
        """Make one attempt that ends before `bound`, and tell the lease how it went."""
        try:
            answer = await self._exchange.attempt(call, target, bound)
        except AttemptFailed as failed:
            _vote(lease, target, failed, self.monotonic() - now)
            lease.end()
            raise
        except BaseException:
            lease.end()
            raise
        record = answer.record
        first_s = record.first_content_s if record is not None else None
        lease.succeed(self.monotonic() - now if first_s is None else first_s)
        answer.lease = lease
        return answer

    def retry_budget(self, ready: ReadyRoute) -> Budget:
        """Return the budget for asking targets of a route again."""
        return _budget(self._retries, ready.row, ready.route.retry.budget_ratio)

    def hedge_budget(self, ready: ReadyRoute, ratio: float) -> Budget:
        """Return the budget for asking two targets of a route at once."""
        return _budget(self._hedges, ready.row, ratio)

    def least_retries(self) -> int:
        """Return this worker's part of the retries that are always allowed."""
        return max(1, MIN_RETRIES // self.health.n_workers())

    # -- responses that only their maker can continue

    def _home_of(self, call: Call, ready: ReadyRoute) -> list[ReadyTarget]:
        previous = call.envelope.previous if call.envelope is not None else None
        tag = self.health.affinity.find(previous) if previous else None
        if tag is None:
            return []
        return [target for target in ready.targets if tag_of(target.health_id) == tag]

    def remember(self, answer: Answer) -> None:
        """Remember whose response an answer is, if it is one that can be continued."""
        response_id = find_response_id(answer.body)
        if response_id is not None:
            self.health.affinity.remember(response_id, answer.target.health_id, self.now_s())


def sticky_key(call: Call, ready: ReadyRoute) -> str | None:
    """Return whom the call belongs to, if the route keeps people or sessions with their target and the call says it.

    A session is the header's, else the cache key of the request; a user the one the key belongs to, else the header's,
    else the request's. A route by session takes the user where no session is said.
    """
    sticky = ready.route.sticky
    if sticky == "none":
        return None
    envelope = call.envelope
    if sticky == "session":
        session = call.session or (envelope.cache_key if envelope is not None else None)
        if session:
            return f"session {session}"
    user = call.user or (envelope.user if envelope is not None else None)
    return f"user {user}" if user else None


def estimate_price(book: PriceBook, call: Call, target: ReadyTarget) -> Decimal | None:
    """Return about what `call` costs at `target`, None where that is not known. Never blocks."""
    if target.provider.local:
        return Decimal(0)
    envelope = call.envelope
    written = envelope.max_tokens if envelope is not None and envelope.max_tokens else _USUAL_OUTPUT_TOKENS
    usage = Usage(input_uncached=estimate_prompt_tokens(call.body), output_text=written)
    provider = target.provider
    return book.estimate(provider.price_id, target.model, usage, provider=provider.name)


def status_of(failed: AttemptFailed) -> int | None:
    """Return the HTTP status of the provider's own error reply, None if there is none to relay."""
    return failed.answer.status if failed.answer is not None else None


def _vote(lease: Lease, target: ReadyTarget, failed: AttemptFailed, took_s: float) -> None:
    """Tell the lease what a failure says of the target; a request that never got there says nothing."""
    if failed.fault in (None, "context-length", "content-filter"):
        if failed.was_sent:
            lease.succeed(None)  # it has answered, and rightly
    elif status_of(failed) == 403 and target.is_open:
        pass  # callers choose the model of an open route, and must not close it for others by a forbidden one
    elif failed.was_sent or failed.fault in ("connect", "timeout"):
        lease.fail(failed.fault, took_s=took_s)


def _budget(budgets: dict[tuple[str, float], Budget], row: str, ratio: float) -> Budget:
    found = budgets.get((row, ratio))
    if found is None:
        if len(budgets) >= _MAX_BUDGETS:
            budgets.clear()
        found = budgets[row, ratio] = Budget(ratio)
    return found
