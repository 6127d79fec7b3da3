"""Runs an experiment: its cells side by side, under one pace and one budget."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal

from penstock.base.errors import PenstockError
from penstock.evals.errors import UnknownEvaluation
from penstock.evals.experiment_store import ExperimentStore
from penstock.evals.running.budget import Budget
from penstock.evals.running.control_run import TAKEN_OVER, ControlRuns, Shared
from penstock.evals.running.pace import Pace
from penstock.evals.running.runner import Progress
from penstock.evals.types import EvaluationRecord, ExperimentRecord
from penstock.spec.evaluations import EvaluationState

SIDE_BY_SIDE = 4
"""Cells at once. They share the pace, so more would only hold more cases in memory."""


class GridRuns:
    """Runs experiments of the control tables."""

    def __init__(self, store: ExperimentStore, runs: ControlRuns) -> None:
        self._store = store
        self._runs = runs

    def run(
        self,
        experiment_id: str,
        *,
        tell: Callable[[float, str], None],
        should_stop: Callable[[], str | None],
    ) -> ExperimentRecord:
        """Run the cells that are not done, in this thread. A cell that fails does not end the others."""
        return asyncio.run(self._run(experiment_id, tell, should_stop))

    async def _run(
        self, experiment_id: str, tell: Callable[[float, str], None], should_stop: Callable[[], str | None]
    ) -> ExperimentRecord:
        record = self._store.update(experiment_id, state="running", reason=None, finished_ns=None)
        try:
            ended = await self._run_cells(record, tell, should_stop)
        except Exception as error:
            if should_stop() != TAKEN_OVER:
                reason = error.message if isinstance(error, PenstockError) else _told(error)
                self._end(experiment_id, "failed", reason[:2000])
            raise
        if should_stop() == TAKEN_OVER:
            return self._store.get(experiment_id)
        failed = [each for each in ended if isinstance(each, Exception)]
        stopped = [each for each in ended if isinstance(each, EvaluationRecord) and each.state == "stopped"]
        if stopped:
            return self._end(experiment_id, "stopped", stopped[0].reason)
        if not failed:
            return self._end(experiment_id, "done", None)
        first = failed[0]
        told = first.message if isinstance(first, PenstockError) else _told(first)
        state: EvaluationState = "failed" if len(failed) == len(ended) else "done"
        return self._end(experiment_id, state, f"{len(failed)} cells failed: {told}"[:2000])

    def _end(self, experiment_id: str, state: EvaluationState, reason: str | None) -> ExperimentRecord:
        now_ns = self._runs.store.now_ns()
        return self._store.update(experiment_id, state=state, reason=reason, finished_ns=now_ns)

    async def _run_cells(
        self,
        record: ExperimentRecord,
        tell: Callable[[float, str], None],
        should_stop: Callable[[], str | None],
    ) -> list[EvaluationRecord | Exception]:
        """Return how each cell ended that was due; those that were deleted meanwhile are passed over."""
        base, store = record.spec.evaluation, self._runs.store
        found = [store.find(cell.evaluation_id) for cell in record.cells if cell.evaluation_id is not None]
        cells = [cell for cell in found if cell is not None]
        for number, cell in enumerate(cells):  # a run that was killed did not count its last calls
            if base.budget.usd is not None and cell.set_id is not None:
                await asyncio.to_thread(self._runs.price, cell)
                with suppress(UnknownEvaluation):
                    cells[number] = await asyncio.to_thread(store.count, cell.id)
        due = [cell for cell in cells if cell.state != "done"]
        clock, sleep = self._runs.clock, self._runs.sleep
        shared = Shared(
            pace=Pace(base.concurrency, clock=clock, sleep=sleep),
            budget=Budget(
                base.budget,
                clock=clock,
                spent_usd=sum((cell.cost_usd or Decimal(0) for cell in cells), Decimal(0)),
                spent_tokens=sum((cell.input_tokens or 0) + (cell.output_tokens or 0) for cell in cells),
            ),
        )
        shares = {cell.id: 1.0 if cell.state == "done" else 0.0 for cell in cells}
        slots = asyncio.Semaphore(SIDE_BY_SIDE)

        def hear(cell: EvaluationRecord, progress: Progress) -> None:
            shares[cell.id] = progress.fraction
            n_done = sum(share >= 1.0 for share in shares.values())
            tell(sum(shares.values()) / max(1, len(shares)), f"{n_done} of {len(shares)} cells")

        async def run_cell(cell: EvaluationRecord) -> EvaluationRecord | Exception | None:
            async with slots:
                try:
                    now = store.find(cell.id)
                    if now is None or (now.state == "stopped" and cell.state != "stopped"):
                        return now  # somebody did that while it waited
                    why = should_stop()
                    if why is not None:
                        return (
                            now if why == TAKEN_OVER else store.update(cell.id, state="stopped", reason=why)
                        )
                    return await self._runs.run_async(
                        cell.id,
                        tell=lambda progress: hear(cell, progress),
                        should_stop=should_stop,
                        shared=shared,
                    )
                except UnknownEvaluation:  # deleted while it ran
                    return None
                except Exception as error:  # it is this cell's, and noted with it; the others go on
                    return error

        ended = await asyncio.gather(*(run_cell(cell) for cell in due))
        return [each for each in ended if each is not None]


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
