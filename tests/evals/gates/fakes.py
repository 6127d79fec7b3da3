"""Evaluations made of numbers, read by gates as stored ones are."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from penstock.evals.errors import UnknownEvaluation, UnknownScore
from penstock.evals.figures import OPERATIONAL
from penstock.evals.scorers.types import Figure
from penstock.evals.statistics.types import ScoredCase
from penstock.evals.types import EvaluationRecord, ScoreColumn
from penstock.spec.evaluations import EvaluationSpec, TargetSpec

COLUMNS = {
    "token_f1": ScoreColumn(name="token_f1", stamp="token_f1@1#aaaaaaaa"),
    "exact": ScoreColumn(name="exact", stamp="exact@1#aaaaaaaa", scale="binary"),
    "pii": ScoreColumn(name="pii", stamp="pii@1#aaaaaaaa", scale="binary", direction="lower"),
    "stars": ScoreColumn(name="stars", stamp="stars@1#aaaaaaaa", low=1.0, high=5.0),
    **OPERATIONAL,
}
Values = Sequence[float] | Sequence[Sequence[float]] | np.ndarray  # type: ignore[type-arg]


def scored(
    values: Values, *, groups: Sequence[str] | None = None, slices: Sequence[str] = ()
) -> list[ScoredCase]:
    return [
        ScoredCase(
            case_id=f"c{position}",
            group=None if groups is None else groups[position],
            values=[float(each) for each in np.atleast_1d(value)],
            slices=(slices[position % len(slices)],) if slices else (),
        )
        for position, value in enumerate(values)
    ]


class FakeEvaluations:
    """Holds evaluations by id."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[EvaluationRecord, dict[str, list[ScoredCase]]]] = {}
        self._columns: dict[str, dict[str, ScoreColumn]] = {}
        self.different: frozenset[str] = frozenset()

    def put(
        self,
        evaluation_id: str,
        scores: dict[str, list[ScoredCase]],
        *,
        model: str = "prompt:triage@7",
        columns: dict[str, ScoreColumn] | None = None,
        **fields: Any,
    ) -> str:
        n = max((len(cases) for cases in scores.values()), default=0)
        asset, _, number = model.partition("@")
        record = EvaluationRecord(
            id=evaluation_id,
            name="triage",
            state="done",
            spec=EvaluationSpec(name="triage", target=TargetSpec(model=model)),
            versions={asset: f"{number}@sha256:{'0' * 11}{number}"},
            dataset="dataset:questions@1",
            dataset_stamp="1@sha256:dddddddddddd",
            set_id="set_1",
            n_cases=n,
            n_outputs=n,
            n_ok=n,
            cost_usd=Decimal("0.002") * n,
        )
        self._found[evaluation_id] = (msgspec.structs.replace(record, **fields), scores)
        self._columns[evaluation_id] = {**COLUMNS, **(columns or {})}
        return evaluation_id

    def get(self, evaluation_id: str) -> EvaluationRecord:
        wanted = evaluation_id.removeprefix("eval:")
        if wanted not in self._found:
            raise UnknownEvaluation(f"no evaluation {wanted}")
        return self._found[wanted][0]

    def scored_cases(self, evaluation_id: str, score: str) -> tuple[list[ScoredCase], ScoreColumn]:
        scores = self._found[evaluation_id.removeprefix("eval:")][1]
        if score not in scores:
            raise UnknownScore(f"it has no score {score!r}.", hint="It has others.")
        return scores[score], self._columns[evaluation_id][score]

    def different_cases(self, baseline: str, candidate: str) -> frozenset[str]:
        return self.different

    def figure(self, record: EvaluationRecord, column: ScoreColumn) -> Figure | None:
        return None
