"""Two load tests that were run apart, side by side. Pure.

Between two runs everything may have changed, so a difference here is a hint; a comparison within one run
(`--against`) is evidence.
"""

import msgspec

from penstock.deploy.load.errors import InvalidLoadTest
from penstock.deploy.load.types import Estimate, Figures, LoadRecord

_TIMES = ("ttft", "e2e", "tpot", "itl", "queueing")
_LEVELS = ("p50", "p95", "p99")

APART_NOTE = (
    "These are two runs: whatever changed between them (other work, caches, a warm engine) is in the differences. "
    "`--against` asks two targets in turn in one run."
)


class SideRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One figure of both."""

    measure: str
    unit: str
    first: Estimate | None
    second: Estimate | None
    ratio: float | None
    """Second by first."""
    is_apart: bool
    """Whether the intervals do not meet."""


class SideBySide(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Two tests."""

    first: str
    second: str
    rows: tuple[SideRow, ...]
    notes: tuple[str, ...]


def put_side_by_side(first: LoadRecord, second: LoadRecord) -> SideBySide:
    """Return the figures of the first target of both; raise `InvalidLoadTest` for a test without results."""
    figures = []
    for record in (first, second):
        if record.result is None or not record.result.targets:
            raise InvalidLoadTest(f"Load test {record.id} has no figures: it is {record.state}.")
        figures.append(record.result.targets[0])
    rows = [
        row
        for measure in _TIMES
        for level in _LEVELS
        if (row := _row(f"{measure}.{level}", "ms", *(_time(each, measure, level) for each in figures)))
    ]
    for measure, unit in (
        ("requests_per_s", "/s"),
        ("completion_tokens_per_s", "/s"),
        ("goodput", "%"),
        ("goodput_per_s", "/s"),
    ):
        row = _row(measure, unit, *(getattr(each, measure) for each in figures))
        if row is not None:
            rows.append(row)
    return SideBySide(first=first.id, second=second.id, rows=tuple(rows), notes=tuple(_notes(first, second)))


def _time(figures: Figures, measure: str, level: str) -> Estimate | None:
    spread = figures.spreads.get(measure)
    return None if spread is None else getattr(spread, level)


def _row(measure: str, unit: str, first: Estimate | None, second: Estimate | None) -> SideRow | None:
    if first is None and second is None:
        return None
    ratio = None
    if first is not None and second is not None and first.value and second.value is not None:
        ratio = second.value / first.value
    return SideRow(
        measure=measure, unit=unit, first=first, second=second, ratio=ratio, is_apart=_is_apart(first, second)
    )


def _is_apart(first: Estimate | None, second: Estimate | None) -> bool:
    if first is None or second is None:
        return False
    above = second.low is not None and first.high is not None and second.low > first.high
    below = second.high is not None and first.low is not None and second.high < first.low
    return above or below


def _notes(first: LoadRecord, second: LoadRecord) -> list[str]:
    notes = [APART_NOTE]
    for what, mine, other in (
        ("arrivals", first.spec.shape, second.spec.shape),
        ("mixes", first.spec.mix, second.spec.mix),
        ("streaming", first.spec.stream, second.spec.stream),
    ):
        if mine != other:
            notes.append(f"Their {what} differ.")
    return notes
