"""The headers of every answer, and the bound on every body. Plain ASGI, so that streams pass untouched.

A body is counted while it arrives, since a chunked one announces nothing. The surprise: the refusal is raised
out of `receive`, on whose first call the router has already found the endpoint, so a caller who shows nothing
is told 401 before a byte of the body is taken.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.access.declarations import Caller, check_caller, declared_permissions
from penstock.base.errors import TooLarge
from penstock.control.replies import error_reply

CONTENT_POLICY = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
SESSION_COOKIE = "penstock_session"
MAX_BODY_BYTES = 3 * 1024 * 1024
"""Holds the largest request there is: a version whose content and list of artefacts have 1 MiB each."""
MAX_EXPORT_BYTES = 64 * 1024 * 1024
"""Of `EXPORT_PATH`, as it comes over the wire; what it inflates to has a bound of its own."""
MAX_BILL_BYTES = 16 * 1024 * 1024
"""Of `BILL_PATH`: a year of a provider's usage by day, model, key and project is a tenth of it."""
MAX_FORM_BYTES = 256 * 1024
MAX_STRANGER_BYTES = 16 * 1024
"""Of callers who show neither key nor session, where they are let in at all."""
EXPORT_PATH = "/v1/traces"
BILL_PATH = "/api/v1/costs/reconcile"
FORM_TYPE = "application/x-www-form-urlencoded"
_FIXED = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class SafeHeaders:
    """Adds the security headers, keeps answers out of caches, takes no more of a body than its bound."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _FIXED.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        limit = body_limit(scope["path"], headers)
        announced = headers.get("content-length", "0")
        if not announced.isdecimal() or len(announced) > 18 or int(announced) > limit:
            await error_reply(_too_large(limit))(scope, receive, send_with_headers)
            return
        await self._app(scope, _bounded(scope, headers, receive, limit), send_with_headers)


def body_limit(path: str, headers: Headers) -> int:
    """Return how many bytes of body this request may send, whoever sends it."""
    if path == EXPORT_PATH:
        return MAX_EXPORT_BYTES
    if path == BILL_PATH:
        return MAX_BILL_BYTES  # whatever its type: curl calls every file a form
    return MAX_FORM_BYTES if content_type(headers) == FORM_TYPE else MAX_BODY_BYTES


def shows_credential(headers: Headers) -> bool:
    """Return whether there is a bearer key or a session to look at; says nothing about its worth."""
    kind, _, secret = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and secret.strip():
        return True
    return bool(cookie_parser(headers.get("cookie", "")).get(SESSION_COOKIE))


def content_type(headers: Headers) -> str:
    """Return the media type without parameters, in lower case."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _bounded(scope: Scope, headers: Headers, receive: Receive, limit: int) -> Receive:
    """Return `receive` that raises `Unauthenticated` or `TooLarge` instead of taking what it should not."""
    is_stranger = not shows_credential(headers)
    bound = min(limit, MAX_STRANGER_BYTES) if is_stranger else limit
    size = 0

    async def receive_bounded() -> Message:
        nonlocal size
        if is_stranger:
            check_caller(Caller(), declared_permissions(scope.get("endpoint")) or frozenset())
        message = await receive()
        size += len(message.get("body", b""))
        if size > bound:
            raise _too_large(bound)
        return message

    return receive_bounded


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"A body may have at most {limit // 1024:,} KiB here.")
