"""Writes the GGUF file: metadata, vocabulary and tensors at the precision asked for.

Norms, biases and positions stay float32: they are few, and the engine multiplies by them in float32. In a q4_0 file
the embedding and the head are q8_0. A file appears under its name only when it is complete.
"""

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from penstock.base.digest import digest_file
from penstock.base.errors import InvalidInput
from penstock.spec.tuning import FilePrecision
from penstock.tuning.convert.architectures import (
    BertShape,
    DecoderShape,
    Shape,
    read_json,
    read_shape,
)
from penstock.tuning.convert.safetensors import Weights
from penstock.tuning.convert.tensors import plan_tensors
from penstock.tuning.convert.vocabulary import Vocabulary, read_vocabulary

Precision = FilePrecision
_GGML_TYPE = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8}  # gguf.GGMLQuantizationType
_POOLING = {"mean": 1, "cls": 2, "rank": 4}  # gguf.PoolingType
SECOND_OFFSET = "penstock.second_text_offset"
"""Added to the ids of a pair's second text by who serves a reranker; 0 where it has no types of its own."""
_QUANTIZATION_VERSION = 2  # gguf.GGML_QUANT_VERSION
_FILE_TYPE = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7}  # gguf.LlamaFileType


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was converted into what, by digest."""

    path: Path
    digest: str
    size_bytes: int
    architecture: str
    precision: Precision
    n_parameters: int
    context_length: int
    embedding_size: int
    is_reranker: bool
    sources: dict[str, str]
    """Digest of each file that was read, by name."""


def convert_folder(
    folder: Path,
    out: Path,
    *,
    precision: Precision = "f16",
    name: str | None = None,
    stop_ids: Sequence[int] | None = None,
) -> Conversion:
    """Convert a Hugging Face folder to the GGUF file `out` and return what was done.

    `stop_ids` end a reply; None takes those of the folder's configuration.

    Raises `UnsupportedModel` for another architecture, tokenizer or setting, `UnreadableModel` for a damaged
    folder. Nothing is left behind on failure. The outcome is not yet proven: see `tuning.parity`.
    """
    import gguf  # with its YAML it costs half a second, which no process but a converting one should pay

    if precision not in get_args(Precision):
        raise InvalidInput(f"Unknown precision {precision!r}.", hint="Known: f32, f16, q8_0, q4_0.")
    shape = read_shape(folder)
    if stop_ids is not None and isinstance(shape, DecoderShape):
        shape = dataclasses.replace(shape, eos_ids=tuple(stop_ids))
    offset = shape.second_offset if isinstance(shape, BertShape) else 0
    vocabulary = read_vocabulary(folder / "tokenizer.json", size=shape.vocab_size + offset)
    weights = Weights(folder)
    try:
        plans = plan_tensors(shape, tuple(weights))
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
            draft = Path(scratch) / "draft.gguf"
            writer = gguf.GGUFWriter(draft, shape.architecture)
            _write_metadata(writer, shape, name or folder.name, precision)
            _write_vocabulary(writer, vocabulary, shape, folder)
            n_parameters = 0
            for plan in plans:
                tensor = weights[plan.source]
                n_parameters += tensor.size
                if offset and plan.target == "token_embd.weight":
                    tensor = _with_second_text(tensor, weights, plan.source)
                _add_tensor(writer, plan.target, plan.change(tensor) if plan.change else tensor, precision)
            if isinstance(shape, DecoderShape) and shape.rope_factors is not None:
                writer.add_tensor("rope_freqs.weight", np.array(shape.rope_factors, dtype=np.float32))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            draft.replace(out)
    finally:
        weights.close()
    read = [folder / "config.json", folder / "tokenizer.json", *weights.files]
    return Conversion(
        path=out,
        digest=digest_file(out),
        size_bytes=out.stat().st_size,
        architecture=shape.architecture,
        precision=precision,
        n_parameters=n_parameters,
        context_length=shape.context_length,
        embedding_size=shape.hidden_size,
        is_reranker=isinstance(shape, BertShape) and shape.pooling == "rank",
        sources={path.name: digest_file(path) for path in read},
    )


def _with_second_text(tensor: np.ndarray[Any, Any], weights: Weights, source: str) -> np.ndarray[Any, Any]:
    """Return the token vectors twice: as they are, and as they are in the second text of a pair.

    The engine adds the first text's type vector to every token. A token of the second text has an id of its own, whose
    vector holds the difference of the two: the sum is then what the model was trained on.
    """
    types = np.asarray(weights[source.replace("word_embeddings", "token_type_embeddings")], dtype=np.float32)
    plain = np.asarray(tensor, dtype=np.float32)
    return np.concatenate([plain, plain + (types[1] - types[0])])


def _add_tensor(writer: Any, name: str, tensor: np.ndarray[Any, Any], precision: Precision) -> None:
    import gguf

    kind = _GGML_TYPE[precision]
    if precision == "q4_0" and name in ("token_embd.weight", "output.weight"):
        kind = _GGML_TYPE[
            "q8_0"
        ]  # the likeliest token hangs on these two most; four bits cost more than they save
    if tensor.ndim < 2 or name in ("position_embd.weight", "token_types.weight") or name.startswith("cls."):
        kind = _GGML_TYPE["f32"]
    if kind in (_GGML_TYPE["q8_0"], _GGML_TYPE["q4_0"]) and tensor.shape[-1] % 32:
        kind = _GGML_TYPE["f16"]  # rows must fill blocks of 32
    ggml_type = gguf.GGMLQuantizationType(kind)
    data = gguf.quants.quantize(np.ascontiguousarray(tensor, dtype=np.float32), ggml_type)
    writer.add_tensor(name, data, raw_dtype=ggml_type)


def _write_metadata(writer: Any, shape: Shape, name: str, precision: Precision) -> None:
    writer.add_name(name)
    writer.add_file_type(_FILE_TYPE[precision])
    writer.add_quantization_version(_QUANTIZATION_VERSION)
    offset = shape.second_offset if isinstance(shape, BertShape) else 0
    writer.add_vocab_size(shape.vocab_size + offset)
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.ffn_size)
    writer.add_head_count(shape.n_heads)
    if isinstance(shape, DecoderShape):
        writer.add_head_count_kv(shape.n_kv_heads)
        writer.add_key_length(shape.head_dim)
        writer.add_value_length(shape.head_dim)
        writer.add_rope_dimension_count(shape.head_dim)
        writer.add_rope_freq_base(shape.rope_theta)
        writer.add_layer_norm_rms_eps(shape.rms_eps)
    else:
        writer.add_layer_norm_eps(shape.norm_eps)
        writer.add_causal_attention(False)
        writer.add_uint32(f"{shape.architecture}.pooling_type", _POOLING[shape.pooling])
        if shape.pooling == "rank":
            writer.add_uint32(SECOND_OFFSET, offset)


def _write_vocabulary(writer: Any, vocabulary: Vocabulary, shape: Shape, folder: Path) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.types))
    if vocabulary.merges:
        writer.add_token_merges(list(vocabulary.merges))
    if isinstance(shape, BertShape):
        writer.add_token_type_count(shape.n_token_types)
        ids = {token: number for number, token in enumerate(vocabulary.tokens)}
        for token, add in (
            ("[CLS]", writer.add_bos_token_id),
            ("[SEP]", writer.add_sep_token_id),
            ("[PAD]", writer.add_pad_token_id),
            ("[MASK]", writer.add_mask_token_id),
        ):
            if token in ids:
                add(ids[token])
        if vocabulary.unk_id is not None:
            writer.add_unk_token_id(vocabulary.unk_id)
        return
    if shape.bos_id is not None:
        writer.add_bos_token_id(shape.bos_id)
    # each of the three ends a reply; which is which makes no difference to that
    for number, add in zip(
        shape.eos_ids,
        (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id),
        strict=False,
    ):
        add(number)
    writer.add_add_bos_token(False)  # ids come from the renderer, whole
    tokenizer_config = folder / "tokenizer_config.json"
    template = folder / "chat_template.jinja"
    text = template.read_text() if template.is_file() else None
    if text is None and tokenizer_config.is_file():
        text = read_json(tokenizer_config).get("chat_template")
    if isinstance(text, str):
        writer.add_chat_template(text)
