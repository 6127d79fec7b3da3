"""Queues runs of evaluations and experiments, and says what is so of one whose job ended without telling it.

Each time something is queued it gets a further number of its run. A job carries the number of its run, so that one which is just
ending, or is tried again by hand, is never taken for the one that was asked for last.
"""

from typing import Any

import msgspec

from penstock.evals.errors import EvaluationRunning
from penstock.evals.ports import EvaluationJobs
from penstock.evals.store import EvaluationStore
from penstock.evals.types import EvaluationRecord

AT_REST: frozenset[str] = frozenset({"done", "stopped", "failed"})


class RunQueue:
    """Runs of evaluations. All of it may be called from any thread."""

    def __init__(self, store: EvaluationStore, jobs: EvaluationJobs) -> None:
        self._store = store
        self._jobs = jobs

    def first(self, record: EvaluationRecord) -> EvaluationRecord:
        """Queue the run of a new evaluation; when that fails, the evaluation is not there."""
        try:
            return self._submit(record, score_only=False)
        except BaseException:
            self._store.delete(record.id)
            raise

    def again(self, record: EvaluationRecord, *, score_only: bool = False, **fields: Any) -> EvaluationRecord:
        """Queue a further run with these fields set; when that fails, all stays as it was. Raises `EvaluationRunning`."""
        before = record

        def change(old: EvaluationRecord) -> EvaluationRecord:
            nonlocal before
            before = must_rest(old)
            return msgspec.structs.replace(
                old, state="queued", job_id=None, run=old.run + 1, finished_ns=None, **fields
            )

        queued = self._store.change(record.id, change)
        try:
            return self._submit(queued, score_only=score_only)
        except BaseException:
            self._store.change(record.id, lambda _: before)
            raise

    def _submit(self, record: EvaluationRecord, *, score_only: bool) -> EvaluationRecord:
        job_id = self._jobs.submit(record.id, run=record.run, score_only=score_only)
        return self._store.update(record.id, job_id=job_id)

    def settled(self, record: EvaluationRecord) -> EvaluationRecord:
        """Return the record as it is: one whose job has ended runs no more, whatever it says."""
        if record.state in AT_REST or record.is_local or record.job_id is None:
            return record
        ending = self._jobs.ending(record.job_id)
        if ending is None:
            return record
        state, reason = ending
        now_ns = self._store.now_ns()

        def change(old: EvaluationRecord) -> EvaluationRecord:
            if old.state in AT_REST or old.job_id != record.job_id:
                return old
            told = old.reason if state == "stopped" and old.reason else reason
            return msgspec.structs.replace(old, state=state, reason=told, finished_ns=now_ns, eta_s=None)

        self._store.change(record.id, change)
        return self._store.count(record.id)

    def stop(self, record: EvaluationRecord, reason: str) -> EvaluationRecord:
        """End the run; see `EvaluationService.stop`."""
        if record.state in AT_REST:
            return record
        if record.job_id is not None:
            self._jobs.cancel(record.job_id)
        is_idle = record.state == "queued" or record.is_local

        def change(old: EvaluationRecord) -> EvaluationRecord:
            if old.state in AT_REST:
                return old
            ended = {"state": "stopped", "finished_ns": self._store.now_ns()} if is_idle else {}
            return msgspec.structs.replace(old, reason=reason, **ended)

        return self.settled(self._store.change(record.id, change))


def must_rest(record: EvaluationRecord) -> EvaluationRecord:
    """Return the record; raises `EvaluationRunning` while it is queued or running."""
    if record.state not in AT_REST:
        raise EvaluationRunning(
            f"Evaluation {record.id} is {record.state}.",
            hint=f"`penstock eval stop {record.id}` ends it.",
        )
    return record
