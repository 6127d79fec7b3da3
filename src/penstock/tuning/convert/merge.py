"""An adapter merged into its base: W + s·B·A, for DoRA each row scaled to its learnt length. numpy only, tensor by tensor.

Merged in float32 and stored as float32, whatever the base was stored as: rounding the sum to 16 bits would lose a
part of what was learnt, unmeasured. Precision is lowered afterwards, by conversion, where its price is measured.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.tuning.convert.adapters import Adapter, LowRank, read_adapter
from penstock.tuning.convert.architectures import DecoderShape, read_json, read_shape
from penstock.tuning.convert.safetensors import SafetensorsFile, Weights, write_safetensors
from penstock.tuning.errors import NotTrainable, UnreadableModel, UnsupportedModel

Array = NDArray[Any]
EMBEDDING = "model.embed_tokens.weight"
_WEIGHT_FILES = ("*.safetensors", "model.safetensors.index.json")


class MergedWeights(Mapping[str, Array]):
    """The tensors of a base with an adapter laid in, made when asked for."""

    def __init__(self, base: Mapping[str, Array], adapter: Adapter, tensors: SafetensorsFile) -> None:
        self._base = base
        self._adapter = adapter
        self._tensors = tensors

    def __getitem__(self, name: str) -> Array:
        adapter, read = self._adapter, self._tensors.read
        value = self._base[name]
        if name in adapter.replaced:
            value = _same_size(name, value, read(adapter.replaced[name]))
        if name in adapter.low_rank:
            value = _lay_in(name, np.asarray(value, dtype=np.float32), adapter.low_rank[name], self._tensors)
        if name in adapter.rows:
            indices, tensor = adapter.rows[name]
            if max(indices) >= len(value):
                raise UnreadableModel(
                    f"The adapter replaces row {max(indices)} of {name}, which has {len(value)}."
                )
            value = np.array(value, dtype=np.float32)
            value[list(indices)] = read(tensor)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)


def merge_adapter(base: Path, adapter_folder: Path, out: Path) -> Adapter:
    """Write the base of a folder with an adapter merged in to `out` (in Hugging Face layout); return the adapter.

    Raises what `read_adapter` raises, and `UnsupportedModel` where the outcome could not be written in the base's form.
    """
    shape = read_shape(base)
    if not isinstance(shape, DecoderShape):
        raise NotTrainable("Adapters are merged into decoders only.")
    adapter = read_adapter(adapter_folder, shape)
    if shape.tied and EMBEDDING in {*adapter.replaced, *adapter.low_rank}:
        raise UnsupportedModel(
            "The adapter changes the embedding of a model whose head is its embedding, but was trained with two.",
            hint="Teach new tokens with trainable_token_indices, which keeps both one.",
        )
    out.mkdir(parents=True, exist_ok=True)
    skipped = {path.name for pattern in _WEIGHT_FILES for path in base.glob(pattern)}
    for path in base.iterdir():
        if path.is_file() and path.name not in skipped:
            shutil.copyfile(path, out / path.name)
    weights = Weights(base)
    try:
        with adapter.open() as tensors:
            write_safetensors(out / "model.safetensors", MergedWeights(weights, adapter, tensors))
    finally:
        weights.close()
    config = read_json(base / "config.json")
    config.pop("torch_dtype", None)
    config["dtype"] = "float32"
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return adapter


def _lay_in(name: str, weight: Array, pair: LowRank, tensors: SafetensorsFile) -> Array:
    a, b = tensors.read(pair.a), tensors.read(pair.b)
    product = (b @ a).T if pair.is_embedding else b @ a
    if product.shape != weight.shape:
        raise UnreadableModel(f"The adapter's {name} is {product.shape}, the base's {weight.shape}.")
    merged = weight + np.float32(pair.scale) * product
    if pair.magnitude is None:
        return np.asarray(merged, dtype=np.float32)
    if pair.is_embedding:
        raise UnsupportedModel("DoRA of an embedding is not known here.")
    lengths = np.linalg.norm(merged, axis=1, keepdims=True)
    magnitude = tensors.read(pair.magnitude).reshape(-1, 1)
    return np.asarray(merged * (magnitude / lengths), dtype=np.float32)


def _same_size(name: str, weight: Array, other: Array) -> Array:
    if other.shape != weight.shape:
        raise UnreadableModel(
            f"The adapter replaces {name} by one of {other.shape}; the base's is {weight.shape}.",
            hint="An adapter that makes the vocabulary larger belongs to a base that was made larger first.",
        )
    return other
