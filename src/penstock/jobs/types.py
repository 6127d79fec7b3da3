"""The nouns of durable work, as REST, command line and console show them."""

from dataclasses import dataclass
from typing import Any, Literal

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
FINAL_STATES: frozenset[str] = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True, kw_only=True)
class Job:
    """One durable piece of work. Times are nanoseconds since the epoch."""

    id: str
    kind: str
    spec: dict[str, Any]
    state: JobState
    progress: float | None
    """0 to 1; None until the handler says."""
    message: str
    attempts: int
    """How often a worker has begun it since it was submitted or last retried by hand."""
    max_attempts: int
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    """Code, message, hint and fields of the last failure; kept while a retry is waiting."""
    is_cancel_requested: bool
    dedupe_key: str | None
    worker_id: str | None
    not_before_ns: int
    created_ns: int
    updated_ns: int
    started_ns: int | None
    finished_ns: int | None
    lease_until_ns: int | None

    @property
    def is_final(self) -> bool:
        """Whether the job has ended: done, failed or cancelled."""
        return self.state in FINAL_STATES


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line that a job wrote; `id` grows within a job and is what `after` takes."""

    id: int
    at_ns: int
    attempt: int
    text: str


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One finished step of a job: it will not run again for the same inputs."""

    name: str
    input_digest: str
    output: Any
    attempt: int
    started_ns: int
    finished_ns: int
