"""What the gateway refuses, in OpenAI's shape, with a text one can act on."""

import asyncio
import json
import threading
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from penstock.dialects.openai.dialect import OPENAI
from penstock.dialects.port import Envelope
from penstock.gateway.http import LONG_BODY_BYTES
from penstock.spec.routes import Route, Target
from penstock.spec.snapshot import Limits
from tests.gateway.conftest import KEY, Bench, key_row, until_ready

ASK = {"model": "gpt-4o-mini", "messages": []}


async def error_of(response: object) -> dict[str, str]:
    body = json.loads(await response.read())  # type: ignore[attr-defined]
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer ps-wrong", "Bearer \xff\xfe"]
)
async def test_a_missing_or_wrong_key_is_a_401(ready: Bench, header: str | None) -> None:
    assert ready.client is not None
    headers = {} if header is None else {"authorization": header}
    response = await ready.client.post(ready.url + "/v1/chat/completions", json=ASK, headers=headers)
    assert response.status == 401
    error = await error_of(response)
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    assert "ps-wrong" not in error["message"]
    assert not ready.upstream.seen
    assert "x-penstock-trace-id" not in response.headers  # a stranger leaves no trace that it could name
    assert not ready.sink.spans


async def test_the_official_client_raises_its_own_errors(ready: Bench) -> None:
    async with AsyncOpenAI(base_url=f"{ready.url}/v1", api_key="ps-wrong-key", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    async with AsyncOpenAI(base_url=f"{ready.url}/v1", api_key=KEY, max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="Did you mean 'gpt-4o-mini'") as caught:
            await client.chat.completions.create(model="gpt4o-mini", messages=[])
        assert caught.value.code == "model_not_found"


async def test_an_unknown_model_names_the_known_ones_the_nearest_first(ready: Bench) -> None:
    response = await ready.post({**ASK, "model": "triag"})
    assert response.status == 404
    error = await error_of(response)
    assert "Known models: triage, " in error["message"]
    assert error["param"] == "model"
    (span,) = await ready.sink.wait()
    assert (span.status, span.route, span.attempts) == ("error", "triag", 0)
    assert (span.cost_usd, span.cost_source) == (0, "not sent")


async def test_long_bodies_are_read_beside_the_event_loop(
    ready: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    peek = OPENAI.peek

    def note_thread(*args: Any, **named: Any) -> Envelope:
        threads.append(threading.current_thread())
        return peek(*args, **named)

    monkeypatch.setattr(type(OPENAI), "peek", lambda _, *args, **named: note_thread(*args, **named))
    for size in (10, LONG_BODY_BYTES):
        assert (await ready.post({**ASK, "model": "triage", "x": "y" * size})).status == 200
    assert [thread is threading.main_thread() for thread in threads] == [True, False]
    assert ready.upstream.seen[1].json == {**ASK, "x": "y" * LONG_BODY_BYTES}


async def test_a_key_sees_and_calls_only_its_routes(bench: Bench) -> None:
    bench.write(keys=[key_row(KEY, "test", routes=("triage",))])
    await until_ready(bench)
    response = await bench.post(ASK)
    assert response.status == 404
    assert "gpt-4o-mini," not in (await error_of(response))["message"]
    assert (await bench.post({**ASK, "model": "triage"})).status == 200
    assert bench.client is not None
    listed = await bench.client.get(bench.url + "/v1/models", headers={"authorization": f"Bearer {KEY}"})
    assert [model["id"] for model in (await listed.json())["data"]] == ["triage"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b"nonsense", "not valid JSON"),
        (b'{"model": 1}', "`model` is wrong"),
        (b'{"messages": []}', "names no `model`"),
        (b'{"model": "gpt-4o-mini", "stream": 3}', "`stream` is wrong"),
        (b'{"model": "gpt-4o-mini", "x": "\xc3\x28"}', "not valid UTF-8"),
        (b'{"model": "gpt-4o-mini", "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "deeper than 64"),
    ],
)
async def test_a_bad_body_is_a_400_that_says_why(ready: Bench, body: bytes, says: str) -> None:
    response = await ready.post(body)
    assert response.status == 400
    error = await error_of(response)
    assert error["type"] == "invalid_request_error"
    assert says in error["message"]
    assert not ready.upstream.seen
    await ready.sink.wait()


async def test_a_body_over_the_limit_is_a_413_declared_or_not(bench: Bench) -> None:
    bench.write(limits=Limits(max_body_bytes=10_000))
    await until_ready(bench)
    body = json.dumps({**ASK, "x": "y" * 20_000}).encode()
    assert (await bench.post(body)).status == 413

    async def pieces() -> object:
        for at in range(0, len(body), 1000):
            yield body[at : at + 1000]

    assert bench.client is not None
    response = await bench.client.post(
        bench.url + "/v1/chat/completions", data=pieces(), headers={"authorization": f"Bearer {KEY}"}
    )
    assert response.status == 413
    assert (await error_of(response))["code"] == "request_too_large"
    span = (await bench.sink.wait(2))[1]
    assert span.trace_id == response.headers["x-penstock-trace-id"]
    assert (span.error_code, span.http_status, span.key_id) == ("PS-1608", 413, "key_test")
    assert (span.input, span.output, span.cost_usd) == (None, None, 0)


async def test_refusals_say_how_long_they_took(ready: Bench) -> None:
    for key in (KEY, "ps-wrong"):
        response = await ready.post({**ASK, "model": "unknown"}, key=key)
        assert float(response.headers["x-penstock-overhead-ms"]) >= 0
    (span,) = await ready.sink.wait()
    assert span.overhead_ms is not None


async def begin_upload(bench: Bench) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send the head of a call and a first byte of its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(bench.url.rsplit(":", 1)[1]))
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n"
    writer.write(f"{head}authorization: Bearer {KEY}\r\n\r\n{{".encode())
    return reader, writer


