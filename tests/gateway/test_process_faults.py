"""Faults of the machine, with real processes: control is not there, the disk is full, a worker dies, thousands sit idle."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest

from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.main.instance import Addresses
from penstock.main.up import plan_children
from penstock.spec.home import Home
from penstock.spec.routes import PriceRow, Provider, Route, Target
from penstock.spec.spans import Span
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.ledger_types import CostQuery
from penstock.telemetry.encode import decode_span
from penstock.telemetry.spool import SpoolReader
from penstock.traces.collector import Collector
from tests.fixtures.ports import free_port
from tests.gateway.conftest import KEY, key_row
from tests.gateway.test_billing_under_kill import paced
from tests.gateway.test_metrics import value
from tests.gateway.test_serve import start_worker
from tests.gateway.upstream import FakeUpstream
from tests.main.test_supervisor import fleet

N_IDLE = 10_000
N_CLIENTS = 8
HEADERS = {"authorization": f"Bearer {KEY}"}
USD = {name: Decimal(1) for name in ("input_uncached", "input_cache_read", "output_text")}


def write_home(home: Home, upstream: FakeUpstream) -> None:
    home.snapshot.parent.mkdir(exist_ok=True)
    snapshot = build_snapshot(
        providers=[Provider(name="fake", base_url=upstream.url, auth="none")],
        routes=[Route(name="m", targets=(Target(provider="fake", model="m"),))],
        keys=[key_row(KEY, "test")],
        prices=[PriceRow(provider="fake", model="*", usd_per_million=USD)],
    )
    write_snapshot(home.snapshot, snapshot)


@contextlib.asynccontextmanager
async def worker(root: Path) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """A gateway alone: no control process has ever run beside it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = await start_worker(root, port)
    try:
        async with aiohttp.ClientSession() as client:
            await until_ready(client, url)
        yield url, process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def until_ready(client: aiohttp.ClientSession, url: str) -> None:
    while True:
        try:
            async with client.get(url + "/readyz") as response:
                if response.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.02)


async def ask(client: aiohttp.ClientSession, url: str, text: str = "Hi", user: str = "u") -> int:
    body = {"model": "m", "user": user, "messages": [{"role": "user", "content": text}]}
    async with client.post(url + "/v1/chat/completions", json=body, headers=HEADERS) as response:
        await response.read()
        return response.status


def spans_in(home: Home) -> list[Span]:
    return [decode_span(record) for folder in home.spool.glob("*") for record in SpoolReader(folder)]


async def test_a_gateway_starts_from_the_last_snapshot_and_keeps_its_spans_without_control(
    tmp_path: Path,
) -> None:
    upstream = await FakeUpstream().start()
    home = Home(root=tmp_path)
    write_home(home, upstream)
    async with worker(tmp_path) as (url, process), aiohttp.ClientSession() as client:
        assert [await ask(client, url) for _ in range(3)] == [200] * 3
        home.snapshot.write_text("{ damaged")
        await asyncio.sleep(0.6)  # it looks twice a second
        assert await ask(client, url) == 200
    await upstream.stop()
    assert process.returncode == 0
    assert [span.status for span in spans_in(home)] == ["ok"] * 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 128 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128m", "none", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_calls_go_on_while_the_disk_is_full_and_each_is_billed_in_the_end(
    small_disk: Path,
) -> None:
    upstream = await FakeUpstream().start()
    home = Home(root=small_disk)
    write_home(home, upstream)
    text = "x" * 20_000
    async with worker(small_disk) as (url, process), aiohttp.ClientSession() as client:
        assert await ask(client, url, text, "before") == 200
        while not spans_in(home):
            await asyncio.sleep(0.02)
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1_000_000))
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(512))
        statuses = Counter([await ask(client, url, text, "full") for _ in range(60)])
        assert statuses == {200: 60}
        page = b""
        while value(page, "penstock_spans_lost_total", what="record") == 0:
            await asyncio.sleep(0.02)
            page = await read_page(client, url)
        filler.unlink()
        while not any(span.user_id == "after" and span.input is not None for span in spans_in(home)):
            assert await ask(client, url, text, "after") == 200
            await asyncio.sleep(0.1)
        assert process.returncode is None
    assert process.returncode == 0
    async with worker(small_disk):  # the journal knows the calls whose spans were lost
        while list(home.journal.glob(f"{process.pid}-*")):
            await asyncio.sleep(0.02)
    await upstream.stop()
    spans = spans_in(home)
    assert next(span for span in spans if span.user_id == "before").input is not None
    billed = [span for span in spans if span.user_id == "full"]
    assert len({span.span_id for span in billed}) == len(billed) == 60
    assert all(span.cost_usd for span in billed)


