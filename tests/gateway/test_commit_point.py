"""Until the first content byte another target may serve the call; after it, failures are told within the stream."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from penstock.gateway import commit
from penstock.spec.routes import Fallback, Provider, RetryPolicy, Route, Target
from tests.fixtures.upstreams.clients import ask, path_of, read_events, read_stream
from tests.fixtures.upstreams.replies import TEXT, openai_reply
from tests.fixtures.upstreams.server import PREFIXES, STREAMS, late_error, speak
from tests.gateway.conftest import KEY, Bench, until_ready
from tests.gateway.upstream import DONE, STREAM, Exchange, FakeUpstream, Handler, chunk

ASK: dict[str, Any] = {"model": "r", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
ROLE_ONLY = chunk({"role": "assistant", "content": ""})


@pytest.fixture
async def good() -> AsyncIterator[FakeUpstream]:
    """A second upstream, which always answers."""
    upstream = await FakeUpstream(speak).start()
    yield upstream
    await upstream.stop()


async def two_targets(bench: Bench, good: FakeUpstream, *, dialect: str = "openai", **route: Any) -> None:
    """Write a route whose first target is the bench's upstream and whose second is the good one."""
    bench.write(
        providers=[
            Provider(name="bad", dialect=dialect, auth="none",  # type: ignore[arg-type]
                     base_url=f"http://127.0.0.1:{bench.upstream.port}{PREFIXES[dialect]}", idle_timeout_s=0.6),
            Provider(name="good", auth="none", base_url=f"http://127.0.0.1:{good.port}/v1"),
        ],
        routes=[
            Route(
                name="r",
                targets=(Target(provider="bad", model="text"), Target(provider="good", model="text", tier=1)),
                retry=RetryPolicy(max_attempts=2, same_target=False, base_s=0.001),
                breaker=None,
                **route,
            )
        ],
    )  # fmt: skip
    await until_ready(bench)


def beat_every(bench: Bench, seconds: float) -> None:
    assert bench.gateway is not None
    exchange: Any = bench.gateway._attempts._asking._exchange
    exchange._keep_alive_s = seconds


