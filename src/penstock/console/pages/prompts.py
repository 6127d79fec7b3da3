"""Prompts: the list, one version with what it sends, filling it in, using it and its history, two versions compared."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.alias_claims import check_claim
from penstock.access.declarations import Caller, check_caller, needs
from penstock.access.permissions import Permission
from penstock.base.errors import CallerError, NotFound, PolicyError
from penstock.console.links import link
from penstock.console.prompt_words import (
    TYPE_WORDS,
    ShownTurn,
    read_value,
    sample_values,
    show_turn,
    use_lines,
    write_value,
)
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.datasets.cases import row_to_case
from penstock.evals.gates.types import GateQuery
from penstock.prompts.diff import PromptDiff
from penstock.prompts.types import Preview, PromptSummary, PromptUses, PromptVersion
from penstock.registry.service import PROTECTED_ALIASES
from penstock.registry.types import AliasMove, LineageNode
from penstock.spec.evaluations import GateResult
from penstock.spec.prompts import PromptVariable, VariableType

ACTIVE = "/prompts"
TABS = (("prompt", "Prompt"), ("render", "Render"), ("use", "Use it"), ("history", "History"))
_GIVEN = "v."
"""Before the name of a variable in the URL of a rendering."""
MAX_MOVES = 50
Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class PromptLine:
    """One prompt in the list."""

    prompt: PromptSummary
    href: str
    routes: tuple[str, ...]
    """That ask it."""


@dataclass(frozen=True, kw_only=True)
class PromptsPage(Page):
    """All prompts."""

    template: ClassVar[str] = "prompts.html"
    lines: tuple[PromptLine, ...]


@dataclass(frozen=True, kw_only=True)
class ValueField:
    """One variable of the form that fills a prompt in."""

    name: str
    variable: PromptVariable
    words: str
    text: str
    wrong: str


@dataclass(frozen=True, kw_only=True)
class RenderTab:
    """The form, and what came out of it."""

    fields: tuple[ValueField, ...]
    dataset: str
    case: str
    datasets: tuple[str, ...]
    preview: Preview | None
    turns: tuple[ShownTurn, ...]
    problem: str
    case_note: str
    """What became of the case that was asked for."""


@dataclass(frozen=True, kw_only=True)
class HistoryTab:
    """Versions and moves, and the form that moves an alias."""

    moves: tuple[AliasMove, ...]
    aliases: tuple[tuple[str, int], ...]
    passed: tuple[GateResult, ...]
    """Verdicts over this very version that let a protected alias move."""
    judged: tuple[GateResult, ...]
    """The others."""
    rollable: tuple[str, ...]
    protected: tuple[str, ...]
    problem: str
    form: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class PromptPage(Page):
    """One version."""

    template: ClassVar[str] = "prompt.html"
    version: PromptVersion
    versions: tuple[PromptVersion, ...]
    tab: str
    tabs: tuple[tuple[str, str, str], ...]
    turns: tuple[ShownTurn, ...]
    types: Mapping[VariableType, str] = field(default_factory=lambda: TYPE_WORDS)
    up: tuple[LineageNode, ...]
    down: tuple[LineageNode, ...]
    uses: PromptUses | None
    traces_href: str
    render: RenderTab | None
    lines: tuple[tuple[str, str], ...]
    history: HistoryTab | None

    @property
    def previous(self) -> int | None:
        """The version before, to compare with."""
        return next((each.number for each in self.versions if each.number < self.version.number), None)

    @property
    def base(self) -> str:
        """Path of the prompt."""
        return prompt_href(self.version.name)

    def written(self, value: Any) -> str:
        """Return a value in one line, texts as they are."""
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


@dataclass(frozen=True, kw_only=True)
class PromptDiffPage(Page):
    """Two versions."""

    template: ClassVar[str] = "prompt_diff.html"
    name: str
    numbers: tuple[int, ...]
    base: int
    other: int
    diff: PromptDiff


def prompt_href(name: str, number: int | None = None, **params: object) -> str:
    """Return the page of a prompt or of one version."""
    path = f"{ACTIVE}/{quote(name)}"
    return link(path if number is None else f"{path}/{number}", params)


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/prompts`, versions and differences below it, and what moves aliases."""
    router = APIRouter(include_in_schema=False)
    _add_list(router, services, renderer)
    _add_versions(router, services, renderer)
    _add_moves(router, services, renderer)
    return router


