"""What a run survives: kills at any moment, full disks, losses that are no numbers, memory, budgets, and being stopped."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.trainer.run_folders import make_run, read_events
from tests.tuning.trainer.runtime import Runtime

KILLED = -signal.SIGKILL
LORA = {"method": "lora", "adapter": {"r": 4, "alpha": 8, "dropout": 0.3}}
"""With dropout, so that the random state must come back too."""
FULL = {
    "method": "full",
    "train": {"accumulate": 2, "weight_decay": 0.1, "epochs": 4.0, "schedule": "cosine"},
}


@pytest.fixture(scope="module")
def straight(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The final weights of runs that nothing disturbed, by kind."""
    found = {}
    for kind, parts in (("lora", LORA), ("full", FULL)):
        folder = make_run(tmp_path_factory.mktemp("straight") / kind, **parts)
        runtime.train(folder)
        found[kind] = read_final(folder)
    return found


def read_final(folder: Path) -> bytes:
    """The weights of the last step, not of the best."""
    steps = sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))
    newest = folder / "checkpoints" / f"step-{steps[-1]}"
    return next(path for path in newest.iterdir() if "model.safetensors" in path.name).read_bytes()


KILLS = [
    ("kill_in_step", {"step": 5}),
    ("kill_in_step", {"step": 0}),
    ("kill_in_write", {"nth": 1}),
    ("kill_in_write", {"nth": 3}),
    ("kill_in_write", {"nth": 4}),
    ("kill_at_rename", {"nth": 2, "after": False}),
    ("kill_at_rename", {"nth": 2, "after": True}),
    ("kill_in_prune", {"nth": 1}),
]


@pytest.mark.parametrize(
    ("kind", "fault", "options"),
    [("lora", *kill) for kill in KILLS] + [("full", *kill) for kill in KILLS[::3]],
    ids=lambda value: str(value).strip("{}"),
)
def test_a_killed_run_makes_the_same_weights_to_the_last_bit(
    runtime: Runtime, tmp_path: Path, straight: dict[str, bytes], kind: str, fault: str, options: Any
) -> None:
    """transformers#33336: after resuming, the loss went up. ACE-Step#742: the optimizer was not restored."""
    folder = make_run(tmp_path / "run", **(LORA if kind == "lora" else FULL))
    runtime.train(folder, expect=KILLED, fault=fault, **options)
    runtime.train(folder)
    assert read_final(folder) == straight[kind]
    begun = [each for each in read_events(folder) if each["kind"] == "begun"]
    assert len(begun) == 2
    assert not list((folder / "checkpoints").glob("*.partial"))


def test_a_run_killed_again_and_again_still_arrives(
    runtime: Runtime, tmp_path: Path, straight: dict[str, bytes]
) -> None:
    folder = make_run(tmp_path / "run", **LORA)
    for step in (2, 4, 5, 8, 11):
        runtime.train(folder, expect=KILLED, fault="kill_in_step", step=step)
    events = runtime.train(folder)
    assert read_final(folder) == straight["lora"]
    resumed = [each["detail"]["resumed_from"] for each in events if each["kind"] == "begun"]
    assert resumed == [None, None, 4, 4, 8, 9]
    told: dict[int, float] = {}
    for each in events:
        if each["kind"] == "begun":
            told = {at: loss for at, loss in told.items() if at <= (each["detail"]["resumed_from"] or 0)}
        if each["kind"] == "step":
            assert each["step"] not in told
            told[each["step"]] = each["values"]["loss"]
    assert sorted(told) == list(range(1, 13))


def test_a_stopped_run_keeps_its_step_and_goes_on_to_the_same_weights(
    runtime: Runtime, tmp_path: Path, straight: dict[str, bytes]
) -> None:
    folder = make_run(tmp_path / "run", **LORA)
    pid = runtime.begin(folder)
    while not any(each["kind"] == "step" for each in read_events(folder)):
        time.sleep(0.01)
    os.kill(pid, signal.SIGTERM)
    assert runtime.wait() == 0
    events = read_events(folder)
    assert events[-1]["detail"]["reason"] == "stopped"
    step = events[-1]["step"]
    assert 0 < step < 12
    assert (folder / "checkpoints" / f"step-{step}").is_dir()
    assert not (folder / "out").exists()
    runtime.train(folder)
    assert read_final(folder) == straight["lora"]


def test_a_best_checkpoint_that_a_kill_kept_from_being_told_is_told_later(
    runtime: Runtime, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "run", **LORA)
    runtime.train(folder, expect=KILLED, fault="kill_before_telling", kind="best")
    runtime.train(folder)
    told = [each for each in read_events(folder) if each["kind"] == "best"]
    link = (folder / "checkpoints" / "best").resolve().name
    assert told[-1]["detail"]["path"] == f"checkpoints/{link}"
    steps = [each["step"] for each in told]
    assert steps == sorted(set(steps)), "each once"


def test_the_measurement_before_training_is_made_after_a_stop_in_its_middle(
    runtime: Runtime, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "run", **LORA)
    runtime.train(folder, fault="stop_in_first_measure")
    assert not [each for each in read_events(folder) if each["kind"] == "eval"]
    runtime.train(folder)
    assert next(each for each in read_events(folder) if each["kind"] == "eval")["step"] == 0


