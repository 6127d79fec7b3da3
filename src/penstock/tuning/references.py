"""Reference forward passes in numpy, written from the model papers, that a converted file is held against.

Slow and plain on purpose: float32 throughout, one text at a time, no cache. Llama: Touvron et al. 2023 (RMSNorm,
rotary positions in half-rotation order as in the Hugging Face weights, grouped heads, SwiGLU). Qwen2 (Yang et al.
2024) adds biases at q, k and v; Qwen3 (2025) has none and norms each head of q and k before the rotation. BERT:
Devlin et al. 2019 (post-norm, exact GELU).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.tuning.convert.architectures import BertShape, DecoderShape

Array = NDArray[np.float32]
Tensors = Mapping[str, NDArray[Any]]


def decoder_logits(shape: DecoderShape, tensors: Tensors, ids: Sequence[int]) -> Array:
    """Return the logits after each of `ids`: one row per position, one column per token."""
    x = tensors["model.embed_tokens.weight"][list(ids)]
    cos, sin = _rotation(len(ids), shape.head_dim, shape.rope_theta, shape.rope_factors)
    mask = np.triu(np.full((len(ids), len(ids)), -np.inf, dtype=np.float32), 1)
    for layer in range(shape.n_layers):
        at = f"model.layers.{layer}."
        normed = _rms_norm(x, tensors[f"{at}input_layernorm.weight"], shape.rms_eps)
        q = _heads(_linear(normed, tensors, f"{at}self_attn.q_proj"), shape.n_heads)
        k = _heads(_linear(normed, tensors, f"{at}self_attn.k_proj"), shape.n_kv_heads)
        v = _heads(_linear(normed, tensors, f"{at}self_attn.v_proj"), shape.n_kv_heads)
        if shape.qk_norm:
            q = _rms_norm(q, tensors[f"{at}self_attn.q_norm.weight"], shape.rms_eps)
            k = _rms_norm(k, tensors[f"{at}self_attn.k_norm.weight"], shape.rms_eps)
        share = shape.n_heads // shape.n_kv_heads
        k, v = np.repeat(_rotate(k, cos, sin), share, axis=0), np.repeat(v, share, axis=0)
        mixed = _attend(_rotate(q, cos, sin), k, v, mask)
        x = x + _linear(mixed, tensors, f"{at}self_attn.o_proj")
        normed = _rms_norm(x, tensors[f"{at}post_attention_layernorm.weight"], shape.rms_eps)
        gate = _linear(normed, tensors, f"{at}mlp.gate_proj")
        gated = gate / (1 + np.exp(-gate)) * _linear(normed, tensors, f"{at}mlp.up_proj")
        x = x + _linear(gated, tensors, f"{at}mlp.down_proj")
    x = _rms_norm(x, tensors["model.norm.weight"], shape.rms_eps)
    head = tensors["model.embed_tokens.weight" if shape.tied else "lm_head.weight"]
    return np.asarray(x @ head.T, dtype=np.float32)


def bert_embedding(shape: BertShape, tensors: Tensors, ids: Sequence[int]) -> Array:
    """Return the pooled, L2-normalised embedding of one text."""
    x = _encode(shape, tensors, ids, [0] * len(ids))
    pooled = x.mean(axis=0) if shape.pooling == "mean" else x[0]
    return np.asarray(pooled / np.linalg.norm(pooled), dtype=np.float32)


def bert_score(shape: BertShape, tensors: Tensors, ids: Sequence[int], types: Sequence[int]) -> float:
    """Return the score (before any squashing) of a pair of texts; `types` is 1 for tokens of the second."""
    first = _encode(shape, tensors, ids, types)[0]
    pooled = np.tanh(_linear(first, tensors, "bert.pooler.dense"))
    return float(_linear(pooled, tensors, "classifier")[0])


def _encode(shape: BertShape, tensors: Tensors, ids: Sequence[int], types: Sequence[int]) -> Array:
    prefix = "bert." if "bert.embeddings.LayerNorm.weight" in tensors else ""
    at = f"{prefix}embeddings."
    x = (
        tensors[f"{at}word_embeddings.weight"][list(ids)]
        + tensors[f"{at}position_embeddings.weight"][: len(ids)]
        + tensors[f"{at}token_type_embeddings.weight"][list(types)]
    )
    x = _layer_norm(x, tensors, f"{at}LayerNorm", shape.norm_eps)
    for layer in range(shape.n_layers):
        at = f"{prefix}encoder.layer.{layer}."
        q, k, v = (
            _heads(_linear(x, tensors, f"{at}attention.self.{name}"), shape.n_heads)
            for name in ("query", "key", "value")
        )
        mixed = _linear(_attend(q, k, v, None), tensors, f"{at}attention.output.dense")
        x = _layer_norm(x + mixed, tensors, f"{at}attention.output.LayerNorm", shape.norm_eps)
        widened = _gelu(_linear(x, tensors, f"{at}intermediate.dense"))
        x = x + _linear(widened, tensors, f"{at}output.dense")
        x = _layer_norm(x, tensors, f"{at}output.LayerNorm", shape.norm_eps)
    return np.asarray(x, dtype=np.float32)


def log_softmax(logits: Array) -> Array:
    """Return log-probabilities along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), dtype=np.float32)


def _linear(x: Array, tensors: Tensors, name: str) -> Array:
    out = x @ tensors[f"{name}.weight"].T
    bias = f"{name}.bias"
    return np.asarray(out + tensors[bias] if bias in tensors else out, dtype=np.float32)


def _heads(x: Array, n_heads: int) -> Array:
    return x.reshape(len(x), n_heads, -1).swapaxes(0, 1)


def _attend(q: Array, k: Array, v: Array, mask: Array | None) -> Array:
    weights = q @ k.swapaxes(1, 2) / np.sqrt(np.float32(q.shape[-1]))
    if mask is not None:
        weights = weights + mask
    mixed = np.exp(log_softmax(weights)) @ v
    return np.asarray(mixed.swapaxes(0, 1).reshape(q.shape[1], -1), dtype=np.float32)


def _rms_norm(x: Array, weight: Array, eps: float) -> Array:
    return np.asarray(x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight, dtype=np.float32)


def _layer_norm(x: Array, tensors: Tensors, name: str, eps: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)
    return np.asarray(scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"], dtype=np.float32)


def _rotation(
    n_positions: int, head_dim: int, theta: float, factors: Sequence[float] | None
) -> tuple[Array, Array]:
    frequencies = 1.0 / theta ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if factors is not None:
        frequencies = frequencies / np.array(factors)
    angles = np.outer(np.arange(n_positions), np.concatenate([frequencies, frequencies]))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _rotate(x: Array, cos: Array, sin: Array) -> Array:
    half = x.shape[-1] // 2
    turned = np.concatenate([-x[..., half:], x[..., :half]], axis=-1)
    return np.asarray(x * cos + turned * sin, dtype=np.float32)


def _gelu(x: Array) -> Array:
    """x·Φ(x), with erf after Abramowitz & Stegun 7.1.26 (absolute error ≤ 1.5e-7)."""
    z = np.abs(x) / np.sqrt(2.0)
    t = 1.0 / (1.0 + 0.3275911 * z)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1.0 - series * np.exp(-z * z))
    return np.asarray(0.5 * x * (1.0 + erf), dtype=np.float32)
