"""The listener's side of HTTP/1.1: uvicorn's protocol, with the bounds it lacks on what strangers may take.

uvicorn gives a client any time and any number of bytes for the head of a request, and waits for ever for one that
does not read. Here a head has a deadline and a size, a reader that stands still is left, and there are only so many
connections. What cannot be taken is answered in one small reply, and nothing of it is written to a log.

What uvicorn does for each request is written here anew, because it is on every call: no timer of its own for each wait
on a kept connection, no second pass over the URL, no WebSockets.

The surprise: a connection that is turned away stays open for a moment, because closing it while the client still
sends would make the kernel throw away the answer.
"""

import asyncio
import fcntl
import re
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from penstock.base.errors import CallerError, PenstockError, PolicyError
from penstock.dialects.openai.errors import error_body
from penstock.gateway.http import BODY_EXTENSION, REPLY_EXTENSION
from penstock.gateway.reply_cycle import ReplyCycle

LINGER_S: Final = 1.0
_OVERHEAD_FACTOR = 8
"""Chunks of one byte take six bytes each; more than this many per byte of body is an attack."""
_MORE_THAN_CAP = 256
_FIRST_BYTES = 4096
_LEAST_PROGRESS_BYTES = 1024
_ONCE = frozenset({b"host", b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"content-type"})
_AMBIGUOUS = re.compile(rb"//|/\.|[\\\0]")
"""What gives a path two readings."""
_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)
_IDLE, _HEAD, _BODY, _TURNED_AWAY = range(4)


class HeadTooSlow(CallerError):
    """The head of the request did not arrive in time."""

    code = "PS-1672"
    status = 408


class HeadTooLarge(CallerError):
    """The headers of the request are over the limit."""

    code = "PS-1673"
    status = 431


class UrlTooLong(CallerError):
    """The URL of the request is over the limit."""

    code = "PS-1674"
    status = 414


class NotHttp(CallerError):
    """The request is not HTTP/1.1 as its standard has it, or has two readings."""

    code = "PS-1675"


class TooManyConnections(PolicyError):
    """As many connections are open as one worker takes."""

    code = "PS-2672"
    status = 503
    kind = "server_error"


@dataclass(frozen=True, kw_only=True)
class ListenerLimits:
    """What one worker takes from its clients."""

    head_s: float = 10.0
    """Until the head of a request must be there, from the connection or its first byte on."""
    head_bytes: int = 64 * 1024
    url_bytes: int = 16 * 1024
    write_s: float = 60.0
    """How long a client may take nothing of a reply that waits for it."""
    connections: int = 16_000


class _Waits:
    """Waits of equal length, of many connections: one timer for all, because one for each request is not free."""

    def __init__(self, length_s: float, end: "Callable[[GuardedProtocol], None]") -> None:
        """`end` is called with each connection whose wait is over."""
        self._length_s = length_s
        self._end = end
        self._end_at: dict[GuardedProtocol, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, protocol: "GuardedProtocol") -> None:
        """Begin to wait, if the connection does not already."""
        if protocol not in self._end_at:
            loop = protocol.loop
            self._end_at[protocol] = loop.time() + self._length_s
            if self._timer is None:
                self._timer = loop.call_later(self._length_s, self._sweep, loop)

    def forget(self, protocol: "GuardedProtocol") -> None:
        """End a wait without further ado."""
        self._end_at.pop(protocol, None)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        late = [protocol for protocol, end_at in self._end_at.items() if end_at <= now]
        for protocol in late:
            self.forget(protocol)
            self._end(protocol)
        if self._end_at:
            self._timer = loop.call_at(next(iter(self._end_at.values())), self._sweep, loop)


class Guard:
    """What the connections of one worker share: the limits, and the waits for heads and for further requests."""

    def __init__(
        self, limits: ListenerLimits | None = None, *, note: Callable[[str], None] = lambda _code: None
    ) -> None:
        """`note` is told the code of each refusal."""
        self.limits = limits or ListenerLimits()
        self.note = note
        self.heads = _Waits(self.limits.head_s, GuardedProtocol.be_late)
        self._idle: _Waits | None = None

    def protocol(self) -> Any:
        """Return what uvicorn takes as `http`."""
        return partial(GuardedProtocol, self)

    def idle(self, keep_alive_s: float) -> _Waits:
        """Return the waits of kept connections for their next request; as long as the first to ask says."""
        if self._idle is None:
            self._idle = _Waits(keep_alive_s, GuardedProtocol.timeout_keep_alive_handler)
        return self._idle


