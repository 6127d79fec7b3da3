"""Evaluations over REST: plan, start, look, stop, resume, score again, compare, export; and what local runs send."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission, check_permission
from penstock.base.errors import InvalidInput
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.evals.running.control_run import STORED
from penstock.evals.types import CaseQuery, CaseSort, ChangeKind, ComparedQuery, EvaluationQuery, ScoreColumn
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import EvaluationBudget, EvaluationSpec, EvaluationState, ScorerSpec
from penstock.spec.scores import Score

Limit = Annotated[int, Query(ge=1, le=500)]
Level = Annotated[float, Query(gt=0.5, lt=1.0)]
Text = Annotated[str | None, Query(max_length=1000)]


class SpecBody(BaseModel):
    """What is to be evaluated."""

    model_config = ConfigDict(extra="forbid")
    spec: dict[str, Any]
    """As in an evaluation file."""


class StopBody(BaseModel):
    """Why it is stopped."""

    model_config = ConfigDict(extra="forbid")
    reason: Annotated[str, Field(max_length=1000)] = "stopped by hand"


class ResumeBody(BaseModel):
    """What changes when it goes on."""

    model_config = ConfigDict(extra="forbid")
    budget: dict[str, Any] | None = None
    preflight: bool | None = None


class RescoreBody(BaseModel):
    """By which scorers."""

    model_config = ConfigDict(extra="forbid")
    scorers: list[dict[str, Any]]
    in_place: bool = False
    """As further scores of this evaluation; otherwise as a new one."""
    name: str | None = None


class LocalBody(SpecBody):
    """An evaluation that runs in the caller's process."""

    cases: list[dict[str, Any]] | None = None
    """None: control reads the dataset or file that the specification names."""
    columns: list[dict[str, Any]] = []
    target_stamp: str = ""


class RecordBody(BaseModel):
    """What a local run made."""

    model_config = ConfigDict(extra="forbid")
    outputs: list[dict[str, Any]] = []
    """`{output, request_key}`"""
    scores: list[dict[str, Any]] = []
    """`{case_id, repeat, score}`"""


