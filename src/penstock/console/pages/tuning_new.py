"""The editor of a recipe: what the run would take and what forbids it are shown before anything starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast, get_args

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission, check_permission
from penstock.base.errors import CallerError, ConflictError, PenstockError, PolicyError
from penstock.console.formats import format_bytes, format_ms
from penstock.console.pages.tuning import ACTIVE, METHODS, runs_of
from penstock.console.queries import SearchProblem, tell_problem
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.console.step_plots import format_figure
from penstock.prompts.toml_text import toml_lines
from penstock.spec.tuning import Recipe, TuneMethod
from penstock.tuning.recipes.reading import read_recipe_text
from penstock.tuning.recipes.template import write_recipe
from penstock.tuning.runs.types import RunPlan

BASES = {"measured": "measured here", "earlier": "as an earlier run here", "estimated": "by arithmetic alone"}
MAX_CHARS = 100_000


@dataclass(frozen=True, kw_only=True)
class PlanLines:
    """A plan in words."""

    plan: RunPlan
    facts: tuple[tuple[str, str, str], ...]
    """Name, value, why."""
    findings: tuple[Mapping[str, Any], ...]
    """Of the plan and of the preflight, refusals first."""
    is_refused: bool


@dataclass(frozen=True, kw_only=True)
class NewRunPage(Page):
    """The editor of a recipe."""

    template: ClassVar[str] = "tuning_new.html"
    text: str
    method: str
    methods: tuple[str, ...] = METHODS
    base: str
    plan: PlanLines | None = None
    problem: SearchProblem | None = None


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/tuning/new`."""
    router = APIRouter(include_in_schema=False)

    def show(
        request: Request,
        text: str,
        *,
        method: str = "lora",
        base: str = "",
        plan: RunPlan | None = None,
        problem: PenstockError | None = None,
    ) -> Response:
        page = NewRunPage(
            frame=renderer.frame(request, "New tuning run", ACTIVE),
            text=text,
            method=method,
            base=base,
            plan=None if plan is None else lay_plan(plan),
            problem=None if problem is None else tell_problem(problem),
        )
        return renderer.show(page, status=problem.status if problem else 200)

    @router.get(f"{ACTIVE}/new")
    @needs(Permission.TUNING_WRITE)
    def begin(
        request: Request, method: str = "lora", like: str = "", base: str = "", data: str = ""
    ) -> Response:
        if like:
            record = runs_of(services).get(like)
            return show(request, "\n".join(toml_lines(record.recipe)) + "\n", method=record.method)
        chosen = cast("TuneMethod", method if method in get_args(TuneMethod) else "lora")
        text = write_recipe(chosen, name="my-run", data=data or "dataset:NAME", base=base or "model:pocket")
        return show(request, text, method=chosen, base=base)

    @router.post(f"{ACTIVE}/new")
    @needs(Permission.TUNING_WRITE)
    def take(request: Request) -> Response:
        caller: Caller = request.state.caller
        text = caller.form.get("recipe", "")[:MAX_CHARS].replace("\r\n", "\n")
        try:
            recipe = read_recipe_text(text)
            _check_program(caller, recipe)
            if caller.form.get("step") != "start":
                return show(
                    request, text, method=recipe.method, plan=runs_of(services).plan(recipe, measure=False)
                )
            record = runs_of(services).start(recipe, actor=actor_of(caller))
        except (CallerError, ConflictError, PolicyError) as error:
            return show(request, text, problem=error)
        return RedirectResponse(f"{ACTIVE}/{record.id}", status_code=303)

    return router


def _check_program(caller: Caller, recipe: Recipe) -> None:
    """A training program of somebody's own runs as this installation does, so only administrators name one."""
    program = recipe.scratch.program if recipe.scratch is not None else None
    if program is not None and caller.key is not None:  # nobody gets here without a key
        check_permission(caller.key, Permission.ADMIN)


def lay_plan(plan: RunPlan) -> PlanLines:
    """Return a plan as a page shows it; what is not known is a dash."""
    memory = "; ".join(f"{part.name} {format_bytes(part.size_bytes)}" for part in plan.memory)
    pace = BASES.get(plan.time_basis or "", "")
    facts = (
        ("Parameters", _count(plan.n_parameters), f"{_count(plan.n_trained)} of them move"),
        ("Rows", _count(plan.n_rows), f"{_count(plan.n_heldout)} held out"),
        ("Tokens of one epoch", _count(plan.n_tokens), ""),
        ("Steps", _count(plan.n_steps), ""),
        ("Time", "–" if plan.seconds is None else format_ms(1000 * plan.seconds), pace),
        ("Speed", format_figure("tokens_per_s", plan.tokens_per_s), pace),
        ("Memory", format_bytes(plan.memory_bytes), memory),
        ("Disk", format_bytes(plan.disk_bytes), ""),
        ("Device", plan.device or "–", ""),
        ("Cost of replies", "–" if plan.cost_usd is None else f"${plan.cost_usd:.4g}", ""),
        ("Cost of the machine", "–" if plan.machine_usd is None else f"${plan.machine_usd:.4g}", ""),
    )
    findings = [msgspec.to_builtins(each) for each in plan.findings]
    known = {(each["code"], each["message"]) for each in findings}
    told = (plan.preflight or {}).get("findings") or ()
    findings += [each for each in told if (each["code"], each["message"]) not in known]
    findings.sort(key=lambda each: each["severity"] != "refuse")
    return PlanLines(
        plan=plan,
        facts=tuple(row for row in facts if row[1] != "–"),
        findings=tuple(findings),
        is_refused=any(each["severity"] == "refuse" for each in findings),
    )


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
