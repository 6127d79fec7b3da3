"""Keys over REST. A key's text is in one answer only: that of its creation."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.keys import check_routes
from penstock.access.permissions import Permission
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices


class NewKeyBody(BaseModel):
    """Body of a creation."""

    model_config = ConfigDict(extra="forbid")
    name: str
    scopes: list[str] = ["call"]
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    routes: list[str] | None = None


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/keys`."""
    router = APIRouter(prefix="/api/v1/keys", tags=["keys"])
    keys = services.keys

    @router.get("")
    @needs(Permission.KEYS_READ)
    def list_keys() -> Response:
        """All keys without their secrets, the revoked ones too."""
        return json_reply({"keys": keys.list()})

    @router.post("")
    @needs(Permission.KEYS_WRITE)
    def create_key(body: NewKeyBody) -> Response:
        """Make a key; gateways know it with the next snapshot, within a second."""
        snapshot = services.read_snapshot()
        if snapshot is not None:
            check_routes(body.routes or (), [route.name for route in snapshot.routes])
        made = keys.create(
            body.name,
            body.scopes,
            requests_per_minute=body.requests_per_minute,
            tokens_per_minute=body.tokens_per_minute,
            routes=body.routes,
        )
        services.publish_snapshot()
        return json_reply({"id": made.id, "key": made.key}, status=201)

    @router.post("/{key_id}/revoke")
    @needs(Permission.KEYS_WRITE)
    def revoke_key(key_id: str) -> Response:
        """End a key."""
        info = keys.revoke(key_id)
        services.publish_snapshot()
        return json_reply(info)

    return router
