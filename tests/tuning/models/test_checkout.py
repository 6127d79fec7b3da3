"""Weights out of the registry: unchanged, exact, proven by digest, or refused."""

import json
import os
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest

import penstock.data
from penstock.base.errors import InvalidInput
from penstock.registry.service import Registry
from penstock.tuning.convert.from_gguf import GgufWeights, write_folder
from penstock.tuning.convert.gguf_file import convert_folder
from penstock.tuning.errors import DigestMismatch, NotTrainable
from penstock.tuning.models import ModelService
from tests.tuning.tiny_models import make_bert, make_decoder, read_all

POCKET = Path(penstock.data.__path__[0]) / "pocket"
ORIGINALS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "model.safetensors",
    "tokenizer.json",
)


@pytest.mark.engine
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_pulled_model_comes_out_as_it_came(
    service: ModelService, decoders: dict[str, Path], tmp_path: Path, family: str
) -> None:
    """Byte for byte: vLLM gets the very safetensors that were pulled."""
    service.pull("m", f"folder:{decoders[family]}")
    base = service.checkout("model:m", tmp_path / "out")
    for name in ORIGINALS:
        assert (tmp_path / "out" / name).read_bytes() == (decoders[family] / name).read_bytes()
    assert base.pinned.digest == service.resolve("model:m").digest
    assert base.renderer.digest == service.resolve("model:m").content["renderer_digest"]
    assert (base.stop_ids, base.pad_id, base.context_length) == ((2,), 0, 256)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_file_of_full_precision_is_taken_back_exactly(
    decoders: dict[str, Path], tmp_path: Path, family: str
) -> None:
    convert_folder(decoders[family], tmp_path / "m.gguf", precision="f32")
    write_folder(tmp_path / "m.gguf", tmp_path / "out", pad_id=0)
    before, after = read_all(decoders[family]), read_all(tmp_path / "out")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(tensor, after[name], err_msg=name)
    said = json.loads((tmp_path / "out" / "config.json").read_text())
    came = json.loads((decoders[family] / "config.json").read_text())
    assert {key: said[key] for key in came} == came


def test_the_shipped_model_comes_back_to_the_bit(service: ModelService, tmp_path: Path) -> None:
    """It ships as GGUF alone; converted again it is the same file, tensor by tensor."""
    service.ensure_shipped(POCKET)
    base = service.checkout("model:pocket", tmp_path / "out")
    assert base.license == "Apache-2.0"
    convert_folder(tmp_path / "out", tmp_path / "again.gguf", precision="f16")
    first, again = (
        gguf.GGUFReader(path).tensors for path in (POCKET / "model.gguf", tmp_path / "again.gguf")
    )
    assert {each.name for each in first} == {each.name for each in again}
    by_name = {each.name: each.data for each in again}
    assert all(np.array_equal(each.data, by_name[each.name]) for each in first)
    assert base.renderer.digest == service.resolve("model:pocket").content["renderer_digest"]


@pytest.mark.parametrize("precision", ["q8_0", "q4_0"])
def test_rounded_weights_are_no_base(decoders: dict[str, Path], tmp_path: Path, precision: str) -> None:
    """peft 1043: training on weights that were rounded is training on another model."""
    convert_folder(decoders["llama"], tmp_path / "m.gguf", precision=precision)  # type: ignore[arg-type]
    with pytest.raises(NotTrainable, match=precision.upper()):
        write_folder(tmp_path / "m.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert GgufWeights(tmp_path / "m.gguf").rounded  # but it can be read, to be compared


@pytest.mark.engine
def test_an_encoder_is_no_base(service: ModelService, tmp_path: Path) -> None:
    service.pull("e", f"folder:{make_bert(tmp_path / 'bert')}")
    with pytest.raises(NotTrainable, match="embedding"):
        service.checkout("model:e", tmp_path / "out")


@pytest.mark.engine
def test_a_stretched_rotation_survives_only_with_its_original_files(
    service: ModelService, tmp_path: Path
) -> None:
    folder = make_decoder(tmp_path / "m", "llama")
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] |= {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    (folder / "config.json").write_text(json.dumps(config))
    service.pull("bare", f"folder:{folder}", keep_original=False)
    with pytest.raises(NotTrainable, match="rotation"):
        service.checkout("model:bare", tmp_path / "out")
    service.pull("bare", f"folder:{folder}")  # the same weights, kept this time: a new version
    service.checkout("model:bare@candidate", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == config


def damage(service: ModelService, registry: Registry, name: str, tmp_path: Path) -> None:
    digest = registry.resolve("model:pocket").artefacts[name].removeprefix("sha256:")
    path = tmp_path / "blobs" / "sha256" / digest[:2] / digest[2:]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["model.gguf", "tokenizer.json", "renderer.json"])
def test_a_damaged_file_is_neither_trained_on_nor_served(
    service: ModelService, registry: Registry, tmp_path: Path, name: str
) -> None:
    service.ensure_shipped(POCKET)
    assert len(service.hosted_models()) == 1
    damage(service, registry, name, tmp_path)
    with pytest.raises(DigestMismatch, match=name):
        service.checkout("model:pocket", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out.*"))
    with pytest.raises(DigestMismatch, match=name):
        service.serve_version("model:pocket")
    assert service.hosted_models() == []


def test_a_file_is_hashed_once_in_a_process(
    service: ModelService, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.ensure_shipped(POCKET)
    service.serve_version("model:pocket")
    monkeypatch.setattr("penstock.tuning.model_files.digest_file", lambda _: pytest.fail("hashed again"))
    service.serve_version("model:pocket")
    monkeypatch.undo()
    digest = registry.resolve("model:pocket").artefacts["model.gguf"].removeprefix("sha256:")
    path = tmp_path / "blobs" / "sha256" / digest[:2] / digest[2:]
    os.utime(path, ns=(1, 1))  # looks changed: looked at again, and found well
    service.serve_version("model:pocket")


def test_nothing_is_written_over(service: ModelService, tmp_path: Path) -> None:
    service.ensure_shipped(POCKET)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="not empty"):
        service.checkout("model:pocket", tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    shutil.rmtree(tmp_path / "mine")


def test_an_export_has_its_card(service: ModelService, tmp_path: Path) -> None:
    service.ensure_shipped(POCKET)
    service.export("model:pocket", tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text() == (POCKET / "CARD.md").read_text()
