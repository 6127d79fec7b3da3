"""Joins evaluations with the rooms that they rest on, and does their background jobs."""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Engine

from penstock.base.errors import InvalidInput
from penstock.datasets.service import DatasetService
from penstock.evals.catalogue import Catalogue
from penstock.evals.experiment_store import ExperimentStore
from penstock.evals.experiments import ExperimentService
from penstock.evals.running.control_run import TAKEN_OVER, ControlRuns, RunPorts
from penstock.evals.running.grid_run import GridRuns
from penstock.evals.running.runner import Progress
from penstock.evals.service import CorrectReport, EvaluationService
from penstock.evals.store import EvaluationStore
from penstock.evals.types import EvaluationRecord, ExperimentRecord
from penstock.jobs.context import JobContext
from penstock.jobs.errors import JobInterrupt, LeaseLost, WorkerStopping
from penstock.jobs.service import JobService
from penstock.jobs.worker import Handler, Worker
from penstock.main.engine_tools import EngineTools
from penstock.main.eval_cases import DatasetCases, open_to_reading
from penstock.main.eval_gateway import HttpGateway
from penstock.main.eval_ports import (
    QueuedRuns,
    ReadSnapshot,
    RegistryPins,
    RoutePrices,
    StoredTraceFacts,
    TraceScores,
    read_registered_scorer,
)
from penstock.main.job_kinds import EVAL_RUN, EXPERIMENT_RUN
from penstock.main.progress_text import progress_text
from penstock.registry.service import Registry
from penstock.store.spans.port import TraceReader
from penstock.traces.scores import ScoreService

N_WORKERS = 2
"""Evaluations that run at once; further ones wait. Each is one thread with calls side by side."""
CONTROL_STOPPED = "control stopped"
RecordT = TypeVar("RecordT", EvaluationRecord, ExperimentRecord)
_log = logging.getLogger("penstock.evals")


@dataclass(frozen=True, kw_only=True)
class EvaluationParts:
    """What evaluations are made from."""

    engine: Engine
    registry: Registry
    jobs: JobService
    datasets: Callable[[], DatasetService | None]
    hold_folder: Callable[[], AbstractContextManager[Path]]
    gateway_url: str
    internal_key: str
    read_snapshot: ReadSnapshot
    spans: TraceReader | None = None
    """None where the span store is not this process's; costs of calls then stay unknown."""
    scores: ScoreService | None = None
    correct_report: CorrectReport | None = None
    engine_tools: EngineTools | None = None
    """What the embedded engine can be asked for beyond the gateway."""
    private_root: Path | None = None
    """No file below is read for anybody."""


@dataclass(frozen=True, kw_only=True)
class Evaluating:
    """Services of evaluations and experiments, and the handlers of their jobs."""

    evaluations: EvaluationService
    experiments: ExperimentService
    handlers: Mapping[str, Handler]


def create_evaluating(parts: EvaluationParts) -> Evaluating:
    """Return the services over one home."""
    catalogue = Catalogue(read_registered=partial(read_registered_scorer, parts.registry))
    ports = RunPorts(
        cases=DatasetCases(parts.datasets, parts.hold_folder, private_root=parts.private_root),
        pins=RegistryPins(parts.registry, parts.read_snapshot),
        open_gateway=lambda: HttpGateway(parts.gateway_url, parts.internal_key),
        create_scorer=catalogue.create,
        embed_tokens=None if parts.engine_tools is None else parts.engine_tools.embed_tokens,
        likelihood=None if parts.engine_tools is None else parts.engine_tools.likelihood,
        facts=None if parts.spans is None else StoredTraceFacts(parts.spans),
        span_scores=None if parts.scores is None else TraceScores(parts.scores),
        prices=RoutePrices(parts.read_snapshot, parts.registry),
        read_lines=partial(_read_lines, parts.private_root),
    )
    store, queued = EvaluationStore(parts.engine), QueuedRuns(parts.jobs)
    evaluations = EvaluationService(store, ports, queued, correct_report=parts.correct_report)
    experiment_store = ExperimentStore(parts.engine)
    runs = ControlRuns(store=store, ports=ports)
    grids = GridRuns(experiment_store, runs)
    return Evaluating(
        evaluations=evaluations,
        experiments=ExperimentService(experiment_store, evaluations, queued),
        handlers={
            EVAL_RUN: lambda ctx, spec: run_evaluation(runs, ctx, spec),
            EXPERIMENT_RUN: lambda ctx, spec: run_experiment(grids, experiment_store, ctx, spec),
        },
    )


