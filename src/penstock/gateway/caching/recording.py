"""What goes to a client, seen on its way: enough of it to give the same reply again, or to several clients at once."""

from collections.abc import Sequence
from typing import Any

from penstock.gateway.http import Header, Send

KEPT_HEADERS = frozenset(
    {
        b"x-penstock-provider",
        b"x-penstock-model",
        b"x-penstock-version",
        b"x-penstock-route",
        b"x-penstock-dropped",
    }
)
"""Headers that say something of the reply, not of the call that got it."""
_KEEP_ALIVE = b": keep-alive\n\n"


class Recording:
    """Passes messages on and keeps what they say, up to a number of bytes."""

    def __init__(self, send: Send, *, max_bytes: int) -> None:
        self.status: int | None = None
        self.headers: Sequence[Header] = ()
        self.is_whole = False
        """Whether the last message has come and everything was kept."""
        self._send = send
        self._pieces: list[bytes] = []
        self._room = max_bytes
        self._is_over = False

    async def __call__(self, message: dict[str, Any]) -> None:
        """Take one message of the reply."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
        else:
            self._keep(message.get("body", b""))
            is_last = not message.get("more_body", False)
            await self._send(message)
            self.is_whole = is_last and not self._is_over
            return
        await self._send(message)

    @property
    def body(self) -> bytes:
        """What was kept."""
        return b"".join(self._pieces)

    @property
    def content_type(self) -> bytes:
        """As it was sent."""
        return next((value for name, value in self.headers if name == b"content-type"), b"")

    @property
    def kept_headers(self) -> tuple[Header, ...]:
        """The headers that belong to the reply."""
        return tuple(header for header in self.headers if header[0] in KEPT_HEADERS)

    def _keep(self, piece: bytes) -> None:
        if self._is_over or piece == _KEEP_ALIVE:
            return
        self._room -= len(piece)
        if self._room < 0:
            self._is_over = True
            self._pieces.clear()
        elif piece:
            self._pieces.append(piece)
