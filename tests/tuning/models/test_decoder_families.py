"""Llama, Qwen2 and Qwen3: right conversions pass at every precision, each classic mistake fails, strangers are refused."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.providers.engines.llama import LlamaEngine
from penstock.spec.messages import Message
from penstock.tuning.convert import gguf_file, tensors
from penstock.tuning.convert.architectures import DecoderShape, read_shape
from penstock.tuning.convert.gguf_file import Precision, convert_folder
from penstock.tuning.convert.safetensors import write_safetensors
from penstock.tuning.errors import UnsupportedModel
from penstock.tuning.packaging import read_folder_renderer
from penstock.tuning.parity import prove_parity
from penstock.tuning.references import decoder_logits
from tests.tuning.sampling import greedy
from tests.tuning.tiny_models import make_decoder, read_all

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("precision", ["f32", "f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_right_conversion_passes(
    decoders: dict[str, Path], tmp_path: Path, family: str, precision: Precision
) -> None:
    convert_folder(decoders[family], tmp_path / "m.gguf", precision=precision)
    report = prove_parity(decoders[family], tmp_path / "m.gguf", precision=precision)
    assert report.passed, report
    assert report.architecture == family
    assert (report.file_kl is None) is (precision in ("f32", "f16"))


def test_a_checkpoint_in_several_files_is_one_model(tmp_path: Path) -> None:
    one = make_decoder(tmp_path / "one", "qwen3", tied=False)
    several = make_decoder(tmp_path / "several", "qwen3", tied=False, n_shards=3)
    first = convert_folder(one, tmp_path / "a.gguf", name="m")
    other = convert_folder(several, tmp_path / "b.gguf", name="m")
    assert first.digest == other.digest
    assert len([name for name in other.sources if name.endswith(".safetensors")]) == 3


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_the_engine_continues_as_the_reference_does(
    decoders: dict[str, Path], tmp_path: Path, family: str
) -> None:
    """Served with parity: the greedy reply in the engine, token by token."""
    folder = decoders[family]
    convert_folder(folder, tmp_path / "m.gguf", precision="f32")
    renderer, shape = read_folder_renderer(folder), read_shape(folder)
    assert isinstance(shape, DecoderShape)
    ids = renderer.render_chat([Message(role="user", content="How long should I walk?")])
    weights, expected = read_all(folder), list(ids)
    for _ in range(8):
        expected.append(int(decoder_logits(shape, weights, expected)[-1].argmax()))
        if expected[-1] in shape.eos_ids:
            break
    engine = LlamaEngine(tmp_path / "m.gguf", kind="chat", context_length=256, n_slots=1, exact_cache=True)
    pieces: list[str] = []
    engine.generate(ids, greedy(max_tokens=8), lambda text: bool(pieces.append(text)))
    reply = [each for each in expected[len(ids) :] if each not in shape.eos_ids]
    assert "".join(pieces).encode() == renderer.decode(reply).encode()


def change_tensor(folder: Path, out: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    shutil.copytree(folder, out)
    weights = read_all(out)
    change(weights)
    write_safetensors(out / "model.safetensors", weights)
    return out


def swap_norms(weights: dict[str, Any]) -> None:
    one, other = (f"model.layers.0.{name}_layernorm.weight" for name in ("input", "post_attention"))
    weights[one], weights[other] = weights[other], weights[one]


def forget_bias(weights: dict[str, Any]) -> None:
    weights["model.layers.0.self_attn.q_proj.bias"] = np.zeros_like(
        weights["model.layers.0.self_attn.q_proj.bias"]
    )


def swap_qk_norms(weights: dict[str, Any]) -> None:
    one, other = (f"model.layers.1.self_attn.{name}_norm.weight" for name in "qk")
    weights[one], weights[other] = weights[other], weights[one]


@pytest.mark.parametrize("precision", ["f32", "q4_0"])
@pytest.mark.parametrize(
    ("family", "mistake"), [("llama", swap_norms), ("qwen2", forget_bias), ("qwen3", swap_qk_norms)]
)
def test_a_tensor_in_the_wrong_place_fails(
    decoders: dict[str, Path],
    tmp_path: Path,
    family: str,
    mistake: Callable[[dict[str, Any]], None],
    precision: Precision,
) -> None:
    wrong = change_tensor(decoders[family], tmp_path / "wrong", mistake)
    convert_folder(wrong, tmp_path / "m.gguf", precision=precision)
    report = prove_parity(decoders[family], tmp_path / "m.gguf", precision=precision)
    assert not report.passed
    assert report.worst_tensor is not None


@pytest.mark.parametrize("precision", ["f32", "q8_0", "q4_0"])
@pytest.mark.parametrize(
    ("setting", "changes"),
    [
        ("rms_eps", {"rms_eps": 1e-3}),
        ("rope_theta", {"rope_theta": 5000.0}),
        ("n_kv_heads", {"n_kv_heads": 4, "n_heads": 8, "head_dim": 8}),
    ],
)
def test_a_setting_that_the_source_has_otherwise_fails(
    decoders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    changes: dict[str, Any],
    precision: Precision,
) -> None:
    """However little it moves the words: a wrong epsilon hides behind rounding."""
    real = read_shape
    monkeypatch.setattr(gguf_file, "read_shape", lambda folder: dataclasses.replace(real(folder), **changes))
    convert_folder(decoders["qwen2"], tmp_path / "m.gguf", precision=precision)
    report = prove_parity(decoders["qwen2"], tmp_path / "m.gguf", precision=precision)
    assert not report.passed
    assert setting in report.differing_settings


@pytest.mark.parametrize("precision", ["f32", "q4_0"])
def test_rotary_rows_in_the_wrong_order_fail_at_every_precision(
    decoders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(tensors, "permute_rows", lambda weight, n_heads: weight)
        convert_folder(decoders["llama"], tmp_path / "m.gguf", precision=precision)
    assert not prove_parity(decoders["llama"], tmp_path / "m.gguf", precision=precision).passed


def test_a_head_of_its_own_in_a_tied_model_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tied and untied differ by one tensor that either side may forget."""
    tied = make_decoder(tmp_path / "tied", "qwen2")
    untied = shutil.copytree(tied, tmp_path / "untied")
    config = json.loads((untied / "config.json").read_text()) | {"tie_word_embeddings": False}
    (untied / "config.json").write_text(json.dumps(config))
    weights = read_all(tied)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"][::-1].copy()
    write_safetensors(untied / "model.safetensors", weights)
    convert_folder(untied, tmp_path / "m.gguf", precision="f32")
    report = prove_parity(tied, tmp_path / "m.gguf", precision="f32")
    assert not report.passed


