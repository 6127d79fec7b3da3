"""Runs an evaluation: asks what has no answer, scores what has no score, keeps both as they come.

Asking and scoring are apart: an answer is kept before it is judged, so nothing that was paid for is lost to a judge, a scorer
or a kill. Two bounds hold memory: so many calls, and so many cases whose scores are still being made. The surprise: the first
cases are run alone; when target or scorers fail on all of them, the run ends there and says why.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from penstock.evals.early_stop import EarlyStop
from penstock.evals.errors import PreflightFailed
from penstock.evals.rows import StoredOutput
from penstock.evals.running.asking import Asked
from penstock.evals.running.budget import Budget
from penstock.evals.running.journal import Journal, Writer
from penstock.evals.running.scoring import judge, needs_facts, needs_samples
from penstock.evals.running.targets import RunTarget, as_kept
from penstock.evals.scorers.types import Scorer, ScorerTools
from penstock.evals.store import CaseWork
from penstock.spec.cases import Output
from penstock.spec.evaluations import EvaluationSpec
from penstock.spec.scores import Score, SpanScore

N_TRIED = 3
"""Cases that are tried before a run is given up."""
N_AT_ONCE = 200
"""Cases whose kept answers are looked up together."""
MAX_OPEN = 256
"""Cases whose scores are being made, at most."""
MIN_STREAK = 20
"""So many failures in a row, and three times the concurrency, end a run: the target is down, the rest is kept for later."""


@dataclass(kw_only=True)
class Progress:
    """How far a run is."""

    n_asked: int
    """Outputs there are to be."""
    n_done: int = 0
    """Outputs that are there, those of before included."""
    n_begun: int = 0
    """Outputs that were there when the run began."""
    n_errors: int = 0
    n_cached: int = 0
    spent_usd: Decimal = Decimal(0)
    n_cost_unknown: int = 0
    elapsed_s: float = 0.0

    @property
    def fraction(self) -> float:
        """0 to 1."""
        return min(1.0, self.n_done / self.n_asked) if self.n_asked else 1.0

    @property
    def eta_s(self) -> float | None:
        """Seconds that are left at the pace so far; None before anything was done."""
        n_new = self.n_done - self.n_begun
        if n_new <= 0 or self.elapsed_s <= 0:
            return None
        return (self.n_asked - self.n_done) * self.elapsed_s / n_new


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """How a run ended: `done`, or `stopped` with the reason."""

    state: str
    reason: str | None = None


@dataclass(kw_only=True)
class _Unit:
    work: CaseWork
    repeat: int
    key: str | None
    open: "_OpenCase"


@dataclass(kw_only=True)
class _OpenCase:
    work: CaseWork
    missing: set[int] = field(default_factory=set)
    """Repeats that are still to be asked."""


@dataclass(kw_only=True)
class RunParts:
    """What a run is made from."""

    evaluation_id: str
    spec: EvaluationSpec
    n_cases: int
    journal: Journal
    target: RunTarget
    scorers: Sequence[Scorer]
    tools: ScorerTools
    budget: Budget
    clock: Callable[[], float]
    tell: Callable[[Progress], None]
    """Hears of progress, often; may raise to end the run at once."""
    should_stop: Callable[[], str | None]
    """Why the run should end, or None."""
    now_ns: Callable[[], int]
    score_only: bool = False
    """Ask nothing; score what is answered."""
    early: EarlyStop | None = None
    """Ends the run once a question is decided; the cases are then asked in its order, and held in memory."""


class Runner:
    """One run of one evaluation. For one event loop."""

    def __init__(self, parts: RunParts) -> None:
        self._parts = parts
        spec = parts.spec
        self._writer = Writer(parts.journal)
        self._each = [scorer for scorer in parts.scorers if not needs_samples(scorer)]
        self._together = [scorer for scorer in parts.scorers if needs_samples(scorer)]
        self._waits = any(needs_facts(scorer) for scorer in parts.scorers)
        self._stop: str | None = None
        self._streak = 0
        self._last_error = ""
        self._max_streak = max(MIN_STREAK, 3 * spec.concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Semaphore(MAX_OPEN)
        self._failure: BaseException | None = None
        self._absent: set[tuple[str, int]] = set()
        self._began = parts.clock()
        self.progress = Progress(n_asked=parts.n_cases * spec.repeats)

    @property
    def is_stopping(self) -> bool:
        """Whether nothing further is begun."""
        return self._stop is not None

    async def run(self) -> RunOutcome:
        """Return how it ended; whatever was made is kept. Raises `PreflightFailed`, and what keeping raises."""
        units: asyncio.Queue[_Unit | None] = asyncio.Queue(maxsize=max(1, self._parts.spec.concurrency))
        await self._try_first()
        workers = [
            asyncio.create_task(self._work(units)) for _ in range(max(1, self._parts.spec.concurrency))
        ]
        try:
            await self._fill(units)
            for _ in workers:
                await units.put(None)
            await asyncio.gather(*workers)
            while self._tasks:
                await asyncio.wait(set(self._tasks))
                self._tell()
        except BaseException:
            for task in (*workers, *self._tasks):
                task.cancel()
            await asyncio.gather(*workers, *self._tasks, return_exceptions=True)
            raise
        if self._failure is not None:
            raise self._failure
        self._tell()
        if self._stop is None and self._absent:
            n_asked = self.progress.n_asked
            self._stop = f"{len(self._absent)} of {n_asked} outputs are not there to be scored: they were never asked for"
        return RunOutcome(state="stopped", reason=self._stop) if self._stop else RunOutcome(state="done")

    # cases

    async def _try_first(self) -> None:
        """Run the first cases alone. Raises `PreflightFailed` when all of them failed."""
        works = (await self._parts.journal.work(-1))[:N_TRIED]
        is_new = not any(work.outputs for work in works)
        if not self._parts.spec.preflight or not is_new or self._parts.score_only:
            return
        kept = await self._kept(works)
        n_tried = 0
        problems: list[str] = []
        for work in works:
            if self._look() is not None:
                break
            output = await self._try(work, kept)
            if output is None:
                break
            n_tried += 1
            work.outputs[0] = output
            scores = await self._score_each(work, output)
            broken = next(
                (each for each in scores if each.status == "error" and each.fault == "scorer"), None
            )
            if output.status == "error" and output.error is not None:
                problems.append(
                    f"the target failed on case {work.case.id!r}: {output.error.code}: {output.error.message}"
                )
            elif broken is not None:
                problems.append(
                    f"the scorer of {broken.name!r} failed on case {work.case.id!r}: {broken.reason}"
                )
            else:
                problems = []
                break
        if problems:
            raise PreflightFailed(
                f"Nothing but {_n_cases(n_tried)} was asked: {problems[-1]}",
                hint="Mend it and resume, or say `preflight = false` to ask all cases anyway.",
            )

    async def _try(self, work: CaseWork, kept: dict[str, Output]) -> Output | None:
        """Return the first output of a case with everything that becomes known of it."""
        key = self._key(work, 0)
        if key is not None and key in kept:
            output = as_kept(kept[key], case_id=work.case.id)
            await self._writer.put([StoredOutput(position=work.position, output=output, request_key=key)])
            self.progress.n_cached += 1
            return output
        asked = await self._ask(_Unit(work=work, repeat=0, key=key, open=_OpenCase(work=work)))
        return None if asked is None else await self._complete(work, asked)

    async def _fill(self, units: "asyncio.Queue[_Unit | None]") -> None:
        """Hand out what is to be asked, case by case, and score what is answered already."""
        self.progress.n_done = 0  # what was tried is kept by now, so the journal tells of it
        after = -1
        if self._parts.early is not None and not self._parts.score_only:
            await self._fill_in_order(units, self._parts.early)
            return
        while works := await self._parts.journal.work(after):
            after = works[-1].position
            kept = await self._kept(works)
            for work in works:
                if self._look() is not None:
                    return
                await self._begin(units, work, kept)

    async def _fill_in_order(self, units: "asyncio.Queue[_Unit | None]", early: EarlyStop) -> None:
        """Hand out what is to be asked in the order of the rule that may end the run."""
        known: dict[str, CaseWork] = {}
        after = -1
        while works := await self._parts.journal.work(after):
            after = works[-1].position
            known |= {work.case.id: work for work in works}
        order = early.plan(
            [(work.case.id, work.case.group) for work in known.values()], self._parts.spec.seed
        )
        for first in range(0, len(order), N_AT_ONCE):
            part = [known.pop(case_id) for case_id in order[first : first + N_AT_ONCE]]
            kept = await self._kept(part)
            for work in part:
                if self._look() is not None:
                    return
                await self._begin(units, work, kept)

    async def _begin(
        self, units: "asyncio.Queue[_Unit | None]", work: CaseWork, kept: dict[str, Output]
    ) -> None:
        n_repeats = self._parts.spec.repeats
        missing = [repeat for repeat in range(n_repeats) if repeat not in work.outputs]
        if self._parts.score_only:
            missing = []
        self.progress.n_done += n_repeats - len(missing)
        self.progress.n_begun += n_repeats - len(missing)
        before = list(work.outputs.values())
        taken: list[StoredOutput] = []
        for repeat in list(missing):
            key = self._key(work, repeat)
            if key is not None and key in kept:
                output = as_kept(kept[key], case_id=work.case.id)
                taken.append(StoredOutput(position=work.position, output=output, request_key=key))
                work.outputs[repeat] = output
                missing.remove(repeat)
                before.append(output)
        if taken:
            await self._writer.put(taken)
            self.progress.n_done += len(taken)
            self.progress.n_cached += len(taken)
        opened = _OpenCase(work=work, missing=set(missing))
        for output in before:
            await self._spawn(self._finish_output(work, Asked(output=output)))
        if not missing:
            await self._spawn(self._finish_case(opened))
        for repeat in missing:
            await units.put(_Unit(work=work, repeat=repeat, key=self._key(work, repeat), open=opened))

    async def _kept(self, works: Sequence[CaseWork]) -> dict[str, Output]:
        if not self._parts.spec.cache:
            return {}
        keys = [
            key
            for work in works
            for repeat in range(self._parts.spec.repeats)
            if repeat not in work.outputs and (key := self._key(work, repeat)) is not None
        ]
        found = await self._parts.journal.kept(keys) if keys else {}
        return {key: output for key, output in found.items() if output.status == "ok"}

    def _key(self, work: CaseWork, repeat: int) -> str | None:
        try:
            return self._parts.target.request_key(work.case, repeat)
        except (ValueError, TypeError):  # a case that cannot be digested is asked, and never taken again
            return None
        except Exception:  # it cannot be asked at all; asking tells so
            return None

    # asking

    async def _work(self, units: "asyncio.Queue[_Unit | None]") -> None:
        while (unit := await units.get()) is not None:
            if self._failure is not None or self._look() is not None:
                continue  # the queue is emptied, so that whoever fills it is not held up
            try:
                await self._answer_and_score(unit)
            except Exception as error:  # what could not be kept ends the run; the others are let finish
                self._failure = self._failure or error
                self._stop = self._stop or "what was answered could not be kept"

    async def _answer_and_score(self, unit: _Unit) -> None:
        asked = await self._ask(unit)
        if asked is None:
            return
        unit.work.outputs[unit.repeat] = asked.output
        unit.open.missing.discard(unit.repeat)
        await self._spawn(self._finish_output(unit.work, asked))
        if not unit.open.missing:
            await self._spawn(self._finish_case(unit.open))

    async def _ask(self, unit: _Unit) -> Asked | None:
        """Ask once and keep the answer; None when nothing more may be asked."""
        asked = await self._parts.target.answer(unit.work.case, unit.repeat)
        output = asked.output
        if asked.is_absent:
            self._absent.add((unit.work.case.id, unit.repeat))
            self.progress.n_done += 1
            self._tell()
            return None
        if output.status == "skipped":
            self._stop = self._stop or self._parts.budget.reason or "stopped"
            return None
        is_final = output.error is None or not output.error.is_transient
        key = unit.key if output.status == "ok" else None
        stored = StoredOutput(position=unit.work.position, output=output, is_final=is_final, request_key=key)
        await self._writer.put([stored])
        self.progress.n_done += 1
        if output.status == "error":
            self.progress.n_errors += 1
            self._streak += 0 if is_final else 1
            self._last_error = f"{output.error.code}: {output.error.message}" if output.error else ""
            if self._streak >= self._max_streak:
                self._stop = (
                    self._stop or f"the target failed {self._streak} times in a row ({self._last_error})"
                )
        else:
            self._streak = 0
        self._tell()
        return asked

    # scoring

    async def _finish_output(self, work: CaseWork, asked: Asked) -> None:
        if self._waits:
            output = await self._complete(work, asked)
            await self._score_each(work, output)
            return
        # side by side: a judge may wait for room in the budget that this very answer still holds
        await asyncio.gather(self._score_each(work, asked.output), self._complete(work, asked))

    async def _complete(self, work: CaseWork, asked: Asked) -> Output:
        """Return the output with what its trace tells, and keep that."""
        output = asked.output
        is_known = output.is_cached or output.cost_usd is not None or output.trace_id is None
        if is_known and asked.hold is None:
            return output
        output = await self._parts.target.settle(asked)
        if output is not asked.output:
            is_final = output.error is None or not output.error.is_transient
            key = self._key(work, output.repeat) if output.status == "ok" else None
            await self._writer.put(
                [StoredOutput(position=work.position, output=output, is_final=is_final, request_key=key)]
            )
            work.outputs[output.repeat] = output
        self.progress.spent_usd = self._parts.budget.spent_usd
        self.progress.n_cost_unknown = self._parts.budget.n_unknown
        return output

    async def _score_each(self, work: CaseWork, output: Output) -> list[Score]:
        due = [scorer for scorer in self._each if (output.repeat, scorer.name) not in work.scored]
        return await self._score(due, work, [output], output.repeat)

    async def _finish_case(self, opened: _OpenCase) -> None:
        work = opened.work
        due = [scorer for scorer in self._together if (0, scorer.name) not in work.scored]
        if due:
            outputs = [work.outputs[repeat] for repeat in sorted(work.outputs)]
            await self._score(due, work, outputs, 0)

    async def _score(
        self, due: Sequence[Scorer], work: CaseWork, outputs: Sequence[Output], repeat: int
    ) -> list[Score]:
        if not due:
            return []
        parts = self._parts
        timeout_s = parts.spec.case_timeout_s
        given = await asyncio.gather(
            *(judge(scorer, work.case, outputs, parts.tools, timeout_s=timeout_s) for scorer in due)
        )
        scores = [score for each in given for score in each]
        await self._writer.put(scores=[(work.case.id, repeat, score) for score in scores])
        work.scored |= {(repeat, score.name) for score in scores}
        if parts.early is not None:
            for score in scores:
                if score.name == parts.early.rule.score:
                    parts.early.see(work.case.id, repeat, score.value if score.status == "scored" else None)
        trace_id = outputs[0].trace_id if outputs else None
        if trace_id is not None and not outputs[0].is_cached:
            await parts.journal.tell_traces([self._on_trace(score, trace_id) for score in scores])
        return scores

    def _on_trace(self, score: Score, trace_id: str) -> SpanScore:
        return SpanScore(
            name=score.name,
            value=score.value,
            label=score.label,
            status=score.status,
            source=score.source,
            scorer=score.scorer,
            identifier=f"eval:{self._parts.evaluation_id}",
            comment=score.reason,
            time_ns=self._parts.now_ns(),
            trace_id=trace_id,
        )

    # housekeeping

    async def _spawn(self, work: "Coroutine[None, None, None]") -> None:
        await self._open.acquire()
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._open.release()
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
            self._stop = self._stop or "what was scored could not be kept"

    def _look(self) -> str | None:
        """Return why nothing further is begun, or None."""
        if self._stop is None:
            self._stop = self._parts.should_stop()
        if self._stop is None and self._parts.early is not None:
            self._stop = self._parts.early.reason
        if self._stop is None and not self._parts.budget.check_time():
            self._stop = self._parts.budget.reason
        return self._stop

    def _tell(self) -> None:
        self.progress.elapsed_s = self._parts.clock() - self._began
        self._parts.tell(self.progress)


def _n_cases(n: int) -> str:
    return "one case" if n == 1 else f"{n} cases"
