"""The quality of retrieval over REST: measure, compare, explain, feedback, sets of questions, reports, judged answers.

Measuring and comparing are jobs; their result names what was kept. Explaining answers at once.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput, NotFound
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.knowledge.quality.building import QuestionBuilder
from penstock.knowledge.quality.comparing import ComparingService
from penstock.knowledge.quality.errors import NoTraffic, UnknownComparison, UnknownMeasurement
from penstock.knowledge.quality.feedback import MAX_AT_ONCE
from penstock.knowledge.quality.measuring import MAX_K, MeasuringService, check_request
from penstock.knowledge.quality.report_types import TriadSettings
from penstock.knowledge.quality.service import RetrievalQuality
from penstock.knowledge.quality.types import (
    CompareRequest,
    FeedbackDraft,
    FeedbackKind,
    Granularity,
    LabelledQuestion,
    MeasureRequest,
    Mode,
    Phrasing,
    Unmapped,
)
from penstock.knowledge.quality.watching import TriadService
from penstock.knowledge.retrieval.filters import read_filter
from penstock.spec.knowledge import ChosenScope

READ, WRITE = Permission.KNOWLEDGE_READ, Permission.KNOWLEDGE_WRITE
MEASURE_JOB, COMPARE_JOB = "knowledge.measure", "knowledge.compare"
Limit = Annotated[int, Query(ge=1, le=500)]
Days = Annotated[float, Query(gt=0, le=3660)]


class Body(BaseModel):
    """Unknown members are refused."""

    model_config = ConfigDict(extra="forbid")


class MeasureBody(Body):
    """What is to be measured."""

    questions: str
    """`dataset:NAME@ALIAS`, or `handbook:questions`."""
    track: str | None = None
    generation: str | None = None
    ks: Annotated[list[int], Field(min_length=1, max_length=10)] = [1, 3, 5, 10]
    modes: Annotated[list[Mode], Field(min_length=1, max_length=5)] = ["as_is"]
    by: Granularity = "finest"
    phrasing: Phrasing = "asked"
    where: str | None = None
    unmapped: Unmapped = "miss"
    limit: int | None = None
    level: float = 0.95
    note: str = ""


class CompareBody(Body):
    """Which two generations are compared, on what, by which rules."""

    candidate: str
    baseline: str = "live"
    questions: str | None = None
    recorded: Annotated[int, Field(ge=0, le=2000)] = 200
    since_ns: int | None = None
    k: Annotated[int, Field(ge=1, le=MAX_K)] = 5
    rules: list[str] = []
    level: float = 0.95
    by: Granularity = "finest"
    where: str | None = None
    unmapped: Unmapped = "miss"
    note: str = ""


class ExplainBody(Body):
    """A question, and what should be found."""

    question: str
    expect: Annotated[list[str], Field(max_length=20)] = []
    """Documents, `document#section`, passage ids, or words."""
    track: str | None = None
    """Or a generation's id; what is live unless told."""
    k: Annotated[int, Field(ge=1, le=MAX_K)] = 5
    filter: str | dict[str, Any] | None = None
    principals: list[str] | None = None
    """As whom: see what they would see. Unless told, everything."""


class FeedbackBody(Body):
    """What somebody says of something that was found."""

    question: str
    kind: FeedbackKind
    document: str | None = None
    passage_id: str | None = None
    rank: int | None = None
    user: str | None = None
    """Who says it, where one key speaks for many people; clicks and thumbs count once a person."""
    trace_id: str | None = None
    generation: str | None = None


class ManyFeedbackBody(Body):
    """Several judgements, all or none."""

    feedback: Annotated[list[FeedbackBody], Field(min_length=1, max_length=MAX_AT_ONCE)]


class MakeQuestionsBody(Body):
    """Where a set of questions is to come from."""

    name: str
    """Of the dataset; it is made where there is none."""
    kind: Literal["feedback", "traces"]
    since_ns: int | None = None
    limit: Annotated[int, Field(ge=1, le=5000)] = 500
    """Of traces that are read."""
    min_clicks: Annotated[int, Field(ge=1)] = 2
    with_unlabelled: bool = False
    dry_run: bool = False


class LabelledBody(Body):
    """Questions that somebody labelled."""

    name: str
    questions: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=1000)]
    """`{id, question, labels: [{document, section, quote, passage_id, grade}], answer, tags}`"""
    note: str = ""


