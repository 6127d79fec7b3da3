"""What a gate reads of an evaluation: its record, and every score case by case, each read once."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Protocol

from penstock.base.errors import NotFound
from penstock.evals.scorers.types import Figure
from penstock.evals.statistics.types import ScoredCase
from penstock.evals.types import EvaluationRecord, ScoreColumn


class GateEvaluations(Protocol):
    """Evaluations as gates read them; the evaluation service is one."""

    def get(self, evaluation_id: str) -> EvaluationRecord:
        """Return the record; `eval:ID` is taken too. Raises `UnknownEvaluation`."""
        ...

    def scored_cases(self, evaluation_id: str, score: str) -> tuple[Sequence[ScoredCase], ScoreColumn]:
        """Return the cases with their values of a score, and what it is. Raises `UnknownScore`."""
        ...

    def different_cases(self, baseline: str, candidate: str) -> frozenset[str]:
        """Return the ids under which two evaluations were asked different things; such cases are no pairs."""
        ...


FigureOf = Callable[[EvaluationRecord, ScoreColumn], Figure | None]
"""Returns how the figure of a score of an evaluation is made where that is not the mean."""


class Scores:
    """One score of one side."""

    def __init__(self, cases: Sequence[ScoredCase], column: ScoreColumn, figure: Figure | None) -> None:
        self.cases = list(cases)
        self.column = column
        self.figure = figure

    def part(self, part: str | None) -> list[ScoredCase]:
        """Return the cases of a slice, or all."""
        return self.cases if part is None else [case for case in self.cases if part in case.slices]


class Side:
    """One evaluation, the candidate's or the baseline's."""

    def __init__(self, evaluations: GateEvaluations, evaluation_id: str, figure_of: FigureOf) -> None:
        self._evaluations = evaluations
        self._figure_of = figure_of
        self.record = evaluations.get(evaluation_id)
        self._scores: dict[str, Scores | str] = {}

    def scores(self, name: str) -> Scores | str:
        """Return a score of this side, or a sentence that says why it has none."""
        if name not in self._scores:
            try:
                cases, column = self._evaluations.scored_cases(self.record.id, name)
                self._scores[name] = Scores(cases, column, self._figure_of(self.record, column))
            except NotFound as error:
                self._scores[name] = " ".join(text for text in (error.message, error.hint) if text)
        return self._scores[name]

    @property
    def cost_per_output(self) -> Decimal | None:
        """What one more output would cost, judged; None when unknown."""
        record = self.record
        n_paid = record.n_ok + record.n_refused - record.n_cached
        if record.cost_usd is None or n_paid <= 0:
            return None
        return record.cost_usd / n_paid

    @property
    def problem(self) -> str | None:
        """Why nothing can be read from it yet, or None."""
        if self.record.state in {"queued", "running"}:
            return f"evaluation {self.record.id} is still {self.record.state}"
        if self.record.state == "failed":
            return f"evaluation {self.record.id} failed: {self.record.reason or 'no reason was kept'}"
        if not self.record.n_cases:
            return f"evaluation {self.record.id} has no cases"
        return None
