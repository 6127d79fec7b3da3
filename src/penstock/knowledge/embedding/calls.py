"""The port to whatever embeds: one request, one answer, and the two ways in which it may say no."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class EmbedAnswer:
    """Vectors in the order of the texts, and what they took. Unknown is None."""

    rows: NDArray[np.float32]
    n_tokens: int | None = None
    cost_nano_usd: int | None = None


class EmbeddingCalls(Protocol):
    """Asks one model in one version."""

    def ask(
        self, texts: Sequence[str], *, dims: int | None, traceparent: str | None, timeout_s: float
    ) -> EmbedAnswer:
        """Return one row a text. Raises `NoRoomNow`, `Refused`, `UpstreamError` or `ChangedEmbedder`."""


class NoRoomNow(Exception):
    """Not now: too many requests, or a failure that passes. Never leaves this room."""

    def __init__(self, reason: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class Refused(Exception):
    """Not these texts: too long, too many, or not to the model's liking. Never leaves this room."""

    def __init__(self, reason: str, *, is_size: bool, is_of_texts: bool = True) -> None:
        """`is_size` where the answer says that it is too much; `is_of_texts` unless no other texts would do either."""
        super().__init__(reason)
        self.reason = reason
        self.is_size = is_size
        self.is_of_texts = is_of_texts
