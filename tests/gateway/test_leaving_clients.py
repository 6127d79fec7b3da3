"""Clients that leave, at every moment of a call and in crowds: the provider is left, the bill is made, nobody gets another's."""

import asyncio
import json
import random
import socket
import struct
from typing import Any

import msgspec
import pytest

from penstock.spec.routes import Provider, Route, Target
from tests.fixtures.upstreams.clients import ask, path_of
from tests.fixtures.upstreams.server import PREFIXES, STREAMS
from tests.gateway.conftest import KEY, Bench, key_row, until_ready
from tests.gateway.upstream import Exchange, Handler

MOMENTS = ["before the head", "within the text", "within the arguments of a tool"]


def stops_at(moment: str, dialect: str) -> Handler:
    """Answer up to a moment and then be silent."""
    pieces = STREAMS[dialect](tools=moment == MOMENTS[2])
    needle = b"Drink" if moment == MOMENTS[1] else b"cit"
    n_said = next((n + 1 for n, piece in enumerate(pieces) if needle in piece), 0)

    async def handler(exchange: Exchange) -> None:
        if moment != MOMENTS[0]:
            await exchange.begin_stream()
            await exchange.piece(b"".join(pieces[:n_said]))
        await asyncio.Event().wait()

    return handler


async def write_route(bench: Bench, dialect: str) -> None:
    base_url = f"http://127.0.0.1:{bench.upstream.port}{PREFIXES[dialect]}"
    provider = Provider(name="p", dialect=dialect, auth="none", base_url=base_url, price_id="openai")  # type: ignore[arg-type]
    bench.write(
        providers=[provider], routes=[Route(name="r", targets=(Target(provider="p", model="gpt-4o-mini"),))]
    )
    await until_ready(bench)


async def send(bench: Bench, path: str, body: Any, key: str = KEY) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:  # fmt: skip
    reader, writer = await asyncio.open_connection("127.0.0.1", int(bench.url.rsplit(":", 1)[1]))
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    return reader, writer


def leave(writer: asyncio.StreamWriter, how: str) -> None:
    if how == "reset":
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(("client", "server"), [("openai", "openai"), ("anthropic", "openai"), ("openai", "anthropic")])  # fmt: skip
async def test_the_provider_is_left_and_what_was_said_is_billed(
    bench: Bench, client: str, server: str, moment: str, how: str
) -> None:
    await write_route(bench, server)
    bench.upstream.handler = stops_at(moment, server)
    tools = moment == MOMENTS[2]
    body = ask(client, "r", stream=True, tools=tools)
    reader, writer = await send(bench, path_of(client, "r", stream=True), body)
    if moment == MOMENTS[0]:
        while not bench.upstream.seen:
            await asyncio.sleep(0.002)
    else:
        await reader.readuntil(b"cit" if tools else b"Drink")
    leave(writer, how)
    await bench.upstream.client_left.wait()
    (span,) = await bench.sink.wait()
    assert (span.status, span.error_code, span.attempts) == ("error", "client_gone", 1)
    usage = span.usage
    assert usage is not None and usage.estimated and usage.input_tokens
    assert bool(usage.output_tokens) == (moment != MOMENTS[0])
    assert span.cost_usd
    gateway = bench.gateway
    assert gateway is not None
    while gateway.n_active or gateway._upstreams._all or bench.upstream.n_open:
        await asyncio.sleep(0.002)


async def test_after_a_crowd_of_leaving_clients_nobody_gets_what_is_anothers(bench: Bench) -> None:
    """Connections to the provider are used again and again; a reply that nobody waited for must not stay in one."""

    async def echo(exchange: Exchange) -> None:
        text = exchange.json["messages"][0]["content"]
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        await asyncio.sleep(0.001)
        await exchange.reply({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})  # fmt: skip

    bench.upstream.handler = echo
    tenants = [f"ps-tenant-{number:020d}" for number in range(6)]
    bench.write(keys=[key_row(key, f"tenant{number}") for number, key in enumerate(tenants)])
    await until_ready(bench)
    rng = random.Random(5)
    n_read = 0

    async def live(key: str) -> None:
        nonlocal n_read
        for number in range(50):
            nonce = f"{key} {number}"
            body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": nonce}]}
            reader, writer = await send(bench, "/v1/chat/completions", body, key)
            if rng.random() < 0.5:
                await asyncio.sleep(rng.random() * 0.004)
                leave(writer, rng.choice(["close", "reset"]))
                continue
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            reply = json.loads(await reader.readexactly(length))
            assert reply["choices"][0]["message"]["content"] == nonce
            n_read += 1
            writer.close()

    await asyncio.gather(*(live(key) for key in tenants))
    assert n_read > 80
    gateway = bench.gateway
    assert gateway is not None
    while gateway.n_active:
        await asyncio.sleep(0.002)
    names = {f"key_tenant{number}": key for number, key in enumerate(tenants)}
    for span in bench.sink.spans:
        if span.key_id is not None and span.output is not None:
            assert names[span.key_id] in msgspec.json.encode(span.output).decode()
