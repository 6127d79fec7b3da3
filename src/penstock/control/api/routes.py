"""What gateways serve, as the snapshot says it: routes and providers. Never a secret."""

from fastapi import APIRouter
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1` that show the snapshot."""
    router = APIRouter(prefix="/api/v1", tags=["routes"])

    @router.get("/routes")
    @needs(Permission.ROUTES_READ)
    def list_routes() -> Response:
        """Routes and providers of the live snapshot."""
        snapshot = services.read_snapshot()
        return json_reply(
            {
                "snapshot": None
                if snapshot is None
                else {"digest": snapshot.digest, "written_ns": snapshot.written_ns},
                "routes": snapshot.routes if snapshot else (),
                "providers": snapshot.providers if snapshot else (),
            }
        )

    return router
