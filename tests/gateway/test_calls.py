"""What a client gets from a good provider: bytes untouched, usage, money, one span."""

import json
from decimal import Decimal

import msgspec
from openai import AsyncOpenAI

from penstock.spec.routes import Provider, Route, Target
from tests.gateway.conftest import KEY, Bench, until_ready
from tests.gateway.upstream import DONE, REPLY, STREAM, USAGE_EVENT, Exchange

ASK = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "How much water?"}],
    "odd": {"x": [1, None]},
}


async def test_request_and_reply_pass_byte_for_byte(ready: Bench) -> None:
    body = b'{ "model":"gpt-4o-mini" , "odd": [1.50, "\\u00e9", {"z":null}], "messages":[] }'
    response = await ready.post(body)
    assert response.status == 200
    assert await response.read() == json.dumps(REPLY).encode()
    assert ready.upstream.seen[0].body == body


async def test_only_the_model_is_replaced_when_the_route_has_another_name(ready: Bench) -> None:
    body = (
        b'{"messages": [{"role": "user", "content": "model"}],  "model" : "triage", "x": {"model": "triage"}}'
    )
    await ready.post(body)
    assert ready.upstream.seen[0].body == body.replace(b' : "triage"', b' : "gpt-4o-mini"')


async def test_reply_headers_say_what_served_the_call(ready: Bench) -> None:
    headers = (await ready.post(ASK)).headers
    assert headers["x-penstock-route"] == "gpt-4o-mini"
    assert headers["x-penstock-provider"] == "fake"
    assert headers["x-penstock-model"] == "gpt-4o-mini"
    assert headers["x-penstock-version"] == "v3"
    assert headers["x-penstock-attempts"] == "1"
    assert float(headers["x-penstock-overhead-ms"]) >= 0
    assert len(headers["x-penstock-trace-id"]) == 32


async def test_one_call_leaves_one_span_with_disjoint_usage_and_exact_money(ready: Bench) -> None:
    response = await ready.post(ASK, x_penstock_session="s-1", x_penstock_user="u-1")
    (span,) = await ready.sink.wait()
    assert span.trace_id == response.headers["x-penstock-trace-id"]
    assert (span.kind, span.status, span.route, span.provider) == ("llm", "ok", "gpt-4o-mini", "fake")
    assert span.model == "gpt-4o-mini-2024-07-18"
    assert (span.key_id, span.session_id, span.user_id, span.http_status) == ("key_test", "s-1", "u-1", 200)
    assert span.usage is not None
    assert (span.usage.input_uncached, span.usage.input_cache_read, span.usage.output_text) == (15, 5, 8)
    assert span.cost_usd == (15 * Decimal(1) + 5 * Decimal("0.5") + 8 * Decimal(2)) / 1_000_000
    assert span.cost_source == "test prices"
    assert span.end_ns is not None and span.end_ns >= span.start_ns
    assert json.loads(msgspec.json.encode(span.input)) == ASK
    assert json.loads(msgspec.json.encode(span.output)) == REPLY


async def test_the_caller_s_trace_is_continued(ready: Bench) -> None:
    trace, parent = "a" * 32, "b" * 16
    response = await ready.post(ASK, traceparent=f"00-{trace}-{parent}-01")
    (span,) = await ready.sink.wait()
    assert (span.trace_id, span.parent_id) == (trace, parent)
    assert response.headers["x-penstock-trace-id"] == trace
    assert ready.upstream.seen[0].header("traceparent") is None


async def test_a_broken_traceparent_begins_a_new_trace(ready: Bench) -> None:
    for value in (
        "00-" + "0" * 32 + "-" + "b" * 16 + "-01",
        "junk",
        "00-" + "A" * 32 + "-" + "b" * 16 + "-01",
    ):
        await ready.post(ASK, traceparent=value)
    assert all(span.parent_id is None for span in await ready.sink.wait(3))


async def test_local_providers_get_the_internal_key_the_trace_and_cost_nothing(bench: Bench) -> None:
    bench.write(local=True, price_id=None)
    await until_ready(bench)
    await bench.post(ASK, x_penstock_session="s\t9")
    (span,) = await bench.sink.wait()
    seen = bench.upstream.seen[0]
    assert seen.header("authorization") == "Bearer internal-secret"
    assert seen.header("traceparent") == f"00-{span.trace_id}-{span.span_id}-01"
    assert seen.header("x-penstock-session") == "s9"
    assert (span.cost_usd, span.cost_source) == (Decimal(0), "local")


async def test_providers_get_their_own_key_and_never_the_caller_s(bench: Bench) -> None:
    bench.write(api_key_env="FAKE_KEY")
    await until_ready(bench)
    await bench.post(ASK)
    assert bench.upstream.seen[0].header("authorization") == "Bearer sk-upstream-secret-123"
    assert KEY.encode() not in bench.upstream.seen[0].head


