"""Dashboards: built-in ones that can be shown, people's own with versions, panels that fail alone."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Engine

from penstock.base.errors import CallerError
from penstock.main.measuring import create_measures, parse_for
from penstock.spec.measures import MetricQuery, MetricTable
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.measures import DuckDBMeasures
from penstock.traces.measures.dashboards import (
    DashboardService,
    load_built_in,
    read_dashboard,
    write_content,
)
from penstock.traces.measures.errors import (
    BuiltInDashboard,
    DashboardChanged,
    DashboardInvalid,
    UnknownDashboard,
)
from penstock.traces.measures.service import MeasureService
from penstock.traces.measures.types import Dashboard, Panel
from penstock.traces.search import render
from tests.fixtures.spans import T0, make_call_trace, make_span

S = 1_000_000_000
WINDOW = {"since_ns": T0, "until_ns": T0 + 3600 * S}


class Counted(DuckDBMeasures):
    """Measures that count how often they are asked."""

    n_asked = 0

    def measure(self, query: MetricQuery) -> MetricTable:
        self.n_asked += 1
        return super().measure(query)


@pytest.fixture
def store() -> Iterator[DuckDBSpanStore]:
    store = DuckDBSpanStore(Path(":memory:"), threads=1)
    store.append([*make_call_trace(1), make_span(1, trace=2, kind="llm", model="x", status="error")])
    yield store
    store.close()


@pytest.fixture
def dashboards(sqlite_engine: Engine, store: DuckDBSpanStore) -> DashboardService:
    return DashboardService(sqlite_engine, create_measures(store.file), clock=lambda: 77)


def board(*panels: Panel, name: str = "mine", **fields: object) -> Dashboard:
    """Return a dashboard, of one panel unless told."""
    return Dashboard(
        name=name, title="Mine", panels=panels or (Panel(title="n", measures=("calls",)),), **fields
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(load_built_in()))
def test_every_panel_of_every_built_in_dashboard_is_answered(dashboards: DashboardService, name: str) -> None:
    dashboards.check(load_built_in()[name])
    view = dashboards.show(name, compare="previous", **WINDOW)
    for shown in view.panels:
        assert shown.problem is None, shown.panel.title
        assert shown.report is not None
        assert [measure.name for measure in shown.report.measures] == [*shown.panel.measures]
        assert all([*row.cells] == [*shown.panel.measures] for row in shown.report.rows)


def test_a_dashboard_is_kept_with_who_changed_it_and_when(
    control_engine: Engine, store: DuckDBSpanStore
) -> None:
    dashboards = DashboardService(control_engine, create_measures(store.file), clock=lambda: 77)
    panel = Panel(title="Dear", measures=("cost",), chart="bar", by=("model",), where="status:ok", text="why")
    saved = dashboards.put(board(panel, where="kind:llm", window_s=3600), actor="ann")
    assert (saved.version, saved.actor, saved.updated_ns, saved.origin) == (1, "ann", 77, "stored")
    assert saved.panels == (panel,)
    again = dashboards.put(board(text="new"), actor="bob", expected_version=1)
    assert (again.version, again.text) == (2, "new")
    assert [one.name for one in dashboards.list()] == [*load_built_in(), "mine"]
    with pytest.raises(DashboardChanged):
        dashboards.put(board(), actor="ann", expected_version=1)
    with pytest.raises(DashboardChanged):
        dashboards.put(board(name="other"), actor="ann", expected_version=3)
    dashboards.delete("mine")
    with pytest.raises(UnknownDashboard):
        dashboards.get("mine")


def test_built_in_dashboards_stay_as_they_are(dashboards: DashboardService) -> None:
    with pytest.raises(BuiltInDashboard):
        dashboards.put(board(name="cost"), actor="ann")
    with pytest.raises(BuiltInDashboard):
        dashboards.delete("cost")


def test_an_unknown_dashboard_is_told_with_the_nearest_name(dashboards: DashboardService) -> None:
    with pytest.raises(UnknownDashboard, match="latency"):
        dashboards.get("latenzy")


@pytest.mark.parametrize(
    "panel",
    [
        Panel(title="", measures=("calls",)),
        Panel(title="p", measures=()),
        Panel(title="p", measures=("callz",)),
        Panel(title="p", measures=("calls",), by=("shoe",)),
        Panel(title="p", measures=("calls",), where="nope:1"),
        Panel(title="p", measures=("calls",), where="(kind:llm"),
        Panel(title="p", measures=("calls", "cost")),
        Panel(title="p", measures=("calls",), chart="bar"),
        Panel(title="p", measures=("calls",), chart="number", by=("model",)),
        Panel(title="p", measures=("latency_p50", "latency_p95"), by=("model",)),
        Panel(title="p", measures=("calls",), limit=0),
        Panel(title="p", measures=("tokens.output_text",), subject="trace"),
    ],
)
def test_a_panel_that_could_not_be_shown_is_refused_when_it_is_saved(
    dashboards: DashboardService, panel: Panel
) -> None:
    with pytest.raises(DashboardInvalid):
        dashboards.put(board(Panel(title="fine", measures=("calls",)), panel), actor="ann")


@pytest.mark.parametrize("name", ["", "Mine", "a b", "-a", "a" * 81, "../x"])
def test_names_are_parts_of_addresses(dashboards: DashboardService, name: str) -> None:
    with pytest.raises(DashboardInvalid):
        dashboards.put(board(name=name), actor="ann")


def test_a_panel_that_breaks_later_says_why_and_the_others_stand(
    sqlite_engine: Engine, store: DuckDBSpanStore
) -> None:
    dashboards = DashboardService(sqlite_engine, create_measures(store.file))
    dashboards.put(
        board(
            Panel(title="a", measures=("calls",)),
            Panel(title="b", measures=("calls",), where="agent:planner"),
        ),
        actor="ann",
    )

    def parse_later(text: str, subject: object) -> object:
        if "agent" in text:
            raise CallerError("There is no field agent any more.")
        return parse_for(text, subject)  # type: ignore[arg-type]

    later = DashboardService(
        sqlite_engine,
        MeasureService(DuckDBMeasures(store.file), parse=parse_later, render=render),  # type: ignore[arg-type]
    )
    view = later.show("mine", **WINDOW)
    assert [shown.problem for shown in view.panels] == [None, "There is no field agent any more."]
    assert view.panels[0].report is not None and view.panels[0].report.n_matched == 3


def test_searches_of_page_dashboard_and_panel_hold_together(dashboards: DashboardService) -> None:
    panels = [
        Panel(title="a", measures=("calls",), chart="number", where=where) for where in ("", "status:error")
    ]
    dashboards.put(board(*panels, where="kind:llm"), actor="ann")

    def counts(where: str) -> list[float | None]:
        reports = [shown.report for shown in dashboards.show("mine", where=where, **WINDOW).panels]
        return [report.rows[0].cells["calls"].value if report and report.rows else None for report in reports]

    assert counts("") == [2, 1]
    assert counts("model:pocket OR model:x") == [2, 1]
    assert counts("model:pocket") == [1, None]
    with pytest.raises(CallerError):
        counts("(")


def test_panels_over_the_same_rows_are_answered_together(
    sqlite_engine: Engine, store: DuckDBSpanStore
) -> None:
    counted = Counted(store.file)
    dashboards = DashboardService(sqlite_engine, MeasureService(counted, parse=parse_for, render=render))
    view = dashboards.show("overview", **WINDOW)
    n_lines = sum(shown.panel.chart == "line" for shown in view.panels)
    assert n_lines == 7
    assert counted.n_asked == 4, "all headlines, lines without groups, lines by route, and the table"
    cost = next(shown for shown in view.panels if shown.panel.title == "Cost")
    assert cost.total is not None and cost.report is not None
    assert cost.total.rows[0].cells["cost"].exact == Decimal("0.000124456789012345")
    assert cost.total.rows[0].zoom.order == "dearest", "each panel's own way to what is behind it"


def test_what_is_written_can_be_read_again() -> None:
    for one in load_built_in().values():
        again = read_dashboard("copy", msgspec.json.decode(msgspec.json.encode(write_content(one))))
        assert again.panels == one.panels
    with pytest.raises(DashboardInvalid, match="owner"):
        read_dashboard("x", {"title": "t", "panels": [], "owner": 1})
    with pytest.raises(DashboardInvalid, match="panels"):
        read_dashboard("x", {"title": "t", "panels": [{"title": "p", "measures": "calls"}]})


class Failing(DuckDBMeasures):
    """Measures of which one cannot be read."""

    def measure(self, query: MetricQuery) -> MetricTable:
        if "cost" in query.measures:
            raise RuntimeError("out of memory")
        return super().measure(query)


def test_a_panel_that_cannot_be_read_takes_no_other_along(
    sqlite_engine: Engine, store: DuckDBSpanStore, caplog: pytest.LogCaptureFixture
) -> None:
    measures = MeasureService(Failing(store.file), parse=parse_for, render=render)
    panels = [Panel(title=name, measures=(name,), chart="number") for name in ("calls", "cost", "errors")]
    view = DashboardService(sqlite_engine, measures).fill(board(*panels), **WINDOW)
    assert [each.problem is None for each in view.panels] == [True, False, True]
    assert [each.report is None for each in view.panels] == [False, True, False]
    assert "out of memory" in caplog.text
