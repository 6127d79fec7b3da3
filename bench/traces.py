"""The same OTLP batches to Penstock, Phoenix and MLflow over HTTP: how fast spans are stored, and what they take on disk.

    python bench/traces.py        # TRACES_SPANS for Penstock, TRACES_PEER_S for each peer, TRACES_PACE spans a second

Each server has core 0 for itself; the sender has core 1. Batches hold 100 traces of five spans, about 2.1 KB a span,
as protobuf, sent over a few connections; a server that answers 429 or 503 is asked again after what it says. Spans count
when they can be found: Penstock is asked over REST, of the peers the rows in their database are counted. Penstock is
measured twice: as fast as it acknowledges (`penstock`), and at a steady pace of 10,000 spans a second
(`penstock_paced`), where twice a second the oldest span is looked for that is acknowledged and cannot be found yet. Peers are
installed from the package registry into a throw-away folder (PEERS_FOLDER keeps it between runs).
"""

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from ingest import as_otlp, make_trace
from record import record_result
from stage import children, cpu_s, free_port, pin, resident_mb, wait_for

N_SPANS = int(os.environ.get("TRACES_SPANS", "200000"))
PEER_S = float(os.environ.get("TRACES_PEER_S", "40"))
TRACES_A_BATCH = 100
SPANS_A_TRACE = 5
N_SENDERS = 4
PACE = float(os.environ.get("TRACES_PACE", "10000"))
"""Spans a second of the steady run; 0 leaves it out."""
MAX_UNDER_WAY = 16
PEERS = {"phoenix": "arize-phoenix", "mlflow": "mlflow"}
PATIENCE_S = 60.0
LOOK_S = 0.5
"""Between two looks at what is stored: each is a query, and takes time from the core that stores."""


def make_batches(n_spans: int) -> list[bytes]:
    """Return export requests that hold `n_spans` spans together."""
    n_batches = n_spans // (TRACES_A_BATCH * SPANS_A_TRACE)
    return [
        as_otlp([span for number in range(first, first + TRACES_A_BATCH) for span in make_trace(number)])
        for first in range(0, n_batches * TRACES_A_BATCH, TRACES_A_BATCH)
    ]


async def send(
    url: str, headers: dict[str, str], batches: Sequence[bytes], *, limit_s: float | None
) -> tuple[int, float, int]:
    """Send the batches in order over `N_SENDERS` connections; return spans acknowledged, seconds, and refusals."""
    waiting = iter(batches)
    begun = time.perf_counter()
    n_acknowledged, n_refused = 0, 0

    async def one(session: aiohttp.ClientSession) -> None:
        nonlocal n_acknowledged, n_refused
        for body in waiting:
            while limit_s is None or time.perf_counter() - begun < limit_s:
                async with session.post(url, data=body) as reply:
                    await reply.read()
                if reply.status == 200:
                    n_acknowledged += TRACES_A_BATCH * SPANS_A_TRACE
                    break
                assert reply.status in {429, 503}, reply.status
                n_refused += 1
                await asyncio.sleep(float(reply.headers.get("retry-after", "1")))

    wire = {"content-type": "application/x-protobuf", **headers}
    async with aiohttp.ClientSession(headers=wire, timeout=aiohttp.ClientTimeout(total=300)) as session:
        await asyncio.gather(*(one(session) for _ in range(N_SENDERS)))
    return n_acknowledged, time.perf_counter() - begun, n_refused


def watch(count: Callable[[], int], wanted: int, until: float) -> tuple[int, float]:
    """Return how many spans are there once `wanted` are, nothing more comes for a while, or the time is up; and when."""
    most, moment = count(), time.perf_counter()
    while most < wanted and time.perf_counter() < until and time.perf_counter() - moment < 15:
        time.sleep(LOOK_S)
        found = count()
        if found > most:
            most, moment = found, time.perf_counter()
    return most, moment


def put_spans(
    url: str,
    headers: dict[str, str],
    batches: Sequence[bytes],
    count: Callable[[], int],
    *,
    limit_s: float | None,
) -> dict[str, Any]:
    """Send, wait until what was acknowledged is found, and return the figures."""
    begun = time.perf_counter()
    n_acknowledged, took_s, n_refused = asyncio.run(send(url, headers, batches, limit_s=limit_s))
    n_stored, moment = watch(count, n_acknowledged, time.perf_counter() + PATIENCE_S)
    return {
        "n_acknowledged": n_acknowledged,
        "n_stored": n_stored,
        "n_refusals": n_refused,
        "acknowledged_spans_per_s": round(n_acknowledged / took_s),
        "stored_spans_per_s": round(n_stored / (moment - begun)),
        "visible_after_last_acknowledgement_s": round(max(0.0, moment - begun - took_s), 2),
    }


