"""Long work for commands: as a job of the running instance, followed until it ends."""

from pathlib import Path
from typing import Any

from penstock.jobs.types import Job
from penstock.knowledge.sources.running import submit_sources
from penstock.main.instance import require_instance
from penstock.main.job_kinds import KNOWLEDGE_INGEST, MODEL_PULL
from penstock.main.job_wait import Tell, wait_for_job
from penstock.main.rooms import Rooms


def submit_pull(rooms: Rooms, name: str, source: str) -> Job:
    """Queue pulling `source` as `model:NAME`; the same pull under way is returned instead."""
    return rooms.jobs.submit(MODEL_PULL, {"name": name, "source": source}, dedupe_key=f"{MODEL_PULL}:{name}")


def submit_ingest(
    rooms: Rooms,
    name: str,
    folder: Path | None,
    *,
    sources: list[str] | None = None,
    allow_mass_deletion: bool = False,
) -> Job:
    """Queue ingesting `folder`, or sources of the base, into `knowledge:NAME`; the same one under way is returned.

    Raises `NotRunning`: passages are embedded through the gateway.
    """
    require_instance(rooms.home)
    if folder is None:
        return submit_sources(rooms.jobs, name, sources, allow_mass_deletion=allow_mass_deletion)
    spec: dict[str, Any] = {"base": name, "folder": str(folder)}
    if allow_mass_deletion:
        spec["allow_mass_deletion"] = True
    return rooms.jobs.submit(KNOWLEDGE_INGEST, spec, dedupe_key=f"{KNOWLEDGE_INGEST}:{name}")


def follow(rooms: Rooms, job: Job, tell: Tell, *, deadline_s: float | None = None) -> Job:
    """Return the job once it is done. Raises `JobFailed`."""
    return wait_for_job(rooms.jobs, job.id, tell, deadline_s=deadline_s)
