"""Waits for a job and tells how far it is."""

import time
from collections.abc import Callable

from penstock.jobs.service import JobService
from penstock.jobs.types import Job
from penstock.main.errors import JobFailed

POLL_S = 0.2
Tell = Callable[[float | None, str], None]


def wait_for_job(
    jobs: JobService,
    job_id: str,
    tell: Tell,
    *,
    sleep: Callable[[float], None] = time.sleep,
    deadline_s: float | None = None,
) -> Job:
    """Return the job once it is done; `tell` hears each change of progress. Raises `JobFailed`."""
    told: tuple[float | None, str] | None = None
    end = None if deadline_s is None else time.monotonic() + deadline_s
    while True:
        job = jobs.get(job_id)
        state = (job.progress, job.message or job.state)
        if state != told:
            told = state
            tell(*state)
        if job.state == "done":
            return job
        if job.is_final:
            error = job.error or {}
            raise JobFailed(
                f"Job {job.id} {job.state}: {error.get('message', 'no reason given')}",
                hint=error.get("hint") or f"penstock job logs {job.id}",
                job=job.id,
            )
        if end is not None and time.monotonic() > end:
            raise JobFailed(
                f"Job {job.id} is still {job.state}.", hint=f"penstock job logs {job.id}", job=job.id
            )
        sleep(POLL_S)
