"""Adapters: what merging adds, what the engine hears of them, and what is refused rather than applied in part."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.tuning.convert.adapters import read_adapter, write_gguf_adapter
from penstock.tuning.convert.architectures import DecoderShape, read_shape
from penstock.tuning.convert.gguf_file import convert_folder
from penstock.tuning.convert.merge import merge_adapter
from penstock.tuning.convert.safetensors import SafetensorsFile, Weights
from penstock.tuning.errors import PickleRefused, UnreadableModel, UnsupportedModel
from penstock.tuning.parity import prove_adapter
from tests.tuning.tiny_adapters import make_adapter
from tests.tuning.tiny_models import make_decoder, read_all

Q = "model.layers.0.self_attn.q_proj"
EMBEDDING = "base_model.model.model.embed_tokens"


def shape_of(folder: Path) -> DecoderShape:
    shape = read_shape(folder)
    assert isinstance(shape, DecoderShape)
    return shape


@pytest.mark.engine
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_the_engine_with_an_adapter_says_what_the_merged_weights_say(
    decoders: dict[str, Path], tmp_path: Path, family: str
) -> None:
    base = decoders[family]
    adapter = merge_adapter(base, make_adapter(base, tmp_path / "a"), tmp_path / "merged")
    convert_folder(base, tmp_path / "base.gguf", precision="f32")
    write_gguf_adapter(adapter, shape_of(base), tmp_path / "a.gguf", name="a")
    report = prove_adapter(tmp_path / "merged", tmp_path / "base.gguf", tmp_path / "a.gguf", precision="f32")
    assert report.passed, report
    other = make_adapter(base, tmp_path / "b", seed=6)
    write_gguf_adapter(read_adapter(other, shape_of(base)), shape_of(base), tmp_path / "b.gguf", name="b")
    wrong = prove_adapter(tmp_path / "merged", tmp_path / "base.gguf", tmp_path / "b.gguf", precision="f32")
    assert not wrong.passed


@pytest.mark.engine
def test_scales_of_single_modules_reach_the_engine(decoders: dict[str, Path], tmp_path: Path) -> None:
    """A GGUF adapter has one alpha for all; rslora and patterns are folded into the weights."""
    base = decoders["llama"]
    folder = make_adapter(
        base, tmp_path / "a", use_rslora=True, alpha_pattern={"q_proj": 2, r"layers.1.mlp.up_proj": 5}
    )
    adapter = merge_adapter(base, folder, tmp_path / "merged")
    convert_folder(base, tmp_path / "base.gguf", precision="f32")
    write_gguf_adapter(adapter, shape_of(base), tmp_path / "a.gguf", name="a")
    assert prove_adapter(
        tmp_path / "merged", tmp_path / "base.gguf", tmp_path / "a.gguf", precision="f32"
    ).passed


def product(adapter: Path, module: str) -> Any:
    with SafetensorsFile(adapter / "adapter_model.safetensors") as file:
        at = f"base_model.model.{module}"
        return file.read(f"{at}.lora_B.weight") @ file.read(f"{at}.lora_A.weight")


@pytest.mark.parametrize(
    ("settings", "scale"),
    [({}, 8 / 4), ({"use_rslora": True}, 8 / 2), ({"alpha_pattern": {"q_proj": 3}}, 3 / 4)],
)
def test_merging_adds_the_scaled_product(
    decoders: dict[str, Path], tmp_path: Path, settings: dict[str, Any], scale: float
) -> None:
    base = decoders["llama"]
    folder = make_adapter(base, tmp_path / "a", **settings)
    merge_adapter(base, folder, tmp_path / "m")
    before, after = read_all(base), read_all(tmp_path / "m")
    np.testing.assert_allclose(
        after[f"{Q}.weight"], before[f"{Q}.weight"] + scale * product(folder, Q), rtol=0, atol=1e-6
    )
    np.testing.assert_array_equal(after["model.norm.weight"], before["model.norm.weight"])


def test_rows_of_a_dora_have_the_learnt_length(decoders: dict[str, Path], tmp_path: Path) -> None:
    base = decoders["qwen2"]
    folder = make_adapter(base, tmp_path / "a", dora=True)
    adapter = merge_adapter(base, folder, tmp_path / "m")
    assert adapter.kind == "dora"
    merged = read_all(tmp_path / "m")[f"{Q}.weight"]
    with adapter.open() as file:
        lengths = file.read(f"base_model.model.{Q}.lora_magnitude_vector")
    np.testing.assert_allclose(np.linalg.norm(merged, axis=1), lengths, rtol=1e-5)
    with pytest.raises(UnsupportedModel, match="DoRA"):
        write_gguf_adapter(adapter, shape_of(base), tmp_path / "a.gguf", name="a")


def test_modules_saved_whole_are_merged_but_not_served(tmp_path: Path) -> None:
    """vllm 9280, 14978: adapters with modules_to_save were rejected at load; here they are told before, and merged."""
    base = make_decoder(tmp_path / "base", "llama", tied=False)
    head = np.ones_like(read_all(base)["lm_head.weight"])
    folder = make_adapter(base, tmp_path / "a", extra={"base_model.model.lm_head.weight": head})
    adapter = merge_adapter(base, folder, tmp_path / "m")
    np.testing.assert_array_equal(read_all(tmp_path / "m")["lm_head.weight"], head)
    with pytest.raises(UnsupportedModel, match="lm_head"):
        write_gguf_adapter(adapter, shape_of(base), tmp_path / "a.gguf", name="a")


def test_new_tokens_replace_rows_of_the_embedding(decoders: dict[str, Path], tmp_path: Path) -> None:
    base = decoders["llama"]
    rows = np.full((2, 64), 0.5, dtype=np.float32)
    extra = {f"{EMBEDDING}.token_adapter.trainable_tokens_delta": rows}
    folder = make_adapter(base, tmp_path / "a", extra=extra, trainable_token_indices={"embed_tokens": [3, 9]})
    merge_adapter(base, folder, tmp_path / "m")
    merged = read_all(tmp_path / "m")["model.embed_tokens.weight"]
    np.testing.assert_array_equal(merged[[3, 9]], rows)
    np.testing.assert_array_equal(merged[4], read_all(base)["model.embed_tokens.weight"][4])


def test_an_embedding_changed_apart_from_its_tied_head_is_refused(
    decoders: dict[str, Path], tmp_path: Path
) -> None:
    """Merged it would change the head as well, which was not trained so."""
    base = decoders["llama"]
    whole = {f"{EMBEDDING}.weight": np.zeros_like(read_all(base)["model.embed_tokens.weight"])}
    folder = make_adapter(base, tmp_path / "a", extra=whole)
    with pytest.raises(UnsupportedModel, match="trainable_token_indices"):
        merge_adapter(base, folder, tmp_path / "m")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"lora_bias": True}, "lora_bias"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
    ],
)
def test_settings_that_change_the_arithmetic_are_refused_by_name(
    decoders: dict[str, Path], tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    folder = make_adapter(decoders["llama"], tmp_path / "a", **settings)
    with pytest.raises(UnsupportedModel, match=told):
        read_adapter(folder, shape_of(decoders["llama"]))


def test_an_adapter_of_a_larger_model_does_not_fit(decoders: dict[str, Path], tmp_path: Path) -> None:
    stranger = {
        "base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight": np.zeros((4, 64), np.float32)
    }
    folder = make_adapter(decoders["llama"], tmp_path / "a", extra=stranger)
    with pytest.raises(UnreadableModel, match=r"layers\.7"):
        read_adapter(folder, shape_of(decoders["llama"]))
    wide = make_adapter(decoders["qwen3"], tmp_path / "b")
    with pytest.raises(UnreadableModel, match="q_proj"):
        merge_adapter(decoders["llama"], wide, tmp_path / "m")


def test_half_an_adapter_is_refused(decoders: dict[str, Path], tmp_path: Path) -> None:
    lone = {"base_model.model.model.embed_tokens.lora_embedding_A": np.zeros((4, 400), np.float32)}
    folder = make_adapter(decoders["llama"], tmp_path / "a", extra=lone)
    with pytest.raises(UnreadableModel, match="lora_embedding_B"):
        read_adapter(folder, shape_of(decoders["llama"]))


def test_a_pickled_adapter_is_refused_by_name(decoders: dict[str, Path], tmp_path: Path) -> None:
    folder = make_adapter(decoders["llama"], tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(PickleRefused, match=r"adapter_model\.bin"):
        read_adapter(folder, shape_of(decoders["llama"]))


def test_merging_a_base_of_16_bits_keeps_what_was_learnt(decoders: dict[str, Path], tmp_path: Path) -> None:
    """peft 1043, 2321: a merge that rounds to the base's 16 bits loses small updates."""
    base = decoders["llama"]
    merge_adapter(base, make_adapter(base, tmp_path / "a", alpha=1e-4), tmp_path / "m")
    weights = Weights(tmp_path / "m")
    assert set(weights.dtypes().values()) == {"F32"}
    weights.close()
    assert not np.array_equal(read_all(tmp_path / "m")[f"{Q}.weight"], read_all(base)[f"{Q}.weight"])
    assert json.loads((tmp_path / "m" / "config.json").read_text())["dtype"] == "float32"
