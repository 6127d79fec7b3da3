"""What a gateway adds to paced streams: time to first token, each chunk, and whether many at once arrive whole.

Time to first token is that of N_FIRSTS short streams, one after the other over one kept connection. The upstream of
the others writes 64 deltas at an even pace and puts the time of writing into each, so that the lag of every chunk
is measured, not guessed: reading time minus writing time, both on one machine's monotonic clock. The same client reads
the upstream directly, through the bare relay and through the gateway; what a relay adds is the difference.
"""

import asyncio
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from record import record_result
from relay import run_floor
from stage import (
    ASK_STREAM,
    Load,
    children,
    cpu_s,
    free_port,
    own_part,
    pin,
    resident_mb,
    run_gateway,
    wait_for,
    write_home,
)

N_CHUNKS = 64
PACES = tuple(float(part) for part in os.environ.get("STREAM_PACES", "0.02,0.05").split(","))
"""Seconds between two chunks: 50 and 20 tokens a second."""
N_STREAMS = tuple(int(part) for part in os.environ.get("STREAM_COUNTS", "1,50,500").split(","))
N_FIRSTS = int(os.environ.get("STREAM_FIRSTS", "400"))
"""Streams of which only the first token counts: as many as a 99th percentile needs."""
FIRST_S = 0.005
_STAMP = re.compile(rb"n(\d+) t(\d+)")


class PacedUpstream(asyncio.Protocol):
    """Streams `max_tokens` deltas, one every `pace` seconds as the request's `seed` says in milliseconds."""

    def __init__(self) -> None:
        self.left = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Start a stream for each whole request."""
        self.left += data
        end = self.left.find(b"\r\n\r\n")
        if end < 0:
            return
        size = int(self.left[:end].lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(self.left) < end + 4 + size:
            return
        body, self.left = self.left[end + 4 : end + 4 + size], self.left[end + 4 + size :]
        found, wanted = re.search(rb'"seed": ?(\d+)', body), re.search(rb'"max_tokens": ?(\d+)', body)
        assert found is not None
        self.n_chunks = N_CHUNKS if wanted is None else int(wanted.group(1))
        loop = asyncio.get_running_loop()
        self.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        loop.call_later(FIRST_S, self.tick, loop.time() + FIRST_S, int(found.group(1)) / 1000, 0)

    def tick(self, due: float, pace: float, number: int) -> None:
        """Write the next delta, or the end."""
        if self.transport.is_closing():
            return
        if number == self.n_chunks:
            self.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            return
        finish = b'"stop"' if number == self.n_chunks - 1 else b"null"
        event = (
            b'data: {"id":"c","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini",'
            b'"choices":[{"index":0,"delta":{"content":"n%d t%d "},"finish_reason":%b}]}\n\n'
            % (number, time.monotonic_ns(), finish)
        )
        self.write(b"%x\r\n%b\r\n" % (len(event), event))
        asyncio.get_running_loop().call_at(due + pace, self.tick, due + pace, pace, number + 1)

    def write(self, data: bytes) -> None:
        """Write to the client."""
        self.transport.write(data)  # type: ignore[attr-defined]


class Reader(asyncio.Protocol):
    """Reads one stream: the lag of each chunk, in order, and whether the end came."""

    def __init__(self, request: bytes) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.first_ms: float | None = None
        self.lags_us: list[float] = []
        self.is_whole = False
        self._request = request
        self._left = b""
        self._next = 0
        self._sent_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = transport
        self._sent_ns = time.monotonic_ns()
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Note the lag of every chunk that is complete."""
        now = time.monotonic_ns()
        text = self._left + data
        end = 0
        for found in _STAMP.finditer(text):
            if found.end() == len(text):
                break
            end = found.end()
            if int(found.group(1)) == self._next:
                self._next += 1
            if self.first_ms is None:
                self.first_ms = (now - self._sent_ns) / 1e6
            self.lags_us.append((now - int(found.group(2))) / 1e3)
        if b"[DONE]" in text:
            self.is_whole = self._next == N_CHUNKS == len(self.lags_us)
            self._finish()
        self._left = text[max(end, len(text) - 256) :]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """An early end is a lost stream."""
        self._finish()

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
            self._transport.close()


async def read_streams(load: Load, count: int, pace: float) -> list[Reader]:
    """Read `count` streams at once, begun evenly over one second."""
    loop = asyncio.get_running_loop()
    body = ASK_STREAM[:-1] + b', "seed": %d}' % round(pace * 1000)
    readers = []
    for number in range(count):
        _, reader = await loop.create_connection(lambda: Reader(load.request(body)), *load.address)
        readers.append(reader)
        if number + 1 < count:
            await asyncio.sleep(1 / count)
    await asyncio.wait_for(asyncio.gather(*(reader.done for reader in readers)), 120)
    return readers


async def read_firsts(load: Load, count: int) -> list[float]:
    """Return the milliseconds to the first token of `count` streams of two tokens, one after the other, in order."""
    request = load.request(ASK_STREAM[:-1] + b', "seed": 2, "max_tokens": 2}')
    reader, writer = await asyncio.open_connection(*load.address)
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        writer.write(request)
        await reader.readuntil(b"data: ")
        times.append((time.perf_counter() - begun) * 1e3)
        await reader.readuntil(b"\r\n0\r\n\r\n")
    writer.close()
    return sorted(times)


