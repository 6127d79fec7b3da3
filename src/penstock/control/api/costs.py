"""Money over REST: sums, why a call cost what it did, advice, and the comparison with a provider's export."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput
from penstock.control.api.parameters import StoredNumber
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.store.spans.ledger_types import CostQuery
from penstock.traces.costs.exports import read_export
from penstock.traces.costs.service import DEFAULT_TTL_S, CostService

MAX_LINES = 1000


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/costs`."""
    router = APIRouter(prefix="/api/v1/costs", tags=["costs"])

    @router.get("")
    @needs(Permission.COST_READ)
    def sum_costs(
        *,
        by: Annotated[list[str] | None, Query()] = None,
        since_ns: StoredNumber | None = None,
        until_ns: StoredNumber | None = None,
        project: str | None = None,
        key: str | None = None,
        user: str | None = None,
        route: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        only_sent: bool = False,
    ) -> Response:
        """Sums of billed calls, of all and by `by` (day, model, provider, key, user, project, route, prompt, step,
        session, source; several make groups of each combination); with `only_sent` without what
        the cache answered and, unless a provider is named, what runs here."""
        query = _query(
            since_ns,
            until_ns,
            project=project,
            key=key,
            user=user,
            route=route,
            provider=provider,
            model=model,
            only_sent=only_sent,
        )
        return json_reply(services.costs.sum_costs(query, by or []))

    @router.get("/advice")
    @needs(Permission.COST_READ)
    def advise(
        *,
        since_ns: StoredNumber | None = None,
        until_ns: StoredNumber | None = None,
        project: str | None = None,
        route: str | None = None,
        ttl_s: Annotated[int, Query(ge=1, le=365 * 86_400)] = DEFAULT_TTL_S,
        candidate: Annotated[list[str] | None, Query()] = None,
    ) -> Response:
        """What an exact cache, another model (`candidate=PROVIDER/MODEL`) or the provider's prompt cache would have
        saved."""
        query = _query(since_ns, until_ns, project=project, route=route)
        return json_reply(services.costs.advise(query, ttl_s=ttl_s, candidates=candidate or []))

    @router.post("/reconcile")
    @needs(Permission.COST_READ)
    async def reconcile(
        request: Request,
        provider: str | None = None,
        tolerance: Annotated[Decimal, Query(ge=0, le=1)] = Decimal("0.01"),
        column: Annotated[list[str] | None, Query()] = None,
    ) -> Response:
        """Compare the export in the body (JSON or CSV, 16 MiB at most) with the ledger; `column=OURS=THEIRS` maps
        columns. Of the numbers that differ, the first thousand are told."""
        columns = _columns(column or [])
        body = await request.body()
        # minutes of reading and comparing must not keep the process from everything else
        return await run_in_threadpool(
            _reconcile, services.costs, body, columns, provider=provider, tolerance=tolerance
        )

    @router.get("/calls/{identity}")
    @needs(Permission.COST_READ)
    def explain(identity: str) -> Response:
        """Why the billed calls of a trace, or the one of a span, cost what they did."""
        return json_reply(services.costs.explain(identity))

    return router


def _columns(items: Sequence[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in items]
    for ours, sign, theirs in pairs:
        if not (ours and sign and theirs):
            raise InvalidInput(
                f"{(ours + sign + theirs)[:80]!r} maps no column.", hint="Write column=OURS=THEIRS."
            )
    return {ours: theirs for ours, _, theirs in pairs}


def _reconcile(
    costs: CostService,
    body: bytes,
    columns: Mapping[str, str],
    *,
    provider: str | None,
    tolerance: Decimal,
) -> Response:
    found = costs.reconcile(read_export(body, columns=columns), provider=provider, tolerance=tolerance)
    n_differ = len(found.lines)
    told = msgspec.structs.replace(found, lines=found.lines[:MAX_LINES])
    return json_reply({**msgspec.structs.asdict(told), "n_differ": n_differ})


def _query(
    since_ns: int | None, until_ns: int | None, *, only_sent: bool = False, **filters: str | None
) -> CostQuery:
    until = 2**63 - 1 if until_ns is None else until_ns
    return CostQuery(since_ns=since_ns or 0, until_ns=until, only_sent=only_sent, **filters)
