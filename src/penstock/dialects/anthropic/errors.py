"""Anthropic's errors: `{"type": "error", "error": {"type", "message"}, "request_id"}`, as a body or a stream event."""

from typing import Any

import msgspec

from penstock.dialects.error_kinds import kind_of_status, refine_kind
from penstock.spec.hub import ErrorKind, HubError

_KINDS: dict[str, ErrorKind] = {
    "invalid_request_error": "invalid_request",
    "authentication_error": "authentication",
    "billing_error": "quota",
    "permission_error": "permission",
    "not_found_error": "not_found",
    "request_too_large": "too_large",
    "rate_limit_error": "rate_limit",
    "api_error": "server_error",
    "timeout_error": "timeout",
    "gateway_timeout_error": "timeout",
    "overloaded_error": "overloaded",
}
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "gateway_timeout_error": 504,
    "overloaded_error": 529,
}
_TYPES: dict[ErrorKind, str] = {
    "invalid_request": "invalid_request_error",
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "too_large": "request_too_large",
    "rate_limit": "rate_limit_error",
    "quota": "billing_error",
    "context_length": "invalid_request_error",
    "content_filter": "invalid_request_error",
    "overloaded": "overloaded_error",
    "server_error": "api_error",
    "timeout": "timeout_error",
    "unknown": "api_error",
}


class _Detail(msgspec.Struct):
    type: str
    message: str = ""
    code: str | None = None


class _Body(msgspec.Struct):
    error: _Detail
    request_id: str | None = None


_body = msgspec.json.Decoder(_Body)


def read_error(status: int | None, body: bytes) -> HubError | None:
    """Return the error that `body` tells, or None if it is not in this shape.

    `status` is None inside a stream, where the error's type says which it would have been.
    """
    try:
        found = _body.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    detail = found.error
    kind = _KINDS.get(detail.type)
    if kind is None:
        kind = kind_of_status(status) if status is not None else "unknown"
    if detail.type == "invalid_request_error" and "credit balance" in detail.message:
        kind = "quota"
    return HubError(
        kind=refine_kind(kind, detail.message),
        message=detail.message or detail.type,
        status=status if status is not None else _STATUSES.get(detail.type, 502),
        code=detail.code or detail.type,
        request_id=found.request_id,
        raw=msgspec.json.decode(body),
    )


def write_error(error: HubError) -> bytes:
    """Return the body, which is also the data of a stream's `error` event.

    A code that is not one of this dialect's own types stands beside the message, as `code`.
    """
    detail: dict[str, Any] = {"type": _TYPES[error.kind], "message": error.message}
    if error.code is not None and error.code not in _KINDS:
        detail["code"] = error.code
    body: dict[str, Any] = {"type": "error", "error": detail}
    if error.request_id is not None:
        body["request_id"] = error.request_id
    return msgspec.json.encode(body)
