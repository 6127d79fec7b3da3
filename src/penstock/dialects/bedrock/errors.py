"""Errors as Bedrock tells them: a class of exception (a header, or the type of a stream's message) and a message."""

import re
from typing import Any

import msgspec

from penstock.dialects.error_kinds import kind_of_status, refine_kind
from penstock.spec.hub import ErrorKind, HubError

_KINDS: dict[str, tuple[ErrorKind, int]] = {
    "validation": ("invalid_request", 400),
    "accessdenied": ("permission", 403),
    "unrecognizedclient": ("authentication", 403),
    "expiredtoken": ("authentication", 403),
    "invalidsignature": ("authentication", 403),
    "missingauthenticationtoken": ("authentication", 403),
    "resourcenotfound": ("not_found", 404),
    "modeltimeout": ("timeout", 408),
    "modelerror": ("server_error", 424),
    "modelstreamerror": ("server_error", 424),
    "throttling": ("rate_limit", 429),
    "toomanyrequests": ("rate_limit", 429),
    "modelnotready": ("overloaded", 429),
    "servicequotaexceeded": ("quota", 400),
    "internalserver": ("server_error", 500),
    "serviceunavailable": ("overloaded", 503),
}
_TYPES: dict[ErrorKind, str] = {
    "invalid_request": "ValidationException",
    "authentication": "UnrecognizedClientException",
    "permission": "AccessDeniedException",
    "not_found": "ResourceNotFoundException",
    "too_large": "ValidationException",
    "rate_limit": "ThrottlingException",
    "quota": "ServiceQuotaExceededException",
    "context_length": "ValidationException",
    "content_filter": "ValidationException",
    "overloaded": "ServiceUnavailableException",
    "server_error": "InternalServerException",
    "timeout": "ModelTimeoutException",
    "unknown": "ModelErrorException",
}
_IN_STREAMS = {
    "ValidationException": "validationException",
    "ThrottlingException": "throttlingException",
    "ServiceUnavailableException": "serviceUnavailableException",
    "InternalServerException": "internalServerException",
}
"""The exceptions a stream may hold beside `modelStreamErrorException`."""
_UNKNOWN_KEY = re.compile(r"security token|signature|api key|credential", re.IGNORECASE)
_BY_STATUS: dict[int, ErrorKind] = {424: "server_error"}


def read_error(status: int, body: bytes) -> HubError | None:
    """Return the error in `body`, or None if it is in another shape. The header's class is not needed for that."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    message = value.get("message", value.get("Message"))
    if not isinstance(message, str):
        return None
    name = value.get("__type")
    code = name.rpartition("#")[2] if isinstance(name, str) else None
    kind = (_known(code) or (_BY_STATUS.get(status) or kind_of_status(status), status))[0]
    if kind == "permission" and _UNKNOWN_KEY.search(message):
        kind = "authentication"
    return HubError(kind=refine_kind(kind, message), message=message, status=status, code=code, raw=value)


def read_exception(name: str, message: str, raw: Any) -> HubError:
    """Return the error that a message of a stream tells; `name` is its `:exception-type` or `:error-code`."""
    kind, status = _known(name) or ("server_error", 500)
    return HubError(kind=refine_kind(kind, message), message=message, status=status, code=name, raw=raw)


def _known(name: str | None) -> tuple[ErrorKind, int] | None:
    return _KINDS.get((name or "").lower().removesuffix("exception"))


def write_error(error: HubError) -> bytes:
    """Return the body for a client. AWS has no member for a code, so ours stands in the message if nowhere else."""
    return msgspec.json.encode({"message": _message(error)})


def error_type(error: HubError) -> str:
    """Return the class of exception, for the header `x-amzn-errortype`: clients raise what it names."""
    return _TYPES[error.kind]


def exception_of(error: HubError) -> tuple[str, bytes]:
    """Return `:exception-type` and payload of the message that ends a stream with `error`."""
    name = _IN_STREAMS.get(_TYPES[error.kind], "modelStreamErrorException")
    return name, msgspec.json.encode({"message": _message(error)})


def _message(error: HubError) -> str:
    code = error.code
    is_ours = code is not None and code.startswith("PS-")
    return f"{error.message} [{code}]" if is_ours and f"{code}" not in error.message else error.message
