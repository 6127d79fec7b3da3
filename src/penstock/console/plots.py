"""Series over time as shapes and words: numbers in, coordinates out. Knows nothing of where the numbers come from.

Shapes live in a box of 100 × 100, y downward, stretched to its place; words are placed by percent beside it. A slice
without a value is a gap, never a zero, and the baseline is zero unless a value is below it. What the script on the page
reads aloud under the pointer was written here, so that a number looks the same everywhere.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from penstock.base.digest import digest_bytes
from penstock.console.measured import format_value
from penstock.spec.measures import Unit

N_TONES = 8
"""Colours for what has no meaning of its own; `--c1` to `--c8` of the tokens."""
BAD_TONE = "bad"
QUIET_TONE = "quiet"
_MEANT = {"error": BAD_TONE, "failed": BAD_TONE}
"""What is red wherever it is drawn."""
MAX_BANDS = 3
"""With more lines their intervals, drawn over each other, are one grey field: they are told under the pointer only."""
MAX_DASHED = 2
"""With more lines those of the period before are told under the pointer only."""
LABEL_GAP = 9.0
"""Least distance between two labels beside a plot, in percent of its height."""
DAY_NS = 86_400 * 1_000_000_000
_ROUND = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
_WIDTHS_S = (10, 30, 60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 7 * 86400, 30 * 86400)


@dataclass(frozen=True, kw_only=True)
class Series:
    """One quantity over the slices of a plot; lists are as long as there are slices."""

    name: str
    values: Sequence[float | None]
    tone: str
    lows: Sequence[float | None] = ()
    highs: Sequence[float | None] = ()
    """The interval of each value, where there is one."""
    before: Sequence[float | None] = ()
    """The same quantity in the period it is compared with."""
    behind: Sequence[int] = ()
    """How many spans stand behind each value."""
    href: str | None = None
    """Where a click on a slice leads: a link that lacks the slice's `since_ns` and `until_ns`."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A series as it is drawn."""

    name: str
    tone: str
    path: str
    dots: str
    """The values that have no neighbour, as a path of points."""
    band: str
    before: str
    label_y: float
    """Where its label stands, in percent from the top, moved where two would overlap."""
    last: str
    """Its newest known value, in words."""


@dataclass(frozen=True, kw_only=True)
class PlotBar:
    """One slice of a bar chart; the bad part stands on the baseline."""

    x: float
    width: float
    y: float
    height: float
    bad_y: float
    bad_height: float


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A value that a plot is held against."""

    value: float
    name: str
    tone: str
    y: float = 0.0
    """Where it is drawn."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One question over time."""

    title: str
    unit: Unit
    headline: str
    """The window as one, in words; empty where there is no such number."""
    change: str
    """Against the period before, in words; empty where nothing was compared."""
    lines: tuple[Line, ...]
    bars: tuple[PlotBar, ...]
    bar_tone: str
    top: str
    middle: str
    base_y: float
    """Where zero is; the lower edge where the scale does not reach it."""
    ticks: tuple[str, ...]
    is_labelled: bool
    """Whether lines have labels beside them; a single one is named by the title."""
    summary: str
    """What the plot says, for who does not see it."""
    data: str
    """JSON for the script: slices, and per series its words and links."""
    zoom_href: str
    empty: str | None
    """What stands there instead when no slice has a value."""
    bounds: tuple[Bound, ...] = ()
    bottom: str = ""
    """What the lower edge is, for a scale that does not begin at zero."""


def draw_lines(
    series: Sequence[Series],
    *,
    title: str,
    unit: Unit,
    starts: Sequence[int],
    width_ns: int,
    until_ns: int,
    zoom_href: str,
    headline: str = "",
    change: str = "",
    bounds: Sequence[Bound] = (),
    empty: str = "No value in this window",
) -> Plot:
    """Return lines over the slices that begin at `starts`, held against `bounds`."""
    low, high = scale_of([*(value for each in series for value in _known(each)), *(b.value for b in bounds)])
    if unit == "share" and not bounds and all(value == 0 for each in series for value in _known(each)):
        high = 0.1  # nothing but zeros: the next thing to see is a few percent
    known = [each for each in series if any(value is not None for value in each.values)]
    labels = spread_labels([_y(_last(each.values), low, high) for each in known])
    return Plot(
        title=title,
        unit=unit,
        headline=headline,
        change=change,
        lines=tuple(
            Line(
                name=each.name,
                tone=each.tone,
                path=path_of(each.values, low, high),
                dots=dots_of(each.values, low, high),
                band=band_of(each.lows, each.highs, low, high) if len(known) <= MAX_BANDS else "",
                before=path_of(each.before, low, high) if len(known) <= MAX_DASHED else "",
                label_y=label_y,
                last=format_value(_last(each.values), unit),
            )
            for each, label_y in zip(known, labels, strict=True)
        ),
        bars=(),
        bar_tone="",
        top=format_value(high, unit),
        middle=_middle(low, high, unit),
        base_y=round(_y(0.0, low, high), 2),
        ticks=name_ticks(starts[0] if starts else until_ns, until_ns),
        is_labelled=len(known) > 1,
        summary=_summarise(title, known, unit),
        data=_data(known, unit, starts, width_ns, until_ns),
        zoom_href=zoom_href,
        empty=None if known else empty,
        bounds=tuple(replace(each, y=round(_y(each.value, low, high), 2)) for each in bounds),
    )


