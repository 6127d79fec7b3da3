"""Overview: what went through, what it cost, how quick it was, and what needs a person."""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.console.charts import Chart, build_charts
from penstock.console.formats import format_calls, format_count, format_money, format_ms, format_share
from penstock.console.ranges import RANGES, Window, read_window
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.jobs.types import Job
from penstock.store.spans.types import Overview, RouteRow, TraceQuery, TraceRow


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
    charts: tuple[Chart, ...]
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
        Figure(name="Calls", value=format_count(found.n_calls), detail=window.label.lower(), href=link),
        Figure(
            name="Failed",
            value=format_count(found.n_errors),
            detail=f"{format_share(found.n_errors, found.n_calls)} of calls",
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
            routes=tuple(found.by_route),
            traces=tuple(recent),
            jobs=tuple(services.jobs.list(limit=5)),
            problems=tuple({**services.find_warnings(), **services.find_problems()}.items()),
            is_first_day=not recent,
        )
        return renderer.show(page)

    return router
