"""What evaluations need of others: cases, the gateway, traces, the record of judgements. Joined in `main`.

Every port is small, and every one has a fake in the tests.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from penstock.spec.cases import Case, Output, Passage
from penstock.spec.evaluations import EvaluationState, TargetSpec
from penstock.spec.scores import SpanScore


@dataclass(frozen=True, kw_only=True)
class CaseSet:
    """Cases of one dataset version or file, drawn and in order, read as they are asked for."""

    ref: str | None
    """Pinned, `dataset:NAME@3`; None for a file."""
    stamp: str
    """Version and digest of the dataset, or the digest of the file: equal for equal rows."""
    cases: Iterable[Case]
    """May be read once; never held in memory whole."""


class CaseSource(Protocol):
    """Reads cases."""

    def read(self, ref_or_file: str, *, where: Mapping[str, Any], limit: int | None, seed: int) -> CaseSet:
        """Return the rows of `dataset:NAME@…`, or of a file on this machine, that match `where`.

        With `limit` at most so many, drawn by `seed`, whole groups first; the same draw for the same rows and seed.
        Raises `UnknownAsset` …, and `InvalidInput` that names file and row.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class PinnedTarget:
    """A target whose aliases were replaced by the versions they name now."""

    spec: TargetSpec
    versions: Mapping[str, str]
    """Asset to stamp: `{"prompt:triage": "7 sha256:…"}`; empty for a plain route."""
    stamp: str
    """Equal exactly when the same would be asked of the same: part of the key of kept outputs."""
    takes_variables: frozenset[str] | None = None
    """The variables that a prompt declares: a case's other inputs are not sent. None: no prompt, or nobody knows."""


class TargetPins(Protocol):
    """Pins what may move."""

    def pin(self, target: TargetSpec) -> PinnedTarget:
        """Return the target with each alias replaced by `@NUMBER`. Raises `UnknownAsset`, `UnknownAlias`, …"""
        ...


class Gateway(Protocol):
    """Asks models the way every client does, so that each call has its trace, price and limits."""

    async def chat(
        self, body: Mapping[str, Any], *, headers: Mapping[str, str], timeout_s: float
    ) -> "GatewayReply":
        """Return the reply to `POST /v1/chat/completions`, whatever its status; raise only `UpstreamError`."""
        ...

    async def embed(
        self, model: str, texts: Sequence[str], *, headers: Mapping[str, str]
    ) -> list[list[float]]:
        """Return one vector a text."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


@dataclass(frozen=True, kw_only=True)
class GatewayReply:
    """An HTTP reply of the gateway."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: Any
    """Decoded JSON; None when it was none."""
    text: str = ""
    """The first part of a body that is no JSON."""
    latency_ms: float = 0.0
    ttft_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class TraceFact:
    """What the trace of a call tells that its reply does not. None and empty: it does not say."""

    trace_id: str
    cost_usd: Decimal | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    passages: Sequence[Passage] = ()
    """What was retrieved on the way, in rank order."""
    ttft_ms: float | None = None


class TraceFacts(Protocol):
    """Reads the traces of calls."""

    def find(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFact]:
        """Return what is known by now of those traces that have arrived; the others are missing."""
        ...


class SpanScores(Protocol):
    """Writes judgements onto traces."""

    def add(self, scores: Sequence[SpanScore]) -> None:
        """Store them; the later of two alike takes the place of the earlier."""
        ...


class Prices(Protocol):
    """Knows prices beforehand, for plans and reservations."""

    def estimate_usd(self, model: str, *, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return what a call of this route would cost about now; None when nobody knows."""
        ...


Ending = tuple[EvaluationState, str]
"""The state that a job's end leaves behind where nothing else was said, and why."""


class EvaluationJobs(Protocol):
    """Starts and ends the background work of one evaluation."""

    def submit(self, evaluation_id: str, *, run: int, score_only: bool = False) -> str:
        """Queue this run and return the job's id; queued twice, it is one job. `score_only`: ask nothing."""
        ...

    def ending(self, job_id: str) -> Ending | None:
        """Return how a job has ended; None while it waits or runs."""
        ...

    def cancel(self, job_id: str) -> None:
        """End the run at its next step; nothing when it has ended."""
        ...


class Target(Protocol):
    """What answers, ready to be asked."""

    async def answer(self, case: Case, repeat: int) -> Output:
        """Return the output; never raises for what the target does."""
        ...

    async def close(self) -> None:
        """Let go of what it holds."""
        ...
