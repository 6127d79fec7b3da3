"""Experiments: a grid of prompts, models and parameters over the same cases, and which cell is best.

The place for a search instead of a grid is `Proposer`: whoever proposes cells from what earlier ones scored gets the same
evaluations, budget and leaderboard.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from penstock.base.ids import new_id
from penstock.evals.checks import check_spec
from penstock.evals.errors import EvaluationRunning, ExperimentInvalid
from penstock.evals.experiment_store import ExperimentStore
from penstock.evals.grids import cell_spec, make_cells
from penstock.evals.leaderboards import make_leaderboard
from penstock.evals.ports import Ending
from penstock.evals.queueing import AT_REST
from penstock.evals.service import EvaluationService
from penstock.evals.types import (
    Cell,
    EvaluationPlan,
    EvaluationRecord,
    ExperimentPage,
    ExperimentRecord,
    ExperimentSpec,
    Leaderboard,
)


class Proposer(Protocol):
    """Proposes what to try next: a grid says all cells at once, a prompt optimiser one round after the other."""

    def propose(self, spec: ExperimentSpec, so_far: Leaderboard | None) -> Sequence[Cell]:
        """Return further cells; none when it has nothing left to try."""
        ...


class ExperimentJobs(Protocol):
    """Starts and ends the background work of one experiment."""

    def submit_experiment(self, experiment_id: str, *, run: int) -> str:
        """Queue this run and return the job's id."""
        ...

    def ending(self, job_id: str) -> Ending | None:
        """Return how a job has ended; None while it waits or runs."""
        ...

    def cancel(self, job_id: str) -> None:
        """End the run at its next step."""
        ...


class Grid:
    """Every combination, at once."""

    def propose(self, spec: ExperimentSpec, so_far: Leaderboard | None) -> Sequence[Cell]:
        """Return all cells in the first round."""
        return make_cells(spec) if so_far is None else ()


