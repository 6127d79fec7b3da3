"""Spans of bearable size: what is too large is kept in part, and the span says what is missing."""

from typing import Any

import msgspec

from penstock.spec.spans import Span

CUT = "penstock.cut"
"""Attribute: what of the span was left out for its size, and how large that was."""
MAX_ATTRIBUTE_BYTES = 256 * 1024
MAX_ATTRIBUTES = 2_000
MAX_EVENTS = 2_000
MAX_FIELD_CHARS = 10_000
_TEXTS = (
    "name",
    "status_message",
    "error_code",
    "user_id",
    "session_id",
    "provider",
    "model",
    "agent",
    "tool",
    "prompt",
)
_encode = msgspec.json.Encoder(enc_hook=str).encode


def cut(span: Span, max_payload_bytes: int) -> Span:
    """Return a span of bearable size, which says what was left out; the same one when nothing had to be."""
    left_out: dict[str, int] = {}
    changes: dict[str, Any] = {}
    for name in ("input", "output"):
        payload = getattr(span, name)
        if payload is not None and (text := _json_of(payload)) is not None and len(text) > max_payload_bytes:
            changes[name] = {
                "penstock_cut": {"size_bytes": len(text), "kept_bytes": max_payload_bytes},
                "text": text[:max_payload_bytes].decode("utf-8", "ignore"),
            }
            left_out[name] = len(text)
    for name in _TEXTS:
        text = getattr(span, name)
        if text is not None and len(text) > MAX_FIELD_CHARS:
            changes[name] = f"{text[:MAX_FIELD_CHARS]}…"
            left_out[name] = len(text)
    attributes = _cut_attributes(span.attributes, left_out)
    if attributes is not span.attributes:
        changes["attributes"] = attributes
    if len(span.events) > MAX_EVENTS:
        changes["events"] = span.events[:MAX_EVENTS]
        left_out["events"] = len(span.events)
    elif any(len(_json_of(event.attributes) or b"") > MAX_ATTRIBUTE_BYTES for event in span.events):
        changes["events"] = [
            msgspec.structs.replace(event, attributes=_cut_attributes(event.attributes, left_out))
            for event in span.events
        ]
    if not left_out:
        return span
    changes["attributes"] = {**changes.get("attributes", span.attributes), CUT: left_out}
    return msgspec.structs.replace(span, **changes)


def _cut_attributes(attributes: dict[str, Any], left_out: dict[str, int]) -> dict[str, Any]:
    kept = attributes
    if len(attributes) > MAX_ATTRIBUTES:
        ours = {name: value for name, value in attributes.items() if name.startswith("penstock.")}
        kept = {**dict(list(attributes.items())[:MAX_ATTRIBUTES]), **ours}
        left_out["attributes"] = len(attributes)
    for name, value in list(kept.items()):
        size = (
            len(value)
            if isinstance(value, str)
            else len(_json_of(value) or b"")
            if isinstance(value, dict | list)
            else 0
        )
        if size > MAX_ATTRIBUTE_BYTES:
            text = value if isinstance(value, str) else (_json_of(value) or b"").decode("utf-8", "replace")
            kept = {**kept, name: f"{text[:MAX_ATTRIBUTE_BYTES]}… ({size} characters)"}
            left_out[name[:200]] = size
    return kept


def _json_of(value: Any) -> bytes | None:
    if isinstance(value, msgspec.Raw):
        return bytes(value)
    try:
        return _encode(value)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError, OverflowError):
        return str(value)[: 64 * 1024 * 1024].encode("utf-8", "replace")
