"""The list of traces, or of spans: one search, one window, columns and order, all of it in the URL.

The list itself comes at once. What is around it (the strip over time, the values that one can narrow to) is asked for
by the script when the page stands, as fragments of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput
from penstock.console.links import link
from penstock.console.queries import Chip, Search, SearchProblem, build_chips, read_search, tell_problem
from penstock.console.ranges import RANGES, Window, read_moment, read_window, write_moment
from penstock.console.rendering import Frame, Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.console.trace_columns import (
    COLUMNS,
    ORDERS,
    Column,
    View,
    choose_columns,
    read_order,
    read_view,
)
from penstock.store.spans.types import Order, SpanQuery, SpanRow, TraceQuery, TraceRow
from penstock.traces.views import SavedView

PATH = "/traces"
PAGE_SIZE = 50
EXAMPLES: dict[View, tuple[tuple[str, str], ...]] = {
    "traces": (
        ("status:error", "what failed"),
        ("duration>10s cost>=0.01", "slow and dear"),
        ("status:ok child(status:error)", "what went well although a step below failed"),
        ("any(kind:retrieval passages:0)", "a search that found nothing"),
        ("any(kind:tool tool:get_*) -user:none", "who used tools of that name"),
        ('"refund" OR input:"money back"', "words in names, questions and answers"),
        ("score.helpful<0.5", "judged as little helpful"),
    ),
    "spans": (
        ("kind:llm ttft>2s", "model calls that were slow to begin"),
        ("kind:tool status:error", "tools that failed"),
        ("attempts>1 provider:openai", "calls that needed more than one request"),
        ("parent(kind:agent) tokens>10k", "large calls of agents"),
    ),
}
VIEWS: tuple[tuple[View, str], ...] = (("traces", "Traces"), ("spans", "Spans"))
_KEPT = ("q", "range", "since_ns", "until_ns", "order", "view", "cols")
"""What stays in the links of the page."""


@dataclass(frozen=True, kw_only=True)
class TraceLine:
    """One row: the trace or span, and its duration against the longest on the page."""

    row: TraceRow | SpanRow
    href: str
    bar_pct: float


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What stands in the table."""

    view: View
    columns: tuple[Column, ...]
    lines: tuple[TraceLine, ...]


@dataclass(frozen=True, kw_only=True)
class HeadCell:
    """One head of the table."""

    column: Column
    href: str | None
    is_chosen: bool


@dataclass(frozen=True, kw_only=True)
class SavedLink:
    """One saved view."""

    name: str
    href: str
    text: str
    """Its search, or what it lists."""
    is_shown: bool


@dataclass(frozen=True, kw_only=True)
class TracesPage(Page):
    """One page of the list."""

    template: ClassVar[str] = "traces.html"
    window: Window
    ranges: tuple[tuple[str, str, str], ...]
    """Name, label and link."""
    since_text: str
    until_text: str
    search: Search
    chips: tuple[Chip, ...]
    hidden: tuple[tuple[str, str], ...]
    """What a new search keeps."""
    views: tuple[tuple[View, str, str], ...]
    """Name, label and link."""
    rows: Rows
    heads: tuple[HeadCell, ...]
    column_choice: tuple[tuple[Column, bool], ...]
    order: Order
    orders: tuple[tuple[Order, str, str], ...]
    """Name, label and link."""
    next_href: str | None
    first_href: str | None
    all_href: str
    bare_href: str
    """The same list without a search."""
    live_href: str | None
    """Where new rows come from; None where the list does not begin at the newest."""
    strip_href: str
    saved: tuple[SavedLink, ...]
    save_fields: tuple[tuple[str, str], ...]
    """What a view keeps of this page."""
    facets_href: str
    problem: SearchProblem | None
    examples: tuple[tuple[str, str, str], ...]
    """Where a search found nothing or could not be read: searches with what they mean and their links."""


@dataclass(frozen=True, kw_only=True)
class RowsPage(Page):
    """The newest rows alone, for the script that keeps a list alive."""

    template: ClassVar[str] = "traces_rows.html"
    rows: Rows


