"""The run contract: events as lines of `events.jsonl`, checkpoints that a kill leaves whole, `best`, and the finished `out`.

What `penstock tune` starts and reads. It knows nothing of Pocket but the names of a state's parts.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from train import State, Wish

STATE, OPTIMIZER, ORIGIN = "state.json", "optimizer.pt", "origin.json"
WEIGHTS = {"model": "model.safetensors", "average": "average.safetensors"}


class Events:
    """The run's log; a half line that a kill left is cut off when it is opened."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            data = path.read_bytes()
            path.write_bytes(data[: data.rfind(b"\n") + 1])
        self._file = path.open("a", encoding="utf-8")
        self.step = 0

    def write(self, kind: str, step: int, **fields: Any) -> None:
        """Append one event and flush it."""
        self.step = step
        line = {"kind": kind, "at_ns": time.time_ns(), "step": step, **{k: v for k, v in fields.items() if v}}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()


class RunKeeper:
    """`train.Keeper` over a run's folder. SIGTERM, SIGINT and the death of the parent ask for a checkpoint and an end."""

    def __init__(
        self,
        folder: Path,
        digest: str,
        events: Events,
        *,
        n_steps: int,
        every_steps: int,
        keep: int,
        max_s: float | None,
    ) -> None:
        self.folder, self.digest, self.events = folder / "checkpoints", digest, events
        self.ended_by: str | None = None
        self._every_steps, self._keep, self._max_s = max(1, every_steps), max(1, keep), max_s
        self._n_steps = n_steps
        self._begun = self._last_step = time.monotonic()
        self._n_tokens = 0
        self._best: tuple[float, int] | None = None
        self._is_better = False
        self._asked_to_stop = False
        self._parent = os.getppid()
        self.folder.mkdir(parents=True, exist_ok=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def load(self) -> State | None:
        for folder in self._steps():
            told = read_state(folder)
            if told is None:
                continue
            if told["digest"] != self.digest:
                raise ChangedRun(
                    "The checkpoint belongs to another frozen run; its recipe or data are not these."
                )
            self._best = None if told["best"] is None else (told["best"]["value"], told["best"]["step"])
            self._n_tokens = told["n_tokens"]
            self._tell_begun(told["step"])
            parts = {name: load_file(folder / file) for name, file in WEIGHTS.items()}
            return {
                **parts,
                "optimizer": torch.load(folder / OPTIMIZER, weights_only=True),
                "step": told["step"],
            }
        self._tell_begun(None)
        return None

    def save(self, state: State, step: int) -> None:
        final, partial = self.folder / f"step-{step}", self.folder / f"step-{step}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name, file in WEIGHTS.items():
            save_file({key: value.contiguous() for key, value in state[name].items()}, partial / file)
        torch.save(state["optimizer"], partial / OPTIMIZER)
        best = None if self._best is None else {"value": self._best[0], "step": self._best[1]}
        told = {"step": step, "digest": self.digest, "n_tokens": self._n_tokens, "best": best}
        files = {path.name: digest_file(path) for path in partial.iterdir()}
        (partial / STATE).write_text(json.dumps({**told, "files": files}), encoding="utf-8")
        for path in (*partial.iterdir(), partial):
            flush(path)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        flush(self.folder)
        size = sum(path.stat().st_size for path in final.iterdir())
        detail = {"path": f"checkpoints/{final.name}"}
        self.events.write("checkpoint", step, values={"size_bytes": size}, detail=detail)
        if self._is_better and self._best is not None:
            self._mark_best(step)
            detail["metric"] = "token_accuracy"
            self.events.write("best", step, values={"token_accuracy": self._best[0]}, detail=detail)
            self._is_better = False
        self._prune()

    def tell_step(self, step: int, values: dict[str, float]) -> None:
        if not math.isfinite(values["loss"]):
            raise LostRun(f"The loss of step {step} is {values['loss']}.")
        now = time.monotonic()
        self._n_tokens += int(values["n_tokens"])
        told = {
            "loss": values["loss"],
            "token_accuracy": values["copy"],
            "mark_accuracy": values["mark"] if math.isfinite(values["mark"]) else None,
            "lr": values["lr"],
            "grad_norm": values["grad_norm"],
            "tokens": self._n_tokens,
            "tokens_per_s": round(values["n_tokens"] / max(now - self._last_step, 1e-9), 1),
        }
        self._last_step = now
        self.events.write("step", step, values=told)

    def tell_validation(self, step: int, figures: dict[str, float]) -> None:
        value = round(sum(figures.values()) / len(figures), 4)
        self.events.write("eval", step, values={"token_accuracy": value, **figures})
        if self._best is None or value > self._best[0]:
            self._best, self._is_better = (value, step), True

    def wants(self, step: int) -> Wish | None:
        is_late = self._max_s is not None and time.monotonic() - self._begun > self._max_s
        is_left_alone = os.getppid() != self._parent
        if self._asked_to_stop or is_left_alone or is_late:
            self.ended_by = "budget" if is_late else "stopped"
            return "stop"
        return "save" if step % self._every_steps == 0 else None

    def find_best(self) -> Path | None:
        """Return the best checkpoint's folder, the newest where nothing was validated."""
        link = self.folder / "best"
        if link.is_dir():
            return link.resolve()
        return next((each for each in self._steps() if read_state(each) is not None), None)

    def _tell_begun(self, step: int | None) -> None:
        told = {"resumed_from": step, "device": "cpu", "n_steps": self._n_steps, "precision": "f32"}
        self.events.write("begun", step or 0, detail=told)

    def _mark_best(self, step: int) -> None:
        partial = self.folder / "best.partial"
        partial.unlink(missing_ok=True)
        partial.symlink_to(f"step-{step}")
        partial.rename(self.folder / "best")

    def _steps(self) -> list[Path]:
        found = [path for path in self.folder.iterdir() if re.fullmatch(r"step-\d+", path.name)]
        return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)

    def _prune(self) -> None:
        best = self.find_best()
        for path in self._steps()[self._keep :]:
            if path.resolve() != best:
                doomed = path.rename(path.with_suffix(".partial"))
                shutil.rmtree(doomed)

    def _ask(self, _number: int, _frame: object) -> None:
        self._asked_to_stop = True


class ChangedRun(Exception):
    """A checkpoint is of another run."""


class LostRun(Exception):
    """The loss is no number any more."""


def read_state(folder: Path) -> dict[str, Any] | None:
    """Return what a checkpoint says of itself, None if it is not whole."""
    try:
        told: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
        return (
            told if all(digest_file(folder / name) == seen for name, seen in told["files"].items()) else None
        )
    except (OSError, ValueError, KeyError):
        return None


def digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
