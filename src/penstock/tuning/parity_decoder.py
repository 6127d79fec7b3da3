"""What is compared of a decoder: the file's settings and weights with the source's, and the engine's words with both.

Rounding to four bits moves the words of a model so far that a wrong conversion could hide behind it. So the engine
is held closely against the reference run on the file's own weights (nothing was lost between the two), and these
weights, read back by `convert.from_gguf`, closely against the source's.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from penstock.providers.engines.llama import LlamaEngine
from penstock.tuning.convert.architectures import DecoderShape, Shape
from penstock.tuning.references import Tensors, decoder_logits, log_softmax

Floats = NDArray[np.float32]
N_TOP = 64
MAX_POSITIONS = 24
N_PROBED = 8
_ROUNDED_SETTINGS = ("rms_eps", "norm_eps", "rope_theta", "rope_factors")
_REST = 1e-6  # single precision cannot tell a smaller rest from its rounding


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What the engine says after some ids: log-probabilities of its likeliest tokens."""

    text: int
    position: int
    logprobs: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How near the engine's words are to a reference's."""

    n: int
    mean_kl: float
    max_abs_logprob: float
    top1: float


def load_engine(gguf: Path, shape: DecoderShape, *, adapter: Path | None = None) -> LlamaEngine:
    """Return an engine with the file, and the adapter laid on if there is one."""
    return LlamaEngine(
        gguf,
        kind="chat",
        context_length=min(shape.context_length, 512),
        n_slots=1,
        exact_cache=True,
        adapters=[] if adapter is None else [(adapter, 1.0)],
    )


def compare_tokenizers(engine: LlamaEngine, tokenizer_json: Path, texts: Sequence[str]) -> tuple[str, ...]:
    """Return the texts that the engine's vocabulary cuts or joins otherwise than the model's own tokenizer.

    Engines get ids, so cutting matters to nobody who asks through Penstock; but a vocabulary that was mapped to the
    wrong way of cutting text is wrong for others, and one that joins wrongly garbles every reply. Texts are normalised
    first: engines do not normalise.
    """
    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    found = []
    for given in texts:
        text = tokenizer.normalizer.normalize_str(given) if tokenizer.normalizer else given
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        joined = tokenizer.decode(ids, skip_special_tokens=False)
        if engine.tokenize(text) != ids or engine.detokenize(ids) != joined:
            found.append(given)
    return tuple(found)


def ask_engine(
    engine: LlamaEngine,
    shape: DecoderShape,
    texts: Sequence[Sequence[int]],
    *,
    printable_id: int,
    with_adapter: bool = False,
) -> list[Heard]:
    """Return what the engine says at about `MAX_POSITIONS` places of the texts, by its adapter if that is asked."""
    step_of = [max(1, math.ceil(len(ids) * len(texts) / MAX_POSITIONS)) for ids in texts]
    return [
        Heard(
            text=number,
            position=position,
            logprobs=engine.next_logprobs(
                list(ids[: position + 1]),
                min(N_TOP * 4, shape.vocab_size),
                printable_id=printable_id,
                adapter=0 if with_adapter else None,
            ),
        )
        for number, ids in enumerate(texts)
        for position in range(len(ids) - 1, -1, -step_of[number])
    ]


def compare_words(
    heard: Sequence[Heard],
    shape: DecoderShape,
    tensors: Tensors,
    texts: Sequence[Sequence[int]],
    *,
    tie_nats: float,
) -> Agreement:
    """Return how near what was heard is to the reference run on these tensors."""
    divergences, differences, agreements = [], [], []
    for number, ids in enumerate(texts):
        reference = log_softmax(decoder_logits(shape, tensors, ids))
        for each in heard:
            if each.text != number:
                continue
            row = reference[each.position]
            top = np.argsort(row)[::-1][:N_TOP]
            # tokens the engine does not list are below everything it lists
            floor = min(each.logprobs.values())
            other = np.array([each.logprobs.get(int(token), floor) for token in top])
            divergences.append(_divergence(row[top], other))
            differences.append(float(np.abs(row[top[:10]] - other[:10]).max()))
            best = max(each.logprobs, key=lambda token: each.logprobs[token])
            agreements.append(bool(best == top[0] or row[top[0]] - row[best] < tie_nats))
    return Agreement(
        n=len(divergences),
        mean_kl=float(np.mean(divergences)),
        max_abs_logprob=max(differences),
        top1=float(np.mean(agreements)),
    )


def compare_weights(source: Tensors, file: Tensors, names: Sequence[str]) -> tuple[float, str]:
    """Return the largest relative difference (Frobenius) of a tensor, and the tensor's name.

    Vectors (norms, biases) are never rounded, so any difference of theirs counts hundredfold.
    """
    worst, where = 0.0, ""
    for name in names:
        one, other = np.asarray(source[name], dtype=np.float32), file[name]
        if one.shape != other.shape:
            return math.inf, name
        scale = float(np.linalg.norm(one))
        error = float(np.linalg.norm(one - other)) / scale if scale else float(np.linalg.norm(other))
        if one.ndim < 2:
            error *= 100
        if error > worst or math.isnan(error):
            worst, where = (math.inf if math.isnan(error) else error), name
    return worst, where


def compare_settings(source: Shape, file: Shape) -> tuple[str, ...]:
    """Return the names of settings that the file says otherwise than the source. Stops may have been named anew, and
    whether vectors are normalised is no matter of the file."""
    found = []
    for field in dataclasses.fields(source):
        if field.name in ("eos_ids", "bos_id", "normalize"):
            continue
        one, other = getattr(source, field.name), getattr(file, field.name)
        same = one == other
        if field.name in _ROUNDED_SETTINGS and one is not None and other is not None:
            same = bool(np.allclose(one, other, rtol=1e-6, atol=0))
        if not same:
            found.append(field.name)
    return tuple(found)


def make_probe(
    shape: DecoderShape, tensors: Tensors, prompts: Sequence[Sequence[int]]
) -> list[dict[str, Any]]:
    """Return what these weights say after each prompt, their `N_PROBED` likeliest tokens: `{"ids", "top": {"ID": logprob}}`.

    Kept with a version, so that whoever serves it can be held against it without having the weights.
    """
    found = []
    for ids in prompts:
        row = log_softmax(decoder_logits(shape, tensors, ids))[-1]
        top = np.argsort(row)[::-1][:N_PROBED]
        found.append(
            {"ids": list(ids), "top": {str(int(token)): round(float(row[token]), 6) for token in top}}
        )
    return found


def _divergence(reference: Any, other: Any) -> float:
    """KL over the listed tokens with the rest of each distribution as one more outcome."""
    p, q = np.exp(reference.astype(np.float64)), np.exp(other.astype(np.float64))
    rest_p, rest_q = max(1.0 - p.sum(), _REST), max(1.0 - q.sum(), _REST)
    total = float((p * (reference - other)).sum() + rest_p * math.log(rest_p / rest_q))
    return max(total, 0.0)
