"""The architectures that are converted: their shapes, read from `config.json`.

A setting this file does not know how to honour is refused by name, never ignored: a model that answers almost
right is worse than one that does not start.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from penstock.tuning.errors import UnreadableModel, UnsupportedModel

DecoderName = Literal["llama", "qwen2", "qwen3"]
DECODERS: Mapping[str, DecoderName] = {
    "LlamaForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
MAX_STOP_IDS = 3
"""How many the engine's file format knows."""


@dataclass(frozen=True, kw_only=True)
class DecoderShape:
    """A decoder of the Llama family. Qwen2 has biases at q, k and v; Qwen3 norms its q and k, head by head."""

    architecture: DecoderName = "llama"
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
    biased: frozenset[str]
    """Of `q`, `k`, `v`, `o`: the projections that add a bias."""
    bos_id: int | None
    eos_ids: tuple[int, ...]

    @property
    def qk_norm(self) -> bool:
        """Whether q and k are normed before they are rotated."""
        return self.architecture == "qwen3"


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


Shape = DecoderShape | BertShape


def read_shape(folder: Path) -> Shape:
    """Return the shape in `config.json`; raise `UnsupportedModel` naming what is not known."""
    config = read_json(folder / "config.json")
    names = config.get("architectures") or [config.get("model_type", "unknown")]
    try:
        if len(names) == 1 and names[0] in DECODERS:
            return _read_decoder(folder, config, DECODERS[names[0]])
        if names == ["BertModel"]:
            return _read_bert(folder, config)
        if names == ["BertForSequenceClassification"]:
            return _read_ranker(folder, config)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableModel(f"config.json of {names[0]} lacks or garbles {error}.") from error
    raise UnsupportedModel(
        f"The architecture {', '.join(map(str, names))} cannot be converted.",
        hint=f"Known: {', '.join(DECODERS)}, BertModel, BertForSequenceClassification with one label. Serve others from a GGUF made upstream or by another server.",
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


def _read_decoder(folder: Path, config: dict[str, Any], architecture: DecoderName) -> DecoderShape:
    _demand(config, "hidden_act", ("silu",), "silu")
    _demand(config, "mlp_bias", (False,), False)
    _demand(config, "partial_rotary_factor", (1, 1.0, None), None)
    _refuse_special(config, architecture)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
    n_heads = int(config["num_attention_heads"])
    hidden = int(config["hidden_size"])
    head_dim = int(config.get("head_dim") or hidden // n_heads)
    factors = _read_rope_factors(rope, head_dim, theta)
    if factors is not None and architecture != "llama":
        raise UnsupportedModel(f"The engine does not stretch the rotation of {architecture} models.")
    return DecoderShape(
        architecture=architecture,
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
        rope_factors=factors,
        tied=bool(config.get("tie_word_embeddings", False)),
        biased=_read_biases(config, architecture),
        bos_id=config.get("bos_token_id"),
        eos_ids=_read_stops(folder, config),
    )


def _read_biases(config: dict[str, Any], architecture: DecoderName) -> frozenset[str]:
    if architecture == "qwen2":
        return frozenset("qkv")  # always, whatever the file says: the code of this family reads no setting
    if architecture == "qwen3":
        _demand(config, "attention_bias", (False,), False)
        return frozenset()
    return frozenset("qkvo" if config.get("attention_bias") else "")


def _read_stops(folder: Path, config: dict[str, Any]) -> tuple[int, ...]:
    """Return the ids that end a reply, as `generation_config.json` or else `config.json` says."""
    generation = folder / "generation_config.json"
    said = read_json(generation) if generation.is_file() else {}
    stops = said.get("eos_token_id", config.get("eos_token_id"))
    found = tuple(map(int, stops)) if isinstance(stops, list) else () if stops is None else (int(stops),)
    if len(found) > MAX_STOP_IDS:
        raise UnsupportedModel(
            f"The model has {len(found)} end tokens; the engine knows at most {MAX_STOP_IDS}."
        )
    return found


def _refuse_special(config: dict[str, Any], architecture: DecoderName) -> None:
    """Refuse what changes the arithmetic beyond this family's plain form."""
    if config.get("quantization_config"):
        method = (config["quantization_config"] or {}).get("quant_method", "unknown")
        raise UnsupportedModel(
            f"The weights are quantised already ({method}).",
            hint="Convert the original weights; Penstock rounds them itself.",
        )
    context, window = int(config["max_position_embeddings"]), config.get("sliding_window")
    kinds = set(config.get("layer_types") or ())
    is_windowed = (
        architecture != "llama" and bool(config.get("use_sliding_window")) and 0 < int(window or 0) < context
    )
    if is_windowed or "sliding_attention" in kinds:
        raise UnsupportedModel(
            f"Attention in a sliding window of {window} tokens is not known; full attention is."
        )
    if kinds - {"full_attention"}:
        raise UnsupportedModel(
            f"Layers of type {', '.join(sorted(kinds - {'full_attention'}))} are not known."
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
