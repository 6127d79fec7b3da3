"""Alerts in words and shapes: what a rule watches, how it stood over time, and where its bounds lie."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from penstock.console.links import link
from penstock.console.measured import format_value
from penstock.console.plots import Bound, Plot, Series, draw_lines
from penstock.monitors.types import AlertState, AlertView, RuleContent, Threshold, Transition
from penstock.spec.measures import MetricQuery, Unit, find_measure
from penstock.traces.measures.service import MeasureService

_S = 1_000_000_000
N_WINDOWS = 48
TONES: dict[AlertState, str] = {
    "unknown": "none",
    "ok": "quiet",
    "warning": "near",
    "alert": "bad",
    "no-data": "gap",
    "broken": "bad",
}
SUBJECT_WORDS = {"trace": "traces", "call": "model calls", "span": "spans"}
_LENGTHS = ((7 * 86_400, "week"), (86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A time in one state; x and width in percent of the strip."""

    state: AlertState
    tone: str
    x: float
    width: float


def say_length(seconds: int) -> str:
    """Return 5 minutes, an hour, 90 seconds: in the largest unit that it is a whole number of."""
    for size, name in _LENGTHS:
        if seconds % size == 0 and seconds >= size:
            count = seconds // size
            if count == 1:
                return f"{'an' if name == 'hour' else 'a'} {name}"
            return f"{count} {name}s"
    return f"{seconds} seconds"


def say_rule(content: RuleContent) -> str:
    """Return what a rule watches, in one sentence without its end."""
    measure = find_measure(content.measure)
    title = measure.title if measure else content.measure
    narrowed = f" with {content.where}" if content.where.strip() else ""
    return f"{title} of {SUBJECT_WORDS[content.subject]}{narrowed}, over {say_length(content.window_s)}"


def say_threshold(threshold: Threshold, unit: Unit) -> str:
    """Return above 2.00 s, back at 1.50 s."""
    side, bound = ("above", threshold.above) if threshold.above is not None else ("below", threshold.below)
    back = "" if threshold.recover is None else f", back at {format_value(threshold.recover, unit)}"
    return f"{side} {format_value(bound, unit)}{back}"


def unit_of(content: RuleContent) -> Unit:
    """Return what a rule's value is counted in."""
    measure = find_measure(content.measure)
    return measure.unit if measure else "count"


def bounds_of(content: RuleContent) -> tuple[Bound, ...]:
    """Return the bounds of a rule as a plot draws them."""
    bounds = []
    for name, threshold, tone in (("alert", content.alert, "bad"), ("warning", content.warning, "near")):
        value = (
            None if threshold is None else threshold.above if threshold.above is not None else threshold.below
        )
        if value is not None:
            bounds.append(Bound(value=value, name=name, tone=tone))
    return tuple(bounds)


def draw_rule(measures: MeasureService, content: RuleContent, *, now: int, zoom_href: str) -> Plot:
    """Return the measure in windows of the rule's length, the newest last; raise what the search language raises.

    The newest is the one that ends now, as the rule looks at it; those before begin at whole multiples of the length.
    """
    width = content.window_s * _S
    until = now // width * width
    since = max(0, until - (N_WINDOWS - 1) * width)
    query = MetricQuery(
        measures=(content.measure,),
        since_ns=since,
        until_ns=max(until, since + 1),
        subject=content.subject,
        where=measures.parse(content.where, content.subject),
        bucket_ns=width,
    )
    report = measures.measure(query)
    newest = measures.measure(
        msgspec.structs.replace(query, since_ns=max(0, now - width), until_ns=max(now, 1), bucket_ns=None)
    )
    by_start = {row.start_ns: row for row in report.rows}
    rows = [*(by_start.get(start) for start in report.slices), next(iter(newest.rows), None)]
    cells = [row.cells[content.measure] if row else None for row in rows]
    search = next((row.zoom.search for row in rows if row), content.where)
    return draw_lines(
        [
            Series(
                name=report.measures[0].title,
                tone="1",
                values=[cell.value if cell else None for cell in cells],
                lows=[cell.low if cell else None for cell in cells],
                highs=[cell.high if cell else None for cell in cells],
                behind=[cell.n if cell else 0 for cell in cells],
                href=link("/traces", {"q": search, "view": None if content.subject == "trace" else "spans"}),
            )
        ],
        title="",
        unit=report.measures[0].unit,
        starts=(*report.slices, newest.since_ns),
        width_ns=width,
        until_ns=newest.until_ns,
        zoom_href=zoom_href,
        bounds=bounds_of(content),
    )


def draw_strip(
    transitions: Sequence[Transition], state: AlertState, since_ns: int, until_ns: int
) -> tuple[Segment, ...]:
    """Return the states of a rule over time, from its transitions (newest first) and how it stands now."""
    found: list[Segment] = []
    end, now_state = until_ns, state
    length = max(1, until_ns - since_ns)
    for each in transitions:
        if each.is_test:
            continue
        start = max(each.at_ns, since_ns)
        if start < end:
            found.append(_segment(now_state, start, end, since_ns, length))
        end, now_state = min(end, start), each.before
        if each.at_ns <= since_ns:
            break
    if end > since_ns:
        found.append(_segment(now_state, since_ns, end, since_ns, length))
    return tuple(reversed(found))


def value_of(view: AlertView) -> str:
    """Return the newest value of a rule in words."""
    return format_value(view.status.value, unit_of(view.rule.content))


def _segment(state: AlertState, start: int, end: int, since: int, length: int) -> Segment:
    return Segment(
        state=state,
        tone=TONES[state],
        x=round(100 * (start - since) / length, 3),
        width=round(max(100 * (end - start) / length, 0.4), 3),
    )
