"""Intervals, differences and gates of retrieval, by the statistics that evaluations use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.base.errors import NotFound, suggest
from penstock.evals.gates.grammar import parse_rule
from penstock.evals.gates.judging import judge_rules
from penstock.evals.gates.look_types import Room
from penstock.evals.gates.sides import Side
from penstock.evals.statistics.comparisons import compare, correct
from penstock.evals.statistics.estimates import estimate, estimate_slices
from penstock.evals.statistics.quantiles import quantile
from penstock.evals.statistics.types import PlainMeasure, ScoredCase
from penstock.evals.types import EvaluationRecord, ScoreColumn
from penstock.knowledge.quality.ports import Figure, Sheet, Values, Verdict
from penstock.spec.evaluations import Comparison, Estimate, EvaluationSpec, TargetSpec

MIN_COVERAGE = 0.95


class EvaluationScoring:
    """`knowledge.quality.ports.Scoring` and `Judging` over the room of evaluations. May be called from any thread."""

    def estimate(
        self, figure: Figure, values: Values, *, level: float, with_slices: bool = False
    ) -> Sequence[Estimate]:
        """Return the figure with its interval; see the port."""
        cases, measure = as_cases(values), measure_of(figure)
        found = [estimate(cases, measure, level=level)]
        if with_slices:
            found += estimate_slices(cases, measure, level=level)
        return found

    def quantile(self, values: Values, share: float, *, level: float) -> Estimate:
        """Return a quantile with its interval."""
        cases = as_cases(values)
        found = quantile([case for case in cases if case.values], share, level=level)
        return Estimate(
            name=f"p{100 * share:g}",
            value=found.value,
            low=found.low,
            high=found.high,
            level=level,
            method=found.method,
            n=found.n,
            n_cases=len(cases),
            direction="lower",
            scale="unbounded",
        )

    def compare(
        self, pairs: Sequence[tuple[Figure, Values, Values]], *, level: float
    ) -> Sequence[Comparison]:
        """Return paired differences, corrected together."""
        return correct(
            [
                compare(as_cases(baseline), as_cases(candidate), measure_of(figure), level=level)
                for figure, baseline, candidate in pairs
            ]
        )

    def check(self, rules: Sequence[str]) -> None:
        """Raise `InvalidInput` for a rule that cannot be read."""
        for rule in rules:
            parse_rule(rule)

    def judge(self, rules: Sequence[str], *, baseline: Sheet, candidate: Sheet, level: float) -> Verdict:
        """Return what rules of a gate say of two sides."""
        read = [parse_rule(rule) for rule in rules]
        sides = SheetEvaluations({"baseline": baseline, "candidate": candidate})
        room = Room(
            candidate=Side(sides, "candidate", lambda _record, _column: None),
            baseline=Side(sides, "baseline", lambda _record, _column: None),
            baseline_problem=None,
            level=level,
            min_coverage=MIN_COVERAGE,
            min_slice_cases=0,
        )
        judged = judge_rules(read, room)
        return Verdict(verdict=judged.verdict, reason=judged.reason, rules=judged.rules)


@dataclass(frozen=True)
class SheetEvaluations:
    """Measured sides as evaluations, so that gates read them: `evals.gates.sides.GateEvaluations`."""

    sheets: Mapping[str, Sheet]

    def get(self, evaluation_id: str) -> EvaluationRecord:
        """Return a record that says no more than that it is done."""
        sheet = self.sheets[evaluation_id]
        n_cases = max((len(values) for _, values in sheet.columns.values()), default=0)
        spec = EvaluationSpec(name=sheet.name, target=TargetSpec(name=sheet.name))
        return EvaluationRecord(
            id=evaluation_id, name=sheet.name, state="done", spec=spec, n_cases=n_cases, n_outputs=n_cases
        )

    def scored_cases(self, evaluation_id: str, score: str) -> tuple[Sequence[ScoredCase], ScoreColumn]:
        """Return a column; raise `NotFound` that names those that there are."""
        columns = self.sheets[evaluation_id].columns
        if score not in columns:
            raise NotFound(
                f"nothing measured is called {score!r}.",
                hint=suggest(score, columns) or f"There are {', '.join(columns)}.",
            )
        figure, values = columns[score]
        measure = measure_of(figure)
        return as_cases(values), ScoreColumn(
            name=figure.name,
            stamp=f"{figure.name}@1",
            direction=measure.direction,
            scale=measure.scale,
            low=measure.low,
            high=measure.high,
            unit=measure.unit,
            counted_by=measure.counted_by,
        )

    def different_cases(self, baseline: str, candidate: str) -> frozenset[str]:
        """Return nothing: both sides were asked the same."""
        _ = baseline, candidate
        return frozenset()


def measure_of(figure: Figure) -> PlainMeasure:
    """Return what statistics know of a figure."""
    is_bounded = figure.low is not None and figure.high is not None
    return PlainMeasure(
        name=figure.name,
        direction="higher" if figure.is_higher_better else "lower",
        scale="binary" if figure.is_binary else "bounded" if is_bounded else "unbounded",
        low=figure.low,
        high=figure.high,
        unit=figure.unit,
        counted_by="case" if figure.is_of_service else "group",
    )


def as_cases(values: Values) -> list[ScoredCase]:
    """Return a column as statistics read it."""
    return [
        ScoredCase(
            case_id=each.id,
            group=each.group,
            values=[] if each.value is None else [each.value],
            slices=each.slices,
            n_undefined=int(each.value is None and not each.is_error),
            n_errors=int(each.value is None and each.is_error),
        )
        for each in values
    ]
