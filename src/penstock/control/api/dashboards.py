"""Measures and dashboards over REST."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput
from penstock.control.api.parameters import StoredNumber
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.spec.measures import DIMENSIONS, MEASURES, MetricQuery, Subject
from penstock.traces.measures.dashboards import read_dashboard
from penstock.traces.measures.service import choose_bucket
from penstock.traces.measures.types import Compare

DAY_NS = 86_400 * 1_000_000_000
Text = Annotated[str, Query(max_length=10_000)]
Until = Annotated[StoredNumber | None, Query(description="Now unless told.")]


class DashboardBody(BaseModel):
    """Body of a change: title, panels, and what else a dashboard says."""

    model_config = ConfigDict(extra="forbid")
    content: dict[str, Any]
    expected_version: Annotated[int, Field(ge=0)] | None = None
    """The version that was read, 0 for a dashboard that is not there yet; another is answered with 409."""


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/measure…` and `/api/v1/dashboards`."""
    router = APIRouter(prefix="/api/v1", tags=["measures"])
    for add in (_add_measures, _add_dashboards):
        add(router, services)
    return router


def _add_measures(router: APIRouter, services: ControlServices) -> None:
    @router.get("/measures")
    @needs(Permission.TRACES_READ)
    def list_measures() -> Response:
        """What can be measured, and by what it can be grouped."""
        return json_reply({"measures": list(MEASURES.values()), "dimensions": DIMENSIONS})

    @router.get("/measure")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def measure(
        measure: Annotated[list[str], Query()],
        *,
        by: Annotated[list[str] | None, Query()] = None,
        subject: Subject = "call",
        q: Text = "",
        since_ns: StoredNumber | None = None,
        until_ns: Until = None,
        bucket_s: Annotated[int | None, Query(ge=1, le=366 * 86_400)] = None,
        sliced: bool = False,
        compare: Compare | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    ) -> Response:
        """Measures of traces, calls or spans that match the search `q`, by dimensions; the last day unless told.

        `bucket_s` cuts the window into slices of that width, `sliced` into slices of a fitting one. `compare` sets
        beside each value that of the window before (`previous`), a day or a week earlier.
        """
        since, until = window_of(since_ns, until_ns)
        bucket_ns = None if bucket_s is None else bucket_s * 1_000_000_000
        if sliced and bucket_ns is None:
            bucket_ns = choose_bucket(since, until)
        query = MetricQuery(
            measures=tuple(measure),
            since_ns=since,
            until_ns=until,
            subject=subject,
            by=tuple(by or ()),
            where=services.measures.parse(q, subject),
            bucket_ns=bucket_ns,
            limit=limit,
        )
        return json_reply(services.measures.measure(query, compare))

    @router.get("/measures/values/{dimension:path}")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def list_values(
        dimension: str,
        since_ns: StoredNumber | None = None,
        until_ns: Until = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """What spans of the window have in a dimension, the most frequent first."""
        since, until = window_of(since_ns, until_ns)
        return json_reply({"values": services.measures.list_values(dimension, since, until, limit=limit)})


def _add_dashboards(router: APIRouter, services: ControlServices) -> None:
    dashboards = services.dashboards

    @router.get("/dashboards")
    @needs(Permission.TRACES_READ)
    def list_dashboards() -> Response:
        """All dashboards, the built-in ones first."""
        return json_reply({"dashboards": dashboards.list()})

    @router.get("/dashboards/{name}")
    @needs(Permission.TRACES_READ)
    def show_dashboard(name: str) -> Response:
        """One dashboard: what its panels ask."""
        return json_reply(dashboards.get(name))

    @router.get("/dashboards/{name}/view")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def view_dashboard(
        name: str,
        *,
        since_ns: StoredNumber | None = None,
        until_ns: Until = None,
        q: Text = "",
        compare: Literal["previous", "day", "week"] | None = None,
    ) -> Response:
        """One dashboard with what is in its panels; its own window unless told, `q` holds for all of them."""
        until = now_ns() if until_ns is None else until_ns
        if since_ns is None:
            since_ns = max(0, until - dashboards.get(name).window_s * 1_000_000_000)
        since, until = window_of(since_ns, until)
        return json_reply(dashboards.show(name, since_ns=since, until_ns=until, where=q, compare=compare))

    @router.put("/dashboards/{name}")
    @needs(Permission.DASHBOARDS_WRITE)
    def put_dashboard(name: str, body: DashboardBody, request: Request) -> Response:
        """Create or replace a dashboard."""
        saved = dashboards.put(
            read_dashboard(name, body.content),
            actor=actor_of(request.state.caller),
            expected_version=body.expected_version,
        )
        return json_reply(saved, status=201 if saved.version == 1 else 200)

    @router.delete("/dashboards/{name}")
    @needs(Permission.DASHBOARDS_WRITE)
    def delete_dashboard(name: str) -> Response:
        """Forget a dashboard."""
        dashboards.delete(name)
        return json_reply({"name": name, "deleted": True})


def window_of(since_ns: int | None, until_ns: int | None) -> tuple[int, int]:
    """Return the window that was asked for, the last day unless told; raise `InvalidInput` for an empty one."""
    until = now_ns() if until_ns is None else until_ns
    since = max(0, until - DAY_NS) if since_ns is None else since_ns
    if since >= until:
        raise InvalidInput("The window is empty.", hint="since_ns must be before until_ns.")
    return since, until
