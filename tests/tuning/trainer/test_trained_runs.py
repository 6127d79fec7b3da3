"""Runs that train really: tiny models, few steps, every method."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.trainer.run_folders import make_run
from tests.tuning.trainer.runtime import Runtime


def pick(events: list[Any], kind: str, name: str) -> list[float]:
    return [each["values"][name] for each in events if each["kind"] == kind]


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("full", {}),
        ("full", {"architecture": "qwen2", "tied": False}),
        ("full", {"architecture": "qwen3", "train": {"packing": True, "max_steps": 12}}),
        ("lora", {"adapter": {"r": 4, "alpha": 8}}),
        ("lora", {"adapter": {"r": 4}, "train": {"gradient_checkpointing": True, "precision": "bf16"}}),
        ("dora", {"adapter": {"r": 4, "alpha": 8}}),
        ("distill", {"distill": {"teacher": "large", "student": "lora"}}),
        ("dpo", {}),
        ("dpo", {"adapter": {"r": 4}, "preference": {"loss": "ipo"}}),
        ("kto", {}),
        ("kto", {"adapter": {"r": 4}, "preference": {"loss": "apo_zero_unpaired"}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)) or "plain",
)
def test_each_method_learns_and_ends_with_a_model(
    runtime: Runtime, tmp_path: Path, method: str, parts: dict[str, Any]
) -> None:
    folder = make_run(tmp_path / "run", method=method, **parts)
    events = runtime.train(folder)
    losses = pick(events, "step", "loss")
    assert len(losses) == events[0]["detail"]["n_steps"] == 12
    held_out = pick(events, "eval", "loss")
    assert held_out[-1] < held_out[0]
    assert events[-1]["kind"] == "ended"
    assert events[-1]["detail"]["reason"] == "done"
    is_adapter = method in {"lora", "dora", "distill"} or "adapter" in parts
    written = {path.name for path in (folder / "out").iterdir()}
    assert ("adapter_model.safetensors" in written) is is_adapter
    assert ("model.safetensors" in written) is not is_adapter


def test_a_model_from_nothing_has_the_shape_that_was_asked_for(runtime: Runtime, tmp_path: Path) -> None:
    scratch = {"hidden_size": 64, "n_layers": 1, "n_heads": 2, "ffn_size": 96, "architecture": "qwen3"}
    folder = make_run(tmp_path / "run", method="scratch", scratch=scratch)
    for name in ("config.json", "model.safetensors"):
        (folder / "base" / name).unlink()
    events = runtime.train(folder)
    assert pick(events, "eval", "loss")[-1] < pick(events, "eval", "loss")[0]
    config = json.loads((folder / "out" / "config.json").read_text())
    assert (config["model_type"], config["num_hidden_layers"], config["dtype"]) == ("qwen3", 1, "float32")
    assert config["architectures"] == ["Qwen3ForCausalLM"]


def test_two_runs_of_one_specification_make_the_same_weights(runtime: Runtime, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        folder = make_run(tmp_path / name, method="lora", adapter={"r": 4, "dropout": 0.2})
        runtime.train(folder)
        found.append((folder / "out" / "adapter_model.safetensors").read_bytes())
    assert found[0] == found[1]
