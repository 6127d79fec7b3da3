"""Sources that are to be read become jobs: an ingest, one a base at a time."""

from collections.abc import Sequence

from penstock.jobs.errors import JobUnderWay, UnknownJob
from penstock.jobs.service import JobService
from penstock.jobs.types import Job
from penstock.knowledge.sources.ports import RunState

KNOWLEDGE_INGEST = "knowledge.ingest"
"""Kind of the jobs."""
ATTEMPTS = 1
"""A scheduled ingest that fails comes again by the scheduler, later and later."""


class IngestJobs:
    """Ingests as durable jobs."""

    def __init__(self, jobs: JobService) -> None:
        self._jobs = jobs

    def begin(self, base: str, sources: Sequence[str]) -> str | None:
        """Queue an ingest of these sources; None while another of this base is under way."""
        try:
            job = submit_sources(self._jobs, base, sources, max_attempts=ATTEMPTS)
        except JobUnderWay:
            return None
        # One that runs already may have passed by what changed since.
        return job.id if job.state == "queued" else None

    def find(self, job: str) -> RunState | None:
        """Return how a run stands."""
        try:
            found = self._jobs.get(job)
        except UnknownJob:
            return None
        if not found.is_final:
            return RunState(state="active")
        if found.state == "done":
            return RunState(state="done")
        return RunState(state="failed", error=_error_of(found))


def submit_sources(
    jobs: JobService,
    base: str,
    sources: Sequence[str] | None = None,
    *,
    allow_mass_deletion: bool = False,
    max_attempts: int | None = None,
) -> Job:
    """Queue an ingest of some sources of a base, or of all that are not paused; the same one under way is returned.

    Raises `JobUnderWay` while another ingest of the base is under way.
    """
    spec: dict[str, object] = {"base": base, "sources": None if sources is None else list(sources)}
    if allow_mass_deletion:
        spec["allow_mass_deletion"] = True
    more = {} if max_attempts is None else {"max_attempts": max_attempts}
    return jobs.submit(KNOWLEDGE_INGEST, spec, dedupe_key=f"{KNOWLEDGE_INGEST}:{base}", **more)


def _error_of(job: Job) -> str:
    if job.state == "cancelled":
        return "the run was cancelled"
    told = job.error or {}
    return str(told.get("message") or "the run failed")
