"""The OTLP wire: requests in protobuf or JSON (OTLP 1.9) become plain records. Knows no attribute's meaning.

A body that is not OTLP is refused whole with `MalformedTelemetry`.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from penstock.spec.spans import SpanEvent, SpanLink, SpanStatus
from penstock.telemetry.errors import MalformedTelemetry
from penstock.telemetry.otlp_pairs import load_request_type, read_attributes, read_messages, read_value
from penstock.telemetry.otlp_salvage import mend_json, mend_protobuf

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
_STATUS: dict[Any, SpanStatus] = {1: "ok", 2: "error", "STATUS_CODE_OK": "ok", "STATUS_CODE_ERROR": "error"}
_MAX_DEPTH = 32
MAX_NS = 2**63 - 1
_Record = TypeVar("_Record")
_NOT_OTLP = (
    msgspec.MsgspecError,
    DecodeError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
    OverflowError,  # an integer that is no double
)


class WireSpan(msgspec.Struct, frozen=True, gc=False):
    """One span as it was sent."""

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
    links: list[SpanLink]
    resource: dict[str, Any]
    scope: str


class WireLog(NamedTuple):
    """One log record as it was sent."""

    trace_id: str
    span_id: str
    name: str
    """Of the event; empty for a plain log line."""
    time_ns: int
    severity: int
    body: Any
    attributes: dict[str, Any]
    resource: dict[str, Any]
    scope: str


def is_json_type(content_type: str) -> bool:
    """Return whether a Content-Type names JSON; everything else is read as protobuf."""
    return content_type.partition(";")[0].strip().lower() == JSON


class Wire(NamedTuple, Generic[_Record]):
    """What a request holds."""

    records: list[_Record]
    is_mended: bool = False
    """Whether text had to be mended that was not UTF-8."""


def read_spans(body: bytes, content_type: str) -> Wire[WireSpan]:
    """Return the spans of a trace export request (already unzipped)."""
    return _read(body, content_type, "trace", _json_spans, _protobuf_spans)


def read_logs(body: bytes, content_type: str) -> Wire[WireLog]:
    """Return the records of a log export request (already unzipped)."""
    return _read(body, content_type, "logs", _json_logs, _protobuf_logs)


def _read(
    body: bytes,
    content_type: str,
    what: str,
    from_json: Callable[[bytes], Iterable[_Record]],
    from_protobuf: Callable[[bytes], Iterable[_Record]],
) -> Wire[_Record]:
    is_json = is_json_type(content_type)
    read = from_json if is_json else from_protobuf
    try:
        return Wire(list(read(body)))
    except _NOT_OTLP as error:
        message = f"opentelemetry.proto.collector.{what}.v1.Export{what.capitalize()}ServiceRequest"
        mended = mend_json(body) if is_json else mend_protobuf(body, message)
        if mended is not None:
            with contextlib.suppress(*_NOT_OTLP):
                return Wire(list(read(mended)), is_mended=True)
        raise MalformedTelemetry(
            f"The body is not an OTLP {what} request in {JSON if is_json else 'protobuf'}.",
            hint=f"Send an {message.rpartition('.')[2]} and name its encoding in Content-Type.",
            reason=str(error)[:200],
        ) from error


# -- protobuf


def _protobuf_spans(body: bytes) -> Iterator[WireSpan]:
    request = load_request_type().FromString(body)
    for group in request.resource_spans:
        resource = read_messages(group.resource.attributes)
        for scoped in group.scope_spans:
            scope = f"{scoped.scope.name} {scoped.scope.version}".strip()
            for span in scoped.spans:
                status, events, links = span.status, span.events, span.links
                yield WireSpan(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.name,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    _STATUS.get(status.code, "unset"),
                    status.message,
                    read_attributes(span.attributes),
                    [
                        _event(each.name, each.time_unix_nano, read_messages(each.attributes))
                        for each in events
                    ]
                    if events
                    else [],
                    [
                        SpanLink(
                            trace_id=link.trace_id.hex(),
                            span_id=link.span_id.hex(),
                            attributes=read_messages(link.attributes),
                        )
                        for link in links
                    ]
                    if links
                    else [],
                    resource,
                    scope,
                )


def _protobuf_logs(body: bytes) -> Iterator[WireLog]:
    request = ExportLogsServiceRequest.FromString(body)
    for group in request.resource_logs:
        resource = read_messages(group.resource.attributes)
        for scoped in group.scope_logs:
            scope = f"{scoped.scope.name} {scoped.scope.version}".strip()
            for record in scoped.log_records:
                attributes = read_messages(record.attributes)
                yield WireLog(
                    trace_id=record.trace_id.hex(),
                    span_id=record.span_id.hex(),
                    name=record.event_name or str(attributes.get("event.name") or ""),
                    time_ns=record.time_unix_nano or record.observed_time_unix_nano,
                    severity=record.severity_number,
                    body=read_value(record.body),
                    attributes=attributes,
                    resource=resource,
                    scope=scope,
                )


# -- JSON


def _json_spans(body: bytes) -> Iterator[WireSpan]:
    for resource, scope, span in _json_items(body, "resourceSpans", "scopeSpans", "spans"):
        status = span.get("status") or {}
        yield WireSpan(
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
                SpanLink(
                    trace_id=_json_id(link.get("traceId")),
                    span_id=_json_id(link.get("spanId")),
                    attributes=_json_attributes(_list(link, "attributes")),
                )
                for link in _list(span, "links")
            ],
            resource=resource,
            scope=scope,
        )


def _json_logs(body: bytes) -> Iterator[WireLog]:
    for resource, scope, record in _json_items(body, "resourceLogs", "scopeLogs", "logRecords"):
        attributes = _json_attributes(_list(record, "attributes"))
        severity = record.get("severityNumber")
        yield WireLog(
            trace_id=_json_id(record.get("traceId")),
            span_id=_json_id(record.get("spanId")),
            name=str(record.get("eventName") or attributes.get("event.name") or ""),
            time_ns=int(record.get("timeUnixNano") or record.get("observedTimeUnixNano") or 0),
            severity=severity if isinstance(severity, int) else 0,
            body=_json_value(record.get("body"), 0),
            attributes=attributes,
            resource=resource,
            scope=scope,
        )


def _json_items(
    body: bytes, groups: str, scopes: str, items: str
) -> Iterator[tuple[dict[str, Any], str, dict[str, Any]]]:
    request = msgspec.json.decode(body, type=dict[str, Any])
    for group in _list(request, groups):
        resource = _json_attributes(_list(group.get("resource") or {}, "attributes"))
        for scoped in _list(group, scopes):
            named = scoped.get("scope") or {}
            scope = f"{named.get('name', '')} {named.get('version', '')}".strip()
            for item in _list(scoped, items):
                yield resource, scope, item


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
    return SpanEvent(name=name, time_ns=max(0, min(time_ns, MAX_NS)), attributes=attributes)
