"""Limits and budgets of a call: reserved before it is sent, settled when the true numbers are known, given back on failure.

All rules that hold for a call are reserved in one atomic step, so that a refused call has used nothing. Counters are
exact over the workers of a machine; with Redis, over all machines. What a provider does not report stays counted as
reserved: unknown is not 0, or a limit could be passed by leaving before the report comes.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from decimal import Decimal

import msgspec

from penstock.base.errors import PenstockError
from penstock.gateway.limiting.local import Counters, LocalCounters
from penstock.gateway.limiting.notices import Header, refuse, standing_headers, warn
from penstock.gateway.limiting.rules import Charge, LimitFacts, RuleBook, count_units
from penstock.gateway.limiting.shared import SharedCounters
from penstock.spec.limits import LimitRule, LimitWindow
from penstock.spec.routes import KeyRow
from penstock.spec.windows import Window, find_window
from penstock.store.counters import Adjustment, Ask, Taken
from penstock.store.redis_client import RedisAddress, RedisClient

__all__ = ["Counters", "Hold", "LimitFacts", "Limiter"]
_log = logging.getLogger("penstock.gateway")


class Hold:
    """What one call has reserved."""

    __slots__ = ("facts", "headers", "in_redis", "is_settled", "lines", "warnings")

    def __init__(
        self, facts: LimitFacts, lines: list[tuple[Charge, Taken]], *, in_redis: bool, now_s: float
    ) -> None:
        self.facts = facts
        self.lines = lines
        self.in_redis = in_redis
        self.is_settled = False
        self.headers: list[Header] = standing_headers(lines, now_s)
        """`x-ratelimit-*` for the reply; they stand in place of the provider's."""
        self.warnings: list[str] = [
            warn(charge, taken, key_name=facts.key.name)
            for charge, taken in lines
            if taken.value > charge.meter.limit and not charge.meter.refuses
        ]
        """Rules that only warn and are passed, for `x-penstock-limit-warning`."""


