"""OTLP in: trace export requests in protobuf or JSON become our spans.

Knows the wire, not the meaning: which attribute fills which field is `mapping.py`'s business. A body that is
not OTLP is refused whole; a single span that cannot be stored (no valid id, no start) is left out, counted
and named, as OTLP's partial success wants it.
"""

import base64
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from penstock.spec.spans import FOREIGN_MARK, Span, SpanEvent, SpanStatus
from penstock.telemetry import mapping
from penstock.telemetry.errors import MalformedTelemetry

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
_STATUS: dict[Any, SpanStatus] = {1: "ok", 2: "error", "STATUS_CODE_OK": "ok", "STATUS_CODE_ERROR": "error"}
_MAX_DEPTH = 32
_MAX_NS = 2**63 - 1


class OtlpBatch(NamedTuple):
    """The spans of one request, and what had to be left out."""

    spans: list[Span]
    n_rejected: int
    reason: str | None
    """Why the first rejected span was rejected."""


class _WireSpan(NamedTuple):
    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start_ns: int
    end_ns: int
    status: SpanStatus
    status_message: str
    attributes: dict[str, Any]
    events: list[SpanEvent]
    links: list[dict[str, Any]]
    resource: dict[str, Any]
    scope: str


def decode_otlp_traces(body: bytes, content_type: str) -> list[Span]:
    """Return the spans of a trace export request; raise `MalformedTelemetry` when it is none."""
    return decode_otlp_batch(body, content_type).spans


def decode_otlp_batch(body: bytes, content_type: str) -> OtlpBatch:
    """Return the spans of a request (already unzipped) with the count of those left out."""
    is_json = is_json_type(content_type)
    try:
        wire = list(_read_json(body) if is_json else _read_protobuf(body))
    except (
        msgspec.MsgspecError,
        DecodeError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
        OverflowError,  # an integer that is no double
    ) as error:
        raise MalformedTelemetry(
            f"The body is not an OTLP trace request in {JSON if is_json else 'protobuf'}.",
            hint="Send an ExportTraceServiceRequest and name its encoding in Content-Type.",
            reason=str(error)[:200],
        ) from error
    spans: list[Span] = []
    reasons: list[str] = []
    for item in wire:
        fault = _find_fault(item)
        if fault is None:
            spans.append(_span_of(item))
        else:
            reasons.append(f"span {item.name[:80]!r}: {fault}")
    return OtlpBatch(spans, len(reasons), reasons[0] if reasons else None)


def encode_otlp_reply(batch: OtlpBatch, content_type: str) -> bytes:
    """Return the body of the reply in the encoding of the request, with partial success where due."""
    if is_json_type(content_type):
        if not batch.n_rejected:
            return b"{}"
        partial = {"rejectedSpans": str(batch.n_rejected), "errorMessage": batch.reason or ""}
        return msgspec.json.encode({"partialSuccess": partial})
    reply = ExportTraceServiceResponse()
    if batch.n_rejected:
        reply.partial_success.rejected_spans = batch.n_rejected
        reply.partial_success.error_message = batch.reason or ""
    encoded: bytes = reply.SerializeToString()
    return encoded


def is_json_type(content_type: str) -> bool:
    """Return whether a Content-Type names JSON; everything else is read as protobuf."""
    return content_type.partition(";")[0].strip().lower() == JSON


def _find_fault(item: _WireSpan) -> str | None:
    if len(item.trace_id) != 32 or not item.trace_id.strip("0"):
        return "its trace id is not 16 bytes, or all zero"
    if len(item.span_id) != 16 or not item.span_id.strip("0"):
        return "its span id is not 8 bytes, or all zero"
    if item.parent_id and len(item.parent_id) != 16:
        return "its parent id is not 8 bytes"
    if not (0 < item.start_ns <= _MAX_NS and 0 <= item.end_ns <= _MAX_NS):
        return "its times are not nanoseconds since the epoch"
    return None


