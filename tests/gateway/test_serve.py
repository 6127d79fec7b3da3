"""A worker as a process: starts, serves, drains its streams on SIGTERM, and leaves every span on disk."""

import asyncio
import json
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.gateway.serve import PortTaken, open_socket
from penstock.spec.home import Home
from penstock.spec.routes import Provider, Route, Target
from penstock.telemetry.encode import decode_span
from penstock.telemetry.spool import SpoolReader
from tests.gateway.conftest import KEY, key_row
from tests.gateway.upstream import DONE, STREAM, Exchange, FakeUpstream

PROGRAM = """
import signal
import sys
from pathlib import Path
from penstock.gateway.serve import serve_gateway
from penstock.spec.home import Home
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # before uvicorn takes over, and when it has drained
serve_gateway(Home(root=Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]), environ={}, internal_key="i")
"""


async def start_worker(root: Path, port: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, str(root), str(port))


async def until_serving(client: aiohttp.ClientSession, url: str) -> None:
    while True:
        try:
            if (await client.get(url + "/readyz")).status == 200:
                return
        except aiohttp.ClientError:
            await asyncio.sleep(0.02)


async def test_two_workers_share_a_port_drain_and_flush(tmp_path: Path, unused_tcp_port: int) -> None:
    finish = asyncio.Event()

    async def paced(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.piece(STREAM[1])
        await finish.wait()
        await exchange.piece(STREAM[2] + STREAM[3] + DONE)
        await exchange.end_stream()

    upstream = await FakeUpstream(paced).start()
    home = Home(root=tmp_path)
    home.snapshot.parent.mkdir()
    write_snapshot(
        home.snapshot,
        build_snapshot(
            providers=[Provider(name="fake", base_url=upstream.url, auth="none", price_id="local")],
            routes=[Route(name="m", targets=(Target(provider="fake", model="m"),))],
            keys=[key_row(KEY, "test")],
        ),
    )
    workers = [await start_worker(tmp_path, unused_tcp_port) for _ in range(2)]
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as client:
        await until_serving(client, url)
        while len(list(home.spool.glob("*"))) < 2:
            await asyncio.sleep(0.02)
        response = await client.post(
            url + "/v1/chat/completions", json={"model": "m", "messages": [], "stream": True}
        )
        assert await response.content.readuntil(b"\n\n") == STREAM[1]
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        finish.set()
        assert await response.content.read() == STREAM[2] + STREAM[3] + DONE
    codes = [await worker.wait() for worker in workers]
    await upstream.stop()
    assert codes == [0, 0]
    records = [decode_span(record) for folder in home.spool.glob("*") for record in SpoolReader(folder)]
    assert [(span.route, span.status, span.streamed) for span in records] == [("m", "ok", True)]
    assert "Drink water." in json.dumps(json.loads(bytes(records[0].output)))


def test_accepted_connections_send_at_once() -> None:
    with open_socket("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.proto == socket.IPPROTO_TCP


def test_a_port_that_is_taken_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(PortTaken, match="--port"):
        open_socket("127.0.0.1", other.getsockname()[1])
