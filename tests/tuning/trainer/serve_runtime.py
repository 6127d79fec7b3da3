"""Runs in the training runtime: loads the libraries once, then forks a process for each thing that a test asks for.

Loading torch and transformers takes longer than a tiny training; a fork has them at once, and may be killed freely.
Lines of JSON come in and go out: {"do": "train", "run": PATH, "break": NAME | null, …} or {"do": "call", "name": …}.
"""

import importlib
import importlib.util
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve until the input ends."""
    entry, inside = Path(sys.argv[1]), Path(sys.argv[2])
    front = load("trainer_front", entry)
    os.environ.update(front.ENVIRONMENT)
    front.load_package()
    for name in ("entry", "loop", "outputs", "setup"):
        importlib.import_module(f"penstock_trainer.{name}")
    from transformers.models.llama import modeling_llama  # noqa: F401

    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(work(front, inside, asked))
        sys.stdout.write(json.dumps({"pid": pid}) + "\n")
        sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(json.dumps({"code": os.waitstatus_to_exitcode(status)}) + "\n")
        sys.stdout.flush()


def load(name: str, path: Path) -> Any:
    """Import a file under a name."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def work(front: Any, inside: Path, asked: dict[str, Any]) -> int:
    """Do one thing in a process of its own and return its exit code."""
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        if asked["do"] == "call":
            module = load("inside", inside)
            found = getattr(module, asked["name"])(**asked["arguments"])
            Path(asked["answer"]).write_text(json.dumps(found))
            return 0
        if asked.get("break"):
            BREAKS[asked["break"]](**asked.get("with", {}))
        return int(front.main([asked["run"], *asked.get("arguments", ())]))
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_step(*, step: int) -> None:
    """Die in the middle of a step: gradients are there, the weights have not moved."""
    from penstock_trainer import loop

    real = loop.rate_at

    def rate_at(at: int, **options: Any) -> float:
        if at == step:
            kill_self()
        return real(at, **options)

    loop.rate_at = rate_at


def kill_in_write(*, nth: int) -> None:
    """Die when half of the n-th file of weights is on the disk."""
    from penstock_trainer import networks, snapshots

    real, seen = networks.write_tensors, [0]

    def write_tensors(path: Path, tensors: Any) -> None:
        real(path, tensors)
        seen[0] += 1
        if seen[0] == nth:
            os.truncate(path, path.stat().st_size // 2)
            kill_self()

    networks.write_tensors = snapshots.write_tensors = write_tensors


def kill_at_rename(*, nth: int, after: bool) -> None:
    """Die right before or right after the n-th checkpoint gets its name."""
    real, seen = Path.rename, [0]

    def rename(self: Path, target: Any) -> Path:
        is_checkpoint = self.name.startswith("step-") and not str(target).endswith(".partial")
        seen[0] += is_checkpoint
        if is_checkpoint and seen[0] == nth and not after:
            kill_self()
        moved = real(self, target)
        if is_checkpoint and seen[0] == nth:
            kill_self()
        return moved

    Path.rename = rename


def kill_in_prune(*, nth: int) -> None:
    """Die while an old checkpoint is being deleted."""
    from penstock_trainer import checkpoints

    real, seen = checkpoints._remove, [0]

    def remove(path: Path) -> None:
        if path.name.endswith(".partial") and path.is_dir() and (path / checkpoints.STATE).exists():
            seen[0] += 1
            if seen[0] == nth:
                (path / checkpoints.STATE).unlink()
                kill_self()
        real(path)

    checkpoints._remove = remove


def no_larger_files(*, size_bytes: int) -> None:
    """Let no file grow over a size, as a full disk would: the system itself refuses the write."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


def spoil_loss(*, step: int, value: str) -> None:
    """Make the loss of a step no number."""
    from penstock_trainer import loop

    real = loop.Loop._take_step

    def take_step(self: Any) -> None:
        if self._progress.step == step:
            weight = next(iter(self._setup.network.trained().values()))
            weight.data.view(-1)[:] = float(value)
        real(self)

    loop.Loop._take_step = take_step


def refuse_memory(*, step: int) -> None:
    """Let an allocation fail as torch tells it."""
    from penstock_trainer import loop

    real = loop.Loop._take_step

    def take_step(self: Any) -> None:
        if self._progress.step == step:
            import torch

            torch.empty(1 << 60)
        real(self)

    loop.Loop._take_step = take_step


def kill_before_telling(*, kind: str) -> None:
    """Die when an event of this kind is about to be told."""
    from penstock_trainer import events

    real = events.EventLog.write

    def write(self: Any, told: str, **parts: Any) -> None:
        if told == kind:
            kill_self()
        real(self, told, **parts)

    events.EventLog.write = write


def stop_in_first_measure() -> None:
    """Be asked to stop while held-out rows are measured for the first time."""
    from penstock_trainer import faults, measuring

    def measure(_self: Any) -> Any:
        raise faults.StopWanted

    measuring.Judge.measure = measure


BREAKS = {
    each.__name__: each
    for each in (
        kill_in_step,
        kill_in_write,
        kill_at_rename,
        kill_in_prune,
        no_larger_files,
        spoil_loss,
        refuse_memory,
        kill_before_telling,
        stop_in_first_measure,
    )
}

if __name__ == "__main__":
    main()
