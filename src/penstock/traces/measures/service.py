"""Measures for pages, REST and the command line: compared with the period before, and with the way to what is behind."""

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.spec.measures import (
    Measure,
    MetricCell,
    MetricQuery,
    MetricRow,
    Subject,
    find_measure,
    is_dimension,
    is_sum,
)
from penstock.spec.search import Condition
from penstock.store.spans.measures import MAX_GROUPS
from penstock.store.spans.port import Measures
from penstock.traces.measures.types import MAX_SLICES, Compare, Report, ReportRow
from penstock.traces.measures.zoom import Render, build_zoom

Parse = Callable[[str, Subject], Condition]
"""Search text to condition; raises `CallerError` that points at the fault."""
_S = 1_000_000_000
_WIDTHS_S = (1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400)
_SHIFTS_S = {"day": 86_400, "week": 7 * 86_400}
_Key = tuple[Any, ...]


class MeasureService:
    """Measures over the record. May be called from any thread."""

    def __init__(self, measures: Measures, *, parse: Parse, render: Render) -> None:
        self._measures = measures
        self._parse = parse
        self._render = render

    def parse(self, text: str, subject: Subject) -> Condition:
        """Return the condition of a search; raises what the search language raises."""
        return self._parse(text, subject)

    def measure(self, query: MetricQuery, compare: Compare | None = None) -> Report:
        """Return the measures of each group and slice, compared with an earlier window if asked.

        Compared, there are rows also for groups and slices that only the earlier window has.
        Raises `InvalidInput` for a query that means nothing, or a window that has no earlier one.
        """
        measures = check_measures(query)
        table = self._measures.measure(query)
        report = Report(
            measures=measures,
            by=query.by,
            since_ns=query.since_ns,
            until_ns=query.until_ns,
            bucket_ns=query.bucket_ns,
            slices=_slices(query),
            rows=[self._row(query, row, None) for row in table.rows],
            n_groups=table.n_groups,
            n_matched=table.n_matched,
        )
        return report if compare is None else self._compared(report, query, table.rows, compare)

    def narrow(self, report: Report, query: MetricQuery, names: tuple[str, ...]) -> Report:
        """Return a report on `query` with some of its measures alone, and the way to what is behind these."""
        if names == query.measures:
            return report
        narrow = msgspec.structs.replace(query, measures=names)
        known = {measure.name: measure for measure in report.measures}
        return msgspec.structs.replace(
            report,
            measures=tuple(known[name] for name in names),
            rows=[self._narrow_row(narrow, row) for row in report.rows],
        )

    def _narrow_row(self, query: MetricQuery, row: ReportRow) -> ReportRow:
        return msgspec.structs.replace(
            row,
            cells={name: row.cells[name] for name in query.measures},
            before={name: row.before[name] for name in query.measures if name in row.before},
            change={name: row.change[name] for name in query.measures if name in row.change},
            zoom=build_zoom(query, row.group, row.start_ns, render=self._render),
        )

    def list_values(self, dimension: str, since_ns: int, until_ns: int, *, limit: int = 100) -> list[str]:
        """Return what spans of the window have in a dimension, the most frequent first."""
        if not is_dimension(dimension):
            raise InvalidInput(f"{dimension[:80]!r} is no dimension.")
        return self._measures.list_values(dimension, since_ns, until_ns, limit=limit)

    def _compared(
        self, report: Report, query: MetricQuery, rows: list[MetricRow], compare: Compare
    ) -> Report:
        shift = find_shift(query, compare)
        if query.since_ns < shift:
            raise InvalidInput("There is no earlier window to compare with.", hint="Choose a shorter one.")
        earlier = msgspec.structs.replace(
            query, since_ns=query.since_ns - shift, until_ns=query.until_ns - shift, limit=MAX_GROUPS
        )
        table = self._measures.measure(earlier)
        before = {_key(row, shift): row for row in table.rows}
        shown = [*rows, *_gone(query, report, rows, before.values(), shift)]
        groups = {row_group: place for place, row_group in enumerate(dict.fromkeys(map(_group, shown)))}
        shown.sort(key=lambda row: (groups[_group(row)], row.start_ns or 0))
        found = [self._row(query, row, before.get(_key(row, 0))) for row in shown]
        return msgspec.structs.replace(
            report,
            rows=found,
            compared=compare,
            before_since_ns=earlier.since_ns,
            before_until_ns=earlier.until_ns,
            n_matched_before=table.n_matched,
        )

    def _row(self, query: MetricQuery, row: MetricRow, before: MetricRow | None) -> ReportRow:
        cells = {} if before is None else before.cells
        return ReportRow(
            cells=row.cells,
            n=row.n,
            group=row.group,
            start_ns=row.start_ns,
            zoom=build_zoom(query, row.group, row.start_ns, render=self._render),
            before=cells,
            change={name: _change(cell, cells[name]) for name, cell in row.cells.items() if name in cells},
        )


