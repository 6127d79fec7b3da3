"""Upkeep over REST: what goes by age, writing the store anew, a copy of it for backups."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices


class ExpireBody(BaseModel):
    """Body of a run of retention."""

    model_config = ConfigDict(extra="forbid")
    dry_run: bool = False
    """Only count."""


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/upkeep`."""
    router = APIRouter(prefix="/api/v1/upkeep", tags=["upkeep"])
    upkeep = services.upkeep

    @router.get("")
    @needs(Permission.TRACES_READ)
    def show_upkeep() -> Response:
        """What goes by age, what the last run did, how large the store is, and what waits to be erased."""
        return json_reply(upkeep.report())

    @router.post("/expire")
    @needs(Permission.TRACES_ERASE)
    def expire(body: ExpireBody) -> Response:
        """Delete what the settings call too old, or count it."""
        return json_reply(upkeep.retention.count() if body.dry_run else upkeep.retention.run())

    @router.post("/compact")
    @needs(Permission.TRACES_ERASE)
    def compact() -> Response:
        """Write the span store anew: it becomes smaller, and nothing of what was deleted is left in it."""
        return json_reply(upkeep.compact())

    @router.post("/span-copy")
    @needs(Permission.ADMIN)
    def copy_spans() -> Response:
        """Copy the span store as it is now to a file below `run/backup` of the home; whoever asked takes it away."""
        path, size = upkeep.copy_spans()
        return json_reply({"path": str(path), "size_bytes": size}, status=201)

    return router
