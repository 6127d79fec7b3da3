"""Jobs over REST."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.control.api.parameters import StoredNumber
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices


class NewJob(BaseModel):
    """Body of a submission."""

    model_config = ConfigDict(extra="forbid")
    kind: str
    spec: dict[str, Any] = {}
    dedupe_key: str | None = None


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/jobs`."""
    router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])
    jobs = services.jobs

    @router.get("")
    @needs(Permission.JOBS_READ)
    def list_jobs(
        state: str | None = None,
        kind: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """Jobs, newest first."""
        return json_reply({"jobs": jobs.list(states=(state,) if state else (), kind=kind, limit=limit)})

    @router.post("")
    @needs(Permission.JOBS_WRITE)
    def submit_job(body: NewJob) -> Response:
        """Queue a job."""
        return json_reply(jobs.submit(body.kind, body.spec, dedupe_key=body.dedupe_key), status=201)

    @router.get("/{job_id}")
    @needs(Permission.JOBS_READ)
    def show_job(job_id: str) -> Response:
        """One job with its finished steps."""
        return json_reply({"job": jobs.get(job_id), "steps": list(jobs.steps(job_id))})

    @router.get("/{job_id}/logs")
    @needs(Permission.JOBS_READ)
    def list_logs(job_id: str, after: StoredNumber = 0) -> Response:
        """Log lines with an id over `after`."""
        return json_reply({"lines": list(jobs.logs(job_id, after))})

    @router.post("/{job_id}/cancel")
    @needs(Permission.JOBS_WRITE)
    def cancel_job(job_id: str) -> Response:
        """Cancel at once, or at the job's next step."""
        return json_reply(jobs.cancel(job_id))

    @router.post("/{job_id}/retry")
    @needs(Permission.JOBS_WRITE)
    def retry_job(job_id: str) -> Response:
        """Queue again; finished steps stay finished."""
        return json_reply(jobs.retry(job_id))

    return router
