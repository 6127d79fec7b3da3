"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`, as a body or as a stream event."""

from typing import Any

import msgspec

from penstock.base.errors import PenstockError
from penstock.base.logs import redact

OPENAI_CODES = {
    401: "invalid_api_key",
    413: "request_too_large",
    429: "rate_limit_exceeded",
}
"""What official clients look for where an error names no code of its own."""


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """The inside of an error body."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """An error body."""

    error: ErrorDetail


def error_body(error: PenstockError) -> bytes:
    """Return the JSON body for `error`: its text with hint and Penstock code, secrets blacked out.

    `param` and `code` come from the error's fields of these names; otherwise `code` is the one OpenAI uses
    for the status, or else the Penstock code.
    """
    param = error.fields.get("param")
    code = error.fields.get("openai_code") or OPENAI_CODES.get(error.status) or error.code
    detail = ErrorDetail(
        message=redact(str(error)),
        type=error.kind,
        param=param if isinstance(param, str) else None,
        code=str(code),
    )
    return msgspec.json.encode(ErrorBody(error=detail))


def error_event(error: PenstockError) -> bytes:
    """Return the server-sent event that tells a client its stream is broken. It is not followed by `[DONE]`."""
    return b"data: " + error_body(error) + b"\n\n"


class _AnyError(msgspec.Struct):
    error: Any = None


def has_error_shape(body: bytes) -> bool:
    """Return whether `body` is JSON with an `error` object, so that an OpenAI client understands it."""
    try:
        found = msgspec.json.decode(body, type=_AnyError).error
    except (msgspec.DecodeError, RecursionError):
        return False
    return isinstance(found, dict)
