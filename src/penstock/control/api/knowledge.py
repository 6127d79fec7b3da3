"""Knowledge bases over REST: list, look into, search."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.knowledge.retrieval.filters import read_filter
from penstock.spec.knowledge import ChosenScope


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/knowledge`."""
    router = APIRouter(prefix="/api/v1/knowledge", tags=["knowledge"])
    knowledge = services.knowledge

    @router.get("")
    @needs(Permission.KNOWLEDGE_READ)
    def list_bases() -> Response:
        """All knowledge bases."""
        return json_reply({"bases": knowledge.list_bases()})

    @router.get("/{name}/documents")
    @needs(Permission.KNOWLEDGE_READ)
    def list_documents(name: str) -> Response:
        """The documents of the live index, with what could not be read of them."""
        return json_reply({"documents": knowledge.list_documents(name)})

    @router.get("/{name}/search")
    @needs(Permission.KNOWLEDGE_READ)
    def search(
        name: str,
        q: str,
        k: Annotated[int, Query(ge=1, le=50)] = 5,
        *,
        track: str | None = None,
        where: str | None = None,
        principal: Annotated[list[str] | None, Query()] = None,
    ) -> Response:
        """The best passages for `q`, of what is live or of a track or generation; `where` is a filter.

        With `principal` only what they may read; without one everything, for those who keep the base.
        """
        scope = ChosenScope(conditions=[] if where is None else [read_filter(where)], principals=principal)
        return json_reply(knowledge.retrieve(name, q, k, scope=scope, generation=track))

    return router
