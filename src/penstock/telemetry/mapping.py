"""From foreign attributes to the fields of a span, as the table says; see `mapping_table.py`.

The first name that is present wins; native names come before deprecated ones. Nothing is lost: attributes that are not
payload stay on the span as they came, so a later version of the table can be run over history.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from penstock.spec.spans import SpanEvent, SpanKind
from penstock.spec.usage import LEAST_COST_EXPONENT
from penstock.telemetry.attribute_json import parse_json
from penstock.telemetry.mapping_table import MappingTable
from penstock.telemetry.score_spans import MODEL_KINDS
from penstock.telemetry.shapes import Shape

_MAX_TAGS = 50
_NAMED: frozenset[SpanKind] = frozenset({"agent", "tool"})


class Picked(msgspec.Struct, gc=False):
    """What one pass over the attributes found."""

    values: dict[str, Any]
    """By field, the value of its first name."""
    sources: dict[str, str]
    """By field, that name."""
    kind: SpanKind | None
    """The kind that an attribute names."""
    shape: Shape
    """What is known of the names, of those that were picked from and of all others."""


def pick_fields(table: MappingTable, attributes: Mapping[str, Any]) -> Picked:
    """Return, for each field that has one, the value of its first name that is present."""
    shape = table.shape_of(tuple(attributes))
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for field, names in shape.candidates:
        for name in names:
            value = attributes[name]
            if value or (value is not None and value != ""):
                values[field], sources[field] = value, name
                break
    if shape.expanded:
        _pick_members(table, attributes, shape.expanded, values, sources)
    kind: SpanKind | None = None
    for name, kinds in shape.kinds:
        value = attributes[name]
        if isinstance(value, str):
            kind = kinds.get(value.strip('"').lower())
            if kind is not None:
                break
    return Picked(values, sources, kind, shape)


def _pick_members(
    table: MappingTable,
    attributes: Mapping[str, Any],
    expanded: Sequence[str],
    values: dict[str, Any],
    sources: dict[str, str],
) -> None:
    """Let members of JSON texts fill fields too, where they come before what fills them already."""
    for name in expanded:
        for member, content in _members(name, attributes[name]):
            place = table.places.get(member)
            if place is None or content is None:
                continue
            field, rank = place
            if field not in sources or rank < table.places[sources[field]][1]:
                values[field], sources[field] = content, member


def _members(name: str, value: Any) -> list[tuple[str, Any]]:
    """Return what the JSON text of an attribute holds, under names of its own."""
    parsed = parse_json(value)
    return (
        [(f"{name}.{member}", content) for member, content in parsed.items()]
        if isinstance(parsed, dict)
        else []
    )


def text_field(values: Mapping[str, Any], field: str) -> str | None:
    """Return a picked field as text, or None."""
    value = values.get(field)
    return None if value is None or isinstance(value, dict | list) else str(value)


def map_kind(
    table: MappingTable, picked: Picked, attributes: Mapping[str, Any], scope: str, name: str
) -> SpanKind:
    """Return what kind of span this is where no attribute names it; `internal` when nothing tells."""
    for prefix, kinds in table.names:
        if scope.startswith(prefix) and name in kinds:
            return kinds[name]
    for attribute, hinted in picked.shape.hints:
        if attribute in attributes:
            return hinted
    values = picked.values
    if "input" in values and "output" in values:
        return "llm"
    return "embedding" if "input" in values and "model" in values else "internal"


def map_names(values: Mapping[str, Any], kind: SpanKind, name: str) -> tuple[str | None, str | None]:
    """Return the agent and the tool of a span; those of their own kind are known by some name always."""
    if kind not in _NAMED and "agent" not in values:
        return None, None
    agent, tool = text_field(values, "agent"), text_field(values, "tool")
    entity = text_field(values, "entity")
    if kind == "agent" and agent is None:
        agent = entity or name
    if kind == "tool":
        return agent, tool or entity or name
    return agent, None


def map_provider(table: MappingTable, name: str) -> str | None:
    """Return a provider under the name that the conventions give it; None for what is no provider."""
    written = name.lower()
    known = table.providers.get(written)
    if known is None and "." in written:
        known = (
            table.providers.get(written.partition(".")[0])
            if written not in table.providers.values()
            else written
        )
    return (known or None) if known is not None else name


def map_prompt(values: Mapping[str, Any]) -> str | None:
    """Return the prompt and its version, as far as the sender said: `triage@3`."""
    whole, name = text_field(values, "prompt"), text_field(values, "prompt_name")
    version = text_field(values, "prompt_version")
    if whole is not None or name is None:
        return whole
    return name if version is None else f"{name}@{version}"


def map_tags(values: Mapping[str, Any]) -> list[str]:
    """Return the tags, each once; text may hold a JSON list or names between commas."""
    found = parse_json(values.get("tags"))
    if isinstance(found, str):
        found = [part.strip() for part in found.split(",")]
    if not isinstance(found, list):
        return []
    return list(dict.fromkeys(str(tag)[:200] for tag in found if isinstance(tag, str | int) and tag != ""))[
        :_MAX_TAGS
    ]


def map_cost(values: Mapping[str, Any], kind: SpanKind) -> Decimal | None:
    """Return the cost that the sender reported of a call, or None.

    What steps around calls report is the sum of those below them: it stays among the attributes and is not counted
    again.
    """
    value = values.get("cost_usd")
    if value is None or isinstance(value, bool) or kind not in MODEL_KINDS:
        return None
    try:
        cost = Decimal(str(value))
    except InvalidOperation:
        return None
    if not cost.is_finite() or not 0 <= cost < 10**12:
        return None
    if not cost:
        return Decimal(0)  # whatever its exponent: written out, 0e-3000000000 has as many digits
    return cost if cost.adjusted() >= LEAST_COST_EXPONENT else None


def map_ttft_ms(
    table: MappingTable, values: Mapping[str, Any], events: list[SpanEvent], start_ns: int
) -> float | None:
    """Return the milliseconds until the first token, from a duration, a moment or an event."""
    seconds, milliseconds = number_field(values, "ttft_s"), number_field(values, "ttft_ms")
    if seconds is not None or milliseconds is not None:
        found = seconds * 1000 if seconds is not None else milliseconds
        return found if found is not None and found >= 0 else None
    moment = _moment_ns(parse_json(values.get("first_token_at")))
    if moment is None:
        moment = min((event.time_ns for event in events if event.name in table.first_token), default=None)
    return None if moment is None or moment < start_ns else (moment - start_ns) / 1e6


def _moment_ns(value: Any) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip('"'))
        return None if moment.tzinfo is None else round(moment.timestamp() * 1e6) * 1000
    except (ValueError, OverflowError):
        return None


def number_field(values: Mapping[str, Any], field: str) -> float | None:
    """Return a picked field as a finite number, or None."""
    value = values.get(field)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def tells_of_failure(shape: Shape, attributes: Mapping[str, Any]) -> bool:
    """Return whether an attribute tells of a failure."""
    for name, bad in shape.errors:
        value = attributes.get(name)
        if isinstance(value, str) and value.lower() == bad:
            return True
    return False
