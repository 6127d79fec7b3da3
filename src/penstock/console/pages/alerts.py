"""Alerts: how every rule stands, and one of them with its value over time, its history, silence and test."""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.base.errors import CallerError, InvalidInput, PenstockError
from penstock.console.alert_words import (
    Segment,
    draw_rule,
    draw_strip,
    say_length,
    say_rule,
    say_threshold,
    unit_of,
    value_of,
)
from penstock.console.links import link
from penstock.console.measured import format_value
from penstock.console.pages.overview import Figure
from penstock.console.plots import Plot
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.monitors.types import BAD_STATES, AlertView, Channel, OutboxMessage, Transition

ACTIVE = "/alerts"
WEEK_NS = 7 * 86_400 * 1_000_000_000
N_CHANGES = 20
N_HISTORY = 200
SILENCES: tuple[tuple[int, str], ...] = (
    (3600, "an hour"),
    (4 * 3600, "4 hours"),
    (86_400, "a day"),
    (7 * 86_400, "a week"),
)


@dataclass(frozen=True, kw_only=True)
class AlertLine:
    """One rule in the list."""

    view: AlertView
    sentence: str
    value: str
    bound: str
    strip: tuple[Segment, ...]
    summary: str
    """The strip in words."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One transition with the way to what it rested on."""

    transition: Transition
    value: str
    href: str
    examples: tuple[tuple[str, str], ...]
    """Value and page of each span it rested on."""


@dataclass(frozen=True, kw_only=True)
class AlertsPage(Page):
    """All rules."""

    template: ClassVar[str] = "alerts.html"
    lines: tuple[AlertLine, ...]
    changes: tuple[Change, ...]
    channels: tuple[Channel, ...]
    places: tuple[str, ...]
    """Where each channel leads, in its order."""
    counts: tuple[tuple[str, int], ...]
    dead: tuple[OutboxMessage, ...]


@dataclass(frozen=True, kw_only=True)
class AlertPage(Page):
    """One rule."""

    template: ClassVar[str] = "alert.html"
    view: AlertView
    sentence: str
    figures: tuple[Figure, ...]
    plot: Plot | None
    problem: str | None
    """Why there is no plot."""
    strip: tuple[Segment, ...]
    summary: str
    changes: tuple[Change, ...]
    silences: tuple[tuple[int, str], ...]
    messages: tuple[OutboxMessage, ...]


def build_change(transition: Transition, content_unit: str) -> Change:
    """Return a transition with its links."""
    bounds = {"since_ns": transition.since_ns, "until_ns": transition.until_ns}
    view = None if transition.subject == "trace" else "spans"
    return Change(
        transition=transition,
        value=format_value(transition.value, content_unit),  # type: ignore[arg-type]  # units are kept as text
        href=link("/traces", {"q": transition.search, "view": view, **bounds}),
        examples=tuple(
            (
                format_value(each.value, content_unit),  # type: ignore[arg-type]  # as above
                f"/traces/{each.trace_id}?span={each.span_id}",
            )
            for each in transition.examples[:5]
        ),
    )


def summarise(strip: tuple[Segment, ...]) -> str:
    """Return how much of the strip a rule was in which state."""
    shares: dict[str, float] = {}
    for each in strip:
        shares[each.state] = shares.get(each.state, 0.0) + each.width
    told = [f"{state} {share:.0f} %" for state, share in shares.items() if share >= 0.5]
    return "Last 7 days: " + ", ".join(told)


