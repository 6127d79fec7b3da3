"""The same requests as `otlp_out.py` makes, in protobuf: what receivers take that know no OTLP JSON."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from penstock.spec.spans import Span
from penstock.telemetry.otlp_out import encode_otlp_json


def encode_otlp_protobuf(spans: Iterable[Span]) -> bytes:
    """Return one trace export request, grouped by resource and scope."""
    given = msgspec.json.decode(encode_otlp_json(spans))
    request = ExportTraceServiceRequest()
    for group in given["resourceSpans"]:
        resource_spans = request.resource_spans.add()
        _put_attributes(resource_spans.resource.attributes, group.get("resource") or {})
        for scoped in group["scopeSpans"]:
            scope_spans = resource_spans.scope_spans.add()
            scope = scoped.get("scope") or {}
            scope_spans.scope.name = scope.get("name", "")
            scope_spans.scope.version = scope.get("version", "")
            for span in scoped["spans"]:
                _put_span(scope_spans.spans.add(), span)
    encoded: bytes = request.SerializeToString()
    return encoded


def _put_span(message: Any, span: Mapping[str, Any]) -> None:
    message.trace_id = bytes.fromhex(span["traceId"])
    message.span_id = bytes.fromhex(span["spanId"])
    message.parent_span_id = bytes.fromhex(span.get("parentSpanId", ""))
    message.name = span["name"]
    message.kind = span.get("kind", 0)
    message.start_time_unix_nano = int(span["startTimeUnixNano"])
    message.end_time_unix_nano = int(span.get("endTimeUnixNano", 0))
    status = span.get("status") or {}
    message.status.code = status.get("code", 0)
    message.status.message = status.get("message", "")
    _put_attributes(message.attributes, span)
    for event in span.get("events") or ():
        put = message.events.add(name=event["name"], time_unix_nano=int(event["timeUnixNano"]))
        _put_attributes(put.attributes, event)
    for link in span.get("links") or ():
        put = message.links.add(
            trace_id=bytes.fromhex(link["traceId"]), span_id=bytes.fromhex(link["spanId"])
        )
        _put_attributes(put.attributes, link)


def _put_attributes(target: Any, holder: Mapping[str, Any]) -> None:
    for pair in holder.get("attributes") or ():
        _put_value(target.add(key=pair["key"]).value, pair["value"])


def _put_value(target: Any, value: Mapping[str, Any]) -> None:
    for which, content in value.items():
        if which == "stringValue":
            target.string_value = content
        elif which == "boolValue":
            target.bool_value = content
        elif which == "intValue":
            target.int_value = int(content)
        elif which == "doubleValue":
            target.double_value = float(content)
        elif which == "arrayValue":
            target.array_value.SetInParent()
            for item in content.get("values") or ():
                _put_value(target.array_value.values.add(), item)
        elif which == "kvlistValue":
            target.kvlist_value.SetInParent()
            for pair in content.get("values") or ():
                _put_value(target.kvlist_value.values.add(key=pair["key"]).value, pair["value"])
