"""Drives one run from its record to a registered model: prepare, train, package, each repeatable after a kill.

The record says where a run stands; the run's folder holds what it has. Whoever takes over (the next attempt of a job,
a command) holds the folder's lock first, so two never work on one run.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import PenstockError
from penstock.base.files import write_atomic
from penstock.jobs.errors import JobCancelled, JobInterrupt
from penstock.spec.tuning import BudgetPart, FrozenRun, Recipe, RunFault, RunRecord, Runtime
from penstock.tuning.errors import ParityFailed
from penstock.tuning.preflight.types import Preflight
from penstock.tuning.runs.driving import POLL_S, TrainerCommand, TrainerDrive, TrainerEnd
from penstock.tuning.runs.errors import RunChanged, RunRefused, TrainerFailed, UnknownRun
from penstock.tuning.runs.events import iter_events
from penstock.tuning.runs.folder import RunFolder
from penstock.tuning.runs.packaging import register_run
from penstock.tuning.runs.pinning import PinnedRecipe, label_of
from penstock.tuning.runs.ports import Models, RunContext, StartFolder
from penstock.tuning.runs.preparing import (
    Judge,
    Preparation,
    PreparedRun,
    check_unchanged,
    read_frozen,
)
from penstock.tuning.runs.programs import check_program
from penstock.tuning.runs.progress import RunProgress
from penstock.tuning.runs.queries import RunStore
from penstock.tuning.runs.types import RunPlan

MAX_CRASHES = 3
"""How often in a row a trainer may die without a step forward before the run has failed."""
RETRY_S = (1.0, 5.0)
FINISHED = frozenset({"done", "early", "budget"})
ENDINGS = {
    "early": "no better value for as long as the recipe is patient",
    "budget": "its minutes are used up",
}
PREPARED, TRAINED = 0.1, 0.9
"""Shares of the way at which preparing and training are over."""
HINTS: dict[RunFault, str] = {
    "nan_loss": "The last good checkpoint is kept. Lower train.lr, or look at the rows that the log names.",
    "out_of_memory": "Lower train.batch_size and raise train.accumulate in another run, or raise a bound of its own: "
    "`penstock tune resume RUN --max-memory-gb …`.",
    "disk_full": "Free some space, or raise a bound of its own (--max-disk-gb), then `penstock tune resume`; the last whole checkpoint is kept.",
    "budget": "Raise the bound: `penstock tune resume RUN --max-minutes …`, or --max-disk-gb.",
    "killed": "`penstock tune resume` goes on from the last checkpoint.",
    "trainer": "`penstock tune logs` shows what the trainer said last.",
}


@dataclass(frozen=True, kw_only=True)
class ExecutionParts:
    """What driving a run needs of others."""

    store: RunStore
    root: Path
    """`HOME/tuning`"""
    preparation: Preparation
    models: Models
    find_runtime: Callable[[], Runtime]
    make_command: Callable[[Runtime, FrozenRun, RunFolder], list[str]]
    """How the trainer is started: interpreter and arguments."""
    trainer_env: Callable[[], Mapping[str, str]]
    judge: Judge | None = None
    outline: Callable[[PinnedRecipe, StartFolder | None, Preflight], RunPlan] | None = None
    """Says what a prepared run will take, for its record."""
    retry_s: tuple[float, ...] = RETRY_S
    poll_s: float = POLL_S
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True, kw_only=True)
class _Training:
    """What every start of one run's trainer shares."""

    frozen: FrozenRun
    runtime: Runtime
    folder: RunFolder
    context: RunContext
    lock: int


