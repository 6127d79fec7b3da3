"""The way to providers: connections kept per origin, made with deadlines, given back after use.

One `Upstreams` per process. A connection is closed after `idle_s` unused, which is shorter than servers
usually wait, so that a request is rarely written into a connection that is being closed; when it is, which shows
at once, the request goes out once more on a fresh connection. One that the provider may be working on never does.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from penstock.base.errors import InvalidInput
from penstock.providers.addresses import is_forbidden_peer
from penstock.providers.errors import AddressForbidden, ConnectFailed, ConnectionLost, ConnectTimeout
from penstock.providers.http1 import Connection


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a base URL points to."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port as the `Host` header has them."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == (443 if self.scheme == "https" else 80) else f"{name}:{self.port}"


def parse_base_url(url: str) -> Origin:
    """Return the parts of a provider's base URL; raise `InvalidInput` if it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise InvalidInput(
            f"{url!r} is not a base URL.",
            hint="Write http://HOST:PORT/v1 or https://HOST/v1, without a key in it.",
        )
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        raise InvalidInput(f"{url!r} holds characters that a URL cannot have.")
    return Origin(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port or (443 if parts.scheme == "https" else 80),
        path=parts.path.rstrip("/"),
    )


_PoolKey = tuple[str, str, int]


class Upstreams:
    """Connections to all providers of one process. Use from one event loop only."""

    def __init__(
        self,
        *,
        idle_s: float = 15.0,
        resend_within_s: float = 0.05,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._idle_s = idle_s
        self._resend_within_s = resend_within_s
        self._ssl_context = ssl_context
        self._idle: dict[_PoolKey, deque[Connection]] = {}
        self._all: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self.n_connects = 0
        """Connections made so far."""

    async def send(
        self,
        origin: Origin,
        head: bytes,
        body: bytes,
        *,
        connect_s: float,
        first_byte_s: float,
        deadline: float,
        on_write: Callable[[], None] = lambda: None,
    ) -> Connection:
        """Send one request; return its connection once the reply's head is there. Give it to `release`.

        `on_write` is called each time the request goes out: once, or twice if a kept connection was just being
        closed (lost without an answer within `resend_within_s`). Connecting, the head and the body of the reply are all
        there before `deadline` (`time.monotonic`), or they fail.

        Raises `ConnectFailed`, `AddressForbidden` and `ConnectTimeout` (nothing was sent), `FirstByteTimeout`,
        `ConnectionLost`, `BrokenReply`. Cancelling closes the connection, so that the provider stops working.
        """
        key = (origin.scheme, origin.host, origin.port)
        connection = self._take_idle(key)
        if connection is not None:
            written_at = time.monotonic()
            on_write()
            try:
                await connection.send(head, body, first_byte_s=first_byte_s, deadline=deadline)
            except ConnectionLost:
                self._drop(connection)
                if connection.got_bytes or time.monotonic() - written_at >= self._resend_within_s:
                    raise
            except BaseException:
                self._drop(connection)
                raise
            else:
                return connection
        connection = await self._connect(key, min(connect_s, deadline - time.monotonic()))
        on_write()
        try:
            await connection.send(head, body, first_byte_s=first_byte_s, deadline=deadline)
        except BaseException:
            self._drop(connection)
            raise
        return connection

    def release(self, origin: Origin, connection: Connection) -> None:
        """End a call: keep the connection if its reply was read to a clean end, else close it."""
        if not connection.release():
            self._all.discard(connection)
            return
        connection.idle_since = time.monotonic()
        key = (origin.scheme, origin.host, origin.port)
        idle = self._idle.get(key)
        if idle is None:
            idle = self._idle[key] = deque()
        idle.append(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._idle_s / 2, self._sweep)

    async def close(self) -> None:
        """Close every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._all):
            connection.abort()
        self._all.clear()
        self._idle.clear()
        await asyncio.sleep(0)

    def _take_idle(self, key: _PoolKey) -> Connection | None:
        idle = self._idle.get(key)
        while idle:
            connection = idle.pop()  # the youngest: old ones may then run out
            if connection.is_open:
                return connection
        return None

    async def _connect(self, key: _PoolKey, timeout_s: float) -> Connection:
        scheme, host, port = key
        loop = asyncio.get_running_loop()
        context = self._tls() if scheme == "https" else None
        self.n_connects += 1
        try:
            async with asyncio.timeout(timeout_s):
                link, connection = await loop.create_connection(
                    lambda: Connection(loop, host, self._forget),
                    host,
                    port,
                    ssl=context,
                    server_hostname=host if context else None,
                )
        except TimeoutError:
            raise ConnectTimeout(
                f"No connection to {host}:{port} within {timeout_s:g} s.",
                hint="Is the address right and reachable?",
            ) from None
        except ssl.SSLError as error:
            raise ConnectFailed(
                f"TLS with {host}:{port} failed: {error.reason or 'unknown reason'}."
            ) from None
        except OSError as error:
            raise ConnectFailed(
                f"Cannot connect to {host}:{port}: {error.strerror or error}.",
                hint="Is the server running there?",
            ) from None
        if is_forbidden_peer(link.get_extra_info("peername")):
            link.abort()
            raise AddressForbidden(
                f"{host} leads to an address that calls are never sent to.",
                hint="Link-local addresses hold the credentials of cloud machines; is the name right?",
            )
        self._all.add(connection)
        return connection

    def _tls(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
        return self._ssl_context

    def _drop(self, connection: Connection) -> None:
        connection.in_use = False
        connection.abort()
        self._all.discard(connection)

    def _forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        for idle in self._idle.values():
            if connection in idle:
                idle.remove(connection)

    def _sweep(self) -> None:
        self._sweeper = None
        oldest = time.monotonic() - self._idle_s
        for idle in self._idle.values():
            while idle and (idle[0].idle_since < oldest or not idle[0].is_open):
                idle.popleft().abort()
        if any(self._idle.values()):
            self._sweeper = asyncio.get_running_loop().call_later(self._idle_s / 2, self._sweep)
