"""What can be done to a knowledge base: build a candidate, switch, roll back, drop, read its sources now."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.alias_claims import check_claim
from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import PenstockError
from penstock.console.knowledge_words import read_changes
from penstock.console.pages.knowledge import ACTIVE
from penstock.console.pages.knowledge_base import say_failure, say_notice
from penstock.console.rendering import Renderer
from penstock.console.services import ConsoleServices
from penstock.knowledge.generations.running import submit_build
from penstock.knowledge.recipes import change_recipe
from penstock.knowledge.sources.running import submit_sources


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return the actions below `/knowledge/NAME`."""
    _ = renderer  # every action leads to a page
    router = APIRouter(include_in_schema=False)
    _add_building(router, services)
    _add_switching(router, services)
    return router


def _add_building(router: APIRouter, services: ConsoleServices) -> None:
    @router.post(f"{ACTIVE}/{{name}}/build")
    @needs(Permission.KNOWLEDGE_WRITE)
    def build(request: Request, name: str) -> Response:
        form = request.state.caller.form
        track = form.get("track", "").strip() or None
        try:
            changes = read_changes(form.get("changes", ""))
            recipe = change_recipe(services.knowledge.live_recipe(name), changes) if track else None
            job = submit_build(
                services.jobs, name, track=track, recipe=recipe, note=form.get("note", "").strip()
            )
        except PenstockError as error:
            return say_failure(name, error)
        return RedirectResponse(f"/jobs/{job.id}", status_code=303)

    @router.post(f"{ACTIVE}/{{name}}/run")
    @needs(Permission.KNOWLEDGE_WRITE)
    def run_sources(request: Request, name: str) -> Response:
        form = request.state.caller.form
        source = form.get("source", "").strip()
        try:
            if source:
                services.sources.get(name, source)
            job = submit_sources(
                services.jobs,
                name,
                [source] if source else None,
                allow_mass_deletion=form.get("allow_mass_deletion") == "yes",
            )
        except PenstockError as error:
            return say_failure(name, error, "/sources")
        return RedirectResponse(f"/jobs/{job.id}", status_code=303)


def _add_switching(router: APIRouter, services: ConsoleServices) -> None:
    knowledge = services.knowledge

    @router.post(f"{ACTIVE}/{{name}}/switch")
    @needs(Permission.KNOWLEDGE_WRITE)
    def switch(request: Request, name: str) -> Response:
        caller: Caller = request.state.caller
        track = caller.form.get("track", "")
        comparison = caller.form.get("comparison", "").strip()
        try:
            check_claim(caller.key, is_protected=True, override_reason=caller.form.get("reason"))
            report = knowledge.switch(
                name,
                track,
                evidence={"comparison": comparison} if comparison else None,
                override_reason=caller.form.get("reason", "").strip() or None,
                actor=actor_of(caller),
            )
        except PenstockError as error:
            return say_failure(name, error)
        services.publish_snapshot(actor_of(caller), f"knowledge {name} switched to {track}")
        return say_notice(
            name,
            f"{track} is live now, as {report.version or report.generation}. What was live is kept as previous.",
        )

    @router.post(f"{ACTIVE}/{{name}}/rollback")
    @needs(Permission.KNOWLEDGE_WRITE)
    def rollback(request: Request, name: str) -> Response:
        caller: Caller = request.state.caller
        try:
            report = knowledge.rollback(
                name, actor=actor_of(caller), reason=caller.form.get("reason", "").strip()
            )
        except PenstockError as error:
            return say_failure(name, error)
        services.publish_snapshot(actor_of(caller), f"knowledge {name} rolled back")
        return say_notice(name, f"Rolled back: {report.version or report.generation} is live again.")

    @router.post(f"{ACTIVE}/{{name}}/drop")
    @needs(Permission.KNOWLEDGE_WRITE)
    def drop(request: Request, name: str) -> Response:
        track = request.state.caller.form.get("track", "")
        try:
            knowledge.drop(name, track)
        except PenstockError as error:
            return say_failure(name, error)
        return say_notice(name, f"{track} is no longer kept up to date.")