class FinishBody(BaseModel):
    """How a local run ended."""

    model_config = ConfigDict(extra="forbid")
    state: Literal["done", "stopped", "failed"] = "done"
    reason: Annotated[str | None, Field(max_length=4000)] = None
    columns: list[dict[str, Any]] = []


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/evaluations`."""
    router = APIRouter(prefix="/api/v1/evaluations", tags=["evaluations"])
    _add_comparing(router, services)
    _add_local(router, services)
    _add_running(router, services)
    _add_reading(router, services)
    return router


def _add_running(router: APIRouter, services: ControlServices) -> None:
    evaluations = services.evaluations

    @router.post("/plan")
    @needs(Permission.EVALS_READ)
    def plan(body: SpecBody, request: Request) -> Response:
        """What running it would do and cost. Asks no model."""
        spec = _spec_of(body.spec)
        _check_files(spec, request)
        return json_reply(evaluations.plan(spec))

    @router.post("")
    @needs(Permission.EVALS_WRITE)
    def start(body: SpecBody, request: Request) -> Response:
        """Store the evaluation, aliases pinned, and queue its run."""
        spec = _spec_of(body.spec)
        _check_files(spec, request)
        record = evaluations.start(spec, actor=actor_of(request.state.caller))
        return json_reply(record, status=201)

    @router.post("/{evaluation_id}/stop")
    @needs(Permission.EVALS_WRITE)
    def stop(evaluation_id: str, body: StopBody) -> Response:
        """End the run; what it has is valid."""
        return json_reply(evaluations.stop(evaluation_id, reason=body.reason))

    @router.post("/{evaluation_id}/resume")
    @needs(Permission.EVALS_WRITE)
    def resume(evaluation_id: str, body: ResumeBody) -> Response:
        """Ask what has no final answer yet, score what has no score."""
        budget = None if body.budget is None else _convert(body.budget, EvaluationBudget, "budget")
        return json_reply(evaluations.resume(evaluation_id, budget=budget, preflight=body.preflight))

    @router.post("/{evaluation_id}/rescore")
    @needs(Permission.EVALS_WRITE)
    def rescore(evaluation_id: str, body: RescoreBody, request: Request) -> Response:
        """Score stored outputs by other scorers."""
        scorers = [_convert(each, ScorerSpec, "scorers") for each in body.scorers]
        record = evaluations.rescore(
            evaluation_id,
            scorers,
            actor=actor_of(request.state.caller),
            is_new=not body.in_place,
            name=body.name,
        )
        return json_reply(record, status=200 if body.in_place else 201)

    @router.delete("/{evaluation_id}")
    @needs(Permission.EVALS_WRITE)
    def delete(evaluation_id: str) -> Response:
        """Forget it with its outputs and scores."""
        evaluations.delete(evaluation_id)
        return json_reply({"deleted": evaluation_id})


def _add_reading(router: APIRouter, services: ControlServices) -> None:
    evaluations = services.evaluations

    @router.get("")
    @needs(Permission.EVALS_READ)
    def list_evaluations(
        *,
        name: str | None = None,
        target: str | None = None,
        dataset: str | None = None,
        experiment: str | None = None,
        tag: str | None = None,
        state: Annotated[list[EvaluationState] | None, Query()] = None,
        cursor: str | None = None,
        limit: Limit = 50,
    ) -> Response:
        """Evaluations, newest first."""
        query = EvaluationQuery(
            name=name,
            target=target,
            dataset=dataset,
            experiment_id=experiment,
            tag=tag,
            states=list(state or ()),
            cursor=cursor,
            limit=limit,
        )
        return json_reply(evaluations.list(query))

    @router.get("/{evaluation_id}")
    @needs(Permission.EVALS_READ)
    def show(evaluation_id: str) -> Response:
        """One evaluation as it stands."""
        return json_reply(evaluations.get(evaluation_id))

    @router.get("/{evaluation_id}/estimates")
    @needs(Permission.EVALS_READ)
    def estimates(evaluation_id: str, level: Level = 0.95) -> Response:
        """Its figures with intervals and coverage, by slice, and errors in groups."""
        return json_reply(evaluations.estimates(evaluation_id, level=level))

    @router.get("/{evaluation_id}/cases")
    @needs(Permission.EVALS_READ)
    def list_cases(
        evaluation_id: str,
        *,
        text: Text = None,
        score: str | None = None,
        low: float | None = None,
        high: float | None = None,
        status: str | None = None,
        output_status: str | None = None,
        part: Annotated[str | None, Query(alias="slice")] = None,
        sort: CaseSort = "position",
        cursor: str | None = None,
        limit: Limit = 50,
    ) -> Response:
        """Cases with outputs and scores."""
        query = CaseQuery(
            text=text,
            score=score,
            low=low,
            high=high,
            status=status,
            output_status=output_status,
            slice=part,
            sort=sort,
            cursor=cursor,
            limit=limit,
        )
        return json_reply(evaluations.cases(evaluation_id, query))

    @router.get("/{evaluation_id}/cases/{case_id:path}")
    @needs(Permission.EVALS_READ)
    def show_case(evaluation_id: str, case_id: str) -> Response:
        """One case with outputs and scores."""
        return json_reply(evaluations.case(evaluation_id, case_id))

    @router.get("/{evaluation_id}/export")
    @needs(Permission.EVALS_READ)
    def export(evaluation_id: str) -> Response:
        """Every case with outputs and scores, one JSON object a line."""
        evaluations.get(evaluation_id)
        return StreamingResponse(_lines(services, evaluation_id), media_type="application/x-ndjson")


def _add_comparing(router: APIRouter, services: ControlServices) -> None:
    evaluations = services.evaluations

    @router.get("/compare")
    @needs(Permission.EVALS_READ)
    def compare(
        baseline: str,
        candidate: str,
        *,
        score: Annotated[list[str] | None, Query()] = None,
        level: Level = 0.95,
        correction: Literal["holm", "bh", "none"] = "holm",
    ) -> Response:
        """The paired comparison of two evaluations, score by score."""
        report = evaluations.compare(
            baseline,
            candidate,
            scores=score or (),
            level=level,
            correction=None if correction == "none" else correction,
        )
        return json_reply(report)

    @router.get("/compare/cases")
    @needs(Permission.EVALS_READ)
    def compare_cases(
        baseline: str,
        candidate: str,
        *,
        score: str | None = None,
        change: ChangeKind | None = None,
        part: Annotated[str | None, Query(alias="slice")] = None,
        text: Text = None,
        cursor: str | None = None,
        limit: Limit = 50,
    ) -> Response:
        """Cases with both sides."""
        query = ComparedQuery(score=score, change=change, slice=part, text=text, cursor=cursor, limit=limit)
        return json_reply(evaluations.compared_cases(baseline, candidate, query))

    @router.get("/leaderboard")
    @needs(Permission.EVALS_READ)
    def leaderboard(
        evaluation: Annotated[list[str], Query(min_length=1, max_length=100)], score: str | None = None
    ) -> Response:
        """Evaluations over the same cases by quality, cost and latency."""
        return json_reply(evaluations.leaderboard(evaluation, score=score))


def _add_local(router: APIRouter, services: ControlServices) -> None:
    evaluations = services.evaluations

    @router.post("/local")
    @needs(Permission.EVALS_WRITE)
    def begin(body: LocalBody, request: Request) -> Response:
        """Store an evaluation that runs in the caller's process."""
        spec = _spec_of(body.spec)
        cases = None if body.cases is None else [_convert(each, Case, "cases") for each in body.cases]
        if cases is None:
            _check_files(spec, request)
        columns = [_convert(each, ScoreColumn, "columns") for each in body.columns]
        record = evaluations.begin_local(
            spec,
            cases,
            columns,
            actor=actor_of(request.state.caller),
            target_stamp=body.target_stamp,
        )
        return json_reply(record, status=201)

    @router.post("/local/{evaluation_id}/reopen")
    @needs(Permission.EVALS_WRITE)
    def reopen(evaluation_id: str) -> Response:
        """Let a local run go on that stopped or was killed."""
        return json_reply(evaluations.reopen_local(evaluation_id))

    @router.get("/local/{evaluation_id}/work")
    @needs(Permission.EVALS_READ)
    def work(evaluation_id: str, after: int = -1, limit: Limit = 200) -> Response:
        """The next cases with what is there of them."""
        return json_reply({"work": evaluations.work(evaluation_id, after=after, limit=limit)})

    @router.post("/local/{evaluation_id}/record")
    @needs(Permission.EVALS_WRITE)
    def record(evaluation_id: str, body: RecordBody) -> Response:
        """Store outputs and scores; the same again changes nothing."""
        outputs = [
            (_convert(each.get("output"), Output, "outputs"), each.get("request_key"))
            for each in body.outputs
        ]
        scores = [
            (
                str(each.get("case_id")),
                int(each.get("repeat", 0)),
                _convert(each.get("score"), Score, "scores"),
            )
            for each in body.scores
        ]
        return json_reply(evaluations.record(evaluation_id, outputs, scores))

    @router.post("/local/{evaluation_id}/finish")
    @needs(Permission.EVALS_WRITE)
    def finish(evaluation_id: str, body: FinishBody) -> Response:
        """Say that a local run has ended."""
        columns = [_convert(each, ScoreColumn, "columns") for each in body.columns]
        return json_reply(
            evaluations.finish_local(evaluation_id, state=body.state, reason=body.reason, columns=columns)
        )


def _lines(services: ControlServices, evaluation_id: str) -> Iterator[bytes]:
    cursor: str | None = None
    while True:
        page = services.evaluations.cases(evaluation_id, CaseQuery(cursor=cursor, limit=200))
        for row in page.rows:
            yield msgspec.json.encode(row) + b"\n"
        if page.next_cursor is None:
            return
        cursor = page.next_cursor


def _spec_of(value: dict[str, Any]) -> EvaluationSpec:
    spec: EvaluationSpec = _convert(value, EvaluationSpec, "spec")
    return spec


def _convert(value: Any, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{where}: {error}.", where=where) from error


def _check_files(spec: EvaluationSpec, request: Request) -> None:
    """Reading files of control's machine needs what importing them into datasets needs."""
    outputs = spec.target.outputs
    if spec.file is not None or (outputs is not None and not outputs.startswith(STORED)):
        check_permission(request.state.caller.key, Permission.DATASETS_WRITE)
