"""Differences between configurations as they stand on a page: one line a field, values as a person would write them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from penstock.deploy.history import Change

MAX_CHARS = 400


@dataclass(frozen=True, kw_only=True)
class ShownField:
    """One field that differs; an empty side is where it is not set."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class ShownChange:
    """One thing that differs."""

    kind: str
    name: str
    action: str
    fields: tuple[ShownField, ...]


def show_changes(changes: Iterable[Change]) -> tuple[ShownChange, ...]:
    """Return the changes in the order they came."""
    return tuple(
        ShownChange(
            kind=each.kind,
            name=each.name,
            action=each.action,
            fields=tuple(
                ShownField(path=one.path, before=_write(one.before), after=_write(one.after))
                for one in each.fields
                if one.path != "name"
            ),
        )
        for each in changes
    )


def _write(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        text = ", ".join(value)
    elif isinstance(value, float):
        text = f"{value:g}" if abs(value) < 1e6 else str(value)
    elif isinstance(value, str | int):
        text = str(value)
    else:
        text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]} … {len(text) - MAX_CHARS} more characters"
