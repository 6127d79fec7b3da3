"""A small Redis client: one connection, pipelined, each command bounded in time (RESP2).

Replies belong to commands by their order. A command whose caller was cancelled or waited too long keeps its place in
that order and its reply is dropped, so no caller can ever be given another's reply. A connection that has answered
nothing in time for five such waits is closed, with everybody that waits on it; one late reply is only late, for what
made it late may have been this process. It does not reconnect by itself: `connect` is its owner's business.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import cast
from urllib.parse import unquote, urlsplit

from penstock.base.errors import InvalidInput
from penstock.store.errors import RedisGone, RedisRefused

Reply = bytes | int | None | list["Reply"] | RedisRefused
"""An error inside an array stands as a value; an error as the whole reply is raised."""
PATIENCE = 5
"""Waits in a row, in units of the time bound, after which a connection without a timely reply is given up."""
CONNECT_S = 1.0
"""Bound of connecting, which no call waits for."""
MAX_BULK_BYTES = 64 * 1024 * 1024
_INCOMPLETE = object()


class RedisAddress:
    """Where a Redis is, from `redis://[user:password@]host[:port][/database]`; `rediss` means TLS."""

    def __init__(self, url: str) -> None:
        """Read `url`; raises `InvalidInput`, whose text holds no part of the URL since that may be a password."""
        parts = urlsplit(url)
        try:
            port, database = parts.port, int(parts.path.strip("/") or 0)
        except ValueError:
            raise _bad_url() from None
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise _bad_url()
        self.host = parts.hostname
        self.port = port or 6379
        self.database = database
        self.is_tls = parts.scheme == "rediss"
        self.user = unquote(parts.username) if parts.username else None
        self.password = unquote(parts.password) if parts.password else None


def _bad_url() -> InvalidInput:
    return InvalidInput(
        "The URL of Redis cannot be used.", hint="Write redis://[user:password@]host[:port][/database]."
    )


class RedisClient:
    """Commands to one Redis server. For one event loop."""

    def __init__(
        self,
        address: RedisAddress,
        *,
        timeout_s: float = 0.05,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timeout_s = timeout_s
        self.clock_offset_us = 0
        """Add it to `monotonic` in microseconds for the server's clock."""
        self.clock_error_us = 0
        """How wrong that may be."""
        self._address = address
        self._monotonic = monotonic
        self._link: _Link | None = None

    @property
    def is_connected(self) -> bool:
        """Whether commands can be sent."""
        return self._link is not None and not self._link.is_closed

    async def connect(self) -> None:
        """Connect anew and measure the server's clock; raises `RedisGone`, `RedisRefused` (password, database)."""
        self.close()
        where = self._address
        try:
            async with asyncio.timeout(CONNECT_S):
                _, link = await asyncio.get_running_loop().create_connection(
                    lambda: _Link(self._name, self._monotonic),
                    where.host,
                    where.port,
                    ssl=ssl.create_default_context() if where.is_tls else None,
                )
        except (OSError, TimeoutError) as error:
            raise RedisGone(f"{self._name} cannot be reached: {_reason(error)}.") from error
        try:
            if where.password is not None:
                names = [where.user.encode()] if where.user else []
                await link.call([b"AUTH", *names, where.password.encode()], CONNECT_S)
            if where.database:
                await link.call([b"SELECT", b"%d" % where.database], CONNECT_S)
            before = self._monotonic()
            told = await link.call([b"TIME"], CONNECT_S)
            after = self._monotonic()
        except BaseException:
            link.close("it was left")
            raise
        if not isinstance(told, list) or len(told) != 2:
            link.close("it is no Redis")
            raise RedisGone(f"{self._name} does not answer as a Redis does.")
        seconds, micros = (int(part) for part in told if isinstance(part, bytes))
        self.clock_offset_us = seconds * 1_000_000 + micros - round((before + after) * 500_000)
        self.clock_error_us = round((after - before) * 500_000) + 1
        self._link = link

    def deadline_us(self) -> int:
        """Return the moment, on the server's clock, after which nobody waits for a command that is sent now."""
        now_us = round((self._monotonic() + self.timeout_s) * 1_000_000)
        return now_us + self.clock_offset_us + self.clock_error_us

    async def call(self, *parts: bytes) -> Reply:
        """Send a command; raises `RedisGone` within `timeout_s`, `RedisRefused` when the reply is an error."""
        if self._link is None:
            raise RedisGone(f"{self._name} is not connected.")
        return await self._link.call(parts, self.timeout_s)

    def close(self) -> None:
        """Close the connection, if there is one; who waits gets `RedisGone`."""
        if self._link is not None:
            self._link.close("it was closed")
            self._link = None

    @property
    def _name(self) -> str:
        return f"Redis at {self._address.host}:{self._address.port}"