class ExperimentService:
    """Starts, lists and ranks experiments. All of it may be called from any thread."""

    def __init__(
        self,
        store: ExperimentStore,
        evaluations: EvaluationService,
        jobs: ExperimentJobs,
        *,
        proposer: Proposer | None = None,
    ) -> None:
        self.store = store
        self._evaluations = evaluations
        self._jobs = jobs
        self._proposer = proposer or Grid()

    def plan(self, spec: ExperimentSpec) -> list[dict[str, Any]]:
        """Return each cell with its calls and estimated cost; asks no model."""
        rows = []
        for cell in self._cells(spec):
            plan: EvaluationPlan = self._evaluations.plan(cell_spec(spec, cell))
            rows.append({"cell": cell.key, "settings": cell.settings, "plan": plan})
        return rows

    def start(self, spec: ExperimentSpec, *, actor: str) -> ExperimentRecord:
        """Store the grid with one evaluation a cell, and queue their run under one budget and pace.

        Raises `ExperimentInvalid`, and what storing the evaluations raises: then nothing is left behind.
        """
        cells = self._cells(spec)
        experiment_id = new_id("exp")
        made: list[Cell] = []
        try:
            for cell in cells:
                record = self._evaluations.start(
                    cell_spec(spec, cell),
                    actor=actor,
                    experiment_id=experiment_id,
                    cell=cell.key,
                    is_queued=False,
                )
                made.append(msgspec.structs.replace(cell, evaluation_id=record.id))
        except BaseException:
            for cell in made:
                self._evaluations.store.delete(str(cell.evaluation_id))
            raise
        self.store.add(
            ExperimentRecord(
                id=experiment_id,
                name=spec.name,
                spec=spec,
                cells=made,
                state="queued",
                actor=actor,
                created_ns=self._evaluations.store.now_ns(),
                tags=spec.tags,
            )
        )
        try:
            return self._submit(experiment_id, 0)
        except BaseException:
            self.store.delete(experiment_id)
            for cell in made:
                self._evaluations.store.delete(str(cell.evaluation_id))
            raise

    def list(self, *, tag: str | None = None, cursor: str | None = None, limit: int = 50) -> ExperimentPage:
        """Return one page, newest first."""
        page = self.store.page(tag=tag, cursor=cursor, limit=limit)
        return ExperimentPage(
            rows=[self._summed(self._settled(row)) for row in page.rows], next_cursor=page.next_cursor
        )

    def get(self, experiment_id: str) -> ExperimentRecord:
        """Return one experiment, by id or by the name of the newest. Raises `UnknownExperiment`."""
        return self._summed(self._settled(self.store.get(experiment_id)))

    def evaluations(self, experiment_id: str) -> Sequence[EvaluationRecord]:
        """Return the evaluations of its cells, in their order; deleted ones are missing."""
        record = self.store.get(experiment_id)
        return [found for _, found in self._found(record)]

    def leaderboard(self, experiment_id: str, *, score: str | None = None) -> Leaderboard:
        """Return its cells by quality, cost and latency, and whether the best one is certain."""
        record = self.store.get(experiment_id)
        entries = [(cell.key, cell.settings, found) for cell, found in self._found(record)]
        return make_leaderboard(self._evaluations.figures, entries, score=score or record.spec.score)

    def stop(self, experiment_id: str, *, reason: str = "stopped by hand") -> ExperimentRecord:
        """Stop the cells that run and start no further ones."""
        record = self.store.get(experiment_id)
        if record.state in AT_REST:
            return self._summed(record)
        if record.job_id is not None:
            self._jobs.cancel(record.job_id)
        ended: dict[str, Any] = {"state": "stopped"} if record.state == "queued" else {}

        def change(old: ExperimentRecord) -> ExperimentRecord:
            return old if old.state in AT_REST else msgspec.structs.replace(old, reason=reason, **ended)

        return self._summed(self._settled(self.store.change(record.id, change)))

    def resume(self, experiment_id: str) -> ExperimentRecord:
        """Go on with the cells that are not done."""
        before = self._settled(self.store.get(experiment_id))

        def change(old: ExperimentRecord) -> ExperimentRecord:
            nonlocal before
            before = _must_rest(old)
            return msgspec.structs.replace(
                old, state="queued", job_id=None, run=old.run + 1, reason=None, finished_ns=None
            )

        queued = self.store.change(before.id, change)
        try:
            return self._submit(queued.id, queued.run)
        except BaseException:
            self.store.change(before.id, lambda _: before)
            raise

    def delete(self, experiment_id: str) -> None:
        """Forget the experiment; its evaluations stay unless they are deleted too."""
        self.store.delete(_must_rest(self._settled(self.store.get(experiment_id))).id)

    def _cells(self, spec: ExperimentSpec) -> Sequence[Cell]:
        if not spec.name.strip():
            raise ExperimentInvalid("An experiment needs a name.", where="name")
        cells = self._proposer.propose(spec, None)
        for cell in cells:
            check_spec(cell_spec(spec, cell))
        return cells

    def _settled(self, record: ExperimentRecord) -> ExperimentRecord:
        """Return the record as it is: one whose job has ended runs no more, nor do its cells, whatever they say."""
        ending = None
        if record.state not in AT_REST and record.job_id is not None:
            ending = self._jobs.ending(record.job_id)
        if ending is None:
            return record
        state, reason = ending
        now_ns = self._evaluations.store.now_ns()

        def change(old: ExperimentRecord) -> ExperimentRecord:
            if old.state in AT_REST or old.job_id != record.job_id:
                return old
            told = old.reason if state == "stopped" and old.reason else reason
            return msgspec.structs.replace(old, state=state, reason=told, finished_ns=now_ns)

        def change_cell(old: EvaluationRecord) -> EvaluationRecord:
            if old.state != "running":
                return old
            return msgspec.structs.replace(old, state=state, reason=reason, finished_ns=now_ns, eta_s=None)

        for _, found in self._found(record):
            if found.state == "running":
                self._evaluations.store.change(found.id, change_cell)
        return self.store.change(record.id, change)

    def _submit(self, experiment_id: str, run: int) -> ExperimentRecord:
        job_id = self._jobs.submit_experiment(experiment_id, run=run)
        return self._summed(self.store.update(experiment_id, job_id=job_id))

    def _found(self, record: ExperimentRecord) -> Sequence[tuple[Cell, EvaluationRecord]]:
        found = []
        for cell in record.cells:
            if cell.evaluation_id is not None:
                known = self._evaluations.store.find(cell.evaluation_id)
                if known is not None:
                    found.append((cell, known))
        return found

    def _summed(self, record: ExperimentRecord) -> ExperimentRecord:
        found = [each for _, each in self._found(record)]
        costs = [each.cost_usd for each in found if each.cost_usd is not None]
        return msgspec.structs.replace(
            record,
            n_done=sum(each.state in AT_REST for each in found),
            cost_usd=sum(costs, Decimal(0)) if costs else None,
            n_cost_unknown=sum(each.n_cost_unknown for each in found),
        )


def _must_rest(record: ExperimentRecord) -> ExperimentRecord:
    if record.state not in AT_REST:
        raise EvaluationRunning(
            f"Experiment {record.id} is {record.state}.", hint=f"`penstock experiment stop {record.id}`"
        )
    return record
