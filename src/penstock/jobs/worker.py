"""A worker: claims jobs from the lease table and runs their handlers, one at a time.

Any number of workers in any number of processes may share a table; several threads of one process are
several workers with an id each. A worker that dies says nothing: its lease runs out and another takes over.
"""

import logging
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import CallerError, PenstockError, PolicyError
from penstock.base.json_text import clean_text, encode_json
from penstock.base.logs import redact
from penstock.base.retry import backoff_delays
from penstock.jobs import queries
from penstock.jobs.context import MAX_OUTPUT_BYTES, JobContext
from penstock.jobs.errors import JobCancelled, LeaseLost, WorkerDied, WorkerStopping
from penstock.jobs.lease import Heartbeat, Lease
from penstock.jobs.types import Job

logger = logging.getLogger(__name__)

Handler = Callable[[JobContext, dict[str, Any]], dict[str, Any] | None]
"""Does the work of one kind of job: a plain synchronous function from spec to JSON result."""


class Worker:
    """Runs jobs of the kinds it has handlers for."""

    def __init__(
        self,
        engine: Engine,
        handlers: Mapping[str, Handler],
        worker_id: str,
        *,
        lease_s: float = 15.0,
        poll_s: float = 0.5,
        retry_first_s: float = 1.0,
        clock: Callable[[], int] = wall_clock,
        rng: random.Random | None = None,
    ) -> None:
        """`lease_s` is how long a dead worker's job waits before another takes it over."""
        self._engine = engine
        self._handlers = dict(handlers)
        self._worker_id = worker_id
        self._lease_ns = int(lease_s * 1e9)
        self._heartbeat_s = lease_s / 3
        self._poll_s = poll_s
        self._retry_first_s = retry_first_s
        self._clock = clock
        self._rng = rng or random.Random()
        self._stopping = threading.Event()

    def run(self, stop_event: threading.Event) -> None:
        """Work until `stop_event` is set; a job in hand goes back to the queue at its next step."""
        self._stopping = stop_event
        while not stop_event.is_set():
            try:
                worked = self.run_once()
            except Exception:  # a thread's edge: the database may be away; the lease keeps the job safe
                logger.exception("worker failed", extra={"worker": self._worker_id})
                worked = False
            if not worked:
                stop_event.wait(self._poll_s)

    def run_once(self) -> bool:
        """Run one waiting job to its end in this thread; return whether there was one."""
        lease = self._claim()
        if lease is None:
            return False
        context = JobContext(lease, clock=self._clock, stopping=self._stopping)
        with Heartbeat(lease, interval_s=self._heartbeat_s):
            finish = self._work(lease.job, context)
        try:
            finish(lease, context)
        except LeaseLost:
            logger.warning("job was taken over", extra={"job": lease.job.id, "worker": self._worker_id})
        return True

    def _work(self, job: Job, context: JobContext) -> Callable[[Lease, JobContext], None]:
        """Run the handler and return what is to be written about its end."""
        try:
            result = self._handlers[job.kind](context, job.spec) or {}
            text = encode_json(result, what="The result", max_bytes=MAX_OUTPUT_BYTES)
        except JobCancelled:
            return self._write_cancelled
        except WorkerStopping:
            return self._write_released
        except LeaseLost:
            return _write_nothing
        except Exception as error:  # the handler's edge: whatever it raises becomes the job's error
            if not isinstance(error, PenstockError):
                logger.exception("job handler raised", extra={"job": job.id, "job_kind": job.kind})
            failure = error
            return lambda lease, context: self._write_failed(lease, context, failure)
        return lambda lease, context: self._write_done(lease, context, text)

    def _claim(self) -> Lease | None:
        kinds = tuple(self._handlers)
        with self._engine.connect() as connection:
            if not queries.has_claimable(connection, kinds, self._clock()):
                return None
        with self._engine.begin() as connection:
            now_ns = self._clock()
            while found := queries.lock_claimable(connection, kinds, now_ns):
                job, fence = found
                if self._bury(connection, job, now_ns):
                    continue
                taken = {
                    "state": "running",
                    "worker_id": self._worker_id,
                    "lease_until_ns": now_ns + self._lease_ns,
                    "fence": fence + 1,
                    "attempts": job.attempts + 1,
                    "started_ns": job.started_ns or now_ns,
                    "updated_ns": now_ns,
                }
                queries.update_job(connection, job.id, taken)
                if job.state == "running":
                    text = f"Worker {job.worker_id} stopped answering; {self._worker_id} takes over."
                    queries.insert_log(connection, job.id, at_ns=now_ns, attempt=job.attempts + 1, text=text)
                claimed = queries.get_job(connection, job.id)
                assert claimed is not None
                break
            else:
                return None
        return Lease(self._engine, claimed, fence=fence + 1, lease_ns=self._lease_ns, clock=self._clock)

    def _bury(self, connection: Connection, job: Job, now_ns: int) -> bool:
        """End a dead worker's job that is not to be run again; return whether it was one."""
        if job.state != "running":
            return False
        ended: dict[str, Any]
        if job.is_cancel_requested:
            ended = {"state": "cancelled"}
        elif job.attempts >= job.max_attempts:
            error = WorkerDied(
                f"{job.attempts} workers in a row stopped while working on this job.",
                hint="Look at the logs and the machine's memory, then `penstock job retry`.",
            )
            ended = {"state": "failed", "error": _error_text(error)}
        else:
            return False
        queries.update_job(connection, job.id, {**ended, **_idle(now_ns), "finished_ns": now_ns})
        return True

    def _write_done(self, lease: Lease, context: JobContext, result: str) -> None:
        values = {
            **context.take_unwritten(),
            "progress": 1.0,
            "state": "done",
            "result": result,
            "error": None,
        }
        with lease.write(**values, **self._finished()):
            pass

    def _write_cancelled(self, lease: Lease, context: JobContext) -> None:
        with lease.write(**context.take_unwritten(), state="cancelled", **self._finished()):
            pass

    def _write_released(self, lease: Lease, context: JobContext) -> None:
        values = {**context.take_unwritten(), "state": "queued", "attempts": lease.job.attempts - 1}
        with lease.write(**values, **_idle(self._clock())):
            pass

    def _write_failed(self, lease: Lease, context: JobContext, error: Exception) -> None:
        job = lease.job
        values = {**context.take_unwritten(), "error": _error_text(error)}
        is_final = isinstance(error, CallerError | PolicyError) or job.attempts >= job.max_attempts
        if is_final:
            values |= {"state": "failed", **self._finished()}
            text = f"Attempt {job.attempts} of {job.max_attempts} failed for good: {_shown(error)}"
        else:
            delay_s = self._retry_delay_s(job.attempts)
            now_ns = self._clock()
            values |= {"state": "queued", **_idle(now_ns), "not_before_ns": now_ns + int(delay_s * 1e9)}
            text = f"Attempt {job.attempts} of {job.max_attempts} failed, next in {delay_s:.1f} s: {_shown(error)}"
        with lease.write(**values) as (connection, now_ns):
            queries.insert_log(connection, job.id, at_ns=now_ns, attempt=job.attempts, text=text)

    def _retry_delay_s(self, attempts: int) -> float:
        *_, delay_s = backoff_delays(
            attempts=attempts + 1, first_s=self._retry_first_s, cap_s=60.0, rng=self._rng
        )
        return delay_s

    def _finished(self) -> dict[str, Any]:
        now_ns = self._clock()
        return {**_idle(now_ns), "finished_ns": now_ns}


def _write_nothing(_lease: Lease, _context: JobContext) -> None:
    """Another worker owns the job; it writes the end."""


def _idle(now_ns: int) -> dict[str, Any]:
    return {"worker_id": None, "lease_until_ns": None, "updated_ns": now_ns}


def _shown(error: Exception) -> str:
    text = str(error) if isinstance(error, PenstockError) else f"{type(error).__name__}: {error}"
    return str(redact(text))


def _error_text(error: Exception) -> str:
    if isinstance(error, PenstockError):
        body = redact(error.as_dict())
        try:
            return encode_json(body, what="The error", max_bytes=64 * 1024)
        except PenstockError:  # fields that are no JSON, or far too long
            body.pop("fields", None)
    else:
        body = {"code": PenstockError.code, "message": _shown(error)}
    body["message"] = clean_text(str(body["message"]))[:4000]
    return encode_json(body, what="The error")
