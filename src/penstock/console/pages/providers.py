"""Providers: where calls can be sent, who says so, whether the key is there, and how they are doing."""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.base.errors import NotFound, suggest
from penstock.console.objects import (
    NO_KEY,
    Owned,
    TargetLine,
    list_targets,
    read_price,
    read_provider,
    read_route,
    sum_health,
    tell_owner,
    tell_traffic,
)
from penstock.console.policies import seconds
from penstock.console.ranges import HOUR_NS
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.deploy.live import ProviderKey
from penstock.deploy.object_views import ObjectView
from penstock.spec.routes import PriceRow, Provider, Route
from penstock.store.spans.ledger_types import CostQuery, CostRow
from penstock.store.spans.traffic_queries import TrafficRow

ACTIVE = "/providers"
_WEEK_NS = 7 * 24 * HOUR_NS


@dataclass(frozen=True, kw_only=True)
class ProviderLine:
    """One provider in the list."""

    provider: Provider
    owned: Owned
    key: ProviderKey
    health: str
    n_bad: int
    """Requests that failed within the windows of the breakers, as far as its targets have one."""
    traffic: TrafficRow | None


@dataclass(frozen=True, kw_only=True)
class ProvidersPage(Page):
    """All providers."""

    template: ClassVar[str] = "providers.html"
    lines: tuple[ProviderLine, ...]
    n_local: int


@dataclass(frozen=True, kw_only=True)
class RouteUse:
    """A route with those of its targets that are of one provider."""

    route: Route
    targets: tuple[TargetLine, ...]


@dataclass(frozen=True, kw_only=True)
class ProviderPage(Page):
    """One provider."""

    template: ClassVar[str] = "provider.html"
    line: ProviderLine
    version: int | None
    uses: tuple[RouteUse, ...]
    facts: tuple[tuple[str, str], ...]
    billed: CostRow
    """Its calls of the last seven days."""
    prices: tuple[tuple[str, PriceRow], ...]


def list_facts(provider: Provider) -> tuple[tuple[str, str], ...]:
    """Return what a person set, and the bounds that hold."""
    speaks = ", ".join((provider.dialect, *provider.also))
    facts = (
        ("Dialects", speaks),
        ("Address", provider.base_url),
        ("Key is sent", provider.auth),
        ("Region", provider.region or ""),
        ("Whole call", seconds(provider.timeout_s)),
        ("Connection", seconds(provider.connect_timeout_s)),
        ("First byte", seconds(provider.first_byte_timeout_s)),
        ("Silence", seconds(provider.idle_timeout_s)),
        ("Quirks", ", ".join(provider.quirks)),
        ("Query", "\n".join(f"{name} = {value}" for name, value in provider.query.items())),
        ("Headers", "\n".join(f"{name} = {value}" for name, value in provider.headers.items())),
        ("Usage in streams", "" if provider.stream_usage else "not asked for: the server refuses the option"),
    )
    return tuple((label, value) for label, value in facts if value)


def _sum_bad(uses: list[RouteUse], provider: str) -> int:
    """Return what failed lately; a target that several routes share with one policy is one target."""
    found = {
        (one.target.model, use.route.breaker): one.state.n_bad
        for use in uses
        for one in use.targets
        if one.target.provider == provider and one.state is not None
    }
    return sum(found.values())


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/providers` and below."""
    router = APIRouter(include_in_schema=False)

    def build() -> tuple[dict[str, tuple[ObjectView, ProviderLine]], list[RouteUse]]:
        views = services.configuration.list("provider")
        providers = {view.name: read_provider(view) for view in views}
        routes = [read_route(view) for view in services.configuration.list("route")]
        uses = [
            RouteUse(route=route, targets=list_targets(services, route, route.targets, providers))
            for route in routes
        ]
        now = now_ns()
        traffic = {
            row.name: row for row in services.traces.list_route_traffic("provider", now - HOUR_NS, now)
        }
        lines = {}
        for view in views:
            mine = [one for use in uses for one in use.targets if one.target.provider == view.name]
            key = services.live.provider_key(providers[view.name])
            words = [NO_KEY] if key.state == "missing" else [one.word for one in mine]
            line = ProviderLine(
                provider=providers[view.name],
                owned=tell_owner(view),
                key=key,
                health=sum_health(words, tell_traffic(traffic.get(view.name), HOUR_NS)),
                n_bad=_sum_bad(uses, view.name),
                traffic=traffic.get(view.name),
            )
            lines[view.name] = (view, line)
        return lines, uses

    @router.get("/providers")
    @needs(Permission.CONFIG_READ)
    def list_providers(request: Request, notice: str | None = None) -> Response:
        lines = [line for _, line in build()[0].values()]
        page = ProvidersPage(
            frame=renderer.frame(request, "Providers", ACTIVE, notice=notice),
            lines=tuple(sorted(lines, key=lambda each: (each.provider.local, each.provider.name))),
            n_local=sum(each.provider.local for each in lines),
        )
        return renderer.show(page)

    @router.get("/providers/{name}")
    @needs(Permission.CONFIG_READ, Permission.COST_READ)
    def show_provider(request: Request, name: str, notice: str | None = None) -> Response:
        lines, uses = build()
        if name not in lines:
            raise NotFound(f"There is no provider {name!r}.", hint=suggest(name, list(lines)))
        view, line = lines[name]
        now = now_ns()
        found = services.costs.sum_costs(CostQuery(since_ns=now - _WEEK_NS, until_ns=now, provider=name), [])
        page = ProviderPage(
            frame=renderer.frame(request, name, ACTIVE, notice=notice),
            line=line,
            version=view.version,
            uses=tuple(
                RouteUse(route=use.route, targets=mine)
                for use in uses
                if (mine := tuple(each for each in use.targets if each.target.provider == name))
            ),
            facts=list_facts(line.provider),
            billed=found.total,
            prices=tuple(
                (each.name, row)
                for each in services.configuration.list("price")
                if (row := read_price(each)).provider == name
            ),
        )
        return renderer.show(page)

    return router
