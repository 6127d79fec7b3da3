"""Filters of a list as they arrive from a URL: texts in, a checked query out.

`q` is a search in the search language. The named filters beside it are what forms and links set one by one; all of them
must hold.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from penstock.base.errors import InvalidInput
from penstock.spec.search import All, Compare, Condition, Words
from penstock.spec.search_fields import BY_NAME
from penstock.store.spans.types import SpanQuery, TraceQuery
from penstock.traces.search import parse

_BOUNDS = ("since_ns", "until_ns", "order", "limit", "cursor")
_EQUAL = {
    "route": "route",
    "model": "model",
    "provider": "provider",
    "status": "status",
    "kind": "kind",
    "key_id": "key",
    "session_id": "session",
    "user_id": "user",
}
_Query = TypeVar("_Query", TraceQuery, SpanQuery)


def build_query(fields: Mapping[str, object]) -> TraceQuery:
    """Return the query with these filters, empty ones left out; raise `InvalidInput` that names the wrong one."""
    return _build(fields, TraceQuery)


def build_span_query(fields: Mapping[str, object]) -> SpanQuery:
    """Return the query of a list of spans with these filters, as `build_query`."""
    return _build(fields, SpanQuery)


def _build(fields: Mapping[str, object], kind: type[_Query]) -> _Query:
    given = {name: value for name, value in fields.items() if value not in {None, ""}}
    unknown = set(given) - {*_BOUNDS, *_EQUAL, "q", "text", "min_duration_ms"}
    if unknown:
        raise InvalidInput(f"There is no filter {min(unknown)!r}.")
    bounds: dict[str, Any] = {name: given[name] for name in _BOUNDS if name in given}
    try:
        query = msgspec.convert(bounds, kind, strict=False)
        duration_ms = msgspec.convert(given.get("min_duration_ms"), float | None, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"A filter cannot be read: {error}.") from error
    parts: list[Condition] = []
    if "q" in given:
        parts.append(parse(str(given["q"]), subject="trace" if kind is TraceQuery else "span"))
    parts += [_equal(name, str(given[name])) for name in _EQUAL if name in given]
    if duration_ms is not None:
        parts.append(Compare(field="duration", operator=">=", value=duration_ms))
    if "text" in given:
        parts.append(Words(text=str(given["text"])))
    where = parts[0] if len(parts) == 1 else All(parts=tuple(parts))
    return msgspec.structs.replace(query, where=where)


def _equal(name: str, value: str) -> Compare:
    field = BY_NAME[_EQUAL[name]]
    if field.values and value not in field.values:
        raise InvalidInput(
            f"A filter cannot be read: {value!r} is no {field.name}.", hint=f"Use {', '.join(field.values)}."
        )
    return Compare(field=field.name, operator="=", value=value)
