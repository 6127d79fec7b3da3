"""Verdicts of gates over REST."""

from typing import Any, get_args

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.evals.gates.files import make_gate
from penstock.evals.gates.types import GateQuery
from penstock.spec.evaluations import VerdictWord


class Judgement(BaseModel):
    """Body of a judgement: the gate in the members of its file, and the evaluations that it is about."""

    model_config = ConfigDict(extra="forbid")
    gate: dict[str, Any]
    candidate: str
    baseline: str | None = None
    baseline_problem: str | None = None
    """Why there is no baseline, where one was asked for."""


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/gates`."""
    router = APIRouter(prefix="/api/v1/gates", tags=["gates"])

    @router.get("")
    @needs(Permission.EVALS_READ)
    def list_gates(
        name: str | None = None,
        candidate: str | None = None,
        verdict: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Response:
        """One page of verdicts, newest first. `candidate` with `@…` is one version, without all of them."""
        words: tuple[VerdictWord, ...] = get_args(VerdictWord)
        known = [word for word in words if word == verdict]
        if verdict is not None and not known:
            raise InvalidInput(
                f"{verdict!r} is no verdict.", hint=f"Use {', '.join(words)}.", where="verdict"
            )
        query = GateQuery(
            name=name, candidate=candidate, verdict=known[0] if known else None, cursor=cursor, limit=limit
        )
        return json_reply(services.gates.list(query))

    @router.post("")
    @needs(Permission.EVALS_WRITE)
    def judge(request: Request, body: Judgement) -> Response:
        """Judge evaluations that have ended by the rules of a gate, and keep the verdict."""
        spec = make_gate(body.gate)
        actor = actor_of(request.state.caller)
        result = services.gates.judge(
            spec,
            candidate=body.candidate,
            baseline=body.baseline,
            baseline_problem=body.baseline_problem,
            actor=actor,
        )
        return json_reply(result, status=201)

    @router.get("/{result_id}")
    @needs(Permission.EVALS_READ)
    def show_gate(result_id: str) -> Response:
        """One verdict, rule by rule."""
        return json_reply(services.gates.get(result_id))

    @router.get("/{result_id}/evidence")
    @needs(Permission.EVALS_READ)
    def show_evidence(result_id: str) -> Response:
        """What the move of an alias keeps of a verdict."""
        return json_reply(services.gates.evidence(result_id))

    return router
