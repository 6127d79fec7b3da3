"""Sources of knowledge bases over REST: what there is, changing it, trying it, running it; items and documents."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.jobs.service import JobService
from penstock.knowledge.sources.catalogue import describe_kinds
from penstock.knowledge.sources.running import submit_sources
from penstock.knowledge.sources.service import SourceService
from penstock.knowledge.sources.types import ItemState

Limit = Annotated[int, Query(ge=1, le=1000)]


class NewSource(BaseModel):
    """A source to be added."""

    model_config = ConfigDict(extra="forbid")
    name: str
    kind: str
    settings: dict[str, Any]
    schedule: str | dict[str, Any] | None = None


class EditedSource(BaseModel):
    """What of a source changes; a setting that is null goes back to its default, a schedule that is null goes."""

    model_config = ConfigDict(extra="forbid")
    settings: dict[str, Any] = {}
    schedule: str | dict[str, Any] | None = None


class TriedSource(BaseModel):
    """Settings to be tried."""

    model_config = ConfigDict(extra="forbid")
    kind: str
    settings: dict[str, Any]
    limit: Annotated[int, Query(ge=1, le=1000)] = 20


class Run(BaseModel):
    """Which sources are to be read."""

    model_config = ConfigDict(extra="forbid")
    sources: list[str] | None = None
    """None reads all that are not paused."""
    allow_mass_deletion: bool = False


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/knowledge`."""
    router = APIRouter(prefix="/api/v1/knowledge", tags=["knowledge"])
    _add_reading(router, services.sources)
    _add_changing(router, services.sources)
    _add_running(router, services.sources, services.jobs)
    return router


def _add_reading(router: APIRouter, sources: SourceService) -> None:
    @router.get("/source-kinds")
    @needs(Permission.KNOWLEDGE_READ)
    def list_kinds() -> Response:
        """The kinds of sources with their settings."""
        return json_reply({"kinds": describe_kinds()})

    @router.get("/{name}/sources")
    @needs(Permission.KNOWLEDGE_READ)
    def list_sources(name: str) -> Response:
        """The sources of a base, oldest first, with counts of what they hold by state."""
        return json_reply({"sources": sources.list_sources(name)})

    @router.get("/{name}/sources/{source}")
    @needs(Permission.KNOWLEDGE_READ)
    def show_source(name: str, source: str) -> Response:
        """One source: settings, schedule, how its last run ended."""
        return json_reply(sources.get(name, source))

    @router.get("/{name}/items")
    @needs(Permission.KNOWLEDGE_READ)
    def list_items(
        name: str,
        *,
        source: str | None = None,
        state: Annotated[list[ItemState], Query()] = [],  # noqa: B006 - FastAPI copies it
        q: Annotated[str | None, Query(max_length=500)] = None,
        cursor: str | None = None,
        limit: Limit = 100,
    ) -> Response:
        """What the sources hold, by path: live, unreadable, left out, gone, each with its reason."""
        return json_reply(
            sources.list_items(name, source=source, states=state, text=q, cursor=cursor, limit=limit)
        )

    @router.get("/{name}/documents/{path:path}")
    @needs(Permission.KNOWLEDGE_READ)
    def show_document(name: str, path: str) -> Response:
        """One document: what its source says of it, and its versions, newest first."""
        return json_reply(sources.document(name, path))


def _add_changing(router: APIRouter, sources: SourceService) -> None:
    @router.post("/{name}/sources")
    @needs(Permission.KNOWLEDGE_WRITE)
    def add_source(name: str, body: NewSource) -> Response:
        """Add a source; it is read when it is due or run."""
        found = sources.add(name, body.name, body.kind, body.settings, schedule=body.schedule)
        return json_reply(found, status=201)

    @router.patch("/{name}/sources/{source}")
    @needs(Permission.KNOWLEDGE_WRITE)
    def edit_source(name: str, source: str, body: EditedSource) -> Response:
        """Change settings or the schedule."""
        schedule = body.schedule if "schedule" in body.model_fields_set else msgspec.UNSET
        return json_reply(sources.edit(name, source, body.settings, schedule=schedule))

    @router.post("/{name}/sources/{source}/pause")
    @needs(Permission.KNOWLEDGE_WRITE)
    def pause_source(name: str, source: str) -> Response:
        """Read it no more; its documents stay."""
        return json_reply(sources.pause(name, source))

    @router.post("/{name}/sources/{source}/resume")
    @needs(Permission.KNOWLEDGE_WRITE)
    def resume_source(name: str, source: str) -> Response:
        """Read it again."""
        return json_reply(sources.resume(name, source))

    @router.delete("/{name}/sources/{source}")
    @needs(Permission.KNOWLEDGE_WRITE)
    def remove_source(name: str, source: str, *, keep_documents: bool = False) -> Response:
        """Forget a source: its documents go with the next ingest, or stay as they are."""
        told = sources.remove(name, source, keep_documents=keep_documents)
        return json_reply({"removed": source, "documents": "kept" if keep_documents else told})


def _add_running(router: APIRouter, sources: SourceService, jobs: JobService) -> None:
    @router.post("/source-trials")
    @needs(Permission.KNOWLEDGE_WRITE)
    def try_settings(body: TriedSource) -> Response:
        """What a source with these settings would hold; nothing is written."""
        return json_reply(sources.test_settings(body.kind, body.settings, limit=body.limit))

    @router.post("/{name}/sources/{source}/test")
    @needs(Permission.KNOWLEDGE_WRITE)
    def try_source(name: str, source: str, limit: Limit = 20) -> Response:
        """What a scan of a source would find; nothing is written."""
        return json_reply(sources.test(name, source, limit=limit))

    @router.post("/{name}/runs")
    @needs(Permission.KNOWLEDGE_WRITE)
    def run_sources(name: str, body: Run) -> Response:
        """Read sources and make live what they hold, as a job; the same one under way is returned."""
        for each in body.sources or []:
            sources.get(name, each)
        job = submit_sources(jobs, name, body.sources, allow_mass_deletion=body.allow_mass_deletion)
        return json_reply({"job": job.id, "state": job.state}, status=202)
