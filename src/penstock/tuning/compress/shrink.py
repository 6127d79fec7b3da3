"""A smaller model from a larger one: whole layers left out, feed-forward channels left out, in Hugging Face layout.

Layers are taken evenly, the first and the last always among them (they differ most from their neighbours). Channels are ranked by the
product of the norms of their gate, up and down weights: what a channel can add at most. All that stays is the teacher's; what is gone
is made up for by training on its replies (Sanh et al. 2019, DistilBERT, initialises a student from every second layer).
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.tuning.compress.errors import CannotShrink
from penstock.tuning.convert.architectures import DecoderShape, read_json, read_shape
from penstock.tuning.convert.safetensors import Weights, find_weights, write_safetensors

_LAYER = re.compile(r"(model\.layers\.)(\d+)(\..+)")
_BLOCK = 32
"""Rows of quantised files come in blocks of so many values."""
_PER_LAYER = ("layer_types",)
"""Lists in `config.json` with one entry a layer."""


class Shrinking(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What stays."""

    layers: int | None = None
    """So many, taken evenly; None keeps all."""
    keep: tuple[int, ...] = ()
    """These very layers, counted from 0, instead of `layers`."""
    ffn_size: int | None = None
    """Channels of each feed-forward part; None keeps all."""


def shrink_folder(folder: Path, out: Path, how: Shrinking) -> dict[str, Any]:
    """Write the smaller model to `out` and return what was done.

    Raises `CannotShrink` for numbers that do not fit the model.
    """
    shape = read_shape(folder)
    if not isinstance(shape, DecoderShape):
        raise CannotShrink("Only chat models are made smaller.")
    kept = choose_layers(shape.n_layers, how)
    width = _choose_width(shape.ffn_size, how)
    if len(kept) == shape.n_layers and width == shape.ffn_size:
        raise CannotShrink(
            f"The model has {shape.n_layers} layers and {shape.ffn_size} channels already: nothing would be left out.",
            hint="Name fewer --layers, or a smaller --ffn.",
        )
    out.mkdir(parents=True)
    weights = Weights(folder)
    try:
        tensors = _take(weights, kept, width if width < shape.ffn_size else None)
    finally:
        weights.close()
    write_safetensors(out / "model.safetensors", tensors)
    skipped = {path.name for path in find_weights(folder)} | {"model.safetensors.index.json", "config.json"}
    for path in folder.iterdir():
        if path.is_file() and path.name not in skipped:
            shutil.copyfile(path, out / path.name)
    config = _shrink_config(read_json(folder / "config.json"), kept, width)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    how_text = f"layers {', '.join(map(str, kept))} of {shape.n_layers}"
    if width < shape.ffn_size:
        how_text += f", {width} of {shape.ffn_size} feed-forward channels"
    return {
        "how": f"{how_text} kept",
        "layers": list(kept),
        "n_layers_before": shape.n_layers,
        "ffn_size": width,
        "ffn_size_before": shape.ffn_size,
    }


def choose_layers(n_layers: int, how: Shrinking) -> tuple[int, ...]:
    """Return the layers that stay, in order."""
    if how.keep:
        kept = tuple(sorted(set(how.keep)))
        if kept[0] < 0 or kept[-1] >= n_layers:
            raise CannotShrink(
                f"The model has the layers 0 to {n_layers - 1}; {', '.join(map(str, how.keep))} were named."
            )
        return kept
    wanted = n_layers if how.layers is None else how.layers
    if not 1 <= wanted <= n_layers:
        raise CannotShrink(
            f"The model has {n_layers} layers; {wanted} cannot be kept.", hint="Name fewer --layers."
        )
    if wanted == 1:
        return (0,)
    return tuple(round(each) for each in np.linspace(0, n_layers - 1, wanted))


def _choose_width(given: int, how: Shrinking) -> int:
    if how.ffn_size is None:
        return given
    if not _BLOCK <= how.ffn_size <= given or how.ffn_size % _BLOCK:
        raise CannotShrink(
            f"{how.ffn_size} feed-forward channels cannot be kept of {given}.",
            hint=f"Take a multiple of {_BLOCK}: rows of quantised files come in blocks of so many.",
        )
    return how.ffn_size


def rank_channels(gate: NDArray[Any], up: NDArray[Any], down: NDArray[Any], n_kept: int) -> NDArray[np.int64]:
    """Return the channels that can add most, in their own order."""
    strength = np.linalg.norm(gate, axis=1) * np.linalg.norm(up, axis=1) * np.linalg.norm(down, axis=0)
    order = np.argsort(-strength, kind="stable")[:n_kept]
    return np.asarray(np.sort(order), dtype=np.int64)


def _take(
    weights: Mapping[str, NDArray[Any]], kept: Sequence[int], width: int | None
) -> dict[str, NDArray[Any]]:
    places = {layer: place for place, layer in enumerate(kept)}
    channels = {layer: _channels(weights, layer, width) for layer in kept} if width else {}
    found: dict[str, NDArray[Any]] = {}
    for name in weights:
        hit = _LAYER.fullmatch(name)
        if hit is None:
            found[name] = weights[name]
            continue
        layer = int(hit[2])
        if layer not in places:
            continue
        tensor = weights[name]
        if layer in channels and ".mlp." in hit[3]:
            is_down = ".down_proj." in hit[3]
            if not is_down:
                tensor = tensor[channels[layer]]
            elif tensor.ndim == 2:  # a bias of the way down is as wide as the model
                tensor = tensor[:, channels[layer]]
        found[f"{hit[1]}{places[layer]}{hit[3]}"] = np.ascontiguousarray(tensor)
    return found


def _channels(weights: Mapping[str, NDArray[Any]], layer: int, width: int) -> NDArray[np.int64]:
    at = f"model.layers.{layer}.mlp."
    gate, up, down = (weights[f"{at}{name}_proj.weight"] for name in ("gate", "up", "down"))
    return rank_channels(gate, up, down, width)


def _shrink_config(config: dict[str, Any], kept: Sequence[int], width: int) -> dict[str, Any]:
    changed = {**config, "num_hidden_layers": len(kept), "intermediate_size": width}
    for name in _PER_LAYER:
        if isinstance(config.get(name), list):
            changed[name] = [config[name][layer] for layer in kept]
    if "max_window_layers" in config:
        changed["max_window_layers"] = min(int(config["max_window_layers"]), len(kept))
    return changed
