"""An embedder over one model: prefixes, batches, waiting, halving what is refused, and the check of every answer.

Nothing is cut off silently. A text that the model finds too long is embedded in parts, whose vectors are joined by
their lengths, and counted as such; any other refusal is narrowed down to the text that causes it, which the error
names. Batches of one call are asked side by side, a few at a time.
"""

import contextvars
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from penstock.knowledge.chunk.counting import estimate_tokens
from penstock.knowledge.embedding.backoff import Backoff
from penstock.knowledge.embedding.batches import halve_text, make_batches
from penstock.knowledge.embedding.calls import EmbedAnswer, EmbeddingCalls, Refused
from penstock.knowledge.embedding.errors import RefusedEmbedding, WrongDimensions
from penstock.knowledge.errors import UnusableEmbedding
from penstock.knowledge.types import EmbedUsage, TextKind
from penstock.spec.knowledge import EmbedRecipe

Vectors = NDArray[np.float32]
PARALLEL = 4
"""Requests of one call under way at once."""
BUILD = Backoff(deadline_s=120.0)
"""For one request of a build, with all its waiting."""
QUERY = Backoff(deadline_s=5.0, max_attempts=1)
"""Somebody waits, and without a vector the search goes by words."""
_SHOWN_CHARS = 60


class Lengths(Protocol):
    """How a model counts. Asked only when somebody wants to know, as it may have to load a tokenizer."""

    @property
    def longest(self) -> int | None:
        """The longest text that the model reads, its own marks left aside; None where nobody knows."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, without the model's own marks."""


