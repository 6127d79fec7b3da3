"""Runs over the real trainer: who drives it and the trainer, killed at a random moment, end with the weights of one go."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine

from penstock.tuning.runs.events import iter_events
from penstock.tuning.runs.folder import RunFolder
from tests.tuning.runs.workshop import Context, open_workshop

ROOT = Path(__file__).parents[3]
TRAIN = {
    "max_steps": 24,
    "checkpoint_every_steps": 4,
    "batch_size": 2,
    "threads": 1,
    "warmup_steps": 2,
    "lr": 1e-3,
}
DRIVER = """
import sys
from pathlib import Path
from penstock.store.control.engine import open_control
from penstock.tuning.runs.folder import RunFolder
from tests.tuning.runs.workshop import Context, open_workshop
root, url, base, python, run_id = sys.argv[1:]
workshop = open_workshop(Path(root), open_control(url), Path(base), python=Path(python))
workshop.finish(workshop.store.get(run_id), Context())
"""


def wait_for_step(folder: RunFolder, step: int, driver: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end and driver.poll() is None:
        if any(event.kind == "step" and event.step >= step for event in iter_events(folder.events)):
            return
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.timeout(600)  # three imports of torch, which a busy machine takes a minute for
def test_whatever_is_killed_and_whenever_the_weights_are_those_of_one_go(
    tmp_path: Path, sqlite_engine: Engine, tiny_base: Path, tune_python: Path
) -> None:
    """transformers#33336: the loss went up after a resume. Here not a bit differs."""
    workshop = open_workshop(tmp_path / "tuning", sqlite_engine, tiny_base, python=tune_python)
    parts = {"train": TRAIN, "evaluation": {"every_steps": 8, "n_samples": 0}}
    workshop.finish(workshop.begin(**parts))
    straight = workshop.models.registered.pop()["weights"]

    record = workshop.begin(**parts)
    folder = workshop.folder(record)
    arguments = [str(workshop.root), f"sqlite:///{tmp_path / 'control.db'}", str(tiny_base), str(tune_python)]
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, *arguments, record.id], cwd=ROOT)
    try:
        wait_for_step(folder, random.randrange(1, 22), driver)
    finally:
        driver.kill()
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(int(folder.lock.read_text().split()[0]), signal.SIGKILL)
        driver.wait()
    done = workshop.finish(record, Context())
    assert done.state == "done"
    assert done.attempts == 2
    assert workshop.models.registered[-1]["weights"] == straight
