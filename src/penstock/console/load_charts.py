"""Charts of load tests: what the report holds in, shapes and words out. Times are drawn on a logarithmic axis, as they were counted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.console.formats import format_ms
from penstock.console.plots import Line, Plot, path_of, round_up, spread_labels

TONES = ("1", "2")
MAX_POINTS = 1200


@dataclass(frozen=True, kw_only=True)
class CountBar:
    """Calls of one target whose time fell between two edges; places in percent, y downward."""

    x: float
    width: float
    height: float
    tone: str
    words: str


@dataclass(frozen=True, kw_only=True)
class CountChart:
    """How one measure is spread over calls."""

    title: str
    bars: tuple[CountBar, ...]
    names: tuple[tuple[str, str], ...]
    """Target and tone, where there are several."""
    ticks: tuple[str, ...]
    top: str
    summary: str


@dataclass(frozen=True, kw_only=True)
class CallPoint:
    """One call."""

    x: float
    y: float
    tone: str


@dataclass(frozen=True, kw_only=True)
class CallScatter:
    """Time of calls by the tokens of their replies."""

    points: tuple[CallPoint, ...]
    names: tuple[tuple[str, str], ...]
    top: str
    middle: str
    ticks: tuple[str, ...]
    summary: str


def draw_counts(chart: Mapping[str, Any], *, title: str) -> CountChart | None:
    """Return bars between edges that grow evenly on a logarithmic scale; None where nothing was counted."""
    edges: Sequence[float] = chart.get("edges_ms") or ()
    counts: Mapping[str, Sequence[int]] = chart.get("counts") or {}
    most = max((max(values, default=0) for values in counts.values()), default=0)
    if len(edges) < 2 or not most:
        return None
    n_bins, n_targets = len(edges) - 1, len(counts)
    bars = []
    for order, (target, values) in enumerate(counts.items()):
        for number, count in enumerate(values):
            if not count:
                continue
            width = 100 / n_bins / n_targets
            calls = "1 call" if count == 1 else f"{count:,} calls"
            words = f"{target}, {format_ms(edges[number])} to {format_ms(edges[number + 1])}: {calls}"
            bars.append(
                CountBar(
                    x=round(100 * number / n_bins + order * width, 3),
                    width=round(0.86 * width, 3),
                    height=round(100 * count / most, 3),
                    tone=TONES[order % 2],
                    words=words,
                )
            )
    ticks = [edges[round(part * n_bins / 4)] for part in range(5)]
    return CountChart(
        title=title,
        bars=tuple(bars),
        names=_names(list(counts)),
        ticks=tuple(format_ms(each) for each in ticks),
        top=f"{most:,}",
        summary=f"{title} of {sum(sum(each) for each in counts.values()):,} calls, {ticks[0]:.3g} to {ticks[-1]:.3g} ms.",
    )


def draw_calls(points: Sequence[Sequence[Any]]) -> CallScatter | None:
    """Return one point a call: completion tokens across, time up; None without calls."""
    if not points:
        return None
    shown = points[:: max(1, -(-len(points) // MAX_POINTS))]
    most_tokens = round_up([float(max(point[0] for point in points))])
    most_ms = round_up([float(max(point[1] for point in points))])
    targets = list(dict.fromkeys(point[2] for point in points))
    return CallScatter(
        points=tuple(
            CallPoint(
                x=round(100 * tokens / most_tokens, 2),
                y=round(100 - 100 * taken / most_ms, 2),
                tone=TONES[targets.index(target) % 2],
            )
            for tokens, taken, target in shown
        ),
        names=_names(targets),
        top=format_ms(most_ms),
        middle=format_ms(most_ms / 2),
        ticks=tuple(f"{most_tokens * part / 4:,.0f}{' tokens' if part == 4 else ''}" for part in range(5)),
        summary=f"End-to-end time by completion tokens, {len(points):,} calls.",
    )


def draw_seconds(
    series: Mapping[str, Sequence[Any]], names: Sequence[tuple[str, str, str]], *, title: str, unit: str
) -> Plot | None:
    """Return lines over the seconds of a run; `names` are key, label and tone. None where nothing is known."""
    seconds = series.get("second") or ()
    known = [
        (key, label, tone)
        for key, label, tone in names
        if any(each is not None for each in series.get(key) or ())
    ]
    if not seconds or not known:
        return None
    high = round_up([value for key, _, _ in known for value in series[key] if value is not None])
    ends = [next((value for value in reversed(series[key]) if value is not None), 0.0) for key, _, _ in known]
    labels = spread_labels([100 - 100 * value / high for value in ends])
    lines = tuple(
        Line(
            name=label,
            tone=tone,
            path=path_of(series[key], 0.0, high),
            dots="",
            band="",
            before="",
            label_y=label_y,
            last="",
        )
        for (key, label, tone), label_y in zip(known, labels, strict=True)
    )
    data = {
        "slices": [{"name": f"second {second:,}", "since": "", "until": ""} for second in seconds],
        "lines": [
            {
                "name": label,
                "tone": tone,
                "values": list(series[key]),
                "words": [_say(value, unit) for value in series[key]],
                "href": None,
            }
            for key, label, tone in known
        ],
    }
    last = seconds[-1]
    return Plot(
        title=title,
        unit="count",
        headline="",
        change="",
        lines=lines,
        bars=(),
        bar_tone="",
        top=_say(high, unit),
        middle=_say(high / 2, unit),
        base_y=100.0,
        ticks=tuple(f"{seconds[0] + (last - seconds[0]) * part / 4:,.0f} s" for part in range(5)),
        is_labelled=len(lines) > 1,
        summary=f"{title} over the seconds of the run. Arrow keys read single seconds.",
        data=msgspec.json.encode(data).decode(),
        zoom_href="",
        empty=None,
    )


def _say(value: float | None, unit: str) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return format_ms(value) if unit == "ms" else f"{value:,.4g}"


def _names(targets: Sequence[str]) -> tuple[tuple[str, str], ...]:
    if len(targets) < 2:
        return ()
    return tuple((target, TONES[order % 2]) for order, target in enumerate(targets))
