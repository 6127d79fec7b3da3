"""Upstream keys over REST: entered, replaced, deleted, listed. No answer holds one."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices

Text = Annotated[SecretStr, Field(min_length=1, max_length=64 * 1024)]


class SecretBody(BaseModel):
    """Body of an entry."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    value: Text
    url: Annotated[str, Field(max_length=2000)]
    """Address of the host it is for, such as `https://api.openai.com`; it is sent nowhere else."""


class RotateBody(BaseModel):
    """Body of a replacement."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    value: Text


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/secrets`."""
    router = APIRouter(prefix="/api/v1/secrets", tags=["secrets"])
    secrets = services.secrets

    @router.get("")
    @needs(Permission.SECRETS_READ)
    def list_secrets() -> Response:
        """All secrets by name, with the host each is for; never what they say."""
        return json_reply({"secrets": secrets.list()})

    @router.put("/{name}")
    @needs(Permission.SECRETS_WRITE)
    def put_secret(name: str, body: SecretBody, request: Request) -> Response:
        """Enter a secret, or enter one again; gateways send it within a second."""
        actor = actor_of(request.state.caller)
        info = secrets.put(
            name,
            body.value.get_secret_value(),
            url=body.url,
            actor=actor,
            used_by=services.users_of_secret(name),
        )
        services.publish_snapshot(actor, f"set secret {name}")
        return json_reply(info)

    @router.post("/{name}/rotate")
    @needs(Permission.SECRETS_WRITE)
    def rotate_secret(name: str, body: RotateBody, request: Request) -> Response:
        """Replace what a secret says, for the same host."""
        actor = actor_of(request.state.caller)
        info = secrets.rotate(name, body.value.get_secret_value(), actor=actor)
        services.publish_snapshot(actor, f"rotate secret {name}")
        return json_reply(info)

    @router.delete("/{name}")
    @needs(Permission.SECRETS_WRITE)
    def delete_secret(name: str, request: Request) -> Response:
        """Forget a secret that no provider uses."""
        secrets.delete(name, used_by=services.users_of_secret(name))
        services.publish_snapshot(actor_of(request.state.caller), f"delete secret {name}")
        return json_reply({"name": name, "deleted": True})

    return router
