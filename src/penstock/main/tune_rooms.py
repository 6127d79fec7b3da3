"""Joins runs of tuning with models, datasets, jobs and the training environment of one home."""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from penstock.base.errors import (
    CallerError,
    InvalidInput,
    PenstockError,
    PolicyError,
)
from penstock.datasets.cases import row_to_case
from penstock.datasets.service import DatasetService
from penstock.evals.ports import Prices
from penstock.jobs.context import JobContext
from penstock.jobs.service import JobService
from penstock.jobs.worker import Handler, Worker
from penstock.main.job_kinds import TUNE_RUN
from penstock.main.job_spans import Record, job_span
from penstock.main.queued_jobs import QueuedJobs
from penstock.main.settings import Settings
from penstock.main.tune_assets import RegistryAssets, TeacherPrices
from penstock.registry.service import Registry
from penstock.spec.home import Home
from penstock.spec.tuning import FrozenRun, RunRecord, Runtime
from penstock.tuning.models import ModelService
from penstock.tuning.planning import Planner, PlanningParts
from penstock.tuning.runs.errors import RunFailed
from penstock.tuning.runs.executing import ExecutionParts, RunExecution
from penstock.tuning.runs.folder import RunFolder
from penstock.tuning.runs.ports import Distiller
from penstock.tuning.runs.preparing import Preparation, PreparingParts
from penstock.tuning.runs.queries import RunStore
from penstock.tuning.runs.service import RunService
from penstock.tuning.runtimes import TRAINER, find_runtime, probe_runtime, trainer_environment

_log = logging.getLogger("penstock.tuning")
MAX_TAKEOVERS = 20
"""How often a run's job may be begun: each start of Penstock that finds it under way is one."""


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """What the settings say about training."""

    python: str | None = None
    network: bool = False


def read_tune_settings(settings: Settings) -> TuneSettings:
    """Return what `[tuning]` says."""
    return TuneSettings(python=settings.tuning.python, network=settings.tuning.network)


