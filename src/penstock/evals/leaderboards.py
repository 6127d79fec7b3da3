"""Leaderboards: quality with intervals that hold together, cost, latency, and who is on the Pareto front.

A best one is named only when it beats each other one after correction (Holm, paired over the same cases).
"""

import statistics
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from penstock.evals.errors import UnknownScore
from penstock.evals.figures import Figures
from penstock.evals.statistics.comparisons import correct
from penstock.evals.statistics.estimates import estimate
from penstock.evals.statistics.families import simultaneous_level
from penstock.evals.types import EvaluationRecord, Leaderboard, LeaderboardRow, ScoreColumn
from penstock.spec.evaluations import Comparison, Estimate

Entry = tuple[str, Mapping[str, Any], EvaluationRecord]
"""Key, settings and evaluation of one row."""
Point = tuple[float | None, float | None, float | None]
LEVEL = 0.95
MAX_FAMILY = 400
"""Resampled p-values end at 1 in 10,000: over more looks than these nothing could be told apart any more."""


def make_leaderboard(figures: Figures, entries: Sequence[Entry], *, score: str | None = None) -> Leaderboard:
    """Return the rows by the score's figure, best first; those without one stand last."""
    if not entries:
        return Leaderboard(
            score=score or "", rows=[], best=None, sentence="There is nothing to be ranked yet."
        )
    name = score or _first_score(figures, entries)
    if name is None:
        raise UnknownScore(
            "None of these evaluations has a score.", hint="Score them: `penstock eval rescore`."
        )
    keys = _unique([key for key, _, _ in entries])
    column = _column(figures, entries, name)
    level = simultaneous_level(LEVEL, len(entries))
    qualities = [_quality(figures, record, name, level) for _, _, record in entries]
    order = sorted(range(len(entries)), key=lambda at: _rank_key(qualities[at], column))
    comparisons = _against_first(figures, entries, keys, order, name)
    beaten = {each.slice or "": each.word for each in comparisons}
    costs = [cost_per_case(figures, record) for _, _, record in entries]
    points = [_point(costs[at], entries[at][2], qualities[at], column) for at in range(len(entries))]
    rows = []
    for rank, at in enumerate(order, 1):
        record = entries[at][2]
        quality = qualities[at]
        rows.append(
            LeaderboardRow(
                rank=rank if quality is not None and quality.value is not None else None,
                key=keys[at],
                evaluation_id=record.id,
                quality=quality,
                cost_per_case_usd=costs[at],
                n_cost_unknown=record.n_cost_unknown,
                p50_latency_ms=record.p50_latency_ms,
                is_front=_is_front(points, at),
                beats=[key for key, word in beaten.items() if word == "better"] if at == order[0] else [],
                settings=dict(entries[at][1]),
            )
        )
    best, sentence = _verdict(rows, beaten, name)
    return Leaderboard(
        score=name,
        rows=rows,
        best=best,
        sentence=sentence,
        comparisons=comparisons,
        problems=_problems(figures, entries),
    )


def cost_per_case(figures: Figures, record: EvaluationRecord) -> Decimal | None:
    """Return the mean cost of a case over those whose cost is known: what the answers cost when they were made."""
    cases = figures.scored_cases(record, "cost_usd")
    values = [sum(case.values) for case in cases if case.values]
    return Decimal(str(round(statistics.fmean(values), 12))) if values else None


def _first_score(figures: Figures, entries: Sequence[Entry]) -> str | None:
    for _, _, record in entries:
        columns = figures.columns(record)
        if columns:
            return columns[0].name
    return None


def _column(figures: Figures, entries: Sequence[Entry], name: str) -> ScoreColumn:
    for _, _, record in entries:
        try:
            return figures.column(record, name)
        except UnknownScore:
            continue
    return figures.column(entries[0][2], name)


def _quality(figures: Figures, record: EvaluationRecord, name: str, level: float) -> Estimate | None:
    try:
        column = figures.column(record, name)
    except UnknownScore:
        return None
    cases = figures.scored_cases(record, name)
    return estimate(cases, column, name=name, level=level, figure=figures.figure(record, column))


