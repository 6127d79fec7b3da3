"""Runs of tuning over REST: plan, start, look, stop, resume, compare, delete."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission, check_permission
from penstock.base.errors import InvalidInput
from penstock.base.offered import require
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.spec.tuning import BudgetPart, Recipe, RunState, TuneMethod
from penstock.tuning.recipes.reading import read_recipe, read_recipe_text
from penstock.tuning.recipes.template import write_recipe
from penstock.tuning.runs.service import RunService

Limit = Annotated[int, Query(ge=1, le=500)]
Points = Annotated[int, Query(ge=2, le=5000)]
After = Annotated[int, Query(ge=0, le=2**62)]
Kinds = Annotated[list[str] | None, Query(max_length=20)]


class RecipeBody(BaseModel):
    """A recipe, as JSON or as the TOML text of a recipe file."""

    model_config = ConfigDict(extra="forbid")
    recipe: dict[str, Any] | None = None
    toml: str | None = None
    """Instead of `recipe`."""
    measure: bool = False
    """plan only: run a few steps to know the pace; that takes up to three minutes."""


class BudgetBody(BaseModel):
    """Bounds of a run, each the whole that it may take; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")
    max_minutes: float | None = None
    max_cost_usd: float | None = None
    max_memory_gb: float | None = None
    max_disk_gb: float | None = None


class ResumeBody(BaseModel):
    """What changes as a run goes on."""

    model_config = ConfigDict(extra="forbid")
    budget: BudgetBody = BudgetBody()


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/tuning`."""
    router = APIRouter(prefix="/api/v1/tuning", tags=["tuning"])
    _add_reading(router, services)
    _add_changing(router, services)
    return router


def _add_reading(router: APIRouter, services: ControlServices) -> None:
    @router.get("/recipe")
    @needs(Permission.TUNING_READ)
    def template(
        *, method: TuneMethod = "lora", name: str = "my-run", data: str = "dataset:NAME"
    ) -> Response:
        """A commented recipe for a method, as TOML."""
        return json_reply({"toml": write_recipe(method, name=name, data=data)})

    @router.post("/plan")
    @needs(Permission.TUNING_READ)
    def plan(body: RecipeBody, request: Request) -> Response:
        """What a run will take and what forbids it."""
        found = _runs(services).plan(_recipe_of(body, request), measure=body.measure)
        return json_reply(found)

    @router.get("/runs")
    @needs(Permission.TUNING_READ)
    def list_runs(
        *,
        state: RunState | None = None,
        name: str | None = None,
        method: TuneMethod | None = None,
        cursor: str | None = None,
        limit: Limit = 50,
    ) -> Response:
        """Runs, newest first."""
        page = _runs(services).list(state=state, name=name, method=method, cursor=cursor, limit=limit)
        return json_reply(page)

    @router.get("/compare")
    @needs(Permission.TUNING_READ)
    def compare(run: Annotated[list[str], Query(max_length=8)], points: Points = 200) -> Response:
        """Runs side by side: where their recipes differ, and how their figures came out."""
        return json_reply(_runs(services).compare(run, max_points=points))

    @router.get("/runs/{run_id}")
    @needs(Permission.TUNING_READ)
    def show(run_id: str) -> Response:
        """One run, by id or by the name of the newest."""
        return json_reply(_runs(services).get(run_id))

    @router.get("/runs/{run_id}/events")
    @needs(Permission.TUNING_READ)
    def events(run_id: str, *, after: After = 0, kind: Kinds = None, limit: Limit = 500) -> Response:
        """What the trainer has told behind a cursor; `next_after` goes on from there, also while it trains."""
        return json_reply(_runs(services).events(run_id, after=after, kinds=tuple(kind or ()), limit=limit))

    @router.get("/runs/{run_id}/curves")
    @needs(Permission.TUNING_READ)
    def curves(run_id: str, points: Points = 500) -> Response:
        """Each figure over the steps, thinned."""
        return json_reply({"curves": _runs(services).curves(run_id, max_points=points)})

    @router.get("/runs/{run_id}/samples")
    @needs(Permission.TUNING_READ)
    def samples(run_id: str) -> Response:
        """Replies to held-out prompts, as training went on."""
        return json_reply({"samples": _runs(services).samples(run_id)})

    @router.get("/runs/{run_id}/logs")
    @needs(Permission.TUNING_READ)
    def logs(run_id: str) -> Response:
        """The end of what the trainer and its libraries have printed."""
        return json_reply({"text": _runs(services).logs(run_id)})


def _add_changing(router: APIRouter, services: ControlServices) -> None:
    @router.post("/runs")
    @needs(Permission.TUNING_WRITE)
    def start(body: RecipeBody, request: Request) -> Response:
        """Store a run, its references pinned, and queue it."""
        recipe = _recipe_of(body, request)
        return json_reply(_runs(services).start(recipe, actor=actor_of(request.state.caller)), status=201)

    @router.post("/runs/{run_id}/stop")
    @needs(Permission.TUNING_WRITE)
    def stop(run_id: str) -> Response:
        """End a run; its trainer writes a checkpoint first."""
        return json_reply(_runs(services).stop(run_id))

    @router.post("/runs/{run_id}/resume")
    @needs(Permission.TUNING_WRITE)
    def resume(run_id: str, body: ResumeBody | None = None) -> Response:
        """Go on with a run that was stopped or has failed; `budget` raises its bounds."""
        more = None if body is None else BudgetPart(**body.budget.model_dump())
        return json_reply(_runs(services).resume(run_id, budget=more))

    @router.delete("/runs/{run_id}")
    @needs(Permission.TUNING_WRITE)
    def delete(run_id: str) -> Response:
        """Forget a run and remove its checkpoints; what it registered stays."""
        _runs(services).delete(run_id)
        return json_reply({"deleted": run_id})


def _runs(services: ControlServices) -> RunService:
    return require(services.tuning, "Nothing trains on this installation.")


def _recipe_of(body: RecipeBody, request: Request) -> Recipe:
    if (body.recipe is None) == (body.toml is None):
        raise InvalidInput("Send either `recipe` or `toml`.", where="recipe")
    recipe = read_recipe(body.recipe) if body.recipe is not None else read_recipe_text(body.toml or "")
    program = recipe.scratch.program if recipe.scratch is not None else None
    if program is not None:  # it runs as this installation does
        check_permission(request.state.caller.key, Permission.ADMIN)
    return recipe
