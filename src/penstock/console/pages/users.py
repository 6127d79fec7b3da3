"""Users: who asked how much, what it cost and how it went, and the sessions of one of them."""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.console.charts import nice_ceiling, sparkline
from penstock.console.formats import (
    add_known,
    format_calls,
    format_count,
    format_money,
    format_ms,
    format_share,
)
from penstock.console.links import link, member
from penstock.console.pages.overview import Figure
from penstock.console.pages.sessions import (
    ORDERS,
    PAGE_SIZE,
    ChosenTime,
    SessionLine,
    link_users,
    name_scores,
    read_order,
)
from penstock.console.pages.traces import read_bounds
from penstock.console.plots import BAD_TONE, QUIET_TONE, Plot, Series, draw_bars
from penstock.console.queries import clause
from penstock.console.ranges import RANGES, Window, read_window
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.store.spans.session_types import UserQuery, UserRow
from penstock.traces.sessions import UserView

ACTIVE = "/sessions"
"""Sessions and users are one entry of the menu."""


@dataclass(frozen=True, kw_only=True)
class UserLine:
    """One row of the list."""

    row: UserRow
    href: str
    spark: str
    """Traces over the window."""
    spark_bad: str
    """Failed ones, on the same scale; empty where none failed."""
    traces_href: str


@dataclass(frozen=True, kw_only=True)
class UsersPage(Page):
    """One page of the list."""

    template: ClassVar[str] = "users.html"
    window: Window
    ranges: tuple[tuple[str, str], ...]
    orders: tuple[tuple[str, str], ...]
    order: str
    text: str
    lines: tuple[UserLine, ...]
    next_href: str | None
    first_href: str | None


@dataclass(frozen=True, kw_only=True)
class UserPage(Page):
    """One user in one window."""

    template: ClassVar[str] = "user.html"
    window: Window
    ranges: tuple[tuple[str, str], ...]
    base: str
    user_id: str
    figures: tuple[Figure, ...]
    line: UserLine
    plot: Plot
    sessions: tuple[SessionLine, ...]
    n_more: int
    score_names: tuple[str, ...]
    sessions_href: str
    cost_href: str


def build_line(row: UserRow, range_name: str) -> UserLine:
    """Return a row with its curve and links."""
    top = nice_ceiling([float(each) for each in row.calls])
    return UserLine(
        row=row,
        href=link(member("/users", row.user_id), {"range": range_name}),
        spark=sparkline([float(each) for each in row.calls], top=top),
        spark_bad=sparkline([float(each) for each in row.failed], top=top) if any(row.failed) else "",
        traces_href=link("/traces", {"range": range_name, "q": clause("user", row.user_id)}),
    )


def build_figures(row: UserRow, window: Window) -> tuple[Figure, ...]:
    """Return the strip of figures of one user."""
    tokens = add_known(row.input_tokens, row.output_tokens)
    priced = f"{format_calls(row.n_unpriced)} without a price" if row.n_unpriced else "all calls priced"
    return (
        Figure(name="Traces", value=format_count(row.n_traces), detail=window.label.lower()),
        Figure(name="Sessions", value=format_count(row.n_sessions), detail="with a turn in this window"),
        Figure(
            name="Failed",
            value=format_count(row.n_failed),
            detail=f"{format_share(row.n_failed, row.n_traces)} of traces",
            is_bad=bool(row.n_failed),
        ),
        Figure(name="Cost", value=format_money(row.cost_usd), detail=priced),
        Figure(
            name="Tokens",
            value=format_count(tokens),
            detail=f"{format_count(row.input_tokens)} in, {format_count(row.output_tokens)} out",
        ),
        Figure(name="p95 latency", value=format_ms(row.p95_ms), detail="of traces that did not fail"),
    )


def draw_traces(view: UserView, zoom_href: str) -> Plot:
    """Return the user's traces over the window, the failed ones in red."""
    row = view.summary
    width_ns = max(1, -(-(view.until_ns - view.since_ns) // len(row.calls)))
    href = link("/traces", {"q": clause("user", row.user_id)})
    return draw_bars(
        Series(name="traces", values=[float(each) for each in row.calls], tone=QUIET_TONE, href=href),
        Series(name="failed", values=[float(each) for each in row.failed], tone=BAD_TONE, href=href),
        title="",
        unit="count",
        starts=[view.since_ns + slot * width_ns for slot in range(len(row.calls))],
        width_ns=width_ns,
        until_ns=view.until_ns,
        zoom_href=zoom_href,
    )


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/users` and the page of one."""
    router = APIRouter(include_in_schema=False)
    sessions = services.trace_sessions
    ranges = (*((name, label) for name, (label, _) in RANGES.items()), ("all", "All time"))

    @router.get("/users")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def list_users(
        request: Request,
        *,
        range: str = "7d",  # noqa: A002 - the word in the URL
        since_ns: ChosenTime | None = None,
        until_ns: ChosenTime | None = None,
        order: str = "recent",
        text: str = "",
        cursor: str | None = None,
    ) -> Response:
        window = read_window(range, since_ns, until_ns, now_ns=now_ns())
        chosen = read_order(order)
        found = sessions.list_users(
            UserQuery(
                since_ns=window.since_ns,
                until_ns=window.until_ns,
                text=text.strip() or None,
                order=chosen,
                limit=PAGE_SIZE,
                cursor=cursor,
            )
        )
        base = {name: value for name, value in request.query_params.items() if name != "cursor"}
        page = UsersPage(
            frame=renderer.frame(request, "Users", ACTIVE),
            window=window,
            ranges=ranges,
            orders=tuple((name, label.replace("turns", "traces")) for name, label in ORDERS),
            order=chosen,
            text=text,
            lines=tuple(build_line(row, window.name or "all") for row in found.rows),
            next_href=link("/users", base, cursor=found.next_cursor) if found.next_cursor else None,
            first_href=link("/users", base) if cursor else None,
        )
        return renderer.show(page)

    @router.get("/users/{user_id:path}")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def show_user(
        request: Request,
        user_id: str,
        range: str = "30d",  # noqa: A002 - the word in the URL
    ) -> Response:
        since_ns, until_ns = read_bounds(request.query_params)
        window = read_window(range, since_ns, until_ns, now_ns=now_ns())
        view = sessions.show_user(user_id, since_ns=window.since_ns, until_ns=window.until_ns, limit=20)
        lines = tuple(
            SessionLine(row=row, href=member("/sessions", row.session_id), users=link_users(row))
            for row in view.sessions
        )
        name = window.name or "30d"
        page = UserPage(
            frame=renderer.frame(request, f"User {user_id}", ACTIVE),
            window=window,
            ranges=ranges,
            base=member("/users", user_id) + "?range=",
            user_id=user_id,
            figures=build_figures(view.summary, window),
            line=build_line(view.summary, name),
            plot=draw_traces(view, link(member("/users", user_id), {"range": name})),
            sessions=lines,
            n_more=max(0, view.summary.n_sessions - len(lines)),
            score_names=name_scores(lines),
            sessions_href=link("/sessions", {"user": user_id, "range": name}),
            cost_href=link(
                "/cost", {"user": user_id, "by": "model", "range": name if name != "all" else "30d"}
            ),
        )
        return renderer.show(page)

    return router
