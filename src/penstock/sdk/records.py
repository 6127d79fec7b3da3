"""What travels from the program's threads to the worker: ended spans and judgements, not yet encoded."""

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

from penstock.sdk.settings import Redaction

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


Record = SpanRecord | ScoreRecord
