"""The few members of a request that a gateway reads. Everything else stays bytes and passes untouched."""

import re

import msgspec

from penstock.base.errors import InvalidInput
from penstock.dialects.openai.json_scan import is_nested_deeper, scan_members


class StreamOptions(msgspec.Struct, frozen=True):
    """The part of `stream_options` that decides whether usage comes with a stream."""

    include_usage: bool | None = None


class Envelope(msgspec.Struct, frozen=True):
    """What is read of a request body."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether the client asked for the usage event of a stream."""
        return self.stream_options is not None and self.stream_options.include_usage is True


_decoder = msgspec.json.Decoder(Envelope)
_WHERE = re.compile(r" - at `\$\.?([^`]*)`$")


def parse_envelope(body: bytes, *, max_depth: int) -> Envelope:
    """Return the envelope of a JSON request body.

    Raises `InvalidInput` that names the member for: not JSON, not UTF-8, nested deeper than `max_depth`, no or
    empty `model`, members of a wrong type, and members that decide about the call given twice.
    """
    if is_nested_deeper(body, than=max_depth):
        raise InvalidInput(
            f"The request body nests deeper than {max_depth} levels.",
            hint="Flatten it, or let the operator raise max_json_depth.",
        )
    if not body.isascii():
        _check_utf8(body)
    try:
        envelope = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_member(str(error)) from None
    except msgspec.DecodeError as error:
        raise InvalidInput(
            f"The request body is not valid JSON: {error}.",
            hint="Send one JSON object with Content-Type: application/json.",
        ) from None
    if not envelope.model:
        raise InvalidInput(
            "`model` is empty.", hint="Name a route; GET /v1/models lists them.", param="model"
        )
    if _may_repeat(body):
        _refuse_repeats(body)
    return envelope


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
    if "missing required field" in text:
        return InvalidInput(
            "The request names no `model`.", hint="Name a route; GET /v1/models lists them.", param="model"
        )
    if member:
        return InvalidInput(f"`{member}` is wrong: {_WHERE.sub('', text)}.", param=member)
    return InvalidInput(f"The request body is wrong: {text}.", hint="Send one JSON object.")


_DECIDING = (b'"model"', b'"stream"', b'"stream_options"')


def _may_repeat(body: bytes) -> bool:
    # `\u006…` can write letters of these names (m, o, d, e, l are 6d, 6f, 64, 65, 6c); `\u007…` the others.
    if b"\\u006" in body or b"\\u007" in body:
        return True
    return any(body.count(name) > 1 for name in _DECIDING)


def _refuse_repeats(body: bytes) -> None:
    """Two parsers may disagree on which of two equal names counts, and limits rest on that: refuse."""
    seen: set[str] = set()
    for member in scan_members(body):
        if member.name in seen and member.name in ("model", "stream", "stream_options"):
            raise InvalidInput(f"`{member.name}` is given twice.", param=member.name)
        seen.add(member.name)
