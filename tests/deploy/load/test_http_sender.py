"""Calls over real sockets to a scripted server that is slow by known amounts."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from penstock.deploy.load.mixes import Ask
from penstock.deploy.load.sending import HttpSender, Reply
from penstock.deploy.load.types import LoadSpec

ASK = Ask(kind="calls", messages=[{"role": "user", "content": "hi"}], max_tokens=8, prompt_tokens=1)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serve(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server = site._server
    assert isinstance(server, asyncio.Server)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        await runner.cleanup()


def ask(handler: Handler, spec: LoadSpec | None = None) -> Reply:
    chosen = spec or LoadSpec(route="a")

    async def main() -> Reply:
        async with serve(handler) as url, HttpSender(url, "key", chosen, test_id="load_1") as sender:
            return await sender.send("a", ASK)

    return asyncio.run(main())


def event(**members: object) -> bytes:
    return b"data: " + json.dumps(members).encode() + b"\n\n"


async def begin(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"content-type": "text/event-stream", "x-penstock-version": "model:a@2"}
    )
    await response.prepare(request)
    return response


async def two_pieces(request: web.Request) -> web.StreamResponse:
    response = await begin(request)
    await asyncio.sleep(0.05)
    await response.write(event(choices=[{"delta": {"content": "one"}}]))
    await asyncio.sleep(0.3)
    await response.write(event(choices=[{"delta": {"content": "two"}, "finish_reason": "stop"}]))
    await response.write(event(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 2}))
    await response.write(b"data: [DONE]\n\n")
    return response


def test_a_stream_is_timed_from_before_the_request_to_its_end() -> None:
    reply = ask(two_pieces)
    assert reply.error == ""
    assert reply.reader.first_s is not None
    assert reply.sent_s + 0.05 <= reply.reader.first_s
    assert reply.reader.gaps_ms[0] >= 25
    assert reply.ended_s >= reply.sent_s + 0.35
    assert (reply.reader.prompt_tokens, reply.reader.completion_tokens) == (5, 2)
    assert reply.headers["x-penstock-version"] == "model:a@2"


def test_what_is_sent_asks_for_usage_and_keeps_caches_out() -> None:
    seen: list[tuple[dict[str, object], dict[str, str]]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append((await request.json(), {name.lower(): value for name, value in request.headers.items()}))
        return await two_pieces(request)

    ask(handler, LoadSpec(route="a", parameters={"temperature": 0}))
    body, headers = seen[0]
    assert body["stream_options"] == {"include_usage": True}
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("a", 8, 0)
    assert headers["x-penstock-cache"] == "bypass"
    assert headers["x-penstock-session"] == "loadtest:load_1"
    ask(handler, LoadSpec(route="a", cache=True))
    assert "x-penstock-cache" not in seen[1][1]


def test_a_refusal_is_one_call_and_one_failure() -> None:
    n_asked = 0

    async def handler(_request: web.Request) -> web.StreamResponse:
        nonlocal n_asked
        n_asked += 1
        return web.json_response({"error": {"code": "PS-4503", "message": "away"}}, status=503)

    reply = ask(handler)
    assert (reply.error, reply.detail, n_asked) == ("503 PS-4503", "away", 1)


def test_a_connection_lost_in_the_middle_is_a_failure_of_its_own_kind() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await begin(request)
        await response.write(event(choices=[{"delta": {"content": "one"}}]))
        assert request.transport is not None
        request.transport.close()
        return response

    assert ask(handler).error == "broken"


def test_silence_ends_at_the_timeout() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await begin(request)
        await asyncio.sleep(1)
        return response

    reply = ask(handler, LoadSpec(route="a", timeout_s=0.2))
    assert reply.error == "timeout"


def test_nobody_listening_is_a_failure_too() -> None:
    async def main() -> Reply:
        async with HttpSender("http://127.0.0.1:9", "key", LoadSpec(route="a"), test_id="x") as sender:
            return await sender.send("a", ASK)

    assert asyncio.run(main()).error == "connection"


@pytest.mark.parametrize("is_whole", [True, False])
def test_whole_replies_have_no_first_token_but_usage(is_whole: bool) -> None:
    async def handler(_request: web.Request) -> web.StreamResponse:
        choice = {"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}
        body = {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
        return web.json_response(body if is_whole else {"choices": []})

    reply = ask(handler, LoadSpec(route="a", stream=False))
    assert reply.reader.first_s is None
    assert reply.error == ("" if is_whole else "broken")
    if is_whole:
        assert reply.reader.completion_tokens == 1
