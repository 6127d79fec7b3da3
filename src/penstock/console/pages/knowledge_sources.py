"""Sources of a knowledge base: how each stands, and the forms that add, try, edit, pause and remove them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import PenstockError
from penstock.console.knowledge_words import BaseHead, make_head, say_error, say_schedule
from penstock.console.links import link
from penstock.console.pages.knowledge import ACTIVE, find_base
from penstock.console.pages.knowledge_base import SourceLine, line_of_source, say_failure, say_notice
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.console.source_forms import SettingGroups, make_groups, read_settings
from penstock.knowledge.sources.catalogue import describe_kinds
from penstock.knowledge.sources.types import Trial

DEFAULT_KIND = "folder"


@dataclass(frozen=True, kw_only=True)
class SourcesPage(Page):
    """The sources of a base."""

    template: ClassVar[str] = "knowledge_sources.html"
    head: BaseHead
    sources: tuple[SourceLine, ...]


@dataclass(frozen=True, kw_only=True)
class SourceForm(Page):
    """The form of one source, new or known."""

    template: ClassVar[str] = "knowledge_source_edit.html"
    head: BaseHead
    name: str
    is_new: bool
    kind: str
    kinds: tuple[tuple[str, str], ...]
    groups: SettingGroups
    schedule: str
    problem: str
    trial: Trial | None


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/knowledge/NAME/sources` and below."""
    router = APIRouter(include_in_schema=False)
    _add_pages(router, services, renderer)
    _add_forms(router, services, renderer)
    _add_actions(router, services)
    return router


