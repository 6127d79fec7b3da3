"""The two architectures that are converted: shapes read from `config.json`, tensor names, row permutation.

A setting this file does not know how to honour is refused by name, never ignored: a model that answers almost
right is worse than one that does not start.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from penstock.tuning.errors import UnreadableModel, UnsupportedModel

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class LlamaShape:
    """A Llama-type decoder."""

    architecture: Literal["llama"] = "llama"
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    hidden_size: int
    ffn_size: int
    vocab_size: int
    context_length: int
    rms_eps: float
    rope_theta: float
    rope_factors: tuple[float, ...] | None
    """Divisors of the rotary frequencies (Llama 3.1 and later), one per pair; None for plain rotation."""
    tied: bool
    attention_bias: bool
    bos_id: int | None
    eos_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class BertShape:
    """A BERT-type encoder with mean or CLS pooling, or one that scores a pair of texts (`rank`)."""

    architecture: Literal["bert"] = "bert"
    n_layers: int
    n_heads: int
    hidden_size: int
    ffn_size: int
    vocab_size: int
    context_length: int
    norm_eps: float
    n_token_types: int
    pooling: Literal["mean", "cls", "rank"]
    normalize: bool

    @property
    def second_offset(self) -> int:
        """Where the ids of a pair's second text begin: its tokens stand in the vocabulary once more, see `gguf_file`."""
        return self.vocab_size if self.pooling == "rank" and self.n_token_types > 1 else 0


Shape = LlamaShape | BertShape