async def read_page(client: aiohttp.ClientSession, url: str) -> bytes:
    async with client.get(url + "/metrics") as response:
        return await response.read()


async def call_on_and_on(
    url: str, name: str, n_done: Counter[str], broken: list[str], stop: asyncio.Event
) -> None:
    """Make calls, each on a connection of its own, so that either worker gets them."""
    number = 0
    while not stop.is_set():
        number += 1
        user = f"{name}-{number}"
        try:
            async with aiohttp.ClientSession() as client:
                assert await ask(client, url, user=user) == 200
            n_done[user] += 1
        except aiohttp.ClientError:
            broken.append(user)


async def test_of_two_workers_one_is_killed_under_load_and_only_its_calls_break(home: Home) -> None:
    upstream = await FakeUpstream(paced).start()
    addresses = Addresses(gateway_port=free_port())
    specs = [spec for spec in plan_children(home, addresses, 2) if spec.name.startswith("gateway")]
    url = f"http://127.0.0.1:{addresses.gateway_port}"
    n_done: Counter[str] = Counter()
    broken: list[str] = []
    stop = asyncio.Event()
    write_home(home, upstream)
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        running = await loop.run_in_executor(None, stack.enter_context, fleet(home, *specs))
        first = running.pid_now(specs[0].name)
        load = [
            asyncio.create_task(call_on_and_on(url, str(number), n_done, broken, stop))
            for number in range(N_CLIENTS)
        ]
        while n_done.total() < 30:
            await asyncio.sleep(0.01)
        os.kill(first, signal.SIGKILL)
        at_the_kill = n_done.total()
        while not (home.ready / str(running_pid(running, specs[0].name, first))).exists():
            await asyncio.sleep(0.02)
        while n_done.total() < at_the_kill + 30:
            await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*load)
        while len(list(home.journal.glob("*.bin"))) > 2:  # the dead one's is billed by one of the living
            await asyncio.sleep(0.02)
        await loop.run_in_executor(None, stack.close)
    await upstream.stop()
    # the calls in flight, and those the kernel had already given to the dead worker's socket
    assert len(broken) <= N_CLIENTS
    store = DuckDBSpanStore(home.span_db)
    Collector(home.spool, store).run_once()
    billed = Counter({row.group["user"]: row.n_calls for row in store.sum_costs(CostQuery(), ["user"])})
    store.close()
    reached = Counter(exchange.json["user"] for exchange in upstream.seen)
    assert set(billed.values()) == {1}
    assert reached - billed == Counter()
    assert set(n_done) <= set(billed)


def running_pid(running: object, name: str, old: int) -> int:
    """Return the pid of a child that has come again; that of no process while it has not."""
    for child in running.supervisor.children:  # type: ignore[attr-defined]
        if child.spec.name == name and child.pid not in (None, old):
            return int(child.pid)
    return 0


async def test_ten_thousand_idle_connections_cost_little_and_stop_nobody(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    n_idle = min(N_IDLE, hard - 4200 if hard != resource.RLIM_INFINITY else N_IDLE)
    record_property("idle connections", n_idle)
    assert n_idle >= 1000, "this machine lets no process open enough files"
    upstream = await FakeUpstream().start()
    write_home(Home(root=tmp_path), upstream)
    held: list[socket.socket] = []
    try:
        async with worker(tmp_path) as (url, process), aiohttp.ClientSession() as client:
            assert await ask(client, url) == 200
            before = resident_bytes(process.pid)
            await asyncio.to_thread(hold, held, n_idle, int(url.rsplit(":", 1)[1]))
            assert await ask(client, url) == 200
            each = (resident_bytes(process.pid) - before) / n_idle
            assert each < 32 * 1024
            record_property("bytes for each", round(each))
    finally:
        for client_socket in held:
            client_socket.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await upstream.stop()


def hold(held: list[socket.socket], count: int, port: int) -> None:
    """Open connections of which each has been answered once and may be used again."""
    while len(held) < count:
        batch = [socket.create_connection(("127.0.0.1", port)) for _ in range(min(500, count - len(held)))]
        held += batch
        for each in batch:
            each.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        for each in batch:
            assert each.recv(1000).startswith(b"HTTP/1.1 200")


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
