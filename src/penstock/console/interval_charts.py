"""Measured figures in the order they were made: a point with its interval each, one colour a set. Numbers in, places out.

Places are percent of the box, y downward. Shares are drawn from a round number below the lowest end up to one, never on an axis
that makes noise look like a change: what the ends are is told beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.console.score_words import format_interval, format_score
from penstock.spec.evaluations import Estimate

N_TONES = 8
MAX_POINTS = 40


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One figure that was measured."""

    estimate: Estimate
    group: str
    """What it was measured on: only figures of one group may be held against each other."""
    label: str
    """Below the point."""
    href: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """A figure as it is drawn."""

    x: float
    y: float
    low: float | None
    high: float | None
    tone: int
    label: str
    words: str
    href: str


@dataclass(frozen=True, kw_only=True)
class IntervalChart:
    """Figures over time."""

    title: str
    points: tuple[Point, ...]
    lines: tuple[tuple[float, float, float, float, int], ...]
    """Between neighbours of one group: x, y, x, y, tone."""
    groups: tuple[tuple[str, int], ...]
    top: str
    bottom: str
    summary: str


def draw_intervals(items: Sequence[Measured], *, title: str) -> IntervalChart | None:
    """Return the chart of the newest figures, oldest first; None where nothing has a value."""
    known = [each for each in items if each.estimate.value is not None][-MAX_POINTS:]
    if not known:
        return None
    low, high = _scale(known)
    tones: dict[str, int] = {}
    points: list[Point] = []
    lines: list[tuple[float, float, float, float, int]] = []
    last: dict[str, Point] = {}
    for place, each in enumerate(known):
        tone = tones.setdefault(each.group, len(tones) % N_TONES + 1)
        point = _point(each, 100 * (place + 0.5) / len(known), (low, high), tone)
        before = last.get(each.group)
        if before is not None:
            lines.append((before.x, before.y, point.x, point.y, tone))
        last[each.group] = point
        points.append(point)
    newest = known[-1].estimate
    shown = format_score(newest.value, scale=newest.scale, unit=newest.unit)
    return IntervalChart(
        title=title,
        points=tuple(points),
        lines=tuple(lines),
        groups=tuple(tones.items()),
        top=format_score(high, scale=newest.scale, unit=newest.unit),
        bottom=format_score(low, scale=newest.scale, unit=newest.unit),
        summary=f"{title}, {len(points)} measurements; the newest is {shown}.",
    )


def _scale(items: Sequence[Measured]) -> tuple[float, float]:
    ends = [
        end
        for each in items
        for end in (each.estimate.value, each.estimate.low, each.estimate.high)
        if end is not None
    ]
    if all(0 <= end <= 1 for end in ends):
        return max(0.0, math.floor(10 * min(ends) - 1) / 10), 1.0
    return min(0.0, *ends), 1.05 * max(ends)


def _point(item: Measured, x: float, scale: tuple[float, float], tone: int) -> Point:
    each = item.estimate
    value = format_score(each.value, scale=each.scale, unit=each.unit)
    interval = format_interval(each)
    told = f", {100 * each.level:g} % interval {interval}" if interval else ""
    return Point(
        x=round(x, 2),
        y=_y(each.value or 0.0, scale),
        low=None if each.low is None else _y(each.low, scale),
        high=None if each.high is None else _y(each.high, scale),
        tone=tone,
        label=item.label,
        words=f"{item.label}, {item.group}: {value}{told}",
        href=item.href,
    )


def _y(value: float, scale: tuple[float, float]) -> float:
    low, high = scale
    return round(100 - 100 * (value - low) / ((high - low) or 1.0), 2)
