"""A version proven once more, as it lies there now."""

from pathlib import Path

import pytest

import penstock.data
from penstock.registry.service import Registry
from penstock.store.blobs import BlobStore
from penstock.tuning.model_types import ModelLineage
from penstock.tuning.models import ModelService
from penstock.tuning.verification import Check
from tests.tuning.tiny_adapters import make_adapter

POCKET = Path(penstock.data.__path__[0]) / "pocket"


def outcome(checks: list[Check]) -> dict[str, bool | None]:
    return {check.name: check.passed for check in checks}


def test_what_is_whole_passes_and_a_flipped_bit_is_named(
    service: ModelService, registry: Registry, tmp_path: Path
) -> None:
    service.ensure_shipped(POCKET)
    assert outcome(service.verify("model:pocket")) == {
        "model.gguf": True,
        "renderer.json": True,
        "tokenizer.json": True,
        "renderer": True,
    }
    digest = registry.resolve("model:pocket").artefacts["model.gguf"].removeprefix("sha256:")
    path = tmp_path / "blobs" / "sha256" / digest[:2] / digest[2:]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    found = outcome(service.verify("model:pocket", with_parity=True))
    assert found["model.gguf"] is False
    assert "parity" not in found  # nothing is made of a damaged file
    path.unlink()
    assert outcome(service.verify("model:pocket"))["model.gguf"] is False


@pytest.mark.engine
def test_the_proof_is_run_again_for_each_form(
    service: ModelService, decoders: dict[str, Path], tmp_path: Path
) -> None:
    service.pull("base", f"folder:{decoders['qwen2']}")
    made = service.register_trained(
        "mine",
        None,
        base="model:base",
        lineage=ModelLineage(method="lora"),
        adapter_folder=make_adapter(decoders["qwen2"], tmp_path / "a"),
        form="both",
        precisions=("f16", "q4_0"),
    )
    assert made.adapter is not None
    for label in (made.label, *made.children, made.adapter):
        assert outcome(service.verify(label, with_parity=True))["parity"] is True, label


def test_a_proof_without_a_source_is_not_called_passed(service: ModelService) -> None:
    service.ensure_shipped(POCKET)
    (check,) = [each for each in service.verify("model:pocket", with_parity=True) if each.name == "parity"]
    assert check.passed is None
    assert "not kept" in check.detail


@pytest.mark.engine
def test_a_file_that_no_engine_loads_has_failed_its_proof(
    service: ModelService, registry: Registry, decoders: dict[str, Path], tmp_path: Path
) -> None:
    service.pull("base", f"folder:{decoders['llama']}")
    version = registry.resolve("model:base")
    garbage = tmp_path / "garbage.gguf"
    garbage.write_bytes(b"GGUF garbage")
    digest = BlobStore(str(tmp_path / "blobs")).put_file(garbage)
    artefacts = {**version.artefacts, "model.gguf": digest}
    registry.register("model", "broken", dict(version.content), artefacts=artefacts)
    assert outcome(service.verify("model:broken", with_parity=True))["parity"] is False