def _add_pages(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    @router.get(f"{ACTIVE}/{{name}}/sources")
    @needs(Permission.KNOWLEDGE_READ)
    def list_sources(request: Request, name: str, notice: str | None = None) -> Response:
        base, sources = find_base(services, name)
        page = SourcesPage(
            frame=renderer.frame(request, f"Sources of {name}", ACTIVE, notice=notice),
            head=make_head(name, base.version if base else None, "sources"),
            sources=tuple(line_of_source(each) for each in sources),
        )
        return renderer.show(page)

    @router.get(f"{ACTIVE}/{{name}}/sources/new")
    @needs(Permission.KNOWLEDGE_WRITE)
    def show_new(request: Request, name: str, kind: str = DEFAULT_KIND) -> Response:
        form = build_form(services, renderer, request, name, kind=kind)
        return renderer.show(form)

    @router.get(f"{ACTIVE}/{{name}}/sources/{{source}}/edit")
    @needs(Permission.KNOWLEDGE_WRITE)
    def show_edit(request: Request, name: str, source: str) -> Response:
        return renderer.show(build_form(services, renderer, request, name, source=source))


def _add_forms(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    @router.post(f"{ACTIVE}/{{name}}/sources/new")
    @needs(Permission.KNOWLEDGE_WRITE)
    def add(request: Request, name: str) -> Response:
        form = request.state.caller.form
        kind, source = form.get("kind", DEFAULT_KIND), form.get("name", "").strip()
        trial = None
        try:
            settings = {key: value for key, value in read_settings(kind, form).items() if value is not None}
            if form.get("do") == "try":
                trial = services.sources.test_settings(kind, settings)
            else:
                services.sources.add(name, source, kind, settings, schedule=_schedule_of(form))
        except PenstockError as error:
            told = build_form(
                services, renderer, request, name, kind=kind, told=form, problem=say_error(error)
            )
            return renderer.show(told, status=error.status)
        if trial is not None:
            return renderer.show(
                build_form(services, renderer, request, name, kind=kind, told=form, trial=trial)
            )
        return say_notice(name, f"{source} is kept. Read it now, or wait for its schedule.", "/sources")

    @router.post(f"{ACTIVE}/{{name}}/sources/{{source}}/edit")
    @needs(Permission.KNOWLEDGE_WRITE)
    def edit(request: Request, name: str, source: str) -> Response:
        form = request.state.caller.form
        row = services.sources.get(name, source)
        trial = None
        try:
            settings = read_settings(row.kind, form)
            if form.get("do") == "try":
                merged = {
                    key: value for key, value in {**row.settings, **settings}.items() if value is not None
                }
                trial = services.sources.test_settings(row.kind, merged)
            else:
                services.sources.edit(name, source, settings, schedule=_schedule_of(form))
        except PenstockError as error:
            told = build_form(
                services, renderer, request, name, source=source, told=form, problem=say_error(error)
            )
            return renderer.show(told, status=error.status)
        if trial is not None:
            return renderer.show(
                build_form(services, renderer, request, name, source=source, told=form, trial=trial)
            )
        return say_notice(name, f"{source} is changed, from its next run on.", "/sources")


def _add_actions(router: APIRouter, services: ConsoleServices) -> None:
    sources = services.sources

    @router.post(f"{ACTIVE}/{{name}}/sources/{{source}}/pause")
    @needs(Permission.KNOWLEDGE_WRITE)
    def pause(name: str, source: str) -> Response:
        try:
            sources.pause(name, source)
        except PenstockError as error:
            return say_failure(name, error, "/sources")
        return say_notice(name, f"{source} is paused; its documents stay.", "/sources")

    @router.post(f"{ACTIVE}/{{name}}/sources/{{source}}/resume")
    @needs(Permission.KNOWLEDGE_WRITE)
    def resume(name: str, source: str) -> Response:
        try:
            sources.resume(name, source)
        except PenstockError as error:
            return say_failure(name, error, "/sources")
        return say_notice(name, f"{source} is read again.", "/sources")

    @router.post(f"{ACTIVE}/{{name}}/sources/{{source}}/remove")
    @needs(Permission.KNOWLEDGE_WRITE)
    def remove(request: Request, name: str, source: str) -> Response:
        keeps = request.state.caller.form.get("documents") == "keep"
        try:
            sources.remove(name, source, keep_documents=keeps)
        except PenstockError as error:
            return say_failure(name, error, "/sources")
        what = "stay as they are" if keeps else "go with the next ingest"
        has_page = bool(sources.list_sources(name)) or any(
            each.name == name for each in services.knowledge.list_bases()
        )
        if not has_page:
            return RedirectResponse(link(ACTIVE, {"notice": f"{source} is removed."}), status_code=303)
        return say_notice(name, f"{source} is removed; its documents {what}.", "/sources")


def build_form(
    services: ConsoleServices,
    renderer: Renderer,
    request: Request,
    base: str,
    *,
    kind: str = DEFAULT_KIND,
    source: str = "",
    told: Mapping[str, str] | None = None,
    problem: str = "",
    trial: Trial | None = None,
) -> SourceForm:
    """Return the form of a new source of a kind, or of a known one; `told` is what a form said that came back."""
    settings: Mapping[str, Any] = {}
    schedule = ""
    if source:
        row = services.sources.get(base, source)
        kind, settings = row.kind, row.settings
        schedule = say_schedule(row.schedule) if row.schedule else ""
    live = next((each for each in services.knowledge.list_bases() if each.name == base), None)
    title = f"Source {source}" if source else "A new source"
    return SourceForm(
        frame=renderer.frame(request, f"{title} of {base}", ACTIVE),
        head=make_head(base, live.version if live else None, "sources"),
        name=source or (told or {}).get("name", "" if services.sources.list_sources(base) else "main"),
        is_new=not source,
        kind=kind,
        kinds=tuple((each["kind"], each["about"]) for each in describe_kinds()),
        groups=make_groups(kind, settings, told or {}),
        schedule=(told or {}).get("schedule", schedule),
        problem=problem,
        trial=trial,
    )


def _schedule_of(form: Mapping[str, str]) -> str | None:
    return form.get("schedule", "").strip() or None
