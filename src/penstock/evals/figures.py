"""Figures of stored evaluations: estimates, comparisons, leaderboards. Reads scores, asks statistics, says what may not be compared.

Besides its scores an evaluation has figures of its outputs (`latency_ms`, `cost_usd` …), which are read the same way.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Row

from penstock.base.errors import PenstockError, suggest
from penstock.evals.early_stop import hold_comparison, hold_estimate, saved_by
from penstock.evals.errors import EvaluationInvalid, UnknownScore
from penstock.evals.gates.figures_text import difference_text
from penstock.evals.scorers.types import Figure, Preparable, Scorer
from penstock.evals.statistics.comparisons import compare, compare_slices, correct
from penstock.evals.statistics.estimates import estimate, estimate_slices
from penstock.evals.statistics.sheets import make_sheet
from penstock.evals.statistics.types import ScoredCase
from penstock.evals.store import CaseKey, EvaluationStore
from penstock.evals.types import (
    ComparisonReport,
    ErrorGroup,
    EstimateReport,
    EvaluationRecord,
    ScoreColumn,
)
from penstock.spec.cases import Output
from penstock.spec.evaluations import Comparison, Estimate, ScorerSpec
from penstock.spec.rendering import RENDERER_ASSET

OPERATIONAL: Mapping[str, ScoreColumn] = {
    "latency_ms": ScoreColumn(
        name="latency_ms",
        stamp="latency_ms@1",
        counted_by="case",
        direction="lower",
        scale="unbounded",
        high=None,
        unit="ms",
        summary="How long an answer took.",
    ),
    "ttft_ms": ScoreColumn(
        name="ttft_ms",
        stamp="ttft_ms@1",
        counted_by="case",
        direction="lower",
        scale="unbounded",
        high=None,
        unit="ms",
        summary="How long the first token took.",
    ),
    "cost_usd": ScoreColumn(
        name="cost_usd",
        stamp="cost_usd@1",
        counted_by="case",
        direction="lower",
        scale="unbounded",
        high=None,
        unit="usd",
        summary="What an answer cost when it was made.",
    ),
    "output_tokens": ScoreColumn(
        name="output_tokens",
        stamp="output_tokens@1",
        counted_by="case",
        direction="none",
        scale="unbounded",
        high=None,
        unit="tokens",
        summary="How long an answer is.",
    ),
    "errors": ScoreColumn(
        name="errors",
        stamp="errors@1",
        counted_by="case",
        direction="lower",
        scale="binary",
        summary="Share of cases without an answer.",
    ),
}
"""Figures of outputs, under names that no scorer should have."""
_KEPT = 64
_numbers = msgspec.json.Decoder(list[float])
MAX_SLICES = 100
"""More values of a slice key are no slices but ids."""


class Figures:
    """Reads figures from the store. May be called from any thread."""

    def __init__(self, store: EvaluationStore, create_scorer: Callable[[ScorerSpec], Scorer]) -> None:
        self._store = store
        self._create = create_scorer
        self._lock = threading.Lock()
        self._reports: OrderedDict[tuple[Any, ...], EstimateReport] = OrderedDict()

    def columns(self, record: EvaluationRecord) -> list[ScoreColumn]:
        """Return every score of an evaluation: those of its scorers, then further ones that these gave beside their main one."""
        known = {column.name: column for column in record.columns}
        by_stamp = {column.stamp: column for column in record.columns}
        further: list[ScoreColumn] = []
        for name, stamp in self._store.score_names(record.id):
            if name not in known and name not in {column.name for column in further}:
                like = by_stamp.get(stamp)
                further.append(
                    ScoreColumn(name=name, stamp=stamp)
                    if like is None
                    else ScoreColumn(
                        name=name,
                        stamp=stamp,
                        direction=like.direction,
                        scale="unbounded" if like.scale == "unbounded" else "bounded",
                        low=like.low,
                        high=like.high,
                        counted_by=like.counted_by,
                        source=like.source,
                    )
                )
        return [*record.columns, *further]

    def column(self, record: EvaluationRecord, name: str) -> ScoreColumn:
        """Return what a score is; raises `UnknownScore`."""
        columns = self.columns(record)
        found = next((column for column in columns if column.name == name), None) or OPERATIONAL.get(name)
        if found is None:
            known = [column.name for column in columns] + list(OPERATIONAL)
            raise UnknownScore(
                f"Evaluation {record.id} has no score {name!r}; it has {', '.join(known)}.",
                hint=suggest(name, known),
            )
        return found

    def figure(self, record: EvaluationRecord, column: ScoreColumn) -> Figure | None:
        """Return how the figure of a score is made where that is not the mean; None for the mean, or where nobody can say."""
        if not column.has_figure or not column.scorer:
            return None
        spec = ScorerSpec(scorer=column.scorer, name=column.name, parameters=column.parameters)
        scorer = self._create(spec)
        if isinstance(scorer, Preparable) and record.set_id is not None:
            scorer = scorer.prepare(self._store.cases(record.set_id))
        return scorer.figure

    def scored_cases(self, record: EvaluationRecord, name: str) -> list[ScoredCase]:
        """Return all cases of an evaluation with their values of one score; those that were not asked are skipped."""
        if record.set_id is None:
            return []
        keys = self._store.keys(record.set_id)
        if name in OPERATIONAL and all(column.name != name for column in self.columns(record)):
            return _operational(keys, self._store.output_facts(record.id), name)
        found = _Found()
        for row in self._store.values(record.id, name):
            case_id, status, value, statistics = tuple(row)
            if status == "scored":
                found.add(case_id, value)
                if statistics is not None:
                    found.statistics.setdefault(case_id, []).append(_numbers.decode(statistics))
            else:
                found.miss(case_id, status)
        return found.cases(keys)

    def different_cases(self, baseline: EvaluationRecord, candidate: EvaluationRecord) -> frozenset[str]:
        """Return the ids under which the two were asked different things; such cases are no pairs."""
        if baseline.set_id is None or candidate.set_id is None:
            return frozenset()
        if baseline.cases_digest and baseline.cases_digest == candidate.cases_digest:
            return frozenset()
        return self._store.different_cases(baseline.set_id, candidate.set_id)

    def baseline_cases(
        self, baseline: EvaluationRecord, candidate: EvaluationRecord, name: str
    ) -> list[ScoredCase]:
        """Return the cases of a baseline that the candidate's may be paired with."""
        others = self.different_cases(baseline, candidate)
        return [case for case in self.scored_cases(baseline, name) if case.case_id not in others]

    # estimates

    def report(self, record: EvaluationRecord, *, level: float = 0.95) -> EstimateReport:
        """Return the figures of an evaluation; kept until it changes."""
        key = (record.id, record.state, record.finished_ns, record.n_outputs, len(record.columns), level)
        is_still = record.state not in {"queued", "running"}
        with self._lock:
            if is_still and key in self._reports:
                self._reports.move_to_end(key)
                return self._reports[key]
        report = self._report(record, level)
        if is_still:
            with self._lock:
                self._reports[key] = report
                while len(self._reports) > _KEPT:
                    self._reports.popitem(last=False)
        return report

    def forget(self, evaluation_id: str) -> None:
        """Forget what is kept of an evaluation."""
        with self._lock:
            for key in [key for key in self._reports if key[0] == evaluation_id]:
                del self._reports[key]

    def _report(self, record: EvaluationRecord, level: float) -> EstimateReport:
        estimates: list[Estimate] = []
        slices: list[Estimate] = []
        notes: list[str] = []
        for column in self.columns(record):
            cases = make_sheet(self.scored_cases(record, column.name))
            try:
                figure = self.figure(record, column)
            except PenstockError as error:
                notes.append(f"{column.name}: its figure cannot be made again: {error.message}")
                continue
            if column.has_figure and figure is None:
                notes.append(f"{column.name}: the mean of its values, since its own figure is user code.")
            made = estimate(cases, column, name=column.name, level=level, figure=figure)
            rule = record.spec.stop_when
            if rule is not None and rule.score == column.name and figure is None:
                scored = self.scored_cases(record, column.name)
                made = hold_estimate(made, scored, column, seed=record.spec.seed)
            estimates.append(made)
            n_slices = len(cases.parts)
            if n_slices > MAX_SLICES:
                notes.append(f"{column.name}: {n_slices} slices are too many to be shown.")
            elif n_slices:
                slices += estimate_slices(cases, column, name=column.name, level=level, figure=figure)
        own = {each.name for each in estimates}
        facts = self._store.output_facts(record.id)
        keys = [] if record.set_id is None else self._store.keys(record.set_id)
        for name, column in OPERATIONAL.items():
            if name in own or (name == "ttft_ms" and record.n_ok == 0):
                continue
            made = estimate(_operational(keys, facts, name), column, name=name, level=level)
            if made.value is not None:
                estimates.append(made)
        return EstimateReport(
            evaluation=record.id,
            estimates=estimates,
            slices=slices,
            errors=group_errors(self._store, record.id),
            notes=[*notes, *_notes(record)],
        )

    # comparisons

    def compare(
        self,
        baseline: EvaluationRecord,
        candidate: EvaluationRecord,
        *,
        names: Sequence[str] = (),
        level: float = 0.95,
        correction: str | None = "holm",
    ) -> ComparisonReport:
        """Return the paired comparison, score by score; what may not be compared is `invalid` and says why."""
        problems = [*self.find_problems(baseline, candidate), *_tell_rendering(baseline, candidate)]
        theirs = {column.name: column for column in self.columns(baseline)}
        ours = {column.name: column for column in self.columns(candidate)}
        wanted = list(names) or [name for name in ours if name in theirs]
        comparisons: list[Comparison] = []
        slices: list[Comparison] = []
        for name in wanted:
            column = ours.get(name) or self.column(candidate, name)
            other = theirs.get(name) or self.column(baseline, name)
            told = problem_of(column, other)
            if told is not None:
                problems.append(told)
                comparisons.append(_invalid(column, told, level))
                continue
            figure = self.figure(candidate, column)
            first = make_sheet(self.baseline_cases(baseline, candidate, name))
            second = make_sheet(self.scored_cases(candidate, name))
            comparisons.append(compare(first, second, column, name=name, level=level, figure=figure))
            if len(second.parts) <= MAX_SLICES:
                slices += compare_slices(first, second, column, name=name, level=level, figure=figure)
        if correction is not None and len([each for each in comparisons if each.word != "invalid"]) > 1:
            comparisons = _correct_valid(comparisons, correction)
        comparisons = [self._held(each, baseline, candidate) for each in comparisons]
        return ComparisonReport(
            baseline=baseline,
            candidate=candidate,
            comparisons=comparisons,
            slices=slices,
            problems=problems,
            sentences=[
                sentence_of(each, ours.get(each.name) or self.column(candidate, each.name))
                for each in comparisons
            ],
        )

    def _held(self, made: Comparison, baseline: EvaluationRecord, candidate: EvaluationRecord) -> Comparison:
        """Return the comparison by which the candidate's run could stop with an interval that holds at any stop."""
        rule = candidate.spec.stop_when
        if rule is None or rule.baseline is None or rule.score != made.name:
            return made
        if rule.baseline.removeprefix("eval:") not in {baseline.id, baseline.name}:
            return made
        return hold_comparison(
            made,
            self.baseline_cases(baseline, candidate, made.name),
            self.scored_cases(candidate, made.name),
            self.column(candidate, made.name),
            seed=candidate.spec.seed,
        )

    def find_problems(self, baseline: EvaluationRecord, candidate: EvaluationRecord) -> list[str]:
        """Return what stands against comparing two evaluations, in sentences."""
        problems = []
        if baseline.set_id is None or candidate.set_id is None:
            problems.append("One of the two has read no cases yet.")
        elif baseline.cases_digest != candidate.cases_digest:
            problems.append(
                f"They were asked different cases: {baseline.dataset or 'a file'} ({baseline.cases_digest}) and "
                f"{candidate.dataset or 'a file'} ({candidate.cases_digest}). Only cases are paired that have the same id, question and expected answer."
            )
        for side, record in (("baseline", baseline), ("candidate", candidate)):
            if record.state in {"queued", "running"}:
                problems.append(f"The {side} is still running: these figures will change.")
            elif record.state in {"stopped", "failed"}:
                problems.append(
                    f"The {side} {record.state} before its end: {record.reason or 'no reason given'}."
                )
        return problems


