"""Limits over real worker processes: exact to the request under concurrency, also when workers are killed."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest

from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.gateway.limiting.local import SETTLE_WITHIN_S
from penstock.spec.home import Home
from penstock.spec.limits import LimitRule
from penstock.spec.routes import Provider, Route, Target
from penstock.store.counters import CounterStore
from tests.gateway.conftest import KEY, key_row
from tests.gateway.test_serve import start_worker
from tests.gateway.upstream import FakeUpstream

N_WORKERS = 4
N_ALLOWED = 60
ASK = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20}


class Workers:
    """Four gateways behind one port."""

    def __init__(self, root: Path, port: int, upstream: FakeUpstream) -> None:
        self.home = Home(root=root)
        self.url = f"http://127.0.0.1:{port}"
        self.upstream = upstream
        self.processes: list[asyncio.subprocess.Process] = []
        self._port = port

    async def start(self, rules: list[LimitRule]) -> None:
        self.home.snapshot.parent.mkdir()
        write_snapshot(
            self.home.snapshot,
            build_snapshot(
                providers=[Provider(name="fake", base_url=self.upstream.url, auth="none", price_id="local")],
                routes=[Route(name="m", targets=(Target(provider="fake", model="m"),))],
                keys=[key_row(KEY, "test")],
                limit_rules=rules,
            ),
        )
        self.processes = [await start_worker(self.home.root, self._port) for _ in range(N_WORKERS)]
        await self._until_serving()
        while len(list(self.home.spool.glob("*"))) < N_WORKERS:
            await asyncio.sleep(0.02)

    async def _until_serving(self) -> None:
        async with aiohttp.ClientSession() as client:
            while True:
                try:
                    async with client.get(self.url + "/readyz") as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.02)

    async def ask(self, times: int, *, at_once: int) -> Counter[int]:
        """Return how often which status came; 0 is a connection that broke. Each call has a connection of its own."""
        room = asyncio.Semaphore(at_once)
        statuses: Counter[int] = Counter()
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        headers = {"authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as client:

            async def one() -> None:
                async with room:
                    try:
                        async with client.post(self.url + "/v1/chat/completions", json=ASK) as response:
                            await response.read()
                            statuses[response.status] += 1
                    except aiohttp.ClientError:
                        statuses[0] += 1

            await asyncio.gather(*(one() for _ in range(times)))
        return statuses

    def counted(self) -> dict[str, int]:
        store = CounterStore(self.home.counters)
        found = {counter.key.partition("\x1f")[0]: counter.value for counter in store.list_counters()}
        store.close()
        return found

    async def settled(self) -> dict[str, int]:
        """What is counted once every worker has given back what it reserved too much."""
        found = self.counted()
        while True:
            await asyncio.sleep(5 * SETTLE_WITHIN_S)
            before, found = found, self.counted()
            if found == before:
                return found

    async def stop(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        await asyncio.gather(*(process.wait() for process in self.processes))


@pytest.fixture
async def workers(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[Workers]:
    upstream = await FakeUpstream().start()
    made = Workers(tmp_path, unused_tcp_port, upstream)
    yield made
    await made.stop()
    await upstream.stop()


def rule(unit: str, amount: int) -> LimitRule:
    return LimitRule(name=unit, scope="all", unit=unit, amount=Decimal(amount), window="month")  # type: ignore[arg-type]  # parametrised


async def test_four_workers_admit_exactly_the_limit_and_one_that_is_killed_changes_nothing(
    workers: Workers,
) -> None:
    await workers.start([rule("requests", N_ALLOWED), rule("tokens", 1_000_000)])
    first = await workers.ask(N_ALLOWED // 2, at_once=16)
    assert first == {200: N_ALLOWED // 2}
    used_each = (await workers.settled())["tokens"] // (N_ALLOWED // 2)
    asking = asyncio.create_task(workers.ask(N_ALLOWED * 2, at_once=16))
    while len(workers.upstream.seen) < N_ALLOWED * 2 // 3:
        await asyncio.sleep(0.001)
    workers.processes[0].kill()
    second = await asking
    third = await workers.ask(20, at_once=8)
    served = first[200] + second[200]
    assert set(second) <= {0, 200, 429}
    assert third == {429: 20}, "the limit is used up"
    assert workers.counted()["requests"] == N_ALLOWED, "and no more than that was ever let in"
    assert served <= len(workers.upstream.seen) <= N_ALLOWED
    assert N_ALLOWED - served <= second[0], "what is missing was in the hands of the killed worker"
    assert (await workers.settled())["tokens"] >= served * used_each


async def test_four_workers_never_admit_more_tokens_than_allowed(workers: Workers) -> None:
    await workers.start([rule("tokens", 600)])
    statuses = await workers.ask(120, at_once=24)
    counted = (await workers.settled())["tokens"]
    assert set(statuses) == {200, 429}
    assert counted <= 600
    assert counted == 28 * len(workers.upstream.seen)
