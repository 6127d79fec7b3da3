"""Cleaning of datasets, their sheets, and rows that models propose, over REST."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.datasets.cleaning.contamination import ContaminationOptions
from penstock.datasets.cleaning.minhash import MinHashOptions
from penstock.datasets.proposals.types import ProposalKind, ProposalRequest
from penstock.datasets.sheet import write_markdown

Version = Annotated[str, Query(max_length=80)]
READ, WRITE = Permission.DATASETS_READ, Permission.DATASETS_WRITE


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DedupeBody(_Body):
    """Body of a removal of duplicates."""

    version: str = "latest"
    part: Literal["inputs", "answers", "all"] = "all"
    near: bool = True
    threshold: float = 0.8
    report: bool = False
    """Only tell; make no version."""
    note: str = ""


class DecontaminateBody(_Body):
    """Body of a removal of what held-out rows and others have in common."""

    version: str = "latest"
    held: str | None = "test"
    other: str | None = None
    against: list[str] = []
    lose: Literal["other", "held"] = "other"
    part: Literal["inputs", "answers", "all"] = "inputs"
    n: int = 8
    overlap: float = 0.8
    near: bool = True
    threshold: float = 0.8
    report: bool = False
    note: str = ""


class ScrubBody(_Body):
    """Body of a removal of personal data."""

    version: str = "latest"
    kinds: list[str] = []
    report: bool = False
    note: str = ""


class ProposeBody(_Body):
    """Body of a request for proposals."""

    version: str = "latest"
    kind: ProposalKind
    model: str
    n: int = 20
    per_call: int = 4
    language: str | None = None
    knowledge: str | None = None
    where: str | None = None
    seed: int = 0
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    budget_usd: Decimal | None = None
    max_calls: int | None = None
    plan: bool = False
    """Only tell what it would do and cost."""


class AcceptBody(_Body):
    """Body of an acceptance; `fields` are what they were edited to."""

    fields: dict[str, Any] | None = None


class RejectBody(_Body):
    """Body of a rejection."""

    reason: str = ""


class AddBody(_Body):
    """Body of adding accepted proposals; without ids all of them."""

    ids: list[str] | None = None
    note: str = ""


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/datasets/{name}` that clean, and those of proposals."""
    router = APIRouter(prefix="/api/v1", tags=["datasets"])
    for add in (_add_reports, _add_steps, _add_proposing, _add_review):
        add(router, services)
    return router


def _add_reports(router: APIRouter, services: ControlServices) -> None:
    cleaning = services.cleaning

    @router.get("/datasets/{name}/profile")
    @needs(READ)
    def show_profile(name: str, version: Version = "latest") -> Response:
        """Lengths, languages, labels, and rows that a person should look at."""
        return json_reply(cleaning.profile(_ref(name, version)))

    @router.get("/datasets/{name}/personal")
    @needs(READ)
    def show_personal(
        name: str, version: Version = "latest", kind: Annotated[Sequence[str], Query()] = ()
    ) -> Response:
        """Personal data by field and kind, with ids of rows; never a value."""
        return json_reply(cleaning.personal(_ref(name, version), list(kind)))

    @router.get("/datasets/{name}/sheet")
    @needs(READ)
    def show_sheet(
        name: str,
        version: Version = "latest",
        form: Literal["json", "markdown"] = "json",
        shared: bool = False,
    ) -> Response:
        """The datasheet; `shared` compares with every other dataset of the home."""
        sheet = cleaning.sheet(_ref(name, version), compare=shared)
        if form == "markdown":
            return Response(write_markdown(sheet), media_type="text/markdown; charset=utf-8")
        return json_reply(sheet)


