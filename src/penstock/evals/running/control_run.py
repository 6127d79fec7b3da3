"""Runs stored evaluations: reads their cases, makes scorers and target, and brings the record up to date while it runs.

Used by the background job of an evaluation, and by that of an experiment, whose cells share pace and budget.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from penstock.base.errors import PenstockError
from penstock.evals.early_stop import EarlyStop
from penstock.evals.errors import EvaluationInvalid, LocalOnly
from penstock.evals.ports import CaseSource, Gateway, Prices, SpanScores, TargetPins, TraceFacts
from penstock.evals.rows import StoredOutput
from penstock.evals.running.asking import Asker, complete_output
from penstock.evals.running.budget import Budget
from penstock.evals.running.following import TraceFollower
from penstock.evals.running.journal import StoreJournal
from penstock.evals.running.pace import Pace
from penstock.evals.running.runner import Progress, Runner, RunOutcome, RunParts
from penstock.evals.running.scoring import column_of, make_early, mean_values, prepare
from penstock.evals.running.targets import ModelTarget, RunTarget, StoredTarget, read_outputs
from penstock.evals.scorers.types import EmbedTokens, Likelihood, Scorer, ScorerTools
from penstock.evals.store import EvaluationStore
from penstock.evals.types import EvaluationRecord
from penstock.spec.cases import Output
from penstock.spec.evaluations import EvaluationSpec, ScorerSpec, StopWhen
from penstock.spec.scores import SpanScore

MAX_LOOKED_AT = 5000
"""Outputs whose versions are gathered."""
MAX_PRICED = 200
"""Calls whose prices are looked up together."""
COUNT_EVERY_S = 2.0
"""How often the sums of the record are made anew while it runs."""
STORED = "eval:"
TAKEN_OVER = "another worker goes on with it"
"""What `should_stop` says when the run is no longer this worker's: nothing is written about its state then."""
_log = logging.getLogger("penstock.evals")

CreateScorer = Callable[[ScorerSpec], Scorer]


@dataclass(frozen=True, kw_only=True)
class RunPorts:
    """What runs need of others."""

    cases: CaseSource
    pins: TargetPins
    open_gateway: Callable[[], Gateway]
    """A client for one event loop."""
    create_scorer: CreateScorer
    facts: TraceFacts | None = None
    span_scores: SpanScores | None = None
    prices: Prices | None = None
    embed_tokens: EmbedTokens | None = None
    likelihood: Likelihood | None = None
    read_lines: Callable[[str], Sequence[str]] | None = None
    """Reads a file of outputs of this machine."""


@dataclass(kw_only=True)
class Shared:
    """What the cells of an experiment have together."""

    pace: Pace
    budget: Budget


