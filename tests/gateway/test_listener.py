"""What strangers may do to the listener: be slow, be large, be ambiguous, be many, and not read."""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from penstock.gateway.protocol import Guard, ListenerLimits
from tests.gateway.conftest import KEY, Bench, serve
from tests.gateway.upstream import REPLY, STREAM, Exchange, chunk

BODY = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}).encode()
LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"
AUTH = b"authorization: Bearer " + KEY.encode() + b"\r\n"
HEAD = LINE + b"host: x\r\n" + AUTH
LENGTH = b"content-length: %d\r\n\r\n" % len(BODY)
GOOD = HEAD + LENGTH + BODY
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


@dataclass
class Listener:
    url: str
    server: serve


@contextlib.asynccontextmanager
async def listening(bench: Bench, **limits: Any) -> AsyncIterator[Listener]:
    """A second listener in front of the same gateway, with other limits."""
    gateway = bench.gateway
    assert gateway is not None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await gateway(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})

    server = serve(app, Guard(ListenerLimits(**limits)))
    async with server as port:
        yield Listener(f"http://127.0.0.1:{port}", server)


def port_of(target: Bench | Listener) -> int:
    return int(target.url.rsplit(":", 1)[1])


async def connect(
    target: Bench | Listener, data: bytes = b""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(target))
    writer.write(data)
    return reader, writer


async def say(target: Bench | Listener, data: bytes) -> bytes:
    """Send bytes and return all that comes until the server closes; the client keeps its own side open."""
    reader, writer = await connect(target, data)
    reply = await reader.read()
    writer.close()
    return reply


def error_in(reply: bytes) -> dict[str, Any]:
    return dict(json.loads(reply.partition(b"\r\n\r\n")[2])["error"])


AMBIGUOUS = {
    "content-length and transfer-encoding": HEAD + b"content-length: 3\r\n" + CHUNKED + b"0\r\n\r\n",
    "transfer-encoding and content-length": HEAD + b"transfer-encoding: chunked\r\n" + LENGTH + BODY,
    "two content-lengths": HEAD + b"content-length: 3\r\n" + LENGTH + BODY,
    "a list of content-lengths": HEAD + b"content-length: 3, 3\r\n\r\nabc",
    "a content-length with a sign": HEAD + b"content-length: +3\r\n\r\nabc",
    "a transfer-encoding that is no chunked": HEAD + b"transfer-encoding: xchunked\r\n\r\n",
    "a compressed transfer-encoding": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + CHUNKED + b"0\r\n\r\n",
    "a bare LF": HEAD.replace(b"\r\n", b"\n") + b"\n",
    "a bare LF within the head": HEAD + b"a: b\nc: d\r\n" + LENGTH + BODY,
    "a folded header": HEAD + b"a: b\r\n c\r\n" + LENGTH + BODY,
    "a NUL in a header": HEAD + b"a: b\0c\r\n" + LENGTH + BODY,
    "a CR in a header": HEAD + b"a: b\rc\r\n" + LENGTH + BODY,
    "a space before the colon": HEAD + b"content-length : 3\r\n\r\nabc",
    "two keys": HEAD + AUTH + LENGTH + BODY,
    "two hosts": HEAD + b"Host: y\r\n" + LENGTH + BODY,
    "no host": LINE + AUTH + LENGTH + BODY,
    "an absolute URL": GOOD.replace(b"/v1", b"http://x/v1", 1),
    "an absolute URL of another host": GOOD.replace(b"/v1", b"http://internal/v1", 1),
    "a tunnel": b"CONNECT internal:80 HTTP/1.1\r\nhost: internal\r\n\r\n",
    "an empty segment": GOOD.replace(b"/v1/", b"//v1/", 1),
    "a dot in hex": GOOD.replace(b"/v1/", b"/v1/%2e%2e/v1/", 1),
    "a segment that goes up": GOOD.replace(b"/v1/", b"/x/../v1/", 1),
    "slashes in hex": GOOD.replace(b"/v1/", b"/%2fv1/", 1),
    "a backslash": GOOD.replace(b"/v1/", b"/v1%5c", 1),
    "a NUL in the path": GOOD.replace(b"completions", b"completions%00", 1),
    "another version": GOOD.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00",
    "a chunk of negative size": HEAD + CHUNKED + b"-1\r\n",
    "a chunk that ends in LF": HEAD + CHUNKED + b"1\nx\n0\n\n",
    "a chunk of endless size": HEAD + CHUNKED + b"F" * 17 + b"\r\n",
}


