"""What people and other rooms do with jobs: submit, look, cancel, try again. Workers are elsewhere."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import ConflictError, InvalidInput
from penstock.base.ids import new_id
from penstock.base.json_text import decode_json, encode_json
from penstock.jobs import queries
from penstock.jobs.errors import JobFinished, JobNotRetriable, JobUnderWay, UnknownJob, UnknownJobKind
from penstock.jobs.types import Job, LogLine, StepRecord

MAX_SPEC_BYTES = 1024 * 1024
DEFAULT_ATTEMPTS = 5


class JobService:
    """Jobs on the control tables. Every method may be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        *,
        kinds: Collection[str] | None = None,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        """`kinds` are those that some worker does; others are refused. None takes every kind."""
        self._engine = engine
        self._kinds = None if kinds is None else frozenset(kinds)
        self._clock = clock

    def submit(
        self,
        kind: str,
        spec: dict[str, Any],
        *,
        dedupe_key: str | None = None,
        max_attempts: int = DEFAULT_ATTEMPTS,
    ) -> Job:
        """Queue a job and return it; durable on return.

        While the same job (kind and spec) with the same `dedupe_key` is queued or running, that one is
        returned instead. Raises `InvalidInput`, `TooLarge`, `UnknownJobKind`, and `JobUnderWay` when the job
        with that key is another one.
        """
        if self._kinds is not None and kind not in self._kinds:
            raise UnknownJobKind(kind, self._kinds)
        if not kind or len(kind) > 80 or max_attempts < 1 or len(dedupe_key or "") > 200:
            raise InvalidInput(
                "A job needs a kind of at most 80 characters, one attempt or more, and a key of at most 200."
            )
        text = encode_json(spec, what="The job's spec", max_bytes=MAX_SPEC_BYTES)
        for _ in range(5):
            try:
                return self._insert(kind, text, dedupe_key, max_attempts)
            except IntegrityError:  # on PostgreSQL another submit with the key came first, and may end soon
                continue
        raise ConflictError(f"Jobs with the key {dedupe_key!r} come and go too quickly; try again.")

    def get(self, job_id: str) -> Job:
        """Return the job; raises `UnknownJob`."""
        with self._engine.connect() as connection:
            job = queries.get_job(connection, job_id)
        if job is None:
            raise UnknownJob(job_id)
        return job

    def list(self, *, states: Collection[str] = (), kind: str | None = None, limit: int = 100) -> list[Job]:
        """Return jobs, newest first; no `states` means all."""
        with self._engine.connect() as connection:
            return queries.list_jobs(connection, states=states, kind=kind, limit=limit)

    def logs(self, job_id: str, after: int = 0, *, limit: int = 1000) -> Sequence[LogLine]:
        """Return log lines with an id over `after`, oldest first; raises `UnknownJob`."""
        self.get(job_id)
        with self._engine.connect() as connection:
            return queries.list_logs(connection, job_id, after=after, limit=limit)

    def newest_logs(self, job_id: str, *, limit: int = 1000) -> Sequence[LogLine]:
        """Return the last log lines, oldest first; raises `UnknownJob`."""
        self.get(job_id)
        with self._engine.connect() as connection:
            return queries.list_newest_logs(connection, job_id, limit=limit)

    def steps(self, job_id: str) -> Sequence[StepRecord]:
        """Return the job's finished steps in the order they finished; raises `UnknownJob`."""
        self.get(job_id)
        with self._engine.connect() as connection:
            return queries.list_steps(connection, job_id)

    def cancel(self, job_id: str) -> Job:
        """Cancel the job: at once when nobody works on it, else at its next step.

        Cancelling twice changes nothing. Raises `UnknownJob`, `JobFinished`.
        """
        with self._engine.begin() as connection:
            job = queries.get_job(connection, job_id, for_update=True)
            if job is None:
                raise UnknownJob(job_id)
            if job.state in {"done", "failed"}:
                raise JobFinished(f"Job {job_id} is already {job.state}.", job=job_id, state=job.state)
            now_ns = self._clock()
            is_idle = job.state == "queued" or (job.lease_until_ns or 0) < now_ns
            if job.state != "cancelled":
                values: dict[str, Any] = {"is_cancel_requested": True, "updated_ns": now_ns}
                if is_idle:
                    values |= {
                        "state": "cancelled",
                        "finished_ns": now_ns,
                        "worker_id": None,
                        "lease_until_ns": None,
                    }
                queries.update_job(connection, job_id, values)
        return self.get(job_id)

    def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again, or make a waiting one due now; finished steps stay finished.

        Raises `UnknownJob`, `JobNotRetriable`; `ConflictError` when another job with its dedupe key is active.
        """
        with self._engine.begin() as connection:
            job = queries.get_job(connection, job_id, for_update=True)
            if job is None:
                raise UnknownJob(job_id)
            if job.state in {"running", "done"}:
                raise JobNotRetriable(f"Job {job_id} is {job.state}.", job=job_id, state=job.state)
            now_ns = self._clock()
            values: dict[str, Any] = {"state": "queued", "not_before_ns": now_ns, "updated_ns": now_ns}
            if job.is_final:
                values |= {"attempts": 0, "is_cancel_requested": False, "finished_ns": None, "error": None}
                if job.dedupe_key and (other := queries.find_active(connection, job.dedupe_key)):
                    raise JobNotRetriable(
                        f"Job {other.id} is {other.state} for the same thing.", job=job_id, other=other.id
                    )
            queries.update_job(connection, job_id, values)
        return self.get(job_id)

    def _insert(self, kind: str, spec: str, dedupe_key: str | None, max_attempts: int) -> Job:
        with self._engine.begin() as connection:
            if dedupe_key is not None and (active := queries.find_active(connection, dedupe_key)):
                if (active.kind, active.spec) != (kind, decode_json(spec)):
                    raise JobUnderWay(
                        f"Job {active.id} is {active.state} for the same thing, but was asked for differently.",
                        hint=f"Wait for it, or end it with `penstock job cancel {active.id}`, then try again.",
                        job=active.id,
                        state=active.state,
                    )
                return active
            now_ns = self._clock()
            job_id = new_id("job")
            values = {
                "id": job_id,
                "kind": kind,
                "spec": spec,
                "state": "queued",
                "message": "",
                "attempts": 0,
                "max_attempts": max_attempts,
                "not_before_ns": now_ns,
                "is_cancel_requested": False,
                "dedupe_key": dedupe_key,
                "created_ns": now_ns,
                "updated_ns": now_ns,
                "fence": 0,
            }
            queries.insert_job(connection, values)
            job = queries.get_job(connection, job_id)
        assert job is not None
        return job
