"""Rows of the span table as spans again."""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.spec.scores import SpanScore
from penstock.spec.spans import Span, SpanEvent, SpanLink
from penstock.spec.usage import TOKEN_CLASSES, Usage
from penstock.store.spans.json_text import split_lines
from penstock.store.spans.rows import SPAN_COLUMNS, plain_decimal

_events = msgspec.json.Decoder(list[SpanEvent])
_links = msgspec.json.Decoder(list[SpanLink])
_scores = msgspec.json.Decoder(list[SpanScore])
_NOT_READ = frozenset({"completeness", "preview", "search_text", "n_links", "passages"})
READ_COLUMNS = ", ".join(
    "replace(trace_id::VARCHAR, '-', '') AS trace_id" if column.name == "trace_id" else column.name
    for column in SPAN_COLUMNS
    if column.name not in _NOT_READ
)
"""What `span_of_row` expects, in order."""
_READ_NAMES = tuple(column.name for column in SPAN_COLUMNS if column.name not in _NOT_READ)
_SAME_NAMES = tuple(
    name for name in Span.__struct_fields__ if name in _READ_NAMES and name not in TOKEN_CLASSES
)


def span_of_row(row: Sequence[Any]) -> Span:
    """Return the span that a row of `READ_COLUMNS` holds (without its payloads)."""
    found = dict(zip(_READ_NAMES, row, strict=True))
    fields = {name: found[name] for name in _SAME_NAMES}
    fields["span_id"] = f"{found['span_id']:016x}"
    fields["parent_id"] = None if found["parent_id"] is None else f"{found['parent_id']:016x}"
    fields["cost_usd"] = plain_decimal(found["cost_usd"])
    fields["versions"] = msgspec.json.decode(found["versions"]) if found["versions"] else {}
    fields["attributes"] = msgspec.json.decode(found["attributes"]) if found["attributes"] else {}
    fields["events"] = _events.decode(found["events"]) if found["events"] else []
    fields["links"] = _links.decode(found["links"]) if found["links"] else []
    fields["scores"] = _scores.decode(found["scores"]) if found["scores"] else []
    fields["tags"] = split_lines(found["tags"])
    if found["usage_estimated"] is not None:
        counts = {name: found[name] for name in TOKEN_CLASSES}
        fields["usage"] = Usage(estimated=found["usage_estimated"], **counts)
    return Span(**fields)
