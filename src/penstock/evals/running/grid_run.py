"""Runs an experiment: its cells side by side, under one pace and one budget."""

import asyncio
from collections.abc import Callable
from decimal import Decimal

from penstock.base.errors import PenstockError
from penstock.evals.experiment_store import ExperimentStore
from penstock.evals.running.budget import Budget
from penstock.evals.running.control_run import ControlRuns, Shared
from penstock.evals.running.pace import Pace
from penstock.evals.running.runner import Progress
from penstock.evals.types import EvaluationRecord, ExperimentRecord

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
        record = self._store.update(experiment_id, state="running", reason=None)
        base = record.spec.evaluation
        cells = [
            self._runs.store.get(cell.evaluation_id)
            for cell in record.cells
            if cell.evaluation_id is not None
        ]
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

        async def run_cell(cell: EvaluationRecord) -> EvaluationRecord | PenstockError:
            async with slots:
                if (why := should_stop()) is not None:
                    return self._runs.store.update(cell.id, state="stopped", reason=why)
                try:
                    return await self._runs.run_async(
                        cell.id,
                        tell=lambda progress: hear(cell, progress),
                        should_stop=should_stop,
                        shared=shared,
                    )
                except PenstockError as error:  # noted with the cell; the others go on
                    return error

        ended = await asyncio.gather(*(run_cell(cell) for cell in due))
        failed = [each for each in ended if isinstance(each, PenstockError)]
        stopped = [each for each in ended if isinstance(each, EvaluationRecord) and each.state == "stopped"]
        state = "stopped" if stopped else "failed" if failed and len(failed) == len(due) else "done"
        reason = (
            stopped[0].reason
            if stopped
            else f"{len(failed)} cells failed: {failed[0].message}"
            if failed
            else None
        )
        return self._store.update(
            experiment_id, state=state, reason=reason, finished_ns=self._runs.store.now_ns()
        )
