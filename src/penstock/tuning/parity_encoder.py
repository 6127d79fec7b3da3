"""What is compared of an encoder or a reranker: what the engine makes of texts, with the reference run on some weights.

These are the source's weights and, of a rounded file, the file's own as well: four bits move vectors so far that a wrong
conversion could hide behind it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from penstock.providers.engines.llama import LlamaEngine
from penstock.providers.engines.ranking import Ranker, read_head
from penstock.tuning.convert.architectures import BertShape
from penstock.tuning.convert.encoder_gguf import EncoderWeights
from penstock.tuning.references import bert_embedding, bert_score
from penstock.tuning.renderer import Renderer

RANKED_QUERIES = (
    "How much water should I drink when it is hot outside?",
    "What is an ordinary blood pressure?",
    "Does walking every day help the heart?",
)
"""Each fits one of the samples, and not the others."""
Types = list[Literal[0, 1]]
Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Nearness:
    """How near the engine is to a reference: vectors by their smallest cosine, scores by what parts them."""

    n: int
    difference: float
    """Largest of a vector's places, or of a squashed score."""
    cosine: float | None = None
    spread: float | None = None
    """Largest difference of a score before it is squashed, in standard deviations over the pairs."""


@dataclass(frozen=True, kw_only=True)
class HeardVectors:
    """What the engine makes of texts."""

    ids: Sequence[Sequence[int]]
    rows: NDArray[Any]

    def compare(self, shape: BertShape, tensors: Tensors) -> Nearness:
        """Return how near that is to the reference run on these tensors."""
        references = np.stack([bert_embedding(shape, tensors, ids) for ids in self.ids])
        return Nearness(
            n=len(self.ids),
            cosine=float((self.rows * references).sum(axis=1).min()),
            difference=float(np.abs(self.rows - references).max()),
        )

    def compare_file(self, file: EncoderWeights) -> Nearness:
        """Return how near that is to the reference run on the file's own weights."""
        return self.compare(file.shape, dict(file))


@dataclass(frozen=True, kw_only=True)
class HeardScores:
    """What the engine makes of pairs, before it is squashed. Ids of second texts have their offset."""

    pairs: Sequence[tuple[list[int], Types]]
    logits: NDArray[np.float64]
    second_offset: int

    def compare(self, shape: BertShape, tensors: Tensors) -> Nearness:
        """Return how near that is to the reference run on these tensors.

        A trained reranker says nearly 0 to every pair that does not fit, so squashed scores alone would pass anything. What
        stands before is held against its spread over the pairs: by that the order of documents is decided.
        """
        plain = [
            [each - self.second_offset * kind for each, kind in zip(ids, types, strict=True)]
            for ids, types in self.pairs
        ]
        has_types = shape.n_token_types > 1
        return self._hold(
            bert_score(shape, tensors, ids, types if has_types else [0] * len(types))
            for ids, (_, types) in zip(plain, self.pairs, strict=True)
        )

    def compare_file(self, file: EncoderWeights) -> Nearness:
        """Return how near that is to the reference run on the file's own weights, whose table of token vectors holds the
        types of second texts."""
        tensors = dict(file)
        return self._hold(bert_score(file.shape, tensors, ids, [0] * len(ids)) for ids, _ in self.pairs)

    def _hold(self, scores: Iterable[float]) -> Nearness:
        references = np.array(list(scores), dtype=np.float64)
        spread = float(references.std())
        apart = float(np.abs(self.logits - references).max())
        return Nearness(
            n=len(self.pairs),
            difference=float(np.abs(_squash(self.logits) - _squash(references)).max()),
            spread=apart / spread if spread else (math.inf if apart else 0.0),
        )


def hear_vectors(gguf: Path, shape: BertShape, texts: Sequence[Sequence[int]]) -> HeardVectors:
    """Return what the engine makes of the texts."""
    engine = LlamaEngine(gguf, kind="embedding", context_length=min(shape.context_length, 512), n_slots=1)
    return HeardVectors(ids=texts, rows=engine.embed(texts))


def hear_scores(gguf: Path, shape: BertShape, renderer: Renderer, texts: Sequence[str]) -> HeardScores:
    """Return what the engine makes of each text for each of a few queries, of which some fit."""
    engine = LlamaEngine(gguf, kind="rerank", context_length=min(shape.context_length, 512), n_slots=1)
    head = read_head(gguf)
    ranker = Ranker(engine, renderer, head)
    pairs = [ranker.pair(query, document) for query in RANKED_QUERIES for document in texts]
    logits = np.concatenate([head.logits(engine.embed([ids])) for ids, _ in pairs])
    return HeardScores(pairs=pairs, logits=logits, second_offset=shape.second_offset)


def _squash(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    squashed: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logits))
    return squashed
