"""Quality against cost or latency: points with intervals in a box of 100 × 100, y downward, and the front nobody is beaten on.

The surprise: the horizontal axis is logarithmic where the values span more than a factor of 30, and says so.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penstock.console.plots import round_up, spread_labels
from penstock.console.score_words import format_score
from penstock.evals.types import LeaderboardRow
from penstock.spec.evaluations import Estimate

WIDE_SPAN = 30.0
LABEL_GAP = 6.5
MAX_LABELS = 8


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One row of a leaderboard."""

    x: float
    y: float
    low: float | None
    high: float | None
    label: str
    label_y: float
    is_left: bool
    """Its label stands left of it, since right of it there is no room."""
    href: str
    words: str
    is_front: bool


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """One question: what does quality cost, in money or time."""

    title: str
    dots: tuple[Dot, ...]
    front: str
    """Path through the points that nobody beats in both; empty with fewer than two."""
    top: str
    bottom: str
    left: str
    right: str
    axis: str
    n_unknown: int
    """Rows that lack one of both values."""


def draw_scatter(
    rows: Sequence[LeaderboardRow],
    *,
    title: str,
    axis: str,
    value_of: Callable[[LeaderboardRow], float | None],
    say: Callable[[float], str],
) -> Scatter | None:
    """Return the rows as points; None when fewer than two have both values."""
    known = [(row, row.quality, value_of(row)) for row in rows]
    points = [
        (row, quality, value)
        for row, quality, value in known
        if quality is not None and quality.value is not None and value is not None
    ]
    if len(points) < 2:
        return None
    low_y, high_y = _ends_of_quality([quality for _, quality, _ in points])
    place_x, left, right, is_wide = _axis([value for _, _, value in points])
    heights = [_y(quality.value, low_y, high_y) for _, quality, _ in points]
    labels = spread_labels(heights, gap=LABEL_GAP)
    dots = []
    for (row, quality, value), height, label_y in zip(points, heights, labels, strict=True):
        told = format_score(quality.value, scale=quality.scale, unit=quality.unit)
        x = round(place_x(value), 2)
        dots.append(
            Dot(
                x=x,
                y=round(height, 2),
                low=None if quality.low is None else round(_y(quality.low, low_y, high_y), 2),
                high=None if quality.high is None else round(_y(quality.high, low_y, high_y), 2),
                label=row.key if row.is_front or len(points) <= MAX_LABELS else "",
                label_y=label_y,
                is_left=x > 55,
                href=f"/evaluations/{row.evaluation_id}",
                words=f"{row.key}: {told}, {say(value)}",
                is_front=row.is_front,
            )
        )
    first = points[0][1]
    return Scatter(
        title=title,
        dots=tuple(dots),
        front=_front(dots, is_higher_better=first.direction != "lower"),
        top=format_score(high_y, scale=first.scale, unit=first.unit),
        bottom=format_score(low_y, scale=first.scale, unit=first.unit),
        left=say(left),
        right=say(right),
        axis=f"{axis}, each step a factor" if is_wide else axis,
        n_unknown=len(known) - len(points),
    )


def _ends_of_quality(items: Sequence[Estimate]) -> tuple[float, float]:
    """Return the ends of the vertical axis: around what there is, not from zero, for differences are what is looked at."""
    ends = [end for each in items for end in (each.value, each.low, each.high) if end is not None]
    low, high = min(ends), max(ends)
    room = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
    if all(0 <= end <= 1 for end in ends):
        return max(0.0, low - room), min(1.0, high + room)
    return low - room, high + room


def _axis(values: Sequence[float]) -> tuple[Callable[[float], float], float, float, bool]:
    least, most = min(values), max(values)
    if least > 0 and most / least > WIDE_SPAN:
        start, end = math.log10(least) - 0.15, math.log10(most) + 0.15
        return (lambda value: 100 * (math.log10(value) - start) / (end - start)), 10**start, 10**end, True
    top = round_up([most])
    return (lambda value: 100 * value / top), 0.0, top, False


def _y(value: float | None, low: float, high: float) -> float:
    return 100 - 100 * ((value or 0.0) - low) / (high - low)


def _front(dots: Sequence[Dot], *, is_higher_better: bool) -> str:
    """Return a stepped path through the points that are best for what they cost, from the cheapest on."""
    best: list[Dot] = []
    for dot in sorted(dots, key=lambda each: (each.x, each.y if is_higher_better else -each.y)):
        if not best or (dot.y < best[-1].y if is_higher_better else dot.y > best[-1].y):
            best.append(dot)
    if len(best) < 2:
        return ""
    parts = [f"M{best[0].x} {best[0].y}"]
    parts += [f"H{dot.x}V{dot.y}" for dot in best[1:]]
    return "".join(parts)