def _span_of(item: _WireSpan) -> Span:
    attributes = dict(item.attributes)
    picked = mapping.pick_fields(attributes)
    kind = mapping.map_kind(attributes, picked)
    given, answer = mapping.take_payloads(attributes)
    given, answer = _payload_from_events(item.events, given, answer)
    ttft_s = mapping.map_number(picked, "ttft_s")
    http_status = mapping.map_number(picked, "http_status")
    cost = mapping.map_cost(picked)
    streamed = picked.get("streamed")
    service = item.resource.get("service.name")
    attributes.update(_provenance(item))
    return Span(
        trace_id=item.trace_id,
        span_id=item.span_id,
        parent_id=item.parent_id if item.parent_id.strip("0") else None,
        name=item.name or "unnamed",
        kind=kind,
        start_ns=item.start_ns,
        end_ns=item.end_ns or None,
        status=item.status,
        status_message=item.status_message or None,
        error_code=mapping.text_field(picked, "error_code"),
        service=None if service is None else str(service),
        user_id=mapping.text_field(picked, "user_id"),
        session_id=mapping.text_field(picked, "session_id"),
        provider=mapping.text_field(picked, "provider"),
        model=mapping.text_field(picked, "model"),
        http_status=int(http_status) if http_status is not None and 0 <= http_status < 1000 else None,
        streamed=streamed if isinstance(streamed, bool) else None,
        usage=mapping.map_usage(picked),
        cost_usd=cost,
        cost_source=None if cost is None else "reported by the sender",
        ttft_ms=None if ttft_s is None else ttft_s * 1000,
        attributes=attributes,
        events=item.events,
        input=given,
        output=answer,
    )


def _provenance(item: _WireSpan) -> dict[str, Any]:
    """What we add to a foreign span's attributes: where it came from and which table mapped it."""
    found: dict[str, Any] = {FOREIGN_MARK: mapping.MAPPING_VERSION}
    if item.scope:
        found["otel.scope"] = item.scope
    rest = {name: value for name, value in item.resource.items() if name != "service.name"}
    if rest:
        found["resource"] = rest
    if item.links:
        found["links"] = item.links
    return found


def _payload_from_events(events: list[SpanEvent], given: Any, answer: Any) -> tuple[Any, Any]:
    """Fill payloads from the per-message events that conventions before 1.37 used."""
    asked: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for event in events:
        if event.name == "gen_ai.choice":
            said.append(event.attributes)
        elif event.name.startswith("gen_ai.") and event.name.endswith(".message"):
            asked.append({"role": event.name.split(".")[1], **event.attributes})
        elif event.name == "gen_ai.content.prompt" and given is None:
            given = event.attributes.get("gen_ai.prompt")
        elif event.name == "gen_ai.content.completion" and answer is None:
            answer = event.attributes.get("gen_ai.completion")
    return (
        {"messages": asked} if given is None and asked else given,
        said if answer is None and said else answer,
    )


def _read_protobuf(body: bytes) -> Iterator[_WireSpan]:
    request = ExportTraceServiceRequest.FromString(body)
    for group in request.resource_spans:
        resource = {pair.key: _protobuf_value(pair.value, 0) for pair in group.resource.attributes}
        for scoped in group.scope_spans:
            scope = f"{scoped.scope.name} {scoped.scope.version}".strip()
            for span in scoped.spans:
                yield _WireSpan(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    name=span.name,
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    status=_STATUS.get(span.status.code, "unset"),
                    status_message=span.status.message,
                    attributes={pair.key: _protobuf_value(pair.value, 0) for pair in span.attributes},
                    events=[
                        _event(event.name, event.time_unix_nano, _protobuf_attributes(event.attributes))
                        for event in span.events
                    ],
                    links=[
                        _link(link.trace_id.hex(), link.span_id.hex(), _protobuf_attributes(link.attributes))
                        for link in span.links
                    ],
                    resource=resource,
                    scope=scope,
                )


