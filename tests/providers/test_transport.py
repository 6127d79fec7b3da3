"""The HTTP client: any split of a reply reads the same, connections are reused safely, deadlines hold."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.providers import http1
from penstock.providers.errors import (
    BrokenReply,
    CallTimeout,
    ConnectFailed,
    ConnectionLost,
    FirstByteTimeout,
)
from penstock.providers.http1 import Connection
from penstock.providers.transport import Origin, Upstreams, parse_base_url

HEAD = b"POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Wire:
    """A transport that records."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.paused = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


async def exchange(pieces: list[bytes], *, then_close: bool = False) -> tuple[Connection, Wire, bytes]:
    connection = Connection(asyncio.get_running_loop(), "h", lambda _: None)
    wire = Wire()
    connection.connection_made(wire)  # type: ignore[arg-type]
    sending = asyncio.ensure_future(
        connection.send(HEAD, b"{}", first_byte_s=90, deadline=time.monotonic() + 90)
    )
    await asyncio.sleep(0)
    for piece in pieces:
        connection.data_received(piece)
    if then_close:
        connection.connection_lost(None)
    await sending
    body = await connection.read_all(1 << 20)
    return connection, wire, body


def chunked(body: bytes, sizes: list[int]) -> bytes:
    out, at = b"", 0
    for size in sizes:
        part = body[at : at + size]
        at += len(part)
        if part:
            out += b"%x;ext=1\r\n%b\r\n" % (len(part), part)
    rest = body[at:]
    return out + (b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b"") + b"0\r\ntrailer: t\r\n\r\n"


@settings(max_examples=80, deadline=None)
@given(
    st.binary(max_size=200), st.lists(st.integers(1, 50), max_size=6), st.booleans(), st.booleans(), st.data()
)
def test_a_reply_reads_the_same_for_every_split(
    body: bytes, sizes: list[int], is_chunked: bool, has_interim: bool, data: Any
) -> None:
    if is_chunked:
        raw = b"HTTP/1.1 200 OK\r\nX-Y: z\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(body, sizes)
    else:
        raw = b"HTTP/1.1 200 OK\r\nX-Y: z\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    if has_interim:
        raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nx-y: wrong\r\n\r\n" + raw
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True) if end > start]
    connection, wire, read = asyncio.run(exchange(pieces))
    assert read == body
    assert connection.status == 200
    assert [value for name, value in connection.headers if name == b"x-y"] == [b"z"]
    assert wire.written == HEAD + b"{}"
    assert connection.release()


@pytest.mark.parametrize(
    ("raw", "keeps"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", False),
    ],
)
async def test_only_connections_that_may_be_kept_are_kept(raw: bytes, keeps: bool) -> None:
    connection, wire, body = await exchange([raw])
    assert body == b"ok"
    assert connection.release() is keeps
    assert wire.closed is not keeps


async def test_a_body_that_closing_ends_is_whole() -> None:
    connection, _, body = await exchange([b"HTTP/1.1 200 OK\r\n\r\npart one ", b"part two"], then_close=True)
    assert body == b"part one part two"
    assert not connection.release()


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n",
    ],
)
async def test_a_body_that_is_cut_off_is_an_error(raw: bytes) -> None:
    with pytest.raises(ConnectionLost):
        await exchange([raw], then_close=True)


