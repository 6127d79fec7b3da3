"""The way back: a GGUF file of a decoder as a folder in Hugging Face layout.

Exact for f32 and f16, whose values a float32 holds: the reordering of rows is undone and nothing is rounded. Rounded
files (q8_0, q4_0) can be read to be compared, not to be trained on. Written apart from the way there, so that one is
proof of the other.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.tuning.convert.architectures import DECODERS, DecoderShape
from penstock.tuning.convert.safetensors import write_safetensors
from penstock.tuning.convert.tensors import plan_decoder, plan_tensors, unpermute_rows
from penstock.tuning.errors import NotTrainable, UnreadableModel

_FAMILY = {name: family for family, name in DECODERS.items()}
_STOPS = ("eos_token_id", "eot_token_id", "eom_token_id")
_EXACT = {"F32", "F16"}
_FACTORS = "rope_freqs.weight"


class GgufWeights(Mapping[str, NDArray[Any]]):
    """Tensors of a decoder's GGUF file under their names in the Hugging Face layout, as float32, read when asked for."""

    def __init__(self, path: Path) -> None:
        """Raises `UnreadableModel` for a file that is none, `NotTrainable` for other architectures."""
        import gguf  # half a second, for the processes that convert only

        try:
            self._reader = gguf.GGUFReader(path)
        except (OSError, ValueError, IndexError, KeyError) as error:
            raise UnreadableModel(f"{path.name} is not a GGUF file: {error}.") from error
        self._dequantize = gguf.quants.dequantize
        self._tensors = {each.name: each for each in self._reader.tensors}
        self.shape = self._read_shape(path)
        plans = plan_decoder(self.shape)
        by_target = {plan.target: plan.source for plan in plans}
        named = tuple(by_target.get(name, name) for name in self._tensors if name != _FACTORS)
        plan_tensors(self.shape, named)  # none missing, none left
        self._plans = {plan.source: plan for plan in plans}

    def __getitem__(self, name: str) -> NDArray[Any]:
        plan = self._plans[name]
        tensor = self._tensors[plan.target]
        value = np.asarray(self._dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        value = value.reshape([int(size) for size in reversed(tensor.shape)])
        if plan.change is None:
            return value
        n_heads = self.shape.n_heads if ".attn_q." in plan.target else self.shape.n_kv_heads
        return unpermute_rows(value, n_heads)

    def __iter__(self) -> Iterator[str]:
        return iter(self._plans)

    def __len__(self) -> int:
        return len(self._plans)

    @property
    def rounded(self) -> tuple[str, ...]:
        """Kinds of rounding in the file beyond float16, such as `Q8_0`."""
        return tuple(sorted({each.tensor_type.name for each in self._reader.tensors} - _EXACT))

    def _field(self, name: str, default: Any = None) -> Any:
        field = self._reader.get_field(name)
        return default if field is None else field.contents()

    def _read_shape(self, path: Path) -> DecoderShape:
        architecture = self._field("general.architecture")
        if architecture not in _FAMILY:
            raise NotTrainable(
                f"{path.name} holds a model of the architecture {architecture}; only decoders "
                f"({', '.join(_FAMILY)}) are taken back."
            )

        def of(key: str) -> Any:
            value = self._field(f"{architecture}.{key}")
            if value is None:
                raise UnreadableModel(f"{path.name} does not say {architecture}.{key}.")
            return value

        n_heads = int(of("attention.head_count"))
        hidden = int(of("embedding_length"))
        layer = "blk.0.attn_"
        biases = {"q": "q.bias", "k": "k.bias", "v": "v.bias", "o": "output.bias"}
        stops = [self._field(f"tokenizer.ggml.{name}") for name in _STOPS]
        return DecoderShape(
            architecture=architecture,
            n_layers=int(of("block_count")),
            n_heads=n_heads,
            n_kv_heads=int(self._field(f"{architecture}.attention.head_count_kv", n_heads)),
            head_dim=int(self._field(f"{architecture}.attention.key_length", hidden // n_heads)),
            hidden_size=hidden,
            ffn_size=int(of("feed_forward_length")),
            vocab_size=int(self._tensors["token_embd.weight"].shape[1]),
            context_length=int(of("context_length")),
            rms_eps=_shortest(of("attention.layer_norm_rms_epsilon")),
            rope_theta=_shortest(self._field(f"{architecture}.rope.freq_base", 10000.0)),
            rope_factors=self._read_factors(),
            tied="output.weight" not in self._tensors,
            biased=frozenset(name for name, rest in biases.items() if layer + rest in self._tensors),
            bos_id=self._field("tokenizer.ggml.bos_token_id"),
            eos_ids=tuple(int(each) for each in stops if each is not None),
        )

    def _read_factors(self) -> tuple[float, ...] | None:
        tensor = self._tensors.get(_FACTORS)
        return None if tensor is None else tuple(float(each) for each in tensor.data)


def write_folder(gguf_file: Path, folder: Path, *, pad_id: int | None = None) -> DecoderShape:
    """Write `model.safetensors` (float32) and `config.json` of an f32 or f16 file to `folder`; return the shape.

    Raises `NotTrainable` for a file that was rounded further: its weights are not what was trained.
    """
    weights = GgufWeights(gguf_file)
    if weights.rounded:
        raise NotTrainable(
            f"The weights were rounded to {', '.join(weights.rounded)}, so they are no base to train or convert from.",
            hint="Name the version it was made from; `penstock model lineage` shows it.",
        )
    if weights.shape.rope_factors is not None:
        raise NotTrainable(
            "The file stretches its rotation by factors that its config.json would have to explain.",
            hint="Pull the model again; its original files are kept then.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", weights)
    config = make_config(weights.shape, pad_id=pad_id)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return weights.shape


def make_config(shape: DecoderShape, *, pad_id: int | None = None) -> dict[str, Any]:
    """Return the `config.json` of a decoder with plain rotation."""
    stops: Any = list(shape.eos_ids) if len(shape.eos_ids) > 1 else next(iter(shape.eos_ids), None)
    config: dict[str, Any] = {
        "architectures": [_FAMILY[shape.architecture]],
        "model_type": shape.architecture,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.ffn_size,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.context_length,
        "rms_norm_eps": shape.rms_eps,
        "rope_theta": shape.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "hidden_act": "silu",
        "tie_word_embeddings": shape.tied,
        "bos_token_id": shape.bos_id,
        "eos_token_id": stops,
        "pad_token_id": pad_id,
        "dtype": "float32",
    }
    if shape.architecture != "qwen2":
        config["attention_bias"] = bool(shape.biased)
    if shape.architecture == "llama":
        config["mlp_bias"] = False
    return config


def _shortest(value: Any) -> float:
    """A float32 of the file as the decimal that a person wrote: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))