@pytest.mark.parametrize("mistake", ["tokens swapped", "merges lost"])
def test_a_vocabulary_that_cuts_or_joins_otherwise_fails(
    decoders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    """The logits are right all the same, and every reply would be garbled, or every text cut another way."""
    real = gguf_file.read_vocabulary

    def wrong(path: Path, *, size: int) -> Any:
        found = real(path, size=size)
        if mistake == "merges lost":
            return dataclasses.replace(found, merges=found.merges[:1])
        one, other = found.tokens.index("a"), found.tokens.index("e")
        tokens = list(found.tokens)
        tokens[one], tokens[other] = tokens[other], tokens[one]
        return dataclasses.replace(found, tokens=tuple(tokens))

    with monkeypatch.context() as patched:
        patched.setattr(gguf_file, "read_vocabulary", wrong)
        convert_folder(decoders["qwen2"], tmp_path / "m.gguf", precision="f32")
    report = prove_parity(decoders["qwen2"], tmp_path / "m.gguf", precision="f32")
    assert report.otherwise_cut
    assert not report.passed
    assert report.mean_kl is not None
    assert report.mean_kl < 1e-6


@pytest.mark.parametrize(
    ("family", "changes", "told"),
    [
        ("qwen2", {"use_sliding_window": True, "sliding_window": 128}, "sliding window"),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "sliding window"),
        ("qwen2", {"layer_types": ["full_attention", "linear_attention"]}, "linear_attention"),
        ("qwen3", {"attention_bias": True}, "attention_bias"),
        ("qwen2", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}}, "yarn"),
        (
            "qwen3",
            {
                "rope_parameters": {
                    "rope_type": "llama3",
                    "rope_theta": 1e4,
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 64,
                }
            },
            "qwen3",
        ),
        ("llama", {"quantization_config": {"quant_method": "awq"}}, "awq"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("llama", {"architectures": ["MistralForCausalLM"]}, "MistralForCausalLM"),
    ],
)
def test_what_is_not_known_is_refused_by_name(
    decoders: dict[str, Path], tmp_path: Path, family: str, changes: dict[str, Any], told: str
) -> None:
    folder = Path(shutil.copytree(decoders[family], tmp_path / "m"))
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match=told):
        convert_folder(folder, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


def test_a_window_as_long_as_the_context_is_full_attention(decoders: dict[str, Path], tmp_path: Path) -> None:
    """Qwen's files name a window that they do not use."""
    folder = Path(shutil.copytree(decoders["qwen2"], tmp_path / "m"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"use_sliding_window": False, "sliding_window": 32, "layer_types": ["full_attention"] * 2}
    (folder / "config.json").write_text(json.dumps(config))
    assert read_shape(folder) == read_shape(decoders["qwen2"])
