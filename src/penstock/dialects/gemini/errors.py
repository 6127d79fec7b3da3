"""Errors as Google's APIs tell them: `{"error": {"code", "message", "status", "details"}}`."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from penstock.dialects.error_kinds import kind_of_status, refine_kind
from penstock.spec.hub import ErrorKind, HubError

_KINDS: dict[str, ErrorKind] = {
    "INVALID_ARGUMENT": "invalid_request",
    "FAILED_PRECONDITION": "invalid_request",
    "OUT_OF_RANGE": "invalid_request",
    "UNAUTHENTICATED": "authentication",
    "PERMISSION_DENIED": "permission",
    "NOT_FOUND": "not_found",
    "RESOURCE_EXHAUSTED": "rate_limit",
    "UNAVAILABLE": "overloaded",
    "INTERNAL": "server_error",
    "UNKNOWN": "server_error",
    "DATA_LOSS": "server_error",
    "ABORTED": "server_error",
    "DEADLINE_EXCEEDED": "timeout",
    "CANCELLED": "timeout",
}
_STATUSES: dict[ErrorKind, str] = {
    "invalid_request": "INVALID_ARGUMENT",
    "authentication": "UNAUTHENTICATED",
    "permission": "PERMISSION_DENIED",
    "not_found": "NOT_FOUND",
    "too_large": "INVALID_ARGUMENT",
    "rate_limit": "RESOURCE_EXHAUSTED",
    "quota": "RESOURCE_EXHAUSTED",
    "context_length": "INVALID_ARGUMENT",
    "content_filter": "INVALID_ARGUMENT",
    "overloaded": "UNAVAILABLE",
    "server_error": "INTERNAL",
    "timeout": "DEADLINE_EXCEEDED",
    "unknown": "UNKNOWN",
}
_DELAY = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_TYPE = "type.googleapis.com/google.rpc."


def read_error(status: int, body: bytes) -> HubError | None:
    """Return the error in `body`, or None if it is in another shape. Streams wrap it into an array."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if isinstance(value, list) and value:
        value = value[0]
    return read_error_object(status, value)


def read_error_object(status: int | None, value: Any) -> HubError | None:
    """Return the error in a decoded body or stream chunk; the HTTP `status` wins over the one in the body."""
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None
    name, told = error.get("status"), error.get("code")
    http = status or (told if isinstance(told, int) and 400 <= told < 600 else 500)
    kind = _KINDS.get(name) if isinstance(name, str) else None
    reason = next((text for detail in _details(error) if isinstance(text := detail.get("reason"), str)), None)
    return HubError(
        kind=_refine(kind or kind_of_status(http), error, reason),
        message=error["message"],
        status=http,
        code=reason or (name if isinstance(name, str) else None),
        retry_after_s=_retry_after(error),
        raw=error,
    )


def _details(error: dict[str, Any]) -> Iterator[dict[str, Any]]:
    listed = error.get("details")
    return (item for item in (listed if isinstance(listed, list) else ()) if isinstance(item, dict))


def _refine(kind: ErrorKind, error: dict[str, Any], reason: str | None) -> ErrorKind:
    if reason is not None and reason.startswith("API_KEY_"):
        return "authentication"  # told as INVALID_ARGUMENT
    if kind == "rate_limit":
        for detail in _details(error):
            violations = detail.get("violations")
            for one in violations if isinstance(violations, list) else ():
                if isinstance(one, dict) and "PerDay" in str(one.get("quotaId")):
                    return "quota"
    return refine_kind(kind, error["message"])


def _retry_after(error: dict[str, Any]) -> float | None:
    for detail in _details(error):
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and (found := _DELAY.fullmatch(delay)):
            return float(found.group(1))
    return None


def error_object(error: HubError) -> dict[str, Any]:
    """Return the body for a client, with our code or the provider's as the reason."""
    details: list[dict[str, Any]] = []
    if error.code:
        details.append({"@type": f"{_TYPE}ErrorInfo", "reason": error.code, "domain": "penstock"})
    if error.retry_after_s is not None:
        details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{error.retry_after_s:g}s"})
    if error.param:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": f"{_TYPE}BadRequest", "fieldViolations": [violation]})
    inner: dict[str, Any] = {
        "code": error.status,
        "message": error.message,
        "status": _STATUSES[error.kind],
    }
    return {"error": {**inner, "details": details} if details else inner}


def write_error(error: HubError) -> bytes:
    """Return the body for a client."""
    return msgspec.json.encode(error_object(error))
