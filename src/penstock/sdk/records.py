"""What travels from the program's threads to the worker: ended spans and judgements, not yet encoded."""

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Status

from penstock.sdk.settings import Redaction

SCOPE: Final = "penstock"
"""Instrumentation scope of our own spans."""
KEEP: Final = -1
"""Stands for the parent that a span has anyhow."""
SPAN_BYTES = 700
"""What an ended span takes beside its texts."""


class SpanRecord(NamedTuple):
    """An ended span."""

    span: ReadableSpan
    payload: Mapping[str, Any] | None
    """`input`, `output`, `metadata` as JSON values."""
    parent: int | None
    """Id to give as parent, None for none, `KEEP` for the one it has."""
    redactions: Collection[Redaction]
    notes: Mapping[str, Any]
    """More attributes, beside those of the span."""
    size: int
    is_ok: bool = False
    """Whether what was observed went well, where the span itself does not say."""


class ScoreRecord(NamedTuple):
    """A judgement: the body of one score."""

    body: bytes
    size: int


_SLIM_CHARS = 200


def slim(record: SpanRecord) -> SpanRecord:
    """Return the record with its facts and none of its long texts: what there is room for in a flood."""
    span = record.span
    bare = ReadableSpan(
        name=span.name[:_SLIM_CHARS],
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_short(span.attributes or {}),
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
    notes = {**_short(record.notes), "penstock.payload_dropped": True}
    return record._replace(span=bare, payload=None, notes=notes, size=SPAN_BYTES)


def _short(attributes: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in attributes.items() if size_of(value) <= _SLIM_CHARS}
    return dict(islice(kept.items(), 50))


def size_of(value: Any) -> int:
    """Return about how many bytes the value of an attribute takes."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Sequence):
        return sum(map(size_of, value)) + 8 * len(value)
    return 24


Record = SpanRecord | ScoreRecord
