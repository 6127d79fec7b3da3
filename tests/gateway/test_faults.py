"""A provider that refuses, hangs, breaks off or talks nonsense; a client that leaves."""

import asyncio
import gzip
import json
import time
from decimal import Decimal
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from penstock.gateway.verdicts import read_retry_after
from penstock.spec.routes import Fallback, Provider, Route, Target
from tests.gateway.conftest import KEY, Bench, until_ready
from tests.gateway.upstream import DONE, REPLY, STREAM, Exchange, FakeUpstream, Handler, answer

ASK = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
DEAD = "http://127.0.0.1:9/v1"


async def hang(_: Exchange) -> None:
    await asyncio.Event().wait()


def says(body: bytes, *, status: int = 200, kind: str = "text/html", extra: str = "") -> Handler:
    async def handler(exchange: Exchange) -> None:
        await exchange.reply(body, status=status, kind=kind, extra=extra)

    return handler


async def message_of(response: Any) -> str:
    return str(json.loads(await response.read())["error"]["message"])


async def test_a_refused_connection_is_a_503(bench: Bench) -> None:
    bench.write(base_url=DEAD)
    await until_ready(bench)
    response = await bench.post(ASK)
    assert response.status == 503
    assert "Cannot connect to 127.0.0.1:9" in await message_of(response)
    (span,) = await bench.sink.wait()
    assert (span.status, span.error_code) == ("error", "PS-4210")
    assert (span.cost_usd, span.cost_source) == (0, "not sent")


async def test_what_was_sent_and_lost_is_billed_as_an_estimate_of_what_was_sent(ready: Bench) -> None:
    async def close(exchange: Exchange) -> None:
        exchange.writer.close()

    ready.upstream.handler = close
    await ready.post(ASK)
    (span,) = await ready.sink.wait()
    for billed in (span, *ready.sink.attempts):
        assert billed.usage is not None
        assert billed.usage.estimated
        assert billed.usage.output_tokens is None
        assert billed.cost_usd == Decimal(billed.usage.input_tokens or 0) / 1_000_000 > 0


async def test_a_provider_that_hangs_is_a_504(bench: Bench) -> None:
    bench.write(first_byte_timeout_s=0.05)
    await until_ready(bench)
    bench.upstream.handler = hang
    response = await bench.post(ASK)
    assert response.status == 504
    await bench.upstream.client_left.wait()


async def test_a_reply_that_never_ends_meets_the_deadline_of_the_call(bench: Bench) -> None:
    async def half(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        await hang(exchange)

    bench.write(timeout_s=0.1)
    await until_ready(bench)
    bench.upstream.handler = half
    response = await bench.post(ASK)
    assert response.status == 504


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"<html>Bad gateway</html>", 502, "text/html"),
        (b"<html>all fine</html>", 200, "text/html"),
        (b"", 200, "application/json"),
        (b'{"choices": [', 200, "application/json"),
        (b"[1, 2]", 200, "application/json"),
        (b"\xff\xfe\x00", 500, "application/octet-stream"),
        (b"", 302, "text/html"),
    ],
)
async def test_garbage_is_a_502_that_names_the_upstream_status(
    ready: Bench, body: bytes, status: int, kind: str
) -> None:
    ready.upstream.handler = says(body, status=status, kind=kind)
    response = await ready.post(ASK)
    assert response.status == 502
    assert f"HTTP {status}" in await message_of(response)
    (span,) = await ready.sink.wait()
    assert span.error_code == "PS-4604"


async def test_a_call_has_one_deadline_for_all_that_a_provider_does(
    ready: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = ready.gateway
    assert gateway is not None
    told: list[dict[str, Any]] = []
    send = gateway._upstreams.send

    async def note(*what: Any, **bounds: Any) -> Any:
        told.append(bounds)
        return await send(*what, **bounds)

    monkeypatch.setattr(gateway._upstreams, "send", note)
    ready.write(
        routes=[Route(name="d", targets=(Target(provider="fake", model="gpt-4o-mini"),), deadline_s=100)]
    )
    await until_ready(ready)
    before = time.monotonic()
    assert (await ready.post({**ASK, "model": "d"})).status == 200
    (bounds,) = told
    assert before + 100 <= bounds["deadline"] <= time.monotonic() + 100


async def test_what_is_not_http_is_a_502(ready: Bench) -> None:
    async def noise(exchange: Exchange) -> None:
        await exchange.send(b"\x15\x03\x01 not http at all\r\n\r\n")

    ready.upstream.handler = noise
    assert (await ready.post(ASK)).status == 502


async def test_a_closed_connection_is_a_502(ready: Bench) -> None:
    async def close(exchange: Exchange) -> None:
        exchange.writer.close()

    ready.upstream.handler = close
    response = await ready.post(ASK)
    assert response.status == 502
    assert "closed the connection" in await message_of(response)


async def test_errors_in_openai_s_shape_pass_with_their_status(ready: Bench) -> None:
    body = (
        b'{"error": {"message": "too long", "type": "invalid_request_error", "param": null, "code": "ctx"}}'
    )
    ready.upstream.handler = says(body, status=400, kind="application/json")
    response = await ready.post(ASK)
    assert (response.status, await response.read()) == (400, body)
    (span,) = await ready.sink.wait()
    assert (span.status, span.error_code, span.http_status) == ("error", "upstream_400", 400)


async def test_errors_in_another_shape_are_told_in_ours(ready: Bench) -> None:
    ready.upstream.handler = says(b'{"detail": "no such adapter"}', status=422, kind="application/json")
    response = await ready.post(ASK)
    assert response.status == 422
    assert "no such adapter" in await message_of(response)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"1500", 1.5), (b"\xb2", None), (b"-1", None), (b"", None), (b"9" * 400, 86400.0 * 31)],
)
def test_any_wait_that_a_provider_asks_for_can_be_read(value: bytes, seconds: float | None) -> None:
    assert read_retry_after([(b"retry-after-ms", value)], 0) == seconds
    far = b"Fri, 31 Dec 9999 23:59:59 GMT"
    assert read_retry_after([(b"retry-after", far)], 0) == 86400.0 * 31


