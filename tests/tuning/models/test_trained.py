"""What a run made, into the registry: proven whole, named by everything it was made from, or not there at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import penstock.data
from penstock.base.errors import InvalidInput
from penstock.registry.errors import UnknownAsset
from penstock.registry.service import Registry
from penstock.spec.tuning import PinnedAsset
from penstock.tuning import packaging
from penstock.tuning.convert.safetensors import write_safetensors
from penstock.tuning.errors import (
    DigestMismatch,
    LicenseConflict,
    ParityFailed,
    UnsupportedModel,
    WrongBase,
)
from penstock.tuning.model_types import ModelLineage
from penstock.tuning.models import ModelService
from penstock.tuning.parity import prove_parity
from tests.tuning.tiny_adapters import make_adapter
from tests.tuning.tiny_models import make_decoder, read_all

pytestmark = pytest.mark.engine
POCKET = Path(penstock.data.__path__[0]) / "pocket"
LINEAGE = ModelLineage(
    method="lora",
    run="run_1",
    recipe={"name": "r"},
    recipe_digest="sha256:" + "ab" * 32,
    code="penstock 1",
    environment={"digest": "sha256:" + "cd" * 32, "packages": {"torch": "2.13.0"}},
    hardware={"device": "cpu"},
    evaluation={"metric": "loss", "value": 1.25, "n": 40},
)


@pytest.fixture
def base(service: ModelService, decoders: dict[str, Path]) -> str:
    pulled = service.pull("base", f"folder:{decoders['llama']}")
    return f"model:base@{pulled.number}"


def train_whole(base: Path, out: Path) -> Path:
    """A folder as full training leaves it: other weights, all else as it was."""
    shutil.copytree(base, out)
    weights = {name: value * np.float32(1.05) for name, value in read_all(base).items()}
    write_safetensors(out / "model.safetensors", weights)
    return out


def test_a_whole_model_is_registered_with_its_children_and_origin(
    service: ModelService, registry: Registry, base: str, decoders: dict[str, Path], tmp_path: Path
) -> None:
    data = registry.register("dataset", "rows", {"n": 1})
    pins = (PinnedAsset(asset="dataset:rows", number=1, digest=data.digest),)
    lineage = ModelLineage(method="full", run="run_1", data=pins)
    made = service.register_trained(
        "mine",
        train_whole(decoders["llama"], tmp_path / "out"),
        base=base,
        lineage=lineage,
        precisions=("f16", "q8_0"),
    )
    version = registry.resolve("model:mine@candidate")
    assert (made.label, made.digest, made.adapter) == ("model:mine@1", version.digest, None)
    assert version.content["formats"] == ["gguf", "safetensors"]
    origin = version.content["lineage"]
    assert (origin["method"], origin["run"]) == ("full", "run_1")
    assert origin["base"]["digest"] == registry.resolve(base).digest
    assert set(version.parents) == {registry.resolve(base).digest, data.digest}
    (child,) = [registry.resolve(label) for label in made.children]
    assert child.content["precision"] == "q8_0"
    assert child.parents == (version.digest,)
    assert child.content["lineage"]["method"] == "quantise"
    assert child.content["formats"] == ["gguf"]
    assert "prod" not in registry.aliases("model", "mine")  # moves by a gate


def test_the_same_run_registered_again_is_the_same_version(
    service: ModelService, base: str, decoders: dict[str, Path], tmp_path: Path
) -> None:
    """A driver that was killed between registering and writing that down does it once more."""
    out = train_whole(decoders["llama"], tmp_path / "out")
    first = service.register_trained("mine", out, base=base, lineage=LINEAGE)
    assert service.register_trained("mine", out, base=base, lineage=LINEAGE) == first


def test_an_adapter_that_was_trained_on_a_rounded_base_says_so_on_its_card(
    service: ModelService, registry: Registry, base: str, decoders: dict[str, Path], tmp_path: Path
) -> None:
    folder = make_adapter(decoders["llama"], tmp_path / "a")
    cards = {}
    for name, rounding in (("plain", None), ("rounded", "nf4")):
        lineage = msgspec.structs.replace(LINEAGE, base_rounding=rounding)
        made = service.register_trained(name, None, base=base, lineage=lineage, adapter_folder=folder)
        content = registry.resolve(made.label).content
        assert content["lineage"].get("base_rounding") == rounding
        cards[name] = content["card"]
    assert "rounded to four bits (nf4)" in cards["rounded"]
    assert "four bits" not in cards["plain"]


def test_an_adapter_is_kept_apart_and_served_on_its_own_base_only(
    service: ModelService, registry: Registry, base: str, decoders: dict[str, Path], tmp_path: Path
) -> None:
    folder = make_adapter(decoders["llama"], tmp_path / "a")
    made = service.register_trained(
        "mine", None, base=base, lineage=LINEAGE, adapter_folder=folder, form="both"
    )
    assert made.adapter == "model:mine-adapter@1"
    adapter = registry.resolve(made.adapter)
    assert adapter.content["adapter"]["base_digest"] == registry.resolve(base).digest
    assert {"adapter.gguf", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"} <= set(
        adapter.artefacts
    )
    (served,) = service.serve_version(base, adapters=[made.adapter]).adapters
    assert served.digest == adapter.digest
    with pytest.raises(WrongBase, match="base"):
        service.serve_version(made.label, adapters=[made.adapter])
    with pytest.raises(InvalidInput, match="is an adapter"):
        service.serve_version(made.adapter)
    assert "mine-adapter" not in [model.name for model in service.embedded_models()]
    merged = service.checkout(made.label, tmp_path / "merged").folder
    on_base = service.checkout(made.adapter, tmp_path / "laid").folder
    assert (merged / "model.safetensors").read_bytes() == (on_base / "model.safetensors").read_bytes()


def test_the_adapter_alone_is_the_version_where_nothing_is_merged(
    service: ModelService, base: str, decoders: dict[str, Path], tmp_path: Path
) -> None:
    folder = make_adapter(decoders["llama"], tmp_path / "a")
    made = service.register_trained(
        "mine", None, base=base, lineage=LINEAGE, adapter_folder=folder, form="adapter"
    )
    assert made.label == made.adapter == "model:mine@1"
    with pytest.raises(UnsupportedModel, match="adapter itself"):
        service.register_trained(
            "more", None, base=made.label, lineage=LINEAGE, adapter_folder=folder, form="both"
        )


def test_an_adapter_that_no_engine_can_lay_on_is_kept_merged(
    service: ModelService, registry: Registry, base: str, decoders: dict[str, Path], tmp_path: Path
) -> None:
    folder = make_adapter(decoders["llama"], tmp_path / "a", dora=True)
    with pytest.raises(UnsupportedModel, match="DoRA"):
        service.register_trained(
            "mine", None, base=base, lineage=LINEAGE, adapter_folder=folder, form="adapter"
        )
    made = service.register_trained(
        "mine", None, base=base, lineage=LINEAGE, adapter_folder=folder, form="both"
    )
    assert made.adapter is not None
    assert registry.resolve(made.adapter).content["formats"] == ["safetensors"]
    with pytest.raises(UnsupportedModel, match="merged"):
        service.serve_version(base, adapters=[made.adapter])


def test_an_adapter_says_on_which_base_it_was_trained(
    service: ModelService, base: str, decoders: dict[str, Path], tmp_path: Path
) -> None:
    """peft 1567, 1658: a base that floats; the digest in the adapter's own file is believed."""
    other = make_adapter(decoders["llama"], tmp_path / "a", revision="sha256:" + "00" * 32)
    with pytest.raises(WrongBase):
        service.register_trained("mine", None, base=base, lineage=LINEAGE, adapter_folder=other)
    own = service.resolve(base).digest
    right = make_adapter(decoders["llama"], tmp_path / "b", revision=own)
    service.register_trained("mine", None, base=base, lineage=LINEAGE, adapter_folder=right)


