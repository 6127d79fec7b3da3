"""Judges over REST: list, try, keep, label, calibrate, compare, and what to label next.

Calibrating and comparing ask models and answer when they are done; verdicts are kept as they come, so asking again goes on.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.evals.judges.calibration import LEAST_LABELS, MIN_LABELS
from penstock.evals.judges.labels import MAX_DRAFTS, read_rows, write_csv
from penstock.evals.judges.types import LabelDraft
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import ScorerSpec

Limit = Annotated[int, Query(ge=1, le=500)]
MinLabels = Annotated[int, Field(ge=LEAST_LABELS, le=1_000_000)]


class Body(BaseModel):
    """Unknown members are refused."""

    model_config = ConfigDict(extra="forbid")


class JudgeBody(Body):
    """A judge to keep."""

    name: str
    judge: dict[str, Any]
    """`{scorer, parameters, n_samples}`"""


class TryBody(Body):
    """One case and what was answered to it."""

    judge: dict[str, Any]
    case: dict[str, Any]
    outputs: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=32)]


class LabelsBody(Body):
    """Labels, each with what it is about."""

    labels: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_DRAFTS)]


class ImportBody(Body):
    """A file of labels."""

    text: str
    """JSONL or CSV."""
    name: str | None = None
    """Of rows that name none."""


class CalibrateBody(Body):
    """A judge and the labels that it is held against."""

    judge: dict[str, Any]
    labels: str
    threshold: float | None = None
    """From which value on the judge says yes; None: the middle of its scale."""
    min_labels: MinLabels = MIN_LABELS


class CompareBody(Body):
    """Several judges and the labels that they are held against."""

    judges: Annotated[list[dict[str, Any]], Field(min_length=2, max_length=20)]
    labels: str
    threshold: float | None = None
    min_labels: MinLabels = MIN_LABELS


class PairsBody(Body):
    """Two evaluations to be judged side by side."""

    baseline: str
    candidate: str
    judge: dict[str, Any]
    limit: Annotated[int | None, Field(ge=1, le=100_000)] = None


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/judges`."""
    router = APIRouter(prefix="/api/v1/judges", tags=["judges"])
    _add_judges(router, services)
    _add_calibrations(router, services)
    _add_labels(router, services)
    return router


def _add_judges(router: APIRouter, services: ControlServices) -> None:
    judges = services.judges

    @router.get("")
    @needs(Permission.EVALS_READ)
    def list_judges() -> Response:
        """Kinds of judges and those that are kept under a name, with their calibrations."""
        return json_reply({"judges": judges.list()})

    @router.get("/show")
    @needs(Permission.EVALS_READ)
    def show_judge(name: str) -> Response:
        """One kind, or one judge by `scorer:NAME@…`."""
        return json_reply(judges.get(name))

    @router.post("")
    @needs(Permission.EVALS_WRITE)
    def create_judge(body: JudgeBody, request: Request) -> Response:
        """Keep a judge under a name. G-Eval without steps has its model write them, once."""
        kept = judges.create(body.name, read_spec(body.judge), actor=actor_of(request.state.caller))
        return json_reply(kept, status=201)

    @router.post("/try")
    @needs(Permission.EVALS_WRITE)
    def try_judge(body: TryBody) -> Response:
        """What a judge says of these outputs; nothing is kept."""
        case = _read(body.case, Case, "case")
        outputs = [
            _read({"case_id": case.id, **each}, Output, f"outputs.{number}")
            for number, each in enumerate(body.outputs)
        ]
        return json_reply({"scores": judges.try_once(read_spec(body.judge), case, outputs)})

    @router.post("/pairs")
    @needs(Permission.EVALS_WRITE)
    def compare_pairs(body: PairsBody) -> Response:
        """Two evaluations judged side by side, each pair in both orders."""
        return json_reply(
            judges.compare_pairs(body.baseline, body.candidate, read_spec(body.judge), limit=body.limit)
        )

    @router.get("/next")
    @needs(Permission.EVALS_READ)
    def list_next(
        *,
        evaluation: str,
        labels: str,
        n: Annotated[int, Query(ge=1, le=500)] = 20,
        seed: int = 0,
        only_random: bool = False,
    ) -> Response:
        """Outputs to label next, those drawn by chance first."""
        found = judges.next_items(evaluation, labels, n=n, seed=seed, only_random=only_random)
        return json_reply({"items": found})


