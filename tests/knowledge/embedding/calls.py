"""A model to embed with in tests: vectors of words, and whatever refusals a test asks for."""

import threading
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from penstock.knowledge.embedding.calls import EmbedAnswer, Refused


def vector_of(text: str, dims: int = 16) -> list[float]:
    row = [0.0] * dims
    for word in text.split():
        row[zlib.crc32(word.encode()) % dims] += 1.0
    return row


class FakeCalls:
    """Counts what it is asked; `longest` is in words, `before` may raise or return another answer."""

    def __init__(
        self,
        *,
        longest: int | None = None,
        dims: int = 16,
        most: int | None = None,
        before: Callable[[Sequence[str]], EmbedAnswer | None] | None = None,
    ) -> None:
        self.longest, self.dims, self.most, self.before = longest, dims, most, before
        self.asked: list[list[str]] = []
        self.dims_asked: list[int | None] = []
        self.traceparents: list[str | None] = []
        self.timeouts: list[float] = []
        self._lock = threading.Lock()

    def ask(
        self, texts: Sequence[str], *, dims: int | None, traceparent: str | None, timeout_s: float
    ) -> EmbedAnswer:
        with self._lock:
            self.asked.append(list(texts))
            self.dims_asked.append(dims)
            self.traceparents.append(traceparent)
            self.timeouts.append(timeout_s)
        if self.before is not None and (answer := self.before(texts)) is not None:
            return answer
        if self.most is not None and len(texts) > self.most:
            raise Refused("status 400: too many inputs", is_size=False)
        if self.longest is not None and max(len(text.split()) for text in texts) > self.longest:
            raise Refused("status 400: maximum context length", is_size=True)
        rows = np.asarray([vector_of(text, self.dims) for text in texts], dtype=np.float32)
        n_tokens = sum(len(text.split()) for text in texts)
        return EmbedAnswer(rows=rows, n_tokens=n_tokens, cost_nano_usd=20 * n_tokens)
