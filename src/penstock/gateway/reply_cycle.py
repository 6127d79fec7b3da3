"""Writes replies to clients: what uvicorn's cycle does, at a third of its cost for a reply with a dozen headers.

uvicorn runs two regular expressions over every header of every reply, which was an eighth of all the time that a call
takes here, and writes head and body apart. The promise is the same: a head in which a value would make another line is
never sent.

Whoever serves the request finds `take_body` and `write_reply` among the extensions of its scope: the same as messages,
where nobody has to wait.
"""

from collections.abc import Sequence
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_FRAMING: Final = frozenset({b"content-length", b"connection", b"transfer-encoding"})
_SHORT_BYTES: Final = 64 * 1024
_LAST_CHUNK: Final = b"0\r\n\r\n"


class ReplyCycle(RequestResponseCycle):
    """One request and its reply. Header names come in lower case, as ASGI asks for."""

    _head = b""
    """The head of a reply of known length, until its body comes: one packet carries both."""
    _is_body_given = False

    async def receive(self) -> Any:
        """Return the next ASGI message: what has come of the body, or that the client has left."""
        body = self.take_body()
        if body is None:
            return await super().receive()
        return {"type": "http.request", "body": body, "more_body": False}

    def take_body(self) -> bytes | None:
        """Return the whole body of the request if it has come and nobody has got any of it; else None."""
        if (
            self.more_body
            or self._is_body_given
            or self.disconnected
            or self.response_complete
            or self.waiting_for_100_continue
        ):
            return None
        self._is_body_given = True
        self.message_event.clear()
        self.flow.resume_reading()
        return bytes(self.body)

    def write_reply(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Write a whole reply of known length and end it.

        Returns False, with nothing done, where that is not to be done at once: `send` then does it bit by bit.
        """
        if (
            self.response_started
            or self.disconnected
            or self.flow.write_paused
            or len(body) > _SHORT_BYTES
            or self.scope["method"] == "HEAD"
        ):
            return False
        self.response_started = True
        self.waiting_for_100_continue = False
        self.chunked_encoding = False
        self.transport.write(
            self._write_head(status, (*headers, (b"content-length", b"%d" % len(body)))) + body
        )
        self._end()
        return True

    async def send(self, message: Any) -> None:
        """Take one ASGI message; raises `RuntimeError` where uvicorn does."""
        if self.response_started or message["type"] != "http.response.start":
            if self.chunked_encoding and self._write_chunk(message):
                return
            if self._head:
                if self._finish_at_once(message):
                    return
                self.transport.write(self._head)
                self._head = b""
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self.response_started = True
        self.waiting_for_100_continue = False
        head = self._write_head(message["status"], message.get("headers", ()))
        if self.expected_content_length and not self.chunked_encoding and self.scope["method"] != "HEAD":
            self._head = head
        else:
            self.transport.write(head)

    def _write_head(self, status: int, headers: Any) -> bytes:
        lines: list[bytes] = []
        has_connection_close = False
        for header in (*self.default_headers, *headers):
            if header[0] in _FRAMING:
                has_connection_close |= self._take_framing(*header)
            lines.append(b": ".join(header))
        if not self.keep_alive and not has_connection_close:
            lines.append(b"connection: close")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked")
        text = b"".join(lines)
        # `find`, here and wherever a call passes: `in` takes bytes for a number first, and fails at it with an exception
        if text.find(b"\n") >= 0 or text.find(b"\r") >= 0 or text.find(b"\0") >= 0:
            raise RuntimeError("A header of the reply holds what no header may hold.")
        lines.append(b"\r\n")
        return STATUS_LINE[status] + b"\r\n".join(lines)

    def _take_framing(self, name: bytes, value: bytes) -> bool:
        """Note how the reply is framed; return whether the header says that the connection ends."""
        if name == b"content-length":
            if self.chunked_encoding is None:
                self.expected_content_length = int(value)
                self.chunked_encoding = False
        elif name == b"transfer-encoding":
            if value.lower() == b"chunked":
                self.expected_content_length = 0
                self.chunked_encoding = True
        elif b"close" in [token.lower().strip() for token in value.split(b",")]:
            self.keep_alive = False
            return True
        return False

    def _finish_at_once(self, message: Any) -> bool:
        """Write head and body together and end the reply, if `message` is the whole body and short; say whether."""
        body: bytes = message.get("body", b"")
        if (
            message.get("more_body", False)
            or len(body) != self.expected_content_length
            or len(body) > _SHORT_BYTES
            or self.flow.write_paused
            or self.disconnected
        ):
            return False
        self.transport.write(self._head + body)
        self._head = b""
        self._end()
        return True

    def _write_chunk(self, message: Any) -> bool:
        """Write a piece of a chunked reply, unless somebody has to wait for the client, or to be told what is wrong."""
        if (
            message["type"] != "http.response.body"
            or self.flow.write_paused
            or self.disconnected
            or self.response_complete
            or self.scope["method"] == "HEAD"
        ):
            return False
        body: bytes = message.get("body", b"")
        is_last = not message.get("more_body", False)
        if body:
            self.transport.write(b"%x\r\n%b\r\n%b" % (len(body), body, _LAST_CHUNK if is_last else b""))
        elif is_last:
            self.transport.write(_LAST_CHUNK)
        if is_last:
            self._end()
        return True

    def _end(self) -> None:
        self.expected_content_length = 0
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
