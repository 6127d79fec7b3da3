"""The charts of an overview, and sparklines: slices of traffic in, plots out."""

import math
from collections.abc import Sequence

from penstock.console.plots import BAD_TONE, QUIET_TONE, Plot, Series, draw_bars, draw_lines, tone_of
from penstock.store.spans.types import Bucket

TRACES = "/traces"


def build_charts(series: Sequence[Bucket], until_ns: int) -> tuple[Plot, ...]:
    """Return the three charts of an overview: calls, latency, money."""
    starts = [each.start_ns for each in series]
    width_ns = starts[1] - starts[0] if len(starts) > 1 else max(1, until_ns - (starts or [0])[0])
    window = {"starts": starts, "width_ns": width_ns, "until_ns": until_ns, "zoom_href": TRACES}
    n_calls = [float(each.n_calls) for each in series]
    money = [None if each.cost_usd is None else float(each.cost_usd) for each in series]
    return (
        draw_bars(
            Series(name="traces", values=n_calls, tone=QUIET_TONE, href=TRACES),
            Series(
                name="failed",
                values=[float(each.n_errors) for each in series],
                tone=BAD_TONE,
                href=f"{TRACES}?q=status%3Aerror",
            ),
            title="Traces, failed in red",
            unit="count",
            empty="Nothing in this window",
            **window,  # type: ignore[arg-type]  # names and types of the window
        ),
        draw_lines(
            [
                Series(
                    name="p95",
                    values=[each.p95_ms for each in series],
                    behind=[each.n_calls - each.n_errors for each in series],
                    tone=tone_of("measure", "latency_p95", {}),
                    href=f"{TRACES}?order=slowest",
                )
            ],
            title="95th percentile latency of answered calls",
            unit="ms",
            empty="Nothing was timed in this window",
            **window,  # type: ignore[arg-type]  # as above
        ),
        draw_bars(
            Series(
                name="cost",
                values=money,
                tone=tone_of("measure", "cost", {}),
                href=f"{TRACES}?order=dearest",
            ),
            None,
            title="Cost",
            unit="usd",
            empty=_say_no_money(n_calls, money),
            **window,  # type: ignore[arg-type]  # as above
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
