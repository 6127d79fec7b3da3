"""Evaluations: start, look, stop, resume, score again, compare. All of it may be called from any thread.

Knows neither datasets nor prompts nor traces: they come in through `ports`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from penstock.base.ids import new_id
from penstock.evals.checks import check_spec, check_values
from penstock.evals.early_stop import DECIDED
from penstock.evals.errors import EvaluationInvalid, LocalOnly, OutputsInvalid
from penstock.evals.figures import Figures
from penstock.evals.leaderboards import make_leaderboard
from penstock.evals.pages import Pages
from penstock.evals.planning import Planner
from penstock.evals.ports import EvaluationJobs, SpanScores
from penstock.evals.queueing import AT_REST, RunQueue, must_rest
from penstock.evals.rows import StoredOutput
from penstock.evals.running.control_run import STORED, RunPorts, needs_local
from penstock.evals.running.scoring import check_names
from penstock.evals.statistics.types import ScoredCase
from penstock.evals.store import EvaluationStore
from penstock.evals.types import (
    AnsweredCase,
    CasePage,
    CaseQuery,
    CaseView,
    ComparedPage,
    ComparedQuery,
    ComparisonReport,
    EstimateReport,
    EvaluationPage,
    EvaluationPlan,
    EvaluationQuery,
    EvaluationRecord,
    Leaderboard,
    ScoreColumn,
)
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import EvaluationBudget, EvaluationSpec, EvaluationState, ScorerSpec
from penstock.spec.scores import Score, SpanScore

MAX_RECORDED = 2000
"""Outputs or scores of one request."""
CorrectReport = Callable[[EvaluationRecord, EstimateReport], EstimateReport]
"""Adds what calibrated judges' figures become when their known errors are taken into account."""