def problem_of(column: ScoreColumn, other: ScoreColumn) -> str | None:
    """Return why two scores of one name may not be compared, or None."""
    if column.stamp != other.stamp:
        return (
            f"{column.name}: the baseline was scored by {other.stamp}, the candidate by {column.stamp}; "
            "score one of them again with the other's scorer."
        )
    return None


def group_errors(store: EvaluationStore, evaluation_id: str) -> list[ErrorGroup]:
    """Return what failed, alike together, the most frequent first."""
    groups: dict[tuple[str, str], ErrorGroup] = {}
    for where, case_id, failed in store.failed(evaluation_id):
        if isinstance(failed, Output):
            code = failed.error.code if failed.error is not None else "unknown"
            message = failed.error.message if failed.error is not None else ""
            is_transient = failed.error is not None and failed.error.is_transient
        else:
            message = failed.reason or ""
            code, is_transient = failed.fault or "error", False
        seen = groups.get((where, code))
        groups[where, code] = ErrorGroup(
            code=code,
            where=where,
            n=1 if seen is None else seen.n + 1,
            example=message if seen is None else seen.example,
            case_id=case_id if seen is None else seen.case_id,
            is_transient=is_transient,
        )
    return sorted(groups.values(), key=lambda group: -group.n)


def sentence_of(comparison: Comparison, column: ScoreColumn) -> str:
    """Return what a comparison says, in words; differences in points are hundredths of the column's range."""
    name, word = comparison.name, comparison.word
    if comparison.difference is None or word == "invalid":
        return f"{name}: no verdict: {comparison.reason or 'no case has a score on both sides'}"
    interval = ""
    if comparison.low is not None and comparison.high is not None:
        low, high = (difference_text(each, column) for each in (comparison.low, comparison.high))
        interval = (
            f" ({comparison.level * 100:g} % interval {low} to {high}, {comparison.n_pairs} paired cases)"
        )
    verdict = {"better": "better", "worse": "worse"}.get(word, "not decided")
    return f"{name}: {difference_text(comparison.difference, column)}{interval}: {verdict}."


