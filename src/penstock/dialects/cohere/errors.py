"""Cohere's errors: `{"message", "id"}`; what kind they are is told by the HTTP status."""

from typing import Any

import msgspec

from penstock.dialects.error_kinds import kind_of_status, refine_kind
from penstock.spec.hub import ErrorKind, HubError

_BLOCKED = 498
"""Cohere's own status: the prompt or the answer was blocked."""


class _Body(msgspec.Struct):
    message: str
    id: str | None = None
    code: str | None = None


_body = msgspec.json.Decoder(_Body)


def read_error(status: int, body: bytes) -> HubError | None:
    """Return the error that `body` tells, or None if it is not in this shape."""
    try:
        found = _body.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    kind: ErrorKind = "content_filter" if status == _BLOCKED else kind_of_status(status)
    return HubError(
        kind=refine_kind(kind, found.message),
        message=found.message,
        status=status,
        code=found.code,
        request_id=found.id,
        raw=msgspec.json.decode(body),
    )


def write_error(error: HubError) -> bytes:
    """Return the body. A code stands beside the message, as `code`."""
    told = {"id": error.request_id, "message": error.message, "code": error.code}
    body: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    return msgspec.json.encode(body)