class RunExecution:
    """Drives runs. Use from one thread per run."""

    def __init__(self, parts: ExecutionParts) -> None:
        self._parts = parts
        self._store = parts.store

    def execute(self, run_id: str, context: RunContext) -> RunRecord:
        """Bring the run to its end and return its record, which says how it ended.

        Raises what made it fail, after the record says so; and what `context` raises when the run is to stop: the
        trainer has written its checkpoint by then.
        """
        record = self._store.get_by_id(run_id)
        if record.state == "done":
            return record
        folder = RunFolder(self._parts.root, record.id)
        with folder.hold(record.id, sleep=self._parts.sleep, monotonic=self._parts.monotonic) as lock:
            record = self._store.get_by_id(run_id)
            if record.state == "done":  # by whoever held the folder until now
                return record
            try:
                return self._execute(record, folder, context, lock)
            except (JobCancelled, KeyboardInterrupt):
                self._end(record.id, "stopped")
                raise
            except JobInterrupt:  # control stops or another worker has the job: it goes on there
                self._store.change(record.id, _queued_again)
                raise
            except PenstockError as error:
                self._fail(record.id, error)
                raise
            except Exception as error:
                told = TrainerFailed(f"{type(error).__name__}: {error}", fault="bug")
                self._fail(record.id, told)
                raise

    def find(self, run_id: str) -> RunRecord | None:
        """Return the run as its record says now; None when it was deleted."""
        try:
            return self._store.get_by_id(run_id)
        except UnknownRun:
            return None

    def _execute(self, record: RunRecord, folder: RunFolder, context: RunContext, lock: int) -> RunRecord:
        now_ns = self._store.now_ns()
        record = self._store.update(
            record.id,
            state="preparing",
            started_ns=record.started_ns or now_ns,
            finished_ns=None,
            fault=None,
            error=None,
        )
        frozen = self._prepare(record, folder, context)
        runtime = self._parts.find_runtime()
        keep_runtime(folder, runtime, context)
        ended = read_ending(folder)
        if ended is None:
            ended = self._train(
                record.id,
                _Training(frozen=frozen, runtime=runtime, folder=folder, context=context, lock=lock),
            )
        context.check_cancelled()
        record = self._store.update(record.id, state="packaging")
        context.log("training is over; proving and registering the model")

        def tell(share: float, text: str) -> None:
            context.progress(TRAINED + share * (1 - TRAINED), text)

        result = register_run(self._parts.models, record, frozen, runtime, folder, progress=tell)
        context.log(f"registered {result['model']}")
        record = self._end(record.id, "done", result={**result, "ended": ended})
        _drop_weights(folder)
        return record

    def _prepare(self, record: RunRecord, folder: RunFolder, context: RunContext) -> FrozenRun:
        """Return the frozen run: the one that was begun, if its rows are still the same, else a fresh one."""
        recipe = msgspec.convert(record.recipe, Recipe)
        frozen = read_frozen(folder)
        if frozen is not None and record.frozen_digest == frozen.digest:
            check_program(frozen)
        if frozen is not None and record.frozen_digest == frozen.digest and folder.data.is_dir():
            check_unchanged(frozen, folder)
            frozen = keep_budget(frozen, recipe.budget, folder)
            self._parts.preparation.open_base(self._parts.preparation.pin(frozen.recipe), folder)
            context.log(f"going on with the rows and the base of {frozen.digest[:19]}")
            return frozen

        try:
            prepared = self._parts.preparation.freeze(
                record.id,
                recipe,
                folder,
                _Scaled(context, 0.0, PREPARED),
                judge=self._parts.judge,
            )
        except RunRefused as error:
            self._store.update(record.id, preflight={"findings": error.fields.get("findings", [])})
            raise
        self._note_prepared(record, prepared, folder)
        for finding in prepared.preflight.findings:
            context.log(f"preflight: {finding.code}: {finding.message}")
        return prepared.frozen

    def _note_prepared(self, record: RunRecord, prepared: PreparedRun, folder: RunFolder) -> None:
        frozen = prepared.frozen
        if record.frozen_digest is not None and folder.checkpoints.is_dir():
            check_same(record.frozen_digest, frozen)
        outline = self._parts.outline
        plan = None if outline is None else outline(prepared.pinned, prepared.base, prepared.preflight)
        self._store.update(
            record.id,
            plan=record.plan if plan is None else msgspec.to_builtins(plan),
            frozen_digest=frozen.digest,
            base=None if frozen.base is None else label_of(frozen.base),
            n_steps=frozen.n_steps or None,
            preflight=msgspec.to_builtins(prepared.preflight),
        )

    def _train(self, run_id: str, training: _Training) -> str:
        """Start the trainer until it is through, again after a death as long as it gets further; say how it ended."""
        folder, context = training.folder, training.context
        progress = RunProgress(
            self._store,
            run_id,
            training.frozen,
            context,
            share=(PREPARED, TRAINED),
            monotonic=self._parts.monotonic,
        )
        progress.catch_up(iter_events(folder.events))
        n_crashes, crashed_at = 0, -1
        while True:
            self._store.change(run_id, _started_again)
            context.log(f"starting the trainer: {training.runtime.python} on {training.runtime.device}")
            end = self._drive(training, progress)
            progress.write()
            if end.reason in FINISHED:
                if end.reason != "done":
                    context.log(f"training ended at step {progress.step}: {ENDINGS[end.reason]}")
                return end.reason
            if end.reason == "stopped":  # somebody sent the trainer a signal
                end = TrainerEnd(reason="crash", fault="killed", text="it was asked to stop from outside")
            n_crashes = n_crashes + 1 if progress.step <= crashed_at else 1
            crashed_at = max(crashed_at, progress.step)
            is_tried_again = end.reason == "crash" and end.fault not in {"out_of_memory", "disk_full"}
            if not is_tried_again or n_crashes >= MAX_CRASHES:
                raise _failed(end, progress.step)
            delay_s = self._parts.retry_s[min(n_crashes, len(self._parts.retry_s)) - 1]
            context.log(f"the trainer died: {end.text}; trying again from the last checkpoint")
            self._parts.sleep(delay_s)

    def _drive(self, training: _Training, progress: RunProgress) -> TrainerEnd:
        frozen, folder = training.frozen, training.folder
        budget = frozen.recipe.budget
        command = TrainerCommand(
            argv=self._parts.make_command(training.runtime, frozen, folder),
            env=self._parts.trainer_env(),
            max_memory_bytes=_bytes(budget.max_memory_gb),
            max_disk_bytes=_bytes(budget.max_disk_gb),
        )

        drive = TrainerDrive(
            folder,
            command,
            on_event=progress.take,
            check=training.context.check_cancelled,
            poll_s=self._parts.poll_s,
            sleep=self._parts.sleep,
            monotonic=self._parts.monotonic,
        )
        return drive.run(training.lock)

    def _fail(self, run_id: str, error: PenstockError) -> None:
        self._end(run_id, "failed", fault=_fault_of(error), error=error.as_dict())

    def _end(self, run_id: str, state: str, **fields: Any) -> RunRecord:
        return self._store.update(run_id, state=state, finished_ns=self._store.now_ns(), **fields)


