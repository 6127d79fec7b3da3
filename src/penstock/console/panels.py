"""Panels of a dashboard as they are drawn: reports in, plots, bars, tables and numbers with their words out.

A slice in which nothing happened counts zero calls but has no latency: sums are zero there, everything else is a gap.
So is the sum of a first slice of which the window holds only a part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from penstock.console.formats import DASH
from penstock.console.links import link
from penstock.console.measured import format_change, format_value
from penstock.console.plots import BAD_TONE, Plot, Series, draw_lines, tone_of
from penstock.spec.measures import Measure, MetricCell, is_sum
from penstock.traces.measures.types import Compare, PanelView, Report, ReportRow, Zoom

CardKind = Literal["plot", "bars", "table", "number", "problem"]
COMPARISONS: tuple[tuple[Compare, str], ...] = (
    ("previous", "the period before"),
    ("day", "the same time a day earlier"),
    ("week", "the same time a week earlier"),
)
NOT_SAID = "not said"


@dataclass(frozen=True, kw_only=True)
class ValueCell:
    """One value in words, with what qualifies it."""

    text: str
    detail: str
    """Interval, how many stand behind it, what is left out."""
    change: str
    """Against the period before; empty where nothing was compared."""
    left_out: int


@dataclass(frozen=True, kw_only=True)
class GroupLine:
    """One group of bars or of a table."""

    labels: tuple[str, ...]
    tone: str
    href: str
    cells: tuple[ValueCell, ...]
    pct: float
    """Of the first measure, against the largest group."""
    before_pct: float | None


@dataclass(frozen=True, kw_only=True)
class PanelCard:
    """One panel, ready to draw."""

    kind: CardKind
    title: str
    text: str
    width: int
    href: str
    """The traces behind the whole panel."""
    n_more: int
    """Groups that are not shown."""
    n_matched: int = 0
    """How many traces, calls or spans it is about."""
    plot: Plot | None = None
    heads: tuple[str, ...] = ()
    """Of bars and tables: the names of the dimensions."""
    measures: tuple[Measure, ...] = ()
    lines: tuple[GroupLine, ...] = ()
    numbers: tuple[tuple[str, ValueCell], ...] = ()
    """Names and values of a number panel."""
    problem: str | None = None


def build_card(view: PanelView, *, zoom_href: str) -> PanelCard:
    """Return a panel as it is drawn; `zoom_href` is the dashboard, to be narrowed to a window."""
    panel, report = view.panel, view.report
    title = panel.title
    if report is None:
        return PanelCard(
            kind="problem",
            title=title,
            text=panel.text,
            width=panel.width,
            href="",
            n_more=0,
            problem=view.problem,
        )
    n_more = max(0, report.n_groups - len({_labels(row) for row in report.rows})) if report.by else 0
    base = {
        "title": title,
        "text": panel.text or (report.measures[0].text if len(report.measures) == 1 else ""),
        "width": panel.width,
        "href": _whole_href(view.total or report),
        "n_more": n_more,
        "n_matched": report.n_matched,
    }
    if panel.chart == "line" and report.bucket_ns is not None:
        return PanelCard(kind="plot", plot=_draw(view, report, zoom_href), **base)  # type: ignore[arg-type]
    if panel.chart == "number":
        numbers = _numbers(report)
        return PanelCard(kind="number", numbers=numbers, **base)  # type: ignore[arg-type]
    kind: CardKind = "bars" if panel.chart == "bar" else "table"
    return PanelCard(
        kind=kind,
        heads=tuple(name.replace("_", " ") for name in report.by),
        measures=report.measures,
        lines=_lines(report),
        **base,  # type: ignore[arg-type]
    )


def zoom_link(zoom: Zoom) -> str:
    """Return the list of what stands behind a point."""
    return link(
        "/traces",
        {
            "q": zoom.search,
            "view": "spans" if zoom.spans else None,
            "order": None if zoom.order == "newest" else zoom.order,
            "since_ns": zoom.since_ns,
            "until_ns": zoom.until_ns,
        },
    )


def say_cell(row: ReportRow | None, measure: Measure, *, compared: bool) -> ValueCell:
    """Return one value in words."""
    cell = row.cells.get(measure.name) if row else None
    if row is None or cell is None:
        empty = 0.0 if is_sum(measure.name) else None
        return ValueCell(text=format_value(empty, measure.unit), detail="", change="", left_out=0)
    details = []
    if cell.low is not None and cell.high is not None:
        low, high = format_value(cell.low, measure.unit), format_value(cell.high, measure.unit)
        details.append(f"95 % interval {low} to {high}")
    if measure.unit not in {"count", "tokens"} and cell.value is not None:
        details.append(f"of {cell.n:,}")
    if cell.n_left_out:
        details.append(f"{cell.n_left_out:,} do not say and are left out")
    before = row.before.get(measure.name)
    if compared and before is not None:
        details.append(f"before {format_value(before.value, measure.unit, before.exact)}")
    known = row.change.get(measure.name)
    change = format_change(known) if compared and known is not None else ""
    return ValueCell(
        text=format_value(cell.value, measure.unit, cell.exact),
        detail=", ".join(details),
        change=change,
        left_out=cell.n_left_out,
    )


def shorten(titles: Sequence[str]) -> list[str]:
    """Return titles without the words that all of them begin with: the panel's title says these."""
    words = [title.split() for title in titles]
    n_shared = 0
    while len(titles) > 1 and all(len(each) > n_shared + 1 for each in words):
        if len({each[n_shared] for each in words}) > 1:
            break
        n_shared += 1
    return [" ".join(each[n_shared:]) for each in words]


