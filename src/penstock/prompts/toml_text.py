"""Writes JSON values as TOML, as far as TOML can say them: it has no null. Pure."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_MAX_INLINE = 100


def can_be_toml(value: Any) -> bool:
    """Return whether a value can be written: no null anywhere, and text that TOML takes."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and can_be_toml(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(can_be_toml, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | bool | int)


def toml_lines(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table: plain values first, then a section for each object that does not fit a line."""
    yield from _table((), values)


def _table(path: tuple[str, ...], values: Mapping[str, Any]) -> Iterator[str]:
    sections: list[tuple[tuple[str, ...], Mapping[str, Any]]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and (not path or len(_inline(value)) > _MAX_INLINE):
            sections.append(((*path, name), value))
        else:
            yield f"{_key(name)} = {_inline(value)}"
    for place, table in sections:
        yield ""
        yield f"[{'.'.join(map(_key, place))}]"
        yield from _table(place, table)


def _inline(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(name)} = {_inline(each)}" for name, each in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return repr(value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _inline(name)
