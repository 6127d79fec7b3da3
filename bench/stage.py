"""What the gateway's benchmarks share: the request and reply, a static upstream, load generators, pinned children.

The gateway under test (or its peer) has core 0; the upstream and the load generator share core 1.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import uvloop

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
N_CONNECTIONS = 32
FIRST_EVENT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """What to send where."""

    url: str
    body: bytes = ASK
    headers: Mapping[str, str] = field(default_factory=lambda: {"authorization": f"Bearer {KEY}"})

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self.url.removeprefix("http://").split("/", 1)[0].split(":")
        return host, int(port)

    def request(self, body: bytes | None = None) -> bytes:
        """Return the bytes of one HTTP/1.1 request."""
        sent = self.body if body is None else body
        path = "/" + self.url.removeprefix("http://").split("/", 1)[1]
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        return (
            f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{lines}"
            f"content-length: {len(sent)}\r\n\r\n"
        ).encode() + sent


def put_load(load: Load, connections: int, seconds: float, folder: Path) -> dict[str, float]:
    """Requests per second and latency percentiles in milliseconds under `connections` open connections."""
    if shutil.which("wrk"):
        return _wrk(load, connections, max(1, round(seconds)), folder)
    return _own_load(load, connections, seconds)


def _wrk(load: Load, connections: int, seconds: int, folder: Path) -> dict[str, float]:
    script = folder / "post.lua"
    body = load.body.decode().replace("\\", "\\\\").replace("'", "\\'")
    headers = "".join(f"wrk.headers['{name}']='{value}'\n" for name, value in load.headers.items())
    script.write_text(
        f"wrk.method='POST'\nwrk.body='{body}'\nwrk.headers['Content-Type']='application/json'\n{headers}"
        "done=function(s,l,r) io.write(string.format('RESULT %d %d %d %d %d %d\\n', s.requests, s.duration, "
        "l:percentile(50), l:percentile(99), s.errors.status, s.errors.connect+s.errors.read+s.errors.timeout)) end\n"
    )
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency", "-s", str(script),
               load.url]  # fmt: skip
    run = subprocess.run(
        command, capture_output=True, text=True, check=True, preexec_fn=partial(pin, 1)
    )  # no threads here
    line = next(line for line in run.stdout.splitlines() if line.startswith("RESULT"))
    requests, micros, p50, p99, bad, broken = (int(part) for part in line.split()[1:])
    assert bad == broken == 0, run.stdout
    return {"per_s": requests / micros * 1e6, "p50_ms": p50 / 1e3, "p99_ms": p99 / 1e3, "n": requests}


def _own_load(load: Load, connections: int, seconds: float) -> dict[str, float]:
    """The same with a client of our own, for machines without wrk."""
    times: list[float] = []

    async def one(until: float) -> None:
        reader, writer = await asyncio.open_connection(*load.address)
        while time.perf_counter() < until:
            begun = time.perf_counter()
            writer.write(load.request())
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
    p50, p99 = quantile(times, 0.5), quantile(times, 0.99)
    return {"per_s": len(times) / seconds, "p50_ms": p50 * 1e3, "p99_ms": p99 * 1e3, "n": len(times)}


class _Caller(asyncio.Protocol):
    """One kept connection, one call at a time; tells `done` when its reply is whole."""

    def __init__(self, done: Callable[["_Caller"], None]) -> None:
        self.due = 0.0
        self._done = done
        self._left = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def call(self, request: bytes, due: float) -> None:
        """Send a request that was due at `due`."""
        self.due = due
        self._transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Look whether the reply is whole."""
        self._left += data
        head, border, body = self._left.partition(b"\r\n\r\n")
        if border and len(body) >= int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]):
            assert head.startswith(b"HTTP/1.1 200"), head
            self._left = b""
            self._done(self)


