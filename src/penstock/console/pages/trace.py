"""One trace: its tree, and one selected span in full. View, selection and filter are in the URL.

The server draws the head, the panel of the selected span and the first rows; the script draws the rows anew from the skeleton,
as many as are in view. A trace of over `DRAWN_HERE` spans gets them from the script alone, so that the page is there
at once, unless `?rows=` asks for some.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.console.formats import end_cut, format_count, format_ms
from penstock.console.model_calls import CallPage, read_calls
from penstock.console.pages import trace_diff
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.console.span_details import SpanDetail, build_detail, link_versions
from penstock.store.spans.excerpts import PREVIEW_CHARS
from penstock.store.spans.types import ScoreRow, TraceRow
from penstock.traces.outline import Outline, sum_path
from penstock.traces.tree import ORPHAN

DRAWN_HERE = 3000
FIRST_ROWS = 200
"""Rows that the server draws: several windows full. The script draws all of them anew."""
MAX_ROWS = 2000
"""The most that it draws for who asks, without scripts."""
MAX_DEPTH = 16
TABS = (
    ("tree", "Tree", "1"),
    ("timeline", "Timeline", "2"),
    ("messages", "Messages", "3"),
    ("list", "By time", "4"),
)


@dataclass(frozen=True, kw_only=True)
class DrawnRow:
    """One row as the server draws it."""

    span_id: str
    name: str
    kind: str
    status: str
    depth: int
    offset_pct: float
    width_pct: float
    ttft_pct: float | None
    duration_ms: float | None
    is_orphan: bool


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The tree as the server draws it."""

    rows: tuple[DrawnRow, ...]
    n_rows: int
    n_orphans: int
    n_cycles: int
    axis: tuple[str, ...]
    path: tuple[tuple[str, int, str], ...]
    """Where the time of the critical path went: name, percent and span id."""
    versions: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, kw_only=True)
class TracePage(Page):
    """The trace and the selected span."""

    template: ClassVar[str] = "trace.html"
    trace_id: str
    summary: TraceRow
    title: str
    view: str
    tabs: tuple[tuple[str, str, str, str], ...]
    """Name, label, key and URL."""
    search: str
    drawn: Drawing | None
    """None where the script alone draws."""
    rows: int | None
    """How many rows the URL asks for; links to spans keep it, for who reads without scripts."""
    scores: tuple[ScoreRow, ...]
    """Of the trace as a whole."""
    selected: SpanDetail | None
    calls: CallPage | None
    """For the messages view without a script."""
    max_depth: int = MAX_DEPTH


@dataclass(frozen=True, kw_only=True)
class SpanPage(Page):
    """The panel of one span alone, for the script that swaps it."""

    template: ClassVar[str] = "span.html"
    selected: SpanDetail


@dataclass(frozen=True, kw_only=True)
class CallsPage(Page):
    """A page of the messages view alone."""

    template: ClassVar[str] = "trace_messages.html"
    trace_id: str
    calls: CallPage


def draw_rows(outline: Outline, n_rows: int) -> tuple[DrawnRow, ...]:
    """Return the first rows, every bar within 0…100 %."""
    skeleton, tree = outline.skeleton, outline.tree
    total = max(tree.end_ns - tree.start_ns, 1)
    drawn = []
    for row in range(min(n_rows, len(tree))):
        at = tree.source[row]
        start, end = skeleton.start_ns[at], skeleton.end_ns[at]
        offset = max(0.0, min(100.0, (start - tree.start_ns) / total * 100))
        until = max(start, tree.end_ns if end is None else end)
        ttft = skeleton.ttft_ms[at]
        first = None if ttft is None else offset + ttft * 1e6 / total * 100
        drawn.append(
            DrawnRow(
                span_id=outline.id_of(row),
                name=skeleton.names[at],
                kind=skeleton.kinds[at],
                status=skeleton.statuses[at],
                depth=tree.depths[row],
                offset_pct=round(offset, 3),
                width_pct=round(max(0.4, min(100.0 - offset, (until - start) / total * 100)), 3),
                ttft_pct=round(first, 3) if first is not None and first <= 100.0 else None,
                duration_ms=None if end is None else (end - start) / 1e6,
                is_orphan=bool(tree.flags[row] & ORPHAN),
            )
        )
    return tuple(drawn)


