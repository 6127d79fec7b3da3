"""Memory, disk and steps of a run, from shapes alone. Pure; every term is told, so that a person can check it.

Terms follow the accounting of ZeRO (Rajbhandari et al., 2020): weights, gradients, and for AdamW two moments, all in
four bytes, or on a GPU in bf16 with a four-byte copy, 16 bytes a parameter either way. Beyond those the terms follow what
the trainer does: logits are computed for a portion of the learned tokens at a time (`trainer/forwards.py`), attention
keeps no scores (only a mask where rows are packed), and a preference run asks for the reference's log-probabilities once,
before its first step, so no second model lies beside it. A test holds the sum to a real run.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from penstock.spec.tuning import AdapterPart, Recipe, ScratchPart
from penstock.tuning.recipes.checks import uses_adapter
from penstock.tuning.runs.types import MemoryPart

LIBRARIES_BYTES = 700_000_000
"""What an interpreter with torch, transformers and peft holds before any model: 620 to 690 MB measured on a CPU."""
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
LOGITS_AT_ONCE = 1 << 26
"""`PORTION` of `trainer/forwards.py`, which the core cannot import; a test holds the two to each other."""
LOGIT_BYTES = 12
"""A logit, its log-probability and its gradient, four bytes each."""
MASK_BYTES = 5
"""Whether a place may look at another, as a flag and as the number that attention adds."""
ADAM_BYTES = 12
"""Gradient and two moments, four bytes each."""


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """What of a decoder decides its memory."""

    n_parameters: int
    n_layers: int
    hidden_size: int
    ffn_size: int
    n_heads: int
    n_kv_heads: int
    head_size: int
    vocab_size: int
    context_length: int


def read_shape(folder: Path) -> ModelShape:
    """Return the shape that `config.json` in a Hugging Face folder tells."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    heads = int(config["num_attention_heads"])
    hidden = int(config["hidden_size"])
    return make_shape(
        n_layers=int(config["num_hidden_layers"]),
        hidden_size=hidden,
        ffn_size=int(config["intermediate_size"]),
        n_heads=heads,
        n_kv_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_dim") or hidden // heads),
        vocab_size=int(config["vocab_size"]),
        context_length=int(config.get("max_position_embeddings") or 0),
        is_tied=bool(config.get("tie_word_embeddings", False)),
    )


def shape_of_scratch(part: ScratchPart) -> ModelShape:
    """Return the shape of a model that is made from nothing."""
    return make_shape(
        n_layers=part.n_layers,
        hidden_size=part.hidden_size,
        ffn_size=part.ffn_size,
        n_heads=part.n_heads,
        n_kv_heads=part.n_kv_heads or part.n_heads,
        head_size=part.hidden_size // part.n_heads,
        vocab_size=part.vocab_size,
        context_length=part.context_length,
        is_tied=part.tie_embeddings,
    )


def make_shape(*, is_tied: bool, **sizes: int) -> ModelShape:
    """Return the shape with its parameters counted: embeddings, attention, feed-forward, norms."""
    hidden, layers = sizes["hidden_size"], sizes["n_layers"]
    embeddings = sizes["vocab_size"] * hidden * (1 if is_tied else 2)
    attention = 2 * hidden * sizes["head_size"] * (sizes["n_heads"] + sizes["n_kv_heads"])
    feed_forward = 3 * hidden * sizes["ffn_size"]
    norms = (2 * layers + 1) * hidden
    count = embeddings + layers * (attention + feed_forward) + norms
    return ModelShape(n_parameters=count, **sizes)


def count_trained(recipe: Recipe, shape: ModelShape) -> int:
    """Return the parameters that move."""
    if not uses_adapter(recipe):
        return shape.n_parameters
    assert recipe.adapter is not None
    query, key = shape.n_heads * shape.head_size, shape.n_kv_heads * shape.head_size
    hidden, ffn = shape.hidden_size, shape.ffn_size
    sizes = {
        "q_proj": (hidden, query),
        "k_proj": (hidden, key),
        "v_proj": (hidden, key),
        "o_proj": (query, hidden),
        "gate_proj": (hidden, ffn),
        "up_proj": (hidden, ffn),
        "down_proj": (ffn, hidden),
    }
    total = 0
    for name in recipe.adapter.targets or (*ATTENTION, *FEED_FORWARD):
        d_in, d_out = sizes.get(name, (hidden, hidden))
        total += recipe.adapter.r * (d_in + d_out) + (d_out if recipe.method == "dora" else 0)
    return total * shape.n_layers


