"""A second look by the vectors of single tokens: each token of the question looks for its nearest in the passage.

MaxSim of Khattab and Zaharia, "ColBERT", 2020, over whichever embedding model the home has. The model is not trained
for it, so what it brings is to be measured. Vectors of passages are kept, those of questions are not.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from penstock.base.digest import digest_bytes
from penstock.knowledge.retrieval.errors import BadRerank
from penstock.knowledge.retrieval.types import RerankText
from penstock.spec.knowledge import RerankRecipe

Tokens = NDArray[np.float32]
"""A row of length one for each token."""
EmbedTokens = Callable[[str, Sequence[str], float], Sequence[Tokens]]
"""From model, texts and seconds to the token vectors of each text. Raises `PenstockError`."""
FindModel = Callable[[str | None], tuple[str, str]]
"""From a recipe's model (None: the home's own) to the model and its version. Raises `PenstockError`."""
KEPT_BYTES = 64 * 1024 * 1024
BATCH = 16
MAX_TEXT_BYTES = 1200
"""Of a text, cut at a word: below 512 tokens of the usual embedders, whose context bounds what they read."""


def measure_max_sim(query: Tokens, passage: Tokens) -> float:
    """Return the mean over the question's tokens of the best cosine with a token of the passage, between -1 and 1."""
    if len(query) == 0 or len(passage) == 0:
        return 0.0
    return float((query @ passage.T).max(axis=1).mean())


class LateInteraction:
    """A `Reranker`. Safe from several threads."""

    def __init__(
        self, embed_tokens: EmbedTokens, find_model: FindModel, *, kept_bytes: int = KEPT_BYTES
    ) -> None:
        self._embed_tokens = embed_tokens
        self._find_model = find_model
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[tuple[str, str], NDArray[np.float16]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def score(
        self, query: str, passages: Sequence[RerankText], recipe: RerankRecipe, *, traceparent: str | None
    ) -> list[float]:
        """Return `measure_max_sim` of the question with each passage."""
        del traceparent  # the engine is asked directly: there is no gateway call to tie to the trace
        model, version = self._find_model(recipe.model)
        texts = [clip_text(_joined(passage)) for passage in passages]
        keys = [(version, digest_bytes(text.encode())) for text in texts]
        known = self._find(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        (asked,) = self._embed(model, [clip_text(query)], recipe.timeout_s)
        waiting = list(missing.items())
        for start in range(0, len(waiting), BATCH):
            batch = waiting[start : start + BATCH]
            rows = self._embed(model, [text for _, text in batch], recipe.timeout_s)
            fresh = {key: own for (key, _), own in zip(batch, rows, strict=True)}
            known.update(fresh)
            self._keep(fresh)
        return [measure_max_sim(asked, known[key]) for key in keys]

    def _embed(self, model: str, texts: Sequence[str], timeout_s: float) -> Sequence[Tokens]:
        rows = self._embed_tokens(model, texts, timeout_s)
        if len(rows) != len(texts) or any(each.ndim != 2 or not np.isfinite(each).all() for each in rows):
            raise BadRerank(f"{model!r} gave no usable token vectors.")
        return rows

    def _find(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Tokens]:
        found = {}
        with self._lock:
            for key in keys:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    found[key] = self._kept[key].astype(np.float32)
        return found

    def _keep(self, fresh: dict[tuple[str, str], Tokens]) -> None:
        with self._lock:
            for key, rows in fresh.items():
                if key in self._kept:
                    continue
                self._kept[key] = rows.astype(np.float16)
                self._size += self._kept[key].nbytes
            while self._size > self._kept_bytes and self._kept:
                _, dropped = self._kept.popitem(last=False)
                self._size -= dropped.nbytes


def clip_text(text: str, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Return the beginning of the text within so many bytes, cut at white space where there is some."""
    if len(text.encode()) <= max_bytes:
        return text
    clipped = text.encode()[:max_bytes].decode("utf-8", "ignore")
    head, space, _ = clipped.rpartition(" ")
    return head if space and len(head) > len(clipped) // 2 else clipped


def _joined(passage: RerankText) -> str:
    return "\n".join(part for part in (passage.title, passage.section, passage.text) if part)
