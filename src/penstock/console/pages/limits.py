"""Limits and budgets: the rules, and how much of each is used right now by whom."""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.console.limit_use import RuleUse, list_use
from penstock.console.objects import Owned, read_rule, tell_owner
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices


@dataclass(frozen=True, kw_only=True)
class LimitLine:
    """One rule with its use and its owner."""

    use: RuleUse
    owned: Owned
    version: int | None


@dataclass(frozen=True, kw_only=True)
class LimitsPage(Page):
    """All rules."""

    template: ClassVar[str] = "limits.html"
    lines: tuple[LimitLine, ...]
    n_key_limits: int
    is_legible: bool
    """Whether the counters could be read."""
    redis_url_env: str | None
    """Set where the counters are kept in Redis, which this page does not ask."""
    damage: str | None
    """What is wrong with the settings file, while the last good one holds."""


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/limits`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/limits")
    @needs(Permission.CONFIG_READ, Permission.KEYS_READ)
    def list_limits(request: Request, notice: str | None = None) -> Response:
        views = {view.name: view for view in services.configuration.list("limit")}
        keys = services.keys.list()
        snapshot = services.read_snapshot()
        counters = services.live.counters()
        uses = list_use(
            [read_rule(view) for view in views.values()],
            counters or (),
            {key.id: key.name for key in keys},
            now_s=now_ns() / 1e9,
        )
        page = LimitsPage(
            frame=renderer.frame(request, "Limits", "/limits", notice=notice),
            lines=tuple(
                LimitLine(
                    use=use, owned=tell_owner(views[use.rule.name]), version=views[use.rule.name].version
                )
                for use in uses
            ),
            n_key_limits=sum(
                1
                for key in keys
                if key.revoked_ns is None and (key.requests_per_minute or key.tokens_per_minute)
            ),
            is_legible=counters is not None,
            redis_url_env=snapshot.redis_url_env if snapshot else None,
            damage=services.find_warnings().get("settings"),
        )
        return renderer.show(page)

    return router