def _protobuf_attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: _protobuf_value(pair.value, 0) for pair in pairs}


def _protobuf_value(value: Any, depth: int) -> Any:
    text = value.string_value  # the usual case, found without asking which one is set
    if text:
        return text
    which = value.WhichOneof("value")
    if which == "string_value":
        return ""
    if which is None or depth > _MAX_DEPTH:
        return None
    if which == "array_value":
        return [_protobuf_value(item, depth + 1) for item in value.array_value.values]
    if which == "kvlist_value":
        return {pair.key: _protobuf_value(pair.value, depth + 1) for pair in value.kvlist_value.values}
    if which == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, which)


def _read_json(body: bytes) -> Iterator[_WireSpan]:
    request = msgspec.json.decode(body, type=dict[str, Any])
    for group in _list(request, "resourceSpans"):
        resource = _json_attributes(_list(group.get("resource") or {}, "attributes"))
        for scoped in _list(group, "scopeSpans"):
            named = scoped.get("scope") or {}
            scope = f"{named.get('name', '')} {named.get('version', '')}".strip()
            for span in _list(scoped, "spans"):
                yield _json_span(span, resource, scope)


def _json_span(span: dict[str, Any], resource: dict[str, Any], scope: str) -> _WireSpan:
    status = span.get("status") or {}
    return _WireSpan(
        trace_id=_json_id(span.get("traceId")),
        span_id=_json_id(span.get("spanId")),
        parent_id=_json_id(span.get("parentSpanId")),
        name=str(span.get("name") or ""),
        start_ns=int(span.get("startTimeUnixNano") or 0),
        end_ns=int(span.get("endTimeUnixNano") or 0),
        status=_STATUS.get(status.get("code"), "unset"),
        status_message=str(status.get("message") or ""),
        attributes=_json_attributes(_list(span, "attributes")),
        events=[
            _event(
                str(event.get("name") or ""),
                int(event.get("timeUnixNano") or 0),
                _json_attributes(_list(event, "attributes")),
            )
            for event in _list(span, "events")
        ],
        links=[
            _link(
                _json_id(link.get("traceId")),
                _json_id(link.get("spanId")),
                _json_attributes(_list(link, "attributes")),
            )
            for link in _list(span, "links")
        ],
        resource=resource,
        scope=scope,
    )


def _json_id(value: Any) -> str:
    """Return a hex id in lower case; an id that is not hex comes back empty and is rejected later."""
    text = str(value or "").lower()
    return text if not text.strip("0123456789abcdef") else ""


def _list(value: dict[str, Any], name: str) -> list[Any]:
    found = value.get(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise TypeError(f"{name} is not a list")
    return found


def _json_attributes(pairs: list[Any]) -> dict[str, Any]:
    return {str(pair["key"]): _json_value(pair.get("value"), 0) for pair in pairs if "key" in pair}


def _json_value(value: Any, depth: int) -> Any:
    if not isinstance(value, dict) or not value or depth > _MAX_DEPTH:
        return None
    which, content = next(iter(value.items()))
    if which == "intValue":
        return int(content)
    if which == "doubleValue":
        return float(content)  # NaN and Infinity come as text
    if which == "arrayValue":
        return [_json_value(item, depth + 1) for item in _list(content or {}, "values")]
    if which == "kvlistValue":
        pairs = _list(content or {}, "values")
        return {str(pair["key"]): _json_value(pair.get("value"), depth + 1) for pair in pairs}
    return content if isinstance(content, str | bool | int | float) else None


def _event(name: str, time_ns: int, attributes: dict[str, Any]) -> SpanEvent:
    return SpanEvent(name=name, time_ns=max(0, min(time_ns, _MAX_NS)), attributes=attributes)


def _link(trace_id: str, span_id: str, attributes: dict[str, Any]) -> dict[str, Any]:
    link: dict[str, Any] = {"trace_id": trace_id, "span_id": span_id}
    return {**link, "attributes": attributes} if attributes else link
