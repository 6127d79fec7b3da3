"""What sources need of other rooms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


class BlobKeeper(Protocol):
    """Keeps the bytes of documents."""

    def put_bytes(self, data: bytes, /) -> str:
        """Keep `data` and return its digest."""

    def get(self, digest: str, /) -> bytes:
        """Return the bytes again."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """How a run stands that was begun for sources."""

    state: Literal["active", "done", "failed"]
    error: str | None = None


class IngestRuns(Protocol):
    """Begins ingests of a base, each a durable job."""

    def begin(self, base: str, sources: Sequence[str]) -> str | None:
        """Queue an ingest of these sources and return the job's id; None while another of this base is under way."""

    def find(self, job: str) -> RunState | None:
        """Return how it stands; None when there is no such job any more."""