def _correct_valid(comparisons: Sequence[Comparison], correction: str) -> list[Comparison]:
    if correction not in {"holm", "bh"}:
        raise EvaluationInvalid(f"{correction!r} is no correction.", hint="Use holm, bh or none.")
    valid = [each for each in comparisons if each.word != "invalid"]
    fixed = iter(correct(valid, correction="holm" if correction == "holm" else "bh"))
    return [each if each.word == "invalid" else next(fixed) for each in comparisons]


def _invalid(column: ScoreColumn, reason: str, level: float) -> Comparison:
    return Comparison(
        name=column.name,
        baseline=None,
        candidate=None,
        difference=None,
        level=level,
        word="invalid",
        reason=reason,
        direction=column.direction,
        scale=column.scale,
        unit=column.unit,
    )


class _Found:
    """What was read of one score, by case."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.statistics: dict[str, list[list[float]]] = {}
        self.missing: dict[str, list[int]] = {}
        """Undefined, failed, not asked."""

    def add(self, case_id: str, value: float) -> None:
        values = self.values.get(case_id)
        if values is None:
            self.values[case_id] = [value]
        else:
            values.append(value)

    def miss(self, case_id: str, status: str) -> None:
        counts = self.missing.setdefault(case_id, [0, 0, 0])
        counts[{"undefined": 0, "error": 1}.get(status, 2)] += 1

    def cases(self, keys: Sequence[CaseKey]) -> list[ScoredCase]:
        """Return every case; one of which nothing was found is skipped."""
        made = []
        none: list[Any] = []  # one for all: nobody writes into a case
        for key in keys:
            values = self.values.get(key.case_id, none)
            counts = self.missing.get(key.case_id)
            if counts is None:
                counts = _ALL_THERE if values else _NOT_ASKED
            made.append(
                ScoredCase(
                    case_id=key.case_id,
                    group=key.group,
                    values=values,
                    statistics=self.statistics.get(key.case_id, none),
                    slices=key.slices,
                    n_undefined=counts[0],
                    n_errors=counts[1],
                    n_skipped=counts[2],
                )
            )
        return made


_ALL_THERE, _NOT_ASKED = [0, 0, 0], [0, 0, 1]


def _operational(keys: Sequence[CaseKey], rows: Sequence[Row[Any]], name: str) -> list[ScoredCase]:
    found = _Found()
    for row in rows:
        if row.status == "skipped":
            found.miss(row.case_id, "skipped")
        elif name == "errors":
            found.add(row.case_id, 1.0 if row.status == "error" else 0.0)
        elif row.status == "error" and name != "cost_usd":
            found.miss(row.case_id, "error")
        else:
            value = row.original_cost_usd if name == "cost_usd" and row.is_cached else getattr(row, name)
            if value is None:
                found.miss(row.case_id, "undefined")
            else:
                found.add(row.case_id, float(value))
    return found.cases(keys)


def _tell_rendering(baseline: EvaluationRecord, candidate: EvaluationRecord) -> list[str]:
    """Return a sentence where prompts became tokens in two ways: a difference may be that and not the model."""
    before, after = (
        sorted({stamp for asset, stamp in each.versions.items() if asset.startswith(RENDERER_ASSET)})
        for each in (baseline, candidate)
    )
    if not before or not after or before == after:
        return []
    told = [", ".join(stamp.partition("@")[0] for stamp in each) for each in (before, after)]
    sentence = f"Their prompts were rendered by different renderers: {told[0]} and {told[1]}."
    return [
        f"{sentence} What differs may be how messages became tokens, and not what the model makes of them."
    ]


def _notes(record: EvaluationRecord) -> list[str]:
    notes = []
    if record.n_cost_unknown:
        notes.append(f"The cost of {record.n_cost_unknown} calls is unknown; the sum is of the others.")
    if record.n_cached:
        notes.append(f"{record.n_cached} outputs were kept from earlier evaluations and cost nothing again.")
    if record.state == "stopped":
        notes.append(f"It stopped before its end: {record.reason or 'no reason given'}.")
    saved = saved_by(record)
    if saved is not None:
        notes.append(saved)
    if record.n_skipped:
        notes.append(f"{record.n_skipped} outputs were not asked for.")
    return notes
