"""A span as one record of the spool: JSON, because payloads are JSON already and pass through unparsed.

`Span.input` and `Span.output` may be `msgspec.Raw`: JSON that is checked and copied, not decoded. What is not JSON
(an upstream's garbage, a foreign object in an attribute, half of a surrogate pair) is replaced by text rather
than losing the span; unchecked, such bytes could also write fields of their own into the record.
"""

from typing import Any

import msgspec

from penstock.spec.spans import Span

_Raw = msgspec.Raw
_skimmer = msgspec.json.Decoder(msgspec.Raw)
_encoder = msgspec.json.Encoder(enc_hook=str)


class SpanRecord(Span, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A span read back from the spool: its payloads are still JSON text (or None)."""

    input: msgspec.Raw = None  # type: ignore[assignment]  # msgspec allows no union with Raw
    output: msgspec.Raw = None  # type: ignore[assignment]


_decoder = msgspec.json.Decoder(SpanRecord)


def encode_span(span: Span) -> bytes:
    """Return the record of `span`."""
    if type(span.input) is _Raw and not _is_json(span.input):
        span = msgspec.structs.replace(span, input=bytes(span.input).decode("utf-8", "replace"))
    if type(span.output) is _Raw and not _is_json(span.output):
        span = msgspec.structs.replace(span, output=bytes(span.output).decode("utf-8", "replace"))
    try:
        return _encoder.encode(span)
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError):
        return _encoder.encode(_clean_span(span))


def encode_slim(span: Span) -> bytes:
    """Return the record of `span` without its payloads, marked as such."""
    return encode_span(msgspec.structs.replace(span, input=None, output=None, payload_dropped=True))


def decode_span(record: bytes) -> SpanRecord:
    """Return the span of a record; raise `msgspec.DecodeError` (also for wrong types) if it holds none.

    Its payloads are `msgspec.Raw`, so that moving a span on costs no parsing; `msgspec.json.decode` opens them.
    """
    return _decoder.decode(record)


def _is_json(payload: msgspec.Raw) -> bool:
    """Return whether `payload` is one JSON value (0.3 µs a KB: the text is skipped over, not built)."""
    try:
        _skimmer.decode(payload)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _clean_span(span: Span) -> Span:
    names = [name for name in Span.__struct_fields__ if name not in {"usage", "cost_usd"}]
    return msgspec.structs.replace(span, **{name: _clean(getattr(span, name), 0) for name in names})


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool | float | msgspec.Raw):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if depth > 60:
        return "…"
    if isinstance(value, dict):
        return {str(_clean(str(key), depth)): _clean(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item, depth + 1) for item in value]
    if isinstance(value, msgspec.Struct):
        fields = {name: _clean(getattr(value, name), depth + 1) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **fields)
    return _clean(str(value), depth)
