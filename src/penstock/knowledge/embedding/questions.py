"""Vectors of questions that were asked lately, kept in memory: many users ask the same."""

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from penstock.knowledge.embedding.vectors import embed_rows
from penstock.knowledge.types import Embedder
from penstock.spec.knowledge import EmbedRecipe

KEPT = 512


class QuestionVectors:
    """Least recently asked go first. Safe from several threads."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._vectors: OrderedDict[tuple[str, str, str], NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def embed(
        self, embedder: Embedder, recipe: EmbedRecipe, question: str, *, traceparent: str | None = None
    ) -> NDArray[np.float32]:
        """Return the unit vector of a question; raises what the embedder raises. The vector is not to be written to."""
        key = (embedder.id, recipe.query_prefix, question)
        with self._lock:
            known = self._vectors.get(key)
            if known is not None:
                self._vectors.move_to_end(key)
                return known
        vector: NDArray[np.float32] = embed_rows(embedder, [question], "query", traceparent=traceparent)[0]
        vector.flags.writeable = False
        with self._lock:
            self._vectors[key] = vector
            while len(self._vectors) > self._kept:
                self._vectors.popitem(last=False)
        return vector

    def forget(self) -> None:
        """Drop all, as an erasure wants it."""
        with self._lock:
            self._vectors.clear()
