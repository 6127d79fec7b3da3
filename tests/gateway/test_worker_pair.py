"""Two real worker processes behind one port: one breaker, one page of metrics, also when one of them is killed."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.spec.home import Home
from penstock.spec.routes import BreakerPolicy, Provider, RetryPolicy, Route, Target
from tests.gateway.conftest import KEY, key_row
from tests.gateway.test_metrics import value
from tests.gateway.test_serve import start_worker
from tests.gateway.upstream import Exchange, FakeUpstream, answer

BREAKER = BreakerPolicy(min_calls=6, open_s=60.0)
Pair = tuple[str, FakeUpstream, list[asyncio.subprocess.Process]]


@pytest.fixture
async def pair(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[Pair]:
    upstream = await FakeUpstream().start()
    home = Home(root=tmp_path)
    home.snapshot.parent.mkdir()
    retry = RetryPolicy(max_attempts=1)
    snapshot = build_snapshot(
        providers=[Provider(name="fake", base_url=upstream.url, auth="none", price_id="local")],
        routes=[
            Route(name=name, targets=(Target(provider="fake", model=name),), retry=retry, breaker=BREAKER)
            for name in ("good", "bad")
        ],
        keys=[key_row(KEY, "test")],
    )
    write_snapshot(home.snapshot, snapshot)
    processes = [await start_worker(tmp_path, unused_tcp_port) for _ in range(2)]
    url = f"http://127.0.0.1:{unused_tcp_port}"
    while len(list((home.run / "metrics").glob("*.bin"))) < 2:
        await asyncio.sleep(0.02)
    while value(await get(url, "/metrics"), "penstock_workers") < 2:
        await asyncio.sleep(0.02)
    yield url, upstream, processes
    for process in processes:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
    await asyncio.gather(*(process.wait() for process in processes))
    await upstream.stop()


async def get(url: str, path: str) -> bytes:
    while True:
        try:
            async with aiohttp.ClientSession() as client, client.get(url + path) as response:
                if response.status == 200:
                    return await response.read()
        except aiohttp.ClientError:
            await asyncio.sleep(0.02)


async def ask(url: str, model: str, times: int) -> Counter[int]:
    """Make calls one after the other, each on a connection of its own, which the kernel gives to either worker."""
    statuses: Counter[int] = Counter()
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    for _ in range(times):
        headers = {"authorization": f"Bearer {KEY}"}
        async with (
            aiohttp.ClientSession(headers=headers) as client,
            client.post(url + "/v1/chat/completions", json=body) as response,
        ):
            await response.read()
            statuses[response.status] += 1
    return statuses


async def test_workers_share_their_breaker_and_their_counts(pair: Pair) -> None:
    url, upstream, processes = pair

    async def bad_model(exchange: Exchange) -> None:
        if exchange.json["model"] == "good":
            await answer(exchange)
        else:
            await exchange.send(b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n")

    upstream.handler = bad_model
    assert await ask(url, "good", 20) == {200: 20}
    refused = await ask(url, "bad", 20)
    assert sum(exchange.json["model"] == "bad" for exchange in upstream.seen) == BREAKER.min_calls
    assert refused[503] == 20 - BREAKER.min_calls
    for _ in range(6):  # whichever worker answers
        page = await get(url, "/metrics")
        assert value(page, "penstock_requests_total", route="good", status="200") == 20
        assert value(page, "penstock_breaker_state", route="bad") == 2
        assert value(page, "penstock_breaker_state", route="good") == 0
        assert value(page, "penstock_workers") == 2
    processes[0].kill()
    await processes[0].wait()
    for _ in range(3):
        page = await get(url, "/metrics")
        assert value(page, "penstock_requests_total", route="good", status="200") == 20
        assert value(page, "penstock_errors_total", code="PS-4630") == 20 - BREAKER.min_calls
