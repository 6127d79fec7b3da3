"""The little of HTTP that the data plane needs over ASGI: read a bounded body, send a reply."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from penstock.gateway.errors import BodyTooLarge

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]
JSON: Header = (b"content-type", b"application/json")
LONG_BODY_BYTES = 256 * 1024
"""Work on the text of bodies over this is done in a thread, so that other calls go on meanwhile."""

BODY_EXTENSION = "penstock.body"
"""In the extensions of a scope: gives the whole body if it has come already, else None."""
REPLY_EXTENSION = "penstock.reply"
"""In the extensions of a scope: writes a whole reply in one step if that can be, and says so."""
WriteReply = Callable[[int, Sequence[Header], bytes], bool]


class Outbox:
    """Passes messages on and remembers whether the reply has begun."""

    __slots__ = ("_send", "_write_reply", "has_begun")

    def __init__(self, send: Send, scope: Scope | None = None) -> None:
        self.has_begun = False
        self._send = send
        extensions = scope.get("extensions") if scope is not None else None
        self._write_reply: WriteReply | None = extensions.get(REPLY_EXTENSION) if extensions else None

    def __call__(self, message: dict[str, Any]) -> Awaitable[None]:
        """Send one message."""
        self.has_begun = True
        return self._send(message)

    def write_reply(self, status: int, headers: Sequence[Header], body: bytes) -> bool:
        """Write a whole reply at once; False, with nothing done, where that cannot be."""
        if self._write_reply is None or not self._write_reply(status, headers, body):
            return False
        self.has_begun = True
        return True


class ClientGone(Exception):
    """The client closed the connection; nobody is there to answer."""


def take_body(scope: Scope, limit: int) -> bytes | None:
    """Return the request body if all of it is there, None if it has to be read; raise `BodyTooLarge` over `limit` bytes."""
    extensions = scope.get("extensions")
    take = extensions.get(BODY_EXTENSION) if extensions else None
    body: bytes | None = take() if take is not None else None
    if body is not None and len(body) > limit:
        raise _too_large(limit)
    return body


async def read_body(receive: Receive, *, declared: bytes | None, limit: int) -> bytes:
    """Return the request body; raise `BodyTooLarge` over `limit` bytes, `ClientGone` if the client leaves."""
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] != "http.request":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > limit:
            raise _too_large(limit)
        return body
    pieces = [body]
    size = len(body)
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        piece = message.get("body", b"")
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return b"".join(pieces)


async def send_reply(send: Send, status: int, headers: Sequence[Header], body: bytes) -> None:
    """Send a whole reply; `content-length` is added."""
    if isinstance(send, Outbox) and send.write_reply(status, headers, body):
        return
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The request body is over {limit} bytes.",
        hint="The operator can raise max_body_bytes.",
        limit_bytes=limit,
    )