def size_of(*paths: Path) -> int:
    """Return the bytes that files and folders take."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return sum(file.stat().st_size for file in files if file.is_file())


async def send_paced(
    url: str, headers: dict[str, str], batches: Sequence[bytes], spans_per_s: float
) -> tuple[list[float], list[float], int]:
    """Send each batch when it is due; return when each was acknowledged, how long that took, and refusals."""
    acknowledged: list[float] = []
    took: list[float] = []
    n_refused = 0
    places = asyncio.Semaphore(MAX_UNDER_WAY)
    begun = time.perf_counter()

    async def one(session: aiohttp.ClientSession, body: bytes) -> None:
        nonlocal n_refused
        async with places:
            while True:
                sent = time.perf_counter()
                async with session.post(url, data=body) as reply:
                    await reply.read()
                if reply.status == 200:
                    break
                assert reply.status in {429, 503}, reply.status
                n_refused += 1
                await asyncio.sleep(float(reply.headers.get("retry-after", "1")))
            acknowledged.append(time.perf_counter())
            took.append(acknowledged[-1] - sent)

    wire = {"content-type": "application/x-protobuf", **headers}
    patience = aiohttp.ClientTimeout(total=300)
    async with (
        aiohttp.ClientSession(headers=wire, timeout=patience) as session,
        asyncio.TaskGroup() as sending,
    ):
        for number, body in enumerate(batches):
            due = begun + number * TRACES_A_BATCH * SPANS_A_TRACE / spans_per_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sending.create_task(one(session, body))
    return sorted(acknowledged), sorted(took), n_refused


def put_paced(
    url: str, headers: dict[str, str], batches: Sequence[bytes], count: Callable[[], int]
) -> dict[str, Any]:
    """Send at `PACE`, look meanwhile, and return the figures."""
    looks: list[tuple[float, int]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(LOOK_S):
            found = count()
            looks.append((time.perf_counter(), found))  # after the answer: the look's own time is no gain

    looking = threading.Thread(target=look)
    begun = time.perf_counter()
    looking.start()
    acknowledged, took, n_refused = asyncio.run(send_paced(url, headers, batches, PACE))
    n_sent = len(batches) * TRACES_A_BATCH * SPANS_A_TRACE
    n_stored, moment = watch(count, n_sent, time.perf_counter() + PATIENCE_S)
    stop.set()
    looking.join()
    lags = [lag_at(moment, found, acknowledged) for moment, found in looks]
    return {
        "n_acknowledged": n_sent,
        "n_stored": n_stored,
        "n_refusals": n_refused,
        "acknowledged_spans_per_s": round(n_sent / (acknowledged[-1] - begun)),
        "acknowledgement_p50_ms": round(took[len(took) // 2] * 1000, 1),
        "acknowledgement_p99_ms": round(took[len(took) * 99 // 100] * 1000, 1),
        "oldest_not_visible_median_s": round(statistics.median(lags), 2),
        "oldest_not_visible_most_s": round(max(lags), 2),
        "visible_after_last_acknowledgement_s": round(max(0.0, moment - acknowledged[-1]), 2),
    }


def lag_at(moment: float, n_found: int, acknowledged: Sequence[float]) -> float:
    """Return how long ago the oldest batch was acknowledged that cannot be found yet."""
    n_batches = n_found // (TRACES_A_BATCH * SPANS_A_TRACE)
    return max(0.0, moment - acknowledged[n_batches]) if n_batches < len(acknowledged) else 0.0


@contextlib.contextmanager
def running_penstock(folder: Path) -> Iterator[tuple[str, dict[str, str], Callable[[], int], int]]:
    """Run the control process alone with a fresh home; yield address, headers, what counts spans, and its id."""
    program = str(Path(sys.executable).with_name("penstock"))
    home = folder / "home"
    subprocess.run([program, "init", "--home", str(home)], check=True, stdout=subprocess.DEVNULL)
    made = subprocess.run(
        [program, "key", "create", "--name", "bench", "--scope", "owner", "--json", "--home", str(home)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    key = json.loads(made.stdout)["key"]
    port = free_port()
    argv = [program, "control", "--home", str(home), "--port", str(port)]
    base = f"http://127.0.0.1:{port}"
    headers = {"authorization": f"Bearer {key}"}

    def count() -> int:
        request = urllib.request.Request(
            f"{base}/api/v1/overview?since_ns=0&until_ns={2**62}", headers=headers
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            return int(json.load(reply)["n_calls"]) * SPANS_A_TRACE

    with children({"penstock": (0, argv, {})}, folder / "penstock.log") as running:
        wait_for(port, 60)
        yield base, headers, count, running["penstock"].pid


def measure_penstock(folder: Path, batches: Sequence[bytes], *, is_paced: bool) -> dict[str, Any]:
    """Put everything into a control process of its own."""
    folder.mkdir()
    with running_penstock(folder) as (base, headers, count, pid):
        used_s = cpu_s(pid)
        if is_paced:
            figures = put_paced(f"{base}/v1/traces", headers, batches, count)
        else:
            figures = put_spans(f"{base}/v1/traces", headers, batches, count, limit_s=None)
        figures["processor_us_per_span"] = round((cpu_s(pid) - used_s) / figures["n_acknowledged"] * 1e6, 1)
        figures["resident_mb"] = round(resident_mb(pid))
    return figures | on_disk(figures, folder / "home" / "spans.duckdb", folder / "home" / "spool")


def on_disk(figures: dict[str, Any], *paths: Path) -> dict[str, float]:
    """Return what a million spans would take in these files and folders."""
    return {"mb_per_million_spans": round(size_of(*paths) / max(1, figures["n_stored"]))}


def rows_of(database: Path, table: str) -> int:
    """Return how many rows a peer's table has; 0 while it is not there."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection,
    ):
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    return 0


