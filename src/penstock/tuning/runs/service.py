"""What people and other rooms do with runs: plan, start, look, stop, resume, compare, delete."""

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.base.ids import new_id
from penstock.spec.tuning import FINAL_RUN_STATES, BudgetPart, Recipe, RunRecord
from penstock.tuning.planning import Planner
from penstock.tuning.runs.budgets import gains_minutes, raise_budget
from penstock.tuning.runs.comparing import compare_runs
from penstock.tuning.runs.errors import RunActive, RunEnded, UnknownRun
from penstock.tuning.runs.events import read_curves, read_events, read_samples
from penstock.tuning.runs.folder import RunFolder
from penstock.tuning.runs.pinning import label_of
from penstock.tuning.runs.ports import RunJobs, Tell
from penstock.tuning.runs.preparing import Preparation
from penstock.tuning.runs.queries import MAX_PAGE, RunStore
from penstock.tuning.runs.shared_bases import SharedBase, list_shared, prune_shared
from penstock.tuning.runs.types import Curve, EventPage, RunComparison, RunPage, RunPlan, Sample

ACTIVE_STATES = ("queued", "preparing", "running", "packaging")
MAX_COMPARED = 8
MAX_LOG_BYTES = 256 * 1024
UNUSED_BASE_S = 7 * 86_400.0
"""A base that no run may still go on from lies checked out for so long after it was opened last."""
KILLED_PLAN_S = 86_400.0
"""A plan takes minutes: a folder of one that is older was left by a kill."""