def test_nothing_is_registered_when_a_proof_fails(
    service: ModelService,
    registry: Registry,
    base: str,
    decoders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first precision passes, the second does not: neither is kept."""

    def prove(folder: Path, gguf: Path, *, precision: Any) -> Any:
        report = prove_parity(folder, gguf, precision=precision)
        return (
            report
            if precision == "f16"
            else type(report)(
                **{name: getattr(report, name) for name in report.__struct_fields__} | {"passed": False}
            )
        )

    monkeypatch.setattr(packaging, "prove_parity", prove)
    out = train_whole(decoders["llama"], tmp_path / "out")
    with pytest.raises(ParityFailed):
        service.register_trained("mine", out, base=base, lineage=LINEAGE, precisions=("f16", "q8_0"))
    with pytest.raises(UnknownAsset):
        registry.list_versions("model", "mine")
    assert not list((tmp_path / "work").glob("trained-*"))


def test_another_template_than_the_base_has_is_refused(
    service: ModelService, base: str, decoders: dict[str, Path], tmp_path: Path
) -> None:
    """LLaMA-Factory 5232: an export with another template, and the accuracy was gone."""
    out = train_whole(decoders["llama"], tmp_path / "out")
    renderer = service.checkout(base, tmp_path / "base").folder / "renderer.json"
    spec = json.loads(renderer.read_text())
    spec["chat_template"] = spec["chat_template"].replace("<|end|>", "")
    (out / "renderer.json").write_text(json.dumps(spec))
    with pytest.raises(DigestMismatch, match=r"renderer\.json"):
        service.register_trained("mine", out, base=base, lineage=LINEAGE)


def test_prod_is_not_for_training_to_move(service: ModelService, base: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="gate"):
        service.register_trained("mine", tmp_path, base=base, lineage=LINEAGE, alias="prod")


def test_the_licence_is_the_bases_unless_it_may_be_another(
    service: ModelService, registry: Registry, decoders: dict[str, Path], tmp_path: Path
) -> None:
    service.ensure_shipped(POCKET)  # Apache-2.0
    folder = service.checkout("model:pocket", tmp_path / "pocket").folder
    out = train_whole(folder, tmp_path / "out")
    made = service.register_trained("a", out, base="model:pocket", lineage=LINEAGE, license_id="MIT")
    assert registry.resolve(made.label).content["license"] == "MIT"
    unknown = service.pull("base", f"folder:{decoders['llama']}")
    with pytest.raises(LicenseConflict, match="unknown"):
        service.register_trained(
            "b",
            train_whole(decoders["llama"], tmp_path / "b"),
            base=f"model:base@{unknown.number}",
            lineage=LINEAGE,
            license_id="MIT",
        )


def test_a_model_from_nothing_has_no_base(service: ModelService, registry: Registry, tmp_path: Path) -> None:
    folder = make_decoder(tmp_path / "m", "qwen3", tied=False)
    made = service.register_trained(
        "fresh", folder, base=None, lineage=ModelLineage(method="scratch"), license_id="MIT"
    )
    version = registry.resolve(made.label)
    assert (version.parents, version.content["license"]) == ((), "MIT")
    assert version.content["lineage"]["method"] == "scratch"


def test_the_card_tells_what_is_known_and_nothing_else(
    service: ModelService, registry: Registry, base: str, decoders: dict[str, Path], tmp_path: Path
) -> None:
    folder = make_adapter(decoders["llama"], tmp_path / "a")
    made = service.register_trained("mine", None, base=base, lineage=LINEAGE, adapter_folder=folder)
    card = registry.resolve(made.label).content["card"]
    for told in (
        "# mine",
        "Base: model:base@1",
        "Method: lora",
        "run run_1",
        "torch 2.13.0",
        "Hardware: device cpu",
        "While training: loss 1.25 on held-out rows (n = 40)",
        "License: unknown",
        "penstock deploy model model:mine",
    ):
        assert told in card
    assert "None" not in card


def test_a_version_says_what_its_server_must_say(
    service: ModelService, registry: Registry, base: str
) -> None:
    content = registry.resolve(base).content
    assert content["stop_ids"] == [2]
    assert len(content["probe"]) == 3
    assert all(len(each["top"]) == 8 for each in content["probe"])
    assert content["signature"]["roles"] == ["system", "user", "assistant", "tool"]
    assert any(vector.get("mask") for vector in content["golden"])


@pytest.mark.parametrize("form", ["kept as it came", "a GGUF alone"])
def test_an_adapter_is_not_merged_into_a_base_that_was_changed_since_it_was_checked_out(
    service: ModelService, registry: Registry, decoders: dict[str, Path], tmp_path: Path, form: str
) -> None:
    """The proof compares with the merge itself, so a run's base that was damaged on disk would pass it."""
    service.pull("base", f"folder:{decoders['llama']}", keep_original=form == "kept as it came")
    folder = service.checkout("model:base", tmp_path / "base").folder
    adapter = make_adapter(decoders["llama"], tmp_path / "a")
    made = service.register_trained(
        "mine", folder, base="model:base", lineage=LINEAGE, adapter_folder=adapter
    )
    assert made.label == "model:mine@1"
    weights = {
        name: value * np.float32("layers.0.mlp" not in name) for name, value in read_all(folder).items()
    }
    write_safetensors(folder / "model.safetensors", weights)
    with pytest.raises(DigestMismatch, match=r"model\.safetensors"):
        service.register_trained("other", folder, base="model:base", lineage=LINEAGE, adapter_folder=adapter)
    with pytest.raises(UnknownAsset):
        registry.resolve("model:other@1")


def test_a_finer_child_of_a_rounded_version_is_not_said_to_be_made_by_rounding(
    service: ModelService, registry: Registry, base: str, decoders: dict[str, Path], tmp_path: Path
) -> None:
    made = service.register_trained(
        "mine",
        train_whole(decoders["llama"], tmp_path / "out"),
        base=base,
        lineage=ModelLineage(method="full"),
        precisions=("q8_0", "f16", "q4_0"),
    )
    finer, coarser = (registry.resolve(label).content for label in made.children)
    assert (finer["lineage"]["method"], coarser["lineage"]["method"]) == ("convert", "quantise")
    assert "Method: convert from the unrounded weights that its base keeps" in finer["card"]
    checks = service.verify(made.children[0], with_parity=True)
    assert [check.passed for check in checks if check.name == "parity"] == [True]


def test_what_its_base_says_of_itself_is_not_said_of_a_model_trained_for_something_else(
    service: ModelService, registry: Registry, decoders: dict[str, Path], tmp_path: Path
) -> None:
    service.ensure_shipped(POCKET)
    made = service.register_trained(
        "mails",
        None,
        base="model:pocket",
        lineage=LINEAGE,
        adapter_folder=make_adapter(
            service.checkout("model:pocket", tmp_path / "base").folder, tmp_path / "a"
        ),
        form="adapter",
    )
    content = registry.resolve(made.label).content
    assert content["description"] == "model:pocket@1, trained further."
    assert "A very small chat model" not in content["card"]
