"""Time series as shapes: numbers in, coordinates out. Templates draw them as SVG with attributes only.

Coordinates run from 0 to 100 in both directions, y downward; the drawing is stretched to its place, so no text
stands inside it. A slice without a value is a gap, never a zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import urlencode

from penstock.console.formats import format_count, format_money, format_ms
from penstock.store.spans.types import Bucket


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One slice: a bar on the baseline, with the failed share drawn from the baseline up."""

    x: float
    width: float
    y: float
    height: float
    bad_y: float
    bad_height: float
    label: str
    href: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One question over time. `top` labels the upper rule; the baseline is always zero."""

    title: str
    top: str
    bars: tuple[Bar, ...]
    ticks: tuple[str, ...]
    empty: str | None
    """What stands there instead of bars when no slice has a value to draw."""
    tone: str = "calls"


def build_charts(series: Sequence[Bucket], until_ns: int) -> tuple[Chart, ...]:
    """Return the three charts of the overview: calls, latency, money."""
    calls = [float(each.n_calls) for each in series]
    p95 = [each.p95_ms for each in series]
    money = [None if each.cost_usd is None else float(each.cost_usd) for each in series]
    top_calls, top_ms, top_money = (nice_ceiling(values) for values in (calls, p95, money))
    ticks = _ticks(series, until_ns)
    return (
        Chart(
            title="Calls, failed in red",
            top=format_count(int(top_calls)),
            bars=_bars(calls, series, until_ns, ceiling=top_calls, bad=[each.n_errors for each in series]),
            ticks=ticks,
            empty=None if any(calls) else "No calls in this window",
        ),
        Chart(
            title="95th percentile latency of answered calls",
            top=format_ms(top_ms),
            bars=_bars(p95, series, until_ns, ceiling=top_ms),
            ticks=ticks,
            empty=None if any(p95) else "Nothing was timed in this window",
            tone="latency",
        ),
        Chart(
            title="Cost",
            top=format_money(Decimal(repr(top_money))),
            bars=_bars(money, series, until_ns, ceiling=top_money),
            ticks=ticks,
            empty=None if any(money) else _say_no_money(calls, money),
            tone="money",
        ),
    )


def nice_ceiling(values: Sequence[float | None]) -> float:
    """Return the smallest of 1, 2, 5 × 10ⁿ that no value is over; 1 when there is none over zero."""
    highest = max((value for value in values if value is not None), default=0.0)
    if highest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(max(highest, 1e-12)))
    return next((step * power for step in (1, 2, 5) if highest <= step * power * (1 + 1e-9)), 10 * power)


def sparkline(values: Sequence[float | None], *, top: float | None = None) -> str:
    """Return the points of a polyline through the known values, in a box of 100 × 100."""
    ceiling = top or nice_ceiling(values)
    step = 100 / max(len(values) - 1, 1)
    points = [
        f"{index * step:.2f},{100 - 100 * value / ceiling:.2f}"
        for index, value in enumerate(values)
        if value is not None
    ]
    return " ".join(points)


def _say_no_money(calls: Sequence[float], money: Sequence[float | None]) -> str:
    if not any(calls):
        return "No calls in this window"
    return "No price is known for these calls" if all(each is None for each in money) else "Free of charge"


def _bars(
    values: Sequence[float | None],
    series: Sequence[Bucket],
    until_ns: int,
    *,
    ceiling: float,
    bad: Sequence[float] = (),
) -> tuple[Bar, ...]:
    width = 100 / max(len(series), 1)
    bars = []
    for index, (bucket, value) in enumerate(zip(series, values, strict=True)):
        end_ns = series[index + 1].start_ns if index + 1 < len(series) else until_ns
        height = 100 * (value or 0) / ceiling
        bad_height = 100 * bad[index] / ceiling if bad else 0.0
        bars.append(
            Bar(
                x=round(index * width + width * 0.12, 3),
                width=round(width * 0.76, 3),
                y=round(100 - height, 3),
                height=round(height, 3),
                bad_y=round(100 - bad_height, 3),
                bad_height=round(bad_height, 3),
                label=_describe(bucket),
                href="/traces?" + urlencode({"since_ns": bucket.start_ns, "until_ns": end_ns}),
            )
        )
    return tuple(bars)


def _describe(bucket: Bucket) -> str:
    parts = [
        f"{datetime.fromtimestamp(bucket.start_ns / 1e9, tz=UTC):%d %b %H:%M} UTC",
        f"{bucket.n_calls} calls",
        f"{bucket.n_errors} failed",
    ]
    if bucket.p95_ms is not None:
        parts.append(f"p95 {format_ms(bucket.p95_ms)}")
    if bucket.cost_usd is not None:
        parts.append(format_money(bucket.cost_usd))
    if bucket.n_unpriced:
        parts.append(f"{bucket.n_unpriced} without a price")
    return ", ".join(parts)


def _ticks(series: Sequence[Bucket], until_ns: int) -> tuple[str, ...]:
    if not series:
        return ()
    first = series[0].start_ns
    is_long = until_ns - first > 2 * 86_400 * 1_000_000_000
    style = "%d %b" if is_long else "%H:%M"
    marks = [first + (until_ns - first) * part // 4 for part in range(4)]
    return (*(f"{datetime.fromtimestamp(mark / 1e9, tz=UTC):{style}}" for mark in marks), "now")
