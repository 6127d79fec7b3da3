"""Counters that gateways of several machines share through Redis, and what happens while it is gone.

Every step waits at most the client's bound (50 ms), then the call is counted by this machine. Once Redis is lost, calls
are counted here at once and one background task tries to reach it again, less and less often; on its return what was
counted here is added there. While it is gone each machine goes on from what it last saw there, so that an outage does not
hand out new allowances.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from penstock.base.errors import PenstockError
from penstock.gateway.limiting.local import LocalCounters
from penstock.store.counters import MAX_VALUE, Adjustment, Ask, Counter, Taken
from penstock.store.counters_redis import RedisCounters
from penstock.store.errors import RedisGone, RedisRefused
from penstock.store.redis_client import RedisClient

_log = logging.getLogger("penstock.gateway")
_AWAY = "away\x1f"
"""Before the names of counters that hold what was counted here while Redis was gone."""
_TURN = "turn\x1faway"
"""Whether a worker of this machine is bringing those to Redis."""
_TURN_S = 15
"""A turn that its worker did not end ends by itself then. Longer than the waits between its tries."""
_FIRST_WAIT_S, _LONGEST_WAIT_S, _CALM_S = 0.05, 5.0, 10.0
_LOOK_EVERY_S = 1.0
_BATCH = 200
_MAX_SEEN = 50_000


class SharedCounters:
    """Counters in Redis. `start` before use, `close` at the end; for one event loop."""

    def __init__(
        self,
        client: RedisClient,
        local: LocalCounters,
        *,
        now_s: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problem: str | None = None
        """Why Redis is not used, while it is not."""
        self.n_outages = 0
        """Times that Redis was lost."""
        self.n_late = 0
        """Calls that waited for Redis in vain, while it answered others."""
        self._client = client
        self._redis = RedisCounters(client)
        self._local = local
        self._now_s = now_s
        self._monotonic = monotonic
        self._seen: dict[str, tuple[int, int]] = {}
        self._owed: dict[tuple[str, int], int] = {}
        self._unsure: tuple[int, list[Adjustment], Sequence[Counter]] | None = None
        """What was sent last, with its number, until it is known that it came through, and what then has been moved
        from here. Nothing else is sent before: Redis knows a repetition by the last number only."""
        self._turn_until_s = 0
        self._wake = asyncio.Event()
        self._tending: asyncio.Task[None] | None = None
        self._leftovers: set[asyncio.Task[list[Taken]]] = set()

    async def start(self) -> None:
        """Try to connect once, then follow the connection in the background."""
        with contextlib.suppress(PenstockError):
            await self._client.connect()
        self._tending = asyncio.create_task(self._tend(), name="shared-counters")

    async def close(self) -> None:
        """Settle what is owed, if Redis is there, and let go of it."""
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)
        with contextlib.suppress(PenstockError):
            await self._push()
        self._client.close()

    async def reserve(self, asks: Sequence[Ask]) -> tuple[list[Taken], bool]:
        """Count all asks or none; also returns whether they were counted in Redis (otherwise by this machine)."""
        if self._client.is_connected:
            counting = asyncio.create_task(self._redis.reserve(asks))
            try:
                taken = await asyncio.shield(counting)
            except asyncio.CancelledError:
                self._leftovers.add(counting)
                counting.add_done_callback(lambda done: self._give_back(done, asks))
                raise
            except (RedisGone, RedisRefused) as error:
                if isinstance(error, RedisGone) and self._client.is_connected:
                    self.n_late += 1
                    self._wake.set()  # this one call is counted here, and brought there at once
                else:
                    self._note_gone(error)
            else:
                self._remember(asks, taken)
                return taken, True
        return self._reserve_here(asks), False

    def adjust(self, adjustments: Sequence[Adjustment], *, in_redis: bool) -> None:
        """Add to windows that are not over, soon; `in_redis` says where the amount was reserved."""
        if in_redis or self._client.is_connected:
            for one in adjustments:
                place = (one.key, one.window_end_s)
                self._owed[place] = self._owed.get(place, 0) + one.amount
            self._wake.set()
        else:
            self._local.adjust([replace(one, key=_AWAY + one.key) for one in adjustments])

    # -- while Redis is gone

    def _reserve_here(self, asks: Sequence[Ask]) -> list[Taken]:
        before: list[int] = []
        moved: list[Ask] = []
        for ask in asks:
            value, end_s = self._seen.get(ask.key, (0, 0))
            seen = value if ask.window_end_s <= end_s <= ask.window_end_s + ask.window_s else 0
            before.append(seen)
            limit = None if ask.limit is None else ask.limit - seen
            moved.append(replace(ask, key=_AWAY + ask.key, limit=limit))
        taken = self._local.reserve(moved)
        return [replace(one, value=one.value + seen) for one, seen in zip(taken, before, strict=True)]

    def _remember(self, asks: Sequence[Ask], taken: Sequence[Taken]) -> None:
        if len(self._seen) > _MAX_SEEN:
            self._seen.clear()
        for ask, one in zip(asks, taken, strict=True):
            self._seen[ask.key] = (one.value, one.window_end_s)

    def _give_back(self, done: "asyncio.Task[list[Taken]]", asks: Sequence[Ask]) -> None:
        """Undo what was counted for a caller that was cancelled meanwhile."""
        self._leftovers.discard(done)
        if done.cancelled() or done.exception() is not None:
            return
        back = [
            Adjustment(ask.key, -one.taken, one.window_end_s)
            for ask, one in zip(asks, done.result(), strict=True)
            if one.taken
        ]
        self.adjust(back, in_redis=True)

    def _note_gone(self, error: PenstockError) -> None:
        if self.problem is None:
            self.n_outages += 1
            _log.error(
                "redis is gone, limits are counted by this machine alone", extra={"reason": error.message}
            )
        self.problem = f"Redis is gone, so limits hold for this machine alone. {error.message}"
        self._client.close()
        self._wake.set()

    # -- the background task

    async def _tend(self) -> None:
        wait_s = _FIRST_WAIT_S
        calm_at = self._monotonic() + _CALM_S
        while True:
            try:
                if not self._client.is_connected:
                    await self._client.connect()
                    calm_at = self._monotonic() + _CALM_S
                await self._push()
                if self.problem is not None:
                    self.problem = None
                    _log.info("redis is back, limits are shared again")
                if self._monotonic() >= calm_at:
                    wait_s = _FIRST_WAIT_S
                await self._pause()
            except (RedisGone, RedisRefused) as error:
                if isinstance(error, RedisRefused) or not self._client.is_connected:
                    self._note_gone(error)
                if self._unsure is not None and self._unsure[2]:
                    self._take_turn()  # what may have come through is for nobody else to bring
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            except Exception:  # the edge of this task: ended, Redis would never be used again
                _log.exception("shared counters failed, they go on")
                await asyncio.sleep(_LONGEST_WAIT_S)

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY_S):
                await self._wake.wait()
        self._wake.clear()

    async def _push(self) -> None:
        """Bring to Redis what was counted here while it was gone, and what calls have used since."""
        await self._bring_home()
        while self._owed:
            places = list(self._owed.items())[:_BATCH]
            for place, _ in places:
                del self._owed[place]
            # of two windows of one counter the earlier must come first
            batch = sorted((Adjustment(key, amount, end_s) for (key, end_s), amount in places), key=_end_of)
            batch = [one for one in batch if one.amount and one.window_end_s > self._now_s()]
            if batch:
                await self._send(batch)

    async def _send(self, batch: list[Adjustment], away: Sequence[Counter] = ()) -> None:
        self._unsure = self._redis.next_number(), batch, away
        await self._repeat()

    async def _repeat(self) -> None:
        """Send what is not known to have come through; Redis counts it once, however often it comes."""
        if self._unsure is None:
            return
        number, batch, away = self._unsure
        if away and not self._take_turn():
            self._unsure = None  # this worker was away for so long that another one brings it
            return
        await self._redis.adjust(batch, number=number)
        self._unsure = None
        if away:
            self._take_off(away)
            self._end_turn()

    async def _bring_home(self) -> None:
        """Add what this machine counted by itself. It stays counted here until that is done, and one worker does it."""
        await self._repeat()
        away = [one for one in self._local.list_counters(_AWAY) if one.value]
        if not away:
            return
        for start in range(0, len(away), _BATCH):
            if not self._take_turn():
                return
            await self._bring(away[start : start + _BATCH])

    async def _bring(self, away: Sequence[Counter]) -> None:
        now_s = self._now_s()
        moved = [_without_mark(one) for one in away if one.window_end_s > now_s]
        if moved:
            await self._send(moved, away)
        else:
            self._take_off(away)
            self._end_turn()

    def _take_off(self, away: Sequence[Counter]) -> None:
        """Count no longer here what is counted in Redis, or is over."""
        self._local.adjust([Adjustment(one.key, -one.value, one.window_end_s) for one in away])
        now_s = self._now_s()
        for one in map(_without_mark, away):
            if one.window_end_s > now_s:
                value, end_s = self._seen.get(one.key, (0, 0))
                known = value if end_s == one.window_end_s else 0
                self._seen[one.key] = known + one.amount, one.window_end_s

    def _take_turn(self) -> bool:
        """Keep the other workers of this machine from bringing the same, for `_TURN_S`; False if one of them is at it."""
        now_s = int(self._now_s())
        if self._turn_until_s <= now_s:
            asked = Ask(
                _TURN, 1, 1, 1, now_s + 1, 2 * _TURN_S
            )  # a window that ends later is a turn that goes on
            if not self._local.reserve([asked])[0].allowed:
                return False
        if self._turn_until_s != now_s + _TURN_S:
            self._turn_until_s = now_s + _TURN_S
            self._local.adjust([Adjustment(_TURN, 1, self._turn_until_s)])
        return True

    def _end_turn(self) -> None:
        until_s, self._turn_until_s = self._turn_until_s, 0
        self._local.adjust([Adjustment(_TURN, -MAX_VALUE, until_s)])


def _without_mark(away: Counter) -> Adjustment:
    return Adjustment(away.key.removeprefix(_AWAY), away.value, away.window_end_s)


def _end_of(one: Adjustment) -> int:
    return one.window_end_s
