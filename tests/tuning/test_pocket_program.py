"""Pocket's recipe as the program of a `scratch` run: it keeps the run contract, and a kill changes nothing."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.spec.tuning import FrozenRun, RunEvent
from penstock.tuning.convert.architectures import read_shape
from penstock.tuning.recipes.reading import read_recipe_text
from penstock.tuning.runtimes import find_runtime

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "recipes" / "pocket"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def lay_run(folder: Path, *, digest: str = "sha256:one", **train: Any) -> Path:
    """Write the `run.json` of three steps with a checkpoint after each."""
    folder.mkdir()
    recipe = {
        "name": "pocket-again",
        "method": "scratch",
        "data": {"train": "dataset:handbook-tuning"},
        "output": {"name": "pocket-again"},
        "train": {"max_steps": 3, "checkpoint_every_steps": 1, "threads": 1, **train},
        "scratch": {"program": str(PROGRAM)},
    }
    run = {
        "id": "run_1",
        "recipe": recipe,
        "base": None,
        "data": [],
        "renderer_digest": None,
        "digest": digest,
    }
    msgspec.convert(run, FrozenRun)
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def begin(folder: Path) -> "subprocess.Popen[bytes]":
    command = [find_runtime().python, "-I", PROGRAM / "__main__.py", folder / "run.json"]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def events_of(folder: Path) -> list[RunEvent]:
    path = folder / "events.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [msgspec.json.decode(line, type=RunEvent) for line in lines]


def test_a_killed_run_of_pocket_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path) -> None:
    straight, broken = lay_run(tmp_path / "straight"), lay_run(tmp_path / "broken")
    assert begin(straight).wait() == 0, (straight / "log").read_text()
    killed = begin(broken)
    while not any(event.kind == "checkpoint" for event in events_of(broken)):
        assert killed.poll() is None, (broken / "log").read_text()
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert begin(broken).wait() == 0, (broken / "log").read_text()

    begun = [event.detail["resumed_from"] for event in events_of(broken) if event.kind == "begun"]
    assert begun[0] is None
    assert begun[1] in (1, 2)
    assert events_of(broken)[-1].detail == {"reason": "done", "best": "checkpoints/step-3", "steps": 3}
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (broken / "out" / name).read_bytes() == (straight / "out" / name).read_bytes()
    assert read_shape(straight / "out").vocab_size == 4096
    assert (straight / "checkpoints" / "best").resolve().name == "step-3"
    kept = sorted(path.name for path in (straight / "checkpoints").iterdir())
    assert kept == ["best", "step-2", "step-3"]

    # asked to stop, it leaves a checkpoint; another specification is not gone on with
    (broken / "run.json").write_text((broken / "run.json").read_text().replace("sha256:one", "sha256:two"))
    assert begin(broken).wait() == 3
    assert events_of(broken)[-1].detail["fault"] == "data_changed"


def test_the_recipe_that_ships_for_it_is_one() -> None:
    recipe = read_recipe_text((ROOT / "examples" / "tuning" / "pocket-scratch.toml").read_text())
    assert recipe.scratch is not None
    assert recipe.method == "scratch"


def test_a_fault_that_no_disk_has_room_for_is_told_where_there_is_room() -> None:
    program = f"""
import errno, runpy, sys
class Full:
    step = 7
    def write(self, kind, step, **fields):
        raise OSError(errno.ENOSPC, "No space left on device")
sys.exit(runpy.run_path({str(PROGRAM / "__main__.py")!r})["fail"](Full(), "disk_full", "There is no room"))
"""
    done = subprocess.run([find_runtime().python, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip().splitlines()[-1:]) == (3, ["disk_full: There is no room"])
