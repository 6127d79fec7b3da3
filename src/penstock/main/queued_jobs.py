"""What every room is told of the jobs that it has queued: how one has ended, and that it may be ended."""

from contextlib import suppress
from typing import Literal

from penstock.base.errors import ConflictError, NotFound
from penstock.jobs.service import JobService


class QueuedJobs:
    """Jobs of one kind over the lease table. Whoever derives from it says how one is queued."""

    def __init__(self, jobs: JobService) -> None:
        self._jobs = jobs

    def ending(self, job_id: str) -> tuple[Literal["failed", "stopped"], str] | None:
        """Return how a job that left its work unfinished has ended, and why; None while it has not."""
        try:
            job = self._jobs.get(job_id)
        except NotFound:
            return "stopped", "its job is no longer there"
        if not job.is_final:
            return None
        if job.state == "failed":
            return "failed", str((job.error or {}).get("message") or "its job failed")
        return "stopped", "its job was cancelled" if job.state == "cancelled" else "its job ended without it"

    def cancel(self, job_id: str) -> None:
        """End a job at its next step; nothing when it has ended or is unknown."""
        with suppress(ConflictError, NotFound):
            self._jobs.cancel(job_id)
