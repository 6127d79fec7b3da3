"""The proof passes for right conversions, at every precision, and fails for each classic mistake."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.tuning.convert import architectures, gguf_file, tensors
from penstock.tuning.convert.encoder_gguf import EncoderWeights
from penstock.tuning.convert.gguf_file import Precision, convert_folder
from penstock.tuning.convert.safetensors import write_safetensors
from penstock.tuning.errors import ParityFailed, UnreadableModel
from penstock.tuning.parity import demand_parity, prove_parity
from tests.tuning.tiny_models import make_bert, make_llama, make_ranker, read_all

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("precision", ["f32", "f16", "q8_0"])
@pytest.mark.parametrize("kind", ["tied", "untied, biased, ungrouped"])
def test_a_right_decoder_passes(tmp_path: Path, kind: str, precision: Precision) -> None:
    folder = (
        make_llama(tmp_path / "m")
        if kind == "tied"
        else make_llama(tmp_path / "m", tied=False, n_kv_heads=4, bias=True)
    )
    convert_folder(folder, tmp_path / "m.gguf", precision=precision)
    report = prove_parity(folder, tmp_path / "m.gguf", precision=precision)
    demand_parity(report)
    assert report.n_compared >= 15
    if precision == "f32":
        assert report.max_abs_logprob is not None
        assert report.max_abs_logprob < 1e-3


@pytest.mark.parametrize("precision", ["f32", "f16", "q8_0"])
def test_a_right_encoder_passes(bert_folder: Path, tmp_path: Path, precision: Precision) -> None:
    convert_folder(bert_folder, tmp_path / "m.gguf", precision=precision)
    report = prove_parity(bert_folder, tmp_path / "m.gguf", precision=precision)
    demand_parity(report)
    assert report.min_cosine is not None
    assert report.min_cosine >= 0.999


def test_the_wrong_order_of_rotary_rows_fails(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "permute_rows", lambda weight, n_heads: weight)
    convert_folder(llama_folder, tmp_path / "m.gguf", precision="f32")
    report = prove_parity(llama_folder, tmp_path / "m.gguf", precision="f32")
    assert not report.passed
    with pytest.raises(ParityFailed) as caught:
        demand_parity(report)
    assert caught.value.fields["kind"] == "parity"


@pytest.mark.parametrize("scaled", [True, False])
def test_the_stretched_rotation_of_llama_3_is_converted_and_its_absence_noticed(
    tmp_path: Path, scaled: bool
) -> None:
    folder = make_llama(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    if not scaled:
        convert_folder(folder, tmp_path / "m.gguf", precision="f32")
    config["rope_parameters"] |= {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    (folder / "config.json").write_text(json.dumps(config))
    if scaled:
        convert_folder(folder, tmp_path / "m.gguf", precision="f32")
    assert prove_parity(folder, tmp_path / "m.gguf", precision="f32").passed is scaled


def test_the_factors_of_llama_3_follow_its_published_rule() -> None:
    rope = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    factors = architectures._read_rope_factors(rope, 128, 500_000.0)
    assert factors is not None
    assert len(factors) == 64
    assert factors[0] == 1.0
    assert factors[-1] == 8.0
    assert factors[28] == 1.0  # wavelength 1,956, shorter than 8,192 / 4
    assert factors[36] == 8.0  # wavelength 10,081, longer than 8,192
    assert all(one <= other for one, other in itertools.pairwise(factors))


def test_another_rotary_base_fails(llama_folder: Path, tmp_path: Path) -> None:
    convert_folder(llama_folder, tmp_path / "m.gguf", precision="f32")
    config = json.loads((llama_folder / "config.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    for path in llama_folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    config["rope_parameters"]["rope_theta"] = 500.0
    (other / "config.json").write_text(json.dumps(config))
    assert not prove_parity(other, tmp_path / "m.gguf", precision="f32").passed


def test_weights_of_another_model_fail(llama_folder: Path, tmp_path: Path) -> None:
    convert_folder(make_llama(tmp_path / "other", seed=8), tmp_path / "m.gguf", precision="q8_0")
    assert not prove_parity(llama_folder, tmp_path / "m.gguf", precision="q8_0").passed


def test_the_report_is_plain_json_evidence(bert_folder: Path, tmp_path: Path) -> None:
    convert_folder(bert_folder, tmp_path / "m.gguf", precision="f16")
    evidence: dict[str, Any] = prove_parity(bert_folder, tmp_path / "m.gguf", precision="f16").as_evidence()
    assert json.loads(json.dumps(evidence))["passed"] is True
    assert "mean_kl" not in evidence  # does not apply to an encoder: absent, not zero
    assert np.isfinite(evidence["max_abs_difference"])


def spoil(weights: dict[str, Any], how: str) -> dict[str, Any]:
    """Return the weights of a ranker with one mistake of conversion."""
    spoilt = dict(weights)
    layer = "bert.encoder.layer.1."
    if how == "query and key swapped":
        for kind in ("weight", "bias"):
            query, key = (f"{layer}attention.self.{name}.{kind}" for name in ("query", "key"))
            spoilt[query], spoilt[key] = weights[key], weights[query]
        return spoilt
    for name, value in weights.items():
        if how in name:
            spoilt[name] = value * 0
    return spoilt


@pytest.mark.parametrize("precision", ["f32", "f16", "q8_0", "q4_0"])
def test_a_wrong_reranker_fails_even_where_it_says_nearly_nothing_to_every_pair(
    tmp_path: Path, precision: Precision
) -> None:
    """A trained reranker says about -10 to pairs that do not fit: squashed, everything is 0.0000."""
    folder = make_ranker(tmp_path / "m")
    weights = read_all(folder) | {"classifier.bias": np.array([-14.0], dtype=np.float32)}
    write_safetensors(folder / "model.safetensors", weights)
    convert_folder(folder, tmp_path / "m.gguf", precision=precision)
    report = prove_parity(folder, tmp_path / "m.gguf", precision=precision)
    demand_parity(report)
    assert report.n_compared >= 15
    mistakes = [
        "query and key swapped",
        "position_embeddings",
        "token_type_embeddings",
        "layer.1.output.dense.weight",
    ]
    for how in mistakes:
        bad = tmp_path / "bad"
        shutil.copytree(folder, bad, dirs_exist_ok=True)
        write_safetensors(bad / "model.safetensors", spoil(weights, how))
        convert_folder(bad, tmp_path / "bad.gguf", precision=precision)
        assert not prove_parity(folder, tmp_path / "bad.gguf", precision=precision).passed, how


MAKERS = {"encoder": (make_bert, ""), "reranker": (make_ranker, "bert.")}


@pytest.mark.parametrize("precision", ["f32", "f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("kind", MAKERS)
def test_an_encoder_is_read_back_and_the_engine_computes_what_its_file_holds(
    tmp_path: Path, kind: str, precision: Precision
) -> None:
    folder = MAKERS[kind][0](tmp_path / "m")
    convert_folder(folder, tmp_path / "m.gguf", precision=precision)
    report = prove_parity(folder, tmp_path / "m.gguf", precision=precision)
    demand_parity(report)
    assert report.max_weight_error is not None
    assert report.max_weight_error < {"f32": 1e-7, "f16": 5e-4, "q8_0": 0.01, "q4_0": 0.12}[precision]
    own = report.file_cosine if kind == "encoder" else report.file_spread_difference
    assert (own is not None) is (precision in {"q8_0", "q4_0"})


@pytest.mark.parametrize("precision", ["q8_0", "q4_0"])
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(
    "how", ["a norm a little longer", "a bias forgotten", "one matrix turned", "positions moved by one"]
)
def test_a_tensor_that_is_another_one_fails_where_rounding_would_hide_it(
    tmp_path: Path, kind: str, how: str, precision: Precision
) -> None:
    """By what the engine says alone, a norm that is 2 % too long passes at every precision."""
    make, prefix = MAKERS[kind]
    folder = make(tmp_path / "m")
    weights = read_all(folder)
    layer = f"{prefix}encoder.layer.1."
    name, change = {
        "a norm a little longer": (f"{layer}output.LayerNorm.weight", lambda value: value * 1.02),
        "a bias forgotten": (f"{layer}attention.self.key.bias", lambda value: value * 0),
        "one matrix turned": (f"{layer}attention.self.query.weight", lambda value: value.T.copy()),
        "positions moved by one": (
            f"{prefix}embeddings.position_embeddings.weight",
            lambda value: np.roll(value, 1, axis=0),
        ),
    }[how]
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    write_safetensors(bad / "model.safetensors", weights | {name: change(weights[name])})
    convert_folder(bad, tmp_path / "bad.gguf", precision=precision)
    report = prove_parity(folder, tmp_path / "bad.gguf", precision=precision)
    assert not report.passed
    assert report.worst_tensor == name


def test_an_encoder_whose_file_says_other_settings_fails(bert_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(bert_folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-5}))
    convert_folder(other, tmp_path / "m.gguf", precision="f16")
    report = prove_parity(bert_folder, tmp_path / "m.gguf", precision="f16")
    assert not report.passed
    assert report.differing_settings == ("norm_eps",)


def test_an_encoder_file_that_lacks_a_tensor_is_not_read(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no.gguf").write_bytes(b"GGUF but no more")
    with pytest.raises(UnreadableModel):
        EncoderWeights(tmp_path / "no.gguf")
    add = gguf_file._add_tensor

    def add_all_but_one(writer: Any, name: str, *rest: Any) -> None:
        if name != "blk.1.attn_k.bias":
            add(writer, name, *rest)

    monkeypatch.setattr(gguf_file, "_add_tensor", add_all_but_one)
    convert_folder(bert_folder, tmp_path / "m.gguf", precision="f16")
    with pytest.raises(UnreadableModel, match=r"blk\.1\.attn_k\.bias"):
        EncoderWeights(tmp_path / "m.gguf")
