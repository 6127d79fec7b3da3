"""Memory over a long run: a million calls (SOAK_CALLS) through one gateway, half of them streams, spans collected.

Resident memory is read every two seconds; the slope is a least-squares fit over the second half of the run, in MB for
100,000 calls. A collector takes the spool away meanwhile, as in an installation, but throws the spans away.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import uvloop

from record import record_result
from stage import (
    ASK_STREAM,
    Load,
    children,
    free_port,
    own_part,
    pin,
    resident_mb,
    run_gateway,
    run_upstream,
    wait_for,
    write_home,
)

N_CALLS = int(os.environ.get("SOAK_CALLS", "1000000"))
N_CONNECTIONS = 64
STREAM_SHARE = 8
"""Every eighth call is a stream."""


class Worker(asyncio.Protocol):
    """Sends one call after the other over one connection and counts what comes back."""

    def __init__(self, load: Load, left: list[int], bad: list[int]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._plain, self._stream = load.request(), load.request(ASK_STREAM)
        self._left, self._bad = left, bad
        self._buffer = b""
        self._sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first call."""
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        """Send the next call once the reply is whole."""
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._buffer[:head_end].lower()
        if b"content-length:" in head:
            size = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            if len(self._buffer) < head_end + 4 + size:
                return
        elif not self._buffer.endswith(b"\r\n0\r\n\r\n") and not self._buffer.endswith(b"\r\n\r\n0\r\n\r\n"):
            return
        if b" 200 " not in head[:16]:
            self._bad[0] += 1
            if self._bad[0] == 1:
                print(self._buffer[:600].decode("utf-8", "replace"), file=sys.stderr)
        self._buffer = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """A connection that was closed early counts as bad."""
        if not self.done.done():
            self._bad[0] += 1
            self.done.set_result(None)

    def _next(self) -> None:
        if self._left[0] <= 0:
            if not self.done.done():
                self.done.set_result(None)
                self._transport.close()
            return
        self._left[0] -= 1
        self._sent += 1
        request = self._stream if self._sent % STREAM_SHARE == 0 else self._plain
        self._transport.write(request)  # type: ignore[attr-defined]


async def run_calls(load: Load, n_calls: int, bad: list[int], left: list[int]) -> None:
    """Make `n_calls` calls over N_CONNECTIONS connections."""
    loop = asyncio.get_running_loop()
    left[0] = n_calls
    workers = []
    for _ in range(N_CONNECTIONS):
        _, worker = await loop.create_connection(lambda: Worker(load, left, bad), *load.address)
        workers.append(worker)
    await asyncio.gather(*(worker.done for worker in workers))


def slope(points: list[tuple[float, float]]) -> float:
    """Return the least-squares slope of y over x."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    over = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / over if over else 0.0


def drain_spool(root: Path, stop: threading.Event) -> None:
    """Read and acknowledge what the gateway writes, as a collector would."""
    from penstock.traces.collector import Collector

    class Nowhere:
        def append(self, spans: Any) -> int:
            return len(spans)

    collector = Collector(root / "spool", Nowhere())  # type: ignore[arg-type]
    while not stop.wait(0.2):
        collector.run_once()


def measure() -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    ports = {"upstream": free_port(), "gateway": free_port()}
    write_home(folder, f"http://127.0.0.1:{ports['upstream']}/v1")
    commands = {
        name: (core, own_part(__file__, name, ports[name], str(folder)), {})
        for name, core in (("upstream", 1), ("gateway", 0))
    }
    pin(1)
    points: list[tuple[float, float]] = []
    left, bad = [N_CALLS], [0]
    stop = threading.Event()
    try:
        with children(commands, folder / "bench.log") as running:
            for port in ports.values():
                wait_for(port)
            pid = running["gateway"].pid

            def watch() -> None:
                while not stop.wait(2):
                    points.append((N_CALLS - left[0], resident_mb(pid)))

            threads = [
                threading.Thread(target=watch),
                threading.Thread(target=drain_spool, args=(folder, stop)),
            ]
            for thread in threads:
                thread.start()
            begun = time.monotonic()
            load = Load(url=f"http://127.0.0.1:{ports['gateway']}/v1/chat/completions")
            uvloop.run(run_calls(load, N_CALLS, bad, left))
            took_s = time.monotonic() - begun
            n_files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            stop.set()
            for thread in threads:
                thread.join()
    finally:
        stop.set()
        shutil.rmtree(folder, ignore_errors=True)
    half = points[len(points) // 2 :]
    return {
        "n_calls": N_CALLS,
        "n_bad": bad[0],
        "took_s": round(took_s, 1),
        "per_s": round(N_CALLS / took_s),
        "resident_mb": {
            "after 10%": round(points[len(points) // 10][1], 1),
            "half": round(half[0][1], 1),
            "end": round(points[-1][1], 1),
            "most": round(max(mb for _, mb in points), 1),
        },
        "slope_mb_per_100k_calls": round(slope(half) * 100_000, 3),
        "open_files_at_end": n_files,
    }


def main() -> None:
    if len(sys.argv) == 1:
        record_result("soak", measure(), packages=("uvicorn", "uvloop", "httptools", "msgspec"))
        return
    part, port, argument = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if part == "upstream":
        uvloop.run(run_upstream(port))
    else:
        run_gateway(port, Path(argument))


if __name__ == "__main__":
    main()
