"""Experiments over REST: plan, start, look, stop, resume, leaderboard."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission, check_permission
from penstock.base.errors import InvalidInput
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.evals.types import ExperimentSpec

Limit = Annotated[int, Query(ge=1, le=500)]


class ExperimentBody(BaseModel):
    """A grid."""

    model_config = ConfigDict(extra="forbid")
    spec: dict[str, Any]
    """As in an experiment file."""


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/experiments`."""
    router = APIRouter(prefix="/api/v1/experiments", tags=["experiments"])
    experiments = services.experiments

    @router.post("/plan")
    @needs(Permission.EVALS_READ)
    def plan(body: ExperimentBody, request: Request) -> Response:
        """Each cell with its calls and estimated cost. Asks no model."""
        return json_reply({"cells": experiments.plan(_spec_of(body, request))})

    @router.post("")
    @needs(Permission.EVALS_WRITE)
    def start(body: ExperimentBody, request: Request) -> Response:
        """Store the grid, one evaluation a cell, and queue their run."""
        spec = _spec_of(body, request)
        return json_reply(experiments.start(spec, actor=actor_of(request.state.caller)), status=201)

    @router.get("")
    @needs(Permission.EVALS_READ)
    def list_experiments(*, tag: str | None = None, cursor: str | None = None, limit: Limit = 50) -> Response:
        """Experiments, newest first."""
        return json_reply(experiments.list(tag=tag, cursor=cursor, limit=limit))

    @router.get("/{experiment_id}")
    @needs(Permission.EVALS_READ)
    def show(experiment_id: str) -> Response:
        """One experiment, by id or by the name of the newest."""
        return json_reply(experiments.get(experiment_id))

    @router.get("/{experiment_id}/evaluations")
    @needs(Permission.EVALS_READ)
    def list_evaluations(experiment_id: str) -> Response:
        """The evaluations of its cells."""
        return json_reply({"evaluations": experiments.evaluations(experiment_id)})

    @router.get("/{experiment_id}/leaderboard")
    @needs(Permission.EVALS_READ)
    def leaderboard(experiment_id: str, score: str | None = None) -> Response:
        """Its cells by quality, cost and latency."""
        return json_reply(experiments.leaderboard(experiment_id, score=score))

    @router.post("/{experiment_id}/stop")
    @needs(Permission.EVALS_WRITE)
    def stop(experiment_id: str) -> Response:
        """Stop its cells; what they have is valid."""
        return json_reply(experiments.stop(experiment_id))

    @router.post("/{experiment_id}/resume")
    @needs(Permission.EVALS_WRITE)
    def resume(experiment_id: str) -> Response:
        """Go on with the cells that are not done."""
        return json_reply(experiments.resume(experiment_id))

    @router.delete("/{experiment_id}")
    @needs(Permission.EVALS_WRITE)
    def delete(experiment_id: str) -> Response:
        """Forget it; its evaluations stay."""
        experiments.delete(experiment_id)
        return json_reply({"deleted": experiment_id})

    return router


def _spec_of(body: ExperimentBody, request: Request) -> ExperimentSpec:
    try:
        spec = msgspec.convert(body.spec, ExperimentSpec, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"spec: {error}.", where="spec") from error
    if spec.evaluation.file is not None:
        check_permission(request.state.caller.key, Permission.DATASETS_WRITE)
    return spec
