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


class ClientGone(Exception):
    """The client closed the connection; nobody is there to answer."""


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
