"""Assets, versions, aliases and lineage over REST."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.alias_claims import check_claim
from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.registry.service import Unchecked


class NewVersion(BaseModel):
    """Body of a registration."""

    model_config = ConfigDict(extra="forbid")
    content: dict[str, Any]
    artefacts: dict[str, str] = {}
    parents: list[str] = []
    note: str = ""


class Move(BaseModel):
    """Body of an alias move. `expected_number` guards against a move that happened meanwhile."""

    model_config = ConfigDict(extra="forbid")
    number: int
    evidence: dict[str, Any] | None = None
    """`{"gate": ID}`; whatever else stands in it counts for nothing."""
    gate: str | None = None
    """Id of a verdict of a gate, which is the evidence then."""
    reason: str | None = None
    override_reason: str | None = None
    """Why a protected alias moves without evidence; needs `aliases.override`."""
    expected_number: int | None = None


class Rollback(BaseModel):
    """Body of a rollback."""

    model_config = ConfigDict(extra="forbid")
    reason: str | None = None
    expected_number: int | None = None


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1` that read and move assets."""
    router = APIRouter(prefix="/api/v1", tags=["registry"])
    registry = services.registry

    @router.get("/assets")
    @needs(Permission.REGISTRY_READ)
    def list_assets(kind: str | None = None) -> Response:
        """All assets, or those of one kind."""
        return json_reply({"assets": registry.list_assets(kind)})

    @router.get("/assets/{kind}/{name}")
    @needs(Permission.REGISTRY_READ)
    def show_asset(kind: str, name: str) -> Response:
        """One asset: aliases and versions, newest first."""
        versions = registry.list_versions(kind, name)
        aliases = registry.aliases(kind, name)
        return json_reply({"kind": kind, "name": name, "aliases": aliases, "versions": versions})

    @router.post("/assets/{kind}/{name}/versions")
    @needs(Permission.REGISTRY_WRITE)
    def register_version(kind: str, name: str, body: NewVersion) -> Response:
        """Register a version; the same content again gives the same version. Models come in by proof alone."""
        if kind == "model":
            raise InvalidInput(
                "A version of a model is registered by what has proven it: a pull, a run, or making a smaller one.",
                hint="Use `penstock model pull NAME --from folder:/path`, `penstock tune run` or `penstock model quantise`.",
            )
        version = registry.register(
            kind, name, body.content, artefacts=body.artefacts, parents=body.parents, note=body.note
        )
        return json_reply(version, status=201)

    @router.get("/versions")
    @needs(Permission.REGISTRY_READ)
    def resolve_version(ref: str) -> Response:
        """The version that `ref` names, such as `model:pocket@prod`."""
        return json_reply(registry.resolve(ref))

    @router.get("/lineage")
    @needs(Permission.REGISTRY_READ)
    def show_lineage(ref: str) -> Response:
        """What the version was made from and what was made from it."""
        return json_reply(registry.lineage(registry.resolve(ref)))

    @router.get("/assets/{kind}/{name}/history")
    @needs(Permission.REGISTRY_READ)
    def list_history(kind: str, name: str, alias: str | None = None) -> Response:
        """Alias moves with their evidence, newest first."""
        return json_reply({"moves": registry.history(kind, name, alias)})

    @router.get("/alias-overrides")
    @needs(Permission.REGISTRY_READ)
    def list_overrides(limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Response:
        """Moves of protected aliases without evidence, of all assets, newest first: who, when and why."""
        return json_reply({"moves": registry.overrides(limit=limit)})

    @router.post("/assets/{kind}/{name}/aliases/{alias}/move")
    @needs(Permission.ALIASES_MOVE)
    def move_alias(request: Request, kind: str, name: str, alias: str, body: Move) -> Response:
        """Point the alias at a version: `prod` by the verdict of a gate over it, or, with `aliases.override`, by a reason."""
        expected = body.expected_number if "expected_number" in body.model_fields_set else Unchecked.ANY
        evidence = services.gates.claimed(body.evidence, body.gate)
        check_claim(
            request.state.caller.key,
            is_protected=registry.protects(alias),
            override_reason=body.override_reason,
            evidence=evidence,
        )
        move = registry.move_alias(
            kind,
            name,
            alias,
            body.number,
            actor=request.state.caller.key.name,
            evidence=evidence,
            reason=body.reason,
            override_reason=body.override_reason,
            expected_number=expected,
        )
        services.take_up_alias(move)
        return json_reply(move)

    @router.post("/assets/{kind}/{name}/aliases/{alias}/rollback")
    @needs(Permission.ALIASES_MOVE)
    def rollback_alias(request: Request, kind: str, name: str, alias: str, body: Rollback) -> Response:
        """Take back the newest move that still stands."""
        expected = body.expected_number if "expected_number" in body.model_fields_set else Unchecked.ANY
        move = registry.rollback_alias(
            kind,
            name,
            alias,
            actor=request.state.caller.key.name,
            reason=body.reason,
            expected_number=expected,
        )
        services.take_up_alias(move)
        return json_reply(move)

    return router
