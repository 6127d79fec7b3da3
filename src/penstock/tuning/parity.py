"""The proof that a converted file answers as its source does, or that it does not.

The source's weights go through a numpy reference (`references.py`), the GGUF file through the engine that will
serve it; both get the same token ids. A conversion that fails is not registered; one that passes carries the
figures as evidence. Thresholds are per precision and were set from what correct conversions show, with room:
float32 differs by summation order and the engine's float16 key cache, q8_0 by its 8-bit blocks. A wrong rotary
order or a missing bias is off by orders of magnitude.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from penstock.providers.engines.llama import LlamaEngine
from penstock.providers.engines.ranking import Ranker, read_head
from penstock.tuning.convert.architectures import BertShape, DecoderShape, read_shape
from penstock.tuning.convert.gguf_file import Precision
from penstock.tuning.convert.safetensors import Weights
from penstock.tuning.errors import ParityFailed
from penstock.tuning.references import bert_embedding, bert_score, decoder_logits, log_softmax
from penstock.tuning.renderer import Renderer, build_renderer, read_renderer_spec

SAMPLE_TEXTS = (
    "Walking for half an hour a day keeps heart and mind in good order.",
    "How much water should I drink when it is hot outside?",
    "120/80 mmHg is an ordinary reading; above 140/90 ask a clinician.",
    "Æther, naïve café, 東京, Ελλάδα — and an emoji: 🚰.",
    "def answer(question: str) -> str:\n    return '[1] ' + question.strip()",
    "a",
)
_N_TOP = 64
_MAX_POSITIONS = 24
_REST = 1e-6  # single precision cannot tell a smaller rest from its rounding


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds a conversion must keep."""

    max_kl: float
    min_top1_agreement: float
    tie_nats: float
    """Likeliest tokens that lie this near to each other in the source count as the same."""
    min_cosine: float
    """Of vectors, smallest over the samples."""
    max_score_difference: float


THRESHOLDS: dict[Precision, Thresholds] = {
    "f32": Thresholds(
        max_kl=1e-4, min_top1_agreement=0.98, tie_nats=0.01, min_cosine=0.9999, max_score_difference=0.002
    ),
    "f16": Thresholds(
        max_kl=5e-4, min_top1_agreement=0.98, tie_nats=0.02, min_cosine=0.9995, max_score_difference=0.01
    ),
    "q8_0": Thresholds(
        max_kl=2e-2, min_top1_agreement=0.90, tie_nats=0.1, min_cosine=0.999, max_score_difference=0.05
    ),
    "q4_0": Thresholds(
        max_kl=0.5, min_top1_agreement=0.6, tie_nats=0.5, min_cosine=0.97, max_score_difference=0.2
    ),
}


class ParityReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was compared and what came out; None where a measure does not apply."""

    architecture: str
    precision: Precision
    n_compared: int
    """Positions (decoder) or texts (encoder)."""
    thresholds: Thresholds
    passed: bool
    mean_kl: float | None = None
    """Kullback-Leibler divergence of the engine from the reference, in nats, over the reference's top tokens."""
    max_abs_logprob: float | None = None
    """Largest difference of a log-probability among the reference's ten likeliest tokens."""
    top1_agreement: float | None = None
    """Share of positions where both name the same likeliest token (near ties count)."""
    min_cosine: float | None = None
    max_abs_difference: float | None = None

    def as_evidence(self) -> dict[str, Any]:
        """Return the report as JSON, as it is stored with the version."""
        evidence: dict[str, Any] = msgspec.to_builtins(self)
        return {"kind": "parity", **evidence}


def prove_parity(folder: Path, gguf: Path, *, precision: Precision) -> ParityReport:
    """Compare `gguf`, run by the engine, with the source in `folder` and return the report, passed or not."""
    shape = read_shape(folder)
    renderer = build_renderer(read_renderer_spec(folder), (folder / "tokenizer.json").read_bytes())
    ids = [item for item in renderer.encode_texts(SAMPLE_TEXTS) if item]
    weights = Weights(folder)
    try:
        tensors = dict(weights)
    finally:
        weights.close()
    limit = min(shape.context_length, 512)
    if isinstance(shape, DecoderShape):
        return _compare_logits(shape, tensors, gguf, [item[: limit - 2] for item in ids], precision)
    if shape.pooling == "rank":
        return _compare_scores(shape, tensors, gguf, renderer, precision)
    return _compare_embeddings(shape, tensors, gguf, [item[:limit] for item in ids], precision)


