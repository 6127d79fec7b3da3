"""Providers, routes, limits and prices over REST, and the history of what was published."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.deploy.configuration import Draft
from penstock.deploy.objects import ObjectKind

Number = Annotated[int, Field(ge=1, le=2**31 - 1)]
Note = Annotated[str, Field(max_length=2000)]


class ObjectBody(BaseModel):
    """Body of a change: what the settings file would say of the object."""

    model_config = ConfigDict(extra="forbid")
    content: dict[str, Any]
    expected_version: Annotated[int, Field(ge=0)] | None = None
    """The version that was read, 0 for an object that is not there yet; another is answered with 409."""
    note: Note = ""


class ValidateBody(BaseModel):
    """Body of a dry run; without content it is a deletion."""

    model_config = ConfigDict(extra="forbid")
    kind: ObjectKind
    name: str
    content: dict[str, Any] | None = None


class RollbackBody(BaseModel):
    """Body of a rollback."""

    model_config = ConfigDict(extra="forbid")
    note: Note = ""


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/config`."""
    router = APIRouter(prefix="/api/v1/config", tags=["config"])
    configuration = services.configuration

    @router.get("/objects/{kind}")
    @needs(Permission.CONFIG_READ)
    def list_objects(kind: ObjectKind) -> Response:
        """Every object of a kind (provider, route, limit, price) with its owner, line and version."""
        return json_reply({"objects": configuration.list(kind)})

    @router.get("/objects/{kind}/{name:path}")
    @needs(Permission.CONFIG_READ)
    def show_object(kind: ObjectKind, name: str) -> Response:
        """One object."""
        return json_reply(configuration.get(kind, name))

    @router.put("/objects/{kind}/{name:path}")
    @needs(Permission.CONFIG_WRITE)
    def put_object(kind: ObjectKind, name: str, body: ObjectBody, request: Request) -> Response:
        """Create or replace an object of the control tables; gateways know it within a second."""
        view = configuration.put(
            kind,
            name,
            body.content,
            actor=actor_of(request.state.caller),
            note=body.note,
            expected_version=body.expected_version,
        )
        return json_reply(view, status=201 if view.version == 1 else 200)

    @router.delete("/objects/{kind}/{name:path}")
    @needs(Permission.CONFIG_WRITE)
    def delete_object(
        kind: ObjectKind, name: str, request: Request, expected_version: int | None = None
    ) -> Response:
        """Delete an object of the control tables."""
        actor = actor_of(request.state.caller)
        configuration.delete(kind, name, actor=actor, expected_version=expected_version)
        return json_reply({"kind": kind, "name": name, "deleted": True})

    @router.post("/validate")
    @needs(Permission.CONFIG_READ)
    def validate_object(body: ValidateBody) -> Response:
        """What a change would do to the configuration as a whole; nothing is kept."""
        return _draft(configuration.validate(body.kind, body.name, body.content))

    @router.get("/pending")
    @needs(Permission.CONFIG_READ)
    def show_pending() -> Response:
        """What publishing now would change, such as edits of the settings file that were not taken up."""
        return _draft(configuration.pending())

    @router.get("/history")
    @needs(Permission.CONFIG_READ)
    def list_history(
        limit: Annotated[int, Field(ge=1, le=500)] = 50, before: Number | None = None
    ) -> Response:
        """What was published, newest first: number, digest, who, when and why."""
        return json_reply({"versions": configuration.history(limit=limit, before=before)})

    @router.get("/versions/{number}")
    @needs(Permission.CONFIG_READ)
    def show_version(number: Number) -> Response:
        """A published configuration with its content."""
        version, content = configuration.version(number)
        return json_reply({"version": version, "content": content})

    @router.get("/diff")
    @needs(Permission.CONFIG_READ)
    def show_diff(before: Number, after: Number | None = None) -> Response:
        """How two published configurations differ; without `after`, how the present one differs from `before`."""
        return json_reply({"changes": configuration.diff(before, after)})

    @router.post("/rollback/{number}")
    @needs(Permission.CONFIG_WRITE)
    def roll_back(number: Number, body: RollbackBody, request: Request) -> Response:
        """Put the objects of the control tables back to those of a published configuration."""
        actor = actor_of(request.state.caller)
        return json_reply(configuration.rollback(number, actor=actor, note=body.note))

    @router.get("/rollback/{number}")
    @needs(Permission.CONFIG_READ)
    def check_rollback(number: Number) -> Response:
        """What going back to a published configuration would change; nothing is kept."""
        return _draft(configuration.check_rollback(number))

    return router


def _draft(found: Draft) -> Response:
    return json_reply({"changes": found.changes, "warnings": found.warnings})
