"""What a job's handler is given: steps that run once, progress, logs, and the question whether to stop."""

import threading
from collections.abc import Callable
from typing import Any

from penstock.base.errors import InvalidInput
from penstock.base.json_text import clean_text, decode_json, digest_text, encode_json
from penstock.jobs import queries
from penstock.jobs.errors import JobCancelled, LeaseLost, WorkerStopping
from penstock.jobs.lease import Lease

MAX_OUTPUT_BYTES = 1024 * 1024
PROGRESS_EVERY_NS = 500_000_000
LOOK_EVERY_NS = 250_000_000


class JobContext:
    """One run of one job. Every method may raise `JobInterrupt`; let it pass.

    For use by the handler's own thread. Handlers must be repeatable outside steps: after a crash the
    handler starts from its first line, and only finished steps are skipped.
    """

    def __init__(self, lease: Lease, *, clock: Callable[[], int], stopping: threading.Event) -> None:
        self._lease = lease
        self._clock = clock
        self._stopping = stopping
        self._pending: dict[str, Any] = {}
        self._progress_ns = 0

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self._lease.job.id

    @property
    def attempt(self) -> int:
        """1 on the first run, counted up by each retry and takeover."""
        return self._lease.job.attempts

    def step(self, name: str, inputs: dict[str, Any], fn: Callable[[], Any]) -> Any:
        """Return what `fn()` returned for these inputs, running it only if this job has not finished it yet.

        A step is known by its name and the digest of `inputs` (a JSON object that names everything the
        output depends on). Its output is JSON of at most 1 MiB; larger things go to the blob store, and
        their digest here. The value returned is always what the journal holds, so a resumed run sees the
        same as the first one (tuples have become lists). A crash after `fn` and before the journal's write
        runs `fn` again: make its effects repeatable.
        """
        if not name or len(name) > 200:
            raise InvalidInput("A step needs a name of at most 200 characters.", step=name[:80])
        self.check_cancelled()
        input_digest = digest_text(encode_json(inputs, what=f"The input of step {name!r}"))
        journaled = self._lease.get_step(name, input_digest)
        if journaled is not None:
            return decode_json(journaled)
        started_ns = self._clock()
        output = encode_json(fn(), what=f"The output of step {name!r}", max_bytes=MAX_OUTPUT_BYTES)
        with self._lease.write(**self._take_pending()) as (connection, now_ns):
            record = {
                "job_id": self.job_id,
                "name": name,
                "input_digest": input_digest,
                "output": output,
                "attempt": self.attempt,
                "fence": self._lease.fence,
                "started_ns": started_ns,
                "finished_ns": now_ns,
            }
            queries.insert_step(connection, record)
        return decode_json(output)

    def progress(self, fraction: float | None, message: str | None = None) -> None:
        """Say how far the job is (0 to 1, None for unknown) and what it is doing.

        Cheap: at most two a second are written, the last one always with the next write of any kind.
        """
        if fraction is not None:
            fraction = min(1.0, max(0.0, float(fraction)))
        self._pending["progress"] = fraction
        if message is not None:
            self._pending["message"] = clean_text(message)
        now_ns = self._clock()
        if now_ns - self._progress_ns >= PROGRESS_EVERY_NS:
            self._progress_ns = now_ns
            with self._lease.write(**self._take_pending()):
                pass
        self._raise_if_unwanted()

    def log(self, text: str) -> None:
        """Write a line (cut after 16 384 characters) to the job's log; it is durable on return."""
        with self._lease.write(**self._take_pending()) as (connection, now_ns):
            queries.insert_log(connection, self.job_id, at_ns=now_ns, attempt=self.attempt, text=text)

    def check_cancelled(self) -> None:
        """Raise `JobCancelled`, `WorkerStopping` or `LeaseLost` when the run should end. Cheap in a loop."""
        self._raise_if_unwanted()
        if self._clock() - self._lease.looked_ns >= LOOK_EVERY_NS:
            self._lease.look()
            self._raise_if_unwanted()

    def take_unwritten(self) -> dict[str, Any]:
        """Return progress that was not written yet, for the worker's last write."""
        return self._take_pending()

    def _take_pending(self) -> dict[str, Any]:
        pending, self._pending = self._pending, {}
        return pending

    def _raise_if_unwanted(self) -> None:
        if self._lease.is_lost:
            raise LeaseLost(self.job_id)
        if self._lease.is_cancel_requested:
            raise JobCancelled(self.job_id)
        if self._stopping.is_set():
            raise WorkerStopping(self.job_id)
