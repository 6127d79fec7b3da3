"""Prompts over REST: versions, aliases, differences, filling in, files."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.alias_claims import check_claim
from penstock.access.declarations import needs
from penstock.access.permissions import Permission, check_permission
from penstock.base.errors import InvalidInput
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.prompts.files import write_prompt
from penstock.prompts.imports import import_prompts
from penstock.prompts.service import read_content
from penstock.prompts.types import PromptVersion
from penstock.spec.prompts import PromptContent

MAX_FILES = 1000


class NewPromptVersion(BaseModel):
    """Body of a new version."""

    model_config = ConfigDict(extra="forbid")
    content: dict[str, Any]
    note: str = ""


class RenderBody(BaseModel):
    """What to fill in: a saved prompt by reference, or content that is not saved."""

    model_config = ConfigDict(extra="forbid")
    prompt: str | None = None
    content: dict[str, Any] | None = None
    variables: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    model: str | None = None
    """Whose tokenizer counts; the prompt's own unless told."""


class PromptMove(BaseModel):
    """Body of an alias move: where to, why, and on what evidence."""

    model_config = ConfigDict(extra="forbid")
    version: str
    """A number, another alias, or a digest."""
    evidence: dict[str, Any] | None = None
    reason: str | None = None
    override_reason: str | None = None


class PromptRollback(BaseModel):
    """Body of a rollback."""

    model_config = ConfigDict(extra="forbid")
    reason: str | None = None


class PromptFile(BaseModel):
    """One prompt of a file."""

    model_config = ConfigDict(extra="forbid")
    name: str
    file: str = ""
    content: dict[str, Any]


class ImportBody(BaseModel):
    """Body of an import."""

    model_config = ConfigDict(extra="forbid")
    prompts: Annotated[list[PromptFile], Field(max_length=MAX_FILES)]
    note: str = ""
    only_check: bool = False


def describe_version(version: PromptVersion) -> dict[str, Any]:
    """Return a version as REST shows it."""
    return {
        "name": version.name,
        "number": version.number,
        "label": version.label,
        "digest": version.digest,
        "stamp": version.stamp,
        "aliases": version.aliases,
        "content": version.content,
        "note": version.note,
        "created_ns": version.created_ns,
        "parents": version.parents,
        "is_new": version.is_new,
    }


