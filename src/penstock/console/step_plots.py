"""Figures over the steps of a run as plots: curves in, shapes and words out, in the same form as plots over time.

Places on the axis are steps, not moments: evaluations are drawn at the step that they were made at, between the training
steps around them. The surprise: a slice of the axis may hold several steps; it tells the last of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from penstock.console.formats import format_bytes
from penstock.console.plots import Line, Plot, scale_of, spread_labels
from penstock.tuning.runs.types import CurvePoint

MAX_SLICES = 240
SHARES = frozenset({"token_accuracy", "exact_match", "token_f1", "reward_accuracy"})
"""Figures between 0 and 1."""
_HALVES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25)
"""Half of an axis of shares that does not begin at 0."""


@dataclass(frozen=True, kw_only=True)
class StepSeries:
    """One figure over steps."""

    name: str
    points: Sequence[CurvePoint]
    tone: str


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One point of a plot that is named, such as the best."""

    name: str
    step: int
    value: float
    tone: str


def format_figure(name: str, value: float | None) -> str:
    """Return a figure of training as people read it: shares in percent, memory with its unit."""
    if value is None:
        return "–"
    if name in SHARES:
        return f"{100 * value:.1f} %"
    if name == "memory_mb":
        return format_bytes(round(value * 1_000_000))
    if name == "tokens_per_s":
        return f"{value:,.0f}/s"
    return f"{value:.1e}" if value and abs(value) < 0.001 else f"{value:,.4g}"


def draw_steps(
    series: Sequence[StepSeries],
    *,
    title: str,
    figure: str,
    end: int,
    pin: Pin | None = None,
    headline: str = "",
    empty: str = "Nothing was told yet",
) -> Plot:
    """Return lines over the steps 0 to `end`; `figure` says how values read, `pin` is marked."""
    known = [each for each in series if each.points]
    end = max([end, 1, *(point.step for each in known for point in each.points)])
    values = [point.value for each in known for point in each.points]
    low, high = scale_of_shares(values) if figure in SHARES else scale_of(values)
    lines = [_line(each, figure, end, (low, high)) for each in known]
    if pin is not None:
        place = f"{_x(pin.step, end):.2f} {_y(pin.value, low, high):.2f}"
        lines.append(
            Line(
                name=pin.name,
                tone=pin.tone,
                path="",
                dots=f"M{place}L{place}",
                band="",
                before="",
                label_y=_y(pin.value, low, high),
                last=format_figure(figure, pin.value),
            )
        )
    heights = spread_labels([each.label_y for each in lines])
    told = "; ".join(f"{each.name}: {each.last}" for each in lines)
    return Plot(
        title=title,
        unit="score",
        headline=headline,
        change="",
        lines=tuple(
            Line(
                name=each.name,
                tone=each.tone,
                path=each.path,
                dots=each.dots,
                band="",
                before="",
                label_y=height,
                last=each.last,
            )
            for each, height in zip(lines, heights, strict=True)
        ),
        bars=(),
        bar_tone="",
        top=format_figure(figure, high),
        middle=format_figure(figure, (low + high) / 2),
        bottom=f"{format_figure(figure, low)}, not 0" if low > 0 else "",
        base_y=round(_y(max(0.0, low), low, high), 2),
        ticks=tuple(f"{'step ' if part == 0 else ''}{round(end * part / 4):,}" for part in range(5)),
        is_labelled=len(lines) > 1,
        summary=f"{title} over steps. Newest: {told or 'none'}. Arrow keys read single steps.",
        data=_data(known, figure, end),
        zoom_href="",
        empty=None if known else empty,
    )


def scale_of_shares(values: Sequence[float]) -> tuple[float, float]:
    """Return the lower and upper end of an axis on which shares that differ by little are seen to differ.

    Both ends are multiples of half of it. Shares over half of the axis from 0 to 1 get all of that.
    """
    if not values:
        return 0.0, 1.0
    for half in _HALVES:
        first = math.floor(min(values) / half + 1e-9)
        last = round(1 / half)
        low, high = min(first, last - 2) * half, min(first + 2, last) * half
        if min(values) >= 0 and max(values) <= high + 1e-9:
            return round(low, 4), round(high, 4)
    return 0.0, 1.0


def _line(series: StepSeries, figure: str, end: int, scale: tuple[float, float]) -> Line:
    places = [f"{_x(point.step, end):.2f} {_y(point.value, *scale):.2f}" for point in series.points]
    last = series.points[-1]
    return Line(
        name=series.name,
        tone=series.tone,
        path="" if len(places) < 2 else "M" + "L".join(places),
        dots=f"M{places[0]}L{places[0]}" if len(places) == 1 else "",
        band="",
        before="",
        label_y=_y(last.value, *scale),
        last=format_figure(figure, last.value),
    )


def _data(series: Sequence[StepSeries], figure: str, end: int) -> str:
    """Return slices of the axis with the last value of each series in them, for the script that reads them out."""
    n_slices = min(MAX_SLICES, end + 1)
    lines = []
    ends = [round(end * (index + 1) / n_slices) if n_slices <= end else index for index in range(n_slices)]
    for each in series:
        kept: list[CurvePoint | None] = [None] * n_slices
        for point in each.points:
            kept[min(n_slices - 1, max(0, round(point.step / end * (n_slices - 1))))] = point
        lines.append(
            {
                "name": each.name,
                "tone": each.tone,
                "values": [None if point is None else point.value for point in kept],
                "words": [
                    "" if point is None else f"{format_figure(figure, point.value)} at step {point.step:,}"
                    for point in kept
                ],
                "href": None,
            }
        )
    slices = [{"name": f"around step {step:,}", "since": "", "until": ""} for step in ends]
    return msgspec.json.encode({"slices": slices, "lines": lines}).decode()


def _x(step: int, end: int) -> float:
    return round(100 * min(max(step, 0), end) / end, 3)


def _y(value: float, low: float, high: float) -> float:
    return round(100 - 100 * (value - low) / (high - low), 3)
