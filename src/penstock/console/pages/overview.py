"""Overview: what went through, what it cost, how quick it was, and what needs a person."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.console.charts import build_charts
from penstock.console.formats import format_calls, format_count, format_money, format_ms, format_share
from penstock.console.plots import Plot
from penstock.console.ranges import RANGES, Window, read_window
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.jobs.types import Job
from penstock.store.spans.types import Overview, RouteRow, TraceQuery, TraceRow

NO_SUCH_ROUTE = "(no such route)"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number with its name, and what qualifies it."""

    name: str
    value: str
    detail: str
    href: str | None = None
    is_bad: bool = False


@dataclass(frozen=True, kw_only=True)
class OverviewPage(Page):
    """The figures of one window."""

    template: ClassVar[str] = "overview.html"
    window: Window
    ranges: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...]
    charts: tuple[Plot, ...]
    routes: tuple[RouteRow, ...]
    traces: tuple[TraceRow, ...]
    jobs: tuple[Job, ...]
    problems: tuple[tuple[str, str], ...]
    is_first_day: bool
    """Nothing was ever recorded: the page says what to run."""


def build_figures(found: Overview, window: Window) -> tuple[Figure, ...]:
    """Return the strip of figures."""
    link = f"/traces?range={window.name}" if window.name else "/traces"
    priced = (
        "all calls priced" if not found.n_unpriced else f"{format_calls(found.n_unpriced)} without a price"
    )
    counted = f", {format_calls(found.n_without_usage)} without a count" if found.n_without_usage else ""
    tokens = None if found.input_tokens is None else found.input_tokens + (found.output_tokens or 0)
    return (
        Figure(name="Traces", value=format_count(found.n_calls), detail=window.label.lower(), href=link),
        Figure(
            name="Failed",
            value=format_count(found.n_errors),
            detail=f"{format_share(found.n_errors, found.n_calls)} of traces, by their root",
            href=f"{link}&status=error" if window.name else None,
            is_bad=bool(found.n_errors),
        ),
        Figure(
            name="Cost", value=format_money(found.cost_usd), detail=priced if found.n_calls else "no calls"
        ),
        Figure(
            name="Tokens",
            value=format_count(tokens),
            detail=f"{format_count(found.input_tokens)} in, {format_count(found.output_tokens)} out{counted}",
        ),
        Figure(
            name="Median latency",
            value=format_ms(found.p50_ms),
            detail=f"answered calls; p95 {format_ms(found.p95_ms)}, p99 {format_ms(found.p99_ms)}",
        ),
        Figure(name="Median first token", value=format_ms(found.p50_ttft_ms), detail="streamed calls"),
    )


def gather_unknown(rows: Sequence[RouteRow], known: Collection[str]) -> tuple[RouteRow, ...]:
    """Return the rows with one line for all names that nobody ever answered to and that are no route.

    Anybody with a key can make up names; a route that was deleted since keeps its line, for it answered.
    """
    families = tuple(name.removesuffix("*") for name in known if name.endswith("/*"))
    strange = [
        row
        for row in rows
        if row.route is not None
        and row.n_errors == row.n_calls
        and row.route not in known
        and row.route.partition("@")[0] not in known
        and not row.route.startswith(families)
    ]
    if not strange:
        return tuple(rows)
    costs = [row.cost_usd for row in strange if row.cost_usd is not None]
    together = RouteRow(
        route=NO_SUCH_ROUTE,
        n_calls=sum(row.n_calls for row in strange),
        n_errors=sum(row.n_errors for row in strange),
        cost_usd=sum(costs, Decimal(0)) if costs else None,
        n_unpriced=sum(row.n_unpriced for row in strange),
        input_tokens=None,
        output_tokens=None,
        n_without_usage=0,
        p50_ms=None,
        p95_ms=None,
    )
    return (*(row for row in rows if row not in strange), together)


def _known_routes(services: ConsoleServices) -> frozenset[str]:
    snapshot = services.read_snapshot()
    return frozenset(each.name for each in snapshot.routes) if snapshot else frozenset()


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT, Permission.JOBS_READ)
    def show_overview(request: Request, range: str = "24h") -> Response:  # noqa: A002 - the word in the URL
        now = now_ns()
        window = read_window(range if range in RANGES else "24h", None, None, now_ns=now)
        until_ns = window.until_ns or now
        found = services.traces.overview(window.since_ns or 0, until_ns)
        recent = services.traces.list_traces(TraceQuery(limit=8)).rows
        page = OverviewPage(
            frame=renderer.frame(request, "Overview", "/"),
            window=window,
            ranges=tuple((name, label) for name, (label, _) in RANGES.items()),
            figures=build_figures(found, window),
            charts=build_charts(found.series, until_ns),
            routes=gather_unknown(found.by_route, _known_routes(services)),
            traces=tuple(recent),
            jobs=tuple(services.jobs.list(limit=5)),
            problems=tuple({**services.find_warnings(), **services.find_problems()}.items()),
            is_first_day=not recent,
        )
        return renderer.show(page)

    return router