def streams(*pieces: bytes, then: str = "end") -> Handler:
    async def handler(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for piece in pieces:
            await exchange.piece(piece)
            await asyncio.sleep(0.002)
        if then == "hang":
            await asyncio.Event().wait()
        if then == "close":
            exchange.writer.close()
        else:
            await exchange.end_stream()

    return handler


def says(body: Any) -> Handler:
    async def handler(exchange: Exchange) -> None:
        await exchange.reply(body)

    return handler


ERROR = b'data: {"error": {"message": "overloaded", "type": "server_error", "code": null}}\n\n'
UNCOMMITTED: dict[str, Handler] = {
    "a role and then the connection is lost": streams(ROLE_ONLY, then="close"),
    "a role and then the clean end": streams(ROLE_ONLY),
    "a role and then silence": streams(ROLE_ONLY, then="hang"),
    "comments and then silence": streams(b": wait\n\n", then="hang"),
    "an error event first": streams(ERROR),
    "a role and then an error event": streams(ROLE_ONLY + ERROR),
    "an error body with status 200": says({"error": {"message": "overloaded", "type": "server_error"}}),
    "an empty object": says({}),
    "no choices": says({"id": "x", "object": "chat.completion", "choices": []}),
}


@pytest.mark.parametrize("handler", UNCOMMITTED.values(), ids=UNCOMMITTED.keys())
async def test_before_the_first_content_byte_another_target_serves(
    bench: Bench, good: FakeUpstream, handler: Handler
) -> None:
    await two_targets(bench, good)
    bench.upstream.handler = handler
    response = await bench.post(ASK)
    assert response.status == 200
    assert read_stream("openai", await response.read()) == ("".join(TEXT), [])
    assert (response.headers["x-penstock-provider"], response.headers["x-penstock-attempts"]) == ("good", "2")
    assert len(good.seen) == 1


@pytest.mark.parametrize("then", ["close", "end", "hang", "error"])
async def test_before_the_first_content_of_another_dialect_too(
    bench: Bench, good: FakeUpstream, then: str
) -> None:
    await two_targets(bench, good, dialect="anthropic")
    start = STREAMS["anthropic"](tools=False)[:2]
    last = [late_error("anthropic")] if then == "error" else []
    bench.upstream.handler = streams(*start, *last, then=then)
    response = await bench.post(ASK)
    assert read_stream("openai", await response.read()) == ("".join(TEXT), [])
    assert response.headers["x-penstock-provider"] == "good"
    assert len(bench.upstream.seen) == 1


@pytest.mark.parametrize("then", ["close", "end", "hang"])
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_after_it_the_stream_ends_with_an_error_and_nobody_else_is_asked(
    bench: Bench, good: FakeUpstream, dialect: str, then: str
) -> None:
    await two_targets(bench, good, dialect=dialect)
    pieces = STREAMS[dialect](tools=False)
    n_kept = next(n for n, piece in enumerate(pieces) if b"Drink" in piece) + 1
    bench.upstream.handler = streams(*pieces[:n_kept], then=then)
    response = await bench.post(ASK)
    stream = await response.read()
    events = read_events("openai", stream)
    assert events[-1]["error"]["code"] == "PS-4605"
    assert stream.count(b"Drink") == 1
    assert good.seen == []
    (span,) = await bench.sink.wait()
    assert (span.status, span.error_code) == ("error", "PS-4216" if then == "hang" else
                                              "PS-4214" if then == "close" else "PS-4605")  # fmt: skip


async def test_a_stream_without_content_is_not_read_for_ever(
    bench: Bench, good: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "MAX_UNCOMMITTED_BYTES", 10_000)
    await two_targets(bench, good)
    bench.upstream.handler = streams(*[b": nothing yet\n\n" * 100] * 20, then="hang")
    response = await bench.post(ASK)
    assert response.headers["x-penstock-provider"] == "good"
    assert response.status == 200


FILTERED = {"id": "x", "object": "chat.completion", "model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 0},
            "choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "content_filter"}]}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_that_a_filter_stopped_is_asked_for_elsewhere_or_given_as_it_is(
    bench: Bench, stream: bool
) -> None:
    def routes(target: str) -> list[Route]:
        return [
            Route(
                name="r",
                targets=(Target(provider="fake", model="m"),),
                fallbacks=(Fallback(route=target, on=("content-filter",)),),
            ),
            Route(name="other", targets=(Target(provider="fake", model="other"),)),
            Route(name="same", targets=(Target(provider="fake", model="m"),)),
        ]

    async def handler(exchange: Exchange) -> None:
        if exchange.json["model"] == "other":
            exchange.head = exchange.head.replace(b"other", b"text")
            exchange.body = exchange.body.replace(b'"other"', b'"text"')
            await speak(exchange)
        elif stream:
            await streams(ROLE_ONLY, chunk({}, finish="content_filter"), DONE)(exchange)
        else:
            await exchange.reply(FILTERED)

    bench.upstream.handler = handler
    bench.write(auth="none", routes=routes("other"))
    await until_ready(bench)
    response = await bench.post({**ASK, "stream": stream})
    assert b"Drink" in await response.read()
    bench.write(auth="none", routes=routes("same"))
    await until_ready(bench)
    response = await bench.post({**ASK, "stream": stream})
    assert response.status == 200
    assert b'"content_filter"' in await response.read()


async def test_a_silent_stream_is_kept_alive_between_events_only(ready: Bench) -> None:
    beat_every(ready, 0.02)
    cut = STREAM[2][:30]

    async def slow(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.piece(STREAM[0] + STREAM[1])
        await asyncio.sleep(0.09)
        await exchange.piece(cut)
        await asyncio.sleep(0.09)
        await exchange.piece(STREAM[2][30:] + STREAM[3] + DONE)
        await exchange.end_stream()

    ready.upstream.handler = slow
    body = {**ASK, "model": "triage", "stream_options": {"include_usage": True}}
    stream = await (await ready.post(body)).read()
    assert stream.replace(b": keep-alive\n\n", b"") == b"".join(STREAM) + DONE
    assert STREAM[1] + b": keep-alive\n\n" in stream
    assert cut + b": keep" not in stream
    assert cut in stream


async def test_translated_streams_are_kept_alive_too(bench: Bench, good: FakeUpstream) -> None:
    await two_targets(bench, good, dialect="anthropic")
    beat_every(bench, 0.02)
    pieces = STREAMS["anthropic"](tools=False)

    async def slow(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for piece in pieces:
            await exchange.piece(piece)
            await asyncio.sleep(0.05 if b"Drink" in piece else 0)
        await exchange.end_stream()

    bench.upstream.handler = slow
    stream = await (await bench.post(ASK)).read()
    assert b": keep-alive\n\n" in stream
    assert read_stream("openai", stream) == ("".join(TEXT), [])


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_client_that_leaves_takes_the_provider_with_it_unless_the_route_says_no(
    bench: Bench, good: FakeUpstream, dialect: str
) -> None:
    await two_targets(bench, good, dialect=dialect, cancel_upstream=False)
    go_on = asyncio.Event()
    pieces = STREAMS[dialect](tools=False)
    n_kept = next(n for n, piece in enumerate(pieces) if b"Drink" in piece) + 1

    async def waits(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.piece(b"".join(pieces[:n_kept]))
        await go_on.wait()
        await exchange.piece(b"".join(pieces[n_kept:]))
        await exchange.end_stream()

    bench.upstream.handler = waits
    beat_every(bench, 0.01)
    bench.write(
        providers=[Provider(name="p", dialect=dialect, auth="none",  # type: ignore[arg-type]
                            base_url=f"http://127.0.0.1:{bench.upstream.port}{PREFIXES[dialect]}")],
        routes=[Route(name="r", targets=(Target(provider="p", model="text"),), cancel_upstream=False)],
    )  # fmt: skip
    await until_ready(bench)
    assert bench.client is not None
    response = await bench.client.post(
        bench.url + "/v1/chat/completions", json=ASK, headers={"authorization": f"Bearer {KEY}"}
    )
    await response.content.readany()
    response.close()
    await asyncio.sleep(0.1)
    assert bench.sink.spans == []
    go_on.set()
    (span,) = await bench.sink.wait()
    assert span.error_code == "client_gone"
    assert span.usage is not None
    assert (span.usage.input_tokens, span.usage.output_tokens) == (20, 8)


@pytest.mark.parametrize(
    ("client", "dialect"), [("openai", "openai"), ("anthropic", "openai"), ("anthropic",) * 2]
)
async def test_a_stream_cut_by_a_shutdown_says_so(
    bench: Bench, good: FakeUpstream, client: str, dialect: str
) -> None:
    await two_targets(bench, good, dialect=dialect)
    pieces = STREAMS[dialect](tools=False)
    n_kept = next(n for n, piece in enumerate(pieces) if b"Drink" in piece) + 1
    bench.upstream.handler = streams(b"".join(pieces[:n_kept]), then="hang")
    bench.write(
        providers=[Provider(name="p", dialect=dialect, auth="none",  # type: ignore[arg-type]
                            base_url=f"http://127.0.0.1:{bench.upstream.port}{PREFIXES[dialect]}")],
        routes=[Route(name="r", targets=(Target(provider="p", model="text"),))],
    )  # fmt: skip
    await until_ready(bench)
    before = asyncio.all_tasks()
    assert bench.client is not None
    response = await bench.client.post(
        bench.url + path_of(client, "r", stream=True),
        json=ask(client, "r", stream=True),
        headers={"authorization": f"Bearer {KEY}"},
    )
    first = await response.content.readany()
    serving = [task for task in asyncio.all_tasks() - before if "RequestResponseCycle.run_asgi" in repr(task)]
    assert len(serving) == 1
    serving[0].cancel()
    events = read_events(client, first + await response.read())
    assert "PS-4623" in json.dumps(events[-1])
    (span,) = await bench.sink.wait()
    assert span.error_code == "shutdown"


async def test_a_provider_that_answers_whole_to_a_client_that_streams_is_streamed(ready: Bench) -> None:
    async def whole(exchange: Exchange) -> None:
        await exchange.reply(openai_reply(tools=False))

    ready.upstream.handler = whole
    response = await ready.post({**ASK, "model": "triage"})
    assert response.headers["content-type"] == "text/event-stream"
    assert read_stream("openai", await response.read()) == ("".join(TEXT), [])


async def test_a_provider_that_streams_to_a_client_that_waits_for_the_whole_is_gathered(
    bench: Bench, good: FakeUpstream
) -> None:
    await two_targets(bench, good, dialect="anthropic")
    bench.upstream.handler = streams(*STREAMS["anthropic"](tools=False))
    response = await bench.post({**ASK, "stream": False})
    assert response.headers["content-type"] == "application/json"
    assert (await response.json())["choices"][0]["message"]["content"] == "".join(TEXT)
    (span,) = await bench.sink.wait()
    assert span.usage is not None
    assert span.usage.output_tokens == 8


async def test_errors_name_the_target_that_was_asked_last(ready: Bench) -> None:
    ready.upstream.handler = says({})
    response = await ready.post({**ASK, "model": "triage"})
    assert response.status == 502
    assert (response.headers["x-penstock-route"], response.headers["x-penstock-provider"]) == (
        "triage",
        "fake",
    )
    assert int(response.headers["x-penstock-attempts"]) > 1
