"""Dashboards: built-in ones from a data file, people's own in the control tables, and what is in them in a window.

Panels that look at the same rows are answered by one reading of them. A panel that cannot be answered says why in its
place, and the others stand.
"""

import logging
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import resources
from typing import Any

import msgspec
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import CallerError, PenstockError
from penstock.spec.measures import Measure, MetricQuery
from penstock.spec.search import All, Condition
from penstock.store.spans.measures import MAX_MEASURES
from penstock.traces.measures import queries
from penstock.traces.measures.errors import (
    BuiltInDashboard,
    DashboardChanged,
    DashboardInvalid,
    UnknownDashboard,
)
from penstock.traces.measures.service import MeasureService, check_measures, choose_bucket
from penstock.traces.measures.types import (
    Compare,
    Dashboard,
    DashboardView,
    Panel,
    PanelView,
    Report,
)

MAX_PANELS = 40
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")
_CONTENT = ("title", "panels", "text", "where", "window_s")
_FAILED = "It could not be read; the log of the control process says why."
_log = logging.getLogger("penstock.measures")


class DashboardService:
    """Dashboards over the control tables and the measures. May be called from any thread."""

    def __init__(
        self, engine: Engine, measures: MeasureService, *, clock: Callable[[], int] = wall_clock
    ) -> None:
        self._engine = engine
        self._measures = measures
        self._clock = clock

    def list(self) -> list[Dashboard]:
        """Return all dashboards: the built-in ones first, then the others by name."""
        with self._engine.connect() as connection:
            stored = [_dashboard(row) for row in queries.list_all(connection)]
        return [*load_built_in().values(), *stored]

    def get(self, name: str) -> Dashboard:
        """Return one dashboard; raise `UnknownDashboard`."""
        built_in = load_built_in()
        if name in built_in:
            return built_in[name]
        with self._engine.connect() as connection:
            row = queries.get(connection, name)
        if row is None:
            raise UnknownDashboard(name, [one.name for one in self.list()])
        return _dashboard(row)

    def put(self, dashboard: Dashboard, *, actor: str, expected_version: int | None = None) -> Dashboard:
        """Create or replace a dashboard.

        Raises `DashboardInvalid` naming the panel, `BuiltInDashboard`, and `DashboardChanged` where `expected_version`
        (0: not there yet) is another by now.
        """
        self.check(dashboard)
        if dashboard.name in load_built_in():
            raise BuiltInDashboard(dashboard.name)
        content = {name: msgspec.to_builtins(getattr(dashboard, name)) for name in _CONTENT}
        with self._engine.begin() as connection:
            row = queries.get(connection, dashboard.name)
            found = 0 if row is None else row.version
            if expected_version is not None and expected_version != found:
                raise DashboardChanged(dashboard.name, found)
            values = {
                "content": content,
                "version": found + 1,
                "actor": actor,
                "updated_ns": self._clock(),
            }
            try:
                if row is None:
                    queries.add(connection, {"name": dashboard.name, **values})
                elif not queries.replace(connection, dashboard.name, found, values):
                    raise DashboardChanged(dashboard.name, found + 1)
            except IntegrityError as error:
                raise DashboardChanged(dashboard.name, 1) from error
        return self.get(dashboard.name)

    def delete(self, name: str) -> None:
        """Forget a dashboard; raise `UnknownDashboard`, `BuiltInDashboard`."""
        if name in load_built_in():
            raise BuiltInDashboard(name)
        self.get(name)
        with self._engine.begin() as connection:
            queries.remove(connection, name)

    def check(self, dashboard: Dashboard) -> None:
        """Raise `DashboardInvalid` for what could not be shown."""
        if not _NAME.fullmatch(dashboard.name):
            raise DashboardInvalid(
                "A dashboard's name must be 1 to 80 lower-case letters, digits and dashes.",
                hint="The title may be anything.",
            )
        if not dashboard.title.strip() or not 1 <= len(dashboard.panels) <= MAX_PANELS:
            raise DashboardInvalid(f"A dashboard has a title and 1 to {MAX_PANELS} panels.")
        if not 60 <= dashboard.window_s <= 366 * 86_400:
            raise DashboardInvalid("window_s must be between a minute and a year.")
        for panel in dashboard.panels:
            try:
                self._check_panel(dashboard, panel)
            except CallerError as error:
                raise DashboardInvalid(
                    f"Panel {panel.title[:80]!r}: {error.message}", hint=error.hint, **error.fields
                ) from error

    def show(
        self,
        name: str,
        *,
        since_ns: int,
        until_ns: int,
        where: str = "",
        compare: Compare | None = None,
    ) -> DashboardView:
        """Return a dashboard filled for a window; `where` is a search that holds for all panels.

        Raises `UnknownDashboard`, and what the search language raises for `where`.
        """
        return self.fill(self.get(name), since_ns=since_ns, until_ns=until_ns, where=where, compare=compare)

    def fill(
        self,
        dashboard: Dashboard,
        *,
        since_ns: int,
        until_ns: int,
        where: str = "",
        compare: Compare | None = None,
    ) -> DashboardView:
        """Return any dashboard, kept or not, as `show` does."""
        panels = self.fill_in_turn(
            dashboard, since_ns=since_ns, until_ns=until_ns, where=where, compare=compare
        )
        return DashboardView(
            dashboard=dashboard,
            since_ns=since_ns,
            until_ns=until_ns,
            bucket_ns=choose_bucket(since_ns, until_ns),
            where=where,
            panels=list(panels),
        )

    def fill_in_turn(
        self,
        dashboard: Dashboard,
        *,
        since_ns: int,
        until_ns: int,
        where: str = "",
        compare: Compare | None = None,
    ) -> Iterator[PanelView]:
        """Return the panels of `fill` one by one, each as soon as it is known; a faulty `where` is told at once."""
        for subject in {panel.subject for panel in dashboard.panels}:
            self._measures.parse(where, subject)  # a fault of the page's own search is no fault of a panel
        window = (since_ns, until_ns, choose_bucket(since_ns, until_ns))
        groups = {number: group for group in _shared(dashboard.panels) for number, _ in group}

        totals: dict[MetricQuery, Report] = {}

        def answer() -> Iterator[PanelView]:
            views: dict[int, PanelView] = {}
            for number in range(len(dashboard.panels)):
                if number not in views:
                    views.update(self._fill(dashboard, groups[number], window, where, compare, totals=totals))
                yield views.pop(number)

        return answer()

    def _fill(
        self,
        dashboard: Dashboard,
        group: Sequence[tuple[int, Panel]],
        window: tuple[int, int, int],
        where: str,
        compare: Compare | None,
        *,
        totals: dict[MetricQuery, Report],
    ) -> dict[int, PanelView]:
        """Return the views of panels that look at the same rows."""
        first = group[0][1]
        names = tuple(dict.fromkeys(name for _, panel in group for name in panel.measures))
        try:
            query = MetricQuery(
                measures=names,
                since_ns=window[0],
                until_ns=window[1],
                subject=first.subject,
                by=first.by,
                where=self._condition((dashboard.where, first.where, where), first),
                limit=first.limit,
            )
            is_line = first.chart == "line"
            whole = msgspec.structs.replace(query, by=(), limit=1)
            total = None
            if is_line:  # its headline is the window as one: percentiles of slices cannot be put together
                whole, total = self._total(whole, _headlines(dashboard.panels, first), compare, totals)
                query = msgspec.structs.replace(query, bucket_ns=window[2])
            report = self._measures.measure(query, compare)
        except (
            Exception
        ) as error:  # one panel must not take the others along, nor the page that is on its way
            if len(group) > 1:
                alone = [self._fill(dashboard, [one], window, where, compare, totals=totals) for one in group]
                return {number: view for views in alone for number, view in views.items()}
            if not isinstance(error, PenstockError):
                _log.exception("a panel could not be filled", extra={"panel": first.title})
            problem = error.message if isinstance(error, PenstockError) else _FAILED
            return {number: PanelView(panel=panel, report=None, problem=problem) for number, panel in group}
        return {
            number: PanelView(
                panel=panel,
                report=self._measures.narrow(report, query, panel.measures),
                total=None if total is None else self._measures.narrow(total, whole, panel.measures),
            )
            for number, panel in group
        }

    def _total(
        self,
        whole: MetricQuery,
        names: tuple[str, ...],
        compare: Compare | None,
        totals: dict[MetricQuery, Report],
    ) -> tuple[MetricQuery, Report]:
        """Return the headline of a line and the query it answers: of all lines over the same rows, where one query can."""
        wide = msgspec.structs.replace(whole, measures=names)
        if wide in totals:
            return wide, totals[wide]
        if len(names) <= MAX_MEASURES:
            with suppress(PenstockError):  # of another line: it says so in its own place
                totals[wide] = self._measures.measure(wide, compare)
                return wide, totals[wide]
        return whole, self._measures.measure(whole, compare)

    def _condition(self, texts: Iterable[str], panel: Panel) -> Condition:
        parts = [self._measures.parse(text, panel.subject) for text in texts if text.strip()]
        return parts[0] if len(parts) == 1 else All(parts=tuple(parts))

    def _check_panel(self, dashboard: Dashboard, panel: Panel) -> None:
        if not panel.title.strip() or not 1 <= len(panel.measures) <= MAX_MEASURES:
            raise DashboardInvalid(f"A panel has a title and 1 to {MAX_MEASURES} measures.")
        where = self._condition((dashboard.where, panel.where), panel)
        query = MetricQuery(
            measures=panel.measures,
            since_ns=0,
            until_ns=1,
            subject=panel.subject,
            by=panel.by,
            where=where,
            limit=panel.limit,
        )
        measures = check_measures(query)
        _check_chart(panel, measures)
        self._measures.measure(query)  # of an empty window: what the store refuses, it refuses now