def read_shape(folder: Path) -> Shape:
    """Return the shape in `config.json`; raise `UnsupportedModel` naming what is not known."""
    config = read_json(folder / "config.json")
    names = config.get("architectures") or [config.get("model_type", "unknown")]
    try:
        if names == ["LlamaForCausalLM"]:
            return _read_llama(folder, config)
        if names == ["BertModel"]:
            return _read_bert(folder, config)
        if names == ["BertForSequenceClassification"]:
            return _read_ranker(folder, config)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableModel(f"config.json of {names[0]} lacks or garbles {error}.") from error
    raise UnsupportedModel(
        f"The architecture {', '.join(map(str, names))} cannot be converted.",
        hint="Known: LlamaForCausalLM, BertModel, BertForSequenceClassification with one label. Serve others from a GGUF made upstream or by another server.",
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a model folder."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UnreadableModel(f"{path.parent} holds no {path.name}.") from error
    except (OSError, ValueError) as error:
        raise UnreadableModel(f"{path.name} cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise UnreadableModel(f"{path.name} does not hold an object.")
    return value


def _demand(config: Mapping[str, Any], name: str, known: tuple[Any, ...], default: Any) -> None:
    value = config.get(name, default)
    if value not in known:
        raise UnsupportedModel(f"config.json says {name} = {value!r}; known: {', '.join(map(repr, known))}.")


def _read_llama(folder: Path, config: dict[str, Any]) -> LlamaShape:
    _demand(config, "hidden_act", ("silu",), "silu")
    _demand(config, "mlp_bias", (False,), False)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
    n_heads = int(config["num_attention_heads"])
    hidden = int(config["hidden_size"])
    head_dim = int(config.get("head_dim") or hidden // n_heads)
    generation = folder / "generation_config.json"
    said = read_json(generation) if generation.is_file() else {}
    stops = said.get("eos_token_id", config.get("eos_token_id"))
    eos_ids = tuple(stops) if isinstance(stops, list) else () if stops is None else (int(stops),)
    if len(eos_ids) > 3:
        raise UnsupportedModel(f"The model has {len(eos_ids)} end tokens; the engine knows at most 3.")
    return LlamaShape(
        n_layers=int(config["num_hidden_layers"]),
        n_heads=n_heads,
        n_kv_heads=int(config.get("num_key_value_heads") or n_heads),
        head_dim=head_dim,
        hidden_size=hidden,
        ffn_size=int(config["intermediate_size"]),
        vocab_size=int(config["vocab_size"]),
        context_length=int(config["max_position_embeddings"]),
        rms_eps=float(config["rms_norm_eps"]),
        rope_theta=theta,
        rope_factors=_read_rope_factors(rope, head_dim, theta),
        tied=bool(config.get("tie_word_embeddings", False)),
        attention_bias=bool(config.get("attention_bias", False)),
        bos_id=config.get("bos_token_id"),
        eos_ids=eos_ids,
    )


def _read_rope_factors(rope: Mapping[str, Any], head_dim: int, theta: float) -> tuple[float, ...] | None:
    """Return the divisors that Llama 3.1's rule gives: slow rotations are stretched, fast ones left alone."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise UnsupportedModel(f"Rotary scaling of type {kind!r} is not known; known: default, llama3.")
    factor, low, high = (float(rope[name]) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    original = float(rope["original_max_position_embeddings"])
    factors = []
    for pair in range(head_dim // 2):
        turns = original * theta ** (-2 * pair / head_dim) / (2 * math.pi)  # within the original context
        smooth = min(max((turns - low) / (high - low), 0.0), 1.0)
        factors.append(1.0 / ((1.0 - smooth) / factor + smooth))
    return tuple(factors)


def _read_bert(folder: Path, config: dict[str, Any]) -> BertShape:
    _demand(config, "hidden_act", ("gelu",), "gelu")
    _demand(config, "position_embedding_type", ("absolute",), "absolute")
    pooling_file = folder / "1_Pooling" / "config.json"
    pooling = read_json(pooling_file) if pooling_file.is_file() else {"pooling_mode_mean_tokens": True}
    modes = sorted(
        name for name, is_on in pooling.items() if name.startswith("pooling_mode_") and is_on is True
    )
    known: dict[str, Literal["mean", "cls"]] = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
    }
    if len(modes) != 1 or modes[0] not in known:
        raise UnsupportedModel(f"Pooling by {' + '.join(modes) or 'nothing'} is not known; known: mean, cls.")
    modules = folder / "modules.json"
    normalize = True
    if modules.is_file():
        normalize = any(item["type"].endswith(".Normalize") for item in json.loads(modules.read_text()))
    return BertShape(
        n_layers=int(config["num_hidden_layers"]),
        n_heads=int(config["num_attention_heads"]),
        hidden_size=int(config["hidden_size"]),
        ffn_size=int(config["intermediate_size"]),
        vocab_size=int(config["vocab_size"]),
        context_length=int(config["max_position_embeddings"]),
        norm_eps=float(config["layer_norm_eps"]),
        n_token_types=int(config.get("type_vocab_size", 2)),
        pooling=known[modes[0]],
        normalize=normalize,
    )


def _read_ranker(folder: Path, config: dict[str, Any]) -> BertShape:
    """Return the shape of a cross-encoder: one score for a pair of texts, from the first token by a dense head."""
    n_labels = len(config["id2label"]) if "id2label" in config else int(config.get("num_labels", 2))
    if n_labels != 1:
        raise UnsupportedModel(
            f"The model tells {n_labels} labels apart; a reranker gives one score.",
            hint="Take a cross-encoder that was trained for reranking.",
        )
    plain = _read_bert(folder, config)
    return dataclasses.replace(plain, pooling="rank", normalize=False)


def permute_rows(weight: Array, n_heads: int) -> Array:
    """Reorder q or k rows from the half-rotation of Hugging Face to the interleaved pairs of the `llama` arch."""
    rows = weight.shape[0]
    split = weight.reshape(n_heads, 2, rows // n_heads // 2, *weight.shape[1:])
    return split.swapaxes(1, 2).reshape(weight.shape)


@dataclass(frozen=True, kw_only=True)
class TensorPlan:
    """One tensor of the outcome: its name there, its name here, and what is done to it on the way."""

    target: str
    source: str
    change: Callable[[Array], Array] | None = None


_LLAMA_LAYER = {
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
_RANK_HEAD = {"cls": "bert.pooler.dense", "cls.output": "classifier"}
_IGNORED = ("position_ids", "rotary_emb.inv_freq", "pooler.dense.weight", "pooler.dense.bias")


def plan_tensors(shape: Shape, names: tuple[str, ...]) -> list[TensorPlan]:
    """Return every tensor to write, in order.

    Raises `UnreadableModel` when a needed tensor is missing or one is there that nothing would read.
    """
    plans = _plan_llama(shape) if isinstance(shape, LlamaShape) else _plan_bert(shape)
    prefix = (
        "bert." if isinstance(shape, BertShape) and any(name.startswith("bert.") for name in names) else ""
    )
    plans = [TensorPlan(target=p.target, source=prefix + p.source, change=p.change) for p in plans]
    if isinstance(shape, BertShape) and shape.pooling == "rank":
        plans += [
            TensorPlan(target=f"{target}.{part}", source=f"{source}.{part}")
            for target, source in _RANK_HEAD.items()
            for part in ("weight", "bias")
        ]
    needed = {plan.source for plan in plans}
    tied = {"lm_head.weight"} if isinstance(shape, LlamaShape) and shape.tied else set()
    missing = sorted(needed - set(names))
    surplus = sorted(name for name in set(names) - needed - tied if not name.endswith(_IGNORED))
    if missing or surplus:
        raise UnreadableModel(
            f"The weights do not fit config.json: {len(missing)} tensors missing, {len(surplus)} not expected.",
            missing=missing[:8],
            surplus=surplus[:8],
        )
    return plans


def _plan_llama(shape: LlamaShape) -> list[TensorPlan]:
    plans = [
        TensorPlan(target="token_embd.weight", source="model.embed_tokens.weight"),
        TensorPlan(target="output_norm.weight", source="model.norm.weight"),
    ]
    if not shape.tied:
        plans.append(TensorPlan(target="output.weight", source="lm_head.weight"))
    heads = {"attn_q": shape.n_heads, "attn_k": shape.n_kv_heads}
    for layer in range(shape.n_layers):
        for target, source in _LLAMA_LAYER.items():
            has_bias = shape.attention_bias and target in ("attn_q", "attn_k", "attn_v", "attn_output")
            for part in ("weight", "bias") if has_bias else ("weight",):
                change = _permutation(heads[target]) if target in heads else None
                plans.append(
                    TensorPlan(
                        target=f"blk.{layer}.{target}.{part}",
                        source=f"model.layers.{layer}.{source}.{part}",
                        change=change,
                    )
                )
    return plans


def _permutation(n_heads: int) -> Callable[[Array], Array]:
    return lambda weight: permute_rows(weight, n_heads)


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