def _rank_key(quality: Estimate | None, column: ScoreColumn) -> tuple[bool, float]:
    if quality is None or quality.value is None:
        return True, 0.0
    return False, quality.value if column.direction == "lower" else -quality.value


def _against_first(
    figures: Figures, entries: Sequence[Entry], keys: Sequence[str], order: Sequence[int], name: str
) -> list[Comparison]:
    """Compare the first with each other one; `slice` of a comparison is the other one's key."""
    leader = entries[order[0]][2]
    made: list[Comparison] = []
    for at in order[1:]:
        try:
            report = figures.compare(entries[at][2], leader, names=[name], correction=None)
        except UnknownScore:
            continue
        made += [_named(each, keys[at]) for each in report.comparisons]
    return correct_together(made, family=family_of(len(entries)))


def _named(comparison: Comparison, key: str) -> Comparison:
    return msgspec.structs.replace(comparison, slice=key)


def family_of(n_rows: int) -> int:
    """Return over how many looks comparisons with the leader are corrected: all pairs of rows, as far as resamples can tell."""
    return min(n_rows * (n_rows - 1) // 2, MAX_FAMILY)


def correct_together(comparisons: Sequence[Comparison], *, family: int) -> list[Comparison]:
    """Return the comparisons corrected as part of a family of that size; those without a verdict stay as they are.

    Who leads is chosen by the same scores, so that all pairs were looked at, not only those with the leader.
    """
    valid = [each for each in comparisons if each.word != "invalid"]
    others = [_NOTHING_SEEN] * max(0, family - len(valid))
    corrected = iter(correct([*valid, *others])[: len(valid)])
    return [each if each.word == "invalid" else next(corrected) for each in comparisons]


_NOTHING_SEEN = Comparison(name="", baseline=None, candidate=None, difference=None, p_value=1.0)


def _point(
    cost_usd: Decimal | None, record: EvaluationRecord, quality: Estimate | None, column: ScoreColumn
) -> Point:
    """Quality, cost and latency, each so that less is better; None where unknown."""
    value = None if quality is None else quality.value
    if value is not None and column.direction != "lower":
        value = -value
    return value, None if cost_usd is None else float(cost_usd), record.p50_latency_ms


def _is_front(points: Sequence[Point], at: int) -> bool:
    """Return whether no other point is as good in everything and better in something; what is unknown beats nothing."""
    mine = points[at]
    if mine[0] is None:
        return False
    for other_at, other in enumerate(points):
        if other_at == at or other[0] is None:
            continue
        pairs = [(a, b) for a, b in zip(mine, other, strict=True) if a is not None]
        as_good = all(b is not None and b <= a for a, b in pairs)
        if as_good and any(b is not None and b < a for a, b in pairs):
            return False
    return True


def _verdict(rows: Sequence[LeaderboardRow], words: Mapping[str, str], name: str) -> tuple[str | None, str]:
    first = rows[0]
    if first.rank is None:
        return None, f"No row has a {name}."
    if len(rows) == 1:
        return first.key, f"{first.key} is the only one."
    others = [row.key for row in rows[1:] if row.rank is not None]
    open_keys = [key for key in others if words.get(key) != "better"]
    if not open_keys:
        return (
            first.key,
            f"{first.key} is best in {name}: it beats each other one (95 %, corrected for {_looks(len(rows))}).",
        )
    told = ", ".join(open_keys[:3]) + (f" and {len(open_keys) - 3} more" if len(open_keys) > 3 else "")
    return None, f"Not decided: {first.key} leads in {name}, but cannot be told from {told}."


def _looks(n_rows: int) -> str:
    n = family_of(n_rows)
    return "one look" if n == 1 else f"{n} looks"


def _problems(figures: Figures, entries: Sequence[Entry]) -> list[str]:
    first = entries[0][2]
    found: list[str] = []
    for _, _, record in entries[1:]:
        found += [told for told in figures.find_problems(first, record) if told not in found]
    return found


def _unique(keys: Sequence[str]) -> list[str]:
    """Tell rows of one name apart by a number."""
    seen: dict[str, int] = {}
    named = []
    for key in keys:
        seen[key] = seen.get(key, 0) + 1
        named.append(key if seen[key] == 1 else f"{key} ({seen[key]})")
    return named
