"""Whether this process lives and whether it is ready. Open, so that any supervisor can ask."""

from fastapi import APIRouter
from starlette.responses import Response

from penstock.access.declarations import open_to_all
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices


def create_router(services: ControlServices) -> APIRouter:
    """Return `/healthz` and `/readyz`."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    @open_to_all("supervisors ask without a key; the answer says nothing but that the process runs")
    def show_health() -> Response:
        """200 while the process runs."""
        return json_reply({"status": "ok"})

    @router.get("/readyz")
    @open_to_all("supervisors ask without a key; problems are named by part, without content")
    def show_readiness() -> Response:
        """200 when every part is ready, else 503 that names what is not."""
        problems = dict(services.find_problems())
        return json_reply(
            {
                "status": "not ready" if problems else "ready",
                "problems": problems,
                "warnings": dict(services.find_warnings()),
            },
            status=503 if problems else 200,
        )

    return router
