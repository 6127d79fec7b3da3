"""The list of traces, with every filter in the URL."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, get_args
from urllib.parse import urlencode

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput
from penstock.console.ranges import RANGES, Window, read_window
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.spec.spans import SpanKind
from penstock.store.spans.types import TraceRow
from penstock.traces.filters import build_query

FILTERS = ("text", "route", "model", "provider", "status", "kind", "min_duration_ms", "key_id", "session_id")
ChosenTime = Annotated[int, Field(ge=0, le=2**63 - 1)]


@dataclass(frozen=True, kw_only=True)
class TraceLine:
    """One row: the trace, and its duration against the longest on the page."""

    row: TraceRow
    bar_pct: float


@dataclass(frozen=True, kw_only=True)
class TracesPage(Page):
    """One page of the list."""

    template: ClassVar[str] = "traces.html"
    window: Window
    ranges: tuple[tuple[str, str], ...]
    filters: Mapping[str, str]
    chips: tuple[tuple[str, str, str], ...]
    """Set filters as name, value, and the URL without it."""
    kinds: tuple[str, ...]
    routes: tuple[str, ...]
    lines: tuple[TraceLine, ...]
    next_href: str | None
    first_href: str | None
    problem: str | None


def build_lines(rows: list[TraceRow]) -> tuple[TraceLine, ...]:
    """Return the rows with bars in proportion."""
    longest = max((row.duration_ms for row in rows if row.duration_ms is not None), default=0.0) or 1.0
    return tuple(
        TraceLine(row=row, bar_pct=round(100 * (row.duration_ms or 0.0) / longest, 2)) for row in rows
    )


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/traces`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/traces")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def list_traces(
        request: Request,
        range: str = "24h",  # noqa: A002 - the word in the URL
        since_ns: ChosenTime | None = None,
        until_ns: ChosenTime | None = None,
        cursor: str | None = None,
    ) -> Response:
        window = read_window(range, since_ns, until_ns, now_ns=now_ns())
        params = request.query_params
        filters = {name: params.get(name, "").strip() for name in FILTERS}
        rows: list[TraceRow] = []
        next_cursor, problem = None, None
        try:
            bounds = {"since_ns": window.since_ns, "until_ns": window.until_ns, "cursor": cursor}
            found = services.traces.list_traces(build_query({**filters, **bounds}))
            rows, next_cursor = found.rows, found.next_cursor
        except InvalidInput as error:
            problem = str(error.message)
        base = {name: value for name, value in params.items() if name != "cursor" and value}
        snapshot = services.read_snapshot()
        page = TracesPage(
            frame=renderer.frame(request, "Traces", "/traces"),
            window=window,
            ranges=(*((name, label) for name, (label, _) in RANGES.items()), ("all", "All time")),
            filters=filters,
            chips=build_chips(base),
            kinds=get_args(SpanKind),
            routes=tuple(route.name for route in snapshot.routes) if snapshot else (),
            lines=build_lines(rows),
            next_href=f"/traces?{urlencode({**base, 'cursor': next_cursor})}" if next_cursor else None,
            first_href=f"/traces?{urlencode(base)}" if cursor else None,
            problem=problem,
        )
        return renderer.show(page, status=400 if problem else 200)

    return router


def build_chips(base: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Return the set filters, each with the URL that takes it away."""
    chips = []
    for name in FILTERS:
        if base.get(name):
            rest = {key: value for key, value in base.items() if key != name}
            chips.append((name.replace("_", " "), base[name], f"/traces?{urlencode(rest)}"))
    return tuple(chips)
