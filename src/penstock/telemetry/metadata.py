"""Metadata of a span under names of its own, `metadata.plan`, whoever sent it: so it can be searched and grouped by.

What was sent stays beside it. Only what can be compared is copied: texts, numbers and truth values, those in inner
objects under dotted names.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.telemetry.attribute_json import parse_json

METADATA = "metadata."
MAX_NAMES = 100
MAX_TEXT = 1000
"""Longer texts are no values to search by."""
_MAX_DEPTH = 4
_WHOLE = frozenset({"metadata", "langfuse.trace.metadata", "langfuse.observation.metadata"})
"""Attributes that hold an object, as a rule as JSON text."""
_BELOW = (
    "langfuse.trace.metadata.",
    "langfuse.observation.metadata.",
    "traceloop.association.properties.",
    "ai.telemetry.metadata.",
)


def is_metadata(name: str) -> bool:
    """Return whether an attribute of this name holds metadata of a span."""
    return name in _WHOLE or name.startswith(_BELOW)


def add_metadata(attributes: dict[str, Any]) -> None:
    """Add `metadata.NAME` for all metadata among the attributes; what already stands under that name stays."""
    found: dict[str, Any] = {}
    for name, value in attributes.items():
        if name in _WHOLE:
            whole = parse_json(value)
            if isinstance(whole, Mapping):
                found.update(_leaves(METADATA, whole, 0))
        elif name.startswith(_BELOW):
            start = next(start for start in _BELOW if name.startswith(start))
            found.update(_leaves(METADATA, {name.removeprefix(start): parse_json(value)}, 0))
    for name, value in list(found.items())[:MAX_NAMES]:
        attributes.setdefault(name, value)


def _leaves(start: str, values: Mapping[Any, Any], depth: int) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            if depth < _MAX_DEPTH:
                yield from _leaves(f"{start}{name}.", value, depth + 1)
        elif isinstance(value, bool | int | float) or (isinstance(value, str) and 0 < len(value) <= MAX_TEXT):
            yield f"{start}{name}", value