def _reference(name: str, version: str | None) -> str:
    return f"prompt:{name}@{version}" if version else f"prompt:{name}"


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/prompts`."""
    router = APIRouter(prefix="/api/v1/prompts", tags=["prompts"])
    prompts = services.prompts

    @router.get("")
    @needs(Permission.PROMPTS_READ)
    def list_prompts() -> Response:
        """All prompts: aliases, variables, when they changed last."""
        return json_reply({"prompts": prompts.list_prompts()})

    @router.post("/render")
    @needs(Permission.PROMPTS_READ)
    def render_prompt(request: Request, body: RenderBody) -> Response:
        """What a prompt makes of variables, and how many tokens that is.

        Examples of unsaved content come from a dataset that its author names: that takes the right to read datasets.
        """
        if (body.prompt is None) == (body.content is None):
            raise InvalidInput("Give either `prompt` or `content`.")
        source = body.prompt if body.prompt is not None else read_content(body.content)
        if isinstance(source, PromptContent) and source.few_shot is not None and source.few_shot.dataset:
            check_permission(request.state.caller.key, Permission.DATASETS_READ)
            if source.few_shot.pick == "nearest":
                check_permission(request.state.caller.key, Permission.MODELS_CALL)
        return json_reply(prompts.preview(source, body.variables, history=body.history, model=body.model))

    @router.post("/check")
    @needs(Permission.PROMPTS_READ)
    def check_prompt(body: NewPromptVersion) -> Response:
        """Everything that is wrong with a prompt that is not saved."""
        return json_reply({"problems": prompts.check(read_content(body.content))})

    @router.post("/import")
    @needs(Permission.PROMPTS_WRITE)
    def import_files(request: Request, body: ImportBody) -> Response:
        """Make versions of prompts that files hold, where they differ from what is registered."""
        found = [(each.name, each.file or each.name, read_content(each.content)) for each in body.prompts]
        done = import_prompts(
            prompts,
            found,
            note=body.note,
            actor=request.state.caller.key.name,
            only_check=body.only_check,
        )
        return json_reply({"prompts": done})

    _add_one(router, services)
    return router


def _add_one(router: APIRouter, services: ControlServices) -> None:
    """Add what is asked of one prompt."""
    prompts = services.prompts

    @router.get("/{name}")
    @needs(Permission.PROMPTS_READ)
    def show_prompt(
        name: str,
        version: Annotated[str | None, Query(description="A number, an alias or a digest.")] = None,
        alias: str | None = None,
        with_examples: bool = False,
    ) -> Response:
        """One version: what `version` or `alias` names, else `prod`, else the newest."""
        reference = _reference(name, version or alias)
        if not with_examples:
            return json_reply(describe_version(prompts.get(reference)))
        found, rows = prompts.fetch(reference)
        return json_reply({**describe_version(found), "examples": rows})

    @router.get("/{name}/file")
    @needs(Permission.PROMPTS_READ)
    def show_file(name: str, version: str | None = None) -> Response:
        """One version as the text of a file."""
        text = write_prompt(prompts.get(_reference(name, version)).content)
        return Response(text, media_type="text/plain; charset=utf-8")

    @router.get("/{name}/versions")
    @needs(Permission.PROMPTS_READ)
    def list_versions(name: str) -> Response:
        """All versions, newest first."""
        return json_reply({"versions": [describe_version(each) for each in prompts.list_versions(name)]})

    @router.post("/{name}/versions")
    @needs(Permission.PROMPTS_WRITE)
    def create_version(request: Request, name: str, body: NewPromptVersion) -> Response:
        """Make a version; the same content again gives the same version."""
        version = prompts.create(
            name, read_content(body.content), note=body.note, actor=request.state.caller.key.name
        )
        return json_reply(describe_version(version), status=201 if version.is_new else 200)

    @router.get("/{name}/diff")
    @needs(Permission.PROMPTS_READ)
    def diff_versions(name: str, before: str, after: str | None = None) -> Response:
        """How one version differs from another, by turn and by word."""
        return json_reply(prompts.diff(_reference(name, before), _reference(name, after)))

    @router.get("/{name}/uses")
    @needs(Permission.PROMPTS_READ)
    def show_uses(name: str) -> Response:
        """Who asks the prompt, and when it was asked last."""
        return json_reply(prompts.uses(name))

    @router.get("/{name}/history")
    @needs(Permission.PROMPTS_READ)
    def show_history(name: str, alias: str | None = None) -> Response:
        """Alias moves with their evidence, newest first."""
        return json_reply({"moves": prompts.history(name, alias)})

    @router.post("/{name}/aliases/{alias}/move")
    @needs(Permission.ALIASES_MOVE)
    def move_alias(request: Request, name: str, alias: str, body: PromptMove) -> Response:
        """Point an alias at a version; it answers so at once."""
        key, evidence = request.state.caller.key, services.gates.claimed(body.evidence)
        check_claim(
            key,
            is_protected=services.registry.protects(alias),
            override_reason=body.override_reason,
            evidence=evidence,
        )
        move = prompts.move(
            _reference(name, body.version),
            alias,
            actor=key.name,
            evidence=evidence,
            reason=body.reason,
            override_reason=body.override_reason,
        )
        services.take_up_alias(move)
        return json_reply(move)

    @router.post("/{name}/aliases/{alias}/rollback")
    @needs(Permission.ALIASES_MOVE)
    def rollback_alias(request: Request, name: str, alias: str, body: PromptRollback) -> Response:
        """Take back the newest move of an alias."""
        move = prompts.rollback(name, alias, actor=request.state.caller.key.name, reason=body.reason)
        services.take_up_alias(move)
        return json_reply(move)