def draw_bars(
    whole: Series,
    bad: Series | None,
    *,
    title: str,
    unit: Unit,
    starts: Sequence[int],
    width_ns: int,
    until_ns: int,
    zoom_href: str,
    headline: str = "",
    change: str = "",
    empty: str = "Nothing in this window",
) -> Plot:
    """Return one bar a slice, with the bad part of each drawn from the baseline up."""
    series = [whole, *([bad] if bad else [])]
    high = round_up(list(whole.values))
    step = 100 / max(len(starts), 1)
    bars = []
    for index, value in enumerate(whole.values):
        height = 100 * (value or 0.0) / high
        part = (bad.values[index] or 0.0) if bad else 0.0
        bars.append(
            PlotBar(
                x=round(index * step + step * 0.12, 3),
                width=round(step * 0.76, 3),
                y=round(100 - height, 3),
                height=round(height, 3),
                bad_y=round(100 - 100 * part / high, 3),
                bad_height=round(100 * part / high, 3),
            )
        )
    return Plot(
        title=title,
        unit=unit,
        headline=headline,
        change=change,
        lines=(),
        bars=tuple(bars),
        bar_tone=whole.tone,
        top=format_value(high, unit),
        middle=_middle(0.0, high, unit),
        base_y=100.0,
        ticks=name_ticks(starts[0] if starts else until_ns, until_ns),
        is_labelled=False,
        summary=_summarise(title, series, unit),
        data=_data(series, unit, starts, width_ns, until_ns),
        zoom_href=zoom_href,
        empty=None if any(whole.values) else empty,
    )


def scale_of(values: Sequence[float]) -> tuple[float, float]:
    """Return the lower and upper end of the scale: zero and a round number no value is over, or two round numbers."""
    high = round_up(values) if any(value > 0 for value in values) else 0.0
    low = -round_up([-value for value in values]) if any(value < 0 for value in values) else 0.0
    return (low, high) if high > low else (0.0, 1.0)


def round_up(values: Sequence[float | None]) -> float:
    """Return the smallest round number that no value is over; 1 when there is none over zero."""
    highest = max((value for value in values if value is not None), default=0.0)
    if highest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(max(highest, 1e-12)))
    return next((step * power for step in _ROUND if highest <= step * power * (1 + 1e-9)), 10 * power)


def path_of(values: Sequence[float | None], low: float, high: float) -> str:
    """Return an SVG path through the known values, broken at each gap; a value alone becomes a dot."""
    parts: list[str] = []
    is_down = False
    for index, value in enumerate(values):
        if value is None:
            is_down = False
            continue
        place = f"{_x(index, len(values)):.2f} {_y(value, low, high):.2f}"
        alone = not is_down and (index + 1 == len(values) or values[index + 1] is None)
        parts.append(f"L{place}" if is_down else f"M{place}L{place}" if alone else f"M{place}")
        is_down = True
    return "".join(parts)


def dots_of(values: Sequence[float | None], low: float, high: float) -> str:
    """Return an SVG path of points where a value stands alone: as part of a thin line nobody would see it."""
    around = (None, *values, None)
    places = [
        f"{_x(index, len(values)):.2f} {_y(value, low, high):.2f}"
        for index, value in enumerate(values)
        if value is not None and around[index] is None and around[index + 2] is None
    ]
    return "".join(f"M{place}L{place}" for place in places)


def band_of(lows: Sequence[float | None], highs: Sequence[float | None], low: float, high: float) -> str:
    """Return an SVG path around the intervals of neighbouring values."""
    parts: list[str] = []
    run: list[tuple[float, float, float]] = []
    for index, (bottom, top) in enumerate(zip(lows, highs, strict=True)):
        if bottom is None or top is None:
            parts.append(_loop(run))
            run = []
        else:
            ends = (max(0.0, _y(top, low, high)), min(100.0, _y(bottom, low, high)))
            run.append((_x(index, len(lows)), *ends))
    return "".join([*parts, _loop(run)])