async def test_what_is_no_http_is_an_error_and_closes() -> None:
    with pytest.raises(BrokenReply):
        await exchange([b"SSH-2.0-x\r\n"])
    with pytest.raises(BrokenReply):
        await exchange([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"])


async def test_bytes_nobody_asked_for_close_an_idle_connection() -> None:
    connection, wire, _ = await exchange([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"])
    assert connection.release()
    connection.data_received(b"HTTP/1.1 408 Timeout\r\n\r\n")
    assert wire.closed


GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    "behind",
    [
        b"H",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-swallow: ",
        b"HTTP/1.1 500 Oh\r\ncontent-length: 3\r\n\r\nbad",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n",
        b"not HTTP at all",
    ],
)
@pytest.mark.parametrize("apart", [False, True])
async def test_a_connection_with_bytes_behind_its_reply_is_not_kept(behind: bytes, apart: bool) -> None:
    """They would be read as the beginning of the next caller's reply."""
    connection, wire, body = await exchange([GOOD, behind] if apart else [GOOD + behind])
    assert (connection.status, body) == (200, b"ok")
    assert connection.headers == [(b"content-length", b"2")]
    assert not connection.release()
    assert wire.closed


async def test_a_fast_provider_is_held_back_by_a_slow_client() -> None:
    connection = Connection(asyncio.get_running_loop(), "h", lambda _: None)
    wire = Wire()
    connection.connection_made(wire)  # type: ignore[arg-type]
    sending = asyncio.ensure_future(
        connection.send(HEAD, b"{}", first_byte_s=90, deadline=time.monotonic() + 90)
    )
    await asyncio.sleep(0)
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n")
    await sending
    for _ in range(3):
        connection.data_received(b"x" * 600_000)
    assert wire.paused
    assert len(await connection.next_chunk() or b"") == 1_800_000
    assert not wire.paused
    connection.abort()


async def serve(handler: Serve) -> tuple[asyncio.Server, Origin]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    return server, parse_base_url(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")


async def test_deadlines_hold_before_and_after_the_first_byte() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        if b"late" not in (await reader.read(1)):
            writer.close()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx")
        await reader.read()
        writer.close()

    upstreams = Upstreams()
    server, origin = await serve(silent)
    with pytest.raises(FirstByteTimeout):
        await upstreams.send(
            origin, HEAD, b"{}", connect_s=60, first_byte_s=0.05, deadline=time.monotonic() + 60
        )
    server.close()
    server, origin = await serve(slow)
    connection = await upstreams.send(
        origin, HEAD, b"{}", connect_s=60, first_byte_s=60, deadline=time.monotonic() + 0.5
    )
    with pytest.raises(CallTimeout):
        await connection.read_all(100)
    upstreams.release(origin, connection)
    server.close()
    await upstreams.close()


async def test_head_and_body_share_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(http1.time, "monotonic", lambda: now[0])
    loop = asyncio.get_running_loop()
    timers: list[tuple[float, Callable[[], None]]] = []
    call_later = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda s, ring: timers.append((s, ring)) or call_later(99, ring))
    connection = Connection(loop, "h", lambda _: None)
    connection.connection_made(Wire())  # type: ignore[arg-type]
    sending = asyncio.ensure_future(connection.send(HEAD, b"{}", first_byte_s=90, deadline=1010.0))
    await asyncio.sleep(0)
    now[0] += 7
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx")
    await sending
    [(after_s, ring)] = timers
    assert after_s == 10.0, "what the head has used is not there for the body"
    now[0] += 3
    ring()
    with pytest.raises(CallTimeout):
        await connection.read_all(100)


async def test_the_timer_of_an_earlier_call_ends_no_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(http1.time, "monotonic", lambda: now[0])
    loop = asyncio.get_running_loop()
    timers: list[tuple[float, Callable[[], None]]] = []
    call_later = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda s, ring: timers.append((s, ring)) or call_later(99, ring))
    connection = Connection(loop, "h", lambda _: None)
    connection.connection_made(Wire())  # type: ignore[arg-type]
    for deadline in (1010.0, 1015.0, 1009.0):
        sending = asyncio.ensure_future(connection.send(HEAD, b"{}", first_byte_s=90, deadline=deadline))
        await asyncio.sleep(0)
        if deadline == 1015.0:
            now[0] = 1010.0
            timers[-1][1]()
            assert timers[-1][0] == 5.0, "it rings again when the call that is on is due"
            now[0] = 1008.0
        connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx")
        await sending
        assert await connection.read_all(9) == b"x"
        assert connection.release()
    assert [after_s for after_s, _ in timers] == [10.0, 5.0, 1.0], (
        "an earlier deadline has a timer of its own"
    )
    timers[-1][1]()
    assert connection.is_open, "nothing is due while nobody waits"
    connection.abort()


async def test_connecting_takes_from_the_same_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[float] = []

    async def connect(_: object, key: object, timeout_s: float) -> Connection:
        bounds.append(timeout_s)
        raise ConnectFailed("no")

    monkeypatch.setattr(Upstreams, "_connect", connect)
    origin = parse_base_url("http://127.0.0.1:9/v1")
    for connect_s in (5, 500):
        with pytest.raises(ConnectFailed):
            await Upstreams().send(
                origin, HEAD, b"{}", connect_s=connect_s, first_byte_s=5, deadline=time.monotonic() + 100
            )
    assert bounds[0] == 5
    assert 5 < bounds[1] <= 100


async def test_a_cancelled_call_closes_its_connection() -> None:
    left = asyncio.Event()

    async def waiting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        left.set()
        writer.close()

    server, origin = await serve(waiting)
    upstreams = Upstreams()
    calling = asyncio.ensure_future(
        upstreams.send(origin, HEAD, b"{}", connect_s=60, first_byte_s=60, deadline=time.monotonic() + 60)
    )
    while not upstreams.n_connects:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    await left.wait()
    server.close()


async def send_twice(upstreams: Upstreams, *, hold_s: float) -> tuple[int, int]:
    """Answer one request, then read one on the kept connection and close; return requests read and written."""
    n_read = n_written = n_open = 0

    async def serve_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n_read, n_open
        n_open += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n{}")
                n_read += 1
                if n_read == 2:
                    await asyncio.sleep(hold_s)
                    break
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        writer.close()
        await writer.wait_closed()
        n_open -= 1

    def note() -> None:
        nonlocal n_written
        n_written += 1

    server, origin = await serve(serve_once)
    try:
        for _ in range(2):
            connection = await upstreams.send(
                origin,
                HEAD,
                b"{}",
                connect_s=60,
                first_byte_s=60,
                deadline=time.monotonic() + 60,
                on_write=note,
            )
            await connection.read_all(100)
            upstreams.release(origin, connection)
    except ConnectionLost:
        pass
    server.close()
    assert len(upstreams._all) == sum(map(len, upstreams._idle.values()))
    await upstreams.close()
    while n_open:
        await asyncio.sleep(0.002)
    return n_read, n_written


async def test_a_request_is_sent_again_only_if_a_kept_connection_is_lost_at_once() -> None:
    assert await send_twice(Upstreams(resend_within_s=60.0), hold_s=0.0) == (3, 3)


async def test_a_request_that_a_provider_was_working_on_is_not_sent_again() -> None:
    assert await send_twice(Upstreams(resend_within_s=0.01), hold_s=0.1) == (2, 2)


async def test_tls_that_fails_is_a_connect_error_and_certificates_are_checked() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"no tls here")
        writer.close()

    server, origin = await serve(plain)
    secure = Origin(scheme="https", host=origin.host, port=origin.port, path="")
    upstreams = Upstreams()
    assert upstreams._tls().verify_mode == ssl.CERT_REQUIRED
    with pytest.raises(ConnectFailed):
        await upstreams.send(
            secure, HEAD, b"{}", connect_s=60, first_byte_s=60, deadline=time.monotonic() + 60
        )
    server.close()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/v1",
        "h:80",
        "http://",
        "http://user:pw@h/v1",
        "http://h/v1?x=1",
        "http://h/\r\nx: y",
        "http://h:x/",
    ],
)
def test_what_is_no_base_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        parse_base_url(url)


def test_a_base_url_is_taken_apart() -> None:
    assert parse_base_url("https://api.x.ai/v1/").authority == "api.x.ai"
    assert parse_base_url("http://[::1]:99/v1").authority == "[::1]:99"
