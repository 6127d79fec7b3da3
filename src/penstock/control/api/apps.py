"""Declared apps over REST: check, create, list, show, compare, move, delete."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.alias_claims import check_claim
from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.apps.service import AppVersion, Changed
from penstock.apps.types import declaration_content
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices


class AppBody(BaseModel):
    """Body of a new version: the members of a declaration, as its file has them."""

    model_config = ConfigDict(extra="forbid")
    declaration: dict[str, Any]
    note: str = ""
    reason: str | None = None
    """Why `prod` moves to this version; without one a later version waits for a move."""


class AppMove(BaseModel):
    """Body of an alias move: where to, why, and on what evidence."""

    model_config = ConfigDict(extra="forbid")
    version: str
    """A number, another alias, or a digest."""
    reason: str | None = None
    evidence: dict[str, Any] | None = None


class AppDeletion(BaseModel):
    """Body of a deletion."""

    model_config = ConfigDict(extra="forbid")
    reason: str


def describe_app(version: AppVersion) -> dict[str, Any]:
    """Return a version as REST shows it."""
    return {
        "name": version.name,
        "number": version.number,
        "label": version.label,
        "aliases": version.aliases,
        "declaration": declaration_content(version.declaration),
        "is_by_hand": version.is_by_hand,
        "is_deleted": version.is_deleted,
        "note": version.note,
        "created_ns": version.created_ns,
        "warnings": version.warnings,
    }


def describe_change(changed: Changed) -> dict[str, Any]:
    """Return a change as REST shows it."""
    return {**describe_app(changed.version), "is_new": changed.is_new, "move": changed.move}


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/apps`."""
    router = APIRouter(prefix="/api/v1/apps", tags=["apps"])
    apps = services.apps

    @router.get("")
    @needs(Permission.KNOWLEDGE_READ)
    def list_apps() -> Response:
        """All apps that are not deleted, each with the version that answers."""
        return json_reply({"apps": [describe_app(version) for version in apps.list_apps()]})

    @router.post("/check")
    @needs(Permission.KNOWLEDGE_READ)
    def check_app(body: AppBody) -> Response:
        """What a declaration says in full, and what it names that is not there."""
        app, warnings = apps.check(body.declaration)
        return json_reply({"declaration": declaration_content(app), "warnings": warnings})

    @router.post("")
    @needs(Permission.KNOWLEDGE_WRITE)
    def create_app(request: Request, body: AppBody) -> Response:
        """Register a declaration; the same again is the same version."""
        actor = request.state.caller.key.name
        check_claim(request.state.caller.key, is_protected=True, override_reason=body.reason)
        changed = apps.create(body.declaration, actor=actor, note=body.note, reason=body.reason)
        services.publish_snapshot(actor, f"app {changed.version.label}")
        return json_reply(describe_change(changed), status=201)

    @router.get("/{name}")
    @needs(Permission.KNOWLEDGE_READ)
    def show_app(name: str, version: str | None = None) -> Response:
        """One version; without `version` the one that answers."""
        return json_reply(describe_app(apps.get(f"{name}@{version}" if version else name)))

    @router.get("/{name}/versions")
    @needs(Permission.KNOWLEDGE_READ)
    def list_app_versions(name: str) -> Response:
        """All versions, newest first."""
        return json_reply({"versions": [describe_app(version) for version in apps.list_versions(name)]})

    @router.get("/{name}/diff")
    @needs(Permission.KNOWLEDGE_READ)
    def diff_app(name: str, before: str, after: str) -> Response:
        """What differs between two versions, a row a member."""
        return json_reply({"changes": apps.diff(f"{name}@{before}", f"{name}@{after}")})

    @router.post("/{name}/aliases/{alias}/move")
    @needs(Permission.ALIASES_MOVE)
    def move_app(request: Request, name: str, alias: str, body: AppMove) -> Response:
        """Point an alias at a version."""
        key, evidence = request.state.caller.key, services.gates.claimed(body.evidence)
        check_claim(
            key,
            is_protected=services.registry.protects(alias),
            override_reason=None if evidence else body.reason,
            evidence=evidence,
        )
        move = apps.move(
            f"{name}@{body.version}",
            alias,
            actor=key.name,
            evidence=evidence,
            reason=body.reason,
        )
        services.take_up_alias(move)
        return json_reply(move)

    @router.post("/{name}/delete")
    @needs(Permission.KNOWLEDGE_WRITE)
    def delete_app(request: Request, name: str, body: AppDeletion) -> Response:
        """Take an app out of service; its versions stay, and moving `prod` back brings it back."""
        actor = request.state.caller.key.name
        changed = apps.delete(name, actor=actor, reason=body.reason)
        services.publish_snapshot(actor, f"app {name} deleted")
        return json_reply(describe_change(changed))

    return router