def _check_chart(panel: Panel, measures: Sequence[Measure]) -> None:
    units = {measure.unit for measure in measures}
    if panel.chart in {"line", "bar"} and len(units) > 1:
        raise DashboardInvalid(
            f"One {panel.chart} chart has one unit, not {', '.join(sorted(units))}.",
            hint="Make a panel of each, or a table.",
        )
    if panel.chart == "number" and panel.by:
        raise DashboardInvalid("A number has no groups.", hint="Leave `by` out, or make it a bar or a table.")
    if panel.chart == "bar" and not panel.by:
        raise DashboardInvalid("Bars need groups.", hint="Name a dimension in `by`.")
    if panel.by and panel.chart == "line" and len(panel.measures) > 1:
        raise DashboardInvalid(
            "A line chart shows several measures or several groups, not both.",
            hint="Make a panel of each measure.",
        )
    if not 1 <= panel.limit <= 200:
        raise DashboardInvalid("limit must be between 1 and 200.")


@cache
def load_built_in() -> dict[str, Dashboard]:
    """Return the dashboards that come with this version, by name, read once."""
    file = resources.files("penstock.data").joinpath("dashboards", "built_in.toml")
    found = tomllib.loads(file.read_text(encoding="utf-8"))["dashboard"]
    dashboards = msgspec.convert(found, list[Dashboard])
    return {one.name: msgspec.structs.replace(one, origin="built-in") for one in dashboards}


