"""Apps that answer from knowledge: the list, one version with its declaration, what changed, and the form of a new version."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.alias_claims import check_claim
from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission
from penstock.apps.service import AppVersion
from penstock.apps.types import AppDeclaration, declaration_content
from penstock.base.errors import InvalidInput, PenstockError
from penstock.console.knowledge_words import say_error
from penstock.console.links import link
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices

ACTIVE = "/apps"
STEP_WORDS: Mapping[str, str] = {
    "rewrite": "rewrite the question",
    "expand": "ask it in other words",
    "retrieve": "find passages",
    "filter": "throw out what does not help",
    "answer": "answer from them",
    "check": "check that they bear it out",
}
_SHOWN_ABOVE = frozenset({"name", "knowledge", "model", "description", "steps"})


@dataclass(frozen=True, kw_only=True)
class AppsPage(Page):
    """All apps."""

    template: ClassVar[str] = "apps.html"
    apps: tuple[AppVersion, ...]
    damaged: tuple[tuple[str, str], ...]
    """Name and why it cannot be read."""


@dataclass(frozen=True, kw_only=True)
class AppField:
    """One member of a declaration."""

    name: str
    value: str
    is_default: bool
    before: str | None = None
    """In the version it is held against, where that differs."""


@dataclass(frozen=True, kw_only=True)
class AppPage(Page):
    """One version."""

    template: ClassVar[str] = "app.html"
    app: AppVersion
    versions: tuple[AppVersion, ...]
    steps: tuple[tuple[str, str], ...]
    fields: tuple[AppField, ...]
    changes: tuple[Mapping[str, Any], ...]
    previous: int | None
    warnings: tuple[str, ...]
    has_base: bool
    declaration: str
    traces_href: str


@dataclass(frozen=True, kw_only=True)
class AppForm(Page):
    """The form of a new app, or of a new version that came back."""

    template: ClassVar[str] = "app_edit.html"
    name: str
    declaration: str
    note: str
    reason: str
    problem: str
    warnings: tuple[str, ...]
    checked: bool


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/apps` and below, and `/app-new`."""
    router = APIRouter(include_in_schema=False)
    _add_pages(router, services, renderer)
    _add_forms(router, services, renderer)
    return router


def find_apps(services: ConsoleServices) -> tuple[tuple[AppVersion, ...], tuple[tuple[str, str], ...]]:
    """Return the apps that answer, and those whose content cannot be read with why."""
    found: list[AppVersion] = []
    damaged: list[tuple[str, str]] = []
    for asset in services.registry.list_assets("app"):
        try:
            version = services.apps.get(asset.name)
        except PenstockError as error:
            damaged.append((asset.name, error.message))
        else:
            if not version.is_deleted:
                found.append(version)
    return tuple(found), tuple(damaged)


