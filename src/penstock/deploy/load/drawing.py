"""Small charts as SVG texts for the report file. Labels come from data, so they are escaped. Pure."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_W, _H, _LEFT, _BOTTOM, _TOP = 640, 180, 56, 24, 20
_MARKS = ("a", "b")


def draw_histogram(chart: Mapping[str, Any]) -> str:
    """Return bars by time on a logarithmic axis, each target's beside the other's."""
    edges, counts = chart["edges_ms"], chart["counts"]
    targets = list(counts)
    most = max((max(values, default=0) for values in counts.values()), default=0) or 1
    low, high = math.log(edges[0]), math.log(edges[-1])
    parts = [_frame(), _scale_y(most, "calls")]

    def at(value: float) -> float:
        return _LEFT + (math.log(value) - low) / max(high - low, 1e-9) * (_W - _LEFT)

    for order, target in enumerate(targets):
        for number, count in enumerate(counts[target]):
            if count:
                left, right = at(edges[number]), at(edges[number + 1])
                width = (right - left) / len(targets)
                height = count / most * (_H - _TOP - _BOTTOM)
                parts.append(
                    f'<rect class="{_MARKS[order % 2]}" x="{left + order * width:.1f}" y="{_H - _BOTTOM - height:.1f}" '
                    f'width="{max(1.0, width - 1):.1f}" height="{height:.1f}"/>'
                )
    for number in range(5):
        value = math.exp(low + (high - low) * number / 4)
        parts.append(_label_x(at(value), f"{value:.3g} ms", number))
    return _svg(parts, f"Histogram of {', '.join(targets)}", targets)


def draw_series(series: Mapping[str, Sequence[Any]]) -> str:
    """Return calls that began and ended in each second, and how many were open."""
    seconds = series["second"]
    lines = {"open": series["in_flight"], "ended a second": series["ended"]}
    most = max((max(values, default=0) for values in lines.values()), default=0) or 1
    span = max(1, len(seconds) - 1)
    parts = [_frame(), _scale_y(most, "calls")]
    for order, values in enumerate(lines.values()):
        points = " ".join(
            f"{_LEFT + number / span * (_W - _LEFT):.1f},{_H - _BOTTOM - value / most * (_H - _TOP - _BOTTOM):.1f}"
            for number, value in enumerate(values)
        )
        parts.append(f'<polyline class="{_MARKS[order % 2]}" fill="none" points="{points}"/>')
    for number in range(5):
        second = seconds[0] + span * number / 4
        parts.append(_label_x(_LEFT + number / 4 * (_W - _LEFT), f"{second:.0f} s", number))
    return _svg(parts, "Calls by second", list(lines))


def draw_scatter(points: Sequence[Sequence[Any]]) -> str:
    """Return one point a call: completion tokens across, time up."""
    most_tokens = max(point[0] for point in points) or 1
    most_ms = max(point[1] for point in points) or 1.0
    targets = list(dict.fromkeys(point[2] for point in points))
    parts = [_frame(), _scale_y(most_ms, "ms")]
    for tokens, taken, target in points:
        across = _LEFT + tokens / most_tokens * (_W - _LEFT - 4)
        up = _H - _BOTTOM - taken / most_ms * (_H - _TOP - _BOTTOM)
        parts.append(
            f'<circle class="{_MARKS[targets.index(target) % 2]}" cx="{across:.1f}" cy="{up:.1f}" r="2" '
            'fill-opacity="0.5" stroke="none"/>'
        )
    for number in range(5):
        value = most_tokens * number / 4
        parts.append(_label_x(_LEFT + number / 4 * (_W - _LEFT - 4), f"{value:.0f} tokens", number))
    return _svg(parts, "Time by completion tokens", targets)


def _frame() -> str:
    floor = _H - _BOTTOM
    return f'<line class="axis" x1="{_LEFT}" y1="{floor}" x2="{_W}" y2="{floor}"/>'


def _scale_y(most: float, unit: str) -> str:
    floor = _H - _BOTTOM
    return (
        f'<text x="{_LEFT - 6}" y="{floor}" text-anchor="end">0</text>'
        f'<text x="{_LEFT - 6}" y="{_TOP + 4}" text-anchor="end">{most:.4g}</text>'
        f'<text x="0" y="{_TOP - 8}">{escape(unit)}</text>'
    )


def _label_x(at: float, text: str, number: int) -> str:
    anchor = "start" if number == 0 else "end" if number == 4 else "middle"
    return f'<text x="{at:.1f}" y="{_H - 8}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(parts: Sequence[str], title: str, names: Sequence[str]) -> str:
    legend = "".join(
        f'<tspan class="{_MARKS[number % 2]}" stroke="none" dx="{12 if number else 0}">{escape(name)}</tspan>'
        for number, name in enumerate(names)
    )
    return (
        f'<svg viewBox="0 0 {_W} {_H}" role="img" aria-label="{escape(title, quote=True)}">{"".join(parts)}'
        f'<text x="{_LEFT}" y="{_TOP - 8}">{legend}</text></svg>'
    )