class EvaluationService:
    """Everything that people and other rooms do with evaluations."""

    def __init__(
        self,
        store: EvaluationStore,
        ports: RunPorts,
        jobs: EvaluationJobs,
        *,
        correct_report: CorrectReport | None = None,
    ) -> None:
        self.store = store
        self._ports = ports
        self._queue = RunQueue(store, jobs)
        self._correct = correct_report
        self.figures = Figures(store, ports.create_scorer)
        self._pages = Pages(store, self.figures)
        self._planner = Planner(
            store,
            cases=ports.cases,
            pins=ports.pins,
            create_scorer=ports.create_scorer,
            prices=ports.prices,
        )

    # running

    def plan(self, spec: EvaluationSpec) -> EvaluationPlan:
        """Return what running it would do and cost; asks no model."""
        check_spec(spec)
        return self._planner.plan(spec)

    def start(
        self,
        spec: EvaluationSpec,
        *,
        actor: str,
        experiment_id: str | None = None,
        cell: str | None = None,
        is_queued: bool = True,
    ) -> EvaluationRecord:
        """Pin what may move, store the evaluation and queue its run.

        `is_queued` False stores it alone: whoever runs the experiment asks for its cells. Raises `EvaluationInvalid`,
        `LocalOnly`, what pinning and making scorers raises.
        """
        check_spec(spec)
        if needs_local(spec):
            raise LocalOnly(
                "User code and HTTP endpoints run only in the process of the person who asks.",
                hint="`penstock eval run` and `penstock.evaluate` do that by themselves.",
            )
        check_names([self._ports.create_scorer(each) for each in spec.scorers])
        record = self._new_record(spec, actor=actor)
        record = msgspec.structs.replace(record, experiment_id=experiment_id, cell=cell)
        self.store.add(record)
        return self._queue.first(record) if is_queued else record

    def _new_record(self, spec: EvaluationSpec, *, actor: str) -> EvaluationRecord:
        target, stamp, versions, source = spec.target, "", {}, None
        if target.model is not None:
            pinned = self._ports.pins.pin(target)
            target, stamp, versions = pinned.spec, pinned.stamp, dict(pinned.versions)
        elif target.outputs is not None and target.outputs.startswith(STORED):
            origin = self.store.get(target.outputs)
            source, stamp, versions = origin.id, origin.target_stamp, dict(origin.versions)
        pinned_spec = msgspec.structs.replace(spec, target=target)
        return EvaluationRecord(
            id=new_id("eval"),
            name=spec.name,
            state="queued",
            spec=pinned_spec,
            asked=spec if pinned_spec != spec else None,
            target=target.name or self._name_of(target, source),
            target_stamp=stamp,
            versions=versions,
            dataset=spec.dataset,
            actor=actor,
            source=source,
            tags=spec.tags,
            created_ns=self.store.now_ns(),
        )

    def _name_of(self, target: Any, source: str | None) -> str:
        if source is not None:
            return self.store.get(source).target
        told = [target.prompt, target.model] if target.prompt else [target.model]
        named = " · ".join(str(each) for each in told if each)
        url = target.http.get("url", "http") if target.http else ""
        return named or target.python or url or target.outputs or "target"

    def stop(self, evaluation_id: str, *, reason: str = "stopped by hand") -> EvaluationRecord:
        """End the run; what it has is valid. Calls under way are waited for, so it may still run when this returns."""
        return self._queue.stop(self.get(evaluation_id), reason)

    def resume(
        self, evaluation_id: str, *, budget: EvaluationBudget | None = None, preflight: bool | None = None
    ) -> EvaluationRecord:
        """Ask what has no final output yet and score what has no score yet; with another budget if one is given."""
        record = self._at_rest(evaluation_id)
        if record.is_local:
            raise LocalOnly(
                "It ran in the process of the person who asked; only there it goes on.",
                hint=f"Run the same command again with `--resume {record.id}`.",
            )
        spec = record.spec
        if budget is not None:
            spec = msgspec.structs.replace(spec, budget=budget)
        if preflight is not None:
            spec = msgspec.structs.replace(spec, preflight=preflight)
        if (record.reason or "").startswith(DECIDED):  # whoever goes on wants the rest
            spec = msgspec.structs.replace(spec, stop_when=None)
        self.figures.forget(record.id)
        return self._queue.again(record, spec=spec, reason=None, error=None)

    def rescore(
        self,
        evaluation_id: str,
        scorers: Sequence[ScorerSpec],
        *,
        actor: str,
        is_new: bool = True,
        name: str | None = None,
    ) -> EvaluationRecord:
        """Score stored outputs by other scorers: as a new evaluation, or as further scores of this one.

        In place, a scorer whose score has the name of one that is there takes its place.
        """
        record = self._at_rest(evaluation_id)
        made = [self._ports.create_scorer(each) for each in scorers]
        if not made:
            raise EvaluationInvalid("Name at least one scorer.")
        if is_new:
            target = msgspec.structs.replace(
                record.spec.target,
                name=record.target,
                model=None,
                prompt=None,
                parameters={},
                python=None,
                http=None,
                outputs=f"{STORED}{record.id}",
            )
            spec = msgspec.structs.replace(
                record.spec,
                name=name or record.name,
                target=target,
                dataset=None,
                file=None,
                where={},
                limit=None,
                scorers=list(scorers),
                budget=EvaluationBudget(),
            )
            return self.start(spec, actor=actor)
        names = {scorer.name for scorer in made}
        old_names = (
            [self._ports.create_scorer(each).name for each in record.spec.scorers]
            if not record.is_local
            else []
        )
        kept = [each for each, old in zip(record.spec.scorers, old_names, strict=False) if old not in names]
        spec = msgspec.structs.replace(record.spec, scorers=[*kept, *scorers])
        check_names([self._ports.create_scorer(each) for each in spec.scorers])
        self.figures.forget(record.id)
        return self._queue.again(record, score_only=True, spec=spec, replaces=sorted(names))

    def delete(self, evaluation_id: str) -> None:
        """Forget an evaluation with its outputs and scores. Raises `EvaluationRunning`."""
        record = self._at_rest(evaluation_id)
        self.figures.forget(record.id)
        self.store.delete(record.id)

    def _at_rest(self, evaluation_id: str) -> EvaluationRecord:
        return must_rest(self.get(evaluation_id))

    # local runs

    def begin_local(
        self,
        spec: EvaluationSpec,
        cases: Iterable[Case] | None,
        columns: Sequence[ScoreColumn],
        *,
        actor: str,
        target_stamp: str = "",
    ) -> EvaluationRecord:
        """Store an evaluation that runs elsewhere; its outputs and scores are sent with `record`.

        Without `cases` those of the dataset or file that `spec` names. Raises what reading them raises.
        """
        check_spec(spec)
        found = None
        if cases is None:
            wanted = spec.dataset or spec.file
            if wanted is None:
                raise EvaluationInvalid("There are no cases: name a `dataset` or a `file`.")
            found = self._ports.cases.read(wanted, where=spec.where, limit=spec.limit, seed=spec.seed)
            cases = found.cases
        record = self._new_record(spec, actor=actor)
        record = msgspec.structs.replace(
            record,
            state="running",
            is_local=True,
            started_ns=self.store.now_ns(),
            columns=list(columns),
            dataset=None if found is None else found.ref,
            dataset_stamp="" if found is None else found.stamp,
            target_stamp=target_stamp or record.target_stamp,
        )
        return self.store.add_with_cases(record, cases)

    def reopen_local(self, evaluation_id: str) -> EvaluationRecord:
        """Let a local run go on that stopped or was killed."""
        record = self.store.get(evaluation_id)
        if not record.is_local:
            raise EvaluationInvalid(
                f"Evaluation {record.id} runs in control; `penstock eval resume` goes on."
            )
        self.figures.forget(record.id)
        return self.store.update(record.id, state="running", finished_ns=None, reason=None, error=None)

    def record(
        self,
        evaluation_id: str,
        outputs: Sequence[tuple[Output, str | None]] = (),
        scores: Sequence[tuple[str, int, Score]] = (),
    ) -> EvaluationRecord:
        """Store outputs (with their request keys) and scores (case id, repeat, score) of a local run.

        The same again changes nothing. Raises `OutputsInvalid` for cases that the evaluation has not, for values that a score
        cannot have, and once the run has ended: its figures, and verdicts that rest on them, stay as they are.
        """
        record = self.store.get(evaluation_id)
        if not record.is_local or record.set_id is None:
            raise OutputsInvalid(f"Evaluation {record.id} does not run elsewhere; nothing can be sent to it.")
        if record.state != "running":
            raise OutputsInvalid(
                f"Evaluation {record.id} is {record.state}; nothing more is taken.",
                hint=f"A run that goes on opens it again: `--resume {record.id}`.",
            )
        check_values(record.columns, scores)
        if len(outputs) > MAX_RECORDED or len(scores) > MAX_RECORDED:
            raise OutputsInvalid(f"At most {MAX_RECORDED} outputs and scores are taken at once.")
        at = self._positions(record.set_id, outputs, scores)
        stored = [
            StoredOutput(
                position=at[output.case_id],
                output=output,
                is_final=output.error is None or not output.error.is_transient,
                request_key=key if output.status == "ok" else None,
            )
            for output, key in outputs
        ]
        self.store.write(record.id, stored, scores)
        self._tell_traces(record.id, scores)
        return self.store.count(record.id)

    def _positions(
        self,
        set_id: str,
        outputs: Sequence[tuple[Output, str | None]],
        scores: Sequence[tuple[str, int, Score]],
    ) -> Mapping[str, int]:
        ids = {output.case_id for output, _ in outputs} | {case_id for case_id, _, _ in scores}
        found = {key.case_id: key.position for key in self.store.keys(set_id) if key.case_id in ids}
        unknown = sorted(ids - found.keys())
        if unknown:
            raise OutputsInvalid(f"The evaluation has no case {unknown[0]!r} ({len(unknown)} are unknown).")
        return found

    def _tell_traces(self, evaluation_id: str, scores: Sequence[tuple[str, int, Score]]) -> None:
        sink: SpanScores | None = self._ports.span_scores
        if sink is None or not scores:
            return
        traces = {
            (output.case_id, output.repeat): output.trace_id
            for output in self.store.outputs(evaluation_id, sorted({case_id for case_id, _, _ in scores}))
            if output.trace_id is not None and not output.is_cached
        }
        now_ns = self.store.now_ns()
        told = [
            SpanScore(
                name=score.name,
                value=score.value,
                label=score.label,
                status=score.status,
                source=score.source,
                scorer=score.scorer,
                identifier=f"{STORED}{evaluation_id}",
                comment=score.reason,
                time_ns=now_ns,
                trace_id=traces[case_id, repeat],
            )
            for case_id, repeat, score in scores
            if (case_id, repeat) in traces and score.status != "skipped"
        ]
        if told:
            sink.add(told)

    def work(self, evaluation_id: str, *, after: int, limit: int = 200) -> Sequence[dict[str, Any]]:
        """Return the next cases of a local run with what is there of them: what it goes on from."""
        record = self.store.get(evaluation_id)
        if record.set_id is None:
            return []
        return [
            {
                "position": each.position,
                "case": each.case,
                "outputs": list(each.outputs.values()),
                "scored": sorted(each.scored),
            }
            for each in self.store.work(record.id, record.set_id, after=after, limit=limit)
        ]

    def finish_local(
        self,
        evaluation_id: str,
        *,
        state: EvaluationState = "done",
        reason: str | None = None,
        columns: Sequence[ScoreColumn] = (),
    ) -> EvaluationRecord:
        """Say that a local run has ended; one that has ended already stays as it is."""
        record = self.store.get(evaluation_id)
        if not record.is_local:
            raise EvaluationInvalid(f"Evaluation {record.id} does not run elsewhere.")
        self.figures.forget(record.id)
        if record.state in AT_REST:
            is_named = bool(record.columns) or not columns
            return record if is_named else self.store.update(record.id, columns=list(columns))
        fields: dict[str, Any] = {"columns": list(columns)} if columns else {}
        return self.store.count(
            record.id, state=state, reason=reason, finished_ns=self.store.now_ns(), eta_s=None, **fields
        )

    # reading

    def list(self, query: EvaluationQuery | None = None) -> EvaluationPage:
        """Return one page, newest first."""
        page = self.store.page(query or EvaluationQuery())
        return msgspec.structs.replace(page, rows=[self._queue.settled(row) for row in page.rows])

    def get(self, evaluation_id: str) -> EvaluationRecord:
        """Return one evaluation as it stands; `eval:ID` is taken too. Raises `UnknownEvaluation`."""
        return self._queue.settled(self.store.get(evaluation_id))

    def columns(self, evaluation_id: str) -> Sequence[ScoreColumn]:
        """Return every score that it has."""
        return self.figures.columns(self.store.get(evaluation_id))

    def cases(self, evaluation_id: str, query: CaseQuery | None = None) -> CasePage:
        """Return one page of cases with outputs and scores."""
        return self._pages.cases(self.store.get(evaluation_id), query or CaseQuery())

    def case(self, evaluation_id: str, case_id: str) -> CaseView:
        """Return one case with outputs and scores. Raises `UnknownCase`."""
        return self._pages.case(self.store.get(evaluation_id), case_id)

    def answered(self, evaluation_id: str) -> Sequence[AnsweredCase]:
        """Return every answer that is ok, in order, without its text."""
        record = self.store.get(evaluation_id)
        return [] if record.set_id is None else self._pages.answered(record)

    def estimates(self, evaluation_id: str, *, level: float = 0.95) -> EstimateReport:
        """Return the figures: one estimate a score, by slice, errors in groups."""
        record = self.store.get(evaluation_id)
        report = self.figures.report(record, level=level)
        return self._correct(record, report) if self._correct is not None else report

    def scored_cases(self, evaluation_id: str, score: str) -> tuple[Sequence[ScoredCase], ScoreColumn]:
        """Return the statistics' cases of one score, and what it is. Raises `UnknownScore`."""
        record = self.store.get(evaluation_id)
        column = self.figures.column(record, score)
        return self.figures.scored_cases(record, score), column

    def different_cases(self, baseline: str, candidate: str) -> frozenset[str]:
        """Return the ids under which two evaluations were asked different things; such cases are no pairs."""
        return self.figures.different_cases(self.store.get(baseline), self.store.get(candidate))

    def compare(
        self,
        baseline: str,
        candidate: str,
        *,
        scores: Sequence[str] = (),
        level: float = 0.95,
        correction: str | None = "holm",
    ) -> ComparisonReport:
        """Return the paired comparison of two evaluations, all scores that both have unless named."""
        one, other = self.store.get(baseline), self.store.get(candidate)
        return self.figures.compare(one, other, names=scores, level=level, correction=correction)

    def compared_cases(
        self, baseline: str, candidate: str, query: ComparedQuery | None = None
    ) -> ComparedPage:
        """Return one page of cases with both sides."""
        one, other = self.store.get(baseline), self.store.get(candidate)
        return self._pages.compared(one, other, query or ComparedQuery())

    def leaderboard(self, evaluation_ids: Sequence[str], *, score: str | None = None) -> Leaderboard:
        """Return evaluations over the same cases by quality, cost and latency."""
        records = [self.store.get(each) for each in evaluation_ids]
        return make_leaderboard(
            self.figures, [(record.target, {}, record) for record in records], score=score
        )