def spread_labels(heights: Sequence[float], *, gap: float = LABEL_GAP) -> list[float]:
    """Return the heights in the same order, moved apart by at least `gap` and kept within 4 and 96 where there is room."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = [0.0] * len(heights)
    at = -math.inf
    for index in order:
        at = max(heights[index], at + gap, 4.0)
        placed[index] = at
    overflow = at - 96.0
    if order and overflow > 0:
        at = math.inf
        for index in reversed(order):
            at = max(4.0, min(placed[index], 96.0, at - gap))
            placed[index] = at
    return [round(value, 2) for value in placed]


def tone_of(dimension: str, value: str | None, taken: Mapping[str, str]) -> str:
    """Return the colour of a value: the same on every page, unless another one of the plot has it already.

    `taken` maps colours of this plot to their values.
    """
    if value is None:
        return QUIET_TONE
    if value in _MEANT:
        return _MEANT[value]
    first = int(digest_bytes(f"{dimension}={value}".encode()).removeprefix("sha256:")[:8], 16) % N_TONES
    for step in range(N_TONES):
        tone = str((first + step) % N_TONES + 1)
        if taken.get(tone, value) == value:
            return tone
    return str(first + 1)


def choose_width_ns(since_ns: int, until_ns: int, *, n_most: int) -> int:
    """Return the smallest round width that cuts the window into at most `n_most` slices."""
    length = max(1, until_ns - since_ns)
    for width_s in _WIDTHS_S:
        if length <= width_s * 1_000_000_000 * n_most:
            return width_s * 1_000_000_000
    return -(-length // n_most)


def name_ticks(since_ns: int, until_ns: int) -> tuple[str, ...]:
    """Return five marks below a plot, from its beginning to its end, UTC."""
    length = until_ns - since_ns
    style = "%d %b" if length > 2 * DAY_NS else "%H:%M"
    marks = [since_ns + (until_ns - since_ns) * part // 4 for part in range(5)]
    return tuple(f"{datetime.fromtimestamp(mark / 1e9, tz=UTC):{style}}" for mark in marks)


def _middle(low: float, high: float, unit: Unit) -> str:
    """Return what the middle rule says; nothing where it would be half a call."""
    value = (low + high) / 2
    return "" if unit == "count" and value != int(value) else format_value(value, unit)


def _known(series: Series) -> list[float]:
    each = (*series.values, *series.before)  # a wide interval must not flatten what it belongs to
    return [value for value in each if value is not None]


def _last(values: Sequence[float | None]) -> float:
    return next((value for value in reversed(values) if value is not None), 0.0)


def _x(index: int, count: int) -> float:
    return 100 * (index + 0.5) / max(count, 1)


def _y(value: float, low: float, high: float) -> float:
    return 100 - 100 * (value - low) / (high - low)


def _loop(run: Sequence[tuple[float, float, float]]) -> str:
    if len(run) < 2:
        return ""
    there = "L".join(f"{x:.2f} {top:.2f}" for x, top, _ in run)
    back = "L".join(f"{x:.2f} {bottom:.2f}" for x, _, bottom in reversed(run))
    return f"M{there}L{back}Z"


def _summarise(title: str, series: Sequence[Series], unit: Unit) -> str:
    told = [f"{each.name}: newest {format_value(_last(each.values), unit)}" for each in series[:4]]
    return f"{title} over time. {'; '.join(told)}. Arrow keys read single slices, Enter opens the traces behind one."


def _data(series: Sequence[Series], unit: Unit, starts: Sequence[int], width_ns: int, until_ns: int) -> str:
    style = "%d %b %H:%M" if width_ns < DAY_NS else "%d %b %Y"
    lines: list[dict[str, Any]] = [
        {
            "name": each.name,
            "tone": each.tone,
            "values": [None if value is None else round(value, 9) for value in each.values],
            "words": [_word(each, index, unit) for index in range(len(each.values))],
            "href": each.href,
        }
        for each in series
    ]
    slices = [
        {
            "name": f"{datetime.fromtimestamp(start / 1e9, tz=UTC):{style}} UTC"
            + (", so far" if start + width_ns > until_ns else ""),
            "since": str(start),
            "until": str(min(start + width_ns, until_ns)),
        }
        for start in starts
    ]
    return msgspec.json.encode({"slices": slices, "lines": lines}).decode()


def _word(series: Series, index: int, unit: Unit) -> str:
    value = series.values[index]
    text = format_value(value, unit)
    if value is not None and index < len(series.lows) and (low := series.lows[index]) is not None:
        text += f" ({format_value(low, unit)} to {format_value(series.highs[index], unit)})"
    if value is not None and index < len(series.before) and series.before[index] is not None:
        text += f", before {format_value(series.before[index], unit)}"
    if index < len(series.behind) and unit not in {"count", "tokens"}:
        text += f", of {series.behind[index]:,}"
    return text