def compare_firsts(loads: dict[str, Load]) -> dict[str, Any]:
    """Return how much later the first token comes than from the upstream itself; the ways take turns."""
    times: dict[str, list[float]] = {name: [] for name in loads}
    for _ in range(4):
        for name, load in loads.items():
            times[name] += uvloop.run(read_firsts(load, N_FIRSTS // 4))
    found = {
        name: {f"p{share * 100:g}": _quantile(sorted(each), share) for share in (0.5, 0.99)}
        for name, each in times.items()
    }
    return {
        "n": N_FIRSTS,
        "upstream_ms": found["upstream"],
        "added_ms": {
            name: {part: round(value - found["upstream"][part], 3) for part, value in found[name].items()}
            for name in ("floor", "gateway")
        },
    }


def summarise(readers: list[Reader]) -> dict[str, float]:
    """Return quantiles of first chunk and of every chunk's lag, and how many streams came whole."""
    lags = sorted(lag for reader in readers for lag in reader.lags_us)
    firsts = sorted(reader.first_ms for reader in readers if reader.first_ms is not None)
    return {
        "n_whole": sum(reader.is_whole for reader in readers),
        "first_p50_ms": _quantile(firsts, 0.5),
        "first_p99_ms": _quantile(firsts, 0.99),
        "chunk_p50_us": _quantile(lags, 0.5),
        "chunk_p99_us": _quantile(lags, 0.99),
    }


def _quantile(ordered: list[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 3) if ordered else float("nan")


def measure() -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    ports = {name: free_port() for name in ("upstream", "floor", "gateway")}
    upstream = f"http://127.0.0.1:{ports['upstream']}/v1"
    write_home(folder, upstream)
    commands = {
        name: (core, own_part(__file__, name, port, str(folder) if name == "gateway" else upstream), {})
        for (name, port), core in zip(ports.items(), (1, 0, 0), strict=True)
    }
    pin(1)
    table: dict[str, Any] = {}
    try:
        with children(commands, folder / "bench.log") as running:
            for port in ports.values():
                wait_for(port)
            loads = {
                name: Load(url=f"http://127.0.0.1:{port}/v1/chat/completions") for name, port in ports.items()
            }
            firsts = compare_firsts(loads)
            print("first token", firsts, flush=True)
            for pace in PACES:
                for count in N_STREAMS:
                    repeats = max(1, 8 // count)
                    found: dict[str, list[Reader]] = {name: [] for name in loads}
                    used_s = dict.fromkeys(loads, 0.0)
                    for _ in range(repeats):
                        for name, load in loads.items():
                            before_s = cpu_s(running[name].pid)
                            found[name] += uvloop.run(read_streams(load, count, pace))
                            used_s[name] += cpu_s(running[name].pid) - before_s
                    rows = {name: summarise(readers) for name, readers in found.items()}
                    for name, row in rows.items():
                        row["cpu_us_a_chunk"] = round(used_s[name] / (count * repeats * N_CHUNKS) * 1e6, 1)
                    direct = rows["upstream"]
                    for name in ("floor", "gateway"):
                        rows[name]["added_first_p50_ms"] = round(
                            rows[name]["first_p50_ms"] - direct["first_p50_ms"], 3
                        )
                        rows[name]["added_first_p99_ms"] = round(
                            rows[name]["first_p99_ms"] - direct["first_p99_ms"], 3
                        )
                        rows[name]["added_chunk_p50_us"] = round(
                            rows[name]["chunk_p50_us"] - direct["chunk_p50_us"], 1
                        )
                        rows[name]["added_chunk_p99_us"] = round(
                            rows[name]["chunk_p99_us"] - direct["chunk_p99_us"], 1
                        )
                    rows["n_streams"] = {"asked": count * repeats}
                    table[f"{count} at once, a chunk every {pace * 1000:g} ms"] = rows
                    print(count, pace, rows, flush=True)
            resident = resident_mb(running["gateway"].pid)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "first_token": firsts,
        "streams": table,
        "gateway_resident_mb": round(resident, 1),
        "n_chunks": N_CHUNKS,
        "stopwatch_us": round(_stopwatch_us(), 3),
    }


def _stopwatch_us() -> float:
    """How long one look at the clock takes."""
    spans = []
    for _ in range(200):
        begun = time.monotonic_ns()
        spans.append((time.monotonic_ns() - begun) / 1e3)
    return statistics.median(spans)


async def serve_paced(port: int) -> None:
    """Serve the paced upstream for ever."""
    server = await asyncio.get_running_loop().create_server(PacedUpstream, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


def main() -> None:
    if len(sys.argv) == 1:
        record_result("streams", measure(), packages=("uvicorn", "uvloop", "httptools", "aiohttp", "msgspec"))
        return
    part, port, argument = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if part == "upstream":
        uvloop.run(serve_paced(port))
    elif part == "floor":
        run_floor(port, argument)
    else:
        run_gateway(port, Path(argument))


if __name__ == "__main__":
    main()