def _add_pages(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    @router.get(ACTIVE)
    @needs(Permission.KNOWLEDGE_READ)
    def list_apps(request: Request, notice: str | None = None) -> Response:
        apps, damaged = find_apps(services)
        frame = renderer.frame(request, "Apps", ACTIVE, notice=notice)
        return renderer.show(AppsPage(frame=frame, apps=apps, damaged=damaged))

    @router.get(f"{ACTIVE}/{{name}}")
    @needs(Permission.KNOWLEDGE_READ)
    def show_live(name: str) -> Response:
        live = services.apps.get(name)
        return RedirectResponse(f"{ACTIVE}/{quote(live.name)}/{live.number}", status_code=303)

    @router.get(f"{ACTIVE}/{{name}}/{{number:int}}")
    @needs(Permission.KNOWLEDGE_READ)
    def show_app(request: Request, name: str, number: int, notice: str | None = None) -> Response:
        app = services.apps.get(f"{name}@{number}")
        versions = tuple(services.apps.list_versions(name))
        previous = next((each.number for each in versions if each.number < number), None)
        try:
            warnings = tuple(services.apps.check(declaration_content(app.declaration))[1])
        except PenstockError as error:
            warnings = (error.message,)
        bases = {each.name for each in services.knowledge.list_bases()}
        page = AppPage(
            frame=renderer.frame(request, app.label, ACTIVE, notice=notice),
            app=app,
            versions=versions,
            steps=tuple((step, STEP_WORDS[step]) for step in app.declaration.steps),
            fields=_list_fields(app.declaration),
            changes=tuple(services.apps.diff(f"{name}@{previous}", f"{name}@{number}")) if previous else (),
            previous=previous,
            warnings=warnings,
            has_base=app.declaration.knowledge in bases,
            declaration=_write(declaration_content(app.declaration)),
            traces_href=link("/traces", {"route": name, "range": "7d"}),
        )
        return renderer.show(page)

    @router.post(f"{ACTIVE}/{{name}}/move")
    @needs(Permission.ALIASES_MOVE)
    def move(request: Request, name: str) -> Response:
        caller: Caller = request.state.caller
        number = caller.form.get("number", "")
        here = f"{ACTIVE}/{quote(name)}/{number}"
        alias = caller.form.get("alias", "").strip() or "prod"
        try:
            check_claim(
                caller.key,
                is_protected=services.registry.protects(alias),
                override_reason=caller.form.get("reason"),
            )
            moved = services.apps.move(
                f"{name}@{number}",
                alias,
                actor=actor_of(caller),
                reason=caller.form.get("reason", "").strip() or None,
            )
        except PenstockError as error:
            back = here if number.isdigit() else ACTIVE
            return RedirectResponse(link(back, {"notice": say_error(error)}), status_code=303)
        services.take_up_alias(moved)
        told = f"{moved.alias} of {name} names version {moved.to_number} now."
        return RedirectResponse(link(here, {"notice": told}), status_code=303)


def _add_forms(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    @router.get("/app-new")
    @needs(Permission.KNOWLEDGE_WRITE)
    def show_form(request: Request, knowledge: str = "", version: str = "") -> Response:
        if version:
            app = services.apps.get(version)
            told, name = declaration_content(app.declaration), app.name
        else:
            told, name = _example(services, knowledge), ""
        return renderer.show(_form(renderer, request, name=name, declaration=_write(told)))

    @router.post("/app-new")
    @needs(Permission.KNOWLEDGE_WRITE)
    def create(request: Request) -> Response:
        caller: Caller = request.state.caller
        text, note = caller.form.get("declaration", ""), caller.form.get("note", "").strip()
        reason, name = caller.form.get("reason", "").strip(), caller.form.get("name", "")
        warnings: list[str] = []
        try:
            told = _read(text)
            if caller.form.get("do") != "check":
                check_claim(caller.key, is_protected=True, override_reason=reason)
                changed = services.apps.create(told, actor=actor_of(caller), note=note, reason=reason or None)
                services.publish_snapshot(actor_of(caller), f"app {changed.version.label}")
                said = _say_change(changed.version, is_new=changed.is_new)
                where = f"{ACTIVE}/{quote(changed.version.name)}/{changed.version.number}"
                return RedirectResponse(link(where, {"notice": said}), status_code=303)
            _, warnings = services.apps.check(told)
        except PenstockError as error:
            page = _form(
                renderer,
                request,
                name=name,
                declaration=text,
                note=note,
                reason=reason,
                problem=say_error(error),
            )
            return renderer.show(page, status=error.status)
        page = _form(
            renderer,
            request,
            name=name,
            declaration=text,
            note=note,
            reason=reason,
            warnings=tuple(warnings),
            checked=True,
        )
        return renderer.show(page)


def _form(
    renderer: Renderer,
    request: Request,
    *,
    name: str,
    declaration: str,
    note: str = "",
    reason: str = "",
    problem: str = "",
    warnings: tuple[str, ...] = (),
    checked: bool = False,
) -> AppForm:
    title = f"A new version of {name}" if name else "A new app"
    return AppForm(
        frame=renderer.frame(request, title, ACTIVE),
        name=name,
        declaration=declaration,
        note=note,
        reason=reason,
        problem=problem,
        warnings=warnings,
        checked=checked,
    )


def _example(services: ConsoleServices, knowledge: str) -> dict[str, Any]:
    bases = [each.name for each in services.knowledge.list_bases()]
    snapshot = services.read_snapshot()
    models = [route.name for route in snapshot.routes if route.kind == "chat"] if snapshot else []
    base = knowledge or (bases[0] if bases else "handbook")
    return {
        "name": "helpdesk",
        "knowledge": base,
        "model": next((name for name in models if name != base and "*" not in name), "pocket"),
        "description": "What it is for, in a sentence",
    }


def _list_fields(app: AppDeclaration) -> tuple[AppField, ...]:
    plain = msgspec.to_builtins(AppDeclaration(name=app.name, knowledge=app.knowledge, model=app.model))
    own: dict[str, Any] = msgspec.to_builtins(app)
    return tuple(
        AppField(name=name, value=_say(value), is_default=value == plain[name])
        for name, value in own.items()
        if name not in _SHOWN_ABOVE
    )


def _say(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _write(told: Mapping[str, Any]) -> str:
    return json.dumps(told, indent=2, ensure_ascii=False)


def _read(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"The declaration is no JSON: {error}.") from error
    if not isinstance(told, dict):
        raise InvalidInput("A declaration is a JSON object.")
    return told


def _say_change(version: AppVersion, *, is_new: bool) -> str:
    if not is_new:
        return "That is the version that stood there already."
    if "prod" in version.aliases:
        return f"{version.label} answers now."
    return f"{version.label} is kept. It answers once an alias is moved to it."
