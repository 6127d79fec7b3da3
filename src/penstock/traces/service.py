"""What pages, REST and the command line ask about traces."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from threading import Lock
from typing import Protocol

import msgspec

from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput, NotFound
from penstock.spec.spans import Span
from penstock.store.spans.errors import UnknownSpan
from penstock.store.spans.port import ScoreReader, SpanStore
from penstock.store.spans.traffic_queries import TrafficBy, TrafficRow
from penstock.store.spans.types import (
    Overview,
    Payload,
    ScoreQuery,
    ScoreRow,
    TracePage,
    TraceQuery,
    TraceRow,
)
from penstock.traces.outline import Outline, OutlineColumns, to_columns
from penstock.traces.tree import build_tree
from penstock.traces.waterfall import Waterfall, layout_waterfall

MAX_SPANS = 500
KEPT_NS = 2_000_000_000
N_KEPT = 2


class UnknownTrace(NotFound):
    """No such trace here."""

    code = "PS-1954"


class TraceStore(SpanStore, ScoreReader, Protocol):
    """What the service asks of a span store."""


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

    def __init__(self, store: TraceStore, *, clock: Callable[[], int] = now_ns) -> None:
        self._store = store
        self._clock = clock
        self._lock = Lock()
        self._kept: dict[str, tuple[int, Outline]] = {}

    def list_traces(self, query: TraceQuery | None = None) -> TracePage:
        """Return one page of traces, newest first; raise `InvalidInput` for a window that ends before it begins."""
        wanted = query or TraceQuery()
        if wanted.since_ns is not None and wanted.until_ns is not None and wanted.since_ns > wanted.until_ns:
            raise InvalidInput("The time window ends before it begins.", hint="Swap `since` and `until`.")
        return self._store.list_traces(wanted)

    def show_trace(self, trace_id: str) -> TraceView:
        """Return one trace with its waterfall; raise `UnknownTrace`."""
        wanted = plain_id(trace_id)
        summary = self._store.get_summary(wanted)
        spans = self._store.get_trace(wanted) if summary else []
        if summary is None or not spans:
            raise _unknown(trace_id)
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

    def get_summary(self, trace_id: str) -> TraceRow:
        """Return a trace's row in lists; raise `UnknownTrace`."""
        summary = self._store.get_summary(plain_id(trace_id))
        if summary is None:
            raise _unknown(trace_id)
        return summary

    def read_outline(self, trace_id: str) -> Outline:
        """Return one trace laid out as a tree, without facts and payloads of its spans; raise `UnknownTrace`.

        A page and the script on it ask for the same trace one after the other, so the last `N_KEPT` are kept for
        `KEPT_NS`.
        """
        wanted = plain_id(trace_id)
        with self._lock:
            kept = self._kept.get(wanted)
        if kept is not None and 0 <= self._clock() - kept[0] < KEPT_NS:
            return kept[1]
        outline = self._lay_out(wanted)
        if outline is None:
            raise _unknown(trace_id)
        with self._lock:
            self._kept.pop(wanted, None)
            self._kept[wanted] = (self._clock(), outline)
            while len(self._kept) > N_KEPT:
                del self._kept[next(iter(self._kept))]
        return outline

    def read_columns(self, trace_id: str) -> OutlineColumns:
        """Return the tree of a trace as a browser draws it; raise `UnknownTrace`."""
        outline = self.read_outline(trace_id)
        return to_columns(outline, is_live=outline.is_live(self._clock()))

    def list_spans(self, trace_id: str, span_ids: Sequence[str]) -> list[Span]:
        """Return these spans of a trace by start time, without payloads; unknown ids are left out.

        Raises `InvalidInput` for more than `MAX_SPANS` ids.
        """
        if len(span_ids) > MAX_SPANS:
            raise InvalidInput(
                f"{len(span_ids)} spans are too many to ask for at once.",
                hint=f"Ask for {MAX_SPANS} at a time.",
            )
        return self._store.get_spans(plain_id(trace_id), [each.strip().lower() for each in span_ids])

    def get_span(self, trace_id: str, span_id: str) -> Span:
        """Return one span without its payload; raise `UnknownSpan`."""
        found = self.list_spans(trace_id, [span_id])
        if not found:
            raise UnknownSpan(f"This trace has no span {span_id!r}.")
        return found[0]

    def list_scores(self, trace_id: str) -> list[ScoreRow]:
        """Return what was judged of a trace and of its spans, the latest first."""
        return self._store.list_scores(ScoreQuery(trace_id=plain_id(trace_id)))

    def _lay_out(self, trace_id: str) -> Outline | None:
        summary = self._store.get_summary(trace_id)
        skeleton = self._store.get_skeleton(trace_id)
        if summary is None or not len(skeleton):
            return None
        return Outline(trace_id=trace_id, summary=summary, skeleton=skeleton, tree=build_tree(skeleton))

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


def plain_id(trace_id: str) -> str:
    """Return a trace id as it is stored, however it was written."""
    return trace_id.strip().lower().replace("-", "")


def _unknown(trace_id: str) -> UnknownTrace:
    return UnknownTrace(
        f"There is no trace {trace_id!r}.",
        hint="A trace appears within a second of its call; `penstock traces list` shows the newest.",
    )
