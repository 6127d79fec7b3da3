"""A cross-encoder on the engine: question and document are read together, and a small head makes a score of them.

The encoder runs in llama.cpp; the head (dense, tanh, dense) is a few thousand products and is applied here. llama.cpp has a
pooling of its own for this, but knows one type of token only, and BERT's rerankers were trained on two: they would score
almost right. So a document's tokens have ids of their own, see `tuning.convert.gguf_file`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.base.errors import InvalidInput
from penstock.providers.engines.errors import EngineFailed
from penstock.providers.engines.llama import LlamaEngine
from penstock.providers.engines.measuring import find_edges
from penstock.providers.engines.types import PromptRenderer

MAX_DOCUMENTS = 1000
BATCH = 16
Floats = NDArray[np.float32]


class _Document(msgspec.Struct):
    text: str


class RerankRequest(msgspec.Struct, frozen=True):
    """Documents to be scored for a query, in the shape that Jina and most open servers take."""

    model: str
    query: str
    documents: list[str | _Document]
    top_n: int | None = None
    return_documents: bool = False

    @property
    def texts(self) -> list[str]:
        """The documents' texts."""
        return [each if isinstance(each, str) else each.text for each in self.documents]


@dataclass(frozen=True, kw_only=True)
class RankHead:
    """What makes a score of the first token's vector."""

    dense: Floats
    dense_bias: Floats
    output: Floats
    output_bias: Floats
    second_offset: int

    def apply(self, rows: Floats) -> Floats:
        """Return a score between 0 and 1 for each row."""
        scores: Floats = (1.0 / (1.0 + np.exp(-self.logits(rows)))).astype(np.float32)
        return scores

    def logits(self, rows: Floats) -> NDArray[np.float64]:
        """Return the score of each row before it is squashed: far from a half, squashed ones hardly differ."""
        pooled = np.tanh(rows @ self.dense.T + self.dense_bias)
        found: NDArray[np.float64] = (pooled @ self.output.T + self.output_bias)[:, 0].astype(np.float64)
        return found


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Scores in the order of the documents, between 0 and 1."""

    scores: list[float]
    n_tokens: int
    truncated: list[int]
    """Numbers of documents that were cut to fit."""


class Ranker:
    """Scores documents for a query. May be used from several threads."""

    def __init__(self, engine: LlamaEngine, renderer: PromptRenderer, head: RankHead) -> None:
        self._engine = engine
        self._renderer = renderer
        self._head = head
        self._n_start = len(find_edges(renderer)[0])

    def pair(self, query: str, document: str) -> tuple[list[int], list[Literal[0, 1]]]:
        """Return ids and types of `[start] query [end] document [end]`, cut to the model's context.

        A query has at most half of it; of a document what stands behind the bound is cut, the end token stays.
        """
        ids, types, _ = self._join(*self._renderer.encode_texts([query, document]))
        return ids, types

    def score(
        self, query: str, documents: Sequence[str], is_cancelled: Callable[[], bool] = lambda: False
    ) -> Ranking:
        """Return the scores; those that are not worked out any more when the call is cancelled are missing."""
        asked, *texts = self._renderer.encode_texts([query, *documents])
        joined = [self._join(asked, text) for text in texts]
        scores: list[float] = []
        for start in range(0, len(joined), BATCH):
            if is_cancelled():
                break
            rows = self._engine.embed([ids for ids, _, _ in joined[start : start + BATCH]])
            scores += map(float, self._head.apply(rows))
        return Ranking(
            scores=scores,
            n_tokens=sum(len(ids) for ids, _, _ in joined),
            truncated=[number for number, (_, _, is_cut) in enumerate(joined) if is_cut],
        )

    def _join(
        self, query: Sequence[int], document: Sequence[int]
    ) -> tuple[list[int], list[Literal[0, 1]], bool]:
        room = self._engine.context_length
        first = _cut(query, room // 2)
        second = _cut(document[self._n_start :], room - len(first))
        ids = [*first, *(each + self._head.second_offset for each in second)]
        types: list[Literal[0, 1]] = [*([0] * len(first)), *([1] * len(second))]  # type: ignore[list-item]
        return ids, types, len(second) < len(document) - self._n_start


def read_head(gguf_file: Path) -> RankHead:
    """Return the head of a converted reranker; raise `EngineFailed` when the file has none."""
    import gguf  # half a second, for the few processes that host a reranker

    reader = gguf.GGUFReader(gguf_file)
    tensors: dict[str, Any] = {each.name: each.data for each in reader.tensors if each.name.startswith("cls")}
    field = reader.get_field("penstock.second_text_offset")
    try:
        return RankHead(
            dense=np.array(tensors["cls.weight"], dtype=np.float32),
            dense_bias=np.array(tensors["cls.bias"], dtype=np.float32),
            output=np.atleast_2d(np.array(tensors["cls.output.weight"], dtype=np.float32)),
            output_bias=np.array(tensors["cls.output.bias"], dtype=np.float32),
            second_offset=0 if field is None else int(field.contents()),
        )
    except KeyError as error:
        raise EngineFailed(f"{gguf_file.name} holds no head that ranks: {error} is missing.") from error


def read_rerank(body: bytes) -> RerankRequest:
    """Return the checked request; raise `InvalidInput`."""
    try:
        request = msgspec.json.decode(body, type=RerankRequest)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidInput(f"The body cannot be read: {error}.") from error
    if not 1 <= len(request.documents) <= MAX_DOCUMENTS:
        raise InvalidInput(f"`documents` holds 1 to {MAX_DOCUMENTS} texts.", param="documents")
    if not request.query.strip():
        raise InvalidInput("`query` is empty.", param="query")
    if request.top_n is not None and request.top_n < 1:
        raise InvalidInput("`top_n` is at least 1.", param="top_n")
    return request


def rerank_body(request: RerankRequest, ranking: Ranking) -> dict[str, Any]:
    """Return the reply: the best `top_n`, best first, ties in the order of the documents."""
    order = sorted(range(len(ranking.scores)), key=lambda number: (-ranking.scores[number], number))
    results = []
    for number in order[: request.top_n]:
        row: dict[str, Any] = {"index": number, "relevance_score": ranking.scores[number]}
        if request.return_documents:
            row["document"] = {"text": request.texts[number]}
        results.append(row)
    body: dict[str, Any] = {
        "object": "list",
        "model": request.model,
        "results": results,
        "usage": {"prompt_tokens": ranking.n_tokens, "total_tokens": ranking.n_tokens},
    }
    if ranking.truncated:
        body["truncated"] = ranking.truncated
    return body


def _cut(ids: Sequence[int], limit: int) -> list[int]:
    return list(ids) if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]
