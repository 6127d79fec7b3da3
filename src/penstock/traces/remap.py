"""A newer mapping table over history: the fields of stored foreign spans, worked out again from their raw attributes.

What a sender wrote stays as it is, and so do payloads, ids and times. A payload that an older table did not know to be
one is taken out of the attributes, where the span had none. Running it again changes nothing; stopped half-way, the
next run goes on with what is left.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from penstock.base.errors import NotFound
from penstock.spec.spans import FOREIGN_MARK, Span, SpanLink
from penstock.store.spans.types import Payload
from penstock.telemetry import mapping
from penstock.telemetry.foreign_scores import read_scores
from penstock.telemetry.mapping_table import MappingTable, load_table
from penstock.telemetry.metadata import add_metadata
from penstock.telemetry.payloads import take_payloads
from penstock.telemetry.shapes import Shape
from penstock.telemetry.span_fields import map_span, pick_resource
from penstock.traces.estimates import ESTIMATE

BATCH = 1000
Place = tuple[int, str, str]
_MAPPED = (
    "agent",
    "cache",
    "cost_source",
    "cost_usd",
    "environment",
    "error_code",
    "http_status",
    "model",
    "prompt",
    "provider",
    "release",
    "session_id",
    "streamed",
    "tool",
    "ttft_ms",
    "usage",
    "user_id",
)
"""Fields that the table alone decides."""
_KEPT_WHEN_SILENT = frozenset({"error_code", "session_id", "ttft_ms", "user_id"})
"""Of them, those that may have come from events, or were masked: kept where the table finds nothing."""


class History(Protocol):
    """Stored foreign spans."""

    def scan_foreign(
        self, before_version: int, after: Place | None, *, limit: int
    ) -> tuple[list[Span], Place | None]:
        """Return spans that an older table mapped, oldest first, and where to go on (None: the end)."""
        ...


class Mended(Protocol):
    """Where spans are put back."""

    def get_payload(self, trace_id: str, span_id: str) -> Payload:
        """Return what went in and out of a span; raise `NotFound`."""
        ...

    def rewrite(self, spans: Sequence[Span]) -> int:
        """Put spans in the place of those stored under the same ids; payloads of None stay."""
        ...


Tell = Callable[[int, int], None]
"""Hears how many spans are done, and the start of the last of them."""


def remap_history(history: History, store: Mended, *, tell: Tell | None = None) -> int:
    """Bring all foreign spans up to the present table; return how many were mapped anew."""
    table = load_table()
    n_done, after = 0, None
    while True:
        spans, following = history.scan_foreign(table.version, after, limit=BATCH)
        if spans:
            store.rewrite([remap_span(span, table, store) for span in spans])
            n_done += len(spans)
            if tell is not None:
                tell(n_done, spans[-1].start_ns)
        if following is None:
            return n_done
        after = following


def remap_span(span: Span, table: MappingTable, store: Mended) -> Span:
    """Return a stored span with its fields as the table gives them now; without payloads where those stay."""
    attributes = dict(span.attributes)
    scope = span.scope or _text(attributes.pop("otel.scope", None)) or ""
    links = span.links or _read_links(attributes.pop("links", None))
    resource = attributes.get("resource")
    known = {**(resource if isinstance(resource, dict) else {}), "service.name": span.service}
    for mark in ("resource", FOREIGN_MARK):
        attributes.pop(mark, None)
    picked = mapping.pick_fields(table, attributes)
    given, answer, attributes = _find_payloads(span, picked.shape, attributes, store)
    fields = map_span(
        table,
        picked,
        attributes,
        span.events,
        resource=pick_resource(table, known),
        scope=scope,
        name=span.name,
        start_ns=span.start_ns,
        status=span.status,
    )
    for name in _MAPPED:
        fields.setdefault(name, getattr(span, name) if name in _KEPT_WHEN_SILENT else None)
    if fields["cost_usd"] is None and (span.cost_source or "").startswith(ESTIMATE):
        fields["cost_usd"], fields["cost_source"] = span.cost_usd, span.cost_source
    fields.setdefault("tags", [])
    fields["service"] = span.service
    if span.status_message is not None:
        fields["status_message"] = span.status_message
    scores = span.scores or read_scores(
        attributes,
        picked.shape.flat,
        span.events,
        links,
        kind=fields["kind"],
        trace_id=span.trace_id,
        span_id=span.span_id,
        session_id=fields["session_id"],
        time_ns=span.end_ns or span.start_ns,
    )
    add_metadata(attributes)
    if resource:
        attributes["resource"] = resource
    attributes[FOREIGN_MARK] = table.version
    return msgspec.structs.replace(
        span,
        attributes=attributes,
        scope=scope or None,
        links=links,
        scores=scores,
        input=given,
        output=answer,
        **fields,
    )


def _find_payloads(
    span: Span, shape: Shape, attributes: dict[str, Any], store: Mended
) -> tuple[Any, Any, dict[str, Any]]:
    """Return payloads that lie among the attributes of a span that has none, and the attributes without them."""
    without = dict(attributes)
    given, answer = take_payloads(shape, without)
    if (given is None and answer is None) or span.payload_dropped:
        return None, None, attributes
    try:
        stored = store.get_payload(span.trace_id, span.span_id)
    except NotFound:
        return given, answer, without
    if stored.input is None and stored.output is None:
        return given, answer, without
    return (
        given if stored.input is None else None,
        answer if stored.output is None else None,
        attributes,  # one side is stored from elsewhere, and its copy here stays
    )


def _read_links(value: Any) -> list[SpanLink]:
    try:
        return msgspec.convert(value or [], list[SpanLink])
    except msgspec.ValidationError:
        return []


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