def build_figures(view: AlertView) -> tuple[Figure, ...]:
    """Return the strip of figures of one rule."""
    content, status, unit = view.rule.content, view.status, unit_of(view.rule.content)
    warned = f"; warning {say_threshold(content.warning, unit)}" if content.warning else ""
    streak = "at once" if content.for_evaluations == 1 else f"{content.for_evaluations} times in a row"
    return (
        Figure(
            name="Value",
            value=value_of(view),
            detail=f"of {status.n:,}" if status.n else "nothing in the window",
            is_bad=status.state in BAD_STATES,
        ),
        Figure(
            name="Alert",
            value=say_threshold(content.alert, unit).partition(",")[0],
            detail=f"{say_threshold(content.alert, unit).partition(', ')[2] or 'back at the same'}{warned}",
        ),
        Figure(
            name="Window",
            value=say_length(content.window_s),
            detail=f"looked at every {say_length(view.every_s)}",
        ),
        Figure(name="Tells", value=streak, detail=f"{content.severity}, no data: {content.no_data}"),
    )


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/alerts` and the page of one."""
    router = APIRouter(include_in_schema=False)
    _add_pages(router, services, renderer)
    _add_actions(router, services)
    return router


def _add_pages(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    alerts = services.alerts

    @router.get(ACTIVE)
    @needs(Permission.ALERTS_READ)
    def list_alerts(request: Request) -> Response:
        now = now_ns()
        views = sorted(alerts.list(), key=lambda view: (view.status.state not in BAD_STATES, view.rule.name))
        units = {view.rule.name: unit_of(view.rule.content) for view in views}
        channels = services.channels.list()
        page = AlertsPage(
            frame=renderer.frame(request, "Alerts", ACTIVE, notice=request.query_params.get("notice")),
            lines=tuple(_line(services, view, now) for view in views),
            changes=tuple(
                build_change(each, units.get(each.rule, "count")) for each in alerts.history(limit=N_CHANGES)
            ),
            channels=tuple(channels),
            places=tuple(_place(channel) for channel in channels),
            counts=tuple(services.channels.count_messages().items()),
            dead=tuple(services.channels.messages(state="dead", limit=20)),
        )
        return renderer.show(page)

    @router.get(f"{ACTIVE}/{{name}}")
    @needs(Permission.ALERTS_READ, Permission.TRACES_READ)
    def show_alert(request: Request, name: str) -> Response:
        now, view = now_ns(), alerts.get(name)
        content = view.rule.content
        plot, problem = None, None
        try:
            plot = draw_rule(services.measures, content, now=now, zoom_href="")
        except CallerError as error:
            problem = error.message
        history = alerts.history(name, limit=N_HISTORY)
        strip = draw_strip(history, view.status.state, now - WEEK_NS, now)
        page = AlertPage(
            frame=renderer.frame(
                request, content.title or name, ACTIVE, notice=request.query_params.get("notice")
            ),
            view=view,
            sentence=say_rule(content),
            figures=build_figures(view),
            plot=plot,
            problem=problem,
            strip=strip,
            summary=summarise(strip),
            changes=tuple(build_change(each, view.unit) for each in history[:N_CHANGES]),
            silences=SILENCES,
            messages=tuple(each for each in services.channels.messages(limit=100) if each.rule == name)[:10],
        )
        return renderer.show(page)


def _add_actions(router: APIRouter, services: ConsoleServices) -> None:
    alerts = services.alerts

    @router.post(f"{ACTIVE}/{{name}}/silence")
    @needs(Permission.ALERTS_WRITE)
    def silence(request: Request, name: str) -> Response:
        caller: Caller = request.state.caller
        seconds = caller.form.get("for_s", "")
        if seconds and not (seconds.isascii() and seconds.isdigit() and len(seconds) < 9):
            raise InvalidInput(f"{seconds[:40]!r} is no length of time.")
        until = now_ns() + int(seconds) * 1_000_000_000 if seconds else None
        alerts.silence(name, until, actor=actor_of(caller))
        return back(name, "Silenced: its state goes on being kept." if until else "The silence is over.")

    @router.post(f"{ACTIVE}/{{name}}/test")
    @needs(Permission.ALERTS_WRITE)
    def test(request: Request, name: str) -> Response:
        caller: Caller = request.state.caller
        try:
            sent = alerts.test(name, actor=actor_of(caller))
        except PenstockError as error:
            return back(name, f"{error.message} {error.hint or ''}".strip())
        return back(name, f"A test is on its way through {len(sent)} channels; how it went stands below.")

    @router.post("/alerts/messages/retry")
    @needs(Permission.ALERTS_WRITE)
    def retry(request: Request) -> Response:
        caller: Caller = request.state.caller
        services.channels.retry(caller.form.get("id", ""))
        return RedirectResponse(link(ACTIVE, {"notice": "The message is tried again."}), status_code=303)


def back(name: str, notice: str) -> Response:
    """Return the way to the page of a rule, with a line about what happened."""
    return RedirectResponse(link(f"{ACTIVE}/{name}", {"notice": notice}), status_code=303)


def _line(services: ConsoleServices, view: AlertView, now: int) -> AlertLine:
    strip = draw_strip(
        services.alerts.history(view.rule.name, limit=N_HISTORY), view.status.state, now - WEEK_NS, now
    )
    unit = unit_of(view.rule.content)
    return AlertLine(
        view=view,
        sentence=say_rule(view.rule.content),
        value=value_of(view),
        bound=say_threshold(view.rule.content.alert, unit).partition(",")[0],
        strip=strip,
        summary=summarise(strip),
    )


def _place(channel: Channel) -> str:
    content = channel.content
    if content.kind == "email":
        return f"{', '.join(content.recipients)} through {content.host}"
    if content.url_secret:
        return f"the secret {content.url_secret}"
    return content.url or f"the variable {content.url_env}"
