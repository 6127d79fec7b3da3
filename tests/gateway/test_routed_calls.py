"""Routing over real sockets: what clients are told of targets, fallbacks, versions and breakers, and who is left alone."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from penstock.spec.routes import (
    BreakerPolicy,
    Deprecation,
    Fallback,
    HedgePolicy,
    PinnedVersion,
    Provider,
    RetryPolicy,
    Route,
    Target,
)
from tests.gateway.conftest import Bench, until_ready
from tests.gateway.upstream import STREAM, Exchange, FakeUpstream, answer, chunk

CHAT = {"model": "r", "messages": [{"role": "user", "content": "hi"}]}


def replying(status: int, body: Any, *headers: bytes) -> Callable[[Exchange], Awaitable[None]]:
    async def handle(exchange: Exchange) -> None:
        raw = json.dumps(body).encode()
        lines = b"".join(b"%b\r\n" % header for header in headers)
        await exchange.send(
            b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n%b"
            % (status, len(raw), lines, raw)
        )

    return handle


def failing(status: int, kind: str, *headers: bytes) -> Callable[[Exchange], Awaitable[None]]:
    return replying(status, {"error": {"message": "no", "type": kind, "code": kind}}, *headers)


async def hang(exchange: Exchange) -> None:
    await asyncio.sleep(60)


@pytest.fixture
async def other() -> AsyncIterator[FakeUpstream]:
    upstream = await FakeUpstream().start()
    yield upstream
    await upstream.stop()


async def serve_routes(bench: Bench, other: FakeUpstream, *routes: Route) -> None:
    bench.write(
        providers=[
            Provider(name="one", base_url=bench.upstream.url, price_id="openai", auth="none"),
            Provider(name="two", base_url=other.url, price_id="openai", auth="none"),
        ],
        routes=list(routes),
    )
    await until_ready(bench)


def route(**more: Any) -> Route:
    pair = (Target(provider="one", model="gpt-4o-mini"), Target(provider="two", model="m2", tier=1))
    return Route(**{"name": "r", "targets": pair, **more})


async def test_the_reply_tells_who_served_it_and_after_how_many_attempts(
    bench: Bench, other: FakeUpstream
) -> None:
    bench.upstream.handler = failing(503, "overloaded")
    await serve_routes(bench, other, route())
    response = await bench.post(CHAT)
    assert response.status == 200
    assert response.headers["x-penstock-provider"] == "two"
    assert response.headers["x-penstock-model"] == "m2"
    assert response.headers["x-penstock-attempts"] == "2"
    (span, *_) = await bench.sink.wait()
    assert span.provider == "two"
    assert span.attempts == 2


async def test_a_stream_goes_to_the_next_target_until_its_first_content_and_never_after(
    bench: Bench, other: FakeUpstream
) -> None:
    async def role_then_nothing(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.piece(STREAM[0])
        exchange.writer.close()

    async def text_then_nothing(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.piece(STREAM[0])
        await exchange.piece(STREAM[1])
        exchange.writer.close()

    await serve_routes(bench, other, route())
    bench.upstream.handler = role_then_nothing
    response = await bench.post({**CHAT, "stream": True})
    assert response.headers["x-penstock-provider"] == "two"
    assert b"water." in await response.read()
    bench.upstream.handler = text_then_nothing
    n_before = len(other.seen)
    response = await bench.post({**CHAT, "stream": True})
    assert response.headers["x-penstock-provider"] == "one"
    assert b'"error"' in await response.read()
    assert len(other.seen) == n_before


async def test_a_long_prompt_goes_to_the_route_for_long_prompts(bench: Bench, other: FakeUpstream) -> None:
    bench.upstream.handler = failing(400, "context_length_exceeded")
    long = Route(name="long", targets=(Target(provider="two", model="big"),), version="model:big@1")
    short = route(
        targets=(Target(provider="one", model="m"),),
        fallbacks=(Fallback(route="long", on=("context-length",)),),
    )
    await serve_routes(bench, other, short, long)
    response = await bench.post(CHAT)
    assert response.status == 200
    assert response.headers["x-penstock-route"] == "long"
    assert response.headers["x-penstock-version"] == "model:big@1"
    assert other.seen[0].json["model"] == "big"


async def test_a_reply_that_the_filter_stopped_before_its_first_word_goes_to_the_fallback(
    bench: Bench, other: FakeUpstream
) -> None:
    filtered = {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "content_filter"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5},
    }  # fmt: skip
    bench.upstream.handler = replying(200, filtered)
    soft = Route(name="soft", targets=(Target(provider="two", model="m2"),))
    strict = route(
        targets=(Target(provider="one", model="m"),),
        fallbacks=(Fallback(route="soft", on=("content-filter",)),),
    )
    await serve_routes(bench, other, strict, soft, Route(name="bare", targets=strict.targets))
    assert (await bench.post(CHAT)).headers["x-penstock-route"] == "soft"
    alone = await bench.post({**CHAT, "model": "bare"})
    assert alone.status == 200
    assert (await alone.json())["choices"][0]["finish_reason"] == "content_filter"


async def test_when_all_targets_are_left_alone_the_client_hears_until_when(
    bench: Bench, other: FakeUpstream
) -> None:
    bench.upstream.handler = failing(500, "server_error")
    only = route(
        targets=(Target(provider="one", model="m"),),
        retry=RetryPolicy(max_attempts=1),
        breaker=BreakerPolicy(min_calls=2, open_s=30.0),
    )
    await serve_routes(bench, other, only)
    for _ in range(2):
        assert (await bench.post(CHAT)).status == 500
    response = await bench.post(CHAT)
    assert response.status == 503
    assert 28 <= int(response.headers["retry-after"]) <= 30
    assert "PS-4630" in (await response.json())["error"]["message"]
    assert len(bench.upstream.seen) == 2


async def test_a_second_target_is_asked_when_the_first_is_silent_and_the_first_is_hung_up_on(
    bench: Bench, other: FakeUpstream
) -> None:
    bench.upstream.handler = hang
    both = (Target(provider="one", model="m"), Target(provider="two", model="m2", tier=1))
    await serve_routes(bench, other, route(targets=both, hedge=HedgePolicy(after_s=0.05, max_ratio=1.0)))
    response = await bench.post(CHAT)
    assert response.headers["x-penstock-provider"] == "two"
    await asyncio.wait_for(bench.upstream.client_left.wait(), 120)


async def test_a_rate_limit_is_waited_out_as_the_provider_asks(bench: Bench, other: FakeUpstream) -> None:
    replies = [failing(429, "rate_limit_exceeded", b"retry-after-ms: 30"), answer]

    async def first_busy(exchange: Exchange) -> None:
        await replies.pop(0)(exchange)

    bench.upstream.handler = first_busy
    await serve_routes(bench, other, route(targets=(Target(provider="one", model="m"),)))
    assert bench.gateway is not None
    bench.gateway._attempts._asking.sleep = asyncio.sleep
    response = await bench.post(CHAT)
    assert response.status == 200
    assert response.headers["x-penstock-attempts"] == "2"
    (span, *_) = await bench.sink.wait()
    assert span.overhead_ms is not None
    assert span.end_ns is not None
    assert span.overhead_ms < (span.end_ns - span.start_ns) / 1e6 - 29, (
        "waiting is not the gateway's own time"
    )


async def test_a_refused_key_of_ours_is_not_the_callers_fault(bench: Bench, other: FakeUpstream) -> None:
    bench.upstream.handler = failing(401, "invalid_api_key")
    await serve_routes(bench, other, route())
    response = await bench.post(CHAT)
    assert response.status == 200
    assert response.headers["x-penstock-provider"] == "two"


async def test_what_the_provider_says_of_its_rate_reaches_the_client_when_nobody_helps(
    bench: Bench, other: FakeUpstream
) -> None:
    bench.upstream.handler = failing(429, "rate_limit_exceeded", b"retry-after: 77")
    other.handler = failing(500, "server_error")
    await serve_routes(bench, other, route(retry=RetryPolicy(same_target=False)))
    response = await bench.post(CHAT)
    assert response.status == 429
    assert response.headers["retry-after"] == "77"


async def test_versions_are_pinned_deprecated_and_retired(bench: Bench, other: FakeUpstream) -> None:
    old = Deprecation(since="2020-01-01", sunset="2999-12-31", replacement="r@v3")
    pins = (
        PinnedVersion(name="v1", targets=(Target(provider="two", model="gone"),),
                      deprecation=Deprecation(sunset="2021-01-01", replacement="r@v3")),
        PinnedVersion(name="v2", targets=(Target(provider="two", model="old"),), version="model:x@2", deprecation=old),
        PinnedVersion(name="v3", targets=(Target(provider="one", model="new"),)),
    )  # fmt: skip
    await serve_routes(bench, other, route(pins=pins))
    response = await bench.post({**CHAT, "model": "r@v2"})
    assert response.status == 200
    assert other.seen[0].json["model"] == "old"
    assert response.headers["x-penstock-version"] == "model:x@2"
    assert response.headers["deprecation"] == "@1577836800"
    assert response.headers["sunset"] == "Tue, 31 Dec 2999 00:00:00 GMT"
    assert "use r@v3" in response.headers["x-penstock-warning"]
    gone = await bench.post({**CHAT, "model": "r@v1"})
    assert gone.status == 410
    assert "Use 'r@v3' instead" in (await gone.json())["error"]["message"]
    assert "deprecation" not in (await bench.post(CHAT)).headers
    assert (await bench.post({**CHAT, "model": "r@v9"})).status == 404


async def test_a_call_that_waits_for_its_reply_counts_as_load(bench: Bench, other: FakeUpstream) -> None:
    go_on = asyncio.Event()

    async def slow_stream(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.piece(chunk({"content": "a"}))
        await go_on.wait()
        await exchange.piece(STREAM[3])
        await exchange.piece(b"data: [DONE]\n\n")
        await exchange.end_stream()

    bench.upstream.handler = slow_stream
    await serve_routes(bench, other, route())
    assert bench.gateway is not None
    health = bench.gateway._metrics._health
    assert health is not None
    call = asyncio.create_task(bench.post({**CHAT, "stream": True}))
    while not any(target.in_flight for target in health._targets.values()):
        await asyncio.sleep(0.005)
    go_on.set()
    assert (await call).status == 200
    assert all(target.in_flight == 0 for target in health._targets.values())


async def test_one_bad_model_of_an_open_route_shuts_off_no_other_model(
    bench: Bench, other: FakeUpstream
) -> None:
    async def by_model(exchange: Exchange) -> None:
        handle = failing(500, "server_error") if b'"bad"' in exchange.body else answer
        await handle(exchange)

    bench.upstream.handler = by_model
    everything = route(
        name="one/*",
        targets=(Target(provider="one", model="*"),),
        retry=RetryPolicy(max_attempts=1),
        breaker=BreakerPolicy(min_calls=2, open_s=30.0),
    )
    await serve_routes(bench, other, everything)
    for _ in range(3):
        refused = await bench.post({**CHAT, "model": "one/bad"})
    assert refused.status == 503
    assert "one (bad)" in (await refused.json())["error"]["message"]
    assert (await bench.post({**CHAT, "model": "one/good"})).status == 200


async def test_the_client_hears_of_every_target_and_of_the_route_it_asked_for(
    bench: Bench, other: FakeUpstream
) -> None:
    keyless = Provider(name="two", base_url=other.url, price_id="openai", api_key_env="NOT_THERE")
    bench.write(
        providers=[Provider(name="one", base_url="http://127.0.0.1:9/v1", auth="none"), keyless],
        routes=[
            route(retry=RetryPolicy(max_attempts=2), fallbacks=(Fallback(route="spare"),)),
            Route(name="spare", targets=(Target(provider="two", model="m3"),)),
        ],
    )
    await until_ready(bench)
    response = await bench.post(CHAT)
    assert response.status == 503
    said = (await response.json())["error"]["message"]
    assert said.startswith("No target of 'r' could serve the call: one (gpt-4o-mini): ")
    assert "; two (m2): " in said
    assert "; fallback spare, two (m3): " in said
    assert "NOT_THERE" in said
    (span, *_) = await bench.sink.wait()
    assert span.status_message is not None
    assert "two (m3)" in span.status_message
    assert len(span.events) >= 3


async def test_the_route_asked_for_stands_on_a_reply_of_nobody(bench: Bench, other: FakeUpstream) -> None:
    bench.upstream.handler = failing(500, "server_error")
    policy = BreakerPolicy(min_calls=1, open_s=30.0)
    only = (Target(provider="one", model="m"),)
    await serve_routes(bench, other, route(targets=only, retry=RetryPolicy(max_attempts=1), breaker=policy))
    assert (await bench.post(CHAT)).status == 500
    assert (await bench.post(CHAT)).headers["x-penstock-route"] == "r"