def _shared(panels: Sequence[Panel]) -> list[list[tuple[int, Panel]]]:
    """Return panels with their places, those together that one query answers."""
    groups: dict[Any, list[tuple[int, Panel]]] = {}
    for number, panel in enumerate(panels):
        ranked = panel.measures[0] if panel.by else None  # groups are ranked by the first measure
        shape = (panel.chart == "line", panel.subject, panel.where, panel.by, panel.limit, ranked)
        groups.setdefault(shape, []).append((number, panel))
    return [part for group in groups.values() for part in _split(group)]


def _headlines(panels: Sequence[Panel], line: Panel) -> tuple[str, ...]:
    """Return the measures of all lines over the same rows, whatever these are grouped by."""
    same = [
        one for one in panels if (one.chart, one.subject, one.where) == ("line", line.subject, line.where)
    ]
    return tuple(dict.fromkeys(name for panel in same for name in panel.measures))


def _split(group: list[tuple[int, Panel]]) -> list[list[tuple[int, Panel]]]:
    """Return a group in parts that ask for no more measures than one query may."""
    parts: list[list[tuple[int, Panel]]] = [[]]
    names: set[str] = set()
    for number, panel in group:
        if len(names | set(panel.measures)) > MAX_MEASURES:
            parts.append([])
            names = set()
        names |= set(panel.measures)
        parts[-1].append((number, panel))
    return parts


def _dashboard(row: Any) -> Dashboard:
    content = msgspec.convert({"name": row.name, **row.content}, Dashboard)
    return msgspec.structs.replace(
        content, origin="stored", version=row.version, actor=row.actor, updated_ns=row.updated_ns
    )


def read_dashboard(name: str, content: Mapping[str, Any]) -> Dashboard:
    """Return a dashboard from what was sent or written in a file; raise `DashboardInvalid` that names the setting."""
    unknown = set(content) - set(_CONTENT)
    if unknown:
        raise DashboardInvalid(f"A dashboard has no {min(unknown)!r}.", hint=f"Known: {', '.join(_CONTENT)}.")
    try:
        return msgspec.convert({"name": name, **content}, Dashboard)
    except msgspec.ValidationError as error:
        raise DashboardInvalid(f"The dashboard cannot be read: {error}.") from error


def is_same(one: Dashboard, other: Dashboard) -> bool:
    """Return whether two dashboards say the same, whoever wrote them when."""
    return all(getattr(one, name) == getattr(other, name) for name in _CONTENT)


def write_content(dashboard: Dashboard) -> dict[str, Any]:
    """Return what people write of a dashboard, as `read_dashboard` takes it."""
    whole: dict[str, Any] = msgspec.to_builtins(dashboard)
    return {name: whole[name] for name in _CONTENT if name in whole}
