"""Routes: the names clients call, what stands behind them right now, and what happens when something fails."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.base.errors import NotFound, suggest
from penstock.console.charts import sparkline
from penstock.console.objects import (
    Owned,
    TargetLine,
    list_targets,
    read_provider,
    read_route,
    sum_health,
    tell_owner,
    tell_traffic,
)
from penstock.console.policies import Policy, tell_deprecation, tell_policies
from penstock.console.ranges import HOUR_NS
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.deploy.object_views import ObjectView
from penstock.spec.routes import Route
from penstock.store.spans.ledger_types import CostQuery, CostRow
from penstock.store.spans.traffic_queries import TrafficRow

ACTIVE = "/routes"
_DAY_NS = 24 * HOUR_NS


@dataclass(frozen=True, kw_only=True)
class RouteLine:
    """One route in the list, with its last 24 hours."""

    route: Route
    owned: Owned
    targets: tuple[TargetLine, ...]
    health: str
    traffic: TrafficRow | None
    spark: str
    bad_spark: str
    cost: CostRow | None
    deprecation: str | None


@dataclass(frozen=True, kw_only=True)
class RoutesPage(Page):
    """All routes."""

    template: ClassVar[str] = "routes.html"
    lines: tuple[RouteLine, ...]


@dataclass(frozen=True, kw_only=True)
class PinLine:
    """One version that clients pin."""

    name: str
    targets: tuple[TargetLine, ...]
    version: str | None
    deprecation: str | None


@dataclass(frozen=True, kw_only=True)
class RoutePage(Page):
    """One route."""

    template: ClassVar[str] = "route.html"
    line: RouteLine
    version: int | None
    policies: tuple[Policy, ...]
    pins: tuple[PinLine, ...]
    used_by: tuple[str, ...]
    """Routes that fall back to this one."""


@dataclass(frozen=True, kw_only=True)
class RouteLivePage(Page):
    """The targets alone, for the region that asks for itself again."""

    template: ClassVar[str] = "route_targets.html"
    line: RouteLine


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/routes` and below."""
    router = APIRouter(include_in_schema=False)

    def line_of(view: ObjectView, traffic: TrafficRow | None, cost: CostRow | None) -> RouteLine:
        route = read_route(view)
        providers = {each.name: read_provider(each) for each in services.configuration.list("provider")}
        return _line(view, route, list_targets(services, route, route.targets, providers), traffic, cost)

    def _line(
        view: ObjectView,
        route: Route,
        targets: tuple[TargetLine, ...],
        traffic: TrafficRow | None,
        cost: CostRow | None,
    ) -> RouteLine:
        top = float(max(traffic.calls, default=0) or 1) if traffic else 1.0
        return RouteLine(
            route=route,
            owned=tell_owner(view),
            targets=targets,
            health=sum_health((each.word for each in targets), tell_traffic(traffic, _DAY_NS)),
            traffic=traffic,
            spark=sparkline(traffic.calls, top=top) if traffic else "",
            bad_spark=sparkline(traffic.errors, top=top) if traffic and traffic.n_errors else "",
            cost=cost,
            deprecation=tell_deprecation(route.deprecation, _today()),
        )

    def find_view(name: str) -> tuple[ObjectView, tuple[ObjectView, ...]]:
        views = services.configuration.list("route")
        view = next((each for each in views if each.name == name), None)
        if view is None:
            raise NotFound(f"There is no route {name!r}.", hint=suggest(name, [each.name for each in views]))
        return view, views

    @router.get("/routes")
    @needs(Permission.CONFIG_READ, Permission.COST_READ)
    def list_routes(request: Request, notice: str | None = None) -> Response:
        now = now_ns()
        providers = {each.name: read_provider(each) for each in services.configuration.list("provider")}
        traffic = {row.name: row for row in services.traces.list_route_traffic("route", now - _DAY_NS, now)}
        costs = services.costs.sum_costs(CostQuery(since_ns=now - _DAY_NS, until_ns=now), ["route"])
        by_route = {row.group["route"]: row for row in costs.rows}
        lines = []
        for view in services.configuration.list("route"):
            route = read_route(view)
            targets = list_targets(services, route, route.targets, providers)
            lines.append(_line(view, route, targets, traffic.get(view.name), by_route.get(view.name)))
        lines.sort(key=lambda each: (-(each.traffic.n_calls if each.traffic else 0), each.route.name))
        page = RoutesPage(frame=renderer.frame(request, "Routes", ACTIVE, notice=notice), lines=tuple(lines))
        return renderer.show(page)

    @router.get("/route-targets/{name:path}")
    @needs(Permission.CONFIG_READ)
    def show_targets(request: Request, name: str) -> Response:
        view, _ = find_view(name)
        frame = renderer.frame(request, name, ACTIVE)
        return renderer.show(RouteLivePage(frame=frame, line=line_of(view, None, None)))

    @router.get("/routes/{name:path}")
    @needs(Permission.CONFIG_READ, Permission.COST_READ)
    def show_route(request: Request, name: str, notice: str | None = None) -> Response:
        view, views = find_view(name)
        now = now_ns()
        rows = services.traces.list_route_traffic("route", now - _DAY_NS, now)
        query = CostQuery(since_ns=now - _DAY_NS, until_ns=now, route=name)
        line = line_of(
            view,
            next((row for row in rows if row.name == name), None),
            services.costs.sum_costs(query, []).total,
        )
        providers = {each.name: read_provider(each) for each in services.configuration.list("provider")}
        page = RoutePage(
            frame=renderer.frame(request, name, ACTIVE, notice=notice),
            line=line,
            version=view.version,
            policies=tell_policies(line.route),
            pins=tuple(
                PinLine(
                    name=f"{name}@{pin.name}",
                    targets=list_targets(services, line.route, pin.targets, providers),
                    version=pin.version,
                    deprecation=tell_deprecation(pin.deprecation, _today()),
                )
                for pin in line.route.pins
            ),
            used_by=tuple(
                each.name
                for each in views
                if any(one.route.partition("@")[0] == name for one in read_route(each).fallbacks)
            ),
        )
        return renderer.show(page)

    return router


def _today() -> date:
    return datetime.fromtimestamp(now_ns() / 1e9, tz=UTC).date()
