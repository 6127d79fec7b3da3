"""Dashboards and what their pages show: panels, tables compared with the period before, the way to the traces behind."""

from typing import Literal

import msgspec

from penstock.spec.measures import Measure, MetricCell, MetricTable, Subject

ChartKind = Literal["line", "bar", "table", "number"]
Compare = Literal["previous", "day", "week"]
"""With what a window is compared: the one just before, or the same one a day or a week (or as many as it is long) earlier."""
Origin = Literal["built-in", "stored"]


class Panel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One chart, table or number of a dashboard."""

    title: str
    measures: tuple[str, ...]
    """One, or several of one unit; in a table of any."""
    chart: ChartKind = "line"
    by: tuple[str, ...] = ()
    subject: Subject = "call"
    where: str = ""
    """A search, besides that of the page."""
    limit: int = 8
    """Most groups that are shown."""
    width: Literal[1, 2, 3] = 1
    """Columns of three that it takes."""
    text: str = ""


class Dashboard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Panels under a name, in their order."""

    name: str
    """Lower-case letters, digits and dashes: part of its address."""
    title: str
    panels: tuple[Panel, ...]
    text: str = ""
    where: str = ""
    """A search that holds for all panels."""
    window_s: int = 86_400
    """What is shown unless another window is asked for."""
    origin: Origin = "stored"
    version: int = 0
    """Counted up by each change; 0 for built-in ones."""
    actor: str | None = None
    updated_ns: int | None = None


class Zoom(msgspec.Struct, frozen=True, kw_only=True):
    """The traces behind a point: a search and a window, for the list of traces (or of spans)."""

    search: str
    since_ns: int
    until_ns: int
    spans: bool
    """Whether the search is one of spans rather than of traces."""
    order: Literal["newest", "slowest", "dearest"] = "newest"


class ReportRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The values of one group in one slice, those of the period before beside them, and the way to what is behind."""

    cells: dict[str, MetricCell]
    n: int
    zoom: Zoom
    group: dict[str, str | None] = {}
    start_ns: int | None = None
    """Where the slice begins; None for the window as one."""
    before: dict[str, MetricCell] = {}
    """By measure, of the same group and the slice as far from the beginning; empty where nothing was compared or found."""
    change: dict[str, float | None] = {}
    """By measure, relative: 0.1 is a tenth more than before; None where either value is unknown or before was 0."""


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to one query, ready to draw."""

    measures: tuple[Measure, ...]
    by: tuple[str, ...]
    since_ns: int
    until_ns: int
    bucket_ns: int | None
    slices: tuple[int, ...]
    """Beginnings of all slices, also those without rows; empty without slices."""
    rows: list[ReportRow]
    n_groups: int
    n_matched: int
    compared: Compare | None = None
    before_since_ns: int | None = None
    before_until_ns: int | None = None
    n_matched_before: int | None = None


class PanelView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A panel with what is in it, or with why that is unknown."""

    panel: Panel
    report: Report | None
    total: Report | None = None
    """The window as one and all groups together, for a line's headline; None where `report` is that already."""
    problem: str | None = None


class DashboardView(msgspec.Struct, frozen=True, kw_only=True):
    """A dashboard filled for a window."""

    dashboard: Dashboard
    since_ns: int
    until_ns: int
    bucket_ns: int
    where: str
    panels: list[PanelView]


MAX_SLICES = 120


def empty_table() -> MetricTable:
    """Return the answer to what matches nothing."""
    return MetricTable(rows=[], n_groups=0, n_matched=0)
