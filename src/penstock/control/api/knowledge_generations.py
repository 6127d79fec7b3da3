"""Recipes of knowledge bases side by side over REST: tracks, builds, switch, rollback, verify, prune."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.alias_claims import check_claim
from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.jobs.service import JobService
from penstock.knowledge.generations.running import submit_build
from penstock.knowledge.generations.types import KEEP
from penstock.knowledge.recipes import change_recipe
from penstock.knowledge.service import KnowledgeService


class Build(BaseModel):
    """A candidate to be built: the live recipe with changes. Without a track the live index is written anew."""

    model_config = ConfigDict(extra="forbid")
    track: str | None = None
    changes: dict[str, Any] = {}
    """Such as `{"chunk": {"size": 256}}`; null takes a setting back to its default."""
    note: str = ""


class Switch(BaseModel):
    """Which candidate goes live, and on what evidence."""

    model_config = ConfigDict(extra="forbid")
    track: str
    comparison: str | None = None
    """Id of a stored comparison that passed."""
    override_reason: str | None = None
    note: str = ""


class Rollback(BaseModel):
    """Body of a rollback."""

    model_config = ConfigDict(extra="forbid")
    reason: str = ""


class Prune(BaseModel):
    """How much is kept."""

    model_config = ConfigDict(extra="forbid")
    keep: Annotated[int, Query(ge=0, le=1000)] = KEEP
    cache: bool = False
    """Vectors of texts that no passage has any more go too."""


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/knowledge`."""
    router = APIRouter(prefix="/api/v1/knowledge", tags=["knowledge"])
    _add_reading(router, services.knowledge)
    _add_building(router, services.knowledge, services.jobs)
    _add_switching(router, services)
    return router


def _add_reading(router: APIRouter, knowledge: KnowledgeService) -> None:
    @router.get("/{name}/tracks")
    @needs(Permission.KNOWLEDGE_READ)
    def list_tracks(name: str) -> Response:
        """The recipes that are kept up to date: live, previous, then candidates by name."""
        return json_reply({"tracks": knowledge.list_tracks(name)})

    @router.get("/{name}/verification")
    @needs(Permission.KNOWLEDGE_READ)
    def verify(name: str, track: str | None = None, deep: bool = False) -> Response:
        """Tables, blobs, vectors and indexes held against each other; failed checks first."""
        return json_reply({"findings": knowledge.verify(name, track=track, deep=deep)})


def _add_building(router: APIRouter, knowledge: KnowledgeService, jobs: JobService) -> None:
    @router.post("/{name}/builds")
    @needs(Permission.KNOWLEDGE_WRITE)
    def build(name: str, body: Build) -> Response:
        """Build a candidate beside what is live, as a job; the same one under way is returned."""
        recipe = change_recipe(knowledge.live_recipe(name), body.changes)
        job = submit_build(
            jobs, name, track=body.track, recipe=recipe if body.track else None, note=body.note
        )
        return json_reply({"job": job.id, "state": job.state}, status=202)

    @router.delete("/{name}/tracks/{track}")
    @needs(Permission.KNOWLEDGE_WRITE)
    def drop(name: str, track: str) -> Response:
        """Forget a candidate, or the way back."""
        knowledge.drop(name, track)
        return json_reply({"dropped": track})

    @router.post("/{name}/prune")
    @needs(Permission.KNOWLEDGE_WRITE)
    def prune(name: str, body: Prune) -> Response:
        """Delete what no track and none of the newest generations refers to."""
        return json_reply(knowledge.prune(name, keep=body.keep, cache=body.cache))


def _add_switching(router: APIRouter, services: ControlServices) -> None:
    knowledge = services.knowledge

    @router.post("/{name}/switch")
    @needs(Permission.KNOWLEDGE_WRITE)
    def switch(request: Request, name: str, body: Switch) -> Response:
        """Make a candidate live in one step; what was live becomes `previous`."""
        check_claim(request.state.caller.key, is_protected=True, override_reason=body.override_reason)
        report = knowledge.switch(
            name,
            body.track,
            evidence=None if body.comparison is None else {"comparison": body.comparison},
            override_reason=body.override_reason,
            actor=request.state.caller.key.name,
            note=body.note,
        )
        services.publish_snapshot(request.state.caller.key.name, f"switch knowledge {name}")
        return json_reply(report)

    @router.post("/{name}/rollback")
    @needs(Permission.KNOWLEDGE_WRITE)
    def rollback(request: Request, name: str, body: Rollback) -> Response:
        """Make what was live before the last switch live again, over the documents of now."""
        actor = request.state.caller.key.name
        report = knowledge.rollback(name, actor=actor, reason=body.reason)
        services.publish_snapshot(actor, f"roll back knowledge {name}")
        return json_reply(report)
