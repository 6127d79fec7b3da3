"""Evaluations: start, look, stop, resume, score again, compare. All of it may be called from any thread.

Knows neither datasets nor prompts nor traces: they come in through `ports`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from penstock.evals.types import (
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
from penstock.spec.evaluations import EvaluationSpec, ScorerSpec
from penstock.spec.scores import Score


class EvaluationService:
    """Everything that people and other rooms do with evaluations."""

    def plan(self, spec: EvaluationSpec) -> EvaluationPlan:
        """Return what running it would do and cost; asks no model."""
        raise NotImplementedError

    def start(self, spec: EvaluationSpec, *, actor: str) -> EvaluationRecord:
        """Pin what may move, store the evaluation and queue its run. Raises what reading cases and scorers raises."""
        raise NotImplementedError

    def list(self, query: EvaluationQuery | None = None) -> EvaluationPage:
        """Return one page, newest first."""
        raise NotImplementedError

    def get(self, evaluation_id: str) -> EvaluationRecord:
        """Return one evaluation as it stands; `eval:ID` is taken too. Raises `UnknownEvaluation`."""
        raise NotImplementedError

    def cases(self, evaluation_id: str, query: CaseQuery | None = None) -> CasePage:
        """Return one page of cases with outputs and scores."""
        raise NotImplementedError

    def case(self, evaluation_id: str, case_id: str) -> CaseView:
        """Return one case with outputs and scores. Raises `UnknownCase`."""
        raise NotImplementedError

    def estimates(self, evaluation_id: str, *, level: float = 0.95) -> EstimateReport:
        """Return the figures: one estimate a score, by slice, errors in groups."""
        raise NotImplementedError

    def scored_cases(self, evaluation_id: str, score: str) -> "tuple[list[Any], ScoreColumn]":
        """Return the statistics' `ScoredCase`s of one score, and what it is. Raises `UnknownScore`."""
        raise NotImplementedError

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
        raise NotImplementedError

    def compared_cases(
        self, baseline: str, candidate: str, query: ComparedQuery | None = None
    ) -> ComparedPage:
        """Return one page of cases with both sides."""
        raise NotImplementedError

    def leaderboard(self, evaluation_ids: Sequence[str], *, score: str | None = None) -> Leaderboard:
        """Return evaluations over the same cases by quality, cost and latency."""
        raise NotImplementedError

    def stop(self, evaluation_id: str, *, reason: str = "stopped by hand") -> EvaluationRecord:
        """End the run; what it has is valid. Calls under way are waited for."""
        raise NotImplementedError

    def resume(self, evaluation_id: str, *, budget: dict[str, Any] | None = None) -> EvaluationRecord:
        """Ask what has no final output yet and score what has no score yet; with another budget if one is given."""
        raise NotImplementedError

    def rescore(
        self,
        evaluation_id: str,
        scorers: Sequence[ScorerSpec],
        *,
        actor: str,
        is_new: bool = True,
        name: str | None = None,
    ) -> EvaluationRecord:
        """Score stored outputs by other scorers: as a new evaluation, or as further scores of this one."""
        raise NotImplementedError

    def delete(self, evaluation_id: str) -> None:
        """Forget an evaluation with its outputs and scores. Raises `EvaluationRunning`."""
        raise NotImplementedError

    def begin_local(
        self, spec: EvaluationSpec, cases: Iterable[Case], columns: Sequence[ScoreColumn], *, actor: str
    ) -> EvaluationRecord:
        """Store an evaluation that runs elsewhere; its outputs and scores are sent with `record`."""
        raise NotImplementedError

    def record(
        self,
        evaluation_id: str,
        outputs: Sequence[Output] = (),
        scores: "Sequence[tuple[str, int, Score]]" = (),
    ) -> EvaluationRecord:
        """Store outputs and scores (case id, repeat, score) of a local run; the same again changes nothing."""
        raise NotImplementedError

    def finish_local(
        self, evaluation_id: str, *, state: str = "done", reason: str | None = None
    ) -> EvaluationRecord:
        """Say that a local run has ended."""
        raise NotImplementedError