async def test_what_can_be_read_in_two_ways_is_refused_and_the_connection_closed(ready: Bench) -> None:
    async def is_refused(request_bytes: bytes) -> bool:
        reply = await say(ready, request_bytes + GOOD)  # what follows may not be served either
        is_one = len(re.findall(rb"HTTP/1.1 \d", reply)) == 1
        return is_one and reply.startswith(b"HTTP/1.1 400 ") and "[PS-1675]" in error_in(reply)["message"]

    assert [name for name, request_bytes in AMBIGUOUS.items() if not await is_refused(request_bytes)] == []
    assert ready.upstream.seen == []
    assert ready.gateway is not None and ready.gateway.n_active == 0


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (HEAD + b"a: " + b"b" * 70_000 + b"\r\n\r\n", 431, "PS-1673"),
        (HEAD + b"a: b\r\n" * 12_000 + b"\r\n", 431, "PS-1673"),
        (HEAD + b"a: " + b"b" * 4_000_000, 431, "PS-1673"),
        (b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414, "PS-1674"),
        (b"GET /" + b"a" * 4_000_000, 414, "PS-1674"),
        (HEAD + CHUNKED + (b"1;" + b"e" * 500 + b"\r\nx\r\n") * 2000, 400, "PS-1675"),
        (HEAD + CHUNKED + b"1\r\nx\r\n0\r\n" + b"trailer: 1\r\n" * 12_000, 431, "PS-1673"),
    ],
    ids=["a long header", "many headers", "an endless header", "a long URL", "an endless URL", "extensions", "trailers"],
)  # fmt: skip
async def test_heads_have_a_size(ready: Bench, request_bytes: bytes, status: int, code: str) -> None:
    reply = await say(ready, request_bytes)
    assert reply.startswith(b"HTTP/1.1 %d " % status)
    assert code in error_in(reply)["message"]


@pytest.mark.parametrize("began", [HEAD[:6], HEAD[:40], HEAD + b"a: b\r\n"])
async def test_a_head_has_a_deadline_that_more_bytes_do_not_move(ready: Bench, began: bytes) -> None:
    async with listening(ready, head_s=0.15) as listener:
        reader, writer = await connect(listener, began)

        async def drip() -> None:
            while True:
                await asyncio.sleep(0.01)
                writer.write(b"a")

        dripping = asyncio.create_task(drip())
        reply = await reader.read()
        dripping.cancel()
        writer.close()
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert "within 0.15 s" in error_in(reply)["message"]


@pytest.mark.parametrize("before", [b"", b"\r\n\r\n", GOOD])
async def test_who_only_holds_a_connection_loses_it_without_a_word(ready: Bench, before: bytes) -> None:
    async with listening(ready, head_s=0.1) as listener:
        reader, writer = await connect(listener, before)
        if before == GOOD:
            await reader.readuntil(b"}}")

        async def drip() -> None:
            while True:  # empty lines before a request are allowed (RFC 9112 §2.2), but not for ever
                await asyncio.sleep(0.01)
                writer.write(b"\r\n")

        dripping = asyncio.create_task(drip())
        said = b""
        with contextlib.suppress(ConnectionError):  # for what it sent after the end
            said = await reader.read()
        dripping.cancel()
        assert b"HTTP/1.1" not in said
        writer.close()


async def test_a_body_in_chunks_of_one_byte_is_a_body(ready: Bench) -> None:
    reader, writer = await connect(ready, HEAD + b"connection: close\r\n" + CHUNKED)
    for byte in BODY:
        writer.write(b"1\r\n%c\r\n" % byte)
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()
    assert ready.upstream.seen[0].json["messages"] == json.loads(BODY)["messages"]


async def test_a_head_in_pieces_of_one_byte_is_a_head(ready: Bench) -> None:
    reader, writer = await connect(ready)
    for byte in GOOD.replace(b"host: x", b"host: x\r\nconnection: close"):
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_a_key_behind_the_body_is_no_key(ready: Bench) -> None:
    chunks = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(BODY), BODY, AUTH)
    reply = await say(ready, LINE + b"host: x\r\nconnection: close\r\n" + CHUNKED + chunks)
    assert reply.startswith(b"HTTP/1.1 401 ")


async def test_a_wish_for_another_protocol_is_ignored(ready: Bench) -> None:
    wish = b"upgrade: h2c\r\nconnection: upgrade, close\r\n"
    reply = await say(ready, HEAD + wish + LENGTH + BODY)
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert json.dumps(REPLY).encode() in reply


async def test_requests_sent_at_once_are_answered_in_order(ready: Bench) -> None:
    last = GOOD.replace(b"host: x", b"host: x\r\nconnection: close").replace(b"gpt-4o-mini", b"gpt-4o-nini")
    reply = await say(ready, GOOD + GOOD + last)
    assert [part[:3] for part in reply.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"404"]


