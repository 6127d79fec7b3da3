"""The trainer's command: `run.json`, or `--check`. Signals, the lock, and faults as events; nothing of training itself."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from .events import EventLog
from .faults import EXIT_FAULT, StopWanted, TrainingFault, tell_disk_fault, tell_memory_fault
from .machine import lock_run
from .probe import describe_runtime
from .run_spec import RunSpec, read_run


class Interrupt:
    """Raises `StopWanted` once the run is to stop: SIGTERM or SIGINT came, or the parent that was named is gone."""

    def __init__(self, parent: int | None) -> None:
        self._parent = parent
        self._is_wanted = False

    def listen(self) -> None:
        """Take the signals. They only set a flag: a signal must not cut a checkpoint in two."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def __call__(self) -> None:
        if self._is_wanted or (self._parent is not None and os.getppid() != self._parent):
            raise StopWanted

    def _ask(self, _number: int, _frame: Any) -> None:
        self._is_wanted = True


def main(arguments: list[str]) -> int:
    """Run and return the exit code: 0 finished or stopped, 3 a fault that the events tell, anything else a crash."""
    parser = argparse.ArgumentParser(prog="trainer", description="Trains one frozen run of Penstock.")
    parser.add_argument("run", nargs="?", type=Path, help="run.json in the run's folder")
    parser.add_argument("--check", action="store_true", help="say what this runtime is, as JSON")
    parser.add_argument(
        "--parent", type=int, help="stop when the process with this id is no longer the parent"
    )
    asked = parser.parse_args(arguments)
    if asked.check:
        print(json.dumps(describe_runtime()))  # noqa: T201 - what the caller reads
        return 0
    if asked.run is None:
        parser.error("name run.json, or --check")
    interrupt = Interrupt(asked.parent)
    interrupt.listen()
    return train(asked.run, interrupt)


def train(path: Path, interrupt: Interrupt) -> int:
    """Train the run of `run.json`; its faults stand in `events.jsonl`, and a crash too, before it goes on."""
    folder = path.resolve().parent
    try:
        lock = lock_run(folder)
    except TrainingFault as fault:
        print(fault.text, file=sys.stderr)  # noqa: T201 - the run's events belong to the other one
        return EXIT_FAULT
    events = EventLog(folder / "events.jsonl")
    try:
        return _train(read_run(path), events, interrupt)
    except TrainingFault as fault:
        return _tell(events, fault)
    except Exception as error:  # the process's edge: what it was must be told where the run is looked at
        known = tell_memory_fault(error) or tell_disk_fault(error)
        if known is not None:
            return _tell(events, known)
        events.write("fault", text=f"{type(error).__name__}: {error}", detail={"fault": "bug"})
        raise
    finally:
        events.close()
        lock.close()


def _train(run: RunSpec, events: EventLog, interrupt: Interrupt) -> int:
    if run.scratch is not None and run.scratch.program is not None:
        return _hand_over(run, events)
    # torch and what is built on it are loaded only for a run that can begin
    from .loop import Loop
    from .outputs import read_origin, write_output
    from .setup import prepare

    origin = read_origin(run)
    if origin is not None:
        events.write(
            "ended", step=origin["steps"], detail={key: origin[key] for key in ("reason", "best", "steps")}
        )
        return 0
    try:
        interrupt()
        setup = prepare(run, events, interrupt=interrupt)
    except StopWanted:
        events.write("ended", detail={"reason": "stopped", "best": None, "steps": 0})
        return 0
    events.write(
        "begun",
        step=setup.progress.step,
        detail={
            "resumed_from": setup.resumed_from,
            "device": str(setup.network.device),
            "n_steps": setup.n_steps,
            "n_rows": setup.objective.n_items,
            "precision": "bf16" if setup.network.is_bf16 else "f32",
            "lr": run.lr,
        },
    )
    ending = Loop(setup, events, interrupt=interrupt).run_to_end()
    best = setup.checkpoints.find_best()
    newest = setup.checkpoints.find_newest()
    told = {"reason": ending.reason, "steps": setup.progress.step}
    if ending.reason == "stopped" or newest is None:
        path = None if best is None else f"checkpoints/{best.name}"
        events.write("ended", step=setup.progress.step, detail={**told, "best": path})
        return 0
    if best is None:  # nothing was held out: the last one is taken
        best = newest[0]
        setup.checkpoints.mark_best(setup.progress.step)
    told["best"] = f"checkpoints/{best.name}"
    write_output(run, setup.network, best, detail=told)
    if ending.reason == "budget":
        text = f"budget.max_minutes is used up after {setup.progress.step} of {setup.n_steps} steps."
        events.write("fault", step=setup.progress.step, text=text, detail={"fault": "budget"})
    events.write("ended", step=setup.progress.step, detail=told)
    return EXIT_FAULT if ending.reason == "budget" else 0


def _hand_over(run: RunSpec, events: EventLog) -> int:
    """Become the recipe's own program, which keeps this trainer's contract. Does not return."""
    assert run.scratch is not None
    assert run.scratch.program is not None
    program = run.locate(run.scratch.program) / "__main__.py"
    if not program.is_file():
        raise TrainingFault("trainer", f"The program {run.scratch.program} has no __main__.py.")
    events.close()
    arguments = [sys.executable, "-I", str(program), str(run.folder / "run.json")]
    os.execv(sys.executable, arguments)  # noqa: S606 - no shell: it becomes that program, its signals and exit code with it


def _tell(events: EventLog, fault: TrainingFault) -> int:
    text = f"{fault.text} {fault.hint}".strip()
    events.write("fault", text=text, detail={"fault": fault.fault, **fault.detail})
    return EXIT_FAULT
