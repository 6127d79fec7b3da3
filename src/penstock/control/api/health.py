"""Whether this process lives and whether it is ready. Open, so that any supervisor can ask."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import open_to_all
from penstock.access.permissions import Permission, has_permission
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices

WITHHELD = "what is wrong stands in logs/control.log and in the console; ask with a key to read it here"
"""For strangers: texts name files and hosts."""


def create_router(services: ControlServices) -> APIRouter:
    """Return `/healthz` and `/readyz`."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    @open_to_all("supervisors ask without a key; the answer says nothing but that the process runs")
    def show_health() -> Response:
        """200 while the process runs."""
        return json_reply({"status": "ok"})

    @router.get("/readyz")
    @open_to_all("supervisors ask without a key; strangers are told the parts, and nothing of their content")
    def show_readiness(request: Request) -> Response:
        """200 when every part is ready, else 503 that names what is not; why is for keys that may see it."""
        key = request.state.caller.key
        may_see = key is not None and has_permission(key, Permission.ROUTES_READ)
        problems, warnings = (
            {part: text if may_see else WITHHELD for part, text in found.items()}
            for found in (services.find_problems(), services.find_warnings())
        )
        return json_reply(
            {"status": "not ready" if problems else "ready", "problems": problems, "warnings": warnings},
            status=503 if problems else 200,
        )

    return router
