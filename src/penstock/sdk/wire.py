"""Spans of OpenTelemetry's SDK as OTLP in JSON, one text a span, so that a batch is put together without encoding it again.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: ids in hex, 64-bit numbers as text.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from opentelemetry.trace import StatusCode

from penstock.sdk.payloads import BLACKED, black_out, encode_json, encode_payload, open_payload
from penstock.sdk.records import KEEP, SCOPE, SpanRecord
from penstock.sdk.settings import Redaction, SdkSettings
from penstock.sdk.spill import Batch
from penstock.telemetry.mapping_table import load_table

_MAX_DEPTH = 16
_OWN_NAMES = frozenset({"stream.items", "stream.aborted"})
"""Attributes of ours that the mapping does not list."""


def encode_span(record: SpanRecord, settings: SdkSettings) -> bytes:
    """Return one `scopeSpans` entry that holds the span."""
    span = record.span
    context, scope = span.context, span.instrumentation_scope
    redactions = [*record.redactions, *([] if settings.redact is None else [settings.redact])]
    is_own = scope is not None and scope.name == SCOPE
    attributes = _clean(span.attributes or {}, redactions, settings.capture, is_own=is_own)
    attributes.update(_clean(record.notes, redactions, settings.capture, is_own=is_own))
    if record.payload is not None and settings.capture:
        attributes.update(_payload_attributes(record.payload, redactions))
    parent = (span.parent.span_id if span.parent else None) if record.parent == KEEP else record.parent
    assert context is not None
    wire: dict[str, Any] = {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "name": span.name,
        "kind": span.kind.value + 1,
        "startTimeUnixNano": str(span.start_time or 0),
        "endTimeUnixNano": str(span.end_time or 0),
        "attributes": _pairs(attributes),
    }
    if parent:
        wire["parentSpanId"] = f"{parent:016x}"
    if record.is_ok and span.status.status_code is StatusCode.UNSET:
        wire["status"] = {"code": StatusCode.OK.value}
    elif span.status.status_code is not StatusCode.UNSET:
        wire["status"] = {"code": span.status.status_code.value}
        if span.status.description and settings.capture:
            wire["status"]["message"] = _clean_one(span.status.description, redactions)
    if span.events:
        wire["events"] = [
            {
                "name": event.name,
                "timeUnixNano": str(event.timestamp),
                "attributes": _pairs(
                    _clean(event.attributes or {}, redactions, settings.capture, is_own=is_own)
                ),
            }
            for event in span.events
        ]
    if span.links:
        wire["links"] = [
            {
                "traceId": f"{link.context.trace_id:032x}",
                "spanId": f"{link.context.span_id:016x}",
                "attributes": _pairs(link.attributes or {}),
            }
            for link in span.links
        ]
    left_out = {
        "droppedAttributesCount": span.dropped_attributes,
        "droppedEventsCount": span.dropped_events,
        "droppedLinksCount": span.dropped_links,
    }
    wire.update({name: count for name, count in left_out.items() if count})
    named = {} if scope is None else {"name": scope.name, "version": scope.version or ""}
    return encode_json({"scope": named, "spans": [wire]})


def encode_resource(settings: SdkSettings) -> msgspec.Raw:
    """Return the OTLP resource: which program this is."""
    attributes = {
        "service.name": settings.service,
        "service.version": settings.release,
        "deployment.environment.name": settings.environment,
        "telemetry.sdk.name": "penstock",
        "telemetry.sdk.language": "python",
    }
    given = {name: value for name, value in attributes.items() if value}
    return msgspec.Raw(encode_json({"attributes": _pairs(given)}))


def encode_body(batch: Batch) -> tuple[str, bytes]:
    """Return (path, body) of the request that carries a batch."""
    joined = b",".join(batch.parts)
    if batch.kind == "scores":
        return "/api/v1/scores", b'{"scores":[%b]}' % joined
    resource = bytes(batch.resource)
    return "/v1/traces", b'{"resourceSpans":[{"resource":%b,"scopeSpans":[%b]}]}' % (resource, joined)


def without_payload(part: bytes) -> bytes | None:
    """Return a span's text without what was said in it, None when that makes it no smaller."""
    entry = msgspec.json.decode(part)
    for span in entry.get("spans", ()):
        kept = [pair for pair in span["attributes"] if not _is_content(pair["key"])]
        kept.append({"key": "penstock.payload_dropped", "value": {"boolValue": True}})
        span["attributes"] = kept
        span.pop("events", None)
    small = encode_json(entry)
    return small if len(small) < len(part) else None


def _is_content(name: str) -> bool:
    """Return whether an attribute of this name holds what was said, and is no field of a span beside it."""
    facts = load_table().look_up(name)
    return facts.is_content and facts.field in (None, "status_message")


def _payload_attributes(payload: Mapping[str, Any], redactions: Sequence[Redaction]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place in ("input", "output"):
        if place in payload:
            captured = payload[place]
            if redactions:
                captured = black_out(open_payload(captured), redactions)
            text, mime = encode_payload(captured)
            found[f"{place}.value"], found[f"{place}.mime_type"] = text, mime
    if payload.get("metadata"):
        found["metadata"] = encode_json(black_out(payload["metadata"], redactions)).decode()
    return found


def _clean(
    attributes: Mapping[str, Any], redactions: Sequence[Redaction], capture: bool, *, is_own: bool
) -> dict[str, Any]:
    """Leave out, or black out, what may hold what was said; of our own spans also what the program called as it liked."""
    if capture and not redactions:
        return dict(attributes)
    kept = {}
    for name, value in attributes.items():
        if _is_content(name) or (
            is_own and not load_table().look_up(name).is_known and name not in _OWN_NAMES
        ):
            if capture:
                is_named = any(not callable(rule) and name in rule for rule in redactions)
                kept[name] = BLACKED if is_named else _clean_one(value, redactions)
        elif name == "tag.tags":
            kept[name] = _clean_one(value, redactions)
        else:
            kept[name] = value
    return kept


def _clean_one(value: Any, redactions: Sequence[Redaction]) -> Any:
    """Black out a content attribute of an instrumentation: JSON text is opened first, so that names are found."""
    if not redactions:
        return value
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            opened = msgspec.json.decode(value)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return black_out(value, redactions)
        return encode_json(black_out(opened, redactions)).decode()
    return black_out(list(value) if isinstance(value, tuple) else value, redactions)


def _pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value, 0)} for name, value in attributes.items()]


def _value(value: Any, depth: int) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)} if -(2**63) <= value < 2**63 else {"stringValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else str(value)}
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode()}
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        pairs = [{"key": str(name), "value": _value(item, depth + 1)} for name, item in value.items()]
        return {"kvlistValue": {"values": pairs}}
    if depth < _MAX_DEPTH and isinstance(value, Sequence):
        return {"arrayValue": {"values": [_value(item, depth + 1) for item in value]}}
    return {} if value is None else {"stringValue": str(value)}
