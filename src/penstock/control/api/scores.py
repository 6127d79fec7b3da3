"""Scores over REST: judgements of spans, traces and sessions, by anybody who may send spans."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.control.api.parameters import StoredNumber
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.spec.scores import ScoreSource, ScoreStatus, SpanScore
from penstock.store.spans.types import ScoreQuery
from penstock.traces.scores import MAX_SCORES


class ScoreBody(BaseModel):
    """One judgement. Its target is a span (`trace_id` and `span_id`), a trace, or a session."""

    model_config = ConfigDict(extra="forbid")
    name: str
    value: float | bool | None = None
    """A number; true counts 1, false 0."""
    label: str | None = None
    comment: str | None = None
    status: ScoreStatus = "scored"
    source: ScoreSource = "code"
    scorer: str | None = None
    """Who or what judged: a user, or name and version of a scorer."""
    identifier: str | None = None
    """Tells several judgements of one name and scorer apart."""
    trace_id: str | None = None
    span_id: str | None = None
    session_id: str | None = None
    time_ns: StoredNumber = 0
    """When it was judged; now unless told."""
    evidence: dict[str, Any] = {}


class ScoresBody(BaseModel):
    """One judgement by itself, or several as `scores`."""

    model_config = ConfigDict(extra="forbid")
    scores: Annotated[list[ScoreBody], Field(min_length=1, max_length=MAX_SCORES)]


def _which(value: Any) -> str:
    """Tell one score from several, so that errors are about the one that was meant."""
    has_many = "scores" in value if isinstance(value, dict) else isinstance(value, ScoresBody)
    return "several" if has_many else "one"


AnyBody = Annotated[
    Annotated[ScoresBody, Tag("several")] | Annotated[ScoreBody, Tag("one")], Discriminator(_which)
]


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1` that take and list scores."""
    router = APIRouter(prefix="/api/v1", tags=["scores"])

    @router.post("/scores")
    @needs(Permission.TRACES_WRITE)
    def add_scores(body: AnyBody, request: Request) -> Response:
        """Store judgements, all or none; on disk when this answers. The later of two alike takes the place of the earlier."""
        given = body.scores if isinstance(body, ScoresBody) else [body]
        key = request.state.caller.key
        stored = services.scores.add([_score_of(each) for each in given], project=key.project, key_id=key.id)
        return json_reply({"scores": stored}, status=201)

    @router.get("/scores")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def list_scores(
        *,
        name: str | None = None,
        session_id: str | None = None,
        project: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """Judgements, the latest first."""
        query = ScoreQuery(name=name, session_id=session_id, project=project, limit=limit)
        return json_reply({"scores": services.scores.list(query)})

    @router.get("/traces/{trace_id}/scores")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def list_trace_scores(trace_id: str, name: str | None = None) -> Response:
        """Judgements of a trace and of its spans, the latest first; none when it is unknown."""
        query = ScoreQuery(trace_id=trace_id.lower(), name=name)
        return json_reply({"scores": services.scores.list(query)})

    return router


def _score_of(body: ScoreBody) -> SpanScore:
    fields = body.model_dump()
    value = fields.pop("value")
    return SpanScore(**fields, value=None if value is None else float(value))
