"""Joins sources to jobs: what is due becomes an ingest, one a base at a time."""

import random
from collections.abc import Sequence

from penstock.jobs.errors import JobUnderWay, UnknownJob
from penstock.jobs.service import JobService
from penstock.jobs.types import Job
from penstock.knowledge.sources.ports import RunState
from penstock.knowledge.sources.scheduler import SourceScheduler
from penstock.main.job_kinds import KNOWLEDGE_INGEST
from penstock.main.rooms import Rooms

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


def create_scheduler(rooms: Rooms) -> SourceScheduler:
    """Return the loop over the sources of this home."""
    return SourceScheduler(rooms.engine, IngestJobs(rooms.jobs), chance=random.random)


def _error_of(job: Job) -> str:
    if job.state == "cancelled":
        return "the run was cancelled"
    told = job.error or {}
    return str(told.get("message") or "the run failed")
