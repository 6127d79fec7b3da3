"""Makes smaller models, measures and verifies versions: as jobs of a running instance, or in place for a home on which nothing runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.jobs.context import JobContext
from penstock.jobs.types import Job
from penstock.jobs.worker import Handler
from penstock.main.compress_child import run_child
from penstock.main.embedded import SHIPPED, ModelRooms
from penstock.main.instance import running_instance
from penstock.main.job_kinds import MODEL_MEASURE, MODEL_QUANTISE, MODEL_SHRINK, MODEL_VERIFY
from penstock.main.job_wait import Tell, wait_for_job
from penstock.main.model_comparing import compare_models
from penstock.main.model_measuring import create_measuring, measure_models
from penstock.main.rooms import Rooms
from penstock.tuning.compress.children import check_children, refuse_prod
from penstock.tuning.compress.requests import MeasureRequest, QuantiseRequest
from penstock.tuning.compress.store import MeasurementStore
from penstock.tuning.compress.types import ModelComparison, ModelMeasurement

VERBS = {MODEL_QUANTISE: "quantise", MODEL_SHRINK: "shrink", MODEL_VERIFY: "verify"}
KINDS = (*VERBS, MODEL_MEASURE)


def compress_handlers(rooms: Rooms) -> Mapping[str, Handler]:
    """Return the handlers of jobs that make smaller models, measure and verify."""
    return {
        kind: lambda ctx, spec, kind=kind: run_compress(rooms, kind, ctx, spec)  # type: ignore[misc]
        for kind in KINDS
    }


def run_compress(rooms: Rooms, kind: str, ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
    """Do one job; what it registers is seen by everybody at once, since no alias that serves moves."""

    def tell(share: float | None, text: str) -> None:
        ctx.progress(share, text)
        ctx.check_cancelled()

    result = _do(rooms, kind, spec, tell)
    for line in _tell_lines(result):
        ctx.log(line)
    return result


def do_or_submit(
    rooms: Rooms, kind: str, spec: dict[str, Any], tell: Tell, *, wait: bool = True
) -> dict[str, Any]:
    """Return the result of the work: of a job of the instance that runs, else done right here.

    Without `wait` a job is only queued: `{"job": ID}`. Raises `JobFailed`, or here what the work raises.
    """
    if running_instance(rooms.home) is None:
        ModelRooms(rooms.home).models.ensure_shipped(
            SHIPPED / "pocket"
        )  # a home that never ran has no models yet
        return _do(rooms, kind, spec, tell)
    job = submit_compress(rooms, kind, spec)
    if not wait:
        return {"job": job.id}
    return wait_for_job(rooms.jobs, job.id, tell).result or {}


def verify_model(rooms: Rooms, ref: str, tell: Tell, *, with_parity: bool, actor: str) -> dict[str, Any]:
    """Return what verifying a version found: `{model, digest, passed, checks}`.

    A job of the instance that runs, else done right here; nothing that is missing or damaged is mended before. Raises
    `JobFailed`, or here what the work raises.
    """
    spec = {"model": rooms.registry.resolve(ref).label, "parity": with_parity, "actor": actor}
    if running_instance(rooms.home) is None:
        return _do(rooms, MODEL_VERIFY, spec, tell)
    job = submit_compress(rooms, MODEL_VERIFY, spec)
    return wait_for_job(rooms.jobs, job.id, tell).result or {}


def submit_compress(rooms: Rooms, kind: str, spec: dict[str, Any]) -> Job:
    """Queue the work; the same child, or the same proof, under way is returned instead of made twice."""
    if kind in VERBS:
        _check_before(rooms, kind, spec)
    key = f"{kind}:{spec['model']}{':parity' if spec.get('parity') else ''}" if kind in VERBS else None
    return rooms.jobs.submit(kind, spec, dedupe_key=key)


def _check_before(rooms: Rooms, kind: str, spec: Mapping[str, Any]) -> None:
    """Refuse what needs no weights to be refused, before anybody waits for a job."""
    parent = rooms.registry.resolve(spec["model"])
    if kind == MODEL_QUANTISE:
        wanted = msgspec.convert(
            {name: spec[name] for name in QuantiseRequest.__struct_fields__ if name in spec}, QuantiseRequest
        )
        check_children(parent, wanted.precisions, wanted.alias)
    elif kind == MODEL_SHRINK:
        refuse_prod(spec.get("alias"), ())


def compare_versions(rooms: Rooms, refs: Sequence[str]) -> ModelComparison:
    """Return the versions beside the first of them."""
    return compare_models(rooms.registry, MeasurementStore(rooms.engine), refs)


def _do(rooms: Rooms, kind: str, spec: dict[str, Any], tell: Tell) -> dict[str, Any]:
    if kind in VERBS:
        return run_child(rooms.home, {**spec, "verb": VERBS[kind]}, tell)
    request = msgspec.convert(spec["request"], MeasureRequest, strict=False)
    measuring = create_measuring(rooms.home, rooms.registry, rooms.blobs, MeasurementStore(rooms.engine))
    made = measure_models(measuring, request, actor=str(spec.get("actor") or "owner"), tell=tell)
    return {"measurements": [_short(each) for each in made], "session": made[0].session}


def _short(made: ModelMeasurement) -> dict[str, Any]:
    """Return a measurement without its raw facts, which are kept and may be large."""
    fields: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(made, facts={}))
    return fields


def _tell_lines(result: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{child['label']} ({child['precision']}, {child['size_bytes']:,} bytes) made from {child['parent']}"
        for child in result.get("children", ())
    ]
    measured = {each["version"]: None for each in result.get("measurements", ())}
    lines += [f"{version} measured" for version in measured]
    words = {True: "ok", False: "FAILED", None: "not looked at"}
    return [
        *lines,
        *(f"{words[each['passed']]}: {each['name']}, {each['detail']}" for each in result.get("checks", ())),
    ]
