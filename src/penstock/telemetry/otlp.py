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

from penstock.spec.spans import FOREIGN_MARK, Span, SpanEvent, SpanStatus
from penstock.telemetry import mapping
from penstock.telemetry.cutting import CUT
from penstock.telemetry.foreign_scores import read_scores
from penstock.telemetry.mapping_table import MappingTable, load_table
from penstock.telemetry.masks import MASKED
from penstock.telemetry.otlp_wire import JSON, MAX_NS, PROTOBUF, WireSpan, is_json_type, read_spans
from penstock.telemetry.payloads import fill_from_events, take_payloads
from penstock.telemetry.usage_rules import map_usage

__all__ = ["JSON", "PROTOBUF", "OtlpBatch", "decode_otlp_batch", "decode_otlp_traces", "encode_otlp_reply"]
Signal = Literal["traces", "logs", "metrics"]
LOG_EVENTS = "penstock.log_events"
"""Attribute of what is no span of its own: events that came as log records, to be joined to the span they name."""
OUR_MARKS = ("resource", FOREIGN_MARK, MASKED, CUT, LOG_EVENTS, "penstock.recovered")
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


def decode_otlp_traces(body: bytes, content_type: str) -> list[Span]:
    """Return the spans of a trace export request; raise `MalformedTelemetry` when it is none."""
    return decode_otlp_batch(body, content_type).spans


def decode_otlp_batch(body: bytes, content_type: str) -> OtlpBatch:
    """Return the spans of a request (already unzipped) with the count of those left out."""
    table = load_table()
    batch = OtlpBatch(spans=[])
    for item in read_spans(body, content_type):
        fault = find_fault(item.trace_id, item.span_id, item.parent_id, item.start_ns, item.end_ns)
        if fault is None:
            batch.spans.append(_span_of(item, table, batch.unmapped))
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
    if len(trace_id) != 32 or not trace_id.strip("0"):
        return "its trace id is not 16 bytes, or all zero"
    if len(span_id) != 16 or not span_id.strip("0"):
        return "its span id is not 8 bytes, or all zero"
    if parent_id and len(parent_id) != 16:
        return "its parent id is not 8 bytes"
    if not (0 < start_ns <= MAX_NS and 0 <= end_ns <= MAX_NS):
        return "its times are not nanoseconds since the epoch"
    return None


def _span_of(item: WireSpan, table: MappingTable, unmapped: list[str]) -> Span:
    attributes = item.attributes
    picked = mapping.pick_fields(table, attributes)
    unmapped += picked.unknown
    given, answer = take_payloads(table, attributes, picked.flat)
    if item.events:
        given, answer = fill_from_events(item.events, given, answer)
    for name in OUR_MARKS:
        attributes.pop(name, None)  # what a sender writes there says nothing about what we did
    fields = map_span(
        table,
        picked,
        attributes,
        item.events,
        resource=item.resource,
        scope=item.scope,
        name=item.name or "unnamed",
        start_ns=item.start_ns,
        status=item.status,
    )
    if item.status_message:
        fields["status_message"] = item.status_message
    links = [link for link in item.links if len(link.trace_id) == 32 and len(link.span_id) == 16]
    scores = (
        read_scores(
            attributes,
            picked.flat,
            item.events,
            links,
            kind=fields["kind"],
            trace_id=item.trace_id,
            span_id=item.span_id,
            session_id=fields["session_id"],
            time_ns=item.end_ns or item.start_ns,
        )
        if picked.flat or item.events
        else []
    )
    rest = {name: value for name, value in item.resource.items() if name != "service.name"}
    if rest:
        attributes["resource"] = rest
    attributes[FOREIGN_MARK] = table.version
    return Span(
        trace_id=item.trace_id,
        span_id=item.span_id,
        parent_id=item.parent_id if item.parent_id.strip("0") else None,
        name=item.name or "unnamed",
        start_ns=item.start_ns,
        end_ns=item.end_ns or None,
        scope=item.scope or None,
        attributes=attributes,
        events=item.events,
        links=links,
        scores=scores,
        input=given,
        output=answer,
        payload_dropped=attributes.get("penstock.payload_dropped") is True,
        **fields,
    )


def map_span(
    table: MappingTable,
    picked: mapping.Picked,
    attributes: dict[str, Any],
    events: list[SpanEvent],
    *,
    resource: dict[str, Any],
    scope: str,
    name: str,
    start_ns: int,
    status: SpanStatus = "unset",
) -> dict[str, Any]:
    """Return the fields of a span that the table gives, from what `pick_fields` found and the resource.

    `status` is what the span says itself. An exception event tells of a failure unless the span says that it went well.
    """
    values = picked.values
    for wanted, names in table.resource.items():
        if wanted not in values:
            found = next((resource[each] for each in names if resource.get(each) not in (None, "")), None)
            if found is not None:
                values[wanted] = found
    kind = mapping.map_kind(table, attributes, values, scope, name)
    agent, tool = mapping.map_names(values, kind, name)
    provider = mapping.text_field(values, "provider")
    cost = mapping.map_cost(values, kind)
    http_status = mapping.number_field(values, "http_status")
    streamed = values.get("streamed")
    if status == "unset" and mapping.tells_of_failure(table, attributes):
        status = "error"
    error_code, message = (
        mapping.text_field(values, "error_code"),
        mapping.text_field(values, "status_message"),
    )
    if events and status != "ok" and (error_code is None or message is None):
        raised = next((event.attributes for event in reversed(events) if event.name == "exception"), {})
        error_code = error_code or _text(raised.get("exception.type"))
        message = message or _text(raised.get("exception.message"))
    return {
        "kind": kind,
        "status": status,
        "status_message": message,
        "error_code": error_code,
        "service": mapping.text_field(values, "service"),
        "environment": mapping.text_field(values, "environment"),
        "release": mapping.text_field(values, "release"),
        "user_id": mapping.text_field(values, "user_id"),
        "session_id": mapping.text_field(values, "session_id"),
        "provider": provider,
        "model": mapping.text_field(values, "model"),
        "agent": agent,
        "tool": tool,
        "prompt": mapping.map_prompt(values),
        "cache": mapping.text_field(values, "cache"),
        "http_status": int(http_status) if http_status is not None and 0 <= http_status < 1000 else None,
        "streamed": streamed if isinstance(streamed, bool) else None,
        "usage": map_usage(table, values, scope=scope, provider=provider or "", sources=picked.sources),
        "cost_usd": cost,
        "cost_source": None if cost is None else "reported by the sender",
        "ttft_ms": mapping.map_ttft_ms(table, values, events, start_ns),
        "tags": mapping.map_tags(values) if "tags" in values else [],
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
