"""Jobs: the list, and one job with progress, steps and log that follow the work."""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.console.formats import format_json, name_job
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.jobs.types import Job, LogLine, StepRecord

STATES = ("queued", "running", "done", "failed", "cancelled")
LIST_LIMIT = 200
LOG_LIMIT = 1000


@dataclass(frozen=True, kw_only=True)
class JobsPage(Page):
    """Jobs, newest first."""

    template: ClassVar[str] = "jobs.html"
    jobs: tuple[Job, ...]
    state: str | None
    states: tuple[str, ...] = STATES


@dataclass(frozen=True, kw_only=True)
class JobPage(Page):
    """One job."""

    template: ClassVar[str] = "job.html"
    job: Job
    steps: tuple[StepRecord, ...]
    lines: tuple[LogLine, ...]
    is_log_cut: bool
    """`lines` are the newest only; the command line shows all."""
    spec_json: str
    result_json: str | None


@dataclass(frozen=True, kw_only=True)
class JobProgress(JobPage):
    """The part of the page that changes while the job runs."""

    template: ClassVar[str] = "job_progress.html"


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/jobs` and below."""
    router = APIRouter(include_in_schema=False)

    @router.get("/jobs")
    @needs(Permission.JOBS_READ)
    def list_jobs(request: Request, state: str | None = None) -> Response:
        chosen = state if state in STATES else None
        page = JobsPage(
            frame=renderer.frame(request, "Jobs", "/jobs"),
            jobs=tuple(services.jobs.list(states=(chosen,) if chosen else (), limit=LIST_LIMIT)),
            state=chosen,
        )
        return renderer.show(page)

    def build(request: Request, job_id: str, page_class: type[JobPage]) -> Response:
        job = services.jobs.get(job_id)
        lines = services.jobs.newest_logs(job_id, limit=LOG_LIMIT + 1)
        page = page_class(
            frame=renderer.frame(request, name_job(job.kind, job.spec), "/jobs"),
            job=job,
            steps=tuple(services.jobs.steps(job_id)),
            lines=tuple(lines[-LOG_LIMIT:]),
            is_log_cut=len(lines) > LOG_LIMIT,
            spec_json=format_json(job.spec),
            result_json=None if job.result is None else format_json(job.result),
        )
        return renderer.show(page)

    @router.get("/jobs/{job_id}")
    @needs(Permission.JOBS_READ)
    def show_job(request: Request, job_id: str) -> Response:
        return build(request, job_id, JobPage)

    @router.get("/jobs/{job_id}/progress")
    @needs(Permission.JOBS_READ)
    def show_progress(request: Request, job_id: str) -> Response:
        return build(request, job_id, JobProgress)

    @router.post("/jobs/{job_id}/cancel")
    @needs(Permission.JOBS_WRITE)
    def cancel_job(job_id: str) -> Response:
        services.jobs.cancel(job_id)
        return RedirectResponse(f"/jobs/{job_id}", status_code=303)

    @router.post("/jobs/{job_id}/retry")
    @needs(Permission.JOBS_WRITE)
    def retry_job(job_id: str) -> Response:
        services.jobs.retry(job_id)
        return RedirectResponse(f"/jobs/{job_id}", status_code=303)

    return router