def put_paced_load(
    load: Load, per_s: float, seconds: float, connections: int = N_CONNECTIONS
) -> dict[str, float]:
    """Latency percentiles in milliseconds of calls that come at an even pace, whether or not earlier ones are answered.

    A call that finds no connection free waits for one, and that counts: time runs from the moment it was due.
    """

    async def pace() -> list[float]:
        loop = asyncio.get_running_loop()
        request, times, waiting = load.request(), [], deque[float]()
        is_over = asyncio.Event()

        def done(caller: _Caller) -> None:
            times.append(time.perf_counter() - caller.due)
            if waiting:
                caller.call(request, waiting.popleft())
            else:
                idle.append(caller)
            if len(times) == n_calls:
                is_over.set()

        n_calls = round(per_s * seconds)
        idle = [
            (await loop.create_connection(partial(_Caller, done), *load.address))[1]
            for _ in range(connections)
        ]
        begun, n_due = time.perf_counter(), 0
        while n_due < n_calls:
            await asyncio.sleep(0.0005)
            now = time.perf_counter()
            while n_due < n_calls and begun + n_due / per_s <= now:
                n_due += 1
                if idle:
                    idle.pop().call(request, now)
                else:
                    waiting.append(now)
        await asyncio.wait_for(is_over.wait(), 60)
        return sorted(times)

    pin(1)
    times = uvloop.run(pace())
    return {"p50_ms": quantile(times, 0.5) * 1e3, "p99_ms": quantile(times, 0.99) * 1e3, "n": len(times)}


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of values in ascending order."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def first_events(load: Load, count: int) -> list[float]:
    """Milliseconds from request to first event, `count` times on one connection; those that came, if some failed."""
    reader, writer = await asyncio.open_connection(*load.address)
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(FIRST_EVENT_S):
                writer.write(load.request(ASK_STREAM))
                await reader.readuntil(b"data: ")
                took_ms = (time.perf_counter() - begun) * 1e3
                await reader.readuntil(b"\r\n0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            writer.close()
            if not times:
                return []  # it does not stream what this upstream sends
            reader, writer = await asyncio.open_connection(*load.address)
        else:
            times.append(took_ms)
    writer.close()
    return times


class Upstream(asyncio.Protocol):
    """Answers every request with the reply of its path, or with the same eight-event stream."""

    replies: Mapping[bytes, bytes] = {}
    """Part of the path → body; what is not there gets OpenAI's chat reply."""

    def __init__(self) -> None:
        self.left = b""
        self.answers = {part: _json_reply(body) for part, body in self.replies.items()}
        self.reply = _json_reply(REPLY)
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
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole request that has arrived."""
        self.left += data
        while True:
            end = self.left.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.left[:end].lower()
            size = self._body_size(head, end + 4)
            if size is None or len(self.left) < end + 4 + size:
                return
            body, self.left = self.left[end + 4 : end + 4 + size], self.left[end + 4 + size :]
            line = head.split(b"\r\n", 1)[0]
            answer = next((reply for part, reply in self.answers.items() if part in line), self.reply)
            is_stream = b'"stream": true' in body or b'"stream":true' in body
            self.transport.write(self.stream if is_stream else answer)  # type: ignore[attr-defined]

    def _body_size(self, head: bytes, start: int) -> int | None:
        """Return how long the body is as sent, chunk sizes included; None while a chunked one is not complete."""
        if b"content-length:" in head:
            return int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if b"transfer-encoding:" not in head:
            return 0
        last = self.left.find(b"0\r\n\r\n", start)
        return None if last < 0 else last + 5 - start


def _json_reply(body: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )


async def run_upstream(port: int) -> None:
    """Serve the static upstream for ever."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


def write_home(root: Path, upstream: str) -> None:
    """Write a home whose snapshot has one limited key and one priced route to `upstream`."""
    from penstock.deploy.snapshots import build_snapshot, write_snapshot
    from penstock.spec.home import Home
    from penstock.spec.routes import Provider, Route, Target

    home = Home(root=root)
    home.snapshot.parent.mkdir(parents=True, exist_ok=True)
    provider = Provider(name="openai", base_url=upstream, auth="none", price_id="openai")
    route = Route(name="gpt-4o-mini", targets=(Target(provider="openai", model="gpt-4o-mini"),))
    write_snapshot(home.snapshot, build_snapshot(providers=[provider], routes=[route], keys=[bench_key()]))


def bench_key() -> "object":
    """Return the row of the key that the load uses, with limits that count but never refuse."""
    from penstock.spec.routes import KeyRow

    return KeyRow(
        id="key_bench",
        name="bench",
        secret_sha256=hashlib.sha256(KEY.encode()).hexdigest(),
        requests_per_minute=100_000_000,
        tokens_per_minute=1_000_000_000,
    )


def run_gateway(port: int, root: Path) -> None:
    """Serve Penstock's gateway from the home `root`."""
    from penstock.gateway.serve import serve_gateway
    from penstock.spec.home import Home

    serve_gateway(Home(root=root), host="127.0.0.1", port=port, environ={}, internal_key="internal")


@contextlib.contextmanager
def children(
    commands: Mapping[str, tuple[int, Sequence[str], Mapping[str, str]]], log: Path
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Run named commands, each pinned to a core (name → core, argv, extra environment); end them all after use."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        with log.open("ab") as output:
            for name, (core, argv, extra) in commands.items():
                running[name] = subprocess.Popen(
                    list(argv),
                    preexec_fn=partial(pin, core),  # noqa: PLW1509  # no threads here
                    env={**os.environ, **extra},
                    stdout=output,
                    stderr=output,
                )
            yield running
    finally:
        for child in running.values():
            child.terminate()
        for child in running.values():
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def own_part(script: str, part: str, port: int, argument: str) -> list[str]:
    """Return the command that runs a part of a benchmark script as a child."""
    return [sys.executable, script, part, str(port), argument]


def pin(core: int) -> None:
    """Keep this process on one core, where there are two."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


_given: set[int] = set()


def free_port() -> int:
    """Return a port that nobody listens on and that was not given before."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


def wait_for(port: int, patience_s: float = 20.0) -> None:
    """Return once something listens on `port`."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"nothing listens on {port}")


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used with all its threads, kernel's work for it included.

    Under load from elsewhere it is far steadier than the clock: waiting does not count.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and its children."""
    total = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            lines = (folder / "status").read_text().splitlines()
        except OSError:
            continue
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        if int(folder.name) == pid or int(fields.get("PPid", "0")) == pid:
            total += int(fields.get("VmRSS", "0 kB").split()[0]) / 1024
    return total


def median_of(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of every figure over `rows`."""
    return {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}