async def test_a_429_whose_wait_is_no_number_is_a_429(ready: Bench) -> None:
    async def busy(exchange: Exchange) -> None:
        body = b'{"error": {"message": "slow"}}'
        head = b"HTTP/1.1 429 X\r\nretry-after-ms: \xb2\r\ncontent-type: application/json\r\n"
        await exchange.send(head + b"content-length: %d\r\n\r\n" % len(body) + body)

    ready.upstream.handler = busy
    assert (await ready.post(ASK)).status == 429


async def test_a_reply_in_no_known_shape_is_a_502_where_filters_are_watched_for(bench: Bench) -> None:
    target = Target(provider="fake", model="gpt-4o-mini")
    watched = (Fallback(route="b", on=("content-filter",)),)
    bench.write(
        routes=[Route(name="a", targets=(target,), fallbacks=watched), Route(name="b", targets=(target,))]
    )
    await until_ready(bench)
    bench.upstream.handler = says(json.dumps({**REPLY, "choices": 5}).encode(), kind="application/json")
    response = await bench.post({**ASK, "model": "a"})
    assert response.status == 502
    assert "PS-9" not in await message_of(response)


async def test_a_429_passes_with_its_retry_after(ready: Bench) -> None:
    ready.upstream.handler = says(b'{"error": {"message": "slow"}}', status=429, extra="retry-after: 7\r\n")
    response = await ready.post(ASK)
    assert (response.status, response.headers["retry-after"]) == (429, "7")


async def test_compressed_replies_are_unpacked_and_damaged_ones_refused(ready: Bench) -> None:
    packed = gzip.compress(json.dumps(REPLY).encode())
    ready.upstream.handler = says(packed, kind="application/json", extra="content-encoding: gzip\r\n")
    response = await ready.post(ASK)
    assert (response.status, json.loads(await response.read())) == (200, REPLY)
    assert "content-encoding" not in response.headers
    ready.upstream.handler = says(b"not gzip", kind="application/json", extra="content-encoding: gzip\r\n")
    assert (await ready.post(ASK)).status == 502


async def cut(exchange: Exchange) -> None:
    await exchange.begin_stream()
    await exchange.piece(STREAM[0])
    await exchange.piece(STREAM[1])
    exchange.writer.close()


async def end_early(exchange: Exchange) -> None:
    await exchange.begin_stream()
    await exchange.piece(STREAM[1] + STREAM[2][:20])
    await exchange.end_stream()


@pytest.mark.parametrize("handler", [cut, end_early])
async def test_a_stream_that_breaks_off_ends_with_an_error_event_and_no_done(
    ready: Bench, handler: Handler
) -> None:
    ready.upstream.handler = handler
    response = await ready.post({**ASK, "stream": True})
    body = await response.read()
    assert STREAM[1] in body
    assert b"[DONE]" not in body
    last = body.strip().split(b"\n\n")[-1]
    assert "before the reply was complete" in json.loads(last.removeprefix(b"data: "))["error"]["message"]
    (span,) = await ready.sink.wait()
    assert span.status == "error"
    assert "Drink " in str(span.output)


async def test_the_official_client_notices_a_broken_stream(ready: Bench) -> None:
    ready.upstream.handler = cut
    async with AsyncOpenAI(base_url=f"{ready.url}/v1", api_key=KEY, max_retries=0) as client:
        stream = await client.chat.completions.create(model="gpt-4o-mini", messages=[], stream=True)
        with pytest.raises(openai.APIError, match="before the reply was complete"):
            _ = [part async for part in stream]


