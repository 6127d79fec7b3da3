"""Values as text for a column: JSON of anything a sender put there, and lists of names that SQL can search."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

_MAX_DEPTH = 60
_TOO_DEEP = "(nested too deep to be stored)"
_NOT_JSON = (msgspec.MsgspecError, UnicodeError, TypeError, ValueError, OverflowError, RecursionError)
_encoder = msgspec.json.Encoder(decimal_format="string")
_encode = _encoder.encode


def json_text(value: Any) -> str:
    """Return `value` as JSON; what JSON has no room for (huge numbers, half pairs, objects) becomes text in its place."""
    try:
        return _encode(value).decode()
    except _NOT_JSON:
        return _encode(plain_json(value)).decode()


def json_texts(values: Sequence[Any]) -> list[str | None]:
    """Return `json_text` of each of `values`, None for an empty one: one writing for all, as JSON of ours has no newlines."""
    told = list(filter(None, values))
    try:
        lines = _encoder.encode_lines(told).decode().split("\n") if told else []
    except _NOT_JSON:
        lines = []
    texts = iter(lines) if len(lines) == len(told) + 1 else map(json_text, told)
    return [next(texts) if value else None for value in values]


def write_payload(payload: Any) -> str | None:
    """Return a payload as JSON text, or None where it is none; `msgspec.Raw` is taken at its word."""
    try:
        return (bytes(payload) if isinstance(payload, msgspec.Raw) else _encode(payload)).decode()
    except _NOT_JSON:
        return None


def parse_payload(payload: Any, written: str | None) -> tuple[Any, str]:
    """Return a payload as a value and as JSON text, from what `write_payload` says of it. What is no JSON becomes text."""
    try:
        if written is not None:
            return (msgspec.json.decode(payload) if isinstance(payload, msgspec.Raw) else payload), written
    except _NOT_JSON:
        pass
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
    known = dict.fromkeys([value.replace("\n", " ") for value in values if value])
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