def estimate_memory(
    recipe: Recipe, shape: ModelShape, *, length: int, is_gpu: bool = False
) -> list[MemoryPart]:
    """Return what the trainer holds at its largest step, part by part, for rows of `length` tokens."""
    trained = count_trained(recipe, shape)
    is_half = (is_gpu and recipe.train.precision in {"auto", "bf16"}) or recipe.train.precision == "bf16"
    width = 2 if is_half else 4
    # on a CPU an adapter's base stays in four bytes, and the arithmetic's copy of a layer is small beside it
    weights = shape.n_parameters * (4 if uses_adapter(recipe) and not is_gpu else width)
    why = f"{shape.n_parameters:,} parameters × {weights // max(1, shape.n_parameters)} bytes"
    if recipe.method == "qlora":
        weights, why = shape.n_parameters * 9 // 16, f"{shape.n_parameters:,} parameters × 4.5 bits"
    rows = recipe.train.batch_size * (
        2 if recipe.method == "dpo" else 1
    )  # kto's second pass keeps no gradients
    parts = [
        MemoryPart(name="weights", size_bytes=weights, why=why),
        MemoryPart(
            name="optimizer",
            size_bytes=trained * (ADAM_BYTES + (4 if is_half else 0)),
            why=f"{trained:,} trained parameters × {ADAM_BYTES + (4 if is_half else 0)} bytes",
        ),
    ]
    parts += _activations(recipe, shape, rows=rows, length=length, width=width, is_gpu=is_gpu)
    parts.append(
        MemoryPart(name="libraries", size_bytes=LIBRARIES_BYTES, why="interpreter, torch, transformers")
    )
    return parts


def _activations(
    recipe: Recipe, shape: ModelShape, *, rows: int, length: int, width: int, is_gpu: bool
) -> Iterable[MemoryPart]:
    tokens = rows * length
    checkpointed = recipe.train.gradient_checkpointing
    if checkpointed is None:
        checkpointed = is_gpu
    a_layer = tokens * (8 * shape.hidden_size + 4 * shape.ffn_size) * width
    if checkpointed:
        kept = tokens * shape.hidden_size * shape.n_layers * width + a_layer
        why = f"{tokens:,} tokens × {shape.n_layers} layers, one layer whole at a time"
    else:
        kept = a_layer * shape.n_layers
        why = f"{tokens:,} tokens × {shape.n_layers} layers"
    yield MemoryPart(name="activations", size_bytes=kept, why=why)
    if recipe.train.packing:
        mask = rows * length * length * MASK_BYTES
        yield MemoryPart(name="mask", size_bytes=mask, why=f"{rows:,} lines × {length:,} × {length:,} places")
    at_once = min(tokens, max(1, LOGITS_AT_ONCE // shape.vocab_size))
    yield MemoryPart(
        name="logits",
        size_bytes=at_once * shape.vocab_size * LOGIT_BYTES,
        why=f"{at_once:,} tokens at a time × {shape.vocab_size:,} words × {LOGIT_BYTES} bytes",
    )


def estimate_disk(recipe: Recipe, shape: ModelShape | None, *, n_tokens: int | None) -> int | None:
    """Return what the run's folder and the registered files will hold; None without a known shape."""
    if shape is None:
        return None
    trained = count_trained(recipe, shape)
    checkpoint = trained * (4 + 8)
    kept = (recipe.train.keep_checkpoints + 2) * checkpoint  # the best one, and one that is being written
    widths = {"f32": 4.0, "f16": 2.0, "q8_0": 1.07, "q4_0": 0.57}
    packaged = sum(widths[each] for each in recipe.output.precisions) * shape.n_parameters
    return int(kept + 4 * shape.n_parameters * 2 + packaged + (n_tokens or 0) * 5)


def total_bytes(parts: Iterable[MemoryPart]) -> int:
    """Return the sum."""
    return sum(part.size_bytes for part in parts)


def cheapest_fit(
    recipe: Recipe,
    shape: ModelShape,
    *,
    length: int,
    limit_bytes: int,
    is_gpu: bool = False,
    longest: int | None = None,
) -> str | None:
    """Return the smallest change of the recipe whose estimate fits, in words; None where none of those known does.

    `longest` is the longest row where rows are packed. In the order of what they cost: rows side by side and not packed, smaller batches with as many rows a step, recomputed activations, shorter rows,
    adapters instead of all weights.
    """

    def fits(changed: Recipe, of_length: int) -> bool:
        return total_bytes(estimate_memory(changed, shape, length=of_length, is_gpu=is_gpu)) <= limit_bytes

    train = recipe.train
    if train.packing:
        apart = msgspec.structs.replace(train, packing=False)
        if fits(msgspec.structs.replace(recipe, train=apart), min(length, longest or length)):
            return "train.packing = false"
    rows = train.batch_size * train.accumulate
    size = train.batch_size
    while size > 1:
        size //= 2
        smaller = msgspec.structs.replace(train, batch_size=size, accumulate=-(-rows // size))
        if fits(msgspec.structs.replace(recipe, train=smaller), length):
            return f"train.batch_size = {size} with train.accumulate = {smaller.accumulate} (the same rows a step)"
    one = msgspec.structs.replace(train, batch_size=1, accumulate=rows, gradient_checkpointing=True)
    at_one = msgspec.structs.replace(recipe, train=one)
    if fits(at_one, length):
        return f"train.batch_size = 1, train.accumulate = {rows}, train.gradient_checkpointing = true"
    shorter = length
    while shorter > 64:
        shorter //= 2
        if fits(at_one, shorter):
            return f"data.max_length = {shorter} with batch_size = 1 and gradient_checkpointing"
    if recipe.method in {"full", "distill"} and not uses_adapter(recipe):
        from_adapter = msgspec.structs.replace(at_one, method="lora", adapter=recipe.adapter or AdapterPart())
        if fits(from_adapter, length):
            return 'method = "lora" (with batch_size = 1)'
    return None
