"""How much the gateway costs: requests per second and latency beside a bare uvicorn + aiohttp relay, in one run.

Gateway (keys, limits, spans, cost on) and floor take turns on one core; the static upstream and the load
generator (wrk, or a small client of our own where it is not installed) share the other. Rounds alternate; the
figures are medians. Time to first token is measured at one connection, from the request to the first event.
"""

import asyncio
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from record import record_result

HERE = Path(__file__).parent
KEY = "ps-bench-key-0123456789abcdefghijklmnopqrst"
TEXT = (
    "Walking for half an hour on most days lowers blood pressure a little, and sleep improves with it. " * 3
)
REPLY = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "gpt-4o-mini",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": TEXT[:290]}, "finish_reason": "stop"}
        ],
        "usage": {
            "prompt_tokens": 24,
            "completion_tokens": 60,
            "total_tokens": 84,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }
).encode()
ASK = json.dumps(
    {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "You answer questions about health in two sentences."},
            {"role": "user", "content": "How much should I walk to lower my blood pressure?"},
        ],
    }
).encode()
ASK_STREAM = ASK[:-1] + b', "stream": true}'
ROUNDS = int(os.environ.get("RELAY_ROUNDS", "5"))
SECONDS = int(os.environ.get("RELAY_SECONDS", "3"))
N_CONNECTIONS = 32


# -- the upstream


class Upstream(asyncio.Protocol):
    """Answers every request with the same reply, or the same eight-event stream."""

    def __init__(self) -> None:
        self.left = b""
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(REPLY)}\r\n\r\n"
        self.reply = head.encode() + REPLY
        events = [
            b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "model": "gpt-4o-mini",
                "choices": [{"index": 0, "delta": {"content": f"word{n} "}, "finish_reason": "stop" if n == 7 else None}],
            }).encode() + b"\n\n"
            for n in range(8)
        ]  # fmt: skip
        pieces = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in [*events, b"data: [DONE]\n\n"])
        start = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        self.stream = start + pieces + b"0\r\n\r\n"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.left += data
        while True:
            end = self.left.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.left[:end].lower()
            size = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            if len(self.left) < end + 4 + size:
                return
            body, self.left = self.left[end + 4 : end + 4 + size], self.left[end + 4 + size :]
            self.transport.write(self.stream if b'"stream": true' in body else self.reply)  # type: ignore[attr-defined]


async def run_upstream(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


# -- the floor


def make_floor(upstream: str) -> Any:
    import aiohttp

    session: aiohttp.ClientSession | None = None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal session
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                )
                await send({"type": "lifespan.startup.complete"})
            await session.close()  # type: ignore[union-attr]
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        assert session is not None
        async with session.post(
            f"{upstream}/chat/completions", data=body, headers={"content-type": "application/json"}
        ) as reply:
            kind = reply.headers["content-type"].encode()
            if kind.startswith(b"text/event-stream"):
                await send(
                    {
                        "type": "http.response.start",
                        "status": reply.status,
                        "headers": [(b"content-type", kind)],
                    }
                )
                async for piece in reply.content.iter_any():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
                return
            data = await reply.read()
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(data))]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    return app


def run_floor(port: int, upstream: str) -> None:
    import uvicorn

    uvicorn.run(make_floor(upstream), host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False,
                log_level="error")  # fmt: skip


# -- the gateway


def write_home(root: Path, upstream: str) -> None:
    from penstock.deploy.snapshots import build_snapshot, write_snapshot
    from penstock.spec.home import Home
    from penstock.spec.routes import KeyRow, Provider, Route, Target

    home = Home(root=root)
    home.snapshot.parent.mkdir(parents=True, exist_ok=True)
    key = KeyRow(
        id="key_bench",
        name="bench",
        secret_sha256=hashlib.sha256(KEY.encode()).hexdigest(),
        requests_per_minute=100_000_000,
        tokens_per_minute=1_000_000_000,
    )
    provider = Provider(name="openai", base_url=upstream, auth="none", price_id="openai")
    route = Route(name="gpt-4o-mini", targets=(Target(provider="openai", model="gpt-4o-mini"),))
    write_snapshot(home.snapshot, build_snapshot(providers=[provider], routes=[route], keys=[key]))


def run_gateway(port: int, root: Path) -> None:
    from penstock.gateway.serve import serve_gateway
    from penstock.spec.home import Home

    serve_gateway(Home(root=root), host="127.0.0.1", port=port, environ={}, internal_key="internal")


# -- the load


