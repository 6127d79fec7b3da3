"""The registry: assets, their versions, aliases with evidence, lineage, and the form that moves an alias."""

from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.alias_claims import check_claim
from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput
from penstock.console.cards import Block, parse_card
from penstock.console.formats import format_json
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.registry.types import AliasMove, Asset, LineageNode, Version
from penstock.spec.assets import AssetRef


@dataclass(frozen=True, kw_only=True)
class AssetsPage(Page):
    """All assets by kind."""

    template: ClassVar[str] = "assets.html"
    groups: tuple[tuple[str, tuple[Asset, ...]], ...]
    overrides: tuple[AliasMove, ...]
    """Moves of protected aliases without evidence, newest first."""


@dataclass(frozen=True, kw_only=True)
class AssetPage(Page):
    """One asset and one of its versions in full."""

    template: ClassVar[str] = "asset.html"
    kind: str
    name: str
    versions: tuple[Version, ...]
    aliases: tuple[tuple[str, int], ...]
    moves: tuple[AliasMove, ...]
    selected: Version
    card: tuple[Block, ...]
    """The version's card, empty when it has none."""
    content_json: str
    up: tuple[LineageNode, ...]
    down: tuple[LineageNode, ...]

    @property
    def base(self) -> str:
        """Path of this asset's page."""
        return f"/assets/{self.kind}/{self.name}"

    def aliases_of(self, number: int) -> tuple[str, ...]:
        """Return the aliases that stand on a version."""
        return tuple(alias for alias, at in self.aliases if at == number)

    @property
    def rollable(self) -> tuple[str, ...]:
        """Aliases with an earlier target to go back to."""
        return tuple(
            alias
            for alias, _ in self.aliases
            if any(move.alias == alias and move.from_number is not None for move in self.moves)
        )


def find_card(content: dict[str, Any]) -> str | None:
    """Return the card's text, else the short description, where the version holds one."""
    card = content.get("card") or content.get("description")
    return card if isinstance(card, str) and card.strip() else None


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/assets` and below."""
    router = APIRouter(include_in_schema=False)
    registry = services.registry

    @router.get("/assets")
    @needs(Permission.REGISTRY_READ)
    def list_assets(request: Request) -> Response:
        groups: dict[str, list[Asset]] = {}
        for asset in registry.list_assets():
            groups.setdefault(asset.kind, []).append(asset)
        page = AssetsPage(
            frame=renderer.frame(request, "All assets", "/assets"),
            groups=tuple((kind, tuple(found)) for kind, found in sorted(groups.items(), key=_models_first)),
            overrides=tuple(registry.overrides(limit=20)),
        )
        return renderer.show(page)

    def show(request: Request, kind: str, name: str, number: int | None, notice: str | None) -> Response:
        versions = registry.list_versions(kind, name)
        aliases = registry.aliases(kind, name)
        wanted = number if number is not None else aliases.get("prod", versions[0].number)
        selected = registry.resolve(AssetRef(kind=versions[0].kind, name=name, number=wanted))
        lineage = registry.lineage(selected)
        shown = dict(selected.content)
        card = find_card(shown)
        if card is not None:
            shown = {key: value for key, value in shown.items() if value != card}
        page = AssetPage(
            frame=renderer.frame(request, f"{kind}:{name}", "/assets", notice=notice),
            kind=kind,
            name=name,
            versions=tuple(versions),
            aliases=tuple(sorted(aliases.items())),
            moves=tuple(registry.history(kind, name, limit=50)),
            selected=selected,
            card=parse_card(card) if card else (),
            content_json=format_json(shown),
            up=lineage.up,
            down=lineage.down,
        )
        return renderer.show(page)

    @router.get("/assets/{kind}/{name}")
    @needs(Permission.REGISTRY_READ)
    def show_asset(request: Request, kind: str, name: str, notice: str | None = None) -> Response:
        return show(request, kind, name, None, notice)

    @router.get("/assets/{kind}/{name}/{number}")
    @needs(Permission.REGISTRY_READ)
    def show_version(request: Request, kind: str, name: str, number: int) -> Response:
        return show(request, kind, name, number, None)

    @router.post("/assets/{kind}/{name}/move")
    @needs(Permission.ALIASES_MOVE)
    def move_alias(request: Request, kind: str, name: str) -> Response:
        caller: Caller = request.state.caller
        fields = caller.form
        alias, reason = fields.get("alias", "").strip(), fields.get("reason", "").strip()
        number = fields.get("number", "")
        if not alias or not number.isascii() or not number.isdigit():
            raise InvalidInput("A move needs an alias and a version number.")
        if not reason:
            raise InvalidInput(
                "A move needs a reason.", hint="Say in one sentence why; it stays in the history."
            )
        check_claim(caller.key, is_protected=registry.protects(alias), override_reason=reason)
        move = registry.move_alias(
            kind,
            name,
            alias,
            int(number),
            actor=actor_of(caller),
            reason=reason,
            override_reason=reason,
        )
        services.take_up_alias(move)
        return _back(kind, name, f"{alias} now names version {number}.")

    @router.post("/assets/{kind}/{name}/rollback")
    @needs(Permission.ALIASES_MOVE)
    def rollback_alias(request: Request, kind: str, name: str) -> Response:
        alias = request.state.caller.form.get("alias", "")
        move = registry.rollback_alias(kind, name, alias, actor=request.state.caller.key.name)
        services.take_up_alias(move)
        return _back(kind, name, f"{alias} is back at version {move.to_number}.")

    return router


def _models_first(group: tuple[str, list[Asset]]) -> tuple[bool, str]:
    return group[0] != "model", group[0]


def _back(kind: str, name: str, notice: str) -> Response:
    return RedirectResponse(f"/assets/{kind}/{name}?notice={quote(notice)}", status_code=303)
