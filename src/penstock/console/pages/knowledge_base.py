"""One knowledge base: what is live, the recipes side by side, what is under way, and whether all of it holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import Caller, needs
from penstock.access.permissions import Permission, has_permission
from penstock.apps.service import AppVersion
from penstock.base.errors import PenstockError
from penstock.console.knowledge_words import (
    BaseHead,
    Setting,
    count_state,
    list_differences,
    list_settings,
    make_head,
    say_error,
    say_outcome,
    say_schedule,
    source_word,
)
from penstock.console.links import link
from penstock.console.pages.apps import find_apps
from penstock.console.pages.knowledge import ACTIVE, count_unreadable, find_base, find_embedder_problem
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.jobs.types import Job
from penstock.knowledge.generations.types import LIVE, PREVIOUS, TrackRow
from penstock.knowledge.index.types import Finding
from penstock.knowledge.quality.types import GenerationComparison
from penstock.knowledge.sources.types import SourceRow
from penstock.knowledge.types import BaseRow

N_JOBS = 5
N_COMPARISONS = 100
_READ_JOBS = 200


@dataclass(frozen=True, kw_only=True)
class TrackLine:
    """One recipe that is kept up to date."""

    row: TrackRow
    differences: tuple[Setting, ...]
    """Against what is live."""
    is_candidate: bool
    has_other_embedder: bool
    comparisons: tuple[GenerationComparison, ...]
    """Of this candidate, newest first."""


@dataclass(frozen=True, kw_only=True)
class SourceLine:
    """One source, as pages tell of it."""

    row: SourceRow
    word: str
    outcome: str
    schedule: str


@dataclass(frozen=True, kw_only=True)
class BasePage(Page):
    """One base."""

    template: ClassVar[str] = "knowledge_base.html"
    head: BaseHead
    base: BaseRow | None
    sources: tuple[SourceLine, ...]
    n_unreadable: int
    n_left_out: int
    tracks: tuple[TrackLine, ...]
    settings: tuple[Setting, ...]
    has_previous: bool
    embedder_problem: str | None
    findings: tuple[Finding, ...] | None
    """None where nobody asked for a check."""
    is_deep: bool
    jobs: tuple[Job, ...]
    apps: tuple[AppVersion, ...]


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/knowledge/NAME`."""
    router = APIRouter(include_in_schema=False)

    @router.get(f"{ACTIVE}/{{name}}")
    @needs(Permission.KNOWLEDGE_READ)
    def show_base(
        request: Request, name: str, q: str = "", verify: str = "", notice: str | None = None
    ) -> Response:
        if q.strip():  # links to a search from before it had a page of its own
            return RedirectResponse(link(f"{ACTIVE}/{name}/search", {"q": q}), status_code=303)
        base, sources = find_base(services, name)
        tracks = services.knowledge.list_tracks(name) if base else []
        live = next((each for each in tracks if each.name == LIVE), None)
        page = BasePage(
            frame=renderer.frame(request, name, ACTIVE, notice=notice),
            head=make_head(name, base.version if base else None, "overview"),
            base=base,
            sources=tuple(line_of_source(each) for each in sources),
            n_unreadable=count_unreadable(services, base, sources),
            n_left_out=count_state(sources, "left_out"),
            tracks=_track_lines(tracks, live, find_comparisons(services, request, name)),
            settings=list_settings(live.recipe) if live else (),
            has_previous=any(each.name == PREVIOUS for each in tracks),
            embedder_problem=find_embedder_problem(services, name) if base else None,
            findings=tuple(services.knowledge.verify(name, deep=verify == "deep"))
            if verify and base
            else None,
            is_deep=verify == "deep",
            jobs=find_jobs(services, request, name),
            apps=apps_of(services, name),
        )
        return renderer.show(page)

    return router


def line_of_source(source: SourceRow) -> SourceLine:
    """Return a source as pages tell of it."""
    return SourceLine(
        row=source,
        word=source_word(source),
        outcome=say_outcome(source),
        schedule=say_schedule(source.schedule),
    )


def apps_of(services: ConsoleServices, base: str) -> tuple[AppVersion, ...]:
    """Return the apps that answer from a base."""
    return tuple(each for each in find_apps(services)[0] if each.declaration.knowledge == base)


def find_jobs(services: ConsoleServices, request: Request, base: str) -> tuple[Job, ...]:
    """Return the newest jobs about a base, for those who may see jobs."""
    if not may(request, Permission.JOBS_READ):
        return ()
    found = [
        job
        for job in services.jobs.list(limit=_READ_JOBS)
        if job.kind.startswith("knowledge.") and base in {job.spec.get("base"), job.spec.get("name")}
    ]
    return tuple(found[:N_JOBS])


def find_comparisons(
    services: ConsoleServices, request: Request, base: str
) -> tuple[GenerationComparison, ...]:
    """Return the comparisons of a base, newest first, for those who may see what was asked."""
    quality = services.retrieval_quality
    if quality is None or not may(request, Permission.TRACES_CONTENT):
        return ()
    return tuple(quality.comparing.list_comparisons(base, limit=N_COMPARISONS).rows)


def may(request: Request, permission: Permission) -> bool:
    """Return whether who asks may do this."""
    caller: Caller = request.state.caller
    return caller.key is not None and has_permission(caller.key, permission)


def say_notice(base: str, text: str, path: str = "") -> Response:
    """Return the way back to a page of a base, with a line about what happened."""
    return RedirectResponse(link(f"{ACTIVE}/{base}{path}", {"notice": text}), status_code=303)


def say_failure(base: str, error: PenstockError, path: str = "") -> Response:
    """Return the way back with what went wrong."""
    return say_notice(base, say_error(error), path)


def _track_lines(
    tracks: Sequence[TrackRow], live: TrackRow | None, comparisons: Sequence[GenerationComparison]
) -> tuple[TrackLine, ...]:
    return tuple(
        TrackLine(
            row=each,
            differences=list_differences(each.recipe, live.recipe) if live and each is not live else (),
            is_candidate=each.name not in {LIVE, PREVIOUS},
            has_other_embedder=bool(live and each.embedder and each.embedder != live.embedder),
            comparisons=tuple(
                one
                for one in comparisons
                if each.name == one.candidate_track or each.generation == one.candidate
            ),
        )
        for each in tracks
    )
