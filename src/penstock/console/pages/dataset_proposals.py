"""The review of rows that models proposed: accept, edit, reject, and add what was accepted to the dataset."""

import json
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput
from penstock.console.dataset_rows import ShownField, show_fields, version_href
from penstock.console.formats import format_json
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.datasets.proposals.types import Proposal

PAGE = 20
STATES = ("pending", "accepted", "added", "rejected")


@dataclass(frozen=True, kw_only=True)
class ShownProposal:
    """One proposal as it is reviewed."""

    proposal: Proposal
    fields: tuple[ShownField, ...]
    fields_json: str
    trace_href: str | None


@dataclass(frozen=True, kw_only=True)
class ProposalsPage(Page):
    """The queue."""

    template: ClassVar[str] = "dataset_proposals.html"
    dataset: str
    datasets: tuple[tuple[str, int], ...]
    """Names with what waits in each."""
    state: str
    states: tuple[tuple[str, int, str], ...]
    proposals: tuple[ShownProposal, ...]
    n_accepted: int
    next_href: str | None
    here: str


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/dataset-proposals` and below."""
    router = APIRouter(include_in_schema=False)
    proposals = services.proposals

    @router.get("/dataset-proposals")
    @needs(Permission.DATASETS_READ)
    def review(
        request: Request,
        dataset: str = "",
        state: str = "pending",
        cursor: str | None = None,
        notice: str | None = None,
    ) -> Response:
        state = state if state in STATES else "pending"
        found = proposals.list_proposals(dataset or None, states=[state], cursor=cursor, limit=PAGE)
        here = _href(dataset, state)
        page = ProposalsPage(
            frame=renderer.frame(request, "Proposals", "/datasets", notice=notice),
            dataset=dataset,
            datasets=tuple(sorted(proposals.waiting().items())),
            state=state,
            states=tuple((each, found.counts.get(each, 0), _href(dataset, each)) for each in STATES),
            proposals=tuple(_show(each) for each in found.proposals),
            n_accepted=found.counts.get("accepted", 0),
            next_href=f"{here}&cursor={found.next_cursor}" if found.next_cursor else None,
            here=here,
        )
        return renderer.show(page)

    @router.post("/dataset-proposals/decide")
    @needs(Permission.DATASETS_WRITE)
    def decide(request: Request) -> Response:
        caller = request.state.caller
        form = caller.form
        proposal_id, actor = form.get("id", ""), actor_of(caller)
        if form.get("verdict") == "reject":
            done = proposals.reject(proposal_id, actor=actor, reason=form.get("reason", ""))
        else:
            fields = _read_fields(form["fields"]) if form.get("fields", "").strip() else None
            done = proposals.accept(proposal_id, actor=actor, fields=fields)
        back = _href(form.get("dataset", ""), form.get("state", "pending"))
        return RedirectResponse(f"{back}&{urlencode({'notice': f'{done.state} {done.id}'})}", status_code=303)

    @router.post("/dataset-proposals/add")
    @needs(Permission.DATASETS_WRITE)
    def add(request: Request) -> Response:
        caller = request.state.caller
        version = proposals.add(caller.form.get("dataset", ""), actor=actor_of(caller))
        return RedirectResponse(
            version_href(version, notice="The accepted proposals are rows of this version."), status_code=303
        )

    return router


def _show(proposal: Proposal) -> ShownProposal:
    trace_id = proposal.detail.get("trace_id")
    return ShownProposal(
        proposal=proposal,
        fields=show_fields(proposal.fields),
        fields_json=format_json(proposal.fields),
        trace_href=f"/traces/{trace_id}" if isinstance(trace_id, str) else None,
    )


def _read_fields(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"The edited fields are no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise InvalidInput("The edited fields are one JSON object.")
    return value


def _href(dataset: str, state: str) -> str:
    return f"/dataset-proposals?{urlencode({'dataset': dataset, 'state': state})}"