def test_a_run_whose_parent_is_gone_stops_with_a_checkpoint(runtime: Runtime, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", **LORA)
    runtime.begin(folder, arguments=("--parent", "1"))
    assert runtime.wait() == 0
    assert read_events(folder)[-1]["detail"]["reason"] == "stopped"


def test_a_finished_run_that_is_started_again_says_so_and_changes_nothing(
    runtime: Runtime, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "run", **LORA)
    first = runtime.train(folder)
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    second = runtime.train(folder)
    assert len(second) == len(first) + 1
    assert second[-1]["detail"] == first[-1]["detail"]
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == before


def test_a_run_killed_after_its_last_step_only_writes_what_is_missing(
    runtime: Runtime, tmp_path: Path, straight: dict[str, bytes]
) -> None:
    folder = make_run(tmp_path / "run", **LORA)
    runtime.train(folder)
    (folder / "out").rename(folder / "out.partial")
    events = runtime.train(folder)
    begun = [each for each in events if each["kind"] == "begun"][-1]
    assert begun["detail"]["resumed_from"] == 12
    assert events[-1]["detail"]["reason"] == "done"
    assert read_final(folder) == straight["lora"]
    assert (folder / "out" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run_with_the_last_good_checkpoint(
    runtime: Runtime, tmp_path: Path, value: float
) -> None:
    folder = make_run(tmp_path / "run", method="full")
    events = runtime.train(folder, expect=3, fault="spoil_loss", step=7, value=str(value))
    assert events[-1]["kind"] == "fault"
    assert events[-1]["detail"]["fault"] == "nan_loss"
    assert "step 8" in events[-1]["text"]
    assert (folder / "checkpoints" / "step-6" / "state.json").is_file()
    assert "NaN" not in (folder / "events.jsonl").read_text()


def test_a_full_disk_ends_the_run_with_the_checkpoint_before_whole(runtime: Runtime, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", method="full")
    runtime.train(folder, expect=KILLED, fault="kill_in_step", step=4)
    assert (folder / "checkpoints" / "step-4").is_dir()
    size = (folder / "checkpoints" / "step-4" / "optimizer.safetensors").stat().st_size
    events = runtime.train(folder, expect=3, fault="no_larger_files", size_bytes=size // 2)
    assert events[-1]["detail"]["fault"] == "disk_full"
    assert "keep_checkpoints" in events[-1]["text"]
    assert not list((folder / "checkpoints").glob("*.partial"))
    assert runtime.train(folder)[-1]["detail"]["reason"] == "done"


def test_memory_that_is_refused_is_told_as_such(runtime: Runtime, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", method="full")
    events = runtime.train(folder, expect=3, fault="refuse_memory", step=5)
    assert events[-1]["detail"]["fault"] == "out_of_memory"
    assert "batch_size" in events[-1]["text"]


def test_a_run_over_its_memory_keeps_a_checkpoint_of_that_step(runtime: Runtime, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", method="full", budget={"max_memory_gb": 0.01})
    events = runtime.train(folder, expect=3)
    assert events[-1]["detail"]["fault"] == "out_of_memory"
    assert (folder / "checkpoints" / "step-1").is_dir()


def test_time_that_is_used_up_ends_the_run_with_what_it_has(runtime: Runtime, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", method="full", budget={"max_minutes": 0.0})
    events = runtime.train(folder, expect=3)
    assert [each["kind"] for each in events[-2:]] == ["fault", "ended"]
    assert events[-2]["detail"]["fault"] == events[-1]["detail"]["reason"] == "budget"
    assert (folder / "out" / "model.safetensors").is_file()


def test_checkpoints_over_the_disk_budget_end_the_run(runtime: Runtime, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", method="full", budget={"max_disk_gb": 0.0001})
    events = runtime.train(folder, expect=3)
    assert events[-1]["detail"]["fault"] == "disk_full", "as whoever watches the folder calls it"


def test_a_checkpoint_that_was_altered_is_not_gone_on_from(
    runtime: Runtime, tmp_path: Path, straight: dict[str, bytes]
) -> None:
    folder = make_run(tmp_path / "run", **LORA)
    runtime.train(folder, expect=KILLED, fault="kill_in_step", step=7)
    newest = folder / "checkpoints" / "step-6" / "adapter_model.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    events = runtime.train(folder)
    assert [each for each in events if each["kind"] == "begun"][-1]["detail"]["resumed_from"] == 4
    assert read_final(folder) == straight["lora"]


@pytest.mark.parametrize("changed", ["digest", "data", "base"])
def test_resuming_with_other_data_or_another_specification_is_refused(
    runtime: Runtime, tmp_path: Path, changed: str
) -> None:
    """LlamaFactory#7085: training went on as if nothing were, with data that had changed."""
    folder = make_run(tmp_path / "run", **LORA)
    runtime.train(folder, expect=KILLED, fault="kill_in_step", step=7)
    if changed == "digest":
        run = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(run | {"digest": "sha256:" + "e" * 64}))
    else:
        path = folder / {"data": "data/train/mask.npy", "base": "base/model.safetensors"}[changed]
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    events = runtime.train(folder, expect=3)
    assert events[-1]["detail"]["fault"] == "data_changed"


def test_two_trainers_do_not_work_on_one_run(runtime: Runtime, tmp_path: Path) -> None:
    import fcntl

    folder = make_run(tmp_path / "run", **LORA)
    with (folder / ".trainer.lock").open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert runtime.call("try_lock", folder=str(folder)) == "Another trainer works on this run."
    assert runtime.call("try_lock", folder=str(folder)) == "held"
