"""What can be wrong with a job (codes PS-x2xx), and the signals that end a handler's run.

The signals are no `Exception`: a handler's own `except Exception` must not swallow a cancel, as with
`asyncio.CancelledError`. Handlers let them pass and clean up in `finally`.
"""

from collections.abc import Collection

from penstock.base.errors import CallerError, ConflictError, NotFound, UpstreamError, suggest


class UnknownJob(NotFound):
    """No job has this id."""

    code = "PS-1201"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"There is no job {job_id!r}.", hint="`penstock job list` shows all of them.", job=job_id
        )


class UnknownJobKind(CallerError):
    """No worker of this installation does jobs of this kind; it would wait for ever."""

    code = "PS-1202"

    def __init__(self, kind: str, known: Collection[str]) -> None:
        names = sorted(known)
        super().__init__(
            f"There is no kind of job {kind!r}; known: {', '.join(names) or 'none'}.",
            hint=suggest(kind, names),
            kind=kind,
            known=names,
        )


class JobFinished(ConflictError):
    """The job has already ended, so it cannot be cancelled."""

    code = "PS-3201"


class JobNotRetriable(ConflictError):
    """The job is running or done, so there is nothing to try again."""

    code = "PS-3202"


class JobUnderWay(ConflictError):
    """Another job for the same thing is queued or running, and it was asked for something else."""

    code = "PS-3203"


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
