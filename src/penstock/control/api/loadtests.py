"""Load tests over REST: plan, start, list, show, stop, compare, export, reports, delete."""

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.offered import require
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.deploy.load.reports import to_html, to_markdown
from penstock.deploy.load.service import LoadTestService, read_spec
from penstock.deploy.load.types import LoadState, VerdictWord

READ, WRITE = Permission.DEPLOYMENTS_READ, Permission.DEPLOYMENTS_WRITE
Limit = Annotated[int, Query(ge=1, le=500)]


class PlanBody(BaseModel):
    """What is to be tested."""

    model_config = ConfigDict(extra="forbid")
    spec: dict[str, Any]
    """As in a load test's file."""


class StartBody(PlanBody):
    """What is to be tested, and whether its cost was agreed to."""

    agreed: bool = False
    """That calls to hosted providers may cost what they cost; a `max_cost_usd` in the spec says it too."""


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/load-tests`."""
    router = APIRouter(prefix="/api/v1/load-tests", tags=["load tests"])
    _add_running(router, services)
    _add_reading(router, services)
    return router


def load_tests_of(services: ControlServices) -> LoadTestService:
    """Return the service; raise `NotFound` where this process has none."""
    return require(services.load_tests, "Load tests are not run here.")


def _add_running(router: APIRouter, services: ControlServices) -> None:
    @router.post("/plan")
    @needs(READ)
    def plan(body: PlanBody) -> Response:
        """What it would do and cost. Asks no model."""
        return json_reply(load_tests_of(services).plan(read_spec(body.spec)))

    @router.post("")
    @needs(WRITE, Permission.MODELS_CALL)
    def start(request: Request, body: StartBody) -> Response:
        """Keep the test and queue its run."""
        spec = read_spec(body.spec)
        actor = actor_of(request.state.caller)
        record = load_tests_of(services).start(spec, actor=actor, is_agreed=body.agreed)
        return json_reply(record, status=201)

    @router.post("/{test_id}/stop")
    @needs(WRITE)
    def stop(test_id: str) -> Response:
        """End the run; what it has measured is kept."""
        return json_reply(load_tests_of(services).stop(test_id))

    @router.delete("/{test_id}")
    @needs(WRITE)
    def delete(test_id: str) -> Response:
        """Forget a test and its calls."""
        load_tests_of(services).delete(test_id)
        return json_reply({"deleted": test_id})


def _add_reading(router: APIRouter, services: ControlServices) -> None:
    @router.get("")
    @needs(READ)
    def list_tests(
        route: str | None = None,
        state: LoadState | None = None,
        verdict: VerdictWord | None = None,
        cursor: str | None = None,
        limit: Limit = 50,
    ) -> Response:
        """Load tests, newest first."""
        return json_reply(
            load_tests_of(services).list(
                route=route, state=state, verdict=verdict, cursor=cursor, limit=limit
            )
        )

    @router.get("/compare")
    @needs(READ)
    def compare(first: str, second: str) -> Response:
        """Two tests side by side, with what differs between them."""
        return json_reply(load_tests_of(services).compare(first, second))

    @router.get("/{test_id}")
    @needs(READ)
    def show(test_id: str) -> Response:
        """One test with everything it found but the single calls."""
        return json_reply(load_tests_of(services).get(test_id))

    @router.get("/{test_id}/samples")
    @needs(READ)
    def export(test_id: str) -> Response:
        """Each call, one JSON object a line: moments, tokens, how it ended. No prompt and no reply."""
        pieces: Iterator[bytes] = load_tests_of(services).read_samples(test_id)
        return StreamingResponse(pieces, media_type="application/x-ndjson")

    @router.get("/{test_id}/report.md")
    @needs(READ)
    def report_markdown(test_id: str) -> Response:
        """The report as Markdown."""
        return Response(
            to_markdown(load_tests_of(services).get(test_id)), media_type="text/markdown; charset=utf-8"
        )

    @router.get("/{test_id}/report.html")
    @needs(READ)
    def report_html(test_id: str) -> Response:
        """The report as one HTML file that needs nothing else."""
        return Response(
            to_html(load_tests_of(services).get(test_id)),
            media_type="text/html; charset=utf-8",
            headers={"content-disposition": f'attachment; filename="{test_id}.html"'},
        )
