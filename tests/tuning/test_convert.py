"""Conversion reads what it knows exactly, and refuses the rest by name."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from penstock.base.errors import InvalidInput
from penstock.tuning.convert import gguf_file
from penstock.tuning.convert.gguf_file import convert_folder
from penstock.tuning.convert.safetensors import SafetensorsFile, Weights, write_safetensors
from penstock.tuning.convert.tensors import permute_rows
from penstock.tuning.convert.vocabulary import CONTROL, UNUSED, USER_DEFINED, read_vocabulary
from penstock.tuning.errors import PickleRefused, UnreadableModel, UnsupportedModel


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.fixture
def copy(llama_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama_folder, tmp_path / "model"))


def test_a_file_is_written_whole_and_the_same_each_time(llama_folder: Path, tmp_path: Path) -> None:
    first = convert_folder(llama_folder, tmp_path / "a.gguf", precision="q8_0", name="tiny")
    again = convert_folder(llama_folder, tmp_path / "b.gguf", precision="q8_0", name="tiny")
    assert first.digest == again.digest
    assert first.size_bytes == (tmp_path / "a.gguf").stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "b.gguf"]
    assert set(first.sources) == {"config.json", "tokenizer.json", "model.safetensors"}


def test_the_numbers_written_are_those_of_the_gguf_package() -> None:
    assert {
        name.lower(): int(gguf.GGMLQuantizationType[name]) for name in ("F32", "F16", "Q8_0", "Q4_0")
    } == gguf_file._GGML_TYPE
    assert {
        "f32": int(gguf.LlamaFileType.ALL_F32),
        "f16": int(gguf.LlamaFileType.MOSTLY_F16),
        "q8_0": int(gguf.LlamaFileType.MOSTLY_Q8_0),
        "q4_0": int(gguf.LlamaFileType.MOSTLY_Q4_0),
    } == gguf_file._FILE_TYPE
    assert {
        name: int(gguf.PoolingType[name.upper()]) for name in ("mean", "cls", "rank")
    } == gguf_file._POOLING
    assert gguf_file._QUANTIZATION_VERSION == gguf.GGML_QUANT_VERSION


def test_serving_and_registering_load_neither_the_converters_package_nor_the_engine() -> None:
    code = "import sys, penstock.tuning.models; print([n for n in ('gguf', 'yaml', 'xllamacpp') if n in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def test_the_file_carries_shape_vocabulary_and_template(llama_folder: Path, tmp_path: Path) -> None:
    convert_folder(llama_folder, tmp_path / "a.gguf", precision="f32")
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "llama"
    assert fields["llama.attention.head_count_kv"] == 2
    assert fields["tokenizer.ggml.pre"] == "gpt-2"
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert fields["tokenizer.ggml.eos_token_id"] == 2
    assert "<|assistant|>" in fields["tokenizer.chat_template"]
    reader.data._mmap.close()


def test_every_end_token_of_a_model_ends_a_reply_and_too_many_are_refused(copy: Path) -> None:
    (copy / "generation_config.json").write_text('{"eos_token_id": [2, 5, 7]}')
    convert_folder(copy, copy / "a.gguf", precision="f32")
    reader = gguf.GGUFReader(copy / "a.gguf")
    names = ("eos", "eot", "eom")
    assert [reader.fields[f"tokenizer.ggml.{name}_token_id"].contents() for name in names] == [2, 5, 7]
    reader.data._mmap.close()
    (copy / "generation_config.json").write_text('{"eos_token_id": [2, 5, 7, 8]}')
    with pytest.raises(UnsupportedModel, match="4 end tokens"):
        convert_folder(copy, copy / "b.gguf")


def test_control_and_plain_added_tokens_are_told_apart_and_missing_ids_padded(llama_folder: Path) -> None:
    size = json.loads((llama_folder / "config.json").read_text())["vocab_size"]
    vocabulary = read_vocabulary(llama_folder / "tokenizer.json", size=size)
    kinds = dict(zip(vocabulary.tokens, vocabulary.types, strict=True))
    assert kinds["<|end|>"] == CONTROL
    assert kinds["[1]"] == USER_DEFINED
    assert vocabulary.types[-5:] == (UNUSED,) * 5


def test_rows_are_permuted_as_interleaved_pairs() -> None:
    # one head of 4: half rotation pairs rows (0, 2) and (1, 3); interleaved pairs must lie side by side
    rows = np.array([[0.0], [1.0], [2.0], [3.0]])
    assert permute_rows(rows, 1).ravel().tolist() == [0.0, 2.0, 1.0, 3.0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["Qwen2MoeForCausalLM"]}, "Qwen2MoeForCausalLM"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
    ],
)
def test_a_setting_that_is_not_honoured_is_refused_by_name(
    copy: Path, change: dict[str, Any], words: str
) -> None:
    edit_json(copy / "config.json", lambda config: config.update(change))
    with pytest.raises(UnsupportedModel, match=words):
        convert_folder(copy, copy / "out.gguf")
    assert not (copy / "out.gguf").exists()


def test_weights_that_do_not_fit_the_configuration_are_refused(copy: Path) -> None:
    edit_json(copy / "config.json", lambda config: config.update(num_hidden_layers=3))
    with pytest.raises(UnreadableModel, match="9 tensors missing, 0 not expected"):
        convert_folder(copy, copy / "out.gguf")
    edit_json(copy / "config.json", lambda config: config.update(num_hidden_layers=1))
    with pytest.raises(UnreadableModel, match="0 tensors missing, 9 not expected"):
        convert_folder(copy, copy / "out.gguf")


def test_a_tokenizer_larger_than_the_embedding_is_refused(copy: Path) -> None:
    edit_json(copy / "config.json", lambda config: config.update(vocab_size=100))
    with pytest.raises(UnreadableModel, match="belong to different models"):
        convert_folder(copy, copy / "out.gguf")


@pytest.mark.parametrize(
    ("pre", "known"),
    [
        ({"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}, None),
        ({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}, None),
        (None, None),
        (
            {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Digits", "individual_digits": True},
                    {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
                ],
            },
            "smollm",
        ),
        (
            {
                "type": "Sequence",
                "pretokenizers": [
                    {
                        "type": "Split",
                        "pattern": {"Regex": r"\w+|\W+"},
                        "behavior": "Isolated",
                        "invert": False,
                    },
                    {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
                ],
            },
            None,
        ),
    ],
)
def test_pre_tokenizers_are_known_by_structure_or_refused(copy: Path, pre: Any, known: str | None) -> None:
    edit_json(copy / "tokenizer.json", lambda tokenizer: tokenizer.update(pre_tokenizer=pre))
    if known is None:
        with pytest.raises(UnsupportedModel, match="pre-tokenizer"):
            read_vocabulary(copy / "tokenizer.json", size=1000)
    else:
        assert read_vocabulary(copy / "tokenizer.json", size=1000).pre == known


def test_other_kinds_of_tokenizer_and_pooling_are_refused(
    copy: Path, bert_folder: Path, tmp_path: Path
) -> None:
    edit_json(copy / "tokenizer.json", lambda tokenizer: tokenizer["model"].update(type="Unigram"))
    with pytest.raises(UnsupportedModel, match="Unigram"):
        convert_folder(copy, copy / "out.gguf")
    bert = Path(shutil.copytree(bert_folder, tmp_path / "bert"))
    (bert / "1_Pooling").mkdir()
    (bert / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(UnsupportedModel, match="max_tokens"):
        convert_folder(bert, bert / "out.gguf")


def test_an_unknown_precision_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="q3"):
        convert_folder(llama_folder, tmp_path / "x.gguf", precision="q3")  # type: ignore[arg-type]


def test_every_float_type_is_read_as_float32(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 0.15625], dtype=np.float32)
    header, data, position = {}, b"", 0
    for name, dtype, raw in (
        ("a", "F32", values.tobytes()),
        ("b", "F16", values.astype("<f2").tobytes()),
        ("c", "BF16", (values.view(np.uint32) >> 16).astype("<u2").tobytes()),
        ("d", "F64", values.astype("<f8").tobytes()),
    ):
        header[name] = {"dtype": dtype, "shape": [3], "data_offsets": [position, position + len(raw)]}
        data, position = data + raw, position + len(raw)
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    with SafetensorsFile(tmp_path / "x.safetensors") as file:
        for name in file.names:
            assert file.read(name).dtype == np.float32
            assert file.read(name).tolist() == values.tolist()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 4,
        (10**12).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (3).to_bytes(8, "little") + b"{{{",
        (60).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'.ljust(60),
        (60).to_bytes(8, "little") + b'{"a":{"dtype":"F99","shape":[0],"data_offsets":[0,0]}}'.ljust(60),
        b"PK\x03\x04" + b"\x00" * 60,
    ],
)
def test_damaged_safetensors_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(UnreadableModel):
        Weights(tmp_path)


def whole(shape: Any, offsets: list[Any]) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "header",
    [
        {"a": whole([-4, -4], [0, 64])},
        {"a": whole([16], [0.0, 64.0])},
        {"a": whole([True, 16], [0, 64])},
        {"a": whole("", [0, 64])},
        {"a": whole([16], [0, 64]), "b": whole([16], [0, 64])},
        {"a": whole([8], [0, 32]), "b": whole([4], [48, 64])},
        {"a": whole([8], [0, 32])},
    ],
)
def test_headers_that_the_reference_refuses_are_refused_by_name(
    tmp_path: Path, header: dict[str, Any]
) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))
    with pytest.raises(UnreadableModel):
        Weights(tmp_path)


def test_sharded_weights_are_read_as_one(tmp_path: Path) -> None:
    one, two = np.ones((2, 2), np.float32), np.zeros(3, np.float32)
    write_safetensors(tmp_path / "model-00001-of-00002.safetensors", {"one": one})
    write_safetensors(tmp_path / "model-00002-of-00002.safetensors", {"two": two})
    index = {
        "weight_map": {"one": "model-00001-of-00002.safetensors", "two": "model-00002-of-00002.safetensors"}
    }
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    weights = Weights(tmp_path)
    assert set(weights) == {"one", "two"}
    assert weights["one"].tolist() == one.tolist()
    weights.close()


def test_a_folder_with_pickles_only_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(PickleRefused, match=r"pytorch_model\.bin") as caught:
        convert_folder(copy, copy / "out.gguf")
    assert "save_pretrained" in (caught.value.hint or "")
