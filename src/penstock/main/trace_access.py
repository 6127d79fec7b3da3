"""Traces for the command line: of the running control process, else straight from the stopped home's file.

The span store has one owner, so while Penstock runs only the control process may open it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec

from penstock.base.late import late_imports
from penstock.main.control_client import ControlClient
from penstock.main.instance import running_instance
from penstock.spec.home import Home

with late_imports():
    from penstock.main import stopped_spans
    from penstock.traces import filters as trace_filters
    from penstock.traces import service as trace_service


class TraceAccess(Protocol):
    """What the command line asks, answered in JSON values."""

    def list_traces(self, filters: Mapping[str, object]) -> dict[str, Any]:
        """Return `rows` and `next_cursor`; the filters are those of the URL."""

    def show_trace(self, trace_id: str) -> dict[str, Any]:
        """Return one trace with its waterfall."""

    def get_payload(self, trace_id: str, span_id: str) -> dict[str, Any]:
        """Return `input` and `output` of a span."""


@contextmanager
def open_traces(home: Home) -> Iterator[TraceAccess]:
    """Yield access to the traces of `home`, running or not."""
    if running_instance(home) is not None:
        yield _Remote(ControlClient(home))
        return
    with stopped_spans.read_stopped(home) as store:
        yield _Local(trace_service.TraceService(store))


class _Remote:
    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def list_traces(self, filters: Mapping[str, object]) -> dict[str, Any]:
        page: dict[str, Any] = self._client.get("/api/v1/traces", **filters)
        return page

    def show_trace(self, trace_id: str) -> dict[str, Any]:
        view: dict[str, Any] = self._client.get(f"/api/v1/traces/{trace_id}")
        return view

    def get_payload(self, trace_id: str, span_id: str) -> dict[str, Any]:
        payload: dict[str, Any] = self._client.get(f"/api/v1/traces/{trace_id}/spans/{span_id}/payload")
        return payload


class _Local:
    def __init__(self, service: trace_service.TraceService) -> None:
        self._service = service

    def list_traces(self, filters: Mapping[str, object]) -> dict[str, Any]:
        page: dict[str, Any] = msgspec.to_builtins(
            self._service.list_traces(trace_filters.build_query(filters))
        )
        return page

    def show_trace(self, trace_id: str) -> dict[str, Any]:
        view: dict[str, Any] = msgspec.to_builtins(self._service.show_trace(trace_id))
        return view

    def get_payload(self, trace_id: str, span_id: str) -> dict[str, Any]:
        payload: dict[str, Any] = msgspec.to_builtins(self._service.get_payload(trace_id, span_id))
        return payload
