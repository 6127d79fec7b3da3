"""What a finished run leaves: files that other tools read, of the best step, on the base that they name."""

import json
from pathlib import Path

import numpy as np
import pytest

from penstock.tuning.errors import DigestMismatch
from penstock.tuning.runs.packaging import check_output
from tests.tuning.trainer.run_folders import STOP, make_run, read_events
from tests.tuning.trainer.runtime import Runtime


def test_an_adapter_names_its_base_by_digest_and_peft_reads_it(runtime: Runtime, tmp_path: Path) -> None:
    """peft#1567: the revision was null, so that an adapter floated with its base. vllm#9280: engines refuse adapters
    with `modules_to_save`."""
    folder = make_run(tmp_path / "run", method="lora", adapter={"r": 4, "alpha": 8})
    runtime.train(folder)
    config = json.loads((folder / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "model:tiny@1"
    assert config["revision"] == "sha256:" + "b" * 64
    assert config["modules_to_save"] is None
    assert (config["r"], config["lora_alpha"], config["bias"]) == (4, 8, "none")
    assert "q_proj" in config["target_modules"]
    assert "lm_head" not in config["target_modules"]
    found = runtime.call("compare_adapter_names", folder=str(folder))
    assert found["ours"] == found["theirs"]
    assert found["same"]


def test_a_dora_adapter_is_written_as_peft_writes_it(runtime: Runtime, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", method="dora", adapter={"r": 4}, train={"max_steps": 2})
    runtime.train(folder)
    found = runtime.call("compare_adapter_names", folder=str(folder))
    assert any("lora_magnitude_vector" in name for name in found["ours"])
    assert found["ours"] == found["theirs"]
    assert found["same"]


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_head_is_written_once_and_a_head_of_its_own_as_well(
    runtime: Runtime, tmp_path: Path, tied: bool
) -> None:
    folder = make_run(tmp_path / "run", tied=tied, train={"max_steps": 2})
    runtime.train(folder)
    found = runtime.call("list_weights", path=str(folder / "out" / "model.safetensors"))
    assert ("lm_head.weight" in found["names"]) is not tied
    assert found["dtypes"] == ["torch.float32"]
    base = runtime.call("list_weights", path=str(folder / "base" / "model.safetensors"))
    assert found["names"] == base["names"]
    assert found["digest"] != base["digest"]


def test_what_lies_beside_the_base_goes_with_the_model(runtime: Runtime, tmp_path: Path) -> None:
    """LlamaFactory#10396: the exported model had lost its template."""
    folder = make_run(tmp_path / "run", train={"max_steps": 2})
    runtime.train(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (folder / "out" / name).read_bytes() == (folder / "base" / name).read_bytes()
    config = json.loads((folder / "out" / "config.json").read_text())
    base = json.loads((folder / "base" / "config.json").read_text())
    assert {name: config[name] for name in base} == base
    told = json.loads((folder / "out" / "origin.json").read_text())["files"]
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(told)
    check_output(folder / "out")
    (folder / "out" / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(DigestMismatch):
        check_output(folder / "out")


def test_the_model_is_the_one_of_the_best_step_not_of_the_last(runtime: Runtime, tmp_path: Path) -> None:
    # a rate far too high: the held-out loss falls first and rises then
    folder = make_run(
        tmp_path / "run",
        train={"lr": 0.05, "schedule": "constant", "max_steps": 20, "keep_checkpoints": 1},
        evaluation={"every_steps": 1},
    )
    events = runtime.train(folder)
    losses = {
        each["step"]: each["values"]["loss"] for each in events if each["kind"] == "eval" and each["step"] > 0
    }
    best = min(losses, key=lambda step: (losses[step], step))
    assert best < 20
    assert events[-1]["detail"]["best"] == f"checkpoints/step-{best}"
    saved = folder / "checkpoints" / f"step-{best}" / "model.safetensors"
    assert (folder / "out" / "model.safetensors").read_bytes() == saved.read_bytes()
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == sorted(
        {"best", f"step-{best}", "step-20"}
    )


def test_training_ends_early_when_measurements_get_no_better(runtime: Runtime, tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "run",
        train={"lr": 0.05, "schedule": "constant", "max_steps": 40},
        evaluation={"every_steps": 1, "patience": 3},
    )
    events = runtime.train(folder)
    assert events[-1]["detail"]["reason"] == "early"
    steps = events[-1]["detail"]["steps"]
    best = int(events[-1]["detail"]["best"].rpartition("-")[2])
    assert steps == best + 3 < 40


def test_the_best_may_be_chosen_by_what_the_model_says(runtime: Runtime, tmp_path: Path) -> None:
    """The loss may fall while replies get no better; what is served are replies."""
    folder = make_run(
        tmp_path / "run",
        evaluation={"metric": "exact_match", "every_steps": 10},
        train={"max_steps": 60, "lr": 0.01},
    )
    at = folder / "data" / "train"
    ids, offsets = np.load(at / "ids.npy"), np.load(at / "offsets.npy")
    # every answer is the same two words, so a small model learns to say them to any prompt
    for end in offsets[1:]:
        ids[end - 3 : end] = (40, 41, STOP)
    np.save(at / "ids.npy", ids)
    reference = runtime.call("decode", folder=str(folder), ids=[40, 41])
    samples = json.loads((folder / "data" / "samples.json").read_text())
    (folder / "data" / "samples.json").write_text(
        json.dumps([{**each, "reference": reference} for each in samples])
    )
    events = runtime.train(folder)
    measured = [each["values"] for each in events if each["kind"] == "eval"]
    assert measured[0]["exact_match"] == 0.0
    assert measured[-1]["exact_match"] == 1.0
    assert measured[-1]["token_f1"] == 1.0
    assert measured[-1]["n_replies"] == 4
    best = [each for each in events if each["kind"] == "best"][-1]
    assert best["detail"]["metric"] == "exact_match"
    shown = [each for each in events if each["kind"] == "sample" and each["step"] == 60]
    assert [each["text"] for each in shown] == [reference] * 2
    assert shown[0]["detail"]["reference"] == reference


def test_steps_tell_rate_norm_speed_and_memory(runtime: Runtime, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", train={"max_steps": 4, "lr": 0.001, "warmup_steps": 2})
    runtime.train(folder)
    steps = [each for each in read_events(folder) if each["kind"] == "step"]
    assert [each["values"]["lr"] for each in steps] == pytest.approx([0.0005, 0.001, 0.001, 0.0005])
    for each in steps:
        assert each["values"]["grad_norm"] > 0
        assert each["values"]["tokens_per_s"] > 0
        assert each["values"]["memory_mb"] > 10


def test_a_method_that_needs_a_gpu_says_so(runtime: Runtime, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", method="qlora")
    if runtime.call("has_gpu"):
        pytest.skip("this machine has a GPU")
    events = runtime.train(folder, expect=3)
    assert "CUDA GPU" in events[-1]["text"]
    assert 'method = "lora"' in events[-1]["text"]


def test_a_base_with_pickled_weights_is_refused(runtime: Runtime, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "base" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert "pickles" in runtime.train(folder, expect=3)[-1]["text"]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"method": "dpo", "preference": {"loss": "orpo"}}, "known: sigmoid"),
        ({"method": "dpo", "train": {"packing": True}}, "not packed"),
        ({"method": "full", "evaluation": {"metric": "reward_accuracy"}}, "needs preferences"),
        ({"method": "lora", "adapter": {"targets": ["c_attn"]}}, "no layers c_attn"),
        ({"method": "scratch"}, "[scratch]"),
        ({"method": "grpo"}, "no method 'grpo'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parts_that_do_not_go_together_are_refused(
    runtime: Runtime, tmp_path: Path, parts: dict[str, object], words: str
) -> None:
    folder = make_run(tmp_path / "run", **parts)  # type: ignore[arg-type]
    events = runtime.train(folder, expect=3)
    assert words in events[-1]["text"]
