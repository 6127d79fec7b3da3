"""Deployments over REST: ask for one, change it, roll it back, take it away, look, read what happened."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import NotFound
from penstock.control.api.parameters import StoredNumber
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.deploy.deployments.service import DeploymentService, convert_spec

Limit = Annotated[int, Query(ge=1, le=1000)]


class Change(BaseModel):
    """What a deployment is given anew; what is left out stays."""

    model_config = ConfigDict(extra="forbid")
    model: str | None = None
    weight: int | None = None
    replicas: int | None = None
    context_length: int | None = None
    slots: int | None = None
    threads: int | None = None
    adapters: list[str] | None = None
    strict_adapters: bool | None = None
    follow: bool | None = None


class NothingDeployed(NotFound):
    """This control process has no deployments."""

    code = "PS-1742"


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/deployments`."""
    router = APIRouter(prefix="/api/v1/deployments", tags=["deployments"])

    def deployments() -> DeploymentService:
        if services.deployments is None:
            raise NothingDeployed("Nothing can be deployed here.")
        return services.deployments

    @router.get("")
    @needs(Permission.DEPLOYMENTS_READ)
    def list_deployments(after: str = "", limit: Limit = 100) -> Response:
        """Deployments by name; `after` is the last name of the page before."""
        return json_reply(deployments().list(after=after, limit=limit))

    @router.post("")
    @needs(Permission.DEPLOYMENTS_WRITE)
    def deploy(request: Request, body: dict[str, Any]) -> Response:
        """Ask for a deployment, or change the one of that name; 202: it is made so in the background."""
        record = deployments().deploy(convert_spec(body), actor=request.state.caller.key.name)
        return json_reply(record, status=202)

    @router.get("/{name}")
    @needs(Permission.DEPLOYMENTS_READ)
    def show(name: str) -> Response:
        """One deployment, with the proof it serves by."""
        return json_reply(deployments().get(name))

    @router.get("/{name}/events")
    @needs(Permission.DEPLOYMENTS_READ)
    def list_events(
        name: str, before: StoredNumber | None = None, after: StoredNumber | None = None, limit: Limit = 100
    ) -> Response:
        """What happened to it, newest first; with `after` what followed, oldest first."""
        return json_reply(deployments().events(name, before=before, after=after, limit=limit))

    @router.get("/{name}/engines")
    @needs(Permission.DEPLOYMENTS_READ)
    def list_engines(name: str) -> Response:
        """Its processes: state, restarts, and what each has done since it started."""
        rows = [
            {**asdict(each), "state": each.state, "tokens_per_s": each.tokens_per_s}
            for each in deployments().engines(name)
        ]
        return json_reply({"rows": rows})

    @router.post("/{name}/swap")
    @needs(Permission.DEPLOYMENTS_WRITE)
    def swap(request: Request, name: str, body: Change) -> Response:
        """Change what it serves, or how, without a call that fails."""
        changes = body.model_dump(exclude_unset=True)
        return json_reply(deployments().swap(name, changes, actor=request.state.caller.key.name), status=202)

    @router.post("/{name}/rollback")
    @needs(Permission.DEPLOYMENTS_WRITE)
    def roll_back(request: Request, name: str) -> Response:
        """Serve what was served before."""
        return json_reply(deployments().roll_back(name, actor=request.state.caller.key.name), status=202)

    @router.delete("/{name}")
    @needs(Permission.DEPLOYMENTS_WRITE)
    def delete(request: Request, name: str) -> Response:
        """Take its route away, then its processes when no call needs them."""
        return json_reply(deployments().delete(name, actor=request.state.caller.key.name), status=202)

    return router
