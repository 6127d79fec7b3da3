"""Joins what makes models smaller with datasets, prices and jobs: distillers of runs, and the loop that does the jobs."""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine

from penstock.base.errors import CallerError
from penstock.datasets.service import DatasetService
from penstock.jobs.context import JobContext
from penstock.jobs.errors import JobCancelled
from penstock.jobs.worker import Handler, Worker
from penstock.main.chat_calls import ChatCalls
from penstock.main.compressing import compare_versions, compress_handlers, submit_compress
from penstock.main.dataset_rooms import create_datasets
from penstock.main.distilling import DistillParts, make_distilled, prepare_distilled
from penstock.main.eval_ports import RoutePrices
from penstock.main.home_files import read_internal_key
from penstock.main.instance import require_instance
from penstock.main.job_kinds import MODEL_MEASURE, MODEL_QUANTISE, MODEL_SHRINK, MODEL_VERIFY, TUNE_DISTILL
from penstock.main.last_snapshot import LastSnapshot
from penstock.main.rooms import Rooms
from penstock.main.teachers import GatewayTeacher
from penstock.registry.service import Registry
from penstock.spec.home import Home
from penstock.tuning.compress.requests import DistillRequest
from penstock.tuning.compress.service import CompressService, WorkKind
from penstock.tuning.compress.store import MeasurementStore
from penstock.tuning.runs.ports import Distiller

KINDS: Mapping[WorkKind, str] = {
    "quantise": MODEL_QUANTISE,
    "shrink": MODEL_SHRINK,
    "measure": MODEL_MEASURE,
    "verify": MODEL_VERIFY,
    "distill": TUNE_DISTILL,
}


ASKED = "asked"
"""Below `HOME/tuning`: replies that have come to jobs under way."""


@dataclass(frozen=True)
class JobQueue:
    """`tuning.compress.service.WorkQueue` over the lease table."""

    rooms: Rooms

    def submit(self, kind: WorkKind, spec: dict[str, Any]) -> str:
        """Return the id of the job, or of the same one under way."""
        return submit_compress(self.rooms, KINDS[kind], spec).id


def create_compress_service(rooms: Rooms) -> CompressService:
    """Return what control and console ask of smaller models."""
    return CompressService(
        MeasurementStore(rooms.engine), rooms.registry, JobQueue(rooms), partial(compare_versions, rooms)
    )


@dataclass(frozen=True, kw_only=True)
class CompressParts:
    """What distillation rests on."""

    home: Home
    registry: Registry
    datasets: DatasetService


def create_distiller(home: Home, registry: Registry, datasets: DatasetService) -> Distiller:
    """Return what runs of method `distill` get their rows from. Asking raises `NotRunning` without a gateway."""
    return partial(
        prepare_distilled, parts=_parts(CompressParts(home=home, registry=registry, datasets=datasets))
    )


def create_compressing(rooms: Rooms) -> Mapping[str, Handler]:
    """Return the handlers of all jobs of smaller models."""
    datasets = create_datasets(rooms.home, rooms.registry, rooms.blobs)
    parts = _parts(CompressParts(home=rooms.home, registry=rooms.registry, datasets=datasets))
    return {
        **compress_handlers(rooms),
        TUNE_DISTILL: lambda ctx, spec: distil_dataset(parts, rooms.home.tuning / ASKED, ctx, spec),
    }


def compress_loop(engine: Engine, handlers: Mapping[str, Handler]) -> Callable[[threading.Event], None]:
    """Return the loop that does these jobs, one at a time: two measurements at once would measure each other."""
    return Worker(engine, handlers, f"compressing-{os.getpid()}").run


def distil_dataset(parts: DistillParts, asked: Path, ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
    """Do the job with the spec `{request}`; replies of a wave under way lie in the folder `asked`."""
    request = msgspec.convert(spec["request"], DistillRequest, strict=False)
    arriving = asked / f"{ctx.job_id}.jsonl"
    try:
        made = make_distilled(request, ctx, arriving, parts=parts)
    except (CallerError, JobCancelled):  # nobody goes on with it
        arriving.unlink(missing_ok=True)
        raise
    return {"dataset": made.version.ref, "digest": made.version.digest, **made.tally.as_fields()}


def _parts(parts: CompressParts) -> DistillParts:
    home = parts.home
    calls = ChatCalls(lambda: require_instance(home).addresses.gateway_url, lambda: read_internal_key(home))
    teacher = GatewayTeacher(calls, RoutePrices(LastSnapshot(home.snapshot).read, parts.registry))
    return DistillParts(registry=parts.registry, datasets=parts.datasets, teacher=teacher)