class _Link(asyncio.Protocol):
    """One connection."""

    def __init__(self, name: str, monotonic: Callable[[], float]) -> None:
        self.is_closed = False
        self._monotonic = monotonic
        self._timely_at = monotonic()
        self._name = name
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    async def call(self, parts: "tuple[bytes, ...] | list[bytes]", timeout_s: float) -> Reply:
        if self.is_closed or self._transport is None:
            raise RedisGone(f"{self._name} is gone.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        self._waiting.append(future)
        self._transport.write(encode_command(parts))
        if len(self._waiting) == 1:
            self._timely_at = self._monotonic()
        timer = loop.call_later(timeout_s, self._expire, future, timeout_s, True)
        try:
            return await future
        finally:
            timer.cancel()

    def _expire(self, future: asyncio.Future[Reply], timeout_s: float, may_be_there: bool) -> None:
        if future.done():
            return
        if may_be_there:  # our own loop may have been the slow one: look at the socket once before giving up
            asyncio.get_running_loop().call_later(0.001, self._expire, future, timeout_s, False)
            return
        if self._monotonic() - self._timely_at > timeout_s * PATIENCE:
            self.close("it does not answer in time")
        else:
            future.set_exception(RedisGone(f"{self._name} did not answer in time."))

    def close(self, why: str) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_exception(RedisGone(f"{self._name} is gone: {why}."))

    # -- asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not of that class

    def connection_lost(self, exc: Exception | None) -> None:
        self.close("the connection was lost" if exc is None else _reason(exc))

    def data_received(self, data: bytes) -> None:
        self._received += data
        at = 0
        try:
            while self._waiting:
                reply, end = decode_reply(self._received, at)
                if reply is _INCOMPLETE:
                    break
                at = end
                self._hand_out(reply)  # type: ignore[arg-type]  # what is not the mark is a reply
        except ValueError:
            self.close("it sent what no Redis sends")
            return
        if not self._waiting and len(self._received) > at:
            self.close("it sent more than was asked")
            return
        del self._received[:at]

    def _hand_out(self, reply: Reply) -> None:
        future = self._waiting.popleft()
        if future.done():
            return  # whoever asked was cancelled, or has waited long enough
        self._timely_at = self._monotonic()
        if isinstance(reply, RedisRefused):
            future.set_exception(reply)
        else:
            future.set_result(reply)


def encode_command(parts: "tuple[bytes, ...] | list[bytes]") -> bytes:
    """Return a command as the array of bulk strings it is on the wire."""
    pieces = [b"*%d\r\n" % len(parts)]
    pieces += [b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]
    return b"".join(pieces)


def decode_reply(data: bytearray, at: int) -> tuple[object, int]:
    """Return the reply that begins at `at` and where it ends; raises `ValueError` for what is none.

    The first is a mark, and the end is `at`, when not all of the reply is there yet.
    """
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        if len(data) - at > 65536:
            raise ValueError("a line without end")
        return _INCOMPLETE, at
    kind, text, after = data[at : at + 1], bytes(data[at + 1 : line_end]), line_end + 2
    if kind == b"$":
        size = int(text)
        if size < 0:
            return None, after
        if size > MAX_BULK_BYTES:
            raise ValueError("a value over the bound")
        if len(data) < after + size + 2:
            return _INCOMPLETE, at
        return bytes(data[after : after + size]), after + size + 2
    if kind == b":":
        return int(text), after
    if kind == b"+":
        return text, after
    if kind == b"-":
        return RedisRefused(f"Redis answered: {text[:200].decode('utf-8', 'replace')}"), after
    if kind == b"*":
        count = int(text)
        if count < 0:
            return None, after
        items: list[object] = []
        for _ in range(count):
            item, after = decode_reply(data, after)
            if item is _INCOMPLETE:
                return _INCOMPLETE, at
            items.append(item)
        return items, after
    raise ValueError("not a reply")


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