def wrk(url: str, connections: int, seconds: int, folder: Path) -> dict[str, float]:
    """Requests per second and latency percentiles in milliseconds under `connections` open connections."""
    script = folder / "post.lua"
    body = ASK.decode().replace("\\", "\\\\").replace("'", "\\'")
    script.write_text(
        f"wrk.method='POST'\nwrk.body='{body}'\nwrk.headers['Content-Type']='application/json'\n"
        f"wrk.headers['Authorization']='Bearer {KEY}'\n"
        "done=function(s,l,r) io.write(string.format('RESULT %d %d %d %d %d %d\\n', s.requests, s.duration, "
        "l:percentile(50), l:percentile(99), s.errors.status, s.errors.connect+s.errors.read+s.errors.timeout)) end\n"
    )
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    run = subprocess.run(
        command, capture_output=True, text=True, check=True, preexec_fn=partial(pin, 1)
    )  # no threads here
    line = next(line for line in run.stdout.splitlines() if line.startswith("RESULT"))
    requests, micros, p50, p99, bad, broken = (int(part) for part in line.split()[1:])
    assert bad == broken == 0, run.stdout
    return {"per_s": requests / micros * 1e6, "p50_ms": p50 / 1e3, "p99_ms": p99 / 1e3}


def own_load(url: str, connections: int, seconds: int) -> dict[str, float]:
    """The same with a client of our own, for machines without wrk."""
    host, port = url.removeprefix("http://").split("/", 1)[0].split(":")
    times: list[float] = []

    async def one(until: float) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        while time.perf_counter() < until:
            begun = time.perf_counter()
            writer.write(request(ASK))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
            times.append(time.perf_counter() - begun)
        writer.close()

    async def all_of_them() -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(one(until) for _ in range(connections)))

    pin(1)
    uvloop.run(all_of_them())
    times.sort()
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    return {"per_s": len(times) / seconds, "p50_ms": p50 * 1e3, "p99_ms": p99 * 1e3}


def request(body: bytes) -> bytes:
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


async def first_events(port: int, count: int) -> list[float]:
    """Milliseconds from request to first event, `count` times on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        writer.write(request(ASK_STREAM))
        await reader.readuntil(b"data: ")
        times.append((time.perf_counter() - begun) * 1e3)
        await reader.readuntil(b"\r\n0\r\n\r\n")
    writer.close()
    return times


def pin(core: int) -> None:
    """Keep this process on one core, where there are two."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"nothing listens on {port}")


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def median_of(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}


def measure() -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    ports = {name: free_port() for name in ("upstream", "floor", "gateway")}
    upstream = f"http://127.0.0.1:{ports['upstream']}/v1"
    write_home(folder, upstream)
    children: dict[str, subprocess.Popen[bytes]] = {}
    load = (lambda *args: wrk(*args, folder)) if shutil.which("wrk") else own_load
    try:
        for name, core in (("upstream", 1), ("floor", 0), ("gateway", 0)):
            argument = str(folder) if name == "gateway" else upstream
            command = [sys.executable, __file__, name, str(ports[name]), argument]
            children[name] = subprocess.Popen(command, preexec_fn=partial(pin, core))  # noqa: PLW1509  # no threads here
            wait_for(ports[name])
        names = ("floor", "gateway")
        urls = {name: f"http://127.0.0.1:{ports[name]}/v1/chat/completions" for name in names}
        resident_idle = resident_mb(children["gateway"].pid)
        for name in names:
            load(urls[name], N_CONNECTIONS, 1)
        many: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        one: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        firsts: dict[str, list[float]] = {name: [] for name in ("upstream", *names)}
        for number in range(ROUNDS):
            for name in names if number % 2 else names[::-1]:
                many[name].append(load(urls[name], N_CONNECTIONS, SECONDS))
                one[name].append(load(urls[name], 1, max(1, SECONDS // 2)))
            for name in firsts:
                firsts[name] += uvloop.run(first_events(ports[name], 100))
        resident = resident_mb(children["gateway"].pid)
        spool_mb = sum(path.stat().st_size for path in (folder / "spool").rglob("*.log")) / 1e6
    finally:
        for child in children.values():
            child.terminate()
        for child in children.values():
            child.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
    ratio = statistics.median(
        gateway["per_s"] / floor["per_s"]
        for gateway, floor in zip(many["gateway"], many["floor"], strict=True)
    )
    quantiles = {name: statistics.quantiles(values, n=100) for name, values in firsts.items()}
    direct = quantiles["upstream"]
    return {
        "ratio_to_floor": round(ratio, 3),
        "load": "wrk" if shutil.which("wrk") else "own client",
        f"connections_{N_CONNECTIONS}": {name: median_of(many[name]) for name in names},
        "connections_1": {name: median_of(one[name]) for name in names},
        "first_event_added_ms": {
            name: {
                "p50": round(quantiles[name][49] - direct[49], 3),
                "p99": round(quantiles[name][98] - direct[98], 3),
            }
            for name in names
        },
        "gateway_resident_mb": {"idle": round(resident_idle, 1), "after": round(resident, 1)},
        "spans_written_mb": round(spool_mb, 1),
        "rounds": ROUNDS,
    }


def main() -> None:
    if len(sys.argv) == 1:
        record_result("relay", measure(), packages=("uvicorn", "uvloop", "httptools", "aiohttp", "msgspec"))
        return
    part, port, argument = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if part == "upstream":
        uvloop.run(run_upstream(port))
    elif part == "floor":
        run_floor(port, argument)
    else:
        run_gateway(port, Path(argument))


if __name__ == "__main__":
    main()
