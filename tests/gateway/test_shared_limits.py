"""Limits shared by machines through a real Redis: exact together, bounded and local when it is gone, joined again."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from penstock.gateway.errors import LimitReached
from penstock.gateway.limiting.local import LocalCounters
from penstock.gateway.limiting.shared import SharedCounters
from penstock.gateway.limits import Hold, Limiter, LimitFacts
from penstock.spec.limits import LimitRule
from penstock.spec.routes import KeyRow
from penstock.spec.windows import find_window
from penstock.store.counters import Adjustment, CounterStore
from penstock.store.counters_redis import RedisCounters
from penstock.store.errors import RedisGone
from penstock.store.redis_client import RedisAddress, RedisClient
from tests.fixtures.redis import RedisServer, redis_server

__all__ = ["redis_server"]

FACTS = LimitFacts(
    key=KeyRow(id="key_a", name="a", secret_sha256="0" * 64), route="r", prompt_tokens=10, completion_tokens=0
)


def rules(requests: int, tokens: int = 1_000_000) -> list[LimitRule]:
    return [
        LimitRule(name="calls", scope="all", unit="requests", amount=Decimal(requests), window="month"),
        LimitRule(name="tokens", scope="all", unit="tokens", amount=Decimal(tokens), window="month"),
    ]


class Machine:
    """A limiter with counters of its own, beside the shared ones. Patient unless told otherwise: a busy machine that
    runs tests is not a Redis that is gone."""

    def __init__(self, folder: Path, timeout_s: float) -> None:
        self.store = CounterStore(folder)
        self.limiter = Limiter(self.store, redis_timeout_s=timeout_s)

    async def use(self, redis: RedisServer, requests: int, tokens: int = 1_000_000) -> None:
        await self.limiter.use(rules(requests, tokens), redis_url=redis.url)

    async def admit(self, times: int) -> list[Hold]:
        """Ask `times` times at once; return what was let in."""
        told = await asyncio.gather(
            *(self.limiter.admit(FACTS) for _ in range(times)), return_exceptions=True
        )
        wrong = [one for one in told if isinstance(one, BaseException) and not isinstance(one, LimitReached)]
        assert not wrong
        return [one for one in told if isinstance(one, Hold)]


Make = Callable[..., Machine]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[Machine] = []

    def make_one(timeout_s: float = 5.0) -> Machine:
        made.append(Machine(tmp_path / f"counters{len(made)}", timeout_s))
        return made[-1]

    yield make_one
    for machine in made:
        await machine.limiter.close()
        machine.store.close()


END_S = int(find_window("month", time.time()).end_s)


def counter_of(rule: str) -> str:
    unit = "requests" if rule == "calls" else "tokens"
    return f"{rule}\x1f{unit}\x1fmonth\x1f"


class Looker:
    """Reads the shared counters."""

    def __init__(self, redis: RedisServer) -> None:
        self._client = RedisClient(RedisAddress(redis.url), timeout_s=60.0)

    async def value(self, rule: str) -> int:
        if not self._client.is_connected:
            await self._client.connect()
        value = await RedisCounters(self._client).get(counter_of(rule))
        self._client.close()
        return value


async def until(condition: Callable[[], Any]) -> None:
    while True:
        told = condition()
        if await told if asyncio.iscoroutine(told) else told:
            return
        await asyncio.sleep(0.005)


async def test_machines_together_admit_exactly_the_limit(make: Make, redis_server: RedisServer) -> None:
    machines = [make(), make(), make()]
    for machine in machines:
        await machine.use(redis_server, 100)
    held = await asyncio.gather(*(machine.admit(60) for machine in machines))
    assert sum(map(len, held)) == 100
    assert await Looker(redis_server).value("tokens") == 1000


async def test_settlements_reach_the_shared_counters(make: Make, redis_server: RedisServer) -> None:
    machine, look = make(), Looker(redis_server)
    await machine.use(redis_server, 100)
    holds = await machine.admit(5)
    for hold in holds:
        machine.limiter.settle(hold, tokens=3, usd=None, counts_request=False)

    async def is_settled() -> bool:
        return (await look.value("tokens"), await look.value("calls")) == (15, 0)

    await until(is_settled)


async def test_closing_settles_what_is_owed(make: Make, redis_server: RedisServer) -> None:
    machine = make()
    await machine.use(redis_server, 100)
    (hold,) = await machine.admit(1)
    machine.limiter.settle(hold, tokens=3, usd=None, counts_request=True)
    await machine.limiter.close()
    assert await Looker(redis_server).value("tokens") == 3


@pytest.mark.parametrize("way", ["kill", "freeze"])
async def test_when_redis_goes_calls_go_on_with_what_is_left_and_are_joined_again(
    make: Make, redis_server: RedisServer, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    machine, look = make(0.2), Looker(redis_server)
    await machine.use(redis_server, 50)
    assert len(await machine.admit(20)) == 20
    getattr(redis_server, way)()
    held = [hold for _ in range(8) for hold in await machine.admit(10)]  # ends, although nobody answers
    assert len(held) == 30, "goes on from what was last seen there, not from nothing"
    await until(lambda: machine.limiter.problems)
    assert machine.limiter.n_outages == 1
    assert "Redis is gone" in machine.limiter.problems[0]
    assert [record.message for record in caplog.records if "redis is gone" in record.message] == [
        "redis is gone, limits are counted by this machine alone"
    ]
    for hold in held[:10]:
        machine.limiter.settle(hold, tokens=4, usd=None, counts_request=True)
    if way == "kill":
        redis_server.start()  # empty
    else:
        redis_server.thaw()
    await until(lambda: not machine.limiter.problems)
    before = 0 if way == "kill" else 20
    assert await look.value("calls") == before + 30, "a call that Redis ran too late is not counted twice"
    assert await look.value("tokens") == (before + 20) * 10 + 10 * 4
    for hold in held[10:20]:
        machine.limiter.settle(hold, tokens=0, usd=None, counts_request=True)

    async def is_settled() -> bool:
        return await look.value("tokens") == (before + 10) * 10 + 10 * 4

    await until(is_settled)
    assert len(await machine.admit(80)) == 50 - (before + 30)


async def test_a_caller_that_is_cancelled_while_it_waits_for_redis_has_used_nothing(
    make: Make, redis_server: RedisServer
) -> None:
    machine, look = make(), Looker(redis_server)
    await machine.use(redis_server, 50)
    for _ in range(20):
        asking = asyncio.create_task(machine.limiter.admit(FACTS))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await machine.admit(1)

    async def is_given_back() -> bool:
        return await look.value("calls") == 1

    await until(is_given_back)


async def test_a_redis_that_is_gone_at_the_start_does_not_stop_the_gateway(
    make: Make, redis_server: RedisServer
) -> None:
    redis_server.kill()
    machine = make()
    await machine.use(redis_server, 5)
    assert len(await machine.admit(9)) == 5
    redis_server.start()
    await until(lambda: not machine.limiter.problems)
    assert len(await machine.admit(9)) == 0


async def test_machines_that_lost_redis_add_up_on_its_return(make: Make, redis_server: RedisServer) -> None:
    machines = [make(0.2), make(0.2)]
    for machine in machines:
        await machine.use(redis_server, 100)
        await machine.admit(1)
    redis_server.freeze()
    for machine in machines:
        await machine.admit(10)
    redis_server.thaw()
    look = Looker(redis_server)

    async def is_joined() -> bool:
        return await look.value("calls") == 22

    await until(is_joined)


class Wire:
    """Loses the replies of Redis to adjustments, which are made all the same."""

    def __init__(self, machine: Machine, replies_lost: int) -> None:
        assert machine.limiter._shared is not None
        self.left = replies_lost
        self._adjust = machine.limiter._shared._redis.adjust
        self._shared = machine.limiter._shared
        self._shared._redis.adjust = self  # type: ignore[assignment]

    async def __call__(self, adjustments: Sequence[Adjustment], *, number: int | None = None) -> None:
        await self._adjust(adjustments, number=number)
        if self.left:
            self.left -= 1
            self._shared._client.close()
            raise RedisGone("the reply was lost")


@pytest.mark.parametrize("replies_lost", [1, 3])
async def test_what_was_counted_here_is_brought_home_once_though_replies_are_lost(
    make: Make, redis_server: RedisServer, replies_lost: int
) -> None:
    machine, look = make(), Looker(redis_server)
    machine.store.adjust([Adjustment("away\x1f" + counter_of(rule), amount, END_S)
                          for rule, amount in (("calls", 100), ("tokens", 1000))])  # fmt: skip
    await machine.use(redis_server, 500)
    shared = machine.limiter._shared
    assert shared is not None
    await until(lambda: not any(one.value for one in machine.store.list_counters("away")))
    assert await look.value("calls") == 100
    machine.store.adjust([Adjustment("away\x1f" + counter_of("calls"), 7, END_S)])
    held = await machine.admit(1)
    wire = Wire(machine, replies_lost)
    machine.limiter.settle(
        held[0], tokens=4, usd=None, counts_request=True
    )  # of which the reply may be lost too
    await until(lambda: not wire.left)

    async def is_joined() -> bool:
        return (await look.value("calls"), await look.value("tokens")) == (100 + 7 + 1, 1000 + 4)

    await until(is_joined)
    await until(lambda: not shared._owed and shared._unsure is None)
    assert await is_joined(), "and stays so"


async def test_while_one_worker_does_not_know_whether_it_came_through_no_other_brings_it(
    make: Make, redis_server: RedisServer
) -> None:
    machine, look, now = make(), Looker(redis_server), [time.time()]
    machine.store.adjust([Adjustment("away\x1f" + counter_of("calls"), 100, END_S)])
    local = LocalCounters(machine.store, now_s=time.time)
    workers = []
    for _ in range(2):
        client = RedisClient(RedisAddress(redis_server.url), timeout_s=60.0)
        await client.connect()
        workers.append(SharedCounters(client, local, now_s=lambda: now[0]))
    unsure, other = workers
    really = unsure._redis.adjust

    async def lose_reply(adjustments: Sequence[Adjustment], *, number: int | None = None) -> None:
        await really(adjustments, number=number)
        raise RedisGone("the reply was lost")

    unsure._redis.adjust = lose_reply  # type: ignore[method-assign]
    with pytest.raises(RedisGone):
        await unsure._push()
    now[0] += 5
    await other._push()
    unsure._redis.adjust = really  # type: ignore[method-assign]
    await unsure._push()
    local.settle()
    assert await look.value("calls") == 100
    assert machine.store.get("away\x1f" + counter_of("calls")) == 0
    machine.store.adjust([Adjustment("away\x1f" + counter_of("calls"), 3, END_S)])
    await other._push()
    assert await look.value("calls") == 103, "a turn that is over is free for others"
    for worker in workers:
        await worker.close()


async def test_the_turn_of_a_worker_that_died_ends_by_itself(make: Make, redis_server: RedisServer) -> None:
    machine, look, now = make(), Looker(redis_server), [time.time()]
    machine.store.adjust([Adjustment("away\x1f" + counter_of("calls"), 100, END_S)])
    local = LocalCounters(machine.store, now_s=time.time)
    client = RedisClient(RedisAddress(redis_server.url), timeout_s=60.0)
    await client.connect()
    dead, alive = (SharedCounters(client, local, now_s=lambda: now[0]) for _ in range(2))
    assert dead._take_turn()
    await alive._push()
    assert await look.value("calls") == 0
    now[0] += 16
    await alive._push()
    assert await look.value("calls") == 100
    await alive.close()


async def test_a_url_that_cannot_be_used_is_a_problem_that_hides_it(make: Make) -> None:
    machine = make()
    await machine.limiter.use(rules(3), redis_url="http://user:pass-word@host")
    assert len(await machine.admit(9)) == 3
    assert "pass-word" not in machine.limiter.problems[0]


async def test_redis_may_be_taken_away_by_a_new_snapshot(make: Make, redis_server: RedisServer) -> None:
    machine = make()
    await machine.use(redis_server, 5)
    await machine.admit(2)
    await machine.limiter.use(rules(5), redis_url=None)
    assert len(await machine.admit(9)) == 5, "this machine's own counters begin from nothing"
