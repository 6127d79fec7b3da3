"""What proposals ask of rooms beside them: a model through the gateway, prices, passages, jobs. Joined in `main`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Protocol

from penstock.spec.cases import Passage


@dataclass(frozen=True, kw_only=True)
class ModelAnswer:
    """What a model answered to one call. Unknown is None."""

    status: Literal["ok", "refused", "timeout", "error"]
    text: str = ""
    reason: str = ""
    """Why there is no text."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    trace_id: str | None = None


class ChatModels(Protocol):
    """Asks models as any client of the gateway does."""

    def ask(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        parameters: Mapping[str, Any],
        session: str,
    ) -> ModelAnswer:
        """Return the answer; never raises for what the model or the gateway does."""
        ...

    def price(self, model: str, *, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return what such a call costs now; None when nobody knows."""
        ...


class PassageSource(Protocol):
    """Reads knowledge bases."""

    def read(self, name: str) -> Iterator[Passage]:
        """Yield the passages of a base in a fixed order; raise `NotFound`."""
        ...


class ProposalJobs(Protocol):
    """Queues the background work."""

    def submit(self, spec: dict[str, Any]) -> str:
        """Queue a run and return the job's id."""
        ...
