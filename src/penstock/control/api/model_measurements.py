"""Work on models over REST: quantise, shrink, measure, verify, compare; and the datasets of a teacher's replies."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput
from penstock.base.offered import require
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.spec.assets import parse_asset_ref
from penstock.tuning.compress.requests import DistillRequest, MeasureRequest, QuantiseRequest, ShrinkRequest
from penstock.tuning.compress.service import CompressService
from penstock.tuning.compress.types import MeasuredPart

Limit = Annotated[int, Query(ge=1, le=500)]


class Quantise(BaseModel):
    """Body: other precisions of a version."""

    model_config = ConfigDict(extra="forbid")
    model: str
    precisions: list[str] = ["q8_0", "q4_0"]
    alias: str | None = None
    note: str = ""


class Shrink(BaseModel):
    """Body: a smaller model with layers or feed-forward channels left out."""

    model_config = ConfigDict(extra="forbid")
    model: str
    name: str
    layers: int | None = None
    keep: list[int] = []
    ffn_size: int | None = None
    precision: str = "f16"
    alias: str | None = None
    note: str = ""


class Verify(BaseModel):
    """Body: a version to be proven once more."""

    model_config = ConfigDict(extra="forbid")
    model: str
    parity: bool = False
    """Also run the proof of the conversion again, against the kept source."""


class Asked(BaseModel):
    """Body: a request as the reference of requests describes it."""

    model_config = ConfigDict(extra="forbid")
    request: dict[str, Any]


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1` of smaller models."""
    router = APIRouter(prefix="/api/v1", tags=["models"])
    _add_reading(router, services)
    _add_changing(router, services)
    return router


def _add_reading(router: APIRouter, services: ControlServices) -> None:
    @router.get("/model-measurements")
    @needs(Permission.TUNING_READ)
    def list_measurements(
        *,
        model: str | None = None,
        part: MeasuredPart | None = None,
        cursor: str | None = None,
        limit: Limit = 50,
    ) -> Response:
        """What was measured, newest first; of one version with `model`."""
        return json_reply(_work(services).list(model=model, part=part, cursor=cursor, limit=limit))

    @router.get("/model-measurements/{measurement_id}")
    @needs(Permission.TUNING_READ)
    def show_measurement(measurement_id: str) -> Response:
        """One measurement with its raw facts."""
        return json_reply(_work(services).get(measurement_id))

    @router.get("/model-comparison")
    @needs(Permission.TUNING_READ)
    def compare(model: Annotated[list[str], Query(min_length=2, max_length=8)]) -> Response:
        """Versions beside the first of them: size, speed, perplexity, scores, and a sentence for each."""
        return json_reply(_work(services).compare(model))


def _add_changing(router: APIRouter, services: ControlServices) -> None:
    @router.post("/model-verifications")
    @needs(Permission.REGISTRY_READ, Permission.JOBS_WRITE)
    def verify(request: Request, body: Verify) -> Response:
        """Queue holding every file of a version and its renderer against what was registered; the job's result has the
        `checks` and whether they `passed`. The same proof under way is returned."""
        ref = parse_asset_ref(body.model if body.model.startswith("model:") else f"model:{body.model}")
        job = _work(services).verify(ref, with_parity=body.parity, actor=actor_of(request.state.caller))
        return json_reply({"job": job}, status=202)

    @router.post("/model-quantisations")
    @needs(Permission.TUNING_WRITE)
    def quantise(request: Request, body: Quantise) -> Response:
        """Queue other precisions of a version; each is proven before it is registered."""
        asked = _convert(body.model_dump(), QuantiseRequest)
        return json_reply(
            {"job": _work(services).quantise(asked, actor=actor_of(request.state.caller))}, status=202
        )

    @router.post("/model-shrinkings")
    @needs(Permission.TUNING_WRITE)
    def shrink(request: Request, body: Shrink) -> Response:
        """Queue a smaller model made from a version."""
        told = body.model_dump()
        how = {name: told.pop(name) for name in ("layers", "keep", "ffn_size")}
        asked = _convert({**told, "how": how}, ShrinkRequest)
        return json_reply(
            {"job": _work(services).shrink(asked, actor=actor_of(request.state.caller))}, status=202
        )

    @router.post("/model-measurements")
    @needs(Permission.TUNING_WRITE)
    def measure(request: Request, body: Asked) -> Response:
        """Queue measuring versions side by side."""
        asked = _convert(body.request, MeasureRequest)
        return json_reply(
            {"job": _work(services).measure(asked, actor=actor_of(request.state.caller))}, status=202
        )

    @router.post("/tuning/distillations")
    @needs(Permission.TUNING_WRITE)
    def distill(request: Request, body: Asked) -> Response:
        """Queue a dataset of a teacher's replies."""
        asked = _convert(body.request, DistillRequest)
        return json_reply(
            {"job": _work(services).distill(asked, actor=actor_of(request.state.caller))}, status=202
        )


def _work(services: ControlServices) -> CompressService:
    return require(services.compressing, "Nothing works on models here.")


def _convert(value: dict[str, Any], kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"The request does not fit: {error}.") from error