def _add_calibrations(router: APIRouter, services: ControlServices) -> None:
    judges = services.judges

    @router.post("/calibrations")
    @needs(Permission.EVALS_WRITE)
    def calibrate(body: CalibrateBody) -> Response:
        """Hold a judge against labels."""
        found = judges.calibrate(
            read_spec(body.judge), body.labels, threshold=body.threshold, min_labels=body.min_labels
        )
        return json_reply(found, status=201)

    @router.get("/calibrations")
    @needs(Permission.EVALS_READ)
    def list_calibrations(
        stamp: str | None = None, labels: str | None = None, limit: Limit = 100
    ) -> Response:
        """Calibrations, the latest first, without their pairs."""
        return json_reply({"calibrations": judges.calibrations(stamp=stamp, name=labels, limit=limit)})

    @router.get("/calibrations/{identity}")
    @needs(Permission.EVALS_READ)
    def show_calibration(identity: str) -> Response:
        """One calibration with the pairs that it rests on."""
        return json_reply(judges.calibration(identity))

    @router.post("/compare")
    @needs(Permission.EVALS_WRITE)
    def compare(body: CompareBody) -> Response:
        """Several judges on the same labelled outputs, and which one to take."""
        specs = [read_spec(each) for each in body.judges]
        return json_reply(
            judges.compare(specs, body.labels, threshold=body.threshold, min_labels=body.min_labels)
        )


def _add_labels(router: APIRouter, services: ControlServices) -> None:
    labels = services.judges.labels

    @router.get("/labels")
    @needs(Permission.EVALS_READ)
    def list_sets() -> Response:
        """What labels there are, by name."""
        return json_reply({"sets": labels.sets()})

    @router.post("/labels")
    @needs(Permission.EVALS_WRITE)
    def add_labels(body: LabelsBody, request: Request) -> Response:
        """Keep labels, all or none; of one rater, output and name the latest holds."""
        drafts = [_read(each, LabelDraft, f"labels.{number}") for number, each in enumerate(body.labels)]
        made = labels.add(drafts, actor=actor_of(request.state.caller))
        return json_reply({"labels": made}, status=201)

    @router.post("/labels/import")
    @needs(Permission.EVALS_WRITE)
    def import_labels(body: ImportBody, request: Request) -> Response:
        """Keep the labels of a JSONL or CSV file, all or none."""
        drafts = read_rows(body.text, name=body.name)
        made = labels.add(drafts, actor=actor_of(request.state.caller), source="import")
        return json_reply({"n_labels": len(made), "sets": sorted({label.name for label in made})}, status=201)

    @router.get("/labels/{name}")
    @needs(Permission.EVALS_READ)
    def page_labels(name: str, cursor: str | None = None, limit: Limit = 50) -> Response:
        """A page of labelled outputs, the latest label first."""
        return json_reply(labels.page(name, cursor=cursor, limit=limit))

    @router.get("/labels/{name}/export")
    @needs(Permission.EVALS_READ)
    def export_labels(name: str, form: Literal["jsonl", "csv"] = "jsonl") -> Response:
        """All labels of a name as a file, which can be imported again."""
        if form == "csv":
            return Response(write_csv(labels.export(name)), media_type="text/csv; charset=utf-8")

        def lines() -> Iterator[bytes]:
            for row in labels.export(name):
                yield msgspec.json.encode(row) + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @router.post("/labels/{name}/feedback")
    @needs(Permission.EVALS_WRITE)
    def take_feedback(name: str, request: Request) -> Response:
        """Keep what people said of traces under this name as labels."""
        made = labels.take_feedback(name, actor=actor_of(request.state.caller))
        return json_reply({"n_labels": len(made)}, status=201)

    @router.delete("/labels/{name}/{item}")
    @needs(Permission.EVALS_WRITE)
    def remove_label(name: str, item: str, rater: str | None = None) -> Response:
        """Forget the labels of an output, or one rater's."""
        return json_reply({"n_labels": labels.remove(item, name, rater=rater)})


def read_spec(given: dict[str, Any]) -> ScorerSpec:
    """Return the judge that JSON describes; raise `InvalidInput`."""
    spec: ScorerSpec = _read(given, ScorerSpec, "judge")
    return spec


def _read(given: Any, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{where}: {error}.", where=where) from error
