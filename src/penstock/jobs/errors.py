"""What can be wrong with a job (codes PS-x2xx), and the signals that end a handler's run.

The signals are no `Exception`: a handler's own `except Exception` must not swallow a cancel, as with
`asyncio.CancelledError`. Handlers let them pass and clean up in `finally`.
"""

from penstock.base.errors import ConflictError, NotFound, UpstreamError


class UnknownJob(NotFound):
    """No job has this id."""

    code = "PS-1201"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"There is no job {job_id!r}.", hint="`penstock job list` shows all of them.", job=job_id
        )


class JobFinished(ConflictError):
    """The job has already ended, so it cannot be cancelled."""

    code = "PS-3201"


class JobNotRetriable(ConflictError):
    """The job is running or done, so there is nothing to try again."""

    code = "PS-3202"


class WorkerDied(UpstreamError):
    """The job's workers died on it as often as it may be tried; it may be what kills them."""

    code = "PS-4201"


class JobInterrupt(BaseException):
    """Base of the signals that end a handler's run without failing the job."""


class JobCancelled(JobInterrupt):
    """Somebody cancelled the job."""


class WorkerStopping(JobInterrupt):
    """The worker's process is shutting down; the job goes back to the queue as it stands."""


class LeaseLost(JobInterrupt):
    """Another worker holds the job now; nothing that this one still writes is taken."""