class WatchBody(Body):
    """How answers of an app are judged as they come."""

    judge: str
    share: float = 0.05
    judges: list[str] = ["context_relevance", "groundedness", "answer_relevance"]
    budget_usd_per_day: Decimal | None = None
    max_per_day: int = 200
    is_on: bool = True


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/knowledge/{name}`, `/api/v1/knowledge-questions` and `/api/v1/knowledge-watches`."""
    router = APIRouter(prefix="/api/v1", tags=["knowledge"])
    _add_measuring(router, services)
    _add_comparing(router, services)
    _add_looking(router, services)
    _add_feedback(router, services)
    _add_questions(router, services)
    _add_watches(router, services)
    return router


def _add_measuring(router: APIRouter, services: ControlServices) -> None:
    def measuring() -> MeasuringService:
        return quality_of(services).measuring

    @router.post("/knowledge/{name}/measurements")
    @needs(WRITE, Permission.DATASETS_READ)
    def measure(request: Request, name: str, body: MeasureBody) -> Response:
        """Queue a measurement of a generation on labelled questions; the job's result names it."""
        asked = msgspec.convert(body.model_dump(), MeasureRequest)
        check_request(asked)
        spec = {"base": name, "actor": actor_of(request.state.caller), "request": msgspec.to_builtins(asked)}
        return json_reply({"job": services.jobs.submit(MEASURE_JOB, spec).id}, status=202)

    @router.get("/knowledge/{name}/measurements")
    @needs(READ)
    def list_measurements(
        name: str,
        generation: str | None = None,
        questions: str | None = None,
        cursor: str | None = None,
        limit: Limit = 50,
    ) -> Response:
        """Measurements of a base, newest first: figures with intervals over time."""
        return json_reply(
            measuring().list_measurements(
                name, generation=generation, questions=questions, cursor=cursor, limit=limit
            )
        )

    @router.get("/knowledge/{name}/measurements/{measurement_id}")
    @needs(READ, Permission.DATASETS_READ)
    def show_measurement(name: str, measurement_id: str) -> Response:
        """One measurement with its table, slices, labels that nothing fulfils and questions that found nothing."""
        made = measuring().get(measurement_id)
        if made.base != name:
            raise UnknownMeasurement(f"No measurement of {name!r} has the id {measurement_id!r}.")
        return json_reply(made)


def _add_comparing(router: APIRouter, services: ControlServices) -> None:
    def comparing() -> ComparingService:
        return quality_of(services).comparing

    @router.post("/knowledge/{name}/comparisons")
    @needs(WRITE, Permission.DATASETS_READ, Permission.TRACES_CONTENT)
    def compare(request: Request, name: str, body: CompareBody) -> Response:
        """Queue a comparison of two generations; the job's result names it and its verdict."""
        asked = msgspec.convert(body.model_dump(), CompareRequest)
        comparing().check(asked)
        spec = {"base": name, "actor": actor_of(request.state.caller), "request": msgspec.to_builtins(asked)}
        return json_reply({"job": services.jobs.submit(COMPARE_JOB, spec).id}, status=202)

    @router.get("/knowledge/{name}/comparisons")
    @needs(READ, Permission.TRACES_CONTENT)
    def list_comparisons(name: str, cursor: str | None = None, limit: Limit = 50) -> Response:
        """Comparisons of a base, newest first."""
        return json_reply(comparing().list_comparisons(name, cursor=cursor, limit=limit))

    @router.get("/knowledge/{name}/comparisons/{comparison_id}")
    @needs(READ, Permission.TRACES_CONTENT)
    def show_comparison(name: str, comparison_id: str) -> Response:
        """One comparison: what a switch takes as its evidence."""
        made = comparing().get(comparison_id)
        if made.base != name:
            raise UnknownComparison(f"No comparison of {name!r} has the id {comparison_id!r}.")
        return json_reply(made)


def _add_looking(router: APIRouter, services: ControlServices) -> None:

    @router.post("/knowledge/{name}/explain")
    @needs(WRITE)
    def explain(name: str, body: ExplainBody) -> Response:
        """What a question finds stage by stage, what it misses, and why."""
        conditions = [] if body.filter is None else [read_filter(body.filter)]
        scope = ChosenScope(conditions=conditions, principals=body.principals)
        return json_reply(
            quality_of(services).explainer.explain(
                name, body.question, expect=body.expect, named=body.track, k=body.k, scope=scope
            )
        )

    @router.get("/knowledge/{name}/reports/unanswered")
    @needs(READ, Permission.TRACES_CONTENT)
    def report_unanswered(
        name: str, days: Days = 30.0, low_score: float | None = None, limit: Limit = 50
    ) -> Response:
        """Questions that were asked and not answered, those that ask the same put together."""
        return json_reply(
            quality_of(services).reports.unanswered(name, days=days, low_score=low_score, limit=limit)
        )

    @router.get("/knowledge/{name}/reports/stale")
    @needs(READ)
    def report_stale(
        name: str, days: Days = 30.0, max_age_days: float | None = None, limit: Limit = 200
    ) -> Response:
        """Documents that may be out of date, those that answers cite first."""
        return json_reply(
            quality_of(services).reports.stale(name, days=days, max_age_days=max_age_days, limit=limit)
        )

    @router.get("/knowledge/{name}/reports/unused")
    @needs(READ)
    def report_unused(name: str, days: Days = 90.0, limit: Limit = 200) -> Response:
        """Documents that no question found."""
        return json_reply(quality_of(services).reports.unused(name, days=days, limit=limit))


def _add_feedback(router: APIRouter, services: ControlServices) -> None:

    @router.post("/knowledge/{name}/feedback")
    @needs(Permission.TRACES_WRITE)
    def add_feedback(request: Request, name: str, body: ManyFeedbackBody) -> Response:
        """Keep clicks, thumbs and missed documents, all or none."""
        drafts = [msgspec.convert(each.model_dump(), FeedbackDraft) for each in body.feedback]
        kept = quality_of(services).feedback.add(name, drafts, actor=actor_of(request.state.caller))
        return json_reply({"ids": [each.id for each in kept]}, status=201)

    @router.get("/knowledge/{name}/feedback")
    @needs(READ, Permission.TRACES_CONTENT)
    def list_feedback(
        name: str,
        kind: Annotated[list[FeedbackKind] | None, Query()] = None,
        cursor: str | None = None,
        limit: Limit = 50,
    ) -> Response:
        """What people said, newest first, with counts of each kind."""
        return json_reply(
            quality_of(services).feedback.list_feedback(name, kinds=kind or (), cursor=cursor, limit=limit)
        )


def _add_questions(router: APIRouter, services: ControlServices) -> None:
    def questions() -> QuestionBuilder:
        return quality_of(services).questions

    @router.get("/knowledge-questions")
    @needs(READ, Permission.DATASETS_READ)
    def list_sets() -> Response:
        """Sets of labelled questions."""
        return json_reply({"sets": questions().list_sets()})

    @router.get("/knowledge-questions/rows")
    @needs(READ, Permission.DATASETS_READ)
    def list_questions(ref: str, where: str | None = None, limit: Limit = 100) -> Response:
        """The first questions of a set with their labels."""
        return json_reply({"questions": questions().read(ref, where=where, limit=limit)})

    @router.post("/knowledge-questions/rows")
    @needs(Permission.DATASETS_WRITE)
    def add_questions(request: Request, body: LabelledBody) -> Response:
        """Add questions that somebody labelled."""
        try:
            made = msgspec.convert(body.questions, list[LabelledQuestion])
        except msgspec.ValidationError as error:
            raise InvalidInput(f"These are no questions: {error}.", where="questions") from error
        return json_reply(
            questions().add(body.name, made, actor=actor_of(request.state.caller), note=body.note)
        )

    @router.post("/knowledge/{name}/questions")
    @needs(Permission.DATASETS_WRITE, Permission.TRACES_CONTENT)
    def make_questions(request: Request, name: str, body: MakeQuestionsBody) -> Response:
        """Add questions from feedback, or from recorded traffic whose answers cite documents."""
        actor = actor_of(request.state.caller)
        if body.kind == "feedback":
            made = questions().from_feedback(
                name,
                body.name,
                actor=actor,
                since_ns=body.since_ns,
                min_clicks=body.min_clicks,
                is_dry=body.dry_run,
            )
        else:
            made = questions().from_traces(
                name,
                body.name,
                actor=actor,
                since_ns=body.since_ns,
                limit=body.limit,
                with_unlabelled=body.with_unlabelled,
                is_dry=body.dry_run,
            )
        return json_reply(made)


def _add_watches(router: APIRouter, services: ControlServices) -> None:
    def watches() -> TriadService:
        found = quality_of(services).watches
        if found is None:
            raise NoTraffic("Answers cannot be judged here.", hint="Start Penstock: penstock up.")
        return found

    @router.get("/knowledge-watches")
    @needs(READ)
    def list_watches() -> Response:
        """Apps whose answers are judged as they come, and how far that is."""
        return json_reply({"watches": watches().list_watches()})

    @router.post("/knowledge-watches/{app}")
    @needs(WRITE, Permission.MODELS_CALL, Permission.TRACES_WRITE)
    def put_watch(request: Request, app: str, body: WatchBody) -> Response:
        """Judge a share of an app's answers from now on."""
        settings = TriadSettings(
            app=app,
            judge=body.judge,
            share=body.share,
            judges=tuple(body.judges),
            budget_usd_per_day=body.budget_usd_per_day,
            max_per_day=body.max_per_day,
            is_on=body.is_on,
        )
        return json_reply(watches().put(settings, actor=actor_of(request.state.caller)))

    @router.delete("/knowledge-watches/{app}")
    @needs(WRITE)
    def delete_watch(app: str) -> Response:
        """Judge no more answers of an app; scores stay."""
        watches().delete(app)
        return json_reply({"app": app})


def quality_of(services: ControlServices) -> RetrievalQuality:
    """Return the services; raise `NotFound` where there are no knowledge bases."""
    if services.retrieval_quality is None:
        raise NotFound("There are no knowledge bases here.")
    return services.retrieval_quality
