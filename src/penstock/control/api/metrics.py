"""`GET /metrics` of the control process, for Prometheus; the gateway has a page of its own."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.control.services import ControlServices
from penstock.telemetry.exposition import choose_type, write_families


def create_router(services: ControlServices) -> APIRouter:
    """Return the route `/metrics`."""
    router = APIRouter(tags=["metrics"])

    @router.get("/metrics")
    @needs(Permission.METRICS_READ)
    def show_metrics(request: Request) -> Response:
        """Numbers about the record, its store, alerts and jobs, in Prometheus' format."""
        content_type = choose_type(request.headers.get("accept", ""))
        text = write_families(services.read_metrics(), content_type)
        return Response(text, headers={"content-type": content_type})

    return router
