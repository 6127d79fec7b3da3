"""What every dialect refuses of a request body before it looks inside: depth, encoding, members given twice."""

import re
from functools import cache
from typing import TypeVar

import msgspec

from penstock.base.errors import InvalidInput
from penstock.dialects.openai.json_scan import is_nested_deeper, scan_members

T = TypeVar("T")
_HALF = re.compile(rb'\\u[dD][89abAB][0-9a-fA-F]{2}"')
_WHERE = re.compile(r" - at `\$\.?([^`]*)`$")


def decode_head(
    decoder: msgspec.json.Decoder[T], body: bytes, *, max_depth: int, deciding: tuple[str, ...]
) -> T:
    """Return what `decoder` reads of a request body.

    Raises `InvalidInput` that names the member for: not JSON, not UTF-8, nested deeper than `max_depth`, members of
    a wrong type, and members of `deciding` given twice (two parsers may disagree on which of them counts).
    """
    if is_nested_deeper(body, than=max_depth):
        raise InvalidInput(
            f"The request body nests deeper than {max_depth} levels.",
            hint="Flatten it, or let the operator raise max_json_depth.",
        )
    if not body.isascii():
        _check_utf8(body)
    try:
        head = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_member(str(error)) from None
    except msgspec.DecodeError as error:
        raise _no_json(body, error) from None
    if _may_repeat(body, deciding):
        _refuse_repeats(body, deciding)
    return head


def _no_json(body: bytes, error: msgspec.DecodeError) -> InvalidInput:
    if "truncated" in str(error) and body.rstrip().endswith(b"}") and _HALF.search(body):
        # what the decoder says where a string ends after the first half of a pair
        return InvalidInput(
            r"The request body is not valid JSON: it has half of a surrogate pair (\ud8…) without the other.",
            hint="A text was cut within a character, mostly an emoji.",
        )
    return InvalidInput(
        f"The request body is not valid JSON: {error}.",
        hint="Send one JSON object with Content-Type: application/json.",
    )


def need_model(model: str | None) -> str:
    """Return `model`; raises `InvalidInput` if it is empty or not said."""
    if model:
        return model
    said = "`model` is empty." if model == "" else "The request names no `model`."
    raise InvalidInput(said, hint="Name a route; GET /v1/models lists them.", param="model")


def _check_utf8(body: bytes) -> None:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"The request body is not valid UTF-8 (byte {error.start}).",
            hint="Encode the JSON text as UTF-8.",
        ) from None


def _wrong_member(text: str) -> InvalidInput:
    found = _WHERE.search(text)
    member = found.group(1) if found else None
    if "missing required field `model`" in text:
        return InvalidInput(
            "The request names no `model`.", hint="Name a route; GET /v1/models lists them.", param="model"
        )
    if member:
        return InvalidInput(f"`{member}` is wrong: {_WHERE.sub('', text)}.", param=member)
    return InvalidInput(f"The request body is wrong: {text}.", hint="Send one JSON object.")


def _may_repeat(body: bytes, deciding: tuple[str, ...]) -> bool:
    # `\u006…` and `\u007…` can write the letters a-z of these names, `\u005f` the underscore.
    if body.find(b"\\u00") >= 0 and any(escape in body for escape in (b"\\u006", b"\\u007", b"\\u005")):
        return True
    for name in _quoted(deciding):
        at = body.find(name)
        if at >= 0 and body.find(name, at + len(name)) >= 0:
            return True
    return False


@cache
def _quoted(names: tuple[str, ...]) -> list[bytes]:
    return [f'"{name}"'.encode() for name in names]


def _refuse_repeats(body: bytes, deciding: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for member in scan_members(body):
        if member.name in seen and member.name in deciding:
            raise InvalidInput(f"`{member.name}` is given twice.", param=member.name)
        seen.add(member.name)