def demand_parity(report: ParityReport) -> None:
    """Raise `ParityFailed` unless the report passed."""
    if not report.passed:
        raise ParityFailed(
            f"The converted {report.architecture} model ({report.precision}) does not answer as its source does.",
            hint="Nothing was registered. Convert at a higher precision; if it fails there too, report a bug.",
            **report.as_evidence(),
        )


def _compare_logits(
    shape: DecoderShape, tensors: dict[str, Any], gguf: Path, texts: Sequence[list[int]], precision: Precision
) -> ParityReport:
    engine = LlamaEngine(
        gguf, kind="chat", context_length=min(shape.context_length, 512), n_slots=1, exact_cache=True
    )
    bounds = THRESHOLDS[precision]
    printable_id = texts[-1][-1]  # the last sample is one letter
    divergences, differences, agreements = [], [], []
    for ids in texts:
        reference = log_softmax(decoder_logits(shape, tensors, ids))
        step = max(1, math.ceil(len(ids) * len(texts) / _MAX_POSITIONS))
        for position in range(len(ids) - 1, -1, -step):
            row = reference[position]
            engine_row = engine.next_logprobs(
                ids[: position + 1], min(_N_TOP * 4, shape.vocab_size), printable_id=printable_id
            )
            top = np.argsort(row)[::-1][:_N_TOP]
            # tokens the engine does not list are below everything it lists
            floor = min(engine_row.values())
            other = np.array([engine_row.get(int(token), floor) for token in top])
            divergences.append(_divergence(row[top], other))
            differences.append(float(np.abs(row[top[:10]] - other[:10]).max()))
            best = max(engine_row, key=lambda token: engine_row[token])
            agreements.append(bool(best == top[0] or row[top[0]] - row[best] < bounds.tie_nats))
    mean_kl, agreement = float(np.mean(divergences)), float(np.mean(agreements))
    return ParityReport(
        architecture=shape.architecture,
        precision=precision,
        n_compared=len(divergences),
        thresholds=bounds,
        passed=mean_kl <= bounds.max_kl and agreement >= bounds.min_top1_agreement,
        mean_kl=mean_kl,
        max_abs_logprob=max(differences),
        top1_agreement=agreement,
    )


def _divergence(reference: Any, other: Any) -> float:
    """KL over the listed tokens with the rest of each distribution as one more outcome."""
    p, q = np.exp(reference.astype(np.float64)), np.exp(other.astype(np.float64))
    rest_p, rest_q = max(1.0 - p.sum(), _REST), max(1.0 - q.sum(), _REST)
    total = float((p * (reference - other)).sum() + rest_p * math.log(rest_p / rest_q))
    return max(total, 0.0)


def _compare_embeddings(
    shape: BertShape, tensors: dict[str, Any], gguf: Path, texts: Sequence[list[int]], precision: Precision
) -> ParityReport:
    engine = LlamaEngine(gguf, kind="embedding", context_length=min(shape.context_length, 512), n_slots=1)
    rows = engine.embed(texts)
    references = np.stack([bert_embedding(shape, tensors, ids) for ids in texts])
    cosine = float((rows * references).sum(axis=1).min())
    bounds = THRESHOLDS[precision]
    return ParityReport(
        architecture="bert",
        precision=precision,
        n_compared=len(texts),
        thresholds=bounds,
        passed=cosine >= bounds.min_cosine,
        min_cosine=cosine,
        max_abs_difference=float(np.abs(rows - references).max()),
    )


def _compare_scores(
    shape: BertShape, tensors: dict[str, Any], gguf: Path, renderer: Renderer, precision: Precision
) -> ParityReport:
    """Compare the scores of pairs, squashed to 0…1 as they are served."""
    limit = min(shape.context_length, 512)
    engine = LlamaEngine(gguf, kind="rerank", context_length=limit, n_slots=1)
    ranker = Ranker(engine, renderer, read_head(gguf))
    query, *documents = SAMPLE_TEXTS
    scores = ranker.score(query, documents).scores
    references = []
    for document in documents:
        ids, types = ranker.pair(query, document)
        plain = [each - shape.second_offset * kind for each, kind in zip(ids, types, strict=True)]
        of_types = types if shape.n_token_types > 1 else [0] * len(types)
        references.append(1 / (1 + math.exp(-bert_score(shape, tensors, plain, of_types))))
    difference = max(abs(own - other) for own, other in zip(scores, references, strict=True))
    bounds = THRESHOLDS[precision]
    return ParityReport(
        architecture="bert",
        precision=precision,
        n_compared=len(documents),
        thresholds=bounds,
        passed=difference <= bounds.max_score_difference,
        max_abs_difference=difference,
    )
