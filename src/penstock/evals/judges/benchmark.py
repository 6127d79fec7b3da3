"""Several judges on the same labelled outputs: model and template together, ranked by agreement, chosen by interval. Pure."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal

from penstock.evals.judges.bias import place_figure, share_figure
from penstock.evals.judges.types import (
    Figure,
    JudgeBenchmark,
    JudgeCalibration,
    JudgeRow,
    LabelledPair,
    PairCount,
)
from penstock.evals.statistics.comparisons import compare, correct
from penstock.evals.statistics.types import PlainMeasure, ScoredCase
from penstock.spec.evaluations import Comparison


def rank_judges(calibrations: Sequence[JudgeCalibration], *, name: str) -> JudgeBenchmark:
    """Return the judges by agreement over the outputs that all of them have a verdict on, and which one to take.

    Taken is the cheapest one that is not surely worse than the best (paired over outputs, p-values corrected by Holm). A judge
    whose cost is unknown counts as dearer than any known one.
    """
    common = set.intersection(*({pair.item for pair in each.pairs} for each in calibrations))
    shared = {each.stamp: [pair for pair in each.pairs if pair.item in common] for each in calibrations}
    hits = {stamp: _hits(pairs) for stamp, pairs in shared.items()}
    ordered = sorted(calibrations, key=lambda each: -_mean(hits[each.stamp]))
    best = ordered[0]
    is_numeric = any(each.kind == "numeric" for each in calibrations)
    measure = (
        PlainMeasure(name="closeness", scale="unbounded", low=None, high=None)
        if is_numeric
        else PlainMeasure(name="agreement", scale="binary")
    )
    against: list[Comparison] = correct(
        [compare(hits[best.stamp], hits[each.stamp], measure) for each in ordered[1:]]
    )
    rows = [JudgeRow(rank=1, calibration=best, cost_per_output_usd=_cost(best))]
    for rank, (each, found) in enumerate(zip(ordered[1:], against, strict=True), 2):
        difference = Figure(
            value=found.difference,
            low=found.low,
            high=found.high,
            level=found.level,
            method=found.method,
            n=found.n_pairs,
        )
        rows.append(
            JudgeRow(
                rank=rank,
                calibration=each,
                difference=difference,
                p_adjusted=found.p_adjusted if found.p_adjusted is not None else found.p_value,
                is_worse=found.word == "worse",
                cost_per_output_usd=_cost(each),
            )
        )
    chosen = min(
        (row for row in rows if not row.is_worse),
        key=lambda row: (row.cost_per_output_usd is None, row.cost_per_output_usd or 0, row.rank),
    )
    return JudgeBenchmark(
        name=name,
        rows=rows,
        n_items=len(common),
        choice=chosen.calibration.stamp,
        sentence=_say(rows, chosen, len(common)),
    )


def _hits(pairs: Sequence[LabelledPair]) -> list[ScoredCase]:
    """One case an output: 1 where the judge says what people say; of numbers, minus the distance."""
    return [
        ScoredCase(case_id=pair.item, group=pair.group, values=[_closeness(pair)])
        for pair in sorted(pairs, key=lambda pair: pair.item)
    ]


def _closeness(pair: LabelledPair) -> float:
    if isinstance(pair.human, str) or isinstance(pair.judged, str):
        return float(str(pair.human).casefold() == str(pair.judged).casefold())
    return 1.0 - abs(pair.human - pair.judged)


def _mean(cases: Sequence[ScoredCase]) -> float:
    return sum(case.values[0] for case in cases) / len(cases) if cases else 0.0


def _cost(calibration: JudgeCalibration) -> Decimal | None:
    n = calibration.n_scored + calibration.n_undefined + calibration.n_errors + calibration.n_chosen
    return None if calibration.cost_usd is None or not n else calibration.cost_usd / n


def _say(rows: Sequence[JudgeRow], chosen: JudgeRow, n: int) -> str:
    best = rows[0]
    rivals = [row for row in rows[1:] if not row.is_worse]
    if not rivals:
        others = "all others" if len(rows) > 2 else "the other"
        return f"{best.calibration.stamp} agrees with people more than {others}, over {n} outputs."
    text = f"{len(rivals) + 1} of {len(rows)} judges cannot be told apart over {n} outputs"
    if chosen.cost_per_output_usd is None:
        return f"{text}; their costs are unknown, so the one with the highest agreement is named first."
    return f"{text}; {chosen.calibration.stamp} is the cheapest of them."


def count_pairs(
    verdicts: Sequence[Mapping[str, object]],
    *,
    baseline: str,
    candidate: str,
    judge: str,
    errors: Mapping[str, int],
    cost_usd: Decimal | None,
) -> PairCount:
    """Return how a candidate did beside a baseline; verdicts are `{case_id, group, winner, is_flip, first_place_wins}`."""
    winners = [str(verdict["winner"]) for verdict in verdicts]
    n_wins, n_losses = winners.count("candidate"), winners.count("baseline")
    n_ties = len(winners) - n_wins - n_losses
    cases = [
        ScoredCase(
            case_id=str(verdict["case_id"]),
            group=str(verdict["group"]) if verdict.get("group") else None,
            values=[{"candidate": 1.0, "baseline": 0.0}.get(str(verdict["winner"]), 0.5)],
        )
        for verdict in verdicts
    ]
    even = [ScoredCase(case_id=case.case_id, group=case.group, values=[0.5]) for case in cases]
    measure = PlainMeasure(name="win rate")
    found = compare(even, cases, measure)
    rate = Figure(
        value=None if found.difference is None else 0.5 + found.difference,
        low=None if found.low is None else max(0.0, 0.5 + found.low),
        high=None if found.high is None else min(1.0, 0.5 + found.high),
        method=found.method,
        n=len(cases),
    )
    flips = [bool(verdict["is_flip"]) for verdict in verdicts]
    places = [
        (_int(verdict["first_place_wins"]), _int(verdict.get("second_place_wins", 0))) for verdict in verdicts
    ]
    groups = [case.group for case in cases]
    word: Literal["better", "worse", "undecided"] = "undecided"
    if found.word == "better" or found.word == "worse":  # noqa: PLR1714 - narrows the type
        word = found.word
    return PairCount(
        baseline=baseline,
        candidate=candidate,
        judge=judge,
        n_pairs=len(cases),
        n_wins=n_wins,
        n_losses=n_losses,
        n_ties=n_ties,
        n_flips=sum(flips),
        n_errors=sum(errors.values()),
        win_rate=rate,
        flip_rate=share_figure(flips, groups),
        first_place=place_figure(places, groups),
        word=word,
        sentence=_say_pairs(rate, word, (n_wins, n_losses, n_ties, sum(flips))),
        cost_usd=cost_usd,
        errors=dict(errors),
        pairs=[dict(verdict) for verdict in verdicts],
    )


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _say_pairs(rate: Figure, word: str, counted: tuple[int, int, int, int]) -> str:
    n_wins, n_losses, n_ties, n_flips = counted
    counts = f"{n_wins} wins, {n_losses} losses, {n_ties} ties ({n_flips} of them flips)"
    if rate.value is None:
        return "No pair was judged."
    bounds = (
        f", 95 % interval {rate.low:.0%} to {rate.high:.0%}"
        if rate.low is not None and rate.high is not None
        else ""
    )
    told = {
        "better": "the candidate is preferred",
        "worse": "the baseline is preferred",
        "undecided": "not enough to prefer either",
    }[word]
    return f"{counts}: win rate {rate.value:.0%}{bounds}; {told}."