class Estimates:
    """Lengths of a model of which nothing is known."""

    longest: int | None = None

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return estimates, rather too high."""
        return estimate_tokens(texts)


class ModelEmbedder:
    """`knowledge.types.Embedder` over `EmbeddingCalls`."""

    def __init__(
        self,
        calls: EmbeddingCalls,
        recipe: EmbedRecipe,
        *,
        name: str,
        lengths: Lengths | None = None,
        parallel: int = PARALLEL,
        build: Backoff = BUILD,
        query: Backoff = QUERY,
    ) -> None:
        self.id = name
        self._calls = calls
        self._recipe = recipe
        self._lengths = lengths or Estimates()
        self._parallel = parallel
        self._backoffs: dict[TextKind, Backoff] = {"document": build, "query": query}
        self._dims: int | None = recipe.dims
        self._usage = EmbedUsage()
        self._lock = threading.Lock()

    @cached_property
    def max_tokens(self) -> int | None:
        """Longest text that it reads besides the recipe's prefix; None where nobody knows."""
        longest, prefix = self._lengths.longest, self._recipe.document_prefix
        return longest if longest is None or not prefix else longest - self._lengths.count([prefix])[0]

    @property
    def usage(self) -> EmbedUsage:
        """What it was asked for since it was opened."""
        return self._usage

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has."""
        return self._lengths.count(texts)

    def embed(self, texts: Sequence[str], kind: TextKind, *, traceparent: str | None = None) -> Vectors:
        """Return one row a text. Raises `RefusedEmbedding`, `EmbeddingBusy`, `UnusableEmbedding`, `ChangedEmbedder`
        and what the way to the model raises."""
        prefix = self._recipe.query_prefix if kind == "query" else self._recipe.document_prefix
        asked = _Asked(self, prefix, self._backoffs[kind], traceparent)
        # an estimate does to keep requests within bounds; no tokenizer needs to run for that
        counts = [len(text) // 2 + 1 for text in texts]
        batches = [
            texts[each.start : each.stop]
            for each in make_batches(texts, counts, size=self._recipe.batch_size)
        ]
        if not batches:
            return np.zeros((0, self._dims or 0), dtype=np.float32)
        if len(batches) == 1:
            return asked.embed(batches[0])
        with ThreadPoolExecutor(min(self._parallel, len(batches)), "embed") as threads:
            under_way = [
                threads.submit(contextvars.copy_context().run, asked.embed, batch) for batch in batches
            ]
            try:
                return np.concatenate([each.result() for each in under_way])
            except BaseException:
                for each in under_way:
                    each.cancel()
                raise

    def ask(self, texts: Sequence[str], *, backoff: Backoff, traceparent: str | None) -> Vectors:
        """Return the checked answer to one request; raises `Refused` besides."""
        ask = partial(self._calls.ask, texts, dims=self._recipe.dims, traceparent=traceparent)
        answer = backoff.run(lambda left_s: ask(timeout_s=left_s), name=self.id)
        self._check(texts, answer.rows)
        self._add(answer, len(texts))
        return answer.rows

    def add_in_parts(self) -> None:
        """Count a text that was embedded in parts."""
        with self._lock:
            self._usage = replace(self._usage, n_in_parts=self._usage.n_in_parts + 1)

    def _check(self, texts: Sequence[str], rows: Vectors) -> None:
        if rows.ndim != 2 or rows.shape[0] != len(texts) or rows.shape[1] == 0:
            raise UnusableEmbedding(
                f"{self.id!r} answered {len(texts)} texts with an array of shape {rows.shape}."
            )
        with self._lock:
            expected = self._dims = self._dims or rows.shape[1]
        if rows.shape[1] != expected:
            asked_for = "the recipe asks for" if self._recipe.dims else "it gave before"
            raise WrongDimensions(
                f"{self.id!r} answered with {rows.shape[1]} numbers a text, where {asked_for} {expected}.",
                hint="Leave `embed.dims` out of the recipe, or set it to a length that the model can give.",
            )
        for what, wrong in (
            ("values that are not finite", ~np.isfinite(rows).all(axis=1)),
            ("nothing but zeros", ~rows.any(axis=1)),
        ):
            if wrong.any():
                raise UnusableEmbedding(
                    f"{self.id!r} answered with {what} for {_shown(texts[int(np.argmax(wrong))])}."
                )

    def _add(self, answer: EmbedAnswer, n_texts: int) -> None:
        with self._lock:
            old = self._usage
            self._usage = replace(
                old,
                n_requests=old.n_requests + 1,
                n_texts=old.n_texts + n_texts,
                n_tokens=_plus(old.n_tokens, answer.n_tokens),
                cost_nano_usd=_plus(old.cost_nano_usd, answer.cost_nano_usd),
            )


class _Asked:
    """One call of `embed`."""

    def __init__(self, model: ModelEmbedder, prefix: str, backoff: Backoff, traceparent: str | None) -> None:
        self._model = model
        self._prefix = prefix
        self._backoff = backoff
        self._traceparent = traceparent

    def embed(self, texts: Sequence[str], *, is_part: bool = False) -> Vectors:
        """Return one row a text, whatever it takes."""
        try:
            return self._model.ask(
                [self._prefix + text for text in texts],
                backoff=self._backoff,
                traceparent=self._traceparent,
            )
        except Refused as refusal:
            if len(texts) > 1 and refusal.is_of_texts:
                middle = len(texts) // 2
                return np.concatenate([self.embed(texts[:middle]), self.embed(texts[middle:])])
            halves = halve_text(texts[0]) if refusal.is_size and refusal.is_of_texts else None
            if halves is None:
                what = f" {_shown(texts[0])}" if refusal.is_of_texts else ""
                raise RefusedEmbedding(
                    f"{self._model.id!r} does not embed{what}: {refusal.reason}"
                ) from refusal
            if not is_part:
                self._model.add_in_parts()
            return self._join(halves)

    def _join(self, parts: Sequence[str]) -> Vectors:
        """Return the vector of a text from those of its parts, each weighing as much as it is long."""
        joined: Vectors | None = None
        for part in parts:
            row = self.embed([part], is_part=True)
            unit = row / np.linalg.norm(row) * len(part)
            joined = unit if joined is None else joined + unit
        assert joined is not None
        return np.asarray(joined / sum(map(len, parts)), dtype=np.float32)


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return (
        f"the text {line!r}" if len(line) <= _SHOWN_CHARS else f"the text that begins {line[:_SHOWN_CHARS]!r}"
    )


def _plus(total: int | None, more: int | None) -> int | None:
    return None if total is None or more is None else total + more
