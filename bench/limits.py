"""Shows limits holding to the exact request with four workers: prints the run, one line a second of it.

    python bench/limits.py [--calls 4000] [--workers 4] [--redis]

Four real gateway processes share one port. One rule allows N requests, another an amount of tokens; 64 connections ask
far more often than that, and one worker is killed on the way. With `--redis` the workers are two machines (two homes)
that share a real `redis-server`.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

import aiohttp

import stage
from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.spec.home import Home
from penstock.spec.limits import LimitRule
from penstock.spec.routes import KeyRow, Provider, Route, Target

_WORKER = """
import sys
from pathlib import Path
from penstock.gateway.serve import serve_gateway
from penstock.spec.home import Home
serve_gateway(Home(root=Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]),
              environ={"SHARED_REDIS": sys.argv[3]}, internal_key="internal")
"""
_ASK = json.dumps(
    {"model": "m", "messages": [{"role": "user", "content": "How much should I walk?"}], "max_tokens": 100}
).encode()
N_CONNECTIONS = 64


class Upstream:
    """Answers every request at once and counts them."""

    def __init__(self) -> None:
        self.n_seen = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
            len(stage.REPLY),
            stage.REPLY,
        )
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
                self.n_seen += 1
                writer.write(reply)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            writer.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def write_home(root: Path, upstream_port: int, n_allowed: int, *, is_shared: bool) -> Home:
    home = Home(root=root)
    home.snapshot.parent.mkdir(parents=True)
    rules = [
        LimitRule(name="calls", scope="all", unit="requests", amount=Decimal(n_allowed), window="month"),
        LimitRule(name="per-key", scope="key", unit="tokens", amount=Decimal(10_000_000), window="day"),
    ]
    write_snapshot(
        home.snapshot,
        build_snapshot(
            providers=[
                Provider(
                    name="static", base_url=f"http://127.0.0.1:{upstream_port}", auth="none", price_id="local"
                )
            ],
            routes=[Route(name="m", targets=(Target(provider="static", model="m"),))],
            keys=[
                KeyRow(
                    id="key_bench",
                    name="bench",
                    secret_sha256=stage.hashlib.sha256(stage.KEY.encode()).hexdigest(),
                )
            ],
            limit_rules=rules,
            redis_url_env="SHARED_REDIS" if is_shared else None,
        ),
    )
    return home


async def ask(urls: list[str], times: int, statuses: Counter[int]) -> None:
    left = iter(range(times))
    headers = {"authorization": f"Bearer {stage.KEY}", "content-type": "application/json"}

    async def caller(number: int) -> None:
        url = urls[number % len(urls)]
        connector = aiohttp.TCPConnector(limit=1, force_close=number % 2 == 0)
        async with aiohttp.ClientSession(connector=connector, headers=headers) as client:
            for _ in left:
                try:
                    async with client.post(url + "/v1/chat/completions", data=_ASK) as response:
                        await response.read()
                        statuses[response.status] += 1
                except aiohttp.ClientError:
                    statuses[0] += 1

    await asyncio.gather(*(caller(number) for number in range(N_CONNECTIONS)))


async def until_ready(url: str) -> None:
    async with aiohttp.ClientSession() as client:
        while True:
            try:
                async with client.get(url + "/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                await asyncio.sleep(0.02)


async def run(n_calls: int, n_workers: int, *, is_shared: bool, folder: Path) -> None:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream_port = server.sockets[0].getsockname()[1]
    redis_port, redis = free_port(), None
    if is_shared:
        command = [
            "redis-server",
            "--port",
            str(redis_port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(folder),
        ]
        redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    n_allowed = n_calls // 2
    n_homes = 2 if is_shared else 1
    homes = [
        write_home(folder / f"machine{number}", upstream_port, n_allowed, is_shared=is_shared)
        for number in range(n_homes)
    ]
    ports = [free_port() for _ in homes]
    url_of_redis = f"redis://127.0.0.1:{redis_port}/0"
    workers = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                _WORKER,
                str(homes[number % n_homes].root),
                str(ports[number % n_homes]),
                url_of_redis,
            ]
        )
        for number in range(n_workers)
    ]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    for url in urls:
        await until_ready(url)
    await asyncio.sleep(1.5)  # until all of them listen
    shared = (
        f"on {n_homes} machines, counters in Redis"
        if is_shared
        else "on one machine, counters in its own file"
    )
    print(f"$ {n_workers} workers {shared}; rule `calls`: {n_allowed} requests per month, for all")
    print(f"$ {N_CONNECTIONS} connections ask {n_calls} times")
    statuses: Counter[int] = Counter()
    begun = time.perf_counter()
    asking = asyncio.create_task(ask(urls, n_calls, statuses))
    is_killed = False
    while not asking.done():
        await asyncio.wait([asking], timeout=0.5)
        print(
            f"{time.perf_counter() - begun:6.1f} s   served {statuses[200]:6d}   refused (429) {statuses[429]:6d}"
            f"   broken {statuses[0]:3d}   seen by the provider {upstream.n_seen:6d}"
        )
        if not is_killed and upstream.n_seen > n_allowed // 2:
            workers[0].send_signal(signal.SIGKILL)
            is_killed = True
            print(f"$ kill -9 {workers[0].pid}")
    print(f"$ allowed {n_allowed}, served {statuses[200]}, seen by the provider {upstream.n_seen}, "
          f"lost with the killed worker {statuses[0]}")  # fmt: skip
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.wait()
    if redis is not None:
        redis.terminate()
        redis.wait()
    server.close()
    await asyncio.sleep(0.05)
    lost = n_allowed - statuses[200]
    assert upstream.n_seen <= n_allowed, "a limit was passed"
    assert 0 <= lost <= statuses[0], "a call was refused that the limit allowed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--redis", action="store_true")
    chosen = parser.parse_args()
    if chosen.redis and shutil.which("redis-server") is None:
        parser.error("redis-server is not installed")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(chosen.calls, chosen.workers, is_shared=chosen.redis, folder=Path(folder)))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