async def test_an_error_event_of_the_provider_is_passed_and_noted(ready: Bench) -> None:
    event = b'data: {"error": {"message": "overloaded"}}\n\n'

    async def fails(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.piece(STREAM[1] + event)
        await exchange.end_stream()

    ready.upstream.handler = fails
    response = await ready.post({**ASK, "stream": True})
    assert await response.read() == STREAM[1] + event
    (span,) = await ready.sink.wait()
    assert (span.status, span.error_code) == ("error", "upstream_error_event")


async def test_a_stream_without_framing_that_is_complete_is_no_error(ready: Bench) -> None:
    async def old_style(exchange: Exchange) -> None:
        await exchange.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        )
        await exchange.send(b"".join(STREAM) + DONE)
        exchange.writer.close()

    ready.upstream.handler = old_style
    response = await ready.post({**ASK, "stream": True})
    assert await response.read() == b"".join(STREAM) + DONE
    (span,) = await ready.sink.wait()
    assert span.status == "ok"


@pytest.mark.parametrize("fault", ["dead", "hang", "500", "429", "close", "empty stream"])
async def test_another_target_serves_the_call_while_no_byte_has_been_sent(bench: Bench, fault: str) -> None:
    async def close(exchange: Exchange) -> None:
        exchange.writer.close()

    async def empty(exchange: Exchange) -> None:
        await exchange.begin_stream()
        exchange.writer.close()

    handlers: dict[str, Handler] = {
        "dead": hang, "hang": hang, "500": says(b"oops", status=500), "429": says(b"{}", status=429), "close": close,
        "empty stream": empty,
    }  # fmt: skip
    bad = await FakeUpstream(handlers[fault]).start()
    url = DEAD if fault == "dead" else bad.url
    bench.write(
        providers=[
            Provider(name="bad", base_url=url, auth="none", first_byte_timeout_s=0.05),
            Provider(name="good", base_url=bench.upstream.url, auth="none"),
        ],
        routes=[
            Route(
                name="both",
                targets=(
                    Target(provider="bad", model="m", weight=1e9),
                    Target(provider="good", model="gpt-4o-mini", weight=1e-9),
                ),
            )
        ],
    )
    await until_ready(bench)
    response = await bench.post({"model": "both", "messages": [], "stream": fault == "empty stream"})
    await bad.stop()
    assert response.status == 200
    assert (response.headers["x-penstock-attempts"], response.headers["x-penstock-provider"]) == ("2", "good")
    (span,) = await bench.sink.wait()
    assert (span.status, span.attempts, span.provider) == ("ok", 2, "good")
    assert span.events[0].attributes["provider"] == "bad"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_cancels_the_provider(ready: Bench, stream: bool) -> None:
    async def endless(exchange: Exchange) -> None:
        if stream:
            await exchange.begin_stream()
            await exchange.piece(STREAM[1])
        await hang(exchange)

    ready.upstream.handler = endless
    _, writer = await asyncio.open_connection("127.0.0.1", int(ready.url.rsplit(":", 1)[1]))
    body = json.dumps({**ASK, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    while not ready.upstream.seen:
        await asyncio.sleep(0.005)
    writer.close()
    await ready.upstream.client_left.wait()
    (span,) = await ready.sink.wait()
    assert (span.status, span.error_code) == ("error", "client_gone")
    assert ready.gateway is not None and ready.gateway.n_active == 0


async def test_a_kept_connection_that_has_died_is_replaced_without_the_caller_noticing(ready: Bench) -> None:
    async def once(exchange: Exchange) -> None:
        await answer(exchange)
        exchange.writer.transport.abort()

    ready.upstream.handler = once
    for _ in range(4):
        assert (await ready.post(ASK)).status == 200


async def test_a_request_that_went_out_twice_counts_two_attempts(ready: Bench) -> None:
    assert ready.gateway is not None
    ready.gateway._upstreams._resend_within_s = 60.0
    await ready.post(ASK)

    async def close_once(exchange: Exchange) -> None:
        ready.upstream.handler = answer
        exchange.writer.close()

    ready.upstream.handler = close_once
    response = await ready.post(ASK)
    assert (response.status, response.headers["x-penstock-attempts"]) == (200, "2")
    span = (await ready.sink.wait(2))[1]
    assert (span.attempts, len(span.events)) == (2, 1)


async def test_interim_replies_are_skipped(ready: Bench) -> None:
    async def early(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
        await answer(exchange)

    ready.upstream.handler = early
    response = await ready.post(ASK)
    assert json.loads(await response.read()) == REPLY


async def test_a_connection_lost_behind_the_end_of_a_stream_is_no_error(ready: Bench) -> None:
    async def untidy(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.piece(b"".join(STREAM) + DONE)
        exchange.writer.close()  # without the last, empty piece

    ready.upstream.handler = untidy
    response = await ready.post({**ASK, "stream": True})
    assert await response.read() == b"".join(STREAM) + DONE
    (span,) = await ready.sink.wait()
    assert span.status == "ok"