def _hide_upgrade(data: bytes) -> bytes:
    """Make the parser overlook a wish for another protocol, which may be ignored (RFC 9110 §7.8).

    Java's client sends one with each request over plain HTTP, and the parser would throw the body away.
    """
    head, border, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"\r\nx-upgrade:", head) + border + rest


class GuardedProtocol(HttpToolsProtocol):
    """One connection of a client."""

    def __init__(
        self,
        guard: Guard,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._guard = guard
        self._limits = guard.limits
        self._heads = guard.heads
        self._idle = guard.idle(self.timeout_keep_alive)
        self._state = _IDLE
        self._is_timed = False
        self._room = 0
        self._seen: list[bytes] = []
        self._target: tuple[bytes, tuple[bytes, str, bytes]] = b"", (b"", "", b"")
        """The last URL, and what it was read as: clients ask the same again and again."""
        self._base: dict[str, Any] = {}
        """What the scopes of all requests of this connection have in common."""
        self._refusal: PenstockError | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    # -- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take the connection, or say that there are too many."""
        super().connection_made(transport)
        self._base = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
        }
        self._room = self._limits.head_bytes
        n_more = len(self.connections) - self._limits.connections
        if n_more > _MORE_THAN_CAP:
            self.transport.abort()
        elif n_more > 0:
            self._turn_away(
                TooManyConnections(
                    f"{self._limits.connections} connections are open already.",
                    hint="Try again soon, or close some that you do not use.",
                )
            )
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what was set up for the connection."""
        self._heads.forget(self)
        self._idle.forget(self)
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, then see whether a head is being awaited."""
        self._idle.forget(self)
        if self._state is _TURNED_AWAY:
            return
        if self._state is not _BODY and data.find(b"pgrade", 0, _FIRST_BYTES) >= 0:
            data = _hide_upgrade(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            self._turn_away(
                self._refusal or NotHttp("This is not HTTP/1.1 that can be read in one way only.")
            )
            return
        cycle = self.cycle
        if self._state is _BODY and not cycle.response_complete:
            self._room -= len(data)
            if self._room < 0:
                self._turn_away(NotHttp("The body has far more framing than content."))
        elif self._state is _HEAD:
            self._room -= len(data)
            if self._room < -self._limits.head_bytes:  # what it holds was counted as it was parsed
                self._turn_away(self._too_large())
            else:
                self._await_head()
        elif cycle is None or cycle.response_complete:
            self._await_head()

    def be_late(self) -> None:
        """The time for a head is over."""
        self._is_timed = False
        if self.transport.is_closing():
            return
        if self._state is _HEAD:
            self._turn_away(
                HeadTooSlow(f"The head of the request did not arrive within {self._limits.head_s:g} s.")
            )
        elif self.cycle is None or self.cycle.response_complete:
            self._close_soon()

    def _await_head(self) -> None:
        self._is_timed = True
        self._heads.begin(self)

    def _turn_away(self, error: PenstockError) -> None:
        """Say why, unless a reply has begun, and close once the client has stopped sending or `LINGER_S` is over."""
        self._guard.note(error.code)
        self._heads.forget(self)
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            body = error_body(error)
            wait = b"retry-after: 1\r\n" if error.status == 503 else b""
            self.transport.write(
                b"%bcontent-type: application/json\r\ncontent-length: %d\r\n%bconnection: close\r\n\r\n%b"
                % (STATUS_LINE[error.status], len(body), wait, body)
            )
        self._state = _TURNED_AWAY
        self.pipeline.clear()
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # whatever still serves it shall neither write nor wait
            cycle.message_event.set()
            self.flow.resume_writing()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.abort)

    # -- the parser

    def on_message_begin(self) -> None:
        """Begin to count what the head takes."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._state = _HEAD
        self._room = self._limits.head_bytes
        self._seen = []

    def on_url(self, url: bytes) -> None:
        """Take the URL or a part of it."""
        self.url += url
        if len(self.url) > self._limits.url_bytes:
            self._refuse(UrlTooLong(f"The URL is over {self._limits.url_bytes} bytes."))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header; those behind a body are counted and not believed."""
        self._room -= len(name) + len(value) + 4
        if self._room < 0:
            self._refuse(self._too_large())
        if self._state is not _HEAD:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        elif name in _ONCE:
            if name in self._seen:
                self._refuse(NotHttp(f"The header {name.decode()} is there twice."))
            self._seen.append(name)
        elif name == b"transfer-encoding" and (
            value.lower() != b"chunked" or self.parser.get_http_version() != "1.1"
        ):
            self._refuse(NotHttp("The only transfer encoding is chunked."))
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Let the request be served, if it can be read in one way only."""
        version = self.parser.get_http_version()
        self._check_version(version)
        url = self.url
        if url != self._target[0]:
            self._target = url, self._read_target(url)
        raw_path, path, query = self._target[1]
        self._state = _BODY
        if self._is_timed:
            self._is_timed = False
            self._heads.forget(self)
        scope = {
            **self._base,
            "http_version": version,
            "headers": self.headers,
            "method": self.parser.get_method().decode("ascii"),
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
        }
        before = self.cycle
        self.cycle = cycle = ReplyCycle(
            scope,  # type: ignore[arg-type]  # uvicorn's own type for it
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            False,  # no access log
            self.server_state.default_headers,
            asyncio.Event(),
            self.expect_100_continue,
            version != "1.0" and self.parser.should_keep_alive(),
            self.on_response_complete,
        )
        scope["extensions"] = {BODY_EXTENSION: cycle.take_body, REPLY_EXTENSION: cycle.write_reply}
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:  # the client did not wait for the reply before
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._room += _OVERHEAD_FACTOR * len(body)
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Take the end of the request."""
        self._state = _IDLE
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def _check_version(self, version: str) -> None:
        if self.parser.should_upgrade():
            self._refuse(NotHttp("Only HTTP/1.1 is spoken here.", hint="Send no `Upgrade`."))
        if version == "1.1":
            if b"host" not in self._seen:
                self._refuse(NotHttp("The request does not say its host."))
        elif version != "1.0":
            self._refuse(NotHttp(f"HTTP/{version} is not spoken here.", hint="Use HTTP/1.1."))

    def _read_target(self, url: bytes) -> tuple[bytes, str, bytes]:
        """Return the path as sent and as meant, and the query; the path that the gateway is mounted at before both."""
        if not url.startswith(b"/"):
            self._refuse(NotHttp("The request names no path.", hint="This is a gateway, not a proxy."))
        raw_path, _, query = url.partition(b"#")[0].partition(b"?")
        path = unquote_to_bytes(raw_path) if raw_path.find(b"%") >= 0 else raw_path
        if _AMBIGUOUS.search(path) is not None or not raw_path.isascii():
            self._refuse(NotHttp("The path can be read in more than one way.", hint="Send it in plain form."))
        root = self.root_path
        return root.encode("ascii") + raw_path, root + path.decode("utf-8", "replace"), query

    def _refuse(self, error: PenstockError) -> None:
        self._refusal = error
        raise error  # the parser passes it on as its own

    def _too_large(self) -> HeadTooLarge:
        return HeadTooLarge(f"The headers are over {self._limits.head_bytes} bytes.")

    # -- the reply

    def on_response_complete(self) -> None:
        """Go on with the next request, or with waiting for it."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._abort_if_blocked()
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle.begin(self)
        if self._state is not _IDLE:
            self._await_head()  # the rest of a body that nobody reads, or the next head

    def pause_writing(self) -> None:
        """The client reads slower than the reply comes."""
        super().pause_writing()
        if self._write_timer is None:
            self._watch_writing()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if not self.transport.is_closing():  # else the rest has to go as well
            self._stop_write_timer()

    def timeout_keep_alive_handler(self) -> None:
        """No further request has come."""
        self._close_soon()

    def _close_soon(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
            self._abort_if_blocked()

    def _abort_if_blocked(self) -> None:
        if self.transport.get_write_buffer_size():
            self._stop_write_timer()
            self._watch_writing()

    def _watch_writing(self) -> None:
        self._write_timer = self.loop.call_later(self._limits.write_s, self._look_at_writing, self._unsent())

    def _look_at_writing(self, before: int) -> None:
        self._write_timer = None
        if self._unsent() > before - _LEAST_PROGRESS_BYTES:
            self.transport.abort()
        else:
            self._watch_writing()

    def _unsent(self) -> int:
        """Return the bytes the client has not taken: ours, and those in the kernel, which holds megabytes."""
        waiting = self.transport.get_write_buffer_size()
        try:
            in_kernel = fcntl.ioctl(
                self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4)
            )
        except (OSError, ValueError, AttributeError):
            return waiting
        return waiting + int(struct.unpack("i", in_kernel)[0])

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
