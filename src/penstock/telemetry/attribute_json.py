"""Attributes whose text is JSON, which is how senders put more than a plain value into one."""

from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode


def parse_json(value: Any) -> Any:
    """Return JSON text as the value it holds, anything else as it is."""
    if not isinstance(value, str) or value[:1] not in ("{", "[", '"'):
        return value
    try:
        return _decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return value
