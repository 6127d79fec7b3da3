"""What kind of failure an HTTP status or a provider's text means, and the other way round."""

import re

from penstock.spec.hub import ErrorKind

_BY_STATUS: dict[int, ErrorKind] = {
    400: "invalid_request",
    401: "authentication",
    402: "quota",
    403: "permission",
    404: "not_found",
    408: "timeout",
    413: "too_large",
    422: "invalid_request",
    429: "rate_limit",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}
_STATUS: dict[ErrorKind, int] = {
    "invalid_request": 400,
    "authentication": 401,
    "permission": 403,
    "not_found": 404,
    "too_large": 413,
    "rate_limit": 429,
    "quota": 429,
    "context_length": 400,
    "content_filter": 400,
    "overloaded": 503,
    "server_error": 500,
    "timeout": 504,
    "unknown": 502,
}
_TOO_LONG = re.compile(
    r"maximum context|context.?(?:length|window|size)|prompt is too long|input is too long|too many (?:input )?tokens"
    r"|exceeds? the (?:maximum|available) (?:number of |context |input )",
    re.IGNORECASE,
)
_FILTERED = re.compile(
    r"content.?(?:filter|policy|management)|safety system|flagged|guardrail", re.IGNORECASE
)


def kind_of_status(status: int) -> ErrorKind:
    """Return what `status` means when nothing more is known."""
    found = _BY_STATUS.get(status)
    if found is not None:
        return found
    if 400 <= status < 500:
        return "invalid_request"
    return "server_error" if status >= 500 else "unknown"


def status_of_kind(kind: ErrorKind) -> int:
    """Return the HTTP status for a failure that came without one, as inside a stream."""
    return _STATUS[kind]


def refine_kind(kind: ErrorKind, message: str) -> ErrorKind:
    """Return `kind`, or what `message` says more exactly: providers report both of these as plain bad requests."""
    if kind in ("invalid_request", "too_large"):
        if _TOO_LONG.search(message):
            return "context_length"
        if _FILTERED.search(message):
            return "content_filter"
    return kind