class Limiter:
    """Admits calls and settles them. For one event loop; without a Redis nothing here waits for more than a turn of it."""

    def __init__(
        self, counters: Counters, *, now_s: Callable[[], float] = time.time, redis_timeout_s: float = 0.05
    ) -> None:
        """Count in `counters`; a step in Redis, where one is used, waits at most `redis_timeout_s`."""
        self.n_refused = 0
        """Calls refused since the start."""
        self._now_s = now_s
        self._local = LocalCounters(counters, now_s=self._moment)
        self._book = RuleBook()
        self._windows: dict[LimitWindow, Window] = {}
        self._redis_timeout_s = redis_timeout_s
        self._redis_url: str | None = None
        self._shared: SharedCounters | None = None
        self._moving: asyncio.Future[None] | None = None
        self._problem: str | None = None

    async def use(self, rules: Iterable[LimitRule], *, redis_url: str | None = None) -> None:
        """Go by `rules` from now on, and count in the Redis at `redis_url` if one is given."""
        self.follow(rules, redis_url=redis_url)
        await self.settled()

    def follow(self, rules: Iterable[LimitRule], *, redis_url: str | None) -> None:
        """The same, without waiting for Redis: `settled` does."""
        self.use_rules(rules)
        if redis_url != self._redis_url:
            self._redis_url = redis_url
            before = self._moving
            self._moving = asyncio.ensure_future(self._move(redis_url, before))

    async def settled(self) -> None:
        """Wait until counters are where the last `follow` wants them, or Redis has shown that it is gone."""
        if self._moving is not None:
            await self._moving

    def use_rules(self, rules: Iterable[LimitRule]) -> None:
        """Go by `rules` from now on. Counters of rules that keep their name go on."""
        self._book = RuleBook(rules)

    async def _move(self, url: str | None, before: asyncio.Future[None] | None) -> None:
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)
        old, self._shared, self._problem = self._shared, None, None
        if url is not None:
            try:
                client = RedisClient(RedisAddress(url), timeout_s=self._redis_timeout_s)
            except PenstockError as error:
                self._problem = f"{error.message} Limits hold for this machine alone."
                _log.error("redis cannot be used", extra={"reason": str(error)})
            else:
                shared = SharedCounters(client, self._local, now_s=self._moment)
                await shared.start()
                self._shared = shared
        if old is not None:
            await old.close()

    async def close(self) -> None:
        """Settle what is owed and let go of Redis."""
        await self.settled()
        shared, self._shared, self._redis_url = self._shared, None, None
        if shared is not None:
            await shared.close()
        self._local.settle()

    @property
    def problems(self) -> list[str]:
        """What keeps limits from being exact, in words for operators; empty when all is well."""
        found = (self._problem, self._local.problem, self._shared.problem if self._shared else None)
        return [text for text in found if text is not None]

    @property
    def n_outages(self) -> int:
        """Times that Redis was lost since it is used."""
        return self._shared.n_outages if self._shared is not None else 0

    def has_rule_for(self, key: KeyRow) -> bool:
        """Return whether any rule could be for a call with `key`."""
        return (
            not self._book.is_empty
            or key.requests_per_minute is not None
            or key.tokens_per_minute is not None
        )

    @property
    def counts_money(self) -> bool:
        """Whether any rule is on money, so that prices are worth looking up."""
        return self._book.counts_money

    async def admit(self, facts: LimitFacts) -> Hold | None:
        """Reserve what a call may use; None if no rule is for it.

        Raises `LimitReached` (or `BudgetReached`), that says rule, limit, use and reset; then nothing was reserved.
        """
        charges = self._book.list_charges(facts)
        if not charges:
            return None
        now_s = self._now_s()
        asks = [self._ask(charge, now_s) for charge in charges]
        if self._shared is not None:
            taken, in_redis = await self._shared.reserve(asks)
        else:
            taken, in_redis = await self._local.reserve_soon(asks), False
        lines = list(zip(charges, taken, strict=True))
        refused = [line for line in lines if not line[1].allowed]
        if refused:
            self.n_refused += 1
            longest = max(refused, key=lambda line: line[1].window_end_s)
            raise refuse(*longest, key_name=facts.key.name, now_s=now_s)
        return Hold(facts, lines, in_redis=in_redis, now_s=now_s)

    def settle(
        self,
        hold: Hold,
        *,
        tokens: int | None,
        usd: Decimal | None,
        counts_request: bool,
        model: str | None = None,
    ) -> None:
        """Replace what was reserved by what was used, in windows that are not over; once, and it never raises.

        None leaves the reservation as it is: unknown is not 0. A call that no provider took is settled with 0 tokens
        and 0 dollars; its request still counts, unless `counts_request` is False, which is for calls that were never
        sent. `model` is the one that served, where it is not the one that was reserved for.
        """
        if hold.is_settled:
            return
        hold.is_settled = True
        adjustments: list[Adjustment] = []
        is_moved = model is not None and model != hold.facts.model
        for charge, taken in hold.lines:
            if is_moved and charge.meter.scope == "model":
                used = 0
            else:
                used = _used(charge, taken.taken, tokens, usd, counts_request=counts_request)
            if used != taken.taken:
                adjustments.append(Adjustment(charge.counter, used - taken.taken, taken.window_end_s))
        if is_moved:
            adjustments += self._count_for(model, hold.facts, tokens, usd, counts_request=counts_request)
        if adjustments:
            self._adjust(adjustments, in_redis=hold.in_redis)

    def charge(self, facts: LimitFacts, *, tokens: int, usd: Decimal | None) -> None:
        """Count what has been used beside an admitted call, for its sake: it is not asked whether it fits, and is no request."""
        now_s = self._now_s()
        adjustments = [
            Adjustment(charge.counter, used, find_window(charge.meter.window, now_s).end_s)
            for charge in self._book.list_charges(facts)
            if (used := _used(charge, charge.amount, tokens, usd, counts_request=False))
        ]
        if adjustments:
            self._adjust(adjustments, in_redis=False)

    def _adjust(self, adjustments: list[Adjustment], *, in_redis: bool) -> None:
        if self._shared is not None:
            self._shared.adjust(adjustments, in_redis=in_redis)
        else:
            self._local.adjust(adjustments)

    def _ask(self, charge: Charge, now_s: float) -> Ask:
        meter = charge.meter
        window = self._windows.get(meter.window)
        if window is None or not window.start_s <= now_s < window.end_s:
            window = self._windows[meter.window] = find_window(meter.window, now_s)
        start_s, end_s = window
        limit = meter.limit if meter.refuses and charge.amount else None
        return Ask(charge.counter, charge.amount, charge.least, limit, end_s, end_s - start_s)

    def _moment(self) -> float:
        return self._now_s()

    def _count_for(
        self,
        model: str | None,
        facts: LimitFacts,
        tokens: int | None,
        usd: Decimal | None,
        *,
        counts_request: bool,
    ) -> list[Adjustment]:
        """Return what a call adds to the rules of a model that it was not reserved for."""
        now_s = self._now_s()
        return [
            Adjustment(charge.counter, used, find_window(charge.meter.window, now_s).end_s)
            for charge in self._book.list_charges(msgspec.structs.replace(facts, model=model))
            if charge.meter.scope == "model"
            if (used := _used(charge, charge.least, tokens, usd, counts_request=counts_request))
        ]


def _used(
    charge: Charge, reserved: int, tokens: int | None, usd: Decimal | None, *, counts_request: bool
) -> int:
    unit = charge.meter.unit
    if unit == "requests":
        return 1 if counts_request else 0
    if unit == "tokens":
        return reserved if tokens is None else max(0, tokens)
    return reserved if usd is None else count_units("usd", max(Decimal(0), usd))