def _add_steps(router: APIRouter, services: ControlServices) -> None:
    cleaning = services.cleaning

    @router.post("/datasets/{name}/dedupe")
    @needs(WRITE)
    def dedupe(name: str, body: DedupeBody) -> Response:
        """Drop rows that say what an earlier row says, or tell which."""
        near = MinHashOptions(threshold=body.threshold) if body.near else None
        return json_reply(
            cleaning.dedupe(
                _ref(name, body.version), part=body.part, near=near, report_only=body.report, note=body.note
            )
        )

    @router.post("/datasets/{name}/decontaminate")
    @needs(WRITE)
    def decontaminate(name: str, body: DecontaminateBody) -> Response:
        """Drop rows that held-out rows and others have in common, or tell which."""
        near = MinHashOptions(threshold=body.threshold) if body.near else None
        return json_reply(
            cleaning.decontaminate(
                _ref(name, body.version),
                held=body.held,
                other=body.other,
                against=body.against,
                lose=body.lose,
                options=ContaminationOptions(n=body.n, overlap=body.overlap, near=near, part=body.part),
                report_only=body.report,
                note=body.note,
            )
        )

    @router.post("/datasets/{name}/scrub")
    @needs(WRITE)
    def scrub(name: str, body: ScrubBody) -> Response:
        """Replace personal data by the name of its kind, or tell how much there is."""
        return json_reply(
            cleaning.scrub(_ref(name, body.version), body.kinds, report_only=body.report, note=body.note)
        )


def _add_proposing(router: APIRouter, services: ControlServices) -> None:
    proposals = services.proposals

    @router.post("/datasets/{name}/propose")
    @needs(WRITE, Permission.MODELS_CALL, Permission.KNOWLEDGE_READ)
    def propose(request: Request, name: str, body: ProposeBody) -> Response:
        """Have a model propose rows, or tell what that would cost. Answers with the job."""
        asked = ProposalRequest(
            dataset=_ref(name, body.version),
            actor=actor_of(request.state.caller),
            **body.model_dump(exclude={"version", "plan"}),
        )
        if body.plan:
            return json_reply({"plan": proposals.plan(asked)})
        return json_reply({"job": proposals.start(asked)}, status=202)

    @router.post("/datasets/{name}/proposals/add")
    @needs(WRITE)
    def add_accepted(request: Request, name: str, body: AddBody) -> Response:
        """Make a version with the accepted proposals after the newest rows."""
        actor = actor_of(request.state.caller)
        return json_reply(proposals.add(name, actor=actor, ids=body.ids, note=body.note))


def _add_review(router: APIRouter, services: ControlServices) -> None:
    proposals = services.proposals

    @router.get("/dataset-proposals")
    @needs(READ)
    def list_proposals(
        dataset: str | None = None,
        state: Annotated[Sequence[str], Query()] = ("pending",),
        batch: str | None = None,
        cursor: str | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Response:
        """One page of proposals in the order they were made."""
        states = [each for each in state if each != "all"]
        return json_reply(
            proposals.list_proposals(dataset, states=states, batch=batch, cursor=cursor, limit=limit)
        )

    @router.get("/dataset-proposals/{proposal_id}")
    @needs(READ)
    def show_proposal(proposal_id: str) -> Response:
        """One proposal with where it comes from."""
        return json_reply(proposals.get(proposal_id))

    @router.post("/dataset-proposals/{proposal_id}/accept")
    @needs(WRITE)
    def accept(request: Request, proposal_id: str, body: AcceptBody) -> Response:
        """Accept a proposal, as it is or edited."""
        actor = actor_of(request.state.caller)
        return json_reply(proposals.accept(proposal_id, actor=actor, fields=body.fields))

    @router.post("/dataset-proposals/{proposal_id}/reject")
    @needs(WRITE)
    def reject(request: Request, proposal_id: str, body: RejectBody) -> Response:
        """Reject a proposal."""
        actor = actor_of(request.state.caller)
        return json_reply(proposals.reject(proposal_id, actor=actor, reason=body.reason))


def _ref(name: str, version: str) -> str:
    return f"dataset:{name}@{version}"
