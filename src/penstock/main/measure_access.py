"""Measures, dashboards and alerts for the command line.

Rules, dashboards, silences and history lie in the control tables, which a command may change whether Penstock runs or not.
What the record says only the running control process may tell; of a stopped home it is read from the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from penstock.base.late import late_imports
from penstock.main.control_client import ControlClient
from penstock.main.instance import running_instance
from penstock.monitors.types import OutboxMessage, Preview, RuleContent
from penstock.spec.home import Home
from penstock.spec.measures import MetricQuery, Subject
from penstock.traces.measures.types import Compare, DashboardView, Report

with late_imports():
    from penstock.main import measuring, stopped_spans
    from penstock.main import monitoring as monitors
    from penstock.main import rooms as control_rooms
    from penstock.store.spans import duckdb_file
    from penstock.store.spans import measures as span_measures
    from penstock.traces.measures import dashboards as dashboard_service
    from penstock.traces.measures import service as measure_service

PATIENCE_S = 20.0
"""How long a command waits for a test message to be sent by the running control process."""


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question on the command line; the fields are the parameters of `GET /api/v1/measure`."""

    measure: Sequence[str]
    since_ns: int
    until_ns: int
    by: Sequence[str] = ()
    subject: Subject = "call"
    q: str = ""
    sliced: bool = False
    compare: Compare | None = None
    limit: int = 50


class MeasureAccess(Protocol):
    """What a command asks of the record."""

    def measure(self, asked: Asked) -> Report:
        """Return the measures."""

    def show_dashboard(
        self, name: str, *, since_ns: int, until_ns: int, where: str, compare: Compare | None
    ) -> DashboardView:
        """Return a dashboard filled for a window."""

    def preview(self, content: RuleContent) -> Preview:
        """Return what a rule would say now."""


@contextmanager
def open_measures(home: Home) -> Iterator[MeasureAccess]:
    """Yield access to the record of `home`, running or not."""
    if running_instance(home) is not None:
        yield _Remote(ControlClient(home))
        return
    stopped_spans.check_span_file(home)
    file = duckdb_file.DuckDBFile(home.span_db, read_only=True)
    rooms = control_rooms.Rooms(home, keeps_running=True)
    try:
        yield _Local(rooms, file)
    finally:
        rooms.close()
        file.close()


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Dashboards and alerts in the control tables of a home."""

    home: Home
    dashboards: dashboard_service.DashboardService
    monitoring: monitors.Monitoring

    def wait_for(
        self, identities: Sequence[str], *, sleep: Callable[[float], None] = time.sleep
    ) -> Sequence[OutboxMessage]:
        """Return what became of messages: sent by the running control process, which is given some seconds, else here."""
        channels = self.monitoring.channels
        is_running = running_instance(self.home) is not None
        if not is_running:
            self.monitoring.delivery.run_once()
        waited = 0.0
        while is_running and waited < PATIENCE_S:
            found = [channels.message(identity) for identity in identities]
            if all(one.state != "pending" or one.error is not None for one in found):
                break
            sleep(0.2)
            waited += 0.2
        return [channels.message(identity) for identity in identities]


@contextmanager
def open_tables(home: Home) -> Iterator[Tables]:
    """Yield the control tables of `home`. What is written is checked against an empty record, not against the file."""
    rooms = control_rooms.Rooms(home, keeps_running=True)
    nothing = duckdb_file.DuckDBFile(Path(":memory:"))
    try:
        yield Tables(
            home=home,
            dashboards=dashboard_service.DashboardService(rooms.engine, measuring.create_measures(nothing)),
            monitoring=monitors.create_monitoring(rooms, span_measures.DuckDBMeasures(nothing)),
        )
    finally:
        nothing.close()
        rooms.close()


class _Remote:
    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def measure(self, asked: Asked) -> Report:
        return msgspec.convert(self._client.get("/api/v1/measure", **_plain(asked)), Report, strict=False)

    def show_dashboard(
        self, name: str, *, since_ns: int, until_ns: int, where: str, compare: Compare | None
    ) -> DashboardView:
        found = self._client.get(
            f"/api/v1/dashboards/{name}/view",
            since_ns=since_ns,
            until_ns=until_ns,
            q=where or None,
            compare=compare,
        )
        return msgspec.convert(found, DashboardView, strict=False)

    def preview(self, content: RuleContent) -> Preview:
        found = self._client.post("/api/v1/alert-preview", {"content": msgspec.to_builtins(content)})
        return msgspec.convert(found, Preview, strict=False)


class _Local:
    def __init__(self, rooms: control_rooms.Rooms, file: duckdb_file.DuckDBFile) -> None:
        self._rooms = rooms
        self._measures = span_measures.DuckDBMeasures(file)
        self._service = measuring.create_measures(file)

    def measure(self, asked: Asked) -> Report:
        query = MetricQuery(
            measures=tuple(asked.measure),
            since_ns=asked.since_ns,
            until_ns=asked.until_ns,
            subject=asked.subject,
            by=tuple(asked.by),
            where=measuring.parse_for(asked.q, asked.subject),
            bucket_ns=measure_service.choose_bucket(asked.since_ns, asked.until_ns) if asked.sliced else None,
            limit=asked.limit,
        )
        return self._service.measure(query, asked.compare)

    def show_dashboard(
        self, name: str, *, since_ns: int, until_ns: int, where: str, compare: Compare | None
    ) -> DashboardView:
        dashboards = dashboard_service.DashboardService(self._rooms.engine, self._service)
        return dashboards.show(name, since_ns=since_ns, until_ns=until_ns, where=where, compare=compare)

    def preview(self, content: RuleContent) -> Preview:
        return monitors.create_monitoring(self._rooms, self._measures).alerts.preview(content)


def _plain(asked: Asked) -> Mapping[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(asked)
    if "sliced" in found:
        found["sliced"] = "true"
    return found