def _draw(view: PanelView, report: Report, zoom_href: str) -> Plot:
    measure = report.measures[0]
    total = view.total.rows[0] if view.total and view.total.rows else None
    series = _series_of_groups(report) if report.by else _series_of_measures(report)
    headline, change = "", ""
    if len(report.measures) == 1 and total is not None:
        said = say_cell(total, measure, compared=report.compared is not None)
        if said.text != DASH:
            headline, change = said.text + (" +?" if said.left_out else ""), said.change
    return draw_lines(
        series,
        title=view.panel.title,
        unit=measure.unit,
        starts=report.slices,
        width_ns=report.bucket_ns or 1,
        until_ns=report.until_ns,
        zoom_href=zoom_href,
        headline=headline,
        change=change,
    )


def _series_of_groups(report: Report) -> list[Series]:
    measure = report.measures[0]
    groups: dict[tuple[str, ...], list[ReportRow]] = {}
    for row in report.rows:
        groups.setdefault(_labels(row), []).append(row)
    taken: dict[str, str] = {}
    found = []
    for labels, rows in groups.items():
        name = " · ".join(labels)
        tone = tone_of(report.by[0], None if labels[0] == NOT_SAID else name, taken)
        taken.setdefault(tone, name)
        found.append(_series(report, measure, rows, name=name, tone=tone))
    return found


def _series_of_measures(report: Report) -> list[Series]:
    taken: dict[str, str] = {}
    found = []
    names = shorten([measure.title for measure in report.measures])
    for measure, name in zip(report.measures, names, strict=True):
        tone = (
            BAD_TONE if measure.name in {"errors", "error_share"} else tone_of("measure", measure.name, taken)
        )
        taken.setdefault(tone, measure.name)
        found.append(_series(report, measure, report.rows, name=name, tone=tone))
    return found


def _series(report: Report, measure: Measure, rows: Sequence[ReportRow], *, name: str, tone: str) -> Series:
    by_start = {row.start_ns: row for row in rows}
    empty = 0.0 if is_sum(measure.name) else None
    cells: list[MetricCell | None] = []
    before: list[float | None] = []
    for start in report.slices:
        row = by_start.get(start)
        cells.append(row.cells.get(measure.name) if row else None)
        was = row.before.get(measure.name) if row else None
        before.append(was.value if was else None)
    values = [empty if cell is None else cell.value for cell in cells]
    if _begins_cut(report, measure):
        values[0], before[0] = None, None
    zoom = rows[0].zoom if rows else None
    return Series(
        name=name,
        tone=tone,
        values=values,
        lows=[cell.low if cell else None for cell in cells],
        highs=[cell.high if cell else None for cell in cells],
        before=before if report.compared is not None else (),
        behind=[cell.n if cell else 0 for cell in cells],
        href=None if zoom is None else _windowless(zoom),
    )


def _begins_cut(report: Report, measure: Measure) -> bool:
    """Return whether the first of several slices began before the window: drawn, its sum would look like a fall."""
    return is_sum(measure.name) and len(report.slices) > 2 and report.slices[0] < report.since_ns


def _lines(report: Report) -> tuple[GroupLine, ...]:
    measure = report.measures[0]
    values = [(row.cells[measure.name].value, _before(row, measure)) for row in report.rows]
    most = max((abs(value) for pair in values for value in pair if value is not None), default=0.0) or 1.0
    taken: dict[str, str] = {}
    lines = []
    for row, (value, before) in zip(report.rows, values, strict=True):
        labels = _labels(row)
        name = " · ".join(labels)
        tone = "1"
        if report.by:
            tone = tone_of(report.by[0], None if labels[0] == NOT_SAID else name, taken)
            taken.setdefault(tone, name)
        lines.append(
            GroupLine(
                labels=labels,
                tone=tone,
                href=zoom_link(row.zoom),
                cells=tuple(
                    say_cell(row, each, compared=report.compared is not None) for each in report.measures
                ),
                pct=round(100 * max(value or 0.0, 0.0) / most, 1),
                before_pct=None if before is None else round(100 * max(before, 0.0) / most, 1),
            )
        )
    return tuple(lines)


def _numbers(report: Report) -> tuple[tuple[str, ValueCell], ...]:
    row = report.rows[0] if report.rows else None
    return tuple(
        (measure.title, say_cell(row, measure, compared=report.compared is not None))
        for measure in report.measures
    )


def _before(row: ReportRow, measure: Measure) -> float | None:
    cell = row.before.get(measure.name)
    return None if cell is None else cell.value


def _labels(row: ReportRow) -> tuple[str, ...]:
    return tuple(NOT_SAID if value is None else value for value in row.group.values())


def _whole_href(report: Report) -> str:
    """Return the list of what stands behind all of it: of the first row where it is the only one, else of the window."""
    if len(report.rows) == 1 and not report.by:
        return zoom_link(report.rows[0].zoom)
    bounds = {"since_ns": report.since_ns, "until_ns": report.until_ns}
    if not report.rows:
        return link("/traces", bounds)
    return link("/traces", {"view": "spans" if report.rows[0].zoom.spans else None, **bounds})


def _windowless(zoom: Zoom) -> str:
    return link(
        "/traces",
        {
            "q": zoom.search,
            "view": "spans" if zoom.spans else None,
            "order": None if zoom.order == "newest" else zoom.order,
        },
    )
