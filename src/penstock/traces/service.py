"""What pages, REST and the command line ask about traces."""

from decimal import Decimal

import msgspec

from penstock.base.errors import InvalidInput, NotFound
from penstock.spec.spans import Span
from penstock.store.spans.port import SpanStore
from penstock.store.spans.traffic_queries import TrafficBy, TrafficRow
from penstock.store.spans.types import Overview, Payload, TracePage, TraceQuery, TraceRow
from penstock.traces.waterfall import Waterfall, layout_waterfall


class UnknownTrace(NotFound):
    """No such trace here."""

    code = "PS-1954"


class TraceView(msgspec.Struct, frozen=True, kw_only=True):
    """One trace, ready to draw. `summary` is its row in lists, so both always agree."""

    trace_id: str
    summary: TraceRow
    waterfall: Waterfall
    versions: dict[str, str]
    """Every version that shaped the trace, from all of its spans."""
    cost_usd: Decimal | None
    models: list[str]

    @property
    def spans(self) -> list[Span]:
        """The spans in the order of the rows."""
        return [row.span for row in self.waterfall.rows]


class TraceService:
    """Lists, shows and counts traces of a span store."""

    def __init__(self, store: SpanStore) -> None:
        self._store = store

    def list_traces(self, query: TraceQuery | None = None) -> TracePage:
        """Return one page of traces, newest first; raise `InvalidInput` for a window that ends before it begins."""
        wanted = query or TraceQuery()
        if wanted.since_ns is not None and wanted.until_ns is not None and wanted.since_ns > wanted.until_ns:
            raise InvalidInput("The time window ends before it begins.", hint="Swap `since` and `until`.")
        return self._store.list_traces(wanted)

    def show_trace(self, trace_id: str) -> TraceView:
        """Return one trace with its waterfall; raise `UnknownTrace`."""
        wanted = trace_id.strip().lower().replace("-", "")
        summary = self._store.get_summary(wanted)
        spans = self._store.get_trace(wanted) if summary else []
        if summary is None or not spans:
            raise UnknownTrace(
                f"There is no trace {trace_id!r}.",
                hint="A trace appears within a second of its call; `penstock traces list` shows the newest.",
            )
        versions: dict[str, str] = {}
        for span in spans:
            versions.update(span.versions)
        return TraceView(
            trace_id=wanted,
            summary=summary,
            waterfall=layout_waterfall(spans),
            versions=dict(sorted(versions.items())),
            cost_usd=summary.cost_usd,
            models=sorted({span.model for span in spans if span.model}),
        )

    def get_payload(self, trace_id: str, span_id: str) -> Payload:
        """Return what went in and out of one span; raise `NotFound`."""
        return self._store.get_payload(trace_id, span_id)

    def overview(self, since_ns: int, until_ns: int) -> Overview:
        """Return what happened in `[since_ns, until_ns)`."""
        if since_ns > until_ns:
            raise InvalidInput("The time window ends before it begins.", hint="Swap `since` and `until`.")
        return self._store.overview(since_ns, until_ns)

    def list_route_traffic(self, by: TrafficBy, since_ns: int, until_ns: int) -> list[TrafficRow]:
        """Return the calls of each route, or the requests to each provider, the busiest first."""
        return self._store.list_route_traffic(by, since_ns, until_ns)
