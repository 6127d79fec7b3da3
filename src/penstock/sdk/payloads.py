"""What went in and out, kept safely: a bounded copy made at once, the JSON text of it made later elsewhere.

The copy is made where the value is seen, since programs go on appending to the lists they passed. It holds nothing but
JSON values: no code of the program (`__repr__`, properties) is run for it, so it cannot fail, block or change
anything there. Objects that are plain records (dataclasses, pydantic, msgspec, attrs, named tuples) are copied by
their fields; any other is named by its type.
"""

import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import msgspec

from penstock.sdk.settings import Redaction

BLACKED = "[redacted]"
LEFT_OUT = "…"
MAX_DEPTH = 24
_NODE_BYTES = 32
_SMALL_NODES = 400
_SMALL_BYTES = 64 * 1024
_PLAIN = frozenset({int, float, bool, type(None)})
_AS_TEXT = (
    dt.datetime,
    dt.date,
    dt.time,
    dt.timedelta,
    decimal.Decimal,
    uuid.UUID,
    pathlib.PurePath,
    complex,
)
_encoder = msgspec.json.Encoder(enc_hook=str)


class _Copier:
    __slots__ = ("left", "size")

    def __init__(self, max_bytes: int) -> None:
        self.left = max_bytes
        self.size = 0

    def copy(self, value: Any, depth: int = 0) -> Any:
        self._take(_NODE_BYTES)
        kind = type(value)
        if kind is str:
            return self._text(value)
        if value is None or kind is bool or kind is float:
            return value
        if kind is int:
            return value if -(2**63) <= value < 2**64 else str(value)
        if self.left <= 0 or depth > MAX_DEPTH:
            return LEFT_OUT
        if kind is dict:
            return self._mapping(value.items(), depth)
        if kind in (list, tuple, set, frozenset):
            return self._items(value, depth)
        return self._object(value, kind, depth)

    def _object(self, value: Any, kind: type, depth: int) -> Any:
        if issubclass(kind, enum.Enum):
            return self.copy(value._value_, depth + 1)
        if issubclass(kind, _AS_TEXT):
            return self._text(str(value))
        if issubclass(kind, str):
            return self._text(str.__str__(value))
        if issubclass(kind, int):
            return self.copy(int.__int__(value), depth + 1)
        if issubclass(kind, float):
            return float.__float__(value)
        if issubclass(kind, bytes | bytearray | memoryview):
            return f"<{len(value)} bytes>"
        fields = _fields_of(value, kind)
        if fields is not None:
            return self._mapping(fields, depth)
        if issubclass(kind, dict):
            return self._mapping(dict.items(value), depth)
        if issubclass(kind, list | tuple | set | frozenset):
            return self._items(value, depth)
        if issubclass(kind, BaseException):
            return self._text(f"{kind.__qualname__}: {', '.join(a for a in value.args if type(a) is str)}")
        return f"<{kind.__module__}.{kind.__qualname__}>"

    def _mapping(self, pairs: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        copied: dict[str, Any] = {}
        for name, value in list(pairs):
            if self.left <= 0:
                copied[LEFT_OUT] = LEFT_OUT
                break
            copied[self._name(name)] = self.copy(value, depth + 1)
        return copied

    def _items(self, values: Iterable[Any], depth: int) -> list[Any]:
        copied: list[Any] = []
        for value in list(values):
            if self.left <= 0:
                copied.append(LEFT_OUT)
                break
            copied.append(self.copy(value, depth + 1))
        return copied

    def _name(self, name: Any) -> str:
        if type(name) is not str:
            name = str(self.copy(name, MAX_DEPTH))
        self._take(len(name))
        text: str = name
        return text

    def _text(self, text: str) -> str:
        if len(text) <= self.left:
            self._take(len(text))
            return text
        kept = text[: max(self.left, 0)]
        n_more = len(text) - len(kept)
        self._take(len(kept))
        return f"{kept}… ({n_more} characters more)"

    def _take(self, size: int) -> None:
        self.left -= size
        self.size += size


def capture(value: Any, max_bytes: int) -> tuple[Any, int]:
    """Return what `encode_payload` and `open_payload` take, and its size. Never raises.

    Small plain JSON values, which most are, become JSON text at once: that is ten times faster than copying them
    piece by piece, and safe, since it has been looked through before.
    """
    try:
        if type(value) is not str and _is_small_json(value, max_bytes):
            text = _encoder.encode(value)
            return msgspec.Raw(text), len(text)
    except (
        Exception
    ):  # half a surrogate pair, a number over 64 bits, a dict that changes under us: piece by piece then
        return copy_payload(value, max_bytes)
    return copy_payload(value, max_bytes)


def _is_small_json(value: Any, max_bytes: int) -> bool:
    """Return whether a value consists of a few plain JSON values and nothing else."""
    waiting = [value]
    left = min(max_bytes, _SMALL_BYTES)
    n_nodes = 0
    while waiting:
        n_nodes += 1
        each = waiting.pop()
        kind = type(each)
        if kind is str:
            left -= len(each)
        elif kind is dict:
            left -= sum(map(len, each))
            waiting.extend(each.values())
        elif kind is list or kind is tuple:
            waiting.extend(each)
        elif kind not in _PLAIN:
            return False
        if n_nodes > _SMALL_NODES or left < 0:
            return False
    return True


def open_payload(captured: Any) -> Any:
    """Return the JSON value of what was captured."""
    return msgspec.json.decode(captured) if isinstance(captured, msgspec.Raw) else captured


def copy_payload(value: Any, max_bytes: int) -> tuple[Any, int]:
    """Return a copy of `value` as a JSON value, cut to about `max_bytes`, and its size. Never raises."""
    copier = _Copier(max_bytes)
    try:
        return copier.copy(value), copier.size
    except Exception as error:  # the edge to the program's own objects: they may do anything when looked at
        return f"<not captured: {type(error).__name__}>", _NODE_BYTES


def _fields_of(value: Any, kind: type) -> Iterable[tuple[Any, Any]] | None:
    """Return the fields of a plain record without running code of its own, or None when it is none."""
    names: Iterable[str] | None = None
    if hasattr(kind, "__pydantic_fields__"):
        return {**value.__dict__, **(getattr(value, "__pydantic_extra__", None) or {})}.items()
    if dataclasses.is_dataclass(kind):
        names = (field.name for field in dataclasses.fields(kind) if field.repr)
    elif issubclass(kind, msgspec.Struct):
        names = kind.__struct_fields__
    elif hasattr(kind, "__attrs_attrs__"):
        names = (field.name for field in kind.__attrs_attrs__ if field.repr)
    elif issubclass(kind, tuple) and hasattr(kind, "_fields"):
        names = kind._fields
    if names is None:
        return None
    return [(name, getattr(value, name, None)) for name in names]


def black_out(value: Any, redactions: Collection[Redaction]) -> Any:
    """Return `value` with every redaction applied; a redaction that fails leaves nothing of the value."""
    for redaction in redactions:
        try:
            value = _map_text(value, redaction) if callable(redaction) else _hide(value, frozenset(redaction))
        except Exception as error:  # a rule of the program's own; what it failed to clean must not leave
            return f"<left out: the redaction failed with {type(error).__name__}>"
    return value


def _map_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {name: _map_text(item, change) for name, item in value.items()}
    if isinstance(value, list):
        return [_map_text(item, change) for item in value]
    return value


def _hide(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {name: BLACKED if name in names else _hide(item, names) for name, item in value.items()}
    if isinstance(value, list):
        return [_hide(item, names) for item in value]
    return value


def encode_payload(value: Any) -> tuple[str, str]:
    """Return (text, MIME type): texts as they are, everything else as JSON."""
    if isinstance(value, msgspec.Raw):
        return bytes(value).decode(), "application/json"
    if isinstance(value, str):
        return clean_text(value), "text/plain"
    return encode_json(value).decode(), "application/json"


def encode_json(value: Any) -> bytes:
    """Return JSON; half of a surrogate pair, which JSON cannot hold, becomes a question mark."""
    try:
        return _encoder.encode(value)
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError):
        return _encoder.encode(_map_all_text(value))


def clean_text(text: str) -> str:
    """Return `text` as UTF-8 can hold it."""
    return text.encode("utf-8", "replace").decode()


def _map_all_text(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(str(name)): _map_all_text(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_all_text(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return str(value)
    return value
