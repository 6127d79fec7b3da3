"""Replies with some of their bytes changed: the connection reads them or fails with an error of ours, and ends."""

import asyncio
import contextlib
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import UpstreamError
from penstock.providers.http1 import MAX_HEAD_BYTES, Connection
from tests.providers.test_transport import HEAD, Wire

BODY = b'{"choices": []}'
GOOD = [
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY),
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nf\r\n%b\r\n0\r\na: b\r\n\r\n" % BODY,
    b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + BODY,
]  # fmt: skip
DAMAGE = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.sampled_from([b"\xff", b"\0", b"\r", b"\n", b" ", b":", b"9", b"-", b"", b"HTTP/1.1 "]),
    ),
    max_size=5,
)


async def read(pieces: list[bytes]) -> None:
    """Feed a connection, then close it; return once its call has ended, however."""
    connection = Connection(asyncio.get_running_loop(), "h", lambda _: None)
    wire = Wire()
    connection.connection_made(wire)  # type: ignore[arg-type]
    sending = asyncio.ensure_future(
        connection.send(HEAD, b"{}", first_byte_s=90, deadline=time.monotonic() + 90)
    )
    await asyncio.sleep(0)
    for piece in pieces:
        if not wire.closed:
            connection.data_received(piece)
    connection.connection_lost(None)
    with contextlib.suppress(UpstreamError):
        await sending
        await connection.read_all(1 << 20)
    connection.release()


@settings(max_examples=150, deadline=None)
@given(good=st.sampled_from(GOOD), damage=DAMAGE, cuts=st.lists(st.integers(0, 200), max_size=6))
def test_a_damaged_reply_ends_the_call(good: bytes, damage: list[tuple[int, bytes]], cuts: list[int]) -> None:
    for number, other in damage:
        place = number % len(good)
        good = good[:place] + other + good[place + 1 :]
    ends = [*sorted(min(cut, len(good)) for cut in cuts), len(good)]
    pieces = [good[start:end] for start, end in zip([0, *ends], ends, strict=False) if end > start]
    asyncio.run(asyncio.wait_for(read(pieces), 120))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_noise_ends_the_call(pieces: list[bytes]) -> None:
    asyncio.run(asyncio.wait_for(read([piece for piece in pieces if piece]), 120))


async def test_a_head_without_end_is_not_kept() -> None:
    connection = Connection(asyncio.get_running_loop(), "h", lambda _: None)
    wire = Wire()
    connection.connection_made(wire)  # type: ignore[arg-type]
    sending = asyncio.ensure_future(
        connection.send(HEAD, b"{}", first_byte_s=90, deadline=time.monotonic() + 90)
    )
    await asyncio.sleep(0)
    connection.data_received(b"HTTP/1.1 200 OK\r\na: ")
    fed = 0
    while not wire.closed:
        connection.data_received(b"b" * 65_536)
        fed += 65_536
    assert fed <= MAX_HEAD_BYTES + 3 * 65_536
    with contextlib.suppress(UpstreamError):
        await sending
    assert sending.done()
