"""Values as text for a column: JSON of anything a sender put there, and lists of names that SQL can search."""

from collections.abc import Iterable
from typing import Any

import msgspec

_MAX_DEPTH = 60
_TOO_DEEP = "(nested too deep to be stored)"
_encode = msgspec.json.Encoder(decimal_format="string").encode


def json_text(value: Any) -> str:
    """Return `value` as JSON; what JSON has no room for (huge numbers, half pairs, objects) becomes text in its place."""
    try:
        return _encode(value).decode()
    except (msgspec.MsgspecError, UnicodeError, TypeError, ValueError, OverflowError, RecursionError):
        return _encode(plain_json(value)).decode()


def parse_payload(payload: Any) -> tuple[Any, str | None]:
    """Return a payload as a value and as JSON text; `msgspec.Raw` is parsed but not written again."""
    if payload is None:
        return None, None
    try:
        if isinstance(payload, msgspec.Raw):
            return msgspec.json.decode(payload), bytes(payload).decode()
        return payload, _encode(payload).decode()
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
        text = _as_text(payload)
        return text, _encode(text).decode()


def plain_json(value: Any, depth: int = 0) -> Any:
    """Return `value` with everything replaced by text that JSON cannot say."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if depth > _MAX_DEPTH:
        return _TOO_DEEP
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(msgspec.structs.asdict(value), enc_hook=str)
    if isinstance(value, dict):
        return {plain_json(str(key)): plain_json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item, depth + 1) for item in value]
    return plain_json(str(value))


def joined_lines(values: Iterable[str | None]) -> str:
    """Return the distinct values as `\\nA\\nB\\n`: one substring test asks for one of them. Of none it is empty."""
    known = dict.fromkeys(value.replace("\n", " ") for value in values if value)
    return "\n" + "\n".join(known) + "\n" if known else ""


def split_lines(text: str | None) -> list[str]:
    """Return the values of `joined_lines`."""
    return text[1:-1].split("\n") if text else []


def _as_text(payload: Any) -> str:
    """Return what can be read of a payload that is not JSON, or nested too deep for it."""
    try:
        raw = bytes(payload) if isinstance(payload, msgspec.Raw) else str(payload).encode("utf-8", "replace")
    except RecursionError:
        return _TOO_DEEP
    return raw.decode("utf-8", "replace")