def _add_list(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    @router.get(ACTIVE)
    @needs(Permission.PROMPTS_READ)
    def list_prompts(request: Request) -> Response:
        asked = _routes_by_prompt(services)
        page = PromptsPage(
            frame=renderer.frame(request, "Prompts", ACTIVE, notice=request.query_params.get("notice")),
            lines=tuple(
                PromptLine(
                    prompt=each,
                    href=prompt_href(each.name, each.aliases.get("prod", each.latest)),
                    routes=tuple(sorted(asked.get(each.name, ()))),
                )
                for each in services.prompts.list_prompts()
            ),
        )
        return renderer.show(page)


def _add_versions(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    prompts = services.prompts

    @router.get(f"{ACTIVE}/{{name}}")
    @needs(Permission.PROMPTS_READ)
    def show_standing(name: str) -> Response:
        return RedirectResponse(prompt_href(name, prompts.get(f"prompt:{name}").number), status_code=303)

    @router.get(f"{ACTIVE}/{{name}}/diff")
    @needs(Permission.PROMPTS_READ)
    def show_diff(request: Request, name: str, base: int, other: int) -> Response:
        page = PromptDiffPage(
            frame=renderer.frame(request, f"{name}: version {base} and {other}", ACTIVE),
            name=name,
            numbers=tuple(each.number for each in prompts.list_versions(name)),
            base=base,
            other=other,
            diff=prompts.diff(f"prompt:{name}@{base}", f"prompt:{name}@{other}"),
        )
        return renderer.show(page)

    @router.get(f"{ACTIVE}/{{name}}/{{reference}}")
    @needs(Permission.PROMPTS_READ)
    def show_version(request: Request, name: str, reference: str) -> Response:
        version = prompts.get(f"prompt:{name}@{reference}")
        if not reference.isdigit():
            return RedirectResponse(prompt_href(name, version.number), status_code=303)
        return renderer.show(build_page(request, services, renderer, version))


def _add_moves(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    prompts = services.prompts

    @router.post(f"{ACTIVE}/{{name}}/{{number:int}}/move")
    @needs(Permission.ALIASES_MOVE, Permission.PROMPTS_READ)
    def move_alias(request: Request, name: str, number: int) -> Response:
        caller: Caller = request.state.caller
        form = {key: text.strip() for key, text in caller.form.items()}
        reason, gate = form.get("reason", ""), form.get("gate", "")
        try:
            evidence = services.gates.evidence(gate) if gate else None
            check_claim(
                caller.key,
                is_protected=services.registry.protects(form.get("alias", "")),
                override_reason=None if gate else reason,
                evidence=evidence,
            )
            move = prompts.move(
                f"prompt:{name}@{number}",
                form.get("alias", ""),
                actor=caller.key.name if caller.key else "",
                evidence=evidence,
                reason=reason or None,
                override_reason=None if gate else reason or None,
            )
        except (CallerError, PolicyError) as error:
            if isinstance(error, NotFound) and not gate:
                raise
            page = build_page(
                request,
                services,
                renderer,
                prompts.get(f"prompt:{name}@{number}"),
                tab="history",
                problem=error,
                form=form,
            )
            return renderer.show(page, status=error.status)
        services.take_up_alias(move)
        return _back(name, number, f"{move.alias} now names version {number}.")

    @router.post(f"{ACTIVE}/{{name}}/{{number:int}}/rollback")
    @needs(Permission.ALIASES_MOVE)
    def rollback_alias(request: Request, name: str, number: int) -> Response:
        caller: Caller = request.state.caller
        move = prompts.rollback(
            name, caller.form.get("alias", ""), actor=caller.key.name if caller.key else ""
        )
        services.take_up_alias(move)
        return _back(name, number, f"{move.alias} is back at version {move.to_number}.")


def build_page(
    request: Request,
    services: ConsoleServices,
    renderer: Renderer,
    version: PromptVersion,
    *,
    tab: str = "",
    problem: CallerError | PolicyError | None = None,
    form: Mapping[str, str] | None = None,
) -> PromptPage:
    """Return the page of a version; only what the tab shows is looked up."""
    params = request.query_params
    tab = tab or params.get("tab", "")
    tab = tab if tab in dict(TABS) else "prompt"
    lineage = services.registry.lineage(version.label)
    return PromptPage(
        frame=renderer.frame(request, version.label, ACTIVE, notice=params.get("notice")),
        version=version,
        versions=tuple(services.prompts.list_versions(version.name)),
        tab=tab,
        tabs=tuple(
            (name, label, prompt_href(version.name, version.number, tab=None if name == "prompt" else name))
            for name, label in TABS
        ),
        turns=tuple(show_turn(each) for each in version.content.messages),
        up=lineage.up,
        down=lineage.down,
        uses=_when(tab == "prompt", lambda: services.prompts.uses(version.name)),
        traces_href=link("/traces", {"q": f"version.prompt:{version.name}:{version.number}", "range": "all"}),
        render=_when(tab == "render", lambda: _fill_in(request, services, version)),
        lines=_when(tab == "use", lambda: _use_lines(services, version)) or (),
        history=_when(
            tab == "history",
            lambda: _history(request, services, version, problem=problem, form=form or {}),
        ),
    )


# -- the tab that fills in


def _fill_in(request: Request, services: ConsoleServices, version: PromptVersion) -> RenderTab:
    params = request.query_params
    declared = version.content.variables
    texts = {name: params[_GIVEN + name] for name in declared if _GIVEN + name in params}
    dataset, case = params.get("dataset", "").strip(), params.get("case", "").strip()
    case_note = problem = ""
    if dataset and case:
        try:
            inputs = _inputs_of(request, services, dataset, case)
            texts |= {name: write_value(value) for name, value in inputs.items() if name in declared}
            rest = sorted(set(inputs) - set(declared))
            case_note = (
                f"The case has {', '.join(rest)} too, which this prompt does not take." if rest else ""
            )
        except (CallerError, PolicyError) as error:
            problem = error.message
    preview = None
    wrong: Mapping[str, str] = {}
    if not problem and (texts or not declared or params.get("go")):
        try:
            preview = services.prompts.preview(version.label, _values(declared, texts))
        except (CallerError, PolicyError) as error:
            told = error.fields.get("variables")
            wrong = told if isinstance(told, Mapping) else {}
            problem = error.message
    return RenderTab(
        fields=tuple(
            ValueField(
                name=name,
                variable=variable,
                words=TYPE_WORDS[variable.type],
                text=texts.get(name, ""),
                wrong=wrong.get(name, ""),
            )
            for name, variable in declared.items()
        ),
        dataset=dataset,
        case=case,
        datasets=tuple(each.name for each in services.datasets.list_datasets() if each.n_rows),
        preview=preview,
        turns=() if preview is None else tuple(_plain_turn(each) for each in preview.rendered.messages),
        problem=problem,
        case_note=case_note,
    )


def _values(declared: Mapping[str, PromptVariable], texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the values that were typed; an empty field is a value that was not given, but for a needed text."""
    return {
        name: read_value(name, declared[name], text)
        for name, text in texts.items()
        if text or (declared[name].type == "text" and declared[name].required)
    }


def _inputs_of(request: Request, services: ConsoleServices, dataset: str, case: str) -> Mapping[str, Any]:
    check_caller(request.state.caller, frozenset({Permission.DATASETS_READ}))
    found = services.datasets.get(dataset)
    return row_to_case(services.datasets.row(found.ref, case), found.facts.format).inputs


def _plain_turn(message: Mapping[str, Any]) -> ShownTurn:
    from_text = message.get("content")
    text = from_text if isinstance(from_text, str) else write_value(from_text)
    return ShownTurn(role=str(message.get("role", "")), pieces=(), slot=text)


# -- the other tabs


def _use_lines(services: ConsoleServices, version: PromptVersion) -> tuple[tuple[str, str], ...]:
    reference = f"@{version.aliases[0]}" if version.aliases else f"@{version.number}"
    values = sample_values(version.content)
    return tuple(use_lines(version.name, reference, values, services.gateway_url))


def _history(
    request: Request,
    services: ConsoleServices,
    version: PromptVersion,
    *,
    problem: CallerError | PolicyError | None,
    form: Mapping[str, str],
) -> HistoryTab:
    aliases = services.prompts.aliases(version.name)
    moves = tuple(services.prompts.history(version.name))[:MAX_MOVES]
    verdicts = _verdicts(request, services, version)
    return HistoryTab(
        moves=moves,
        aliases=tuple(sorted(aliases.items())),
        passed=tuple(each for each in verdicts if each.verdict == "pass"),
        judged=tuple(each for each in verdicts if each.verdict != "pass"),
        rollable=tuple(
            alias
            for alias in aliases
            if any(move.alias == alias and move.from_number is not None for move in moves)
        ),
        protected=tuple(sorted(PROTECTED_ALIASES)),
        problem="" if problem is None else f"{problem.message} {problem.hint or ''}".strip(),
        form=form,
    )


def _verdicts(request: Request, services: ConsoleServices, version: PromptVersion) -> list[GateResult]:
    """Return verdicts over this very version, for those who may see them."""
    try:
        check_caller(request.state.caller, frozenset({Permission.EVALS_READ}))
    except PolicyError:
        return []
    found = services.gates.list(GateQuery(candidate=version.label, limit=20)).rows
    asset = f"prompt:{version.name}"
    return [each for each in found if each.versions.get(asset) == version.stamp]


def _routes_by_prompt(services: ConsoleServices) -> dict[str, set[str]]:
    snapshot = services.read_snapshot()
    found: dict[str, set[str]] = {}
    for route in snapshot.routes if snapshot else ():
        if route.name.startswith("prompt:"):
            continue
        for target in (*route.targets, *(each for pin in route.pins for each in pin.targets)):
            if target.model.startswith("prompt:"):
                name = target.model.removeprefix("prompt:").partition("@")[0]
                found.setdefault(name, set()).add(route.name)
    return found


def _when(is_wanted: bool, find: Callable[[], Found]) -> Found | None:
    return find() if is_wanted else None


def _back(name: str, number: int, notice: str) -> Response:
    return RedirectResponse(prompt_href(name, number, tab="history", notice=notice), status_code=303)