def build_lines(rows: list[TraceRow] | list[SpanRow]) -> tuple[TraceLine, ...]:
    """Return the rows with bars in proportion."""
    scale = _find_scale([row.duration_ms for row in rows if row.duration_ms is not None])
    return tuple(
        TraceLine(
            row=row,
            href=f"/traces/{row.trace_id}?span={row.span_id}"
            if isinstance(row, SpanRow)
            else f"/traces/{row.trace_id}",
            bar_pct=round(min(100.0, 100 * (row.duration_ms or 0.0) / scale), 2),
        )
        for row in rows
    )


def _find_scale(durations: list[float]) -> float:
    """Return what a whole bar means: the longest, unless a few are so long that all others would be specks."""
    if not durations:
        return 1.0
    usual = sorted(durations)[(len(durations) - 1) * 3 // 4]
    return min(max(durations), 3 * usual) or max(durations) or 1.0


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What a URL of this page asks for."""

    window: Window
    view: View
    order: Order
    search: Search
    columns: tuple[Column, ...]
    cursor: str | None
    base: dict[str, str]


def read_asked(params: Mapping[str, str], *, now: int) -> _Asked:
    """Return what the parameters ask for; raise `InvalidInput` for a window that is none."""
    view = read_view(params.get("view", ""))
    search = read_search(params, "span" if view == "spans" else "trace")
    since_ns, until_ns = read_bounds(params)
    names = [name for name in params.get("cols", "").split(",") if name]
    base = {name: params[name] for name in _KEPT if params.get(name)}
    base |= {"q": search.text} if search.text else {}
    if since_ns is not None or until_ns is not None:
        base.pop("range", None)
        bounds = {"since_ns": since_ns, "until_ns": until_ns}
        base |= {name: str(value) for name, value in bounds.items() if value is not None}
    return _Asked(
        window=read_window(params.get("range", "24h"), since_ns, until_ns, now_ns=now),
        view=view,
        order=read_order(params.get("order", "")),
        search=search,
        columns=choose_columns(view, names),
        cursor=params.get("cursor") or None,
        base=base,
    )


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What there is to show."""

    rows: Rows
    cursor: str | None
    problem: SearchProblem | None
    views: list[SavedView]


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/traces` and the fragments that its script asks for."""
    router = APIRouter(include_in_schema=False)

    def find(asked: _Asked) -> tuple[Rows, str | None]:
        kind = SpanQuery if asked.view == "spans" else TraceQuery
        query = kind(
            since_ns=asked.window.since_ns,
            until_ns=asked.window.until_ns,
            where=asked.search.condition,
            order=asked.order,
            limit=PAGE_SIZE,
            cursor=asked.cursor,
        )
        lists = services.trace_lists
        found = lists.list_spans(query) if isinstance(query, SpanQuery) else lists.list_traces(query)
        return Rows(view=asked.view, columns=asked.columns, lines=build_lines(found.rows)), found.next_cursor

    @router.get(PATH)
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def list_traces(request: Request) -> Response:
        asked = read_asked(request.query_params, now=now_ns())
        rows, cursor, problem = (
            Rows(view=asked.view, columns=asked.columns, lines=()),
            None,
            asked.search.problem,
        )
        if problem is None:
            try:
                rows, cursor = find(asked)
            except InvalidInput as error:
                problem = tell_problem(error)
        found = _Found(rows=rows, cursor=cursor, problem=problem, views=services.views.list())
        title = "Spans" if asked.view == "spans" else "Traces"
        frame = renderer.frame(request, title, PATH, notice=request.query_params.get("notice"))
        return renderer.show(build_page(frame, asked, found), status=400 if problem else 200)

    @router.get(f"{PATH}/rows")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def list_newest(request: Request) -> Response:
        asked = read_asked(request.query_params, now=now_ns())
        if asked.search.problem is not None:
            raise InvalidInput(asked.search.problem.message, hint=asked.search.problem.hint)
        rows, _ = find(asked)
        return renderer.show(RowsPage(frame=renderer.frame(request, "Traces", PATH), rows=rows))

    return router


def build_page(frame: Frame, asked: _Asked, found: _Found) -> TracesPage:
    """Return the page of a list."""
    base, window = asked.base, asked.window
    windowless = {
        name: value for name, value in base.items() if name not in {"since_ns", "until_ns", "range"}
    }
    names = {column.name for column in asked.columns}
    is_alive = asked.order == "newest" and asked.cursor is None and "until_ns" not in base
    return TracesPage(
        frame=frame,
        window=window,
        ranges=tuple(
            (name, label, link(PATH, windowless, range=name))
            for name, label in (*((name, label) for name, (label, _) in RANGES.items()), ("all", "All time"))
        ),
        since_text=write_moment(window.since_ns),
        until_text=write_moment(window.until_ns),
        search=asked.search,
        chips=build_chips(PATH, base, asked.search.condition)
        if found.problem is None and asked.search.text
        else (),
        hidden=tuple((name, value) for name, value in base.items() if name != "q"),
        views=tuple(
            (view, label, link(PATH, base, view=view if view == "spans" else None, cols=None))
            for view, label in VIEWS
        ),
        rows=found.rows,
        heads=tuple(_head(column, asked) for column in asked.columns),
        column_choice=tuple((column, column.name in names) for column in COLUMNS[asked.view]),
        order=asked.order,
        orders=tuple(
            (name, label, link(PATH, base, order=None if name == "newest" else name))
            for name, label in ORDERS
        ),
        next_href=link(PATH, base, cursor=found.cursor) if found.cursor else None,
        first_href=link(PATH, base) if asked.cursor else None,
        all_href=link(PATH, windowless, range="all"),
        bare_href=link(PATH, base, q=None),
        live_href=link(f"{PATH}/rows", base) if is_alive else None,
        strip_href=link(f"{PATH}/strip", base),
        saved=link_views(found.views, asked),
        save_fields=tuple((name, base[name]) for name in ("q", "view", "cols", "order") if name in base),
        facets_href=link(f"{PATH}/facets", base),
        problem=found.problem,
        examples=()
        if found.rows.lines
        else tuple((text, means, link(PATH, base, q=text)) for text, means in EXAMPLES[asked.view]),
    )


def link_views(views: list[SavedView], asked: _Asked) -> tuple[SavedLink, ...]:
    """Return the saved views as links; the window stays what it is."""
    window = {name: value for name, value in asked.base.items() if name in {"range", "since_ns", "until_ns"}}
    links = []
    for view in views:
        kept = {
            "q": view.query,
            "view": "spans" if view.subject == "span" else None,
            "cols": ",".join(view.columns),
            "order": None if view.order == "newest" else view.order,
        }
        shown = {name: value for name, value in kept.items() if value}
        here = {name: asked.base[name] for name in kept if name in asked.base}
        links.append(
            SavedLink(
                name=view.name,
                href=link(PATH, {**shown, **window}),
                text=view.query or f"all {'spans' if view.subject == 'span' else 'traces'}",
                is_shown=shown == here,
            )
        )
    return tuple(links)


def _head(column: Column, asked: _Asked) -> HeadCell:
    order = column.order
    if order == "newest" and asked.order == "newest":
        order = "oldest"
    is_chosen = column.order is not None and (
        asked.order == column.order or (column.order == "newest" and asked.order == "oldest")
    )
    href = link(PATH, asked.base, order=None if order == "newest" else order) if order else None
    return HeadCell(column=column, href=href, is_chosen=is_chosen)


def read_bounds(params: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Return both ends of a window as far as the URL sets them; raise `InvalidInput` for what is no time."""
    return _moment(params, "since_ns", "from"), _moment(params, "until_ns", "to")


def _moment(params: Mapping[str, str], exact: str, written: str) -> int | None:
    """Return the end of a window that a link sets exactly or a form as text; raise `InvalidInput` for neither."""
    text = params.get(exact, "")
    if not text:
        return read_moment(params.get(written, ""))
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 2**63
    if number >= 2**63:
        raise InvalidInput(f"{exact} is no time in nanoseconds: {text[:80]!r}.")
    return number