class _Scaled:
    """A context that tells shares of a part of the way."""

    def __init__(self, context: RunContext, start: float, end: float) -> None:
        self._context = context
        self._start, self._end = start, end

    def progress(self, fraction: float | None, message: str | None = None) -> None:
        share = None if fraction is None else self._start + fraction * (self._end - self._start)
        self._context.progress(share, message)

    def log(self, text: str) -> None:
        self._context.log(text)

    def check_cancelled(self) -> None:
        self._context.check_cancelled()

    def step(self, name: str, inputs: dict[str, Any], fn: Callable[[], Any]) -> Any:
        return self._context.step(name, inputs, fn)


def read_ending(folder: RunFolder) -> str | None:
    """Return how the trainer ended when it is through, so that only packaging is left; None while it is not."""
    ended: str | None = None
    for event in iter_events(folder.events):
        if event.kind == "begun":
            ended = None
        elif event.kind == "ended":
            ended = str(event.detail.get("reason") or "done")
    has_model = folder.out.is_dir() and any(folder.out.glob("*.safetensors"))
    return ended if ended in FINISHED and has_model else None


def check_same(digest: str, frozen: FrozenRun) -> None:
    """Raise `RunChanged` when what was prepared anew is not what the checkpoints were made from."""
    if digest != frozen.digest:
        raise RunChanged(
            f"Run {frozen.id} would train on something else than it was begun with.",
            hint="Start a new run; its checkpoints stay where they are.",
            expected=digest,
            seen=frozen.digest,
        )


def keep_budget(frozen: FrozenRun, budget: BudgetPart, folder: RunFolder) -> FrozenRun:
    """Return the run within the bounds that its record says now, and write it so: they may have been raised meanwhile."""
    if frozen.recipe.budget == budget:
        return frozen
    changed = msgspec.structs.replace(frozen, recipe=msgspec.structs.replace(frozen.recipe, budget=budget))
    write_atomic(folder.spec, msgspec.json.format(msgspec.json.encode(changed), indent=2))
    return changed


def keep_runtime(folder: RunFolder, runtime: Runtime, context: RunContext) -> None:
    """Write down what trains this run; say so when that is another environment than its checkpoints were made in."""
    path = folder.path / "runtime.json"
    if path.is_file() and folder.checkpoints.is_dir():
        before = msgspec.json.decode(path.read_bytes(), type=Runtime)
        if (before.digest, before.device) != (runtime.digest, runtime.device):
            context.log(
                "the training environment has changed: the weights will not be bit for bit those of one go"
            )
    path.write_bytes(msgspec.json.format(msgspec.json.encode(runtime), indent=2))


def _drop_weights(folder: RunFolder) -> None:
    """Remove what the registry holds now; checkpoints stay, as many as the recipe keeps."""
    for place in (folder.out, folder.data):
        shutil.rmtree(place, ignore_errors=True)


def _queued_again(record: RunRecord) -> RunRecord:
    return msgspec.structs.replace(record, state="queued")


def _started_again(record: RunRecord) -> RunRecord:
    return msgspec.structs.replace(record, state="running", attempts=record.attempts + 1)


def _failed(end: TrainerEnd, step: int) -> TrainerFailed:
    fault: RunFault = end.fault or "trainer"
    return TrainerFailed(
        f"Training failed at step {step}: {end.text}.".replace("..", "."),
        fault=fault,
        hint=HINTS.get(fault),
        step=step,
        best=end.best,
    )


def _fault_of(error: PenstockError) -> RunFault:
    if isinstance(error, TrainerFailed):
        return error.fault  # type: ignore[return-value]  # made with one of them
    if isinstance(error, RunRefused):
        return "preflight"
    if isinstance(error, ParityFailed):
        return "parity"
    return "data_changed" if isinstance(error, RunChanged) else "trainer"


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else int(gigabytes * 1e9)
