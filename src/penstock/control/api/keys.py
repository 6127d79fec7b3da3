"""Keys over REST. A key's text is in two answers only: those of its creation and of its rotation."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import actor_of, needs
from penstock.access.keys import MAX_OVERLAP_S, check_routes
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput
from penstock.control.api.parameters import StoredNumber
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
    project: str = "default"
    user: str | None = None
    expires_ns: StoredNumber | None = None


class EditKeyBody(BaseModel):
    """Body of a change: what is left out stays, null takes a bound away."""

    model_config = ConfigDict(extra="forbid")
    name: str | None = None
    scopes: list[str] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    routes: list[str] | None = None
    project: str | None = None
    user: str | None = None
    expires_ns: StoredNumber | None = None


class RotateKeyBody(BaseModel):
    """Body of a rotation."""

    model_config = ConfigDict(extra="forbid")
    overlap_s: Annotated[float, Field(ge=0, le=MAX_OVERLAP_S)] = 0.0
    """Seconds for which the text before goes on working."""


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/keys`."""
    router = APIRouter(prefix="/api/v1/keys", tags=["keys"])
    keys = services.keys

    def check_names(routes: list[str] | None) -> None:
        snapshot = services.read_snapshot()
        if snapshot is not None:
            check_routes(routes or (), [route.name for route in snapshot.routes])

    @router.get("")
    @needs(Permission.KEYS_READ)
    def list_keys() -> Response:
        """All keys without their secrets, the revoked ones too."""
        return json_reply({"keys": keys.list()})

    @router.get("/{key_id}")
    @needs(Permission.KEYS_READ)
    def show_key(key_id: str) -> Response:
        """One key without its secret."""
        return json_reply(keys.get(key_id))

    @router.post("")
    @needs(Permission.KEYS_WRITE)
    def create_key(body: NewKeyBody, request: Request) -> Response:
        """Make a key; gateways know it with the next snapshot, within a second."""
        check_names(body.routes)
        made = keys.create(**body.model_dump())
        services.publish_snapshot(actor_of(request.state.caller), f"create key {body.name} ({made.id})")
        return json_reply({"id": made.id, "key": made.key}, status=201)

    @router.patch("/{key_id}")
    @needs(Permission.KEYS_WRITE)
    def edit_key(key_id: str, body: EditKeyBody, request: Request) -> Response:
        """Change what a key may do; its text stays."""
        changes: dict[str, Any] = body.model_dump(exclude_unset=True)
        for name in ("name", "scopes", "project"):
            if name in changes and changes[name] is None:
                raise InvalidInput(f"A key's {name} cannot be taken away.", where=name)
        check_names(body.routes)
        info = keys.edit(key_id, **changes)
        services.publish_snapshot(actor_of(request.state.caller), f"edit key {info.name} ({key_id})")
        return json_reply(info)

    @router.post("/{key_id}/rotate")
    @needs(Permission.KEYS_WRITE)
    def rotate_key(key_id: str, body: RotateKeyBody, request: Request) -> Response:
        """Give a key a new text; id, limits and usage stay, and the old text works for the overlap."""
        made = keys.rotate(key_id, overlap_s=body.overlap_s)
        services.publish_snapshot(
            actor_of(request.state.caller), f"rotate key {keys.get(key_id).name} ({key_id})"
        )
        return json_reply({"id": made.id, "key": made.key})

    @router.post("/{key_id}/revoke")
    @needs(Permission.KEYS_WRITE)
    def revoke_key(key_id: str, request: Request) -> Response:
        """End a key."""
        info = keys.revoke(key_id)
        services.publish_snapshot(actor_of(request.state.caller), f"revoke key {info.name} ({key_id})")
        return json_reply(info)

    return router
