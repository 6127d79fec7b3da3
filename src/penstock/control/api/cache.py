"""The response cache over REST: how it works, and emptying it."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices

Name = Annotated[str, Field(min_length=1, max_length=256)]


class PurgeBody(BaseModel):
    """Body of a purge; without a name everything is forgotten."""

    model_config = ConfigDict(extra="forbid")
    route: Name | None = None
    """Forget the replies of this route."""
    project: Name | None = None
    """Forget the replies of this project."""


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/cache`."""
    router = APIRouter(prefix="/api/v1/cache", tags=["cache"])

    @router.get("")
    @needs(Permission.CONFIG_READ)
    def show_cache() -> Response:
        """What the cache holds, how often it answered, and how often answers by meaning may be wrong."""
        return json_reply(services.cache.stats())

    @router.post("/purge")
    @needs(Permission.CONFIG_WRITE)
    def purge_cache(body: PurgeBody) -> Response:
        """Forget what was kept until now; gateways heed it at once."""
        return json_reply({"purged": services.cache.purge(route=body.route, project=body.project).text()})

    return router
