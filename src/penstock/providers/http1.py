"""One HTTP/1.1 client connection: sends a request, feeds the reply through httptools, keeps itself for reuse.

Made for relaying: no cookies, no redirects, no decoding, no copies. Knows nothing of providers. Its one
surprise: head and body of a small reply usually arrive in one read, so `read_all` mostly returns without waiting.
"""

import asyncio
import time
import zlib
from collections.abc import Callable
from typing import Any

import httptools

from penstock.base.errors import PenstockError
from penstock.providers.errors import BrokenReply, CallTimeout, ConnectionLost, FirstByteTimeout, IdleTimeout

MAX_HEAD_BYTES = 512 * 1024
"""Of a reply, with the interim ones before it."""
_PAUSE_BYTES = 1024 * 1024
"""Reading stops while more than this waits for the client to take it."""

Header = tuple[bytes, bytes]


class Connection(asyncio.Protocol):
    """A connection that serves one call at a time. Headers' names are lower case."""

    __slots__ = (
        "_body_waiter",
        "_chunks",
        "_due_at",
        "_error",
        "_expire",
        "_head_waiter",
        "_idle_s",
        "_is_informational",
        "_is_nudged",
        "_keep_alive",
        "_loop",
        "_n_head",
        "_nudge_s",
        "_nudged_at",
        "_on_idle_loss",
        "_parser",
        "_rings_at",
        "_silence_timer",
        "_silent_since",
        "_size",
        "_timer",
        "body_framed",
        "got_bytes",
        "has_head",
        "headers",
        "host",
        "idle_since",
        "in_use",
        "is_complete",
        "status",
        "transport",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, host: str, on_idle_loss: Callable[["Connection"], None]
    ) -> None:
        self.host = host
        self.transport: asyncio.Transport | None = None
        self.in_use = False
        self.idle_since = 0.0
        self._loop = loop
        self._on_idle_loss = on_idle_loss
        self._parser = httptools.HttpResponseParser(self)
        self._expire: Callable[[], None] | None = None
        self._due_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0
        self._silence_timer: asyncio.TimerHandle | None = None
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.headers: list[Header] = []
        self.has_head = False
        self.is_complete = False
        self.got_bytes = False
        self.body_framed = False
        self._is_informational = False
        self._n_head = 0
        self._keep_alive = False
        self._chunks: list[bytes] = []
        self._size = 0
        self._error: PenstockError | None = None
        self._head_waiter: asyncio.Future[None] | None = None
        self._body_waiter: asyncio.Future[None] | None = None
        self._idle_s = 0.0
        self._nudge_s = 0.0
        self._nudged_at: float | None = None
        self._is_nudged = False
        self._silent_since = 0.0

    # -- the caller's side

    @property
    def is_open(self) -> bool:
        """Whether a request can still be written."""
        return self.transport is not None and not self.transport.is_closing()

    async def send(self, head: bytes, body: bytes, *, first_byte_s: float, deadline: float) -> None:
        """Write a request and return when the reply's head has arrived.

        Raises `FirstByteTimeout`, `ConnectionLost` or `BrokenReply`; `got_bytes` tells afterwards whether the
        provider had begun to answer. `first_byte_s` counts from now; nothing of the call, its body neither, passes
        `deadline` (`time.monotonic`).
        """
        self._reset()
        self.in_use = True
        transport = self.transport
        assert transport is not None, "send is called on open connections"
        transport.write(head + body if len(body) < 65536 else head)
        if len(body) >= 65536:
            transport.write(body)
        self._bound(min(first_byte_s, deadline - time.monotonic()), self._expire_first)
        self._head_waiter = self._loop.create_future()
        try:
            await self._head_waiter
        finally:
            self._head_waiter = None
            self._expire = None
        if not self.is_complete:
            self._bound(deadline - time.monotonic(), self._expire_whole)

    def watch_silence(self, idle_s: float, nudge_s: float = 0.0) -> None:
        """From now on let `next_chunk` raise `IdleTimeout` when no body byte comes for `idle_s` while it waits.

        With `nudge_s`, `next_chunk` also returns `b""` each time it has waited that long for nothing. What the caller
        does between two waits does not count. One timer serves a whole reply.
        """
        self._idle_s, self._nudge_s = idle_s, nudge_s
        if self._silence_timer is None and not self.is_complete:
            self._silence_timer = self._loop.call_later(min(idle_s, nudge_s or idle_s), self._look_at_silence)

    async def next_chunk(self) -> bytes | None:
        """Return all body bytes that have arrived, at least one; None at the clean end of the body."""
        if not self._chunks and self._nudged_at is None:
            self._silent_since = self._loop.time()
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.is_complete:
                return None
            await self._wait_for_body()
            if self._is_nudged:
                self._is_nudged = False
                if not self._chunks and self._error is None and not self.is_complete:
                    return b""
        self._nudged_at = None
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        if self._size > _PAUSE_BYTES and self.is_open:
            assert self.transport is not None
            self.transport.resume_reading()
        self._size = 0
        return data

    async def read_all(self, limit: int) -> bytes:
        """Return the whole body; raise `BrokenReply` if it is over `limit` bytes."""
        if self.is_complete and len(self._chunks) == 1 and len(self._chunks[0]) <= limit:
            return self._chunks[0]
        pieces: list[bytes] = []
        total = 0
        while (piece := await self.next_chunk()) is not None:
            pieces.append(piece)
            total += len(piece)
            if total > limit:
                raise BrokenReply(f"The reply of {self.host} is over {limit} bytes.")
        return b"".join(pieces)

    def release(self) -> bool:
        """End the call; return whether the connection can serve another one. Otherwise it is closed."""
        self._expire = None
        self._stop_watching()
        self.in_use = False
        if self._keep_alive and self._error is None and self.is_open:
            return True
        self.abort()
        return False

    def abort(self) -> None:
        """Close at once; what was not sent is thrown away, so that the provider sees us leave."""
        self._stop_timer()
        self._stop_watching()
        if self.transport is not None:
            self.transport.abort()

    def _bound(self, seconds: float, expire: Callable[[], None]) -> None:
        """Let `expire` be called in `seconds`, in place of what was due before.

        The timer is not stopped when a reply comes in time, as nearly all do: it rings once, finds nothing due or what
        is due later, and goes on from there. One for each call would cost more than all else that is done here.
        """
        self._expire, self._due_at = expire, self._loop.time() + seconds
        if self._timer is None or self._due_at < self._rings_at:
            self._stop_timer()
            self._set_timer(seconds)

    def _set_timer(self, seconds: float) -> None:
        self._rings_at = self._loop.time() + seconds
        self._timer = self._loop.call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._expire is not None:
            left_s = self._due_at - self._loop.time()
            if left_s > 0:
                self._set_timer(left_s)
            else:
                self._expire()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_watching(self) -> None:
        if self._silence_timer is not None:
            self._silence_timer.cancel()
            self._silence_timer = None

    def _look_at_silence(self) -> None:
        self._silence_timer = None
        if self.is_complete or self._error is not None:
            return
        now = self._loop.time()
        if self._body_waiter is None:
            next_at = now + min(self._idle_s, self._nudge_s or self._idle_s)
        else:
            fail_at = self._silent_since + self._idle_s
            if now >= fail_at:
                self._fail(IdleTimeout(f"{self.host} fell silent for {self._idle_s:g} s within its reply."))
                self.abort()
                return
            next_at = fail_at
            if self._nudge_s:
                since = self._silent_since if self._nudged_at is None else self._nudged_at
                if now >= since + self._nudge_s:
                    self._nudged_at, self._is_nudged = now, True
                    self._wake()
                    since = now
                next_at = min(fail_at, since + self._nudge_s)
        self._silence_timer = self._loop.call_at(next_at, self._look_at_silence)

    async def _wait_for_body(self) -> None:
        self._body_waiter = self._loop.create_future()
        try:
            await self._body_waiter
        finally:
            self._body_waiter = None

    def _wake(self) -> None:
        head, body = self._head_waiter, self._body_waiter
        if head is not None and not head.done():
            head.set_result(None)
        if body is not None and not body.done():
            body.set_result(None)

    def _fail(self, error: PenstockError) -> None:
        if self._error is None and not self.is_complete:
            self._error = error
        waiter = self._head_waiter
        if waiter is not None and not waiter.done() and not self.has_head:
            waiter.set_exception(error)
        self._wake()

    def _expire_first(self) -> None:
        self._fail(FirstByteTimeout(f"{self.host} did not answer in time."))
        self.abort()

    def _expire_whole(self) -> None:
        self._fail(CallTimeout(f"The reply of {self.host} was not complete before the deadline."))
        self.abort()

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]  # create_connection makes a Transport

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        if not self.in_use:
            self.abort()  # bytes nobody asked for: this connection cannot be trusted again
            return
        if self.is_complete:
            self._keep_alive = False  # the same, while the reply is being given on
            return
        self.got_bytes = True
        if not self.has_head:
            if self._n_head > MAX_HEAD_BYTES:
                self._fail(BrokenReply(f"The head of the reply of {self.host} does not end."))
                self.abort()
                return
            self._n_head += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(BrokenReply(f"{self.host} wants to change the protocol."))
            self.abort()
        except httptools.HttpParserError:
            self._fail(BrokenReply(f"{self.host} answered something that is not HTTP/1.1."))
            self.abort()

    def eof_received(self) -> bool:
        """Let the transport close itself."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End the call, if one is on: cleanly only where HTTP says that closing ends the body."""
        self.transport = None
        self._stop_timer()
        if not self.in_use:
            self._on_idle_loss(self)
            return
        if self.has_head and not self.body_framed and exc is None and self._error is None:
            self.is_complete = True
            self._wake()
            return
        self._fail(ConnectionLost(f"{self.host} closed the connection before its reply was complete."))

    # -- the parser's side

    def on_message_begin(self) -> None:
        """Distrust the connection if a reply comes behind the reply: it would be taken for the next call's."""
        if self.is_complete:
            self._keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header; those behind the body would come too late for anybody."""
        if self.has_head:
            return
        name = name.lower()
        self.headers.append((name, value))
        if name in (b"content-length", b"transfer-encoding"):
            self.body_framed = True

    def on_headers_complete(self) -> None:
        """Wake the caller, unless this is an interim reply (1xx)."""
        if self.is_complete:
            return
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self._is_informational = True
            self.headers = []
            self.body_framed = False
            return
        self.has_head = True
        self._wake()

    def on_body(self, body: bytes) -> None:
        """Queue body bytes; stop reading when the client is slower than the provider."""
        if not body or self.is_complete:
            return
        self._chunks.append(body)
        self._size += len(body)
        if self._size > _PAUSE_BYTES and self._body_waiter is None and self.transport is not None:
            self.transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        """Mark the end of the reply."""
        if self.is_complete:
            return
        if self._is_informational:
            self._is_informational = False
            return
        self.is_complete = True
        self._keep_alive = bool(
            self._parser.should_keep_alive()
        )  # only true to say here, inside the callback
        self._wake()


class Inflater:
    """Undoes gzip or deflate for the providers that compress although they were asked not to."""

    def __init__(self, host: str, limit: int) -> None:
        self._host = host
        self._limit = limit
        self._total = 0
        self._state: Any = zlib.decompressobj(wbits=47)

    def feed(self, piece: bytes) -> bytes:
        """Return the bytes that `piece` adds; raise `BrokenReply` if it is damaged or unpacks to too much."""
        try:
            data: bytes = self._state.decompress(piece, self._limit - self._total + 1)
        except zlib.error:
            raise BrokenReply(f"{self._host} sent a damaged compressed reply.") from None
        self._total += len(data)
        if self._total > self._limit:
            raise BrokenReply(f"The reply of {self._host} is over {self._limit} bytes.")
        return data