@dataclass(kw_only=True)
class ControlRuns:
    """Runs evaluations of the control tables."""

    store: EvaluationStore
    ports: RunPorts
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep)

    def run(
        self,
        evaluation_id: str,
        *,
        tell: Callable[[Progress], None],
        should_stop: Callable[[], str | None],
        score_only: bool = False,
    ) -> EvaluationRecord:
        """Run one evaluation to its end in this thread and return it. Raises what ended it, after noting that."""
        return asyncio.run(
            self.run_async(evaluation_id, tell=tell, should_stop=should_stop, score_only=score_only)
        )

    async def run_async(
        self,
        evaluation_id: str,
        *,
        tell: Callable[[Progress], None],
        should_stop: Callable[[], str | None],
        score_only: bool = False,
        shared: Shared | None = None,
    ) -> EvaluationRecord:
        """Run one evaluation in this event loop; see `run`."""
        store = self.store
        now_ns = store.now_ns()
        record = store.change(
            evaluation_id,
            lambda old: msgspec.structs.replace(
                old,
                state="running",
                started_ns=old.started_ns or now_ns,
                finished_ns=None,
                reason=old.reason if score_only else None,
                error=None,
            ),
        )
        before = record.reason
        try:
            if record.replaces:
                await asyncio.to_thread(store.drop_scores, record.id, record.replaces)
                record = store.update(record.id, replaces=[])
            outcome = await self._run(record, tell, should_stop, score_only=score_only, shared=shared)
            if TAKEN_OVER in (outcome.reason, should_stop()):
                return store.get(record.id)
            if score_only and outcome.state == "done" and before is not None and self._is_partial(record.id):
                outcome = RunOutcome(
                    state="stopped", reason=before
                )  # as it was: its cases are no further asked
            return await self._end(record.id, outcome)
        except Exception as error:
            if should_stop() != TAKEN_OVER:
                self._note_failure(record.id, error)
            raise

    def _is_partial(self, evaluation_id: str) -> bool:
        counted = self.store.count(evaluation_id)
        return counted.n_outputs < (counted.n_asked or 0)

    async def _end(self, evaluation_id: str, outcome: RunOutcome) -> EvaluationRecord:
        state: Any = outcome.state
        seen = await asyncio.to_thread(self._seen_versions, evaluation_id)
        self.store.change(
            evaluation_id, lambda old: msgspec.structs.replace(old, versions={**seen, **old.versions})
        )
        return self.store.count(
            evaluation_id, state=state, reason=outcome.reason, finished_ns=self.store.now_ns(), eta_s=None
        )

    def _seen_versions(self, evaluation_id: str) -> dict[str, str]:
        """Return what shaped the answers, as their traces say; an asset that moved meanwhile has several stamps."""
        stamps: dict[str, set[str]] = {}
        for output in itertools.islice(self.store.outputs(evaluation_id), MAX_LOOKED_AT):
            for asset, stamp in output.versions.items():
                stamps.setdefault(asset, set()).add(stamp)
        return {
            asset: ", ".join(sorted(found)) for asset, found in sorted(stamps.items()) if asset != "served"
        }

    def _note_failure(self, evaluation_id: str, error: Exception) -> None:
        body = (
            error.as_dict()
            if isinstance(error, PenstockError)
            else {"message": f"{type(error).__name__}: {error}"}
        )
        body = {key: value for key, value in body.items() if key in {"code", "message", "hint"}}
        self.store.count(
            evaluation_id,
            state="failed",
            reason=str(body["message"])[:2000],
            error=body,
            finished_ns=self.store.now_ns(),
            eta_s=None,
        )

    async def _run(
        self,
        record: EvaluationRecord,
        tell: Callable[[Progress], None],
        should_stop: Callable[[], str | None],
        *,
        score_only: bool,
        shared: Shared | None,
    ) -> RunOutcome:
        store, ports, spec = self.store, self.ports, record.spec
        record = await asyncio.to_thread(self._load_cases, record)
        assert record.set_id is not None
        assert record.n_cases is not None
        set_id, n_cases = record.set_id, record.n_cases
        made = [ports.create_scorer(each) for each in spec.scorers]
        scorers = await asyncio.to_thread(prepare, made, lambda: store.cases(set_id))
        store.change(record.id, lambda old: _with_columns(old, scorers, store.now_ns()))
        if shared is None and spec.budget.usd is not None:
            await asyncio.to_thread(self.price, record)
        record = await asyncio.to_thread(
            store.count, record.id
        )  # a run that was killed did not count its last calls
        pace = shared.pace if shared else Pace(spec.concurrency, clock=self.clock, sleep=self.sleep)
        budget = shared.budget if shared else self._budget(record)
        follower = TraceFollower(ports.facts, clock=self.clock, sleep=self.sleep)
        gateway = ports.open_gateway()
        asker = Asker(
            gateway=gateway,
            pace=pace,
            budget=budget,
            follower=follower,
            session=f"eval:{record.id}",
            timeout_s=spec.case_timeout_s,
            clock=self.clock,
            sleep=self.sleep,
        )
        latest = Progress(n_asked=n_cases * spec.repeats)

        def hear(progress: Progress) -> None:
            nonlocal latest
            latest = progress
            tell(progress)

        runner = Runner(
            RunParts(
                evaluation_id=record.id,
                spec=spec,
                n_cases=n_cases,
                journal=StoreJournal(store, record.id, set_id, self._tell_traces),
                target=await asyncio.to_thread(self._target, record, asker),
                scorers=scorers,
                tools=ScorerTools(
                    ask=asker.ask,
                    embed=asker.embed,
                    embed_tokens=ports.embed_tokens,
                    likelihood=ports.likelihood,
                ),
                budget=budget,
                clock=self.clock,
                tell=hear,
                should_stop=should_stop,
                now_ns=store.now_ns,
                score_only=score_only,
                early=await asyncio.to_thread(self._early, record, scorers),
            )
        )
        asker.is_stopping = lambda: runner.is_stopping
        counting = asyncio.create_task(self._keep_counting(record.id, lambda: latest))
        try:
            return await runner.run()
        finally:
            counting.cancel()
            with suppress(asyncio.CancelledError):
                await counting
            await follower.close()
            await gateway.close()

    def _load_cases(self, record: EvaluationRecord) -> EvaluationRecord:
        """Return the record with its cases stored, reading them the first time."""
        if record.set_id is not None:
            if record.n_cases and not self.store.cases_at(record.set_id, [0]):
                raise EvaluationInvalid("Its cases are no longer there.", hint="Start it again as a new one.")
            return record
        spec = record.spec
        source = spec.target.outputs or ""
        if spec.dataset is None and spec.file is None and source.startswith(STORED):
            origin = self.store.get(source)
            if origin.set_id is None:
                raise EvaluationInvalid(f"{source} has no cases yet.", hint="Wait until it runs.")
            shared = self.store.share_cases(
                record.id,
                origin.set_id,
                n_cases=origin.n_cases,
                n_groups=origin.n_groups,
                dataset=origin.dataset,
                dataset_stamp=origin.dataset_stamp,
                cases_digest=origin.cases_digest,
            )
            if shared is None:
                raise EvaluationInvalid(f"{source} was deleted, and its cases with it.")
            return shared
        wanted = spec.dataset or spec.file
        if wanted is None:
            raise EvaluationInvalid("There are no cases: name a `dataset` or a `file`.")
        found = self.ports.cases.read(wanted, where=spec.where, limit=spec.limit, seed=spec.seed)
        versions = dict(record.versions)
        if found.ref is not None:
            versions[found.ref.partition("@")[0]] = found.stamp
        return self.store.give_cases(
            record.id,
            found.cases,
            spec.slices,
            dataset=found.ref,
            dataset_stamp=found.stamp,
            versions=versions,
        )

    def _target(self, record: EvaluationRecord, asker: Asker) -> RunTarget:
        spec = record.spec.target
        if spec.outputs is not None:
            return StoredTarget(find=self._stored(spec.outputs), may_lack=spec.outputs.startswith(STORED))
        if spec.model is None:
            raise LocalOnly(
                "Functions and HTTP endpoints are asked by the program of the person who wants it, not by control.",
                hint="`penstock eval run` does that by itself.",
            )
        return ModelTarget(pinned=self.ports.pins.pin(spec), asker=asker)

    def _stored(self, source: str) -> Callable[[str, int], Awaitable[Output | None]]:
        if source.startswith(STORED):
            origin = self.store.get(source)

            async def find(case_id: str, repeat: int) -> Output | None:
                found = await asyncio.to_thread(lambda: [*self.store.outputs(origin.id, [case_id])])
                return next((each for each in found if each.repeat == repeat), None)

            return find
        if self.ports.read_lines is None:
            raise LocalOnly("Files of outputs are read by the program of the person who asks.")
        outputs = read_outputs(self.ports.read_lines(source), place=source.rpartition("/")[2])

        async def find_in_file(case_id: str, repeat: int) -> Output | None:
            return outputs.get((case_id, repeat))

        return find_in_file

    def _early(self, record: EvaluationRecord, scorers: Sequence[Scorer]) -> EarlyStop | None:
        """Return the rule that may end the run, with what was scored before."""
        early = make_early(record.spec, scorers, lambda rule: self._baseline_values(record, rule, scorers))
        if early is not None:
            for row in self.store.values(record.id, early.rule.score):
                early.see(row.case_id, row.repeat, row.value if row.status == "scored" else None)
        return early

    def _baseline_values(
        self, record: EvaluationRecord, rule: StopWhen, scorers: Sequence[Scorer]
    ) -> dict[str, float]:
        """Return the baseline's values of the cases that ask the same there as here."""
        origin = self.store.get(rule.baseline or "")
        stamp = next(scorer.info.stamp for scorer in scorers if scorer.name == rule.score)
        if not any(column.name == rule.score and column.stamp == stamp for column in origin.columns):
            raise EvaluationInvalid(
                f"{rule.baseline} has no {rule.score!r} of the same scorer ({stamp}).",
                where="stop_when.baseline",
            )
        values = mean_values(self.store.values(origin.id, rule.score))
        if origin.set_id is None or record.set_id is None or origin.cases_digest == record.cases_digest:
            return values
        others = self.store.different_cases(origin.set_id, record.set_id)
        return {case_id: value for case_id, value in values.items() if case_id not in others}

    def price(self, record: EvaluationRecord) -> None:
        """Look up what calls of an earlier run cost whose traces had not come by its end."""
        facts = self.ports.facts
        if facts is None:
            return
        rows = [
            row
            for row in self.store.output_facts(record.id)
            if row.cost_usd is None and row.trace_id is not None and not row.is_cached
        ]
        for start in range(0, len(rows), MAX_PRICED):
            part = {(row.case_id, row.repeat): row for row in rows[start : start + MAX_PRICED]}
            try:
                found = facts.find([row.trace_id for row in part.values()])
            except Exception as error:  # it is tried again as each is scored
                _log.warning("traces of an evaluation cannot be read", extra={"reason": str(error)})
                return
            known = [
                StoredOutput(
                    position=row.position,
                    output=complete_output(output, found[row.trace_id]),
                    is_final=row.is_final,
                    request_key=row.request_key,
                )
                for output in self.store.outputs(record.id, [case_id for case_id, _ in part])
                if (row := part.get((output.case_id, output.repeat))) is not None and row.trace_id in found
            ]
            self.store.write(record.id, known)

    def _budget(self, record: EvaluationRecord) -> Budget:
        tokens = (record.input_tokens or 0) + (record.output_tokens or 0)
        return Budget(
            record.spec.budget,
            clock=self.clock,
            spent_usd=record.cost_usd or Decimal(0),
            spent_tokens=tokens,
        )

    def _tell_traces(self, scores: Sequence[SpanScore]) -> None:
        if self.ports.span_scores is None:
            return
        try:
            self.ports.span_scores.add([score for score in scores if score.status != "skipped"])
        except PenstockError as error:  # the scores themselves are kept; the trace page lacks them
            _log.warning("scores could not be put onto traces", extra={"reason": str(error)})

    async def _keep_counting(self, evaluation_id: str, latest: Callable[[], Progress]) -> None:
        while True:
            await asyncio.sleep(COUNT_EVERY_S)
            try:
                await asyncio.to_thread(self.store.count, evaluation_id, eta_s=latest().eta_s)
            except Exception as error:  # figures for whoever looks on; the run itself counts at its end
                _log.warning("an evaluation could not be counted", extra={"reason": str(error)})


def _with_columns(record: EvaluationRecord, scorers: Sequence[Scorer], now_ns: int) -> EvaluationRecord:
    """Return the record with one column a scorer; those that were there keep when they were added."""
    known = {(column.name, column.stamp): column for column in record.columns}
    is_first = not record.columns
    columns = []
    for scorer, spec in zip(scorers, record.spec.scorers, strict=True):
        is_code = is_user_code(spec)
        added_ns = None if is_first else now_ns
        made = column_of(scorer, None if is_code else spec, added_ns=added_ns)
        columns.append(known.get((made.name, made.stamp), made))
    return msgspec.structs.replace(record, columns=columns)


def is_user_code(spec: ScorerSpec) -> bool:
    """Whether a scorer is the user's own Python, which only their own process runs."""
    return ":" in spec.scorer and not spec.scorer.startswith("scorer:")


def needs_local(spec: EvaluationSpec) -> bool:
    """Whether an evaluation runs in the process of the person who asks for it."""
    target = spec.target
    return target.python is not None or target.http is not None or any(map(is_user_code, spec.scorers))