def measure_phoenix(folder: Path, program: Path, batches: Sequence[bytes]) -> dict[str, Any]:
    """Run Phoenix on SQLite, as its guide starts it."""
    port, grpc = free_port(), free_port()
    data = folder / "phoenix"
    extra = {
        "PHOENIX_WORKING_DIR": str(data),
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    data.mkdir()
    argv = [str(program / "bin" / "phoenix"), "serve"]
    with children({"phoenix": (0, argv, extra)}, folder / "phoenix.log") as running:
        wait_for(port, 120)
        figures = put_spans(
            f"http://127.0.0.1:{port}/v1/traces", {}, batches,
            lambda: rows_of(data / "phoenix.db", "spans"), limit_s=PEER_S,
        )  # fmt: skip
        figures["resident_mb"] = round(resident_mb(running["phoenix"].pid))
    return figures | on_disk(figures, data)


def measure_mlflow(folder: Path, program: Path, batches: Sequence[bytes]) -> dict[str, Any]:
    """Run MLflow's tracking server on SQLite with one worker."""
    port = free_port()
    data = folder / "mlflow"
    data.mkdir()
    database = data / "mlflow.db"
    argv = [
        str(program / "bin" / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(data / "artifacts"),
    ]  # fmt: skip
    extra = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PATH": f"{program / 'bin'}:{os.environ['PATH']}",
    }
    with children({"mlflow": (0, argv, extra)}, folder / "mlflow.log") as running:
        wait_for(port, 180)
        figures = put_spans(
            f"http://127.0.0.1:{port}/v1/traces", {"x-mlflow-experiment-id": "0"}, batches,
            lambda: rows_of(database, "spans"), limit_s=PEER_S,
        )  # fmt: skip
        figures["resident_mb"] = round(resident_mb(running["mlflow"].pid))
    return figures | on_disk(figures, data)


def install_peers(folder: Path) -> dict[str, str]:
    """Install the peers below `folder` where they are not; return their versions."""
    versions = {}
    for name, package in PEERS.items():
        python = folder / name / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
            subprocess.run(
                [str(python), "-m", "pip", "install", "--quiet", package], check=True, stdout=sys.stderr
            )
        show = [str(python), "-c", f"from importlib.metadata import version as v; print(v({package!r}))"]
        versions[name] = subprocess.check_output(show, text=True).strip()
    return versions


def main() -> None:
    """Measure and record."""
    peers_folder = Path(os.environ.get("PEERS_FOLDER") or tempfile.mkdtemp(prefix="penstock-peers-"))
    is_kept = "PEERS_FOLDER" in os.environ
    try:
        versions = install_peers(peers_folder)
        pin(1)
        batches = make_batches(N_SPANS)
        results: dict[str, Any] = {
            "n_bytes_per_span": round(sum(map(len, batches)) / N_SPANS),
            "peer_versions": versions,
        }
        with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
            folder = Path(name)
            results["penstock"] = measure_penstock(folder / "flood", batches, is_paced=False)
            if PACE:
                results["penstock_paced"] = measure_penstock(folder / "paced", batches, is_paced=True)
            for peer, measure in (("phoenix", measure_phoenix), ("mlflow", measure_mlflow)):
                try:
                    results[peer] = measure(folder, peers_folder / peer, batches)
                except (SystemExit, OSError, AssertionError, aiohttp.ClientError) as error:
                    results[peer] = {"failed": f"{type(error).__name__}: {error}"}
                    print((folder / f"{peer}.log").read_text()[-2000:], file=sys.stderr)
        for peer in PEERS:
            if results[peer].get("stored_spans_per_s"):
                results[f"times_{peer}"] = round(
                    results["penstock"]["stored_spans_per_s"] / results[peer]["stored_spans_per_s"], 1
                )
    finally:
        if not is_kept:
            shutil.rmtree(peers_folder, ignore_errors=True)
    record_result("traces", results, packages=("duckdb", "msgspec", "opentelemetry-proto"))


if __name__ == "__main__":
    main()
