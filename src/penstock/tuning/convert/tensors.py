"""Which tensor of a Hugging Face folder becomes which of a GGUF file, and what is done to it on the way."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.tuning.convert.architectures import BertShape, DecoderShape, Shape
from penstock.tuning.errors import UnreadableModel

Array = NDArray[Any]


def permute_rows(weight: Array, n_heads: int) -> Array:
    """Reorder q or k rows from the half-rotation of Hugging Face to the interleaved pairs of the `llama` arch."""
    rows = weight.shape[0]
    split = weight.reshape(n_heads, 2, rows // n_heads // 2, *weight.shape[1:])
    return split.swapaxes(1, 2).reshape(weight.shape)


def unpermute_rows(weight: Array, n_heads: int) -> Array:
    """Take `permute_rows` back."""
    rows = weight.shape[0]
    split = weight.reshape(n_heads, rows // n_heads // 2, 2, *weight.shape[1:])
    return split.swapaxes(1, 2).reshape(weight.shape)


@dataclass(frozen=True, kw_only=True)
class TensorPlan:
    """One tensor of the outcome: its name there, its name here, and what is done to it on the way."""

    target: str
    source: str
    change: Callable[[Array], Array] | None = None


_DECODER_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_PROJECTIONS = {"attn_q": "q", "attn_k": "k", "attn_v": "v", "attn_output": "o"}
_BERT_LAYER = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}
_ENCODER = "bert."
_RANK_HEAD = {"cls": "bert.pooler.dense", "cls.output": "classifier"}
_IGNORED = ("position_ids", "rotary_emb.inv_freq", "pooler.dense.weight", "pooler.dense.bias")


def plan_tensors(shape: Shape, names: tuple[str, ...]) -> list[TensorPlan]:
    """Return every tensor to write, in order.

    Raises `UnreadableModel` when a needed tensor is missing or one is there that nothing would read.
    """
    plans = (
        plan_decoder(shape)
        if isinstance(shape, DecoderShape)
        else plan_encoder(shape, prefix=find_prefix(names))
    )
    needed = {plan.source for plan in plans}
    tied = {"lm_head.weight"} if isinstance(shape, DecoderShape) and shape.tied else set()
    missing = sorted(needed - set(names))
    surplus = sorted(name for name in set(names) - needed - tied if not name.endswith(_IGNORED))
    if missing or surplus:
        raise UnreadableModel(
            f"The weights do not fit config.json: {len(missing)} tensors missing, {len(surplus)} not expected.",
            missing=missing[:8],
            surplus=surplus[:8],
        )
    return plans


def plan_decoder(shape: DecoderShape) -> list[TensorPlan]:
    """Return every tensor of a decoder, in order."""
    plans = [
        TensorPlan(target="token_embd.weight", source="model.embed_tokens.weight"),
        TensorPlan(target="output_norm.weight", source="model.norm.weight"),
    ]
    if not shape.tied:
        plans.append(TensorPlan(target="output.weight", source="lm_head.weight"))
    layout = _DECODER_LAYER | (_QK_NORMS if shape.qk_norm else {})
    for layer in range(shape.n_layers):
        for target, source in layout.items():
            has_bias = _PROJECTIONS.get(target) in shape.biased
            plans += [
                TensorPlan(
                    target=f"blk.{layer}.{target}.{part}",
                    source=f"model.layers.{layer}.{source}.{part}",
                    change=row_change(shape, target),
                )
                for part in (("weight", "bias") if has_bias else ("weight",))
            ]
    return plans


def row_change(shape: DecoderShape, target: str) -> Callable[[Array], Array] | None:
    """Return what is done to the rows of a projection: in `llama` files q and k are reordered, in Qwen's none."""
    heads = {"attn_q": shape.n_heads, "attn_k": shape.n_kv_heads}.get(target)
    if heads is None or shape.architecture != "llama":
        return None
    return lambda weight: permute_rows(weight, heads)


def find_prefix(names: Iterable[str]) -> str:
    """Return what stands before the names of an encoder's tensors."""
    return _ENCODER if any(name.startswith(_ENCODER) for name in names) else ""


def plan_encoder(shape: BertShape, *, prefix: str) -> list[TensorPlan]:
    """Return every tensor of an encoder, in order; of a reranker its head as well."""
    plans = [TensorPlan(target=each.target, source=f"{prefix}{each.source}") for each in _plan_bert(shape)]
    if shape.pooling == "rank":
        plans += [
            TensorPlan(target=f"{target}.{part}", source=f"{source}.{part}")
            for target, source in _RANK_HEAD.items()
            for part in ("weight", "bias")
        ]
    return plans


def _plan_bert(shape: BertShape) -> list[TensorPlan]:
    plans = [
        TensorPlan(target="token_embd.weight", source="embeddings.word_embeddings.weight"),
        TensorPlan(target="position_embd.weight", source="embeddings.position_embeddings.weight"),
        TensorPlan(target="token_types.weight", source="embeddings.token_type_embeddings.weight"),
        TensorPlan(target="token_embd_norm.weight", source="embeddings.LayerNorm.weight"),
        TensorPlan(target="token_embd_norm.bias", source="embeddings.LayerNorm.bias"),
    ]
    for layer in range(shape.n_layers):
        plans += [
            TensorPlan(target=f"blk.{layer}.{target}.{part}", source=f"encoder.layer.{layer}.{source}.{part}")
            for target, source in _BERT_LAYER.items()
            for part in ("weight", "bias")
        ]
    return plans


def count_parameters(sizes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the number of values in the tensors written."""
    return int(sum(np.prod(size, dtype=np.int64) for size in sizes.values()))