def draw(outline: Outline, n_rows: int) -> Drawing:
    """Return the head of the tree and its first rows."""
    tree = outline.tree
    duration_ms = (tree.end_ns - tree.start_ns) / 1e6
    return Drawing(
        rows=draw_rows(outline, n_rows),
        n_rows=len(tree),
        n_orphans=tree.n_orphans,
        n_cycles=tree.n_cycles,
        axis=tuple(format_ms(duration_ms * part / 4) if part else "0" for part in range(5)),
        path=tuple((name, share, outline.id_of(row)) for name, share, row in sum_path(outline)),
        versions=link_versions(outline.skeleton.versions),
    )


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/traces/{trace_id}`, the panel of one span, and pages of the messages view."""
    router = APIRouter(include_in_schema=False)
    router.include_router(trace_diff.create_router(services, renderer))  # before what takes any id

    def detail_of(trace_id: str, span_id: str, outline: Outline | None) -> SpanDetail:
        span = services.traces.get_span(trace_id, span_id)
        key_name = next((key.name for key in services.keys.list() if key.id == span.key_id), None)
        scores = [score for score in services.traces.list_scores(trace_id) if score.span_id == span.span_id]
        return build_detail(
            span,
            services.traces.get_payload(span.trace_id, span.span_id),
            key_name=key_name,
            scores=tuple(scores),
            outline=outline,
            gateway_url=services.gateway_url,
        )

    @router.get("/traces/{trace_id}")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def show_trace(
        request: Request,
        trace_id: str,
        *,
        span: str | None = None,
        view: str = "tree",
        q: str = "",
        rows: Annotated[int | None, Query(ge=0, le=MAX_ROWS)] = None,
    ) -> Response:
        summary = services.traces.get_summary(trace_id)
        view = view if view in {name for name, *_ in TABS} else "tree"
        is_light = summary.n_spans > DRAWN_HERE and rows is None and view != "messages"
        outline = None if is_light else services.traces.read_outline(trace_id)
        chosen = span or (outline.id_of(outline.root) if outline else None)
        title = end_cut(summary.preview or summary.name, PREVIEW_CHARS)
        page = TracePage(
            frame=renderer.frame(request, title, "/traces"),
            trace_id=summary.trace_id,
            summary=summary,
            title=title,
            view=view,
            tabs=_tabs(request.query_params),
            search=q,
            drawn=draw(outline, _count_rows(rows, view)) if outline else None,
            rows=rows,
            scores=tuple(each for each in services.traces.list_scores(trace_id) if each.span_id is None),
            selected=detail_of(summary.trace_id, chosen, outline) if chosen else None,
            calls=read_calls(services.traces, outline, span_id=span)
            if outline and view == "messages"
            else None,
        )
        return renderer.show(page)

    @router.get("/traces/{trace_id}/spans/{span_id}")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def show_span(request: Request, trace_id: str, span_id: str) -> Response:
        frame = renderer.frame(request, "Span", "/traces")
        return renderer.show(SpanPage(frame=frame, selected=detail_of(trace_id, span_id, None)))

    @router.get("/traces/{trace_id}/messages")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def show_messages(
        request: Request,
        trace_id: str,
        page: Annotated[int, Query(ge=0, le=10**6)] = 0,
        span: str | None = None,
    ) -> Response:
        outline = services.traces.read_outline(trace_id)
        calls = read_calls(services.traces, outline, page=page, span_id=span)
        frame = renderer.frame(request, f"{format_count(calls.n_calls)} model calls", "/traces")
        return renderer.show(CallsPage(frame=frame, trace_id=outline.trace_id, calls=calls))

    return router


def _count_rows(asked: int | None, view: str) -> int:
    """Return how many rows the server draws; the messages view shows none."""
    if asked is not None:
        return asked
    return 0 if view == "messages" else FIRST_ROWS


def _tabs(params: Mapping[str, str]) -> tuple[tuple[str, str, str, str], ...]:
    kept = {name: value for name, value in params.items() if name in {"span", "q"}}
    return tuple((name, label, key, f"?{urlencode({**kept, 'view': name})}") for name, label, key in TABS)
