"""Dashboards: which there are, and one of them filled for a window, narrowed by a search, beside the period before."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, get_args

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput
from penstock.console.links import link
from penstock.console.pages.traces import read_bounds
from penstock.console.panels import COMPARISONS, PanelCard, build_card
from penstock.console.queries import SearchProblem, tell_problem
from penstock.console.ranges import RANGES, Window, read_window
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.traces.measures.types import Compare, Dashboard

ACTIVE = "/dashboards"
FIRST = "overview"
_S = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class DashboardPage(Page):
    """One dashboard."""

    template: ClassVar[str] = "dashboard.html"
    name: str
    title: str
    text: str
    action: str
    window: Window
    ranges: tuple[tuple[str, str, str], ...]
    """Name, label and link."""
    wider_href: str
    all_href: str
    tabs: tuple[tuple[str, str, str], ...]
    """Name, title and link of each dashboard."""
    where: str
    problem: SearchProblem | None
    compare: str
    comparisons: tuple[tuple[Compare, str], ...]
    hidden: tuple[tuple[str, str], ...]
    cards: Iterator[PanelCard]
    """Each is worked out when the template comes to it; what stands above is on the screen by then."""
    edit_href: str | None
    copy_href: str


def choose_range(dashboard: Dashboard) -> str:
    """Return the name of the range that comes nearest to the window that a dashboard is made for."""
    return min(RANGES, key=lambda name: abs(RANGES[name][1] - dashboard.window_s * _S))


def read_compare(text: str) -> Compare | None:
    """Return the comparison that the URL names; anything unknown is none."""
    return next((each for each in get_args(Compare) if each == text), None)


def widen(window: Window) -> tuple[int, int]:
    """Return a window of three times the length around this one."""
    since, until = window.since_ns or 0, window.until_ns or now_ns()
    length = max(until - since, _S)
    return max(0, since - length), min(until + length, now_ns())


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/dashboards` and the page of one."""
    router = APIRouter(include_in_schema=False)

    def show(request: Request, name: str) -> Response:
        dashboard = services.dashboards.get(name)
        params = request.query_params
        since_ns, until_ns = read_bounds(params)
        chosen = params.get("range", "")
        window = read_window(
            chosen if chosen in RANGES else choose_range(dashboard), since_ns, until_ns, now_ns=now_ns()
        )
        asked = (dashboard, window, params.get("where", "").strip(), params.get("compare", ""))
        page = build_page(services, renderer, request, asked)
        return renderer.show(page, status=400) if page.problem else renderer.stream(page)

    @router.get(ACTIVE)
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def show_first(request: Request) -> Response:
        return show(request, FIRST)

    @router.get(f"{ACTIVE}/{{name}}")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def show_dashboard(request: Request, name: str) -> Response:
        return show(request, name)

    return router


def build_page(
    services: ConsoleServices,
    renderer: Renderer,
    request: Request,
    asked: tuple[Dashboard, Window, str, str],
) -> DashboardPage:
    """Return the page of one dashboard for a window, a search and a comparison."""
    dashboard, window, where, compare = asked
    here = f"{ACTIVE}/{dashboard.name}"
    base = {
        "range": window.name,
        "since_ns": None if window.name else window.since_ns,
        "until_ns": None if window.name else window.until_ns,
        "where": where,
        "compare": compare,
    }
    problem: SearchProblem | None = None
    cards: Iterator[PanelCard] = iter(())
    try:
        views = services.dashboards.fill_in_turn(
            dashboard,
            since_ns=window.since_ns or 0,
            until_ns=window.until_ns or now_ns(),
            where=where,
            compare=read_compare(compare),
        )
        cards = (build_card(each, zoom_href=link(here, base)) for each in views)
    except InvalidInput as error:
        problem = tell_problem(error)
    since, until = widen(window)
    unwindowed = {"where": where, "compare": compare}
    return DashboardPage(
        frame=renderer.frame(request, dashboard.title, ACTIVE, notice=request.query_params.get("notice")),
        name=dashboard.name,
        title=dashboard.title,
        text=dashboard.text,
        action=here,
        window=window,
        ranges=tuple(
            (each, label, link(here, unwindowed, range=each)) for each, (label, _) in RANGES.items()
        ),
        wider_href=link(here, unwindowed, since_ns=since, until_ns=until),
        all_href=link(here, unwindowed, range="30d"),
        tabs=tuple(
            (each.name, each.title, link(f"{ACTIVE}/{each.name}", base))
            for each in services.dashboards.list()
        ),
        where=where,
        problem=problem,
        compare=compare,
        comparisons=COMPARISONS,
        hidden=tuple((each, str(value)) for each, value in base.items() if value and each != "where"),
        cards=cards,
        edit_href=f"{here}/edit" if dashboard.origin == "stored" else None,
        copy_href=link(f"{ACTIVE}/new", {"copy": dashboard.name}),
    )
