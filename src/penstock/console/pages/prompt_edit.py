"""The editor of prompts: the form, the check of what is in it while somebody writes, and the difference before it is saved.

Saving itself is REST's `POST /api/v1/prompts/NAME/versions`: the page stays as it is until that has answered.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from fastapi import APIRouter, Body
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput, NotFound, PenstockError
from penstock.console.pages.prompts import ACTIVE
from penstock.console.prompt_words import DraftProblem, DraftReport, inspect_draft
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.prompts.diff import PromptDiff, diff_prompts
from penstock.prompts.service import read_content
from penstock.prompts.types import PromptVersion
from penstock.spec.assets import parse_asset_ref
from penstock.spec.prompts import PromptContent, PromptMessage, PromptVariable
from penstock.templating.errors import InvalidPrompt

ROLES = ("system", "developer", "user", "assistant", "slot")
BEGINNING = PromptContent(
    messages=[
        PromptMessage(role="system", content=""),
        PromptMessage(role="user", content="{{ question }}"),
    ],
    variables={"question": PromptVariable()},
)
"""What a new prompt begins with."""


@dataclass(frozen=True, kw_only=True)
class PromptEditPage(Page):
    """The editor."""

    template: ClassVar[str] = "prompt_edit.html"
    name: str
    """Empty for a new prompt."""
    version: PromptVersion | None
    """What the form begins with."""
    latest: int
    content_json: str
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    types: tuple[str, ...] = ("text", "number", "integer", "boolean", "list", "object", "messages")


@dataclass(frozen=True, kw_only=True)
class DraftDiffPage(Page):
    """How a draft differs from the version it was made from: a piece of the editor."""

    template: ClassVar[str] = "prompt_draft_diff.html"
    diff: PromptDiff
    is_new: bool


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return the editor's pages and what its script asks."""
    router = APIRouter(include_in_schema=False)
    _add_pages(router, services, renderer)
    _add_questions(router, services, renderer)
    return router


def _add_pages(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    def show(request: Request, version: PromptVersion | None, latest: int) -> Response:
        content = BEGINNING if version is None else version.content
        snapshot = services.read_snapshot()
        page = PromptEditPage(
            frame=renderer.frame(
                request, "New prompt" if version is None else f"Edit {version.label}", ACTIVE
            ),
            name="" if version is None else version.name,
            version=version,
            latest=latest,
            content_json=msgspec.json.encode(content).decode(),
            models=tuple(
                route.name
                for route in (snapshot.routes if snapshot else ())
                if route.kind != "embedding" and "*" not in route.name
            ),
            datasets=tuple(each.name for each in services.registry.list_assets("dataset")),
        )
        return renderer.show(page)

    @router.get(f"{ACTIVE}/new")
    @needs(Permission.PROMPTS_WRITE, Permission.PROMPTS_READ)
    def begin(request: Request) -> Response:
        return show(request, None, 0)

    @router.get(f"{ACTIVE}/{{name}}/edit")
    @needs(Permission.PROMPTS_WRITE, Permission.PROMPTS_READ)
    def edit(request: Request, name: str, version: str = "latest") -> Response:
        latest = services.prompts.get(f"prompt:{name}@latest")
        found = latest if version == "latest" else services.prompts.get(f"prompt:{name}@{version}")
        return show(request, found, latest.number)


def _add_questions(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    @router.post(f"{ACTIVE}/-/check")
    @needs(Permission.PROMPTS_READ)
    def check_draft(body: dict[str, Any] = Body()) -> Response:
        try:
            report = inspect_draft(read_content(body.get("content")))
        except InvalidPrompt as error:
            problems = error.fields.get("problems")
            told = problems if isinstance(problems, list) else [error.message]
            report = DraftReport(
                problems=tuple(DraftProblem(text=str(each)) for each in told), undeclared={}, unused=()
            )
        name = body.get("name")
        return JSONResponse({**_plain(report), "name_problem": _name_problem(services, name)})

    @router.post(f"{ACTIVE}/-/difference")
    @needs(Permission.PROMPTS_READ)
    def show_difference(request: Request, body: dict[str, Any] = Body()) -> Response:
        base = body.get("base")
        if base is not None and not isinstance(base, str):
            raise InvalidInput("`base` must be a version such as prompt:NAME@3.")
        content = services.prompts.pinned(read_content(body.get("content")))
        before = services.prompts.get(base).content if base else PromptContent(messages=[])
        page = DraftDiffPage(
            frame=renderer.frame(request, "Difference", ACTIVE),
            diff=diff_prompts(before, content, names=(base or "nothing", "what you wrote")),
            is_new=not base,
        )
        return renderer.show(page)


def _plain(report: DraftReport) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(report)
    return found


def _name_problem(services: ConsoleServices, name: object) -> str | None:
    """Return what is wrong with the name of a new prompt; None when nothing is, or when none was asked about."""
    if not isinstance(name, str):
        return None
    try:
        wanted = parse_asset_ref(f"prompt:{name}")
        if wanted.name != name:
            return "A name has no @."
        services.prompts.get(f"prompt:{name}@latest")
    except NotFound:
        return None
    except PenstockError as error:
        return error.message
    return f"There is a prompt {name!r} already; saving makes its next version."
