"""Sessions: conversations over several traces, and one of them as it was led, turn by turn."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, get_args

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.console.exchanges import Exchange, read_exchange
from penstock.console.formats import add_known, end_cut, format_calls, format_count, format_money, format_ms
from penstock.console.links import link, member
from penstock.console.pages.overview import Figure
from penstock.console.queries import clause
from penstock.console.ranges import RANGES, Window, read_window
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.store.spans.excerpts import PREVIEW_CHARS
from penstock.store.spans.session_types import ScoreSum, SessionOrder, SessionQuery, SessionRow, Turn

ACTIVE = "/sessions"
ORDERS: tuple[tuple[SessionOrder, str], ...] = (
    ("recent", "newest first"),
    ("dearest", "dearest first"),
    ("longest", "most turns first"),
    ("failed", "most failures first"),
)
PAGE_SIZE = 50
LONG_GAP_MS = 60_000
ChosenTime = Annotated[int, Field(ge=0, le=2**63 - 1)]


@dataclass(frozen=True, kw_only=True)
class SessionLine:
    """One row of the list."""

    row: SessionRow
    href: str
    users: tuple[tuple[str, str], ...]
    """Name and page."""


@dataclass(frozen=True, kw_only=True)
class SessionsPage(Page):
    """One page of the list."""

    template: ClassVar[str] = "sessions.html"
    window: Window
    ranges: tuple[tuple[str, str], ...]
    orders: tuple[tuple[str, str], ...]
    order: str
    text: str
    user: str
    lines: tuple[SessionLine, ...]
    next_href: str | None
    first_href: str | None
    all_href: str
    score_names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TurnCard:
    """One turn with what was said in it."""

    turn: Turn
    number: int | None
    """Counted from the beginning of the session; None where the page does not begin there."""
    exchange: Exchange
    gap: str | None
    """How long nothing happened before it, where that was long."""
    shows_standing: bool
    """Whether its instructions are told: at the first turn, and where they changed."""


@dataclass(frozen=True, kw_only=True)
class SessionPage(Page):
    """One session."""

    template: ClassVar[str] = "session.html"
    title: str
    """Its first question, or its id."""
    row: SessionRow
    figures: tuple[Figure, ...]
    users: tuple[tuple[str, str], ...]
    cards: tuple[TurnCard, ...]
    traces_href: str
    next_href: str | None
    first_href: str | None


def link_users(row: SessionRow) -> tuple[tuple[str, str], ...]:
    """Return who took part, with their pages."""
    return tuple((name, member("/users", name)) for name in row.users)


def name_scores(rows: tuple[SessionLine, ...]) -> tuple[str, ...]:
    """Return the names of the judgements on a page that have numbers, at most three."""
    names = {score.name for line in rows for score in line.row.scores if score.mean is not None}
    return tuple(sorted(names)[:3])


def build_figures(row: SessionRow) -> tuple[Figure, ...]:
    """Return the strip of figures of one session."""
    span_ms = (row.last_ns - row.first_ns) / 1e6
    tokens = add_known(row.input_tokens, row.output_tokens)
    priced = f"{format_calls(row.n_unpriced)} without a price" if row.n_unpriced else "all calls priced"
    return (
        Figure(name="Turns", value=format_count(row.n_turns), detail=f"{format_count(row.n_spans)} spans"),
        Figure(
            name="Failed",
            value=format_count(row.n_failed),
            detail="turns whose root failed",
            is_bad=bool(row.n_failed),
        ),
        Figure(name="Cost", value=format_money(row.cost_usd), detail=priced),
        Figure(
            name="Tokens",
            value=format_count(tokens),
            detail=f"{format_count(row.input_tokens)} in, {format_count(row.output_tokens)} out",
        ),
        Figure(name="Working", value=format_ms(row.busy_ms), detail="what its turns took together"),
        Figure(name="First to last turn", value=format_ms(span_ms), detail="with the pauses"),
        *(_score_figure(score) for score in row.scores[:4]),
    )


def build_cards(turns: list[Turn], *, is_first_page: bool) -> tuple[TurnCard, ...]:
    """Return the turns as cards: pauses told, standing instructions only where they are new."""
    cards = []
    before: Turn | None = None
    standing: tuple[str, ...] = ()
    for number, turn in enumerate(turns, 1):
        exchange = read_exchange(turn.input, turn.output)
        told = tuple(each.text for each in exchange.standing)
        gap_ms = 0.0
        if before is not None:
            gap_ms = (turn.start_ns - before.start_ns) / 1e6 - (before.duration_ms or 0.0)
        cards.append(
            TurnCard(
                turn=turn,
                number=number if is_first_page else None,
                exchange=exchange,
                gap=format_ms(gap_ms) if gap_ms >= LONG_GAP_MS else None,
                shows_standing=bool(told) and told != standing,
            )
        )
        before, standing = turn, told or standing
    return tuple(cards)


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/sessions` and the page of one."""
    router = APIRouter(include_in_schema=False)
    sessions = services.trace_sessions

    @router.get("/sessions")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def list_sessions(
        request: Request,
        *,
        range: str = "7d",  # noqa: A002 - the word in the URL
        since_ns: ChosenTime | None = None,
        until_ns: ChosenTime | None = None,
        order: str = "recent",
        text: str = "",
        user: str = "",
        cursor: str | None = None,
    ) -> Response:
        window = read_window(range, since_ns, until_ns, now_ns=now_ns())
        chosen = read_order(order)
        found = sessions.list_sessions(
            SessionQuery(
                since_ns=window.since_ns,
                until_ns=window.until_ns,
                text=text.strip() or None,
                user_id=user.strip() or None,
                order=chosen,
                limit=PAGE_SIZE,
                cursor=cursor,
            )
        )
        base = {name: value for name, value in request.query_params.items() if name != "cursor"}
        lines = tuple(
            SessionLine(row=row, href=member("/sessions", row.session_id), users=link_users(row))
            for row in found.rows
        )
        page = SessionsPage(
            frame=renderer.frame(request, "Sessions", ACTIVE),
            window=window,
            ranges=(*((name, label) for name, (label, _) in RANGES.items()), ("all", "All time")),
            orders=ORDERS,
            order=chosen,
            text=text,
            user=user,
            lines=lines,
            next_href=link("/sessions", base, cursor=found.next_cursor) if found.next_cursor else None,
            first_href=link("/sessions", base) if cursor else None,
            all_href=link("/sessions", {"range": "all"}),
            score_names=name_scores(lines),
        )
        return renderer.show(page)

    @router.get("/sessions/{session_id:path}")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def show_session(request: Request, session_id: str, cursor: str | None = None) -> Response:
        view = sessions.show_session(session_id, limit=PAGE_SIZE, cursor=cursor)
        here = member("/sessions", session_id)
        page = SessionPage(
            frame=renderer.frame(request, f"Session {session_id}", ACTIVE),
            title=end_cut(view.summary.preview or session_id, PREVIEW_CHARS),
            row=view.summary,
            figures=build_figures(view.summary),
            users=link_users(view.summary),
            cards=build_cards(view.turns, is_first_page=cursor is None),
            traces_href=link(
                "/traces", {"range": "all", "order": "oldest", "q": clause("session", session_id)}
            ),
            next_href=link(here, {"cursor": view.next_cursor}) if view.next_cursor else None,
            first_href=here if cursor else None,
        )
        return renderer.show(page)

    return router


def read_order(text: str) -> SessionOrder:
    """Return the order that the URL names; anything unknown is the newest first."""
    return next((each for each in get_args(SessionOrder) if each == text), "recent")


def _score_figure(score: ScoreSum) -> Figure:
    judged = "1 judgement" if score.n == 1 else f"{score.n:,} judgements"
    return Figure(name=score.name, value="–" if score.mean is None else f"{score.mean:.2f}", detail=judged)
