"""A worker's hold on one job: every write goes through it and is refused once somebody else has taken over.

The fencing token is counted up by each claim. A worker that slept through its lease may believe it still
owns the job; its token does not, and the write is rolled back whole (Kleppmann, "How to do distributed
locking", 2016). Clocks of several machines should agree within a lease: if they do not, a job may change
hands too early, which costs repeated work but never a wrong record.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine

from penstock.jobs import queries
from penstock.jobs.errors import LeaseLost
from penstock.jobs.types import Job

logger = logging.getLogger(__name__)


class Lease:
    """One claim of one job. Flags may be read from any thread; `write` may be called from any thread."""

    def __init__(
        self, engine: Engine, job: Job, *, fence: int, lease_ns: int, clock: Callable[[], int]
    ) -> None:
        self.job = job
        self.fence = fence
        self.is_lost = False
        self.is_cancel_requested = job.is_cancel_requested
        self.looked_ns = clock()
        self._engine = engine
        self._lease_ns = lease_ns
        self._clock = clock

    @contextmanager
    def write(self, **values: Any) -> Iterator[tuple[Connection, int]]:
        """Yield a transaction that holds the job, and the time; everything in it is kept or nothing is.

        Sets `values` on the job and renews the lease. Raises `LeaseLost` when the job is no longer ours.
        """
        now_ns = self._clock()
        renewed = {"updated_ns": now_ns, "lease_until_ns": now_ns + self._lease_ns, **values}
        with self._engine.begin() as connection:
            self._note(queries.update_fenced(connection, self.job.id, self.fence, renewed), now_ns)
            yield connection, now_ns

    def renew(self) -> None:
        """Push the end of the lease into the future; raises `LeaseLost`."""
        with self.write():
            pass

    def look(self) -> None:
        """Read whether the job is still ours and wanted, without writing; raises `LeaseLost`."""
        now_ns = self._clock()
        with self._engine.connect() as connection:
            self._note(queries.read_lease(connection, self.job.id, self.fence), now_ns)

    def get_step(self, name: str, input_digest: str) -> str | None:
        """Return the journaled output of a step of this job, or None."""
        with self._engine.connect() as connection:
            return queries.get_step(connection, self.job.id, name, input_digest)

    def _note(self, is_cancel_requested: bool | None, now_ns: int) -> None:
        if is_cancel_requested is None:
            self.is_lost = True
            raise LeaseLost(self.job.id)
        self.is_cancel_requested = is_cancel_requested
        self.looked_ns = now_ns


class Heartbeat:
    """Renews a lease from its own thread while the handler is busy. Use as a context manager."""

    def __init__(self, lease: Lease, *, interval_s: float) -> None:
        self._lease = lease
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat-{lease.job.id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self._lease.renew()
            except LeaseLost:
                return
            except Exception:  # a thread's edge: a database that is away may come back before the lease ends
                logger.warning("heartbeat failed", exc_info=True, extra={"job": self._lease.job.id})
