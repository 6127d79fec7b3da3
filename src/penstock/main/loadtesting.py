"""Joins load tests with the rooms that they rest on, and runs them as jobs, each in a process of its own."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import zstandard
from sqlalchemy import Engine

from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput
from penstock.datasets.service import DatasetService
from penstock.deploy.load.errors import GeneratorFailed, UnknownLoadTest
from penstock.deploy.load.planning import join_prices
from penstock.deploy.load.service import LoadPorts, LoadTestService
from penstock.deploy.load.types import FINAL_STATES, LoadRecord, LoadResult
from penstock.jobs.context import JobContext
from penstock.jobs.errors import JobInterrupt, LeaseLost
from penstock.jobs.service import JobService
from penstock.jobs.worker import Handler, Worker
from penstock.main.eval_ports import ReadSnapshot, RoutePrices
from penstock.main.job_kinds import LOAD_TEST
from penstock.main.load_engine import EngineCounts
from penstock.main.load_ports import QueuedLoadTests, SnapshotTargets, StoredMaterials
from penstock.main.load_process import RESULT, SAMPLES, LoadOrder
from penstock.registry.service import Registry
from penstock.store.blobs import BlobStore
from penstock.traces.lists import TraceListService

STOP_S = 20.0
"""What the sender gets to end the calls that are open and tell what it has."""
POLL_S = 0.2
_NOISE = 2000


@dataclass(frozen=True, kw_only=True)
class LoadParts:
    """What load tests are made from."""

    engine: Engine
    registry: Registry
    blobs: BlobStore
    jobs: JobService
    datasets: DatasetService
    trace_lists: TraceListService
    read_snapshot: ReadSnapshot
    gateway_url: str
    internal_key: str
    find_engine_urls: Callable[[], Sequence[str]] | None = None
    """Of local engines, whose own counts are told beside those of the sender."""


@dataclass(frozen=True, kw_only=True)
class LoadTesting:
    """The service, and the loop that runs tests."""

    service: LoadTestService
    handlers: Mapping[str, Handler]
    loop: Callable[[threading.Event], None]


def create_load_testing(parts: LoadParts) -> LoadTesting:
    """Return the service over one home. One test runs at a time: two would disturb each other."""
    prices = RoutePrices(parts.read_snapshot, parts.registry)
    ports = LoadPorts(
        targets=SnapshotTargets(parts.read_snapshot, parts.registry, prices),
        materials=StoredMaterials(parts.datasets, parts.trace_lists),
        jobs=QueuedLoadTests(parts.jobs),
        blobs=parts.blobs,
    )
    service = LoadTestService(parts.engine, ports)
    runs = LoadRuns(
        service,
        gateway_url=parts.gateway_url,
        key=parts.internal_key,
        counts=None
        if parts.find_engine_urls is None
        else EngineCounts(parts.find_engine_urls, parts.internal_key),
    )
    handlers: dict[str, Handler] = {LOAD_TEST: runs.run}
    return LoadTesting(
        service=service,
        handlers=handlers,
        loop=Worker(parts.engine, handlers, f"load-tests-{os.getpid()}").run,
    )


class LoadRuns:
    """Runs stored tests."""

    def __init__(
        self,
        service: LoadTestService,
        *,
        gateway_url: str,
        key: str,
        counts: EngineCounts | None = None,
        clock: Callable[[], int] = now_ns,
    ) -> None:
        self._service, self._url, self._key = service, gateway_url, key
        self._counts, self._clock = counts, clock

    def run(self, ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        """Run `{test}`. Cancelled, it keeps what it has; one that control left behind is not begun again."""
        test_id = spec.get("test")
        if not isinstance(test_id, str):
            raise InvalidInput("The job's spec needs a test.")
        try:
            record = self._service.get(test_id)
        except UnknownLoadTest:
            ctx.log("the load test was deleted meanwhile")
            return {}
        if record.state in FINAL_STATES:
            return {"state": record.state}
        if record.state == "running":
            self._end(record, state="failed", sentence="Control ended while it ran. Start it again.")
            return {"state": "failed"}
        record = self._service.change(test_id, state="running", started_ns=self._clock())
        ctx.log(f"running {record.name}")
        try:
            ended = self._send(record, ctx)
        except JobInterrupt:
            raise
        except Exception as error:
            told = error.as_dict() if hasattr(error, "as_dict") else {"message": str(error)}
            self._end(record, state="failed", sentence=str(told.get("message")), error=told)
            raise
        ctx.log(ended.sentence)
        return {"test": test_id, "state": ended.state, "verdict": ended.verdict}

    def _send(self, record: LoadRecord, ctx: JobContext) -> LoadRecord:
        ports = self._service.ports
        names = [record.route, *([] if record.against is None else [record.against])]
        order = LoadOrder(
            test_id=record.id,
            spec=record.spec,
            material=dict(ports.materials.read(record.spec)),
            prices=join_prices([ports.targets.describe(name) for name in names]),
            gateway_url=self._url,
            key=self._key,
        )
        before = None if self._counts is None else self._counts.read()
        with tempfile.TemporaryDirectory(prefix="penstock-load-") as folder:
            interrupt = run_sender(Path(folder), order, ctx)
            after = None if self._counts is None else self._counts.read()
            result = msgspec.json.decode((Path(folder) / RESULT).read_bytes(), type=LoadResult, strict=False)
            samples = (Path(folder) / SAMPLES).read_bytes()
        if self._counts is not None:
            result = msgspec.structs.replace(result, engine=self._counts.subtract(before, after))
        is_lost = isinstance(interrupt, LeaseLost)
        state = "done" if interrupt is None else "stopped"
        ended = record
        if not is_lost:
            digest = ports.blobs.put_bytes(zstandard.ZstdCompressor().compress(samples)) if samples else None
            ended = self._end(
                record,
                state=state,
                result=result,
                verdict=result.verdict.word,
                sentence=result.verdict.sentence,
                samples=digest,
                n_samples=samples.count(b"\n"),
            )
        if interrupt is not None:
            raise interrupt
        return ended

    def _end(self, record: LoadRecord, **fields: Any) -> LoadRecord:
        return self._service.change(record.id, finished_ns=self._clock(), **fields)


def run_sender(folder: Path, order: LoadOrder, ctx: JobContext) -> JobInterrupt | None:
    """Let a process of its own send the calls; its files lie in `folder` on return.

    Returns what asked to stop, if anything did: the files then hold what was measured until then. Raises `GeneratorFailed`.
    """
    command = [sys.executable, "-m", "penstock.main.load_process", str(folder)]
    noise = folder / "stderr.txt"
    with (
        noise.open("wb") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        reader = threading.Thread(target=partial(_read_lines, process.stdout, lines), daemon=True)
        reader.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # it has died: the rest of this tells why
                process.stdin.write(msgspec.json.encode(order).decode() + "\n")
                process.stdin.flush()
            interrupt, error = _follow(process, lines, ctx)
        finally:
            if process.poll() is None:
                process.kill()
        reader.join(STOP_S)
    while not lines.empty():
        error = _parse(lines.get()).get("error", error)
    if process.returncode != 0 or not (folder / RESULT).exists():
        reason = (
            error.get("message") or noise.read_text(errors="replace").strip()[-_NOISE:] or "no reason given"
        )
        if interrupt is not None:
            raise interrupt
        raise GeneratorFailed(f"The process that sends calls ended: {reason}", hint=error.get("hint"))
    return interrupt


def _follow(
    process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str]", ctx: JobContext
) -> tuple[JobInterrupt | None, dict[str, Any]]:
    interrupt: JobInterrupt | None = None
    error: dict[str, Any] = {}
    progress: tuple[float | None, str] = (None, "")
    waited_s = 0.0
    while process.poll() is None:
        try:
            told = _parse(lines.get(timeout=POLL_S))
            error = told.get("error", error)
            if "progress" in told:
                progress = (told["progress"], str(told.get("message", "")))
        except queue.Empty:
            waited_s += POLL_S if interrupt is not None else 0.0
        if interrupt is not None:
            if waited_s > STOP_S:
                process.kill()
            continue
        try:
            ctx.check_cancelled()
            ctx.progress(*progress)
        except JobInterrupt as caught:
            interrupt = caught
            process.terminate()
    return interrupt, error


def _read_lines(source: Any, lines: "queue.SimpleQueue[str]") -> None:
    for line in source:
        lines.put(line)


def _parse(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
