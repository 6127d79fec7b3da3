"""How one score is spread over cases: bars that lead to the cases in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penstock.console.interval_marks import N_BINS, Bin, count_bins
from penstock.console.score_words import format_score
from penstock.evals.types import ScoreColumn

GAP = 0.12
"""Of a bar's place that stays free."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Bars over an axis with its ends in words."""

    bins: tuple[Bin, ...]
    low: str
    high: str
    top: str
    """Cases in the highest bar."""
    summary: str


def draw_histogram(
    values: Sequence[float],
    column: ScoreColumn,
    *,
    is_repeated: bool,
    link_of: Callable[[float, float], str],
) -> Histogram | None:
    """Return the bars; None without values. Scores with bounds are drawn between them, others between their extremes."""
    if not values:
        return None
    low, high = _ends(values, column)
    n_bins = (10 if is_repeated else 2) if column.scale == "binary" else N_BINS
    counts = count_bins(values, (low, high), n_bins=n_bins)
    most, width = max(counts), 100 / n_bins

    def say(value: float) -> str:
        return format_score(value, scale=column.scale, unit=column.unit)

    bins = []
    for at, count in enumerate(counts):
        start, end = low + (high - low) * at / n_bins, low + (high - low) * (at + 1) / n_bins
        reach = end if at == n_bins - 1 else end - 1e-9 * (high - low)
        cases = "1 case" if count == 1 else f"{count:,} cases"
        bins.append(
            Bin(
                x=round(at * width + GAP / 2 * width, 3),
                width=round((1 - GAP) * width, 3),
                height=round(100 * count / most, 3),
                words=f"{say(start)} to {say(end)}: {cases}",
                href=link_of(start, reach),
            )
        )
    return Histogram(
        bins=tuple(bins),
        low=say(low),
        high=say(high),
        top=f"{most:,}",
        summary=f"{column.name} over {len(values):,} cases, from {say(min(values))} to {say(max(values))}",
    )


def _ends(values: Sequence[float], column: ScoreColumn) -> tuple[float, float]:
    if column.scale != "unbounded" and column.low is not None and column.high is not None:
        return column.low, column.high
    low, high = min(values), max(values)
    if low >= 0 and low < 0.5 * high:
        low = 0.0
    return (low, high) if high > low else (low - 0.5, high + 0.5)
