"""The proof that a converted file answers as its source does, or that it does not.

The source's weights go through a numpy reference (`references.py`), the GGUF file through the engine that will
serve it; both get the same token ids. A conversion that fails is not registered; one that passes carries the
figures as evidence. Of a decoder the file is read back as well: its settings must be the source's, its weights as near as
its precision allows, and the engine must say what these weights say (`parity_decoder.py`). Thresholds are per
precision and were set from what correct conversions of random and trained models show, with room (docs/guides/models.md
has the figures): a wrong rotary order, a missing bias or norm is off by orders of magnitude.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from penstock.tuning.convert.architectures import BertShape, DecoderShape, read_shape
from penstock.tuning.convert.encoder_gguf import WORDS, EncoderWeights, spread_words
from penstock.tuning.convert.from_gguf import GgufWeights
from penstock.tuning.convert.gguf_file import Precision
from penstock.tuning.convert.safetensors import Weights
from penstock.tuning.convert.tensors import find_prefix
from penstock.tuning.errors import NotTrainable, ParityFailed, UnreadableModel
from penstock.tuning.parity_decoder import (
    Agreement,
    Heard,
    ask_engine,
    compare_settings,
    compare_tokenizers,
    compare_weights,
    compare_words,
    load_engine,
)
from penstock.tuning.parity_encoder import HeardScores, HeardVectors, Nearness, hear_scores, hear_vectors
from penstock.tuning.renderer import Renderer, build_renderer, read_renderer_spec

SAMPLE_TEXTS = (
    "Walking for half an hour a day keeps heart and mind in good order.",
    "How much water should I drink when it is hot outside?",
    "120/80 mmHg is an ordinary reading; above 140/90 ask a clinician.",
    "Æther, naïve café, 東京, Ελλάδα — and an emoji: 🚰.",
    "def answer(question: str) -> str:\n    return '[1] ' + question.strip()",
    "a",
)
ODD_TEXTS = (
    "  two  spaces\n\nnew\tTab 1234567 don't I'LL",
    "<|end|> [1] [2]x </s>",
    "e\u0301 decomposed, العربية, 日本語, 🚰🚰",
    "12.5% of 1,000 — (a+b)*c == d!?",
)
"""Where ways of cutting text differ: runs of digits, spaces and newlines, apostrophes, marks."""
ROUNDED: frozenset[Precision] = frozenset({"q8_0", "q4_0"})


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds a conversion must keep."""

    max_kl: float
    """Of the engine from the source. Of rounded files a bound on ruin, not on quality: that is measured and gated."""
    min_top1_agreement: float
    """Of the engine with the file's own weights."""
    tie_nats: float
    """Likeliest tokens that lie this near to each other count as the same."""
    min_cosine: float
    """Of vectors, smallest over the samples."""
    max_score_difference: float
    max_spread_difference: float
    """Of scores before they are squashed, in standard deviations over the pairs. At four bits a bound on ruin, as `max_kl`."""
    max_file_kl: float | None = None
    """Of the engine from the reference run on the file's own weights."""
    max_weight_error: float | None = None
    """Of a tensor read back from the file, relative to the source's; a hundredth of it for vectors."""
    min_file_cosine: float | None = None
    """Of vectors with the reference run on the file's own weights."""
    max_file_spread: float | None = None
    """Of scores before they are squashed, likewise, in standard deviations over the pairs."""


