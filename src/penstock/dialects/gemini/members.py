"""Objects of Google's APIs: protobuf JSON, whose members may be written in camelCase or in snake_case."""

import re
from typing import Any

from penstock.dialects.members import Members, wrong

_UNDERSCORE = re.compile(r"(?<=[a-z0-9])_([a-z])")


def proto(value: Any, path: str) -> Members:
    """Return the members of one protobuf message under their camelCase names; raises `InvalidInput` if it is none."""
    if not isinstance(value, dict):
        raise wrong(path or "the body", "an object", value)
    return Members({camel(name): item for name, item in value.items()}, path)


def proto_inner(members: Members, name: str) -> Members | None:
    """Return an inner message, or None."""
    value = members.take(name)
    return None if value is None else proto(value, members.at(name))


def proto_list(members: Members, name: str) -> list[Members]:
    """Return a list of messages; one message alone counts as a list of it."""
    value = members.take(name)
    if isinstance(value, dict):
        value = [value]
    if value is not None and not isinstance(value, list):
        raise wrong(members.at(name), "a list", value)
    return [proto(item, f"{members.at(name)}[{index}]") for index, item in enumerate(value or [])]


def camel(name: str) -> str:
    """Return the camelCase form of a member's name."""
    return _UNDERSCORE.sub(lambda found: found.group(1).upper(), name) if "_" in name else name
