"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`, as a body or as a stream event."""

from typing import Any

import msgspec

from penstock.base.errors import PenstockError
from penstock.base.logs import redact
from penstock.dialects.error_kinds import kind_of_status, refine_kind, status_of_kind
from penstock.spec.hub import ErrorKind, HubError

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
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return isinstance(found, dict)


_KINDS: dict[str, ErrorKind] = {
    "context_length_exceeded": "context_length",
    "string_above_max_length": "context_length",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "responsibleaipolicyviolation": "content_filter",
    "insufficient_quota": "quota",
    "billing_hard_limit_reached": "quota",
    "rate_limit_exceeded": "rate_limit",
    "rate_limit_error": "rate_limit",
    "tokens": "rate_limit",
    "requests": "rate_limit",
    "invalid_api_key": "authentication",
    "authentication_error": "authentication",
    "permission_error": "permission",
    "permission_denied": "permission",
    "model_not_found": "not_found",
    "not_found_error": "not_found",
    "invalid_request_error": "invalid_request",
    "invalid_prompt": "invalid_request",
    "server_error": "server_error",
    "internal_error": "server_error",
    "internal_server_error": "server_error",
    "overloaded_error": "overloaded",
    "engine_overloaded": "overloaded",
    "service_unavailable": "overloaded",
    "timeout": "timeout",
}
"""What codes and types of errors mean, for servers that speak this dialect."""

_TYPES: dict[ErrorKind, str] = {
    "invalid_request": "invalid_request_error",
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "too_large": "invalid_request_error",
    "rate_limit": "rate_limit_error",
    "quota": "insufficient_quota",
    "context_length": "invalid_request_error",
    "content_filter": "invalid_request_error",
    "overloaded": "overloaded_error",
    "server_error": "server_error",
    "timeout": "timeout_error",
    "unknown": "upstream_error",
}
_CODES: dict[ErrorKind, str] = {
    "authentication": "invalid_api_key",
    "too_large": "request_too_large",
    "rate_limit": "rate_limit_exceeded",
    "quota": "insufficient_quota",
    "context_length": "context_length_exceeded",
    "content_filter": "content_filter",
}
"""What official clients and those who use them look for."""


def read_error(status: int, body: bytes) -> HubError | None:
    """Return the failure that an error reply tells, or None if its body is in none of the known shapes.

    Known are OpenAI's own, the flat one of vLLM and Mistral, `{"detail": …}`, and a list around any of them.
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return None
    inner = value.get("error")
    if inner is None and isinstance(value.get("message"), str):
        inner = value
    if inner is None and "detail" in value:
        inner = {"message": _as_text(value["detail"])}
    return None if inner is None else _read_detail(inner, status, value)


def read_stream_error(chunk: dict[str, Any]) -> HubError | None:
    """Return the failure that one event of a stream tells, or None if it tells none."""
    inner = chunk.get("error")
    if inner is None and chunk.get("object") == "error":
        inner = chunk
    return None if inner is None or inner is False else _read_detail(inner, None, chunk)


def _read_detail(inner: Any, status: int | None, raw: Any) -> HubError:
    detail = inner if isinstance(inner, dict) else {"message": _as_text(inner)}
    code, param = detail.get("code"), detail.get("param")
    message = _as_text(detail.get("message") or detail.get("type") or "The provider reported an error.")
    if status is None and isinstance(code, int) and 400 <= code < 600:
        status = code
    words = [detail.get("code"), detail.get("type")]
    inner_code = detail.get("innererror")
    if isinstance(inner_code, dict):
        words.insert(0, inner_code.get("code"))
    kind = next(
        (_KINDS[word.lower()] for word in words if isinstance(word, str) and word.lower() in _KINDS), None
    )
    if kind is None or (kind == "invalid_request" and status is not None and status != 400):
        kind = "unknown" if status is None else kind_of_status(status)
    kind = refine_kind(kind, message)
    return HubError(
        kind=kind,
        message=message,
        status=status_of_kind(kind) if status is None else status,
        code=None if code is None else str(code),
        param=param if isinstance(param, str) else None,
        raw=raw,
    )


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def hub_error_detail(error: HubError) -> ErrorDetail:
    """Return `error` in OpenAI's words. A code of ours that gives way to one clients look for ends the message.

    So do codes of other dialects (`INVALID_ARGUMENT`) where OpenAI has one for the same kind of failure.
    """
    code, message = error.code, error.message
    if not _is_own_code(error):
        wanted = _CODES.get(error.kind) or code
        if code is not None and code.startswith("PS-") and wanted != code and code not in message:
            message = f"{message}  [{code}]"
        code = wanted
    return ErrorDetail(message=redact(message), type=_TYPES[error.kind], param=error.param, code=code)


def _is_own_code(error: HubError) -> bool:
    code = (error.code or "").lower()
    return _KINDS.get(code) == error.kind and not code.endswith("_error")


def hub_error_body(error: HubError) -> bytes:
    """Return the JSON body for `error`, secrets blacked out."""
    return msgspec.json.encode(ErrorBody(error=hub_error_detail(error)))
