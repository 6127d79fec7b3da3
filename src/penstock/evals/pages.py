"""Pages of cases: of one evaluation, and of two side by side. Filters and orders by keys and values; reads content of one page alone."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Row

from penstock.base.errors import InvalidInput
from penstock.evals.errors import UnknownCase
from penstock.evals.figures import Figures
from penstock.evals.statistics.types import ScoredCase
from penstock.evals.store import CaseKey, EvaluationStore
from penstock.evals.types import (
    AnsweredCase,
    CasePage,
    CaseQuery,
    CaseView,
    ChangeKind,
    ComparedCase,
    ComparedPage,
    ComparedQuery,
    EvaluationRecord,
    ScoreColumn,
)
from penstock.spec.cases import Output
from penstock.spec.scores import Score

MAX_PAGE = 500
ReadScore = Callable[[str], Mapping[str, ScoredCase]]
"""Returns the cases of one score by id; read once for filter and order."""


class Pages:
    """Reads cases with outputs and scores. May be called from any thread."""

    def __init__(self, store: EvaluationStore, figures: Figures) -> None:
        self._store = store
        self._figures = figures

    def cases(self, record: EvaluationRecord, query: CaseQuery) -> CasePage:
        """Return one page of cases."""
        if record.set_id is None:
            return CasePage(rows=[], n_matching=0)
        keys = self._store.keys(record.set_id)
        read = cache(lambda name: _by_id(self._figures.scored_cases(record, name)))
        chosen = self._filter(record, keys, query, read)
        chosen = self._sort(record, chosen, query, read)
        page, cursor = _cut(chosen, query.cursor, query.limit)
        rows = self.views(record, [key.position for key in page])
        return CasePage(rows=[rows[key.position] for key in page], n_matching=len(chosen), next_cursor=cursor)

    def case(self, record: EvaluationRecord, case_id: str) -> CaseView:
        """Return one case; raises `UnknownCase`."""
        position = None if record.set_id is None else self._store.position_of(record.set_id, case_id)
        if position is None:
            raise UnknownCase(f"Evaluation {record.id} has no case {case_id!r}.")
        return self.views(record, [position])[position]

    def views(self, record: EvaluationRecord, positions: Sequence[int]) -> dict[int, CaseView]:
        """Return cases by position, whole."""
        assert record.set_id is not None
        cases = self._store.cases_at(record.set_id, positions)
        ids = [case.id for case in cases.values()]
        outputs: dict[str, list[Output]] = {}
        for output in self._store.outputs(record.id, ids):
            outputs.setdefault(output.case_id, []).append(output)
        scores: dict[str, dict[int, list[Score]]] = {}
        for case_id, repeat, score in self._store.scores(record.id, ids):
            scores.setdefault(case_id, {}).setdefault(repeat, []).append(score)
        order = {column.name: number for number, column in enumerate(record.columns)}
        return {
            position: _view(position, case, outputs.get(case.id, []), scores.get(case.id, {}), order)
            for position, case in cases.items()
        }

    def answered(self, record: EvaluationRecord) -> list[AnsweredCase]:
        """Return every answer that is ok, in order, without its text."""
        assert record.set_id is not None
        splits = self._store.splits(record.set_id)
        judged: dict[tuple[str, int], list[Score]] = {}
        for row in self._store.judged(record.id):
            score = Score(name=row.name, value=row.value, status=row.status, scorer=row.stamp, source="model")
            judged.setdefault((row.case_id, row.repeat), []).append(score)
        return [
            AnsweredCase(
                case_id=row.case_id,
                repeat=row.repeat,
                split=splits.get(row.case_id),
                judged=judged.get((row.case_id, row.repeat), []),
            )
            for row in self._store.output_facts(record.id)
            if row.status == "ok"
        ]

    def compared(
        self, baseline: EvaluationRecord, candidate: EvaluationRecord, query: ComparedQuery
    ) -> ComparedPage:
        """Return one page of cases with both sides, in the order of the baseline, then what only the candidate has."""
        first, second = _keys(self._store, baseline), _keys(self._store, candidate)
        name = query.score or _common(self._figures, baseline, candidate)
        column = None if name is None else self._figures.column(candidate, name)
        values = [
            {} if name is None else _by_id(self._figures.scored_cases(record, name))
            for record in (baseline, candidate)
        ]
        facts = [self._store.output_facts(record.id) for record in (baseline, candidate)]
        digests = [_digests(rows) for rows in facts]
        failed = [_failed(rows) for rows in facts]
        ids = [*first, *(case_id for case_id in second if case_id not in first)]
        found: list[tuple[str, ChangeKind, float | None, bool]] = []
        counts: dict[str, int] = {}
        for case_id in ids:
            is_text_changed = digests[0].get(case_id) != digests[1].get(case_id)
            difference = _difference(values[0].get(case_id), values[1].get(case_id))
            if case_id not in first or case_id not in second:
                change: ChangeKind = "only_one"
            elif case_id in failed[0] or case_id in failed[1]:
                change = "errored"
            else:
                change = _change(
                    difference, column, has_score=name is not None, is_text_changed=is_text_changed
                )
            counts[change] = counts.get(change, 0) + 1
            if is_text_changed and change != "changed":
                counts["changed"] = counts.get("changed", 0) + 1
            found.append((case_id, change, difference, is_text_changed))
        wanted = self._matching(baseline, candidate, query, first, second)
        chosen = [
            each
            for each in found
            if (query.change is None or each[1] == query.change or (query.change == "changed" and each[3]))
            and (wanted is None or each[0] in wanted)
        ]
        page, cursor = _cut(chosen, query.cursor, query.limit)
        return ComparedPage(
            rows=self._compared_rows(baseline, candidate, page, first, second),
            score=name,
            n_matching=len(chosen),
            counts=counts,
            next_cursor=cursor,
        )

    def _compared_rows(
        self,
        baseline: EvaluationRecord,
        candidate: EvaluationRecord,
        page: Sequence[tuple[str, ChangeKind, float | None, bool]],
        first: Mapping[str, CaseKey],
        second: Mapping[str, CaseKey],
    ) -> list[ComparedCase]:
        at = [[keys[row[0]].position for row in page if row[0] in keys] for keys in (first, second)]
        left = {view.case.id: view for view in self.views(baseline, at[0]).values()} if at[0] else {}
        right = {view.case.id: view for view in self.views(candidate, at[1]).values()} if at[1] else {}
        rows = []
        for case_id, change, difference, is_text_changed in page:
            one, other = left.get(case_id), right.get(case_id)
            shown = other or one
            assert shown is not None
            rows.append(
                ComparedCase(
                    case=shown.case,
                    baseline=one,
                    candidate=other,
                    change=change,
                    is_text_changed=is_text_changed,
                    difference=difference,
                )
            )
        return rows

    def _matching(
        self,
        baseline: EvaluationRecord,
        candidate: EvaluationRecord,
        query: ComparedQuery,
        first: Mapping[str, CaseKey],
        second: Mapping[str, CaseKey],
    ) -> set[str] | None:
        wanted: set[str] | None = None
        if query.slice is not None:
            both = [*first.values(), *second.values()]
            wanted = {key.case_id for key in both if query.slice in key.slices}
        if query.text:
            hits: set[str] = set()
            for record, keys in ((baseline, first), (candidate, second)):
                if record.set_id is not None:
                    at = self._store.find_text(record.set_id, [record.id], query.text)
                    hits |= {key.case_id for key in keys.values() if key.position in at}
            wanted = hits if wanted is None else wanted & hits
        return wanted

    def _filter(
        self, record: EvaluationRecord, keys: Sequence[CaseKey], query: CaseQuery, read: ReadScore
    ) -> list[CaseKey]:
        chosen = [key for key in keys if query.slice is None or query.slice in key.slices]
        if query.text:
            assert record.set_id is not None
            at = self._store.find_text(record.set_id, [record.id], query.text)
            chosen = [key for key in chosen if key.position in at]
        if query.output_status is not None:
            rows = self._store.output_facts(record.id)
            if query.output_status == "skipped":
                answered = {row.case_id for row in rows if row.status != "skipped"}
                chosen = [key for key in chosen if key.case_id not in answered]
            else:
                ids = {row.case_id for row in rows if row.status == query.output_status}
                chosen = [key for key in chosen if key.case_id in ids]
        if query.score is not None and (query.status or query.low is not None or query.high is not None):
            self._figures.column(record, query.score)
            scored = read(query.score)
            chosen = [key for key in chosen if _is_wanted(scored[key.case_id], query)]
        return chosen

    def _sort(
        self, record: EvaluationRecord, keys: list[CaseKey], query: CaseQuery, read: ReadScore
    ) -> list[CaseKey]:
        if query.sort == "position":
            return keys
        by = query.sort.removeprefix("-")
        name = {"latency": "latency_ms", "cost": "cost_usd"}.get(by, query.score or "")
        if not name:
            raise InvalidInput("Say by which score the cases are to be sorted.", where="score")
        self._figures.column(record, name)
        scored = read(name)
        means = {case_id: _mean(case) for case_id, case in scored.items()}
        known = [key for key in keys if means.get(key.case_id) is not None]
        unknown = [key for key in keys if means.get(key.case_id) is None]
        order: Callable[[CaseKey], Any] = lambda key: means[key.case_id]  # noqa: E731 - one line used once
        return [*sorted(known, key=order, reverse=query.sort.startswith("-")), *unknown]


def _view(
    position: int,
    case: Any,
    outputs: list[Output],
    scores: Mapping[int, list[Score]],
    order: Mapping[str, int],
) -> CaseView:
    ordered = {
        repeat: sorted(each, key=lambda score: (order.get(score.name, len(order)), score.name))
        for repeat, each in sorted(scores.items())
    }
    values: dict[str, list[float]] = {}
    for each in ordered.values():
        for score in each:
            if score.value is not None:
                values.setdefault(score.name, []).append(score.value)
    return CaseView(
        position=position,
        case=case,
        outputs=outputs,
        scores=ordered.get(0, next(iter(ordered.values()), [])),
        repeat_scores=ordered if len(outputs) > 1 else {},
        means={name: sum(each) / len(each) for name, each in values.items()},
    )


def _cut(rows: Sequence[Any], cursor: str | None, limit: int) -> tuple[Sequence[Any], str | None]:
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(f"A page holds 1 to {MAX_PAGE} cases.", where="limit")
    if cursor is not None and not cursor.isdigit():
        raise InvalidInput("This is no cursor of cases.", where="cursor")
    start = int(cursor or 0)
    end = start + limit
    return rows[start:end], str(end) if end < len(rows) else None


def _keys(store: EvaluationStore, record: EvaluationRecord) -> dict[str, CaseKey]:
    return {} if record.set_id is None else {key.case_id: key for key in store.keys(record.set_id)}


def _by_id(cases: Sequence[ScoredCase]) -> dict[str, ScoredCase]:
    return {case.case_id: case for case in cases}


def _mean(case: ScoredCase | None) -> float | None:
    return None if case is None or not case.values else sum(case.values) / len(case.values)


def _difference(one: ScoredCase | None, other: ScoredCase | None) -> float | None:
    first, second = _mean(one), _mean(other)
    return None if first is None or second is None else second - first


def _change(
    difference: float | None, column: ScoreColumn | None, *, has_score: bool, is_text_changed: bool
) -> ChangeKind:
    if not has_score or column is None:
        return "changed" if is_text_changed else "same"
    if difference is None:
        return "undefined"
    if abs(difference) < 1e-12:
        return "same"
    if column.direction == "none":
        return "changed" if is_text_changed else "same"
    return "improved" if (difference > 0) == (column.direction == "higher") else "regressed"


def _common(figures: Figures, baseline: EvaluationRecord, candidate: EvaluationRecord) -> str | None:
    theirs = {column.name for column in figures.columns(baseline)}
    return next((column.name for column in figures.columns(candidate) if column.name in theirs), None)


def _digests(rows: Sequence[Row[Any]]) -> dict[str, tuple[str | None, ...]]:
    found: dict[str, tuple[str | None, ...]] = {}
    for row in rows:
        found[row.case_id] = (*found.get(row.case_id, ()), row.text_digest)
    return found


def _failed(rows: Sequence[Row[Any]]) -> set[str]:
    return {row.case_id for row in rows if row.status == "error"}


def _is_wanted(case: ScoredCase, query: CaseQuery) -> bool:
    if query.status is not None:
        counts = {
            "scored": len(case.values),
            "undefined": case.n_undefined,
            "error": case.n_errors,
            "skipped": case.n_skipped,
        }
        if query.status not in counts:
            raise InvalidInput(f"{query.status!r} is no status of a score.", hint=f"Use {', '.join(counts)}.")
        if not counts[query.status]:
            return False
    if query.low is None and query.high is None:
        return True
    mean = _mean(case)
    if mean is None:
        return False
    return (query.low is None or mean >= query.low) and (query.high is None or mean <= query.high)