async def test_each_request_of_a_kept_connection_is_read_by_its_own_path(ready: Bench) -> None:
    asks = [b"GET /healthz", b"GET /nowhere?a=1", b"GET /healthz", b"GET /nowhere?b=2"]
    reader, writer = await connect(ready)
    statuses = []
    for ask in asks:
        writer.write(ask + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        statuses.append(head[9:12])
    writer.close()
    assert statuses == [b"200", b"404", b"200", b"404"]


async def test_rubbish_behind_a_request_never_falls_into_its_reply(ready: Bench) -> None:
    go_on = asyncio.Event()

    async def paced(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.piece(STREAM[1])
        await go_on.wait()

    ready.upstream.handler = paced
    body = BODY.replace(b"{", b'{"stream": true, ', 1)
    reader, writer = await connect(ready, HEAD + b"content-length: %d\r\n\r\n%b" % (len(body), body))
    await reader.readuntil(b"Drink")
    writer.write(b"\0rubbish\r\n\r\n")
    rest = await reader.read()
    writer.close()
    assert b"HTTP/1.1" not in rest
    await ready.upstream.client_left.wait()
    (span,) = await ready.sink.wait()
    assert span.error_code == "client_gone"


async def test_there_are_so_many_connections_and_no_more(ready: Bench) -> None:
    async with listening(ready, connections=2) as listener:
        held = [await connect(listener, GOOD) for _ in range(2)]
        for reader, _ in held:
            await reader.readuntil(b"}}")
        reply = await say(listener, GOOD)
        assert reply.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in reply
        assert "PS-2672" in error_in(reply)["message"]
        held[0][1].close()
        await held[0][1].wait_closed()
        while not (await say(listener, GOOD.replace(b"host: x", b"host: x\r\nconnection: close"))).startswith(
            b"HTTP/1.1 200 "
        ):
            await asyncio.sleep(0.01)
        held[1][1].close()
    assert len(ready.upstream.seen) == 3


# -- readers that stand still


def stiff_socket(listener: Listener) -> socket.socket:
    """A client whose kernel takes little, so that it is felt at once that nobody reads."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port_of(listener)))
    client.setblocking(False)
    return client


def endless(sent: list[int]) -> Any:
    piece = chunk({"content": "x" * 60_000})

    async def handler(exchange: Exchange) -> None:
        await exchange.begin_stream()
        while True:
            await exchange.piece(piece)
            sent[0] += len(piece)

    return handler


async def test_a_reader_that_stands_still_holds_the_provider_back_and_is_left_in_the_end(
    ready: Bench,
) -> None:
    sent = [0]
    ready.upstream.handler = endless(sent)
    body = BODY.replace(b"{", b'{"stream": true, ', 1)
    async with listening(ready, write_s=0.3) as listener:
        client = stiff_socket(listener)
        client.send(HEAD + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        (span,) = await ready.sink.wait()
        client.close()
    # the kernel's buffers on both hops, which grow to some megabytes, and little of our own
    assert sent[0] < 24_000_000
    assert (span.status, span.error_code, span.streamed) == ("error", "client_gone", True)
    assert span.usage is not None and span.usage.estimated
    assert ready.gateway is not None and ready.gateway.n_active == 0


async def test_a_slow_reader_gets_all_of_it(ready: Bench) -> None:
    text = "x" * 1_500_000

    async def large(exchange: Exchange) -> None:
        reply = {**REPLY, "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}
        await exchange.reply(reply)

    ready.upstream.handler = large
    loop = asyncio.get_running_loop()
    async with listening(ready, write_s=0.2) as listener:
        client = stiff_socket(listener)
        client.send(GOOD.replace(b"host: x", b"host: x\r\nconnection: close"))
        got = 0
        while data := await loop.sock_recv(client, 262_144):
            got += len(data)
            await asyncio.sleep(0.002)
        client.close()
    assert got > len(text)


async def test_a_reply_that_nobody_takes_does_not_hold_its_connection(ready: Bench) -> None:
    text = "x" * 8_000_000

    async def large(exchange: Exchange) -> None:
        await exchange.reply({**REPLY, "choices": [{"index": 0, "message": {"content": text}}]})

    ready.upstream.handler = large
    async with listening(ready, write_s=0.1) as listener:
        client = stiff_socket(listener)
        client.send(GOOD.replace(b"host: x", b"host: x\r\nconnection: close"))
        (span,) = await ready.sink.wait()
        assert ready.gateway is not None
        while ready.gateway.n_active or listener.server.n_connections:
            await asyncio.sleep(0.02)
        client.close()
    assert span.status == "ok"


async def test_a_refusal_of_a_large_body_can_be_read_though_the_body_is_still_being_sent(
    ready: Bench,
) -> None:
    head = HEAD + b"content-length: %d\r\n\r\n" % 30_000_000
    reader, writer = await connect(ready, head)

    async def send_all() -> None:
        for _ in range(30):
            writer.write(b"x" * 1_000_000)
            await writer.drain()

    sending = asyncio.create_task(send_all())
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413 ")
    await sending
    writer.close()
