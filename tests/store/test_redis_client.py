"""The Redis client: any split of the bytes reads the same, nobody gets another's reply, no wait is longer than told."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.store.errors import RedisGone, RedisRefused
from penstock.store.redis_client import RedisAddress, RedisClient, _Link, decode_reply, encode_command
from tests.fixtures.redis import RedisServer, redis_server, shared_redis

__all__ = ["redis_server", "shared_redis"]

_TIME = b"*2\r\n$10\r\n1700000000\r\n$6\r\n000000\r\n"


@pytest.fixture
async def client(shared_redis: RedisServer) -> AsyncIterator[RedisClient]:
    made = RedisClient(RedisAddress(shared_redis.url), timeout_s=60.0)
    await made.connect()
    yield made
    made.close()


@contextlib.asynccontextmanager
async def scripted(*replies: bytes) -> AsyncIterator[RedisClient]:
    """A client of a server that answers each read with the next of `replies`, and then with nothing more."""

    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for reply in replies:
                await reader.read(65536)
                writer.write(reply)
                await writer.drain()
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    made = RedisClient(RedisAddress(f"redis://127.0.0.1:{port}"), timeout_s=0.2)
    try:
        yield made
    finally:
        made.close()
        await ended.wait()
        server.close()


async def test_values_of_any_bytes_come_back(client: RedisClient) -> None:
    value = bytes(range(256)) * 5000 + b"\r\n$-1\r\n"
    assert await client.call(b"SET", b"client:value", value) == b"OK"
    assert await client.call(b"GET", b"client:value") == value
    assert await client.call(b"GET", b"client:nothing") is None
    assert await client.call(b"MGET", b"client:value", b"client:nothing") == [value, None]
    assert await client.call(b"DEL", b"client:value") == 1


def test_it_works_on_the_event_loop_of_the_gateway(shared_redis: RedisServer) -> None:
    async def ping() -> object:
        client = RedisClient(RedisAddress(shared_redis.url), timeout_s=60.0)
        await client.connect()
        told = await client.call(b"PING")
        client.close()
        return told

    assert uvloop.run(ping()) == b"PONG"


async def test_many_callers_each_get_their_own_reply(client: RedisClient) -> None:
    told = await asyncio.gather(*(client.call(b"ECHO", b"%d" % number) for number in range(500)))
    assert told == [b"%d" % number for number in range(500)]


async def test_a_cancelled_caller_leaves_no_reply_behind_for_the_next(client: RedisClient) -> None:
    for number in range(50):
        left = asyncio.create_task(client.call(b"ECHO", b"left %d" % number))
        await asyncio.sleep(0)
        left.cancel()
        assert await client.call(b"ECHO", b"mine %d" % number) == b"mine %d" % number


async def test_an_error_of_redis_is_the_callers_and_the_connection_goes_on(client: RedisClient) -> None:
    with pytest.raises(RedisRefused, match="unknown command"):
        await client.call(b"NONSENSE")
    assert await client.call(b"PING") == b"PONG"


async def test_a_frozen_server_ends_the_wait_and_the_connection(redis_server: RedisServer) -> None:
    client = RedisClient(RedisAddress(redis_server.url), timeout_s=0.5)
    await client.connect()
    redis_server.freeze()
    while client.is_connected:  # a first wait may only be a late reply, several are a server that is gone
        waiting = [asyncio.create_task(client.call(b"ECHO", b"%d" % number)) for number in range(10)]
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(one) for one in told} == {RedisGone}
    redis_server.thaw()
    await client.connect()
    assert await client.call(b"ECHO", b"new") == b"new"
    client.close()


async def test_one_late_reply_is_dropped_and_the_connection_goes_on(redis_server: RedisServer) -> None:
    client = RedisClient(RedisAddress(redis_server.url), timeout_s=2.0)
    await client.connect()
    redis_server.freeze()
    with pytest.raises(RedisGone):
        await client.call(b"ECHO", b"late")
    redis_server.thaw()
    assert await client.call(b"ECHO", b"next") == b"next"
    client.close()


async def test_a_server_that_is_not_there_is_gone(redis_server: RedisServer) -> None:
    redis_server.kill()
    with pytest.raises(RedisGone, match="cannot be reached"):
        await RedisClient(RedisAddress(redis_server.url)).connect()


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n", b"$99999999999\r\n"])
async def test_a_server_of_another_kind_is_refused(reply: bytes) -> None:
    async with scripted(reply) as client:
        with pytest.raises(RedisGone):
            await client.connect()


async def test_a_reply_that_nobody_asked_for_ends_the_connection() -> None:
    async with scripted(_TIME, b"+OK\r\n+OK\r\n") as client:
        await client.connect()
        await client.call(b"PING")
        assert not client.is_connected


async def test_a_password_is_sent_and_a_wrong_one_is_refused_without_being_shown(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--requirepass", "s3cret/word")
    try:
        good = RedisClient(RedisAddress(f"redis://:s3cret%2Fword@127.0.0.1:{server.port}/2"), timeout_s=60.0)
        await good.connect()
        assert await good.call(b"PING") == b"PONG"
        good.close()
        with pytest.raises(RedisRefused) as caught:
            await RedisClient(
                RedisAddress(f"redis://:guess@127.0.0.1:{server.port}"), timeout_s=60.0
            ).connect()
        assert "guess" not in str(caught.value)
    finally:
        server.kill()


@pytest.mark.parametrize(
    "url", ["http://u:pass-word@h", "redis://", "redis://u:pass-word@h:x", "redis://h/pass-word"]
)
def test_a_url_that_cannot_be_used_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        RedisAddress(url)
    assert "pass-word" not in str(caught.value)


_REPLIES = st.recursive(
    st.none() | st.integers(-(2**62), 2**62) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


def wire(value: object) -> bytes:
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    assert isinstance(value, list)
    return b"*%d\r\n" % len(value) + b"".join(map(wire, value))


@given(replies=st.lists(_REPLIES, min_size=1, max_size=4), cuts=st.lists(st.integers(0, 300), max_size=8))
def test_replies_read_the_same_however_the_bytes_are_split(replies: list[object], cuts: list[int]) -> None:
    async def read() -> list[object]:
        link = _Link("test", time.monotonic)
        loop = asyncio.get_running_loop()
        waiting = [loop.create_future() for _ in replies]
        link._waiting.extend(waiting)
        data = b"".join(map(wire, replies))
        edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        for start, end in itertools.pairwise(edges):
            link.data_received(data[start:end])
        return [future.result() for future in waiting]

    assert asyncio.run(read()) == replies


@given(data=st.binary(max_size=200))
def test_no_bytes_make_the_reader_do_anything_but_refuse(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode_reply(bytearray(data), 0)


def test_a_command_is_an_array_of_counted_strings() -> None:
    assert encode_command([b"GET", b"a\r\n"]) == b"*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\n"