async def test_an_unknown_price_is_none_with_the_reason(bench: Bench) -> None:
    bench.write(price_id=None)
    await until_ready(bench)
    await bench.post(ASK)
    (span,) = await bench.sink.wait()
    assert span.cost_usd is None
    assert "price_id" in (span.cost_source or "")


async def test_streams_pass_event_by_event_and_the_unasked_usage_is_taken_out(ready: Bench) -> None:
    response = await ready.post({**ASK, "stream": True})
    assert response.headers["content-type"] == "text/event-stream"
    assert await response.read() == b"".join(STREAM) + DONE
    assert ready.upstream.seen[0].json["stream_options"] == {"include_usage": True}
    (span,) = await ready.sink.wait()
    assert span.streamed and span.status == "ok"
    assert span.ttft_ms is not None and span.ttft_ms > 0
    assert span.usage is not None and span.usage.output_text == 8
    assert span.cost_usd is not None
    assert span.output["choices"][0]["message"]["content"] == "Drink water."


async def test_usage_that_was_asked_for_stays(ready: Bench) -> None:
    response = await ready.post({**ASK, "stream": True, "stream_options": {"include_usage": True}})
    assert await response.read() == b"".join(STREAM) + USAGE_EVENT + DONE


async def test_the_official_client_works_with_and_without_streaming(ready: Bench) -> None:
    async with AsyncOpenAI(base_url=f"{ready.url}/v1", api_key=KEY, max_retries=0) as client:
        messages = [{"role": "user", "content": "How much water?"}]
        reply = await client.chat.completions.create(model="gpt-4o-mini", messages=messages)  # type: ignore[arg-type]
        assert reply.choices[0].message.content == "Drink water."
        stream = await client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True)  # type: ignore[arg-type]
        text = "".join([part.choices[0].delta.content or "" async for part in stream])
        assert text == "Drink water."
        vectors = await client.embeddings.create(model="minilm", input="water", encoding_format="float")
        assert vectors.data[0].embedding == [0.5, 1.0]
        listed = [model.id async for model in await client.models.list()]
        assert sorted(listed) == ["gpt-4o-mini", "minilm", "triage"]
        assert (await client.models.retrieve("triage")).owned_by == "penstock"
    spans = await ready.sink.wait(3)
    assert [span.kind for span in spans if span.route == "minilm"] == ["embedding"]


async def test_members_an_app_adds_survive_a_stream(ready: Bench) -> None:
    cited = USAGE_EVENT.replace(b'"usage"', b'"citations": [{"document": "sleep.md"}], "usage"')

    async def app(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for piece in (*STREAM, cited, DONE):
            await exchange.piece(piece)
        await exchange.end_stream()

    ready.upstream.handler = app
    response = await ready.post({**ASK, "stream": True})
    assert await response.read() == b"".join(STREAM) + cited + DONE


async def test_weights_share_the_calls(bench: Bench) -> None:
    targets = tuple(
        Target(provider="fake", model=name, weight=weight) for name, weight in (("a", 3.0), ("b", 1.0))
    )
    bench.write(routes=[Route(name="split", targets=targets)])
    await until_ready(bench)
    models = [
        (await bench.post({"model": "split", "messages": []})).headers["x-penstock-model"] for _ in range(60)
    ]
    assert models.count("a") > models.count("b") > 0


async def test_connections_to_a_provider_are_kept(ready: Bench) -> None:
    for _ in range(5):
        await ready.post(ASK)
    assert len(ready.upstream.seen) == 5
    assert ready.gateway is not None and ready.gateway._upstreams.n_connects == 1


async def test_long_payloads_are_cut_in_the_span_and_never_in_the_call(bench: Bench) -> None:
    from penstock.spec.snapshot import Limits

    bench.write(limits=Limits(max_payload_bytes=1000))
    await until_ready(bench)
    text = "x" * 5000
    response = await bench.post({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]})
    assert response.status == 200
    assert text.encode() in bench.upstream.seen[0].body
    (span,) = await bench.sink.wait()
    assert span.input["penstock_cut"]["kept_bytes"] == 1000
    assert len(span.input["text"]) == 1000


async def test_payloads_can_be_left_out_altogether(bench: Bench) -> None:
    from penstock.spec.snapshot import Limits

    bench.write(limits=Limits(capture_payloads=False))
    await until_ready(bench)
    await bench.post({**ASK, "stream": True})
    (span,) = await bench.sink.wait()
    assert (span.input, span.output, span.payload_dropped) == (None, None, True)
    assert span.usage is not None


async def test_a_provider_that_must_not_be_asked_for_usage_is_not(bench: Bench) -> None:
    bench.write(
        providers=[Provider(name="fake", base_url=bench.upstream.url, auth="none", stream_usage=False)]
    )
    await until_ready(bench)
    await bench.post({**ASK, "stream": True})
    assert "stream_options" not in bench.upstream.seen[0].json
