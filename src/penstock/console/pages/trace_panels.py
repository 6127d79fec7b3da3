"""What stands around a list of traces: its strip over time, the values to narrow to, and whether a search can be read.

Fragments and JSON for the script of the list; each may take longer than the list itself.
"""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput
from penstock.console.formats import format_count, format_share
from penstock.console.links import link
from penstock.console.pages.traces import PATH, read_asked
from penstock.console.plots import QUIET_TONE, Plot, Series, choose_width_ns, draw_bars
from penstock.console.queries import parts_of, read_search, toggle
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.spec.measures import MetricQuery, Subject
from penstock.spec.search import All, Compare, Condition, Negated
from penstock.store.spans.types import Count, TraceQuery
from penstock.traces.measures.types import Report, ReportRow

N_SLICES = 96
N_VALUES = 8
FACETS: tuple[tuple[str, str, str], ...] = (
    ("status", "status", "Status"),
    ("route", "route", "Route"),
    ("any_model", "model", "Model"),
    ("any_provider", "provider", "Provider"),
    ("kind", "kind", "Kind"),
    ("error_code", "error_code", "Error"),
    ("environment", "environment", "Environment"),
    ("release", "release", "Release"),
    ("tag", "tag", "Tag"),
    ("agent", "agent", "Agent"),
    ("user", "user", "User"),
    ("session", "session", "Session"),
    ("cache", "cache", "Cache"),
)
"""Dimension that is counted, field of the search, and label."""

_INNER = (
    Compare(field="errors", operator=">", value=0),
    Negated(condition=Compare(field="status", operator="=", value="error")),
)
"""Traces that went well as a whole, with spans that failed."""


@dataclass(frozen=True, kw_only=True)
class StripPage(Page):
    """The strip alone."""

    template: ClassVar[str] = "traces_strip.html"
    plot: Plot
    words: str


@dataclass(frozen=True, kw_only=True)
class FacetValue:
    """One value that one can narrow to."""

    name: str
    n: int
    pct: float
    href: str
    is_chosen: bool


@dataclass(frozen=True, kw_only=True)
class Facet:
    """The values of one field, the most frequent first."""

    label: str
    values: tuple[FacetValue, ...]
    n_more: int


@dataclass(frozen=True, kw_only=True)
class FacetsPage(Page):
    """The values alone."""

    template: ClassVar[str] = "traces_facets.html"
    facets: tuple[Facet, ...]


def draw_strip(
    report: Report, base: dict[str, str], noun: str, inner: Count | None = None
) -> tuple[Plot, str]:
    """Return calls and failed ones by slice, and their sums in words.

    `inner` is how many traces went well as a whole and yet have spans that failed.
    """
    by_start = {row.start_ns: row for row in report.rows}
    calls, errors = (
        [_value(by_start, start, name) for start in report.slices] for name in ("calls", "errors")
    )
    n_calls, n_errors = int(sum(calls)), int(sum(errors))
    href = link(PATH, base)
    width_ns = report.bucket_ns or 1
    plot = draw_bars(
        Series(name=noun, values=calls, tone=QUIET_TONE, href=href),
        Series(name="failed", values=errors, tone="bad", href=href),
        title="",
        unit="count",
        starts=report.slices,
        width_ns=width_ns,
        until_ns=report.until_ns,
        zoom_href=href,
    )
    failed = (
        f", {format_count(n_errors)} failed ({format_share(n_errors, n_calls)})"
        if n_errors
        else ", none failed"
    )
    if inner is not None and inner.n:
        failed += f" as a whole, {'over ' if inner.is_more else ''}{format_count(inner.n)} with failed steps"
    return plot, f"{format_count(n_calls)} {noun}{failed if n_calls else ''}"


