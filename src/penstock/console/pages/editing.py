"""Changing a provider, route, limit or price: a form, then what would differ, then the change.

Nothing is kept between the steps but in the browser: the review page carries what was written, and the version that
was read. Whoever changed the object in between is seen before anything is lost.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput, NotFound, PenstockError
from penstock.console.changes import ShownChange, show_changes
from penstock.console.rendering import Page, Renderer
from penstock.console.section_fields import flatten, gather
from penstock.console.section_forms import FormGroup, build_form
from penstock.console.services import ConsoleServices
from penstock.deploy.history import compare
from penstock.deploy.object_views import ObjectView
from penstock.deploy.objects import (
    KINDS,
    SECTIONS,
    ObjectChanged,
    ObjectExists,
    ObjectInvalid,
    ObjectKind,
    UnknownObject,
    parse_object,
)
from penstock.dialects.quirks import QUIRKS

ACTIVE = {"provider": "/providers", "route": "/routes", "limit": "/limits", "price": "/configuration"}
LISTS = {"provider": "/providers", "route": "/routes", "limit": "/limits", "price": "/prices"}
N_MORE = 4
_ADVICE = {
    "provider": "Lower-case letters, digits, dot, dash, underscore. Models are called NAME/MODEL.",
    "route": "What clients put into “model”.",
    "limit": "Stands in refusals, so that a person knows which rule to look up.",
    "price": "PROVIDER/MODEL; a model may end in *.",
}


@dataclass(frozen=True, kw_only=True)
class EditPage(Page):
    """The form of one object."""

    template: ClassVar[str] = "edit.html"
    kind: ObjectKind
    name: str
    is_new: bool
    version: int
    """The version that was read; 0 for a new object."""
    base: str
    """What was read, as JSON, so that a conflict can be told."""
    form: FormGroup
    problems: tuple[str, ...]
    hint: str | None
    name_advice: str
    suggestions: tuple[tuple[str, tuple[str, ...]], ...]
    n_blank: int
    back: str


@dataclass(frozen=True, kw_only=True)
class ReviewPage(Page):
    """What a change would do, before it is made."""

    template: ClassVar[str] = "review.html"
    kind: ObjectKind
    name: str
    is_new: bool
    is_deletion: bool
    version: int
    base: str
    content: str
    note: str
    changes: tuple[ShownChange, ...]
    warnings: tuple[str, ...]
    conflict: str | None
    theirs: tuple[ShownChange, ...]
    """Of a conflict: what somebody else changed since the object was read."""
    back: str


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a posted form asks for."""

    kind: ObjectKind
    name: str
    is_new: bool
    version: int
    base: str
    fields: Mapping[str, str]

    @property
    def content(self) -> dict[str, Any] | None:
        """What a review carries; None for a deletion."""
        try:
            found = json.loads(self.fields.get("_content", "null"))
        except ValueError as error:
            raise InvalidInput("The form could not be read.") from error
        return found if isinstance(found, dict) else None


def page_of(kind: ObjectKind, name: str) -> str:
    """Return the page of an object; limits and prices stand in their list."""
    base = LISTS[kind]
    return f"{base}/{quote(name, safe='/')}" if kind in {"provider", "route"} else base


def edit_href(kind: ObjectKind, name: str | None = None) -> str:
    """Return where an object is edited, or a new one is made."""
    return f"/edit/{kind}" + (f"?{urlencode({'name': name})}" if name is not None else "")


