"""The queue of proposals: plan and start a run, look through what came of it, accept, reject, add to the dataset.

A decision changes the queue alone; `add` then makes one version with all accepted rows, so that a review of a hundred
proposals makes one version and not a hundred.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

import msgspec
from sqlalchemy import Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput
from penstock.base.json_text import clean_text
from penstock.datasets.errors import NewerVersion
from penstock.datasets.proposals import queries
from penstock.datasets.proposals.errors import (
    BadProposal,
    NoSeeds,
    ProposalDecided,
    UnknownProposal,
    UnpricedModel,
)
from penstock.datasets.proposals.ports import ChatModels, PassageSource, ProposalJobs
from penstock.datasets.proposals.run import ProposalRun
from penstock.datasets.proposals.types import (
    MAX_PROPOSALS,
    Plan,
    Proposal,
    ProposalKind,
    ProposalPage,
    ProposalRequest,
    ProposalState,
)
from penstock.datasets.service import DatasetService
from penstock.datasets.types import DatasetVersion
from penstock.spec.datasets import DatasetRow, Provenance

MAX_PAGE = 200
_TRIES = 5


class ProposalService:
    """Proposals on the control tables. Every method may be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        datasets: DatasetService,
        models: ChatModels,
        passages: PassageSource,
        jobs: ProposalJobs,
        *,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._engine = engine
        self._datasets = datasets
        self._jobs = jobs
        self._clock = clock
        self._adding = threading.Lock()
        self.runs = ProposalRun(engine, datasets, models, passages, clock=clock)
        """Does the job."""

    def plan(self, request: ProposalRequest) -> Plan:
        """Return what a request would do and cost; nothing is asked of a model. Raises as `start`."""
        check_request(request)
        plan = self.runs.plan(request)
        if not plan.n_seeds:
            raise NoSeeds(
                f"{plan.ref} has nothing that a {request.kind!r} proposal could be made from.",
                hint="Rows that ask one question in one text can be seeds; passages come from --knowledge NAME.",
            )
        return plan

    def start(self, request: ProposalRequest) -> str:
        """Queue the run and return its job. Raises `InvalidInput`, `NoSeeds`, `UnpricedModel`, `NotFound`."""
        plan = self.plan(request)
        if request.budget_usd is not None and plan.cost_usd is None:
            raise UnpricedModel(
                f"Nobody knows what calls of {request.model!r} cost, so a budget cannot be held.",
                hint="Set one: `penstock price create PROVIDER/MODEL --set input_uncached=1 --set output_text=2` (US dollars a "
                "million tokens); or leave the budget out and bound the calls with --max-calls.",
                model=request.model,
            )
        pinned = msgspec.structs.replace(request, dataset=plan.ref)
        spec: dict[str, Any] = msgspec.to_builtins(pinned)
        return self._jobs.submit(spec)

    def list_proposals(
        self,
        dataset: str | None = None,
        *,
        states: Sequence[str] = ("pending",),
        batch: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> ProposalPage:
        """Return one page of proposals in the order they were made; no states: all of them."""
        unknown = [each for each in states if each not in get_args(ProposalState)]
        if unknown or not 1 <= limit <= MAX_PAGE:
            raise InvalidInput(
                f"States are {', '.join(get_args(ProposalState))}; a page has 1 to {MAX_PAGE} proposals."
            )
        with self._engine.connect() as connection:
            found = queries.list_page(
                connection, dataset=dataset, states=states, batch=batch, after=cursor, limit=limit + 1
            )
            counts = queries.count_states(connection, dataset)
        page = found[:limit]
        return ProposalPage(
            proposals=page, counts=counts, next_cursor=page[-1].id if len(found) > limit else None
        )

    def waiting(self) -> dict[str, int]:
        """Return dataset to the number of proposals that wait for a person."""
        with self._engine.connect() as connection:
            return queries.count_pending(connection)

    def get(self, proposal_id: str) -> Proposal:
        """Return one proposal; raise `UnknownProposal`."""
        with self._engine.connect() as connection:
            found = queries.get(connection, proposal_id)
        if found is None:
            raise UnknownProposal(f"There is no proposal {proposal_id!r}.", proposal=proposal_id)
        return found

    def accept(self, proposal_id: str, *, actor: str, fields: Mapping[str, Any] | None = None) -> Proposal:
        """Accept a proposal, edited where `fields` are given; raise `UnknownProposal`, `ProposalDecided`."""
        before = self.get(proposal_id)
        values: dict[str, Any] = {"state": "accepted", "reason": None}
        if fields is not None and dict(fields) != before.fields:
            _check_fields(before, fields)
            values |= {"fields": dict(fields), "proposed": before.proposed or before.fields}
        return self._decide(before, actor, values)

    def reject(self, proposal_id: str, *, actor: str, reason: str = "") -> Proposal:
        """Reject a proposal; raise `UnknownProposal`, `ProposalDecided`."""
        text = clean_text(reason).strip()[:1000] or None
        return self._decide(self.get(proposal_id), actor, {"state": "rejected", "reason": text})

    def add(
        self, dataset: str, *, actor: str, ids: Sequence[str] | None = None, note: str = ""
    ) -> DatasetVersion:
        """Return the version of the dataset that holds its newest rows and all accepted ones (or those of `ids`).

        A row that served as a seed and had no group gets one, together with what was made from it, so that splits keep
        them together. Raises `NoSeeds` when nothing waits, `ProposalDecided` for ids that are not accepted.
        """
        with self._adding:
            accepted = self._accepted(dataset, ids)
            version = self._join(dataset, accepted, actor, note)
            with self._engine.begin() as connection:
                for each in accepted:
                    added = msgspec.structs.replace(each, state="added", version=version.ref)
                    queries.replace(connection, added, was="accepted")
        return version

    def _join(self, dataset: str, accepted: Sequence[Proposal], actor: str, note: str) -> DatasetVersion:
        for n_left in reversed(range(_TRIES)):
            base = self._datasets.get(f"dataset:{dataset}@latest")
            rows = _Joined(accepted, actor)
            step = {
                "step": "accept proposals",
                "n_before": base.facts.n_rows,
                "n_after": base.facts.n_rows + len(accepted),
                "models": sorted({str(each.detail.get("model")) for each in accepted}),
                "n_edited": sum(each.proposed is not None for each in accepted),
                "by": actor,
            }
            facts = base.facts
            try:
                return self._datasets.create_from_rows(
                    dataset,
                    rows.join(self._datasets.read(base.ref)),
                    facts.format,
                    parents=[base.digest],
                    sources=facts.sources,
                    steps=[*facts.steps, step],
                    left_out=facts.left_out,
                    description=facts.description,
                    licence=facts.license,
                    note=note or f"{len(accepted)} proposals accepted by {actor}",
                    newest=base.digest,
                )
            except NewerVersion:
                if not n_left:
                    raise
        raise AssertionError("every try returns or raises")

    def _accepted(self, dataset: str, ids: Sequence[str] | None) -> list[Proposal]:
        if ids is None:
            with self._engine.connect() as connection:
                found = queries.list_page(
                    connection, dataset=dataset, states=("accepted",), batch=None, after=None, limit=100_000
                )
        else:
            found = [self.get(each) for each in dict.fromkeys(ids)]
            for each in found:
                if each.state != "accepted" or each.dataset != dataset:
                    raise ProposalDecided(
                        f"Proposal {each.id} of {each.dataset} is {each.state}.", proposal=each.id
                    )
        if not found:
            raise NoSeeds(
                f"No accepted proposal of {dataset!r} waits.",
                hint="`penstock dataset proposals` shows those that wait for a decision.",
            )
        return found

    def _decide(self, before: Proposal, actor: str, values: Mapping[str, Any]) -> Proposal:
        if before.state == "added":
            raise ProposalDecided(
                f"Proposal {before.id} is already in {before.version}.",
                proposal=before.id,
                state=before.state,
            )
        after = msgspec.structs.replace(before, decided_ns=self._clock(), decided_by=actor, **values)
        with self._engine.begin() as connection:
            if not queries.replace(connection, after, was=before.state):
                raise ProposalDecided(
                    f"Somebody else has just decided on proposal {before.id}.", proposal=before.id
                )
        return after


class _Joined:
    """The rows of a version with accepted proposals after them."""

    def __init__(self, accepted: Sequence[Proposal], actor: str) -> None:
        self._accepted = accepted
        self._actor = actor
        self._seeds = {str(each.detail["seed_row"]) for each in accepted if each.detail.get("seed_row")}

    def join(self, rows: Iterator[DatasetRow]) -> Iterator[DatasetRow]:
        """Yield the rows, seeds with a group, then the new ones."""
        for row in rows:
            is_alone = row.id in self._seeds and row.group is None
            yield msgspec.structs.replace(row, group=row.id) if is_alone else row
        for each in self._accepted:
            detail = {**each.detail, "accepted_by": each.decided_by or self._actor}
            if each.proposed is not None:
                detail["edited"] = True
            yield DatasetRow(
                id=each.id,
                fields=each.fields,
                split=each.split,
                group=each.group,
                tags=each.tags,
                provenance=Provenance(
                    kind="synthetic", source=str(each.detail.get("model") or ""), detail=detail
                ),
            )


def check_request(request: ProposalRequest) -> None:
    """Raise `InvalidInput` for what cannot be asked."""
    if request.kind not in get_args(ProposalKind):
        raise InvalidInput(f"Kinds are {', '.join(get_args(ProposalKind))}.", where="kind")
    if not 1 <= request.n <= MAX_PROPOSALS or not 1 <= request.per_call <= 20:
        raise InvalidInput(f"1 to {MAX_PROPOSALS} proposals, 1 to 20 a call.", where="n")
    if request.kind == "translate" and not (request.language or "").strip():
        raise InvalidInput("A translation needs a language.", hint="Add --language German.", where="language")
    if request.max_calls is not None and request.max_calls < 1:
        raise InvalidInput("At least one call.", where="max_calls")
    if request.budget_usd is not None and not (request.budget_usd.is_finite() and request.budget_usd >= 0):
        raise InvalidInput("A budget is an amount of US dollars.", where="budget_usd")


def _check_fields(proposal: Proposal, fields: Mapping[str, Any]) -> None:
    if set(fields) != set(proposal.fields):
        raise BadProposal(
            f"The edited proposal must have the fields {', '.join(sorted(proposal.fields))}.",
            proposal=proposal.id,
        )