THRESHOLDS: dict[Precision, Thresholds] = {
    "f32": Thresholds(
        max_kl=1e-4,
        min_top1_agreement=0.98,
        tie_nats=0.01,
        min_cosine=0.9999,
        max_score_difference=0.01,  # the engine's activations are rounded alike at all precisions
        max_spread_difference=0.02,
        max_file_kl=1e-4,
        max_weight_error=1e-6,
    ),
    "f16": Thresholds(
        max_kl=5e-4,
        min_top1_agreement=0.98,
        tie_nats=0.02,
        min_cosine=0.9995,
        max_score_difference=0.01,
        max_spread_difference=0.02,
        max_file_kl=5e-4,
        max_weight_error=1e-3,
    ),
    "q8_0": Thresholds(
        max_kl=5e-2,
        min_top1_agreement=0.90,
        tie_nats=0.1,
        min_cosine=0.999,
        max_score_difference=0.05,
        max_spread_difference=0.35,
        max_file_kl=2e-2,
        max_weight_error=0.03,
        min_file_cosine=0.999,
        max_file_spread=0.35,
    ),
    "q4_0": Thresholds(
        max_kl=2.0,
        min_top1_agreement=0.90,
        tie_nats=0.1,
        min_cosine=0.97,
        max_score_difference=0.2,
        max_spread_difference=2.5,
        max_file_kl=2e-2,
        max_weight_error=0.2,
        min_file_cosine=0.999,
        max_file_spread=0.35,
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
    file_kl: float | None = None
    """Divergence of the engine from the reference run on the file's own weights; None where these are the source's."""
    file_top1_agreement: float | None = None
    max_weight_error: float | None = None
    """Largest relative difference of a tensor read back from the file."""
    worst_tensor: str | None = None
    differing_settings: tuple[str, ...] = ()
    unreadable: str | None = None
    """Why the file could not be read back."""
    otherwise_cut: tuple[str, ...] = ()
    """Samples that the engine's vocabulary cuts or joins otherwise than the model's tokenizer."""
    min_cosine: float | None = None
    max_abs_difference: float | None = None
    max_spread_difference: float | None = None
    """Of a reranker: largest difference of a score before it is squashed, in standard deviations of the pairs' scores."""
    file_cosine: float | None = None
    """Of an encoder's vectors with the reference run on the file's own weights; None where these are the source's."""
    file_spread_difference: float | None = None

    def as_evidence(self) -> dict[str, Any]:
        """Return the report as JSON, as it is stored with the version."""
        evidence: dict[str, Any] = msgspec.to_builtins(self)
        return {"kind": "parity", **evidence}


def prove_parity(folder: Path, gguf: Path, *, precision: Precision) -> ParityReport:
    """Compare `gguf`, run by the engine, with the source in `folder` and return the report, passed or not."""
    shape = read_shape(folder)
    renderer = build_renderer(read_renderer_spec(folder), (folder / "tokenizer.json").read_bytes())
    texts = _sample_ids(renderer, min(shape.context_length, 512))
    weights = Weights(folder)
    try:
        if isinstance(shape, DecoderShape):
            engine = load_engine(gguf, shape)
            odd = compare_tokenizers(engine, folder / "tokenizer.json", (*SAMPLE_TEXTS, *ODD_TEXTS))
            heard = ask_engine(engine, shape, texts, printable_id=texts[-1][-1])
            report = _prove_decoder(shape, weights, gguf, heard, texts, precision=precision)
            return msgspec.structs.replace(report, otherwise_cut=odd, passed=report.passed and not odd)
        said = (
            hear_scores(gguf, shape, renderer, SAMPLE_TEXTS)
            if shape.pooling == "rank"
            else hear_vectors(gguf, shape, texts)
        )
        return _prove_encoder(shape, weights, gguf, said, precision=precision)
    finally:
        weights.close()


def prove_adapter(merged: Path, base_gguf: Path, adapter_gguf: Path, *, precision: Precision) -> ParityReport:
    """Compare the engine with the adapter on its base with the numpy reference of the merged weights.

    `precision` is that of the base's file.
    """
    shape = read_shape(merged)
    assert isinstance(shape, DecoderShape)
    renderer = build_renderer(read_renderer_spec(merged), (merged / "tokenizer.json").read_bytes())
    texts = _sample_ids(renderer, min(shape.context_length, 512))
    bounds = THRESHOLDS[precision]
    engine = load_engine(base_gguf, shape, adapter=adapter_gguf)
    heard = ask_engine(engine, shape, texts, printable_id=texts[-1][-1], with_adapter=True)
    weights = Weights(merged)
    try:
        found = compare_words(heard, shape, dict(weights), texts, tie_nats=bounds.tie_nats)
    finally:
        weights.close()
    return ParityReport(
        architecture=shape.architecture,
        precision=precision,
        n_compared=found.n,
        thresholds=bounds,
        passed=found.mean_kl <= bounds.max_kl and found.top1 >= bounds.min_top1_agreement,
        mean_kl=found.mean_kl,
        max_abs_logprob=found.max_abs_logprob,
        top1_agreement=found.top1,
    )


def _sample_ids(renderer: Renderer, limit: int) -> list[list[int]]:
    """Return the ids of the samples, cut to what fits, the last of them one that ends with a printable letter."""
    found = [ids[: limit - 2] for ids in renderer.encode_texts(SAMPLE_TEXTS) if ids]
    while len(found[-1]) > 1 and renderer.decode(found[-1][-1:]).strip() != SAMPLE_TEXTS[-1]:
        found[-1].pop()  # an end token that the tokenizer adds by itself
    return found


def demand_parity(report: ParityReport) -> None:
    """Raise `ParityFailed` unless the report passed."""
    if not report.passed:
        raise ParityFailed(
            f"The converted {report.architecture} model ({report.precision}) does not answer as its source does.",
            hint="Nothing was registered. Convert at a higher precision; if it fails there too, report a bug.",
            **report.as_evidence(),
        )


@dataclass(frozen=True, kw_only=True)
class _ReadBack:
    """What is found when a decoder's file is read back."""

    settings: tuple[str, ...] = ()
    error: float | None = None
    worst: str | None = None
    words: Agreement | None = None
    """The engine held against the file's own weights; None for exact precisions."""
    unreadable: str | None = None

    def passes(self, bounds: Thresholds) -> bool:
        if self.unreadable is not None or self.settings or self.error is None:
            return False
        words = self.words
        said = words is None or (
            words.mean_kl <= (bounds.max_file_kl or 0.0) and words.top1 >= bounds.min_top1_agreement
        )
        return said and self.error <= (bounds.max_weight_error or 0.0)


def _prove_decoder(
    shape: DecoderShape,
    weights: Mapping[str, Any],
    gguf: Path,
    heard: Sequence[Heard],
    texts: Sequence[list[int]],
    *,
    precision: Precision,
) -> ParityReport:
    bounds = THRESHOLDS[precision]
    source = compare_words(heard, shape, dict(weights), texts, tie_nats=bounds.tie_nats)
    try:
        file = GgufWeights(gguf)
        error, worst = compare_weights(weights, file, list(file))
        words = None
        if precision in ROUNDED:
            words = compare_words(heard, file.shape, dict(file), texts, tie_nats=bounds.tie_nats)
        back = _ReadBack(
            settings=compare_settings(shape, file.shape), error=error, worst=worst or None, words=words
        )
    except (NotTrainable, UnreadableModel, KeyError) as failure:
        back = _ReadBack(unreadable=str(failure))
    top1 = source.top1 if back.words is None else back.words.top1
    return ParityReport(
        architecture=shape.architecture,
        precision=precision,
        n_compared=source.n,
        thresholds=bounds,
        passed=source.mean_kl <= bounds.max_kl and top1 >= bounds.min_top1_agreement and back.passes(bounds),
        mean_kl=source.mean_kl,
        max_abs_logprob=source.max_abs_logprob,
        top1_agreement=source.top1,
        file_kl=None if back.words is None else back.words.mean_kl,
        file_top1_agreement=None if back.words is None else back.words.top1,
        max_weight_error=back.error,
        worst_tensor=back.worst,
        differing_settings=back.settings,
        unreadable=back.unreadable,
    )


def _prove_encoder(
    shape: BertShape,
    weights: Mapping[str, Any],
    gguf: Path,
    heard: HeardVectors | HeardScores,
    *,
    precision: Precision,
) -> ParityReport:
    bounds = THRESHOLDS[precision]
    prefix = find_prefix(weights)
    source = heard.compare(shape, dict(weights))
    own: Nearness | None = None
    try:
        file = EncoderWeights(gguf, prefix=prefix)
        wanted = {**weights, prefix + WORDS: spread_words(shape, weights, prefix=prefix)}
        error, worst = compare_weights(wanted, file, list(file))
        back = _ReadBack(
            settings=compare_settings(shape, file.shape), error=error, worst=worst or None, words=None
        )
        if precision in ROUNDED:
            own = heard.compare_file(file)
    except (UnreadableModel, KeyError, IndexError) as failure:
        back = _ReadBack(unreadable=str(failure))
    return ParityReport(
        architecture="bert",
        precision=precision,
        n_compared=source.n,
        thresholds=bounds,
        passed=_is_near(source, bounds) and back.passes(bounds) and _is_near_file(own, bounds),
        min_cosine=source.cosine,
        max_abs_difference=source.difference,
        max_spread_difference=source.spread,
        file_cosine=None if own is None else own.cosine,
        file_spread_difference=None if own is None else own.spread,
        max_weight_error=back.error,
        worst_tensor=back.worst,
        differing_settings=back.settings,
        unreadable=back.unreadable,
    )


def _is_near(found: Nearness, bounds: Thresholds) -> bool:
    if found.cosine is not None:
        return found.cosine >= bounds.min_cosine
    assert found.spread is not None
    return found.difference <= bounds.max_score_difference and found.spread <= bounds.max_spread_difference


def _is_near_file(own: Nearness | None, bounds: Thresholds) -> bool:
    """Whether the engine computes what the file's own weights say; of exact precisions these are the source's."""
    if own is None:
        return True
    if own.cosine is not None:
        return own.cosine >= (bounds.min_file_cosine or 1.0)
    return own.spread is not None and own.spread <= (bounds.max_file_spread or 0.0)
