"""OTLP in: trace export requests in protobuf or JSON become our spans.

The wire is `otlp_wire.py`'s business, which attribute fills which field `mapping.py`'s; here both come together. A body
that is not OTLP is refused whole; a single span that cannot be stored (no valid id, no start) is left out, counted
and named, as OTLP's partial success wants it.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from penstock.spec.spans import FOREIGN_MARK, Span
from penstock.telemetry import mapping
from penstock.telemetry.cutting import CUT
from penstock.telemetry.foreign_scores import read_scores
from penstock.telemetry.mapping_table import MappingTable, load_table
from penstock.telemetry.masks import MASKED
from penstock.telemetry.metadata import add_metadata
from penstock.telemetry.otlp_wire import JSON, MAX_NS, PROTOBUF, WireSpan, is_json_type, read_spans
from penstock.telemetry.payloads import LastPayloads, fill_from_events, take_payloads
from penstock.telemetry.span_fields import map_span, pick_resource

__all__ = ["JSON", "PROTOBUF", "OtlpBatch", "decode_otlp_batch", "decode_otlp_traces", "encode_otlp_reply"]
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
Signal = Literal["traces", "logs", "metrics"]
LOG_EVENTS = "penstock.log_events"
"""Attribute of what is no span of its own: events that came as log records, to be joined to the span they name."""
OUR_MARKS = frozenset({"resource", FOREIGN_MARK, MASKED, CUT, LOG_EVENTS, "penstock.recovered"})
"""Attributes that only we write."""


@dataclass(kw_only=True)
class OtlpBatch:
    """The spans of one request, and what had to be left out."""

    spans: list[Span]
    n_rejected: int = 0
    reason: str | None = None
    """Why the first rejected span was rejected."""
    unmapped: list[str] = field(default_factory=list)
    """Attribute names that the mapping table does not know, one for each time."""
    signal: Signal = "traces"
    is_mended: bool = False
    """Whether text had to be mended that was not UTF-8."""


def decode_otlp_traces(body: bytes, content_type: str) -> list[Span]:
    """Return the spans of a trace export request; raise `MalformedTelemetry` when it is none."""
    return decode_otlp_batch(body, content_type).spans


class _Owner:
    """Whose spans those of a request are, and what was found out about what they share."""

    def __init__(self, project: str, key_id: str | None) -> None:
        self.project = project
        self.key_id = key_id
        self.payloads = LastPayloads()
        self._seen: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}

    def resource(
        self, table: MappingTable, resource: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the fields that a resource fills, and what of it is kept among the attributes."""
        found = self._seen.get(id(resource))
        if found is None:
            rest = {name: value for name, value in resource.items() if name != "service.name"}
            found = self._seen[id(resource)] = pick_resource(table, resource), rest
        return found


def decode_otlp_batch(
    body: bytes, content_type: str, *, project: str = "default", key_id: str | None = None
) -> OtlpBatch:
    """Return the spans of a request (already unzipped) with the count of those left out."""
    table, owner = load_table(), _Owner(project, key_id)
    batch = OtlpBatch(spans=[])
    wire = read_spans(body, content_type)
    batch.is_mended = wire.is_mended
    for item in wire.records:
        fault = find_fault(item.trace_id, item.span_id, item.parent_id, item.start_ns, item.end_ns)
        if fault is None:
            batch.spans.append(_span_of(item, table, batch.unmapped, owner))
        else:
            batch.n_rejected += 1
            batch.reason = batch.reason or f"span {item.name[:80]!r}: {fault}"
    return batch


def encode_otlp_reply(batch: OtlpBatch, content_type: str) -> bytes:
    """Return the body of the reply in the encoding of the request, with partial success where due."""
    json_name, proto_name, kind = _REPLIES[batch.signal]
    if is_json_type(content_type):
        if not batch.n_rejected:
            return b"{}"
        partial = {json_name: str(batch.n_rejected), "errorMessage": batch.reason or ""}
        return msgspec.json.encode({"partialSuccess": partial})
    reply = kind()
    if batch.n_rejected:
        setattr(reply.partial_success, proto_name, batch.n_rejected)
        reply.partial_success.error_message = batch.reason or ""
    encoded: bytes = reply.SerializeToString()
    return encoded


_REPLIES: dict[Signal, tuple[str, str, Any]] = {
    "traces": ("rejectedSpans", "rejected_spans", ExportTraceServiceResponse),
    "logs": ("rejectedLogRecords", "rejected_log_records", ExportLogsServiceResponse),
    "metrics": ("rejectedDataPoints", "rejected_data_points", ExportMetricsServiceResponse),
}


def find_fault(trace_id: str, span_id: str, parent_id: str, start_ns: int, end_ns: int) -> str | None:
    """Return why a span cannot be stored, or None when it can."""
    if len(trace_id) != 32 or trace_id == _NO_TRACE:
        return "its trace id is not 16 bytes, or all zero"
    if len(span_id) != 16 or span_id == _NO_SPAN:
        return "its span id is not 8 bytes, or all zero"
    if parent_id and len(parent_id) != 16:
        return "its parent id is not 8 bytes"
    if not (0 < start_ns <= MAX_NS and 0 <= end_ns <= MAX_NS):
        return "its times are not nanoseconds since the epoch"
    return None


def _span_of(item: WireSpan, table: MappingTable, unmapped: list[str], owner: _Owner) -> Span:
    attributes, events = item.attributes, item.events
    picked = mapping.pick_fields(table, attributes)
    shape = picked.shape
    unmapped += shape.unknown
    given, answer = take_payloads(shape, attributes, owner.payloads)
    if events:
        given, answer = fill_from_events(events, given, answer)
    if shape.has_metadata:
        add_metadata(attributes)
    if not OUR_MARKS.isdisjoint(attributes):
        for mark in OUR_MARKS:
            attributes.pop(mark, None)  # what a sender writes there says nothing about what we did
    name = item.name or "unnamed"
    resource, rest = owner.resource(table, item.resource)
    fields = map_span(
        table,
        picked,
        attributes,
        events,
        resource=resource,
        scope=item.scope,
        name=name,
        start_ns=item.start_ns,
        status=item.status,
    )
    if item.status_message:
        fields["status_message"] = item.status_message
    if item.links:
        fields["links"] = [
            link for link in item.links if len(link.trace_id) == 32 and len(link.span_id) == 16
        ]
    if shape.flat or events:
        fields["scores"] = read_scores(
            attributes,
            shape.flat,
            events,
            fields.get("links", ()),
            kind=fields["kind"],
            trace_id=item.trace_id,
            span_id=item.span_id,
            session_id=fields.get("session_id"),
            time_ns=item.end_ns or item.start_ns,
        )
    if rest:
        attributes["resource"] = rest
    attributes[FOREIGN_MARK] = table.version
    return Span(
        trace_id=item.trace_id,
        span_id=item.span_id,
        parent_id=item.parent_id if item.parent_id.strip("0") else None,
        name=name,
        start_ns=item.start_ns,
        end_ns=item.end_ns or None,
        project=owner.project,
        key_id=owner.key_id,
        scope=item.scope or None,
        attributes=attributes,
        events=events,
        input=given,
        output=answer,
        payload_dropped=attributes.get("penstock.payload_dropped") is True,
        **fields,
    )