@dataclass(frozen=True, kw_only=True)
class TuningParts:
    """What runs are made from."""

    home: Home
    engine: Engine
    """The control tables."""
    registry: Registry
    datasets: DatasetService
    models: ModelService
    jobs: JobService | None
    """None: nothing runs here, and whoever creates a run drives it."""
    settings: TuneSettings
    prices: Prices | None = None
    distil: Distiller | None = None
    record: Record | None = None
    """Takes the span of a run; None where no spans are recorded."""
    environ: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The service of runs, and what drives them."""

    runs: RunService
    execution: RunExecution
    handlers: Mapping[str, Handler]


def create_tuning(parts: TuningParts) -> Tuning:
    """Return the rooms of tuning over one home."""
    store = RunStore(parts.engine)
    preparation = Preparation(
        PreparingParts(
            assets=RegistryAssets(parts.registry, parts.datasets),
            models=parts.models,
            as_case=row_to_case,
            distil=parts.distil,
        )
    )
    runtime = RuntimeOnce(parts.settings, parts.environ)

    def trainer_env() -> Mapping[str, str]:
        return trainer_environment(parts.environ, network=parts.settings.network)

    planner = Planner(
        PlanningParts(
            root=parts.home.tuning,
            preparation=preparation,
            store=store,
            find_runtime=runtime.find,
            make_command=trainer_command,
            trainer_env=trainer_env,
            prices=None if parts.prices is None else TeacherPrices(parts.prices),
        )
    )
    execution = RunExecution(
        ExecutionParts(
            store=store,
            root=parts.home.tuning,
            preparation=preparation,
            models=parts.models,
            find_runtime=runtime.find,
            make_command=trainer_command,
            trainer_env=trainer_env,
            judge=planner.judge,
            outline=planner.outline,
        )
    )
    jobs = None if parts.jobs is None else RunQueue(parts.jobs)
    service = RunService(store, parts.home.tuning, preparation=preparation, planner=planner, jobs=jobs)
    return Tuning(
        runs=service,
        execution=execution,
        handlers={TUNE_RUN: lambda ctx, spec: drive_run(execution, ctx, spec, parts.record)},
    )


def tuning_loop(engine: Engine, tuning: Tuning) -> Callable[[threading.Event], None]:
    """Return the loop that drives runs, one at a time, in a thread of its own: they take hours.

    It begins with removing what no run needs any more.
    """
    worker = Worker(engine, tuning.handlers, f"tuning-{os.getpid()}")

    def run(stopping: threading.Event) -> None:
        try:
            tuning.runs.prune()
        except OSError as error:  # a home that cannot be tidied still trains
            _log.warning("bases of tuning could not be tidied: %s", error)
        worker.run(stopping)

    return run


def drive_run(
    execution: RunExecution, ctx: JobContext, spec: dict[str, Any], record: Record | None = None
) -> dict[str, Any]:
    """Drive `{run}` to its end; taken over after a kill, it goes on from the last checkpoint."""
    run_id = spec.get("run")
    if not isinstance(run_id, str):
        raise InvalidInput("The job's spec needs a run.")
    about: dict[str, Any] = {"job.id": ctx.job_id, "job.kind": TUNE_RUN, "job.attempt": ctx.attempt}
    with nullcontext() if record is None else job_span(f"job {TUNE_RUN}", about, record):
        try:
            ended = execution.execute(run_id, ctx)
        except (CallerError, PolicyError):
            raise
        except PenstockError as error:  # the run has tried again by itself; the job must not try once more
            raise RunFailed(error.message, hint=error.hint, run=run_id, cause=error.code) from error
        finally:
            about |= describe_run(execution.find(run_id))
    return {"run": run_id, "state": ended.state, **(ended.result or {})}


def describe_run(record: RunRecord | None) -> dict[str, Any]:
    """Return the attributes of a run's span: which versions it went from, and which it made."""
    if record is None:
        return {}
    data = record.recipe.get("data") or {}
    found = {
        "tune.run": record.id,
        "tune.name": record.name,
        "tune.method": record.method,
        "tune.state": record.state,
        "tune.frozen_digest": record.frozen_digest,
        "tune.base": record.base,
        "tune.data": data.get("train"),
        "tune.model": (record.result or {}).get("model"),
        "tune.steps": record.step,
        "tune.fault": record.fault,
    }
    return {name: value for name, value in found.items() if value is not None}


class RunQueue(QueuedJobs):
    """`tuning.runs.ports.RunJobs` over the lease table."""

    def submit(self, run_id: str, *, attempt: int) -> str:
        """Queue driving a run; see the port."""
        spec = {"run": run_id, "attempt": attempt}
        # No key against doubles: the record goes to `queued` once, and the job of a run that was just stopped may not
        # have ended yet when it is resumed.
        return self._jobs.submit(TUNE_RUN, spec, max_attempts=MAX_TAKEOVERS).id


class RuntimeOnce:
    """The training environment, asked what it holds once: that imports torch, which takes seconds."""

    def __init__(self, settings: TuneSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._known: dict[str, Runtime] = {}
        self._lock = threading.Lock()

    def find(self) -> Runtime:
        """Return the environment; raise `NoRuntime`, `RuntimeBroken`."""
        place = find_runtime(self._settings.python, self._environ)
        key = f"{place.python}:{_changed_ns(place.python.parent.parent)}"
        with self._lock:
            if key not in self._known:
                self._known = {key: probe_runtime(place, environ=self._environ)}
            return self._known[key]


def trainer_command(runtime: Runtime, frozen: FrozenRun, folder: RunFolder) -> list[str]:
    """Return how the trainer is started."""
    del frozen
    return [runtime.python, "-I", str(TRAINER), str(folder.spec.absolute()), "--parent", str(os.getpid())]


def _changed_ns(folder: Path) -> int:
    """Return when an environment was last changed, roughly: when something was installed into it."""
    try:
        return max(each.stat().st_mtime_ns for each in folder.glob("lib/python*/site-packages"))
    except (OSError, ValueError):
        return 0