class RunService:
    """Runs of one home. Every method may be called from any thread; none of them waits for training."""

    def __init__(
        self,
        store: RunStore,
        root: Path,
        *,
        preparation: Preparation,
        planner: Planner,
        jobs: RunJobs | None = None,
    ) -> None:
        """`jobs` None is for a home on which nothing runs: runs are then driven by whoever created them."""
        self.store = store
        self._root = root
        self._preparation = preparation
        self._planner = planner
        self._jobs = jobs

    def plan(self, recipe: Recipe, *, measure: bool = True, tell: Tell | None = None) -> RunPlan:
        """Return what the run would take and what forbids it; nothing is stored.

        With `measure`, and where the training environment is there, a few steps are run to know the pace.
        """
        return self._planner.plan(recipe, measure=measure, tell=tell)

    def create(self, recipe: Recipe, *, actor: str) -> RunRecord:
        """Store a run that waits, its references pinned to the versions of now."""
        pinned = self._preparation.pin(recipe)
        now_ns = self.store.now_ns()
        record = RunRecord(
            id=new_id("run"),
            name=recipe.name,
            state="queued",
            method=recipe.method,
            recipe=msgspec.to_builtins(pinned.recipe),
            created_ns=now_ns,
            updated_ns=now_ns,
            actor=actor,
            base=None if pinned.base is None else label_of(pinned.base),
        )
        self.store.add(record)
        return record

    def start(self, recipe: Recipe, *, actor: str) -> RunRecord:
        """Store a run and queue its job."""
        record = self.create(recipe, actor=actor)
        try:
            return self._submit(record)
        except BaseException:
            self.store.delete(record.id)
            raise

    def get(self, wanted: str) -> RunRecord:
        """Return one run, by id or by the name of the newest. Raises `UnknownRun`."""
        return self._settled(self.store.get(wanted))

    def list(
        self,
        *,
        state: str | None = None,
        name: str | None = None,
        method: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> RunPage:
        """Return one page, newest first."""
        self._settle_active()
        page = self.store.page(state=state, name=name, method=method, cursor=cursor, limit=limit)
        return RunPage(rows=[self._settled(row) for row in page.rows], next_cursor=page.next_cursor)

    def counts(self) -> dict[str, int]:
        """Return how many runs stand in each state."""
        self._settle_active()
        return self.store.counts()

    def events(
        self, wanted: str, *, after: int = 0, kinds: Collection[str] = (), limit: int = 1000
    ) -> EventPage:
        """Return what the trainer has told behind the cursor `after`; `next_after` goes on from there."""
        record = self.get(wanted)
        is_final = record.state in FINAL_RUN_STATES
        return read_events(
            self.folder(record.id).events, after=after, kinds=kinds, limit=limit, is_final=is_final
        )

    def curves(self, wanted: str, *, max_points: int = 500) -> Sequence[Curve]:
        """Return each figure over the steps, thinned."""
        return read_curves(self.folder(self.store.get(wanted).id).events, max_points=max_points)

    def samples(self, wanted: str) -> Sequence[Sample]:
        """Return replies to held-out prompts, oldest first."""
        return read_samples(self.folder(self.store.get(wanted).id).events)

    def logs(self, wanted: str, *, max_bytes: int = MAX_LOG_BYTES) -> str:
        """Return the end of what the trainer and its libraries have printed."""
        path = self.folder(self.store.get(wanted).id).log
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - max_bytes))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def stop(self, wanted: str) -> RunRecord:
        """End the run; its trainer writes a checkpoint first. Raises `RunEnded`."""
        record = self.get(wanted)
        if record.state in FINAL_RUN_STATES:
            raise RunEnded(f"Run {record.id} is {record.state} already.", run=record.id, state=record.state)
        if record.job is not None and self._jobs is not None:
            self._jobs.cancel(record.job)
        elif not self.folder(record.id).is_held():
            return self.store.update(record.id, state="stopped", finished_ns=self.store.now_ns())
        else:
            raise RunActive(
                f"Run {record.id} is driven by a command, not by a job.",
                hint="Interrupt that command (Ctrl-C): it writes a checkpoint first.",
            )
        return self._settled(self.store.get_by_id(record.id))

    def resume(self, wanted: str, *, budget: BudgetPart | None = None) -> RunRecord:
        """Queue a run that was stopped or has failed; it goes on from its last checkpoint.

        `budget` raises bounds; what it leaves open stays as it was. Raises `RunActive` while the run is under way, `RunEnded`
        when it is done, unless it ended because its minutes were used up and has more of them now.
        """
        record = self.reopen(wanted, budget=budget)
        return self._submit(record)

    def where_it_goes_on(self, wanted: str) -> str:
        """Return where a run would go on, in words: `from the checkpoint of step 49`, or `from its beginning`."""
        folder = self.folder(self.get(wanted).id)
        steps = [path.name.removeprefix("step-") for path in folder.checkpoints.glob("step-*")]
        found = max((int(step) for step in steps if step.isdigit()), default=None)
        return "from its beginning" if found is None else f"from the checkpoint of step {found}"

    def reopen(self, wanted: str, *, budget: BudgetPart | None = None) -> RunRecord:
        """Make a run that was stopped or has failed wait again, for whoever drives it; see `resume`."""
        record = self.get(wanted)

        def change(old: RunRecord) -> RunRecord:
            recipe = msgspec.convert(old.recipe, Recipe)
            raised = raise_budget(recipe, budget)
            if old.state == "done" and not gains_minutes(old, recipe, raised):
                raise RunEnded(f"Run {old.id} is done.", hint=f"`penstock tune show {old.id}`", run=old.id)
            if old.state not in FINAL_RUN_STATES:
                raise RunActive(f"Run {old.id} is {old.state}.", hint=f"`penstock tune stop {old.id}`")
            return msgspec.structs.replace(
                old,
                recipe=old.recipe if raised == recipe else msgspec.to_builtins(raised),
                state="queued",
                job=None,
                fault=None,
                error=None,
                finished_ns=None,
            )

        return self.store.change(record.id, change)

    def prune(self, *, unused_s: float = UNUSED_BASE_S) -> Sequence[Path]:
        """Remove what no run needs any more: shared bases, drafts of killed checkouts, folders of killed plans."""
        removed = list(prune_shared(self._root, self._needs_base, unused_s=unused_s))
        for folder in self._root.glob("plan_*"):
            if self._age_s(folder) > KILLED_PLAN_S:
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
        return removed

    def shared_bases(self) -> Sequence[SharedBase]:
        """Return the bases that lie checked out for runs, the one that nobody has opened for longest first."""
        return list_shared(self._root, self._needs_base)

    def _needs_base(self, name: str) -> bool:
        """Whether a folder of `HOME/tuning` is of a run that may still go on, or of a plan under way."""
        try:
            record = self.store.get_by_id(name)
        except UnknownRun:
            return name.startswith("plan_") and self._age_s(self._root / name) <= KILLED_PLAN_S
        return record.state != "done"

    def _age_s(self, folder: Path) -> float:
        try:
            return self.store.now_ns() / 1e9 - folder.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def delete(self, wanted: str) -> None:
        """Forget a run and remove its folder; what it registered stays. Raises `RunActive`."""
        record = self.get(wanted)
        folder = self.folder(record.id)
        if record.state not in FINAL_RUN_STATES or folder.is_held():
            raise RunActive(f"Run {record.id} is {record.state}.", hint=f"`penstock tune stop {record.id}`")
        self.store.delete(record.id)
        folder.remove()
        self.prune()

    def compare(self, wanted: Sequence[str], *, max_points: int = 200) -> RunComparison:
        """Return two or more runs side by side."""
        if not 2 <= len(wanted) <= MAX_COMPARED:
            raise InvalidInput(f"Compare 2 to {MAX_COMPARED} runs.", where="runs")
        runs = [self.get(each) for each in wanted]
        curves = [self.curves(run.id, max_points=max_points) for run in runs]
        return compare_runs(runs, curves)

    def folder(self, run_id: str) -> RunFolder:
        """Return the run's folder."""
        return RunFolder(self._root, run_id)

    def _submit(self, record: RunRecord) -> RunRecord:
        if self._jobs is None:
            raise InvalidInput("Nothing runs on this home that could drive the run.")
        job = self._jobs.submit(record.id, attempt=record.attempts)
        return self.store.update(record.id, job=job)

    def _settled(self, record: RunRecord) -> RunRecord:
        """Return the record as it is: one that nobody drives any more is not running, whatever it says."""
        if record.state in FINAL_RUN_STATES:
            return record
        ending = self._find_ending(record)
        if ending is None:
            return record
        state, why = ending

        def change(old: RunRecord) -> RunRecord:
            if old.state in FINAL_RUN_STATES or old.job != record.job:
                return old
            fields: dict[str, Any] = {"state": state, "finished_ns": self.store.now_ns()}
            if state == "failed":
                fields |= {"fault": "killed", "error": {"code": "PS-4580", "message": why}}
            return msgspec.structs.replace(old, **fields)

        return self.store.change(record.id, change)

    def _settle_active(self) -> None:
        """Bring runs that nobody drives any more to their end, before they are counted or chosen by state."""
        for state in ACTIVE_STATES:
            for record in self.store.page(state=state, limit=MAX_PAGE).rows:
                self._settled(record)

    def _find_ending(self, record: RunRecord) -> tuple[str, str] | None:
        if record.job is not None and self._jobs is not None:
            return self._jobs.ending(record.job)
        is_old = self.store.now_ns() - record.updated_ns > 5_000_000_000  # it may not hold its folder yet
        if record.job is None and is_old and not self.folder(record.id).is_held():
            return "stopped", "the command that drove it is gone"
        return None