def build_facets(
    reports: list[tuple[str, str, Report]], base: dict[str, str], where: Condition
) -> tuple[Facet, ...]:
    """Return the values of each field with links that narrow the list to one, or widen it again."""
    facets = []
    for field, label, report in reports:
        known = [row for row in report.rows if next(iter(row.group.values())) is not None]
        most = max((row.n for row in known), default=1)
        values = []
        for row in known:
            value = str(next(iter(row.group.values())))
            part = Compare(field=field, operator="=", value=value)
            values.append(
                FacetValue(
                    name=value,
                    n=row.n,
                    pct=round(100 * row.n / most, 1),
                    href=link(PATH, base, q=toggle(where, part), cursor=None),
                    is_chosen=part in parts_of(where),
                )
            )
        if values:
            facets.append(
                Facet(label=label, values=tuple(values), n_more=max(0, report.n_groups - len(report.rows)))
            )
    return tuple(facets)


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return the fragments below `/traces`."""
    router = APIRouter(include_in_schema=False)

    @router.get(f"{PATH}/strip")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def show_strip(request: Request) -> Response:
        asked = read_asked(request.query_params, now=now_ns())
        if asked.search.problem is not None:
            raise InvalidInput(asked.search.problem.message)
        since_ns, until_ns = _bounds(services, asked.window.since_ns, asked.window.until_ns)
        query = MetricQuery(
            measures=("calls", "errors"),
            since_ns=since_ns,
            until_ns=until_ns,
            subject=_subject(asked.view),
            where=asked.search.condition,
            bucket_ns=choose_width_ns(since_ns, until_ns, n_most=N_SLICES),
        )
        inner = None
        if asked.view == "traces":
            within = TraceQuery(since_ns=since_ns, until_ns=until_ns, where=All(parts=(*_INNER, query.where)))
            inner = services.trace_lists.count(within)
        plot, words = draw_strip(services.measures.measure(query), asked.base, asked.view, inner)
        return renderer.show(StripPage(frame=renderer.frame(request, "Strip", PATH), plot=plot, words=words))

    @router.get(f"{PATH}/facets")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def show_facets(request: Request) -> Response:
        asked = read_asked(request.query_params, now=now_ns())
        if asked.search.problem is not None:
            raise InvalidInput(asked.search.problem.message)
        since_ns, until_ns = _bounds(services, asked.window.since_ns, asked.window.until_ns)
        reports = []
        for dimension, field, label in FACETS:
            query = MetricQuery(
                measures=("calls",),
                since_ns=since_ns,
                until_ns=until_ns,
                subject=_subject(asked.view),
                by=(dimension,),
                where=asked.search.condition,
                limit=N_VALUES,
            )
            reports.append((field, label, services.measures.measure(query)))
        page = FacetsPage(
            frame=renderer.frame(request, "Values", PATH),
            facets=build_facets(reports, asked.base, asked.search.condition),
        )
        return renderer.show(page)

    @router.get(f"{PATH}/check")
    @needs(Permission.TRACES_READ)
    def check_search(q: str = "", subject: str = "trace") -> Response:
        problem = read_search({"q": q}, "span" if subject == "span" else "trace").problem
        if problem is None:
            return JSONResponse({"problem": None})
        told = {
            "message": problem.message,
            "hint": problem.hint,
            "before": problem.before,
            "fault": problem.fault,
            "after": problem.after,
        }
        return JSONResponse({"problem": told})

    return router


def _bounds(services: ConsoleServices, since_ns: int | None, until_ns: int | None) -> tuple[int, int]:
    """Return the window with both ends; all time begins with the oldest trace."""
    end = until_ns if until_ns is not None else now_ns()
    if since_ns is not None:
        return since_ns, max(end, since_ns + 1)
    oldest = services.trace_lists.list_traces(TraceQuery(order="oldest", limit=1)).rows
    start = oldest[0].start_ns if oldest else end - 1
    return min(start, end - 1), end


def _subject(view: str) -> Subject:
    return "span" if view == "spans" else "trace"


def _value(rows: dict[int | None, ReportRow], start_ns: int, measure: str) -> float:
    row = rows.get(start_ns)
    cell = row.cells.get(measure) if row else None
    return 0.0 if cell is None or cell.value is None else cell.value
