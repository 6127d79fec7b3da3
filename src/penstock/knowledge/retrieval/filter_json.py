"""Filters as programs write them: the shape of OpenAI's vector stores, with `exists` and `prefix` beside it.

`{"type": "eq", "key": "language", "value": "de"}`, joined by `{"type": "and", "filters": […]}`.
"""

import json
import math
from typing import Any, Literal

import msgspec

from penstock.base.errors import suggest
from penstock.knowledge.retrieval.conditions import TIMES, read_period
from penstock.knowledge.retrieval.errors import BadFilter
from penstock.spec.knowledge import Condition

MAX_DEPTH = 16
MAX_TERMS = 200
MAX_VALUES = 1000
"""In one list of `in` or `nin`."""
_OPS: dict[str, Literal["is", "not", "lt", "lte", "gt", "gte", "any", "none", "exists", "prefix"]] = {
    "eq": "is", "ne": "not", "lt": "lt", "lte": "lte", "gt": "gt", "gte": "gte", "in": "any", "nin": "none",
    "exists": "exists", "prefix": "prefix",
}  # fmt: skip
_JOINS: dict[str, Literal["all_of", "any_of"]] = {"and": "all_of", "or": "any_of"}


def read_json_filter(value: str | dict[str, Any]) -> Condition:
    """Return the condition; raise `BadFilter`, which names the member."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadFilter(f"The filter is no JSON: {error}.") from None
        except RecursionError:
            raise BadFilter("The filter is nested too deeply.") from None
    counter = [0]
    return _read(value, "filter", 1, counter)


def check_condition(condition: Condition) -> Condition:
    """Return a condition that came as such, if its values fit its operations; raise `BadFilter`."""
    _check(condition, "filter", 1, [0])
    return condition


def _read(value: Any, path: str, depth: int, counter: list[int]) -> Condition:
    counter[0] += 1
    if depth > MAX_DEPTH or counter[0] > MAX_TERMS:
        raise BadFilter(f"`{path}`: at most {MAX_TERMS} terms, nested at most {MAX_DEPTH} deep.")
    if not isinstance(value, dict):
        raise BadFilter(f"`{path}` is no object.", hint='Write {"type": "eq", "key": …, "value": …}.')
    if "op" in value and "type" not in value:
        try:
            condition = msgspec.convert(value, Condition)
        except msgspec.ValidationError as error:
            raise BadFilter(f"`{path}`: {error}.") from None
        counter[0] -= 1  # counted again with its parts
        _check(condition, path, depth, counter)
        return condition
    kind = value.get("type")
    if kind in _JOINS:
        _refuse_others(value, {"type", "filters"}, path)
        parts = value.get("filters")
        if not isinstance(parts, list) or not parts:
            raise BadFilter(f"`{path}.filters` is no list of filters.")
        read = [_read(each, f"{path}.filters[{n}]", depth + 1, counter) for n, each in enumerate(parts)]
        return Condition(op=_JOINS[kind], parts=read)
    if kind not in _OPS:
        known = [*_OPS, *_JOINS]
        raise BadFilter(
            f"`{path}.type` is {kind!r}; known: {', '.join(known)}.", hint=suggest(str(kind), known)
        )
    _refuse_others(value, {"type", "key", "value"}, path)
    key = value.get("key")
    if not isinstance(key, str) or not key:
        raise BadFilter(f"`{path}.key` is no name of a property.")
    if "value" not in value and kind != "exists":
        raise BadFilter(f"`{path}.value` is missing.")
    condition = Condition(op=_OPS[kind], field=key, value=value.get("value", True))
    counter[0] -= 1
    _check(condition, path, depth, counter)
    return condition


def _refuse_others(value: dict[str, Any], known: set[str], path: str) -> None:
    if others := sorted(set(value) - known):
        raise BadFilter(
            f"`{path}` has {', '.join(map(repr, others))}; known: {', '.join(sorted(known))}.",
            hint=suggest(others[0], known),
        )


def _check(condition: Condition, path: str, depth: int, counter: list[int]) -> None:
    counter[0] += 1
    if counter[0] > MAX_TERMS:
        raise BadFilter(f"`{path}`: at most {MAX_TERMS} terms.")
    op = condition.op
    if op in ("all_of", "any_of", "none_of"):
        if not condition.parts or depth > MAX_DEPTH:
            raise BadFilter(f"`{path}` joins nothing, or is nested more than {MAX_DEPTH} deep.")
        for number, part in enumerate(condition.parts):
            _check(part, f"{path}.parts[{number}]", depth + 1, counter)
        return
    if not condition.field:
        raise BadFilter(f"`{path}` names no property.")
    _check_value(condition, path)


def _check_value(condition: Condition, path: str) -> None:
    op, value = condition.op, condition.value
    if op in ("any", "none"):
        if not isinstance(value, list) or not all(map(_is_scalar, value)):
            raise BadFilter(f"`{path}.value` is no list of texts and numbers.")
        if len(value) > MAX_VALUES:
            raise BadFilter(f"`{path}.value` has {len(value):,} values; at most {MAX_VALUES:,} are taken.")
    elif op == "exists":
        if not isinstance(value, bool):
            raise BadFilter(f"`{path}.value` of `exists` is true or false.")
    elif op == "prefix":
        if not isinstance(value, str):
            raise BadFilter(f"`{path}.value` of `prefix` is no text.")
    elif not _is_scalar(value) or (op in ("lt", "lte", "gt", "gte") and isinstance(value, bool)):
        raise BadFilter(f"`{path}.value` is neither text nor number.")
    for each in value if isinstance(value, list) else [value]:
        if condition.field in TIMES and op not in ("exists", "prefix") and read_period(each) is None:
            raise BadFilter(
                f"`{path}.value` is {each!r}, which is no date.",
                hint="Write 2026, 2026-01, 2026-01-31 or 2026-01-31T10:00.",
            )


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | bool) or (isinstance(value, float) and math.isfinite(value))