def evaluation_loops(
    engine: Engine, handlers: Mapping[str, Handler]
) -> tuple[Callable[[threading.Event], None], ...]:
    """Return the loops that run evaluations, each in a thread of its own, apart from all other jobs."""
    return tuple(
        Worker(engine, handlers, f"evaluations-{os.getpid()}-{number}").run for number in range(N_WORKERS)
    )


def run_evaluation(runs: ControlRuns, ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
    """Run `{evaluation}`. Cancelled, it keeps what it has; when control stops, it waits for the next start."""
    evaluation_id = spec.get("evaluation")
    if not isinstance(evaluation_id, str):
        raise InvalidInput("The job's spec needs an evaluation.")
    watch = _Watch(ctx)
    record = runs.store.find(evaluation_id)
    if record is None:
        ctx.log("the evaluation was deleted meanwhile")
        return {}
    if record.state == "stopped" and record.reason != CONTROL_STOPPED:
        return {"state": record.state}
    if spec.get("run", record.run) != record.run:
        ctx.log("it was queued again meanwhile, and another job runs it")
        return {}
    n_before = record.n_outputs
    ctx.log(
        f"running {record.name}: {record.target}" + (f", {n_before} outputs are there" if n_before else "")
    )

    def tell(progress: Progress) -> None:
        watch.tell(progress.fraction, progress_text(progress))

    ended = runs.run(
        evaluation_id, tell=tell, should_stop=watch.should_stop, score_only=bool(spec.get("score_only"))
    )
    if isinstance(watch.interrupt, WorkerStopping):
        runs.store.change(evaluation_id, lambda old: _waiting(old, record.run))
    if watch.interrupt is not None:
        raise watch.interrupt
    ctx.log(
        f"{ended.state}{f': {ended.reason}' if ended.reason else ''}; {ended.n_ok} answers, {ended.n_errors} errors"
    )
    return {"evaluation": evaluation_id, "state": ended.state, "reason": ended.reason}


def run_experiment(
    grids: GridRuns, store: ExperimentStore, ctx: JobContext, spec: dict[str, Any]
) -> dict[str, Any]:
    """Run `{experiment}`; see `run_evaluation`."""
    experiment_id = spec.get("experiment")
    if not isinstance(experiment_id, str):
        raise InvalidInput("The job's spec needs an experiment.")
    watch = _Watch(ctx)
    record = store.get(experiment_id)
    if spec.get("run", record.run) != record.run:
        ctx.log("it was queued again meanwhile, and another job runs it")
        return {}
    ended = grids.run(experiment_id, tell=watch.tell, should_stop=watch.should_stop)
    if isinstance(watch.interrupt, WorkerStopping):
        store.change(experiment_id, lambda old: _waiting(old, record.run))
    if watch.interrupt is not None:
        raise watch.interrupt
    ctx.log(f"{ended.state}{f': {ended.reason}' if ended.reason else ''}")
    return {"experiment": experiment_id, "state": ended.state}


def _waiting(record: RecordT, run: int) -> RecordT:
    """Return what control stopped as it waits for the next start, unless somebody did something else with it meanwhile."""
    if record.run != run or (record.state, record.reason) != ("stopped", CONTROL_STOPPED):
        return record
    return msgspec.structs.replace(record, state="queued", finished_ns=None, reason=None)


class _Watch:
    """Turns the job's interrupts into a reason to stop, so that what is under way is kept."""

    def __init__(self, ctx: JobContext) -> None:
        self._ctx = ctx
        self.interrupt: JobInterrupt | None = None

    def should_stop(self) -> str | None:
        if self.interrupt is None:
            try:
                self._ctx.check_cancelled()
            except JobInterrupt as interrupt:
                self.interrupt = interrupt
        if self.interrupt is None:
            return None
        if isinstance(self.interrupt, LeaseLost):
            return TAKEN_OVER
        return CONTROL_STOPPED if isinstance(self.interrupt, WorkerStopping) else "stopped by hand"

    def tell(self, fraction: float, text: str) -> None:
        if self.interrupt is None:
            try:
                self._ctx.progress(fraction, text)
            except JobInterrupt as interrupt:
                self.interrupt = interrupt


def _read_lines(private_root: Path | None, path: str) -> list[str]:
    return open_to_reading(Path(path), private_root).read_text(encoding="utf-8").splitlines()
