"""A converted encoder's GGUF file, read back: its settings, and its tensors under their names in the Hugging Face layout.

For comparison only, rounded files too. Written apart from the way there, so that one is proof of the other. A reranker's table
of token vectors is twice as long as its vocabulary: the second half is for a pair's second text, see `gguf_file`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from penstock.tuning.convert.architectures import BertShape
from penstock.tuning.convert.tensors import plan_encoder
from penstock.tuning.errors import UnreadableModel

WORDS = "embeddings.word_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"
_POOLINGS: Mapping[int, Literal["mean", "cls", "rank"]] = {1: "mean", 2: "cls", 4: "rank"}
_SECOND_TEXT = "penstock.second_text_offset"


class EncoderWeights(Mapping[str, NDArray[Any]]):
    """Tensors of an encoder's GGUF file as float32, read when asked for. `prefix` stands before their names in the source."""

    def __init__(self, path: Path, *, prefix: str = "") -> None:
        """Raises `UnreadableModel` for a file that is none, lacks a tensor, or holds one that nothing would read."""
        import gguf  # half a second, for the processes that convert only

        try:
            self._reader = gguf.GGUFReader(path)
        except (OSError, ValueError, IndexError, KeyError) as error:
            raise UnreadableModel(f"{path.name} is not a GGUF file: {error}.") from error
        self._dequantize = gguf.quants.dequantize
        self._tensors = {each.name: each for each in self._reader.tensors}
        self._name = path.name
        self.shape = self._read_shape()
        self._targets = {plan.source: plan.target for plan in plan_encoder(self.shape, prefix=prefix)}
        if apart := sorted(set(self._targets.values()) ^ self._tensors.keys()):
            raise UnreadableModel(f"{path.name} lacks tensors or holds others: {', '.join(apart[:4])}.")

    def __getitem__(self, name: str) -> NDArray[Any]:
        tensor = self._tensors[self._targets[name]]
        value = np.asarray(self._dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        return value.reshape([int(size) for size in reversed(tensor.shape)])

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    def _field(self, name: str) -> Any:
        field = self._reader.get_field(name)
        if field is None:
            raise UnreadableModel(f"{self._name} does not say {name}.")
        return field.contents()

    def _read_shape(self) -> BertShape:
        pooling = _POOLINGS.get(int(self._field("bert.pooling_type")))
        if pooling is None or "token_embd.weight" not in self._tensors:
            raise UnreadableModel(f"{self._name} holds no encoder that Penstock has written.")
        offset = int(self._field(_SECOND_TEXT)) if pooling == "rank" else 0
        return BertShape(
            n_layers=int(self._field("bert.block_count")),
            n_heads=int(self._field("bert.attention.head_count")),
            hidden_size=int(self._field("bert.embedding_length")),
            ffn_size=int(self._field("bert.feed_forward_length")),
            vocab_size=int(self._tensors["token_embd.weight"].shape[1]) - offset,
            context_length=int(self._field("bert.context_length")),
            norm_eps=float(self._field("bert.attention.layer_norm_epsilon")),
            n_token_types=int(self._field("tokenizer.ggml.token_type_count")),
            pooling=pooling,
            normalize=pooling != "rank",
        )


def spread_words(shape: BertShape, source: Mapping[str, NDArray[Any]], *, prefix: str) -> NDArray[Any]:
    """Return the table of token vectors that a file of these weights has to hold: of a reranker with two types once more,
    each moved by what parts the second type from the first."""
    words = np.asarray(source[prefix + WORDS], dtype=np.float32)
    if not shape.second_offset:
        return words
    types = np.asarray(source[prefix + TYPES], dtype=np.float32)
    return np.vstack([words, words - types[0] + types[1]])