class Editor:
    """The steps of a change. Fields of the steps begin with an underscore, so that no key of an object is one of them."""

    def __init__(self, services: ConsoleServices, renderer: Renderer) -> None:
        self._services = services
        self._configuration = services.configuration
        self._renderer = renderer

    def begin(self, request: Request, kind: ObjectKind, name: str | None, like: str | None) -> Response:
        """Show the form of an object, of a new one, or of a new one that begins as a copy."""
        view: ObjectView | None = None
        if name is not None:
            view = self._configuration.get(kind, name)
            if view.content is None:
                # says where it is kept instead
                self._configuration.get_stored(kind, name)
        elif like is not None:
            view = self._configuration.get(kind, like)
        content = dict(view.content or {}) if view is not None else {}
        base = json.dumps(content) if name is not None else "{}"
        wish = Wish(
            kind=kind,
            name=name or like or "",
            is_new=name is None,
            version=(view.version or 0) if view is not None and name is not None else 0,
            base=base,
            fields=flatten(content),
        )
        return self._form(request, wish, wish.fields)

    def take(self, request: Request, kind: ObjectKind) -> Response:
        """Do the step that a posted form asks for."""
        fields = request.state.caller.form
        version = fields.get("_version", "0")
        wish = Wish(
            kind=kind,
            name=fields.get("_object_name", "").strip(),
            is_new=fields.get("_is_new") == "yes",
            version=int(version) if version.isascii() and version.isdigit() else 0,
            base=fields.get("_base", "{}"),
            fields=fields,
        )
        step = fields.get("_step", "review")
        if step == "apply":
            return self._apply(request, wish)
        if step == "back":
            return self._form(request, wish, flatten(wish.content or {}))
        if step == "more":
            return self._form(request, wish, fields, n_blank=N_MORE)
        if step == "delete":
            stored = self._configuration.get_stored(kind, wish.name)
            kept = Wish(
                kind=kind,
                name=wish.name,
                is_new=False,
                version=stored.version,
                base=json.dumps(dict(stored.content)),
                fields=fields,
            )
            return self._review(request, kept, None)
        return self._check(request, wish)

    def _check(self, request: Request, wish: Wish) -> Response:
        found = gather(SECTIONS[wish.kind], wish.fields)
        if found.errors:
            unplaced = tuple(text for name, text in found.errors.items() if not name)
            return self._form(request, wish, wish.fields, errors=found.errors, problems=unplaced)
        try:
            parse_object(wish.kind, wish.name, found.content)
            if wish.is_new:
                self._refuse_taken(wish)
            return self._review(request, wish, found.content)
        except PenstockError as error:
            return self._form(request, wish, wish.fields, problems=_problems_of(error), hint=error.hint)

    def _refuse_taken(self, wish: Wish) -> None:
        try:
            stored = self._configuration.get_stored(wish.kind, wish.name)
        except PenstockError:
            return
        raise ObjectExists(
            f"There is a {stored.kind} {stored.name!r} already.",
            hint="Choose another name, or edit that one.",
        )

    def _review(
        self, request: Request, wish: Wish, content: Mapping[str, Any] | None, *, conflict: str | None = None
    ) -> Response:
        draft = self._configuration.validate(wish.kind, wish.name, content)
        present, base = self._present(wish), wish.base
        theirs: tuple[ShownChange, ...] = ()
        version = wish.version
        if conflict is not None:
            read = _load(base)
            section = f"{wish.kind}s"
            theirs = show_changes(
                compare(
                    {section: {wish.name: read} if read else {}},
                    {
                        section: {wish.name: present.content}
                        if present is not None and present.content
                        else {}
                    },
                )
            )
            version = (present.version or 0) if present is not None else 0
            base = json.dumps(dict(present.content or {})) if present is not None else "{}"
        verb = "Delete" if content is None else "Create" if wish.is_new else "Change"
        page = ReviewPage(
            frame=self._renderer.frame(request, f"{verb} {wish.kind} {wish.name}", ACTIVE[wish.kind]),
            kind=wish.kind,
            name=wish.name,
            is_new=wish.is_new and present is None,
            is_deletion=content is None,
            version=version,
            base=base,
            content=json.dumps(content),
            note=wish.fields.get("_note", ""),
            changes=show_changes(draft.changes),
            warnings=draft.warnings,
            conflict=conflict,
            theirs=theirs,
            back=page_of(wish.kind, wish.name) if not wish.is_new else LISTS[wish.kind],
        )
        return self._renderer.show(page, status=200 if conflict is None else 409)

    def _apply(self, request: Request, wish: Wish) -> Response:
        content, actor = wish.content, actor_of(request.state.caller)
        note = wish.fields.get("_note", "").strip()[:2000]
        try:
            if content is None:
                self._configuration.delete(
                    wish.kind, wish.name, actor=actor, note=note, expected_version=wish.version
                )
            else:
                self._configuration.put(
                    wish.kind, wish.name, content, actor=actor, note=note, expected_version=wish.version
                )
        except (ObjectChanged, UnknownObject) as error:
            if content is None and self._present(wish) is None:
                raise
            return self._review(request, wish, content, conflict=error.message)
        except PenstockError as error:
            if content is None:
                raise
            return self._form(request, wish, flatten(content), problems=_problems_of(error), hint=error.hint)
        newest = self._configuration.history(limit=1)
        number = f" Configuration {newest[0].number} is out." if newest else ""
        told = "is deleted" if content is None else "is created" if wish.version == 0 else "is changed"
        where = LISTS[wish.kind] if content is None else page_of(wish.kind, wish.name)
        notice = urlencode({"notice": f"The {wish.kind} {wish.name} {told}.{number}"})
        return RedirectResponse(f"{where}?{notice}", status_code=303)

    def _present(self, wish: Wish) -> ObjectView | None:
        try:
            found = self._configuration.get(wish.kind, wish.name)
        except UnknownObject:
            return None
        return found if found.content is not None else None

    def _form(
        self,
        request: Request,
        wish: Wish,
        fields: Mapping[str, str],
        *,
        errors: Mapping[str, str] | None = None,
        problems: tuple[str, ...] = (),
        hint: str | None = None,
        n_blank: int = 1,
    ) -> Response:
        title = f"New {wish.kind}" if wish.is_new else f"Edit {wish.kind} {wish.name}"
        page = EditPage(
            frame=self._renderer.frame(request, title, ACTIVE[wish.kind]),
            kind=wish.kind,
            name=wish.name,
            is_new=wish.is_new,
            version=wish.version,
            base=wish.base,
            form=build_form(SECTIONS[wish.kind], fields, errors or {}, n_blank=n_blank),
            problems=problems,
            hint=hint,
            name_advice=_ADVICE[wish.kind],
            suggestions=self._suggestions(),
            n_blank=n_blank,
            back=page_of(wish.kind, wish.name) if not wish.is_new else LISTS[wish.kind],
        )
        return self._renderer.show(page, status=400 if errors or problems else 200)

    def _suggestions(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        snapshot = self._services.read_snapshot()
        routes = tuple(each.name for each in snapshot.routes) if snapshot else ()
        return (
            ("provider", tuple(each.name for each in snapshot.providers) if snapshot else ()),
            ("route", routes),
            ("replacement", routes),
            ("embedding_route", routes),
            ("secret", tuple(each.name for each in self._services.secrets.list())),
            ("quirks", tuple(sorted(QUIRKS))),
        )


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/edit/{kind}`."""
    router = APIRouter(include_in_schema=False)
    editor = Editor(services, renderer)

    @router.get("/edit/{kind}")
    @needs(Permission.CONFIG_READ)
    def show_form(request: Request, kind: str, name: str | None = None, like: str | None = None) -> Response:
        return editor.begin(request, _kind(kind), name, like)

    @router.post("/edit/{kind}")
    @needs(Permission.CONFIG_WRITE, Permission.CONFIG_READ)
    def take_form(request: Request, kind: str) -> Response:
        return editor.take(request, _kind(kind))

    return router


def _kind(word: str) -> ObjectKind:
    if word not in KINDS:
        raise NotFound(f"There is no kind of object called {word!r}.", hint=f"Known: {', '.join(KINDS)}.")
    return word


def _problems_of(error: PenstockError) -> tuple[str, ...]:
    told = error.fields.get("problems") if isinstance(error, ObjectInvalid) else None
    if isinstance(told, list | tuple) and told:
        return tuple(str(each) for each in told)
    return (error.message,)


def _load(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