async def test_a_call_counts_from_the_moment_its_body_is_awaited(bench: Bench) -> None:
    bench.write(limits=Limits(max_concurrent_calls=1))
    await until_ready(bench)
    assert bench.gateway is not None
    _, writer = await begin_upload(bench)
    while not bench.gateway.n_active:
        await asyncio.sleep(0.002)
    response = await bench.post(ASK)
    assert response.status == 503
    assert "1 calls are being served" in (await error_of(response))["message"]
    writer.close()
    while bench.gateway.n_active:
        await asyncio.sleep(0.002)
    assert (await bench.post(ASK)).status == 200


async def test_a_body_that_does_not_arrive_is_given_up(ready: Bench) -> None:
    assert ready.gateway is not None
    ready.gateway._uploads.limit_s = 0.02
    reader, writer = await begin_upload(ready)
    reply = await reader.read()  # to its end: the connection is closed
    writer.close()
    assert reply.startswith(b"HTTP/1.1 408")
    assert b"did not arrive within 0.02 s" in reply
    (span,) = await ready.sink.wait()
    assert (span.error_code, span.http_status) == ("PS-1609", 408)
    assert ready.gateway.n_active == 0


async def test_an_embedding_route_says_which_endpoint_it_has(ready: Bench) -> None:
    response = await ready.post({**ASK, "model": "minilm"})
    assert response.status == 400
    assert "/v1/embeddings" in (await error_of(response))["message"]


async def test_unknown_paths_and_methods_say_what_there_is(ready: Bench) -> None:
    assert ready.client is not None
    response = await ready.client.post(ready.url + "/v1/fine_tuning/jobs", json={})
    assert response.status == 404
    assert "/v1/chat/completions" in (await error_of(response))["message"]
    response = await ready.client.get(ready.url + "/v1/chat/completions")
    assert (response.status, response.headers["allow"]) == (405, "POST")
    response = await ready.client.post(ready.url + "/v1/models", json={})
    assert (response.status, response.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/metrics"])
async def test_a_query_without_end_is_refused_in_words(
    ready: Bench, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert ready.client is not None
    method = "POST" if path.startswith("/v1/chat") else "GET"
    response = await ready.client.request(method, f"{ready.url}{path}?{'&'.join(['a=1'] * 65)}", json={})
    assert response.status == 400
    assert (await error_of(response))["code"] == "PS-1001"
    assert caplog.records == []


async def test_what_fails_on_a_page_that_is_no_call_is_told_in_json(
    ready: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("boom")

    monkeypatch.setattr("penstock.gateway.app.describe_models", fail)
    assert ready.client is not None
    response = await ready.client.get(ready.url + "/v1/models", headers={"authorization": f"Bearer {KEY}"})
    assert response.status == 500
    assert (await error_of(response))["code"] == "PS-9000"


async def test_nothing_a_client_sends_becomes_a_header(bench: Bench) -> None:
    evil = "x\r\nx-injected: 1"
    bench.write(
        local=True,
        routes=[Route(name=evil.replace("\r\n", " "), targets=(Target(provider="fake", model="m é"),))],
    )
    await until_ready(bench)
    response = await bench.post({"model": evil, "messages": []})
    assert response.status == 404
    assert "x-injected" not in response.headers
    response = await bench.post({"model": "x x-injected: 1", "messages": []}, x_penstock_user="ü\tb")
    assert response.headers["x-penstock-model"] == "m ?"
    assert b"x-injected" not in bench.upstream.seen[0].head


async def test_a_gateway_without_snapshot_is_not_ready_but_alive(bench: Bench) -> None:
    assert bench.client is not None
    assert (await bench.client.get(bench.url + "/healthz")).status == 200
    response = await bench.client.get(bench.url + "/readyz")
    assert response.status == 503
    response = await bench.post(ASK)
    assert response.status == 503
    assert "penstock up" in (await error_of(response))["message"]
    bench.write()
    await until_ready(bench)
    response = await bench.client.get(bench.url + "/readyz")
    assert (await response.json())["snapshot"].startswith("sha256:")


async def test_a_provider_key_that_is_not_set_is_named_without_a_value(bench: Bench) -> None:
    bench.write(api_key_env="NO_SUCH_KEY")
    await until_ready(bench)
    response = await bench.post(ASK)
    assert response.status == 503
    assert "NO_SUCH_KEY" in (await error_of(response))["message"]


async def test_too_many_calls_at_once_are_turned_away(bench: Bench) -> None:
    bench.write(limits=Limits(max_concurrent_calls=1))
    await until_ready(bench)
    assert bench.gateway is not None
    bench.gateway.n_active = 1
    response = await bench.post(ASK)
    bench.gateway.n_active = 0
    assert response.status == 503
    assert (await error_of(response))["code"] == "overloaded"
