"""The forms of alerts and channels, with what a rule would say now and would have said lately."""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.base.errors import CallerError, ConflictError, PenstockError
from penstock.console.alert_forms import (
    KINDS,
    NO_DATA,
    SECURITIES,
    SEVERITIES,
    SIDES,
    ChannelDraft,
    RuleDraft,
    draft_of_channel,
    draft_of_rule,
    read_channel_draft,
    read_rule_draft,
    to_channel,
    to_rule,
)
from penstock.console.alert_words import draw_rule, say_rule
from penstock.console.dashboard_forms import SUBJECTS, suggest_measures
from penstock.console.links import link
from penstock.console.measured import format_value
from penstock.console.pages.alerts import ACTIVE, back
from penstock.console.plots import Plot
from penstock.console.queries import SearchProblem, tell_problem
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.monitors.types import Preview, RuleContent
from penstock.spec.measures import Subject


@dataclass(frozen=True, kw_only=True)
class AlertEditPage(Page):
    """The form of a rule, and what it would say."""

    template: ClassVar[str] = "alert_edit.html"
    draft: RuleDraft
    channels: tuple[str, ...]
    problem: SearchProblem | None
    sentence: str
    preview: Preview | None
    value: str
    plot: Plot | None
    sides: tuple[tuple[str, str], ...] = SIDES
    severities: tuple[tuple[str, str], ...] = SEVERITIES
    no_data: tuple[tuple[str, str], ...] = NO_DATA
    subjects: tuple[tuple[Subject, str], ...] = SUBJECTS
    measures: tuple[tuple[str, str], ...] = suggest_measures()


@dataclass(frozen=True, kw_only=True)
class ChannelEditPage(Page):
    """The form of a channel."""

    template: ClassVar[str] = "channel_edit.html"
    draft: ChannelDraft
    problem: SearchProblem | None
    kinds: tuple[tuple[str, str], ...] = KINDS
    securities: tuple[tuple[str, str], ...] = SECURITIES


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return the forms below `/alerts`."""
    router = APIRouter(include_in_schema=False)
    _add_channels(router, services, renderer)
    _add_rules(router, services, renderer)
    return router


def _add_rules(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    def show(
        request: Request,
        draft: RuleDraft,
        *,
        problem: PenstockError | None = None,
        preview: RuleContent | None = None,
    ) -> Response:
        found = None if preview is None else services.alerts.preview(preview)
        page = AlertEditPage(
            frame=renderer.frame(request, f"Edit {draft.name}" if draft.version else "New alert", ACTIVE),
            draft=draft,
            channels=tuple(channel.name for channel in services.channels.list()),
            problem=None if problem is None else tell_problem(problem),
            sentence="" if preview is None else say_rule(preview),
            preview=found,
            value="" if found is None else format_value(found.value, found.unit),  # type: ignore[arg-type]  # kept as text
            plot=None
            if preview is None
            else draw_rule(services.measures, preview, now=now_ns(), zoom_href=""),
        )
        return renderer.show(page, status=problem.status if problem else 200)

    @router.get(f"{ACTIVE}/new")
    @needs(Permission.ALERTS_WRITE)
    def start(request: Request, measure: str = "error_share", where: str = "") -> Response:
        return show(request, RuleDraft(measure=measure, where=where))

    @router.get(f"{ACTIVE}/{{name}}/edit")
    @needs(Permission.ALERTS_WRITE)
    def edit(request: Request, name: str) -> Response:
        rule = services.alerts.get(name).rule
        return show(request, draft_of_rule(name, rule.content, rule.version))

    @router.post(f"{ACTIVE}/edit")
    @needs(Permission.ALERTS_WRITE, Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def take(request: Request) -> Response:
        caller: Caller = request.state.caller
        step, draft = caller.form.get("step", "preview"), read_rule_draft(caller.form)
        try:
            if step == "delete" and draft.version:
                services.alerts.delete(draft.name)
                return _to_list(f"Deleted the alert {draft.name}; its history stays.")
            content = to_rule(draft)
            if step == "save":
                kept = services.alerts.put(
                    draft.name, content, actor=actor_of(caller), expected_version=draft.version
                )
                return back(
                    kept.rule.name, f"Saved, version {kept.rule.version}. It is looked at within seconds."
                )
            return show(request, draft, preview=content)
        except (CallerError, ConflictError) as error:
            return show(request, draft, problem=error)


def _add_channels(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    channels = services.channels

    def show(request: Request, draft: ChannelDraft, problem: PenstockError | None = None) -> Response:
        page = ChannelEditPage(
            frame=renderer.frame(
                request,
                f"Channel {draft.name}" if draft.version else "New channel",
                ACTIVE,
                notice=request.query_params.get("notice"),
            ),
            draft=draft,
            problem=None if problem is None else tell_problem(problem),
        )
        return renderer.show(page, status=problem.status if problem else 200)

    @router.get(f"{ACTIVE}/channels/new")
    @needs(Permission.ALERTS_WRITE)
    def start(request: Request) -> Response:
        return show(request, ChannelDraft())

    @router.get(f"{ACTIVE}/channels/{{name}}")
    @needs(Permission.ALERTS_READ)
    def edit(request: Request, name: str) -> Response:
        channel = channels.get(name)
        return show(request, draft_of_channel(name, channel.content, channel.version))

    @router.post(f"{ACTIVE}/channels/edit")
    @needs(Permission.ALERTS_WRITE)
    def take(request: Request) -> Response:
        caller: Caller = request.state.caller
        step, draft = caller.form.get("step", "save"), read_channel_draft(caller.form)
        try:
            if step == "delete" and draft.version:
                channels.delete(draft.name)
                return _to_list(f"Deleted the channel {draft.name}.")
            if step == "test" and draft.version:
                channels.test(draft.name, actor=actor_of(caller))
                return _to_list(f"A test is on its way through {draft.name}.")
            kept = channels.put(
                draft.name, to_channel(draft), actor=actor_of(caller), expected_version=draft.version
            )
            return _to_list(f"Saved the channel {kept.name}, version {kept.version}.")
        except (CallerError, ConflictError) as error:
            return show(request, draft, error)


def _to_list(notice: str) -> Response:
    return RedirectResponse(link(ACTIVE, {"notice": notice}), status_code=303)
