"""Lists and exports for the command line: of the running control process, else straight from the stopped home's file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, Protocol

import msgspec

from penstock.base.late import late_imports
from penstock.main.control_client import ControlClient
from penstock.main.copies import hold_copies
from penstock.main.instance import running_instance
from penstock.spec.home import Home
from penstock.store.spans.types import SpanQuery, TraceQuery

with late_imports():
    from penstock.main import stopped_spans
    from penstock.store.spans import duckdb as duckdb_store
    from penstock.store.spans import export_rows, trace_lists
    from penstock.traces import exports
    from penstock.traces import filters as trace_filters
    from penstock.traces import lists as list_service

Subject = Literal["trace", "span"]
Filters = Mapping[str, object]
"""What the URL of a list takes: `q`, `since_ns`, `order`, `limit`, `cursor` …"""


class TraceListAccess(Protocol):
    """What the command line asks, answered in JSON values."""

    def list_rows(self, subject: Subject, filters: Filters) -> dict[str, Any]:
        """Return `rows` and `next_cursor`."""

    def count(self, subject: Subject, filters: Filters) -> dict[str, Any]:
        """Return `n`, and in `is_more` whether there are more."""

    def export(self, subject: Subject, filters: Filters, form: str) -> Iterator[bytes]:
        """Return the bytes of an export."""


@contextmanager
def open_trace_lists(home: Home) -> Iterator[TraceListAccess]:
    """Yield access to the lists of `home`, running or not."""
    if running_instance(home) is not None:
        yield _Remote(ControlClient(home))
        return
    with stopped_spans.read_stopped(home) as store:
        yield _Local(store, home)


class _Remote:
    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def list_rows(self, subject: Subject, filters: Filters) -> dict[str, Any]:
        page: dict[str, Any] = self._client.get(f"/api/v1/{subject}s", **filters)
        return page

    def count(self, subject: Subject, filters: Filters) -> dict[str, Any]:
        found: dict[str, Any] = self._client.get("/api/v1/search/count", subject=subject, **filters)
        return found

    def export(self, subject: Subject, filters: Filters, form: str) -> Iterator[bytes]:
        return self._client.stream("/api/v1/export", subject=subject, format=form, **filters)


class _Local:
    def __init__(self, store: duckdb_store.DuckDBSpanStore, home: Home) -> None:
        lists = trace_lists.DuckDBTraceLists(store.file)
        self._lists = list_service.TraceListService(lists)
        self._exports = exports.ExportService(
            lists, export_rows.DuckDBSpanExport(store.file), partial(hold_copies, home)
        )

    def list_rows(self, subject: Subject, filters: Filters) -> dict[str, Any]:
        query = _query(subject, filters)
        found = (
            self._lists.list_traces(query) if isinstance(query, TraceQuery) else self._lists.list_spans(query)
        )
        page: dict[str, Any] = msgspec.to_builtins(found)
        return page

    def count(self, subject: Subject, filters: Filters) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self._lists.count(_query(subject, filters)))
        return found

    def export(self, subject: Subject, filters: Filters, form: str) -> Iterator[bytes]:
        return self._exports.write(_query(subject, filters), form)


def _query(subject: Subject, filters: Filters) -> TraceQuery | SpanQuery:
    return (
        trace_filters.build_query(filters) if subject == "trace" else trace_filters.build_span_query(filters)
    )