def check_measures(query: MetricQuery) -> tuple[Measure, ...]:
    """Return the measures of a query; raise `InvalidInput` for names that are none."""
    found = [find_measure(name) for name in query.measures]
    for name, measure in zip(query.measures, found, strict=True):
        if measure is None:
            raise InvalidInput(
                f"There is no measure {name[:80]!r}.", hint="`penstock dashboard measures` lists them."
            )
    for name in query.by:
        if not is_dimension(name):
            raise InvalidInput(
                f"One cannot group by {name[:80]!r}.", hint="`penstock dashboard measures` lists dimensions."
            )
    return tuple(measure for measure in found if measure is not None)


def choose_bucket(since_ns: int, until_ns: int, *, most: int = MAX_SLICES) -> int:
    """Return the smallest round width that cuts the window into at most `most` slices."""
    for width_s in _WIDTHS_S:
        if until_ns - since_ns <= width_s * _S * most:
            return width_s * _S
    return -(-(until_ns - since_ns) // (most * _S)) * _S


def find_shift(query: MetricQuery, compare: Compare) -> int:
    """Return how far back the compared window lies: whole slices, so that slice meets slice."""
    length = query.until_ns - query.since_ns
    unit = _SHIFTS_S[compare] * _S if compare in _SHIFTS_S else query.bucket_ns or 1
    shift = -(-length // unit) * unit
    bucket = query.bucket_ns or 1
    return -(-shift // bucket) * bucket


def _slices(query: MetricQuery) -> tuple[int, ...]:
    width = query.bucket_ns
    if width is None:
        return ()
    return tuple(slot * width for slot in range(query.since_ns // width, (query.until_ns - 1) // width + 1))


def _key(row: MetricRow, shift: int) -> _Key:
    return (*row.group.values(), None if row.start_ns is None else row.start_ns + shift)


def _group(row: MetricRow) -> _Key:
    return tuple(row.group.values())


def _gone(
    query: MetricQuery, report: Report, rows: list[MetricRow], before: Iterable[MetricRow], shift: int
) -> Iterator[MetricRow]:
    """Yield rows for what was there before and is not any more: what went to zero is what a comparison is for.

    Of groups as many as there is room for; where groups were cut off, one that is not among the rows need not be gone.
    """
    known = {_key(row, 0) for row in rows}
    groups = {_group(row) for row in rows}
    n_free = 0 if report.n_groups > len(groups) else query.limit - len(groups)
    nothing = {
        name: MetricCell(value=0.0, n=0, exact=Decimal(0) if name == "cost" else None)
        if is_sum(name)
        else MetricCell(value=None, n=0)
        for name in query.measures
    }
    for row in before:
        start_ns = None if row.start_ns is None else row.start_ns + shift
        if _key(row, shift) in known or (start_ns is not None and start_ns not in report.slices):
            continue
        if _group(row) not in groups:
            if n_free <= 0:
                continue
            n_free -= 1
            groups.add(_group(row))
        yield MetricRow(cells=nothing, n=0, group=row.group, start_ns=start_ns)


def _change(now: MetricCell, before: MetricCell) -> float | None:
    if now.value is None or before.value is None or before.value == 0:
        return None
    return (now.value - before.value) / abs(before.value)
