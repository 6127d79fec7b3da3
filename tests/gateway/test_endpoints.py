"""Where clients may ask, with which key, and what reaches the provider of it."""

import json
from typing import Any

import aiohttp
import pytest

from penstock.spec.routes import Provider, Route, Target
from tests.fixtures.upstreams.clients import ask, path_of, read_error, read_reply
from tests.fixtures.upstreams.server import PREFIXES, speak
from tests.gateway.conftest import KEY, LIMITED_KEY, Bench, key_row, until_ready
from tests.gateway.upstream import Exchange

FORM = (
    b'--xYz\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\ncontent-type: audio/wav\r\n\r\n'
    b'RIFF\x00\xff name="model"\r\n\r\nnot this\r\n'
    b'--xYz\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n'
    b'--xYz\r\nContent-Disposition: form-data; name="language"\r\n\r\nno\r\n--xYz--\r\n'
)
FORM_KIND = "multipart/form-data; boundary=xYz"


async def speaking(bench: Bench, *dialects: str, on_loss: Any = "warn", **provider: Any) -> None:
    """Write a snapshot with one route for each dialect, called like it; all lead to the same server."""
    origin = f"http://127.0.0.1:{bench.upstream.port}"
    bench.write(
        providers=[
            Provider(
                name=name,
                dialect=name,  # type: ignore[arg-type]
                base_url=origin + PREFIXES[name],
                api_key_env="FAKE_KEY",
                price_id="openai",
                **provider,
            )
            for name in dialects
        ],
        routes=[
            Route(name=name, targets=(Target(provider=name, model="text"),), on_loss=on_loss)
            for name in dialects
        ],
    )
    bench.upstream.handler = speak
    await until_ready(bench)


async def send(bench: Bench, path: str, body: Any, **headers: str) -> aiohttp.ClientResponse:
    assert bench.client is not None
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    data = {"data": body} if isinstance(body, bytes) else {"json": body}
    response = await bench.client.post(bench.url + path, headers=names, **data)
    await response.read()
    return response


@pytest.mark.parametrize(
    ("place", "query"),
    [
        ("authorization", ""),
        ("x_api_key", ""),
        ("api_key", ""),
        ("x_goog_api_key", ""),
        (None, f"?key={KEY}"),
    ],
)
async def test_a_key_is_taken_where_official_clients_put_it_and_goes_no_further(
    bench: Bench, place: str | None, query: str
) -> None:
    await speaking(bench, "gemini")
    value = f"Bearer {KEY}" if place == "authorization" else KEY
    headers = {place: value} if place else {}
    response = await send(
        bench, path_of("gemini", "gemini", stream=False) + query, ask("gemini", "x"), **headers
    )
    assert response.status == 200, await response.text()
    (exchange,) = bench.upstream.seen
    assert KEY.encode() not in exchange.head + exchange.body
    assert b"key=" not in exchange.head


async def test_only_listed_headers_of_a_client_reach_a_provider_of_its_dialect(bench: Bench) -> None:
    await speaking(bench, "anthropic", "openai")
    sent = {"x_api_key": KEY, "anthropic_version": "2024-01-01", "anthropic_beta": "files-1", "cookie": "a=b",
            "x_forwarded_for": "1.2.3.4", "accept_language": "no"}  # fmt: skip
    for route in ("anthropic", "openai"):
        response = await send(bench, "/v1/messages", ask("anthropic", route), **sent)
        assert response.status == 200, await response.text()
    same, other = bench.upstream.seen
    assert (same.header("anthropic-version"), same.header("anthropic-beta")) == ("2024-01-01", "files-1")
    assert (other.header("anthropic-version"), other.header("anthropic-beta")) == (None, None)
    for exchange in (same, other):
        assert [exchange.header(name) for name in ("cookie", "x-forwarded-for", "accept-language")] == [
            None
        ] * 3
        assert exchange.header("authorization") == "Bearer sk-upstream-secret-123"


async def test_anthropic_is_always_told_a_version(bench: Bench) -> None:
    await speaking(bench, "anthropic")
    for client in ("anthropic", "openai"):
        await send(bench, path_of(client, "anthropic", stream=False), ask(client, "anthropic"), x_api_key=KEY)
    assert [exchange.header("anthropic-version") for exchange in bench.upstream.seen] == ["2023-06-01"] * 2


async def test_a_rows_own_headers_and_query_go_with_every_request(bench: Bench) -> None:
    await speaking(
        bench, "anthropic", headers={"Anthropic-Version": "2022-02-02"}, query={"api-version": "1 2"}
    )
    bench.upstream.handler = _reply(
        {"type": "message", "content": [{"type": "text", "text": "x"}], "usage": {}}
    )
    await send(
        bench, "/v1/messages", ask("anthropic", "anthropic"), x_api_key=KEY, anthropic_version="2024-01-01"
    )
    (exchange,) = bench.upstream.seen
    assert exchange.head.startswith(b"POST /v1/messages?api-version=1+2 HTTP/1.1\r\n")
    assert exchange.head.lower().count(b"anthropic-version") == 1
    assert exchange.header("anthropic-version") == "2022-02-02"


def _reply(body: Any, kind: str = "application/json") -> Any:
    async def handler(exchange: Exchange) -> None:
        await exchange.reply(body, kind=kind)

    return handler


async def test_of_a_form_only_the_model_is_changed(ready: Bench) -> None:
    ready.write(routes=[Route(name="whisper", targets=(Target(provider="fake", model="whisper-large-v3"),))])
    await until_ready(ready)
    ready.upstream.handler = _reply({"text": "hei"})
    response = await ready.post(FORM, "/v1/audio/transcriptions", content_type=FORM_KIND)
    assert (response.status, await response.json()) == (200, {"text": "hei"})
    (exchange,) = ready.upstream.seen
    assert exchange.body == FORM.replace(b"\r\n\r\nwhisper\r\n", b"\r\n\r\nwhisper-large-v3\r\n")
    assert exchange.header("content-type") == FORM_KIND
    (span,) = await ready.sink.wait()
    assert (span.status, span.attributes["gen_ai.operation.name"]) == ("ok", "transcription")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (FORM, "application/json"),
        (FORM, "multipart/form-data"),
        (FORM.replace(b"whisper", b""), FORM_KIND),
        (FORM.replace(b'"language"', b'"model"'), FORM_KIND),
        (FORM[:-20], FORM_KIND),
        (b"--other\r\n", FORM_KIND),
        (b"", FORM_KIND),
    ],
)
async def test_a_form_that_is_none_or_names_no_model_is_refused(ready: Bench, body: bytes, kind: str) -> None:
    response = await ready.post(body, "/v1/audio/transcriptions", content_type=kind)
    assert response.status == 400
    assert ready.upstream.seen == []


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/v1/audio/speech", b"ID3\x04\x00\xff\xfe", "audio/mpeg"),
        ("/v1/audio/transcriptions", b"1\n00:00:00,000 --> 00:00:01,000\nhei\n", "application/x-subrip"),
        ("/v1/images/generations", b"event: image_generation.completed\ndata: {}\n\n", "text/event-stream"),
    ],
)
async def test_what_is_no_json_is_passed_with_its_kind(
    ready: Bench, path: str, body: bytes, kind: str
) -> None:
    ready.upstream.handler = _reply(body, kind)
    if path.endswith("transcriptions"):
        form = FORM.replace(b"whisper", b"triage")
        response = await ready.post(form, path, content_type=FORM_KIND)
    else:
        response = await ready.post({"model": "triage", "input": "Hi", "voice": "a"}, path)
    assert (response.status, await response.read()) == (200, body)
    assert response.headers["content-type"] == kind
    assert response.headers["x-penstock-route"] == "triage"


async def test_a_web_page_instead_of_sound_is_a_failure(ready: Bench) -> None:
    ready.upstream.handler = _reply(b"<html>hello</html>", "text/html")
    assert (await ready.post({"model": "triage", "input": "x"}, "/v1/audio/speech")).status == 502


@pytest.mark.parametrize("path", ["/v1/moderations", "/v1/images/generations", "/v1/rerank"])
async def test_operations_without_a_translation_pass_to_their_own_dialect(ready: Bench, path: str) -> None:
    ready.upstream.handler = _reply({"id": "x", "results": [{"flagged": False, "unknown": 1.50}]})
    response = await ready.post({"model": "triage", "input": "Hi"}, path)
    assert (response.status, await response.json()) == (
        200,
        {"id": "x", "results": [{"flagged": False, "unknown": 1.5}]},
    )
    assert ready.upstream.seen[0].json == {"model": "gpt-4o-mini", "input": "Hi"}
    assert ready.upstream.seen[0].head.startswith(b"POST " + path.encode() + b" ")


async def test_an_operation_that_cannot_be_translated_is_refused_in_words(bench: Bench) -> None:
    await speaking(bench, "anthropic")
    response = await bench.post({"model": "anthropic", "input": "Hi"}, "/v1/moderations")
    assert response.status == 400
    assert "cannot be translated" in read_error("openai", await response.read())
    assert bench.upstream.seen == []


@pytest.mark.parametrize("client", ["openai", "anthropic", "gemini", "cohere"])
async def test_refusals_are_written_in_the_dialect_of_the_path(bench: Bench, client: str) -> None:
    await speaking(bench, "openai")
    path = path_of(client, "nobody", stream=False)
    strange = await send(bench, path, ask(client, "nobody"))
    assert strange.status == 401
    assert "API key" in read_error(client, await strange.read())
    unknown = await send(bench, path, ask(client, "nobody"), x_api_key=KEY)
    assert unknown.status == 404
    assert "'nobody' does not exist" in read_error(client, await unknown.read())
    nonsense = await send(bench, path, b"{", x_api_key=KEY)
    assert nonsense.status == 400
    assert read_error(client, await nonsense.read())


async def test_a_model_in_a_path_may_hold_anything(bench: Bench) -> None:
    await speaking(bench, "gemini")
    bench.write(
        providers=[
            Provider(
                name="g",
                dialect="gemini",
                auth="none",
                base_url=f"http://127.0.0.1:{bench.upstream.port}/v1beta",
            )
        ],
        routes=[Route(name="g/*", targets=(Target(provider="g", model="*"),))],
    )
    await until_ready(bench)
    response = await send(
        bench, "/v1beta/models/g/a%2Fb:c%20d:generateContent", ask("gemini", "x"), x_goog_api_key=KEY
    )
    assert bench.upstream.seen[0].head.startswith(
        b"POST /v1beta/models/a%2Fb%3Ac%20d:generateContent HTTP/1.1\r\n"
    )
    assert response.status != 404


async def test_gemini_streams_one_array_to_clients_that_do_not_ask_for_events(bench: Bench) -> None:
    await speaking(bench, "gemini", "openai")
    for route in ("openai",):
        path = path_of("gemini", route, stream=True).removesuffix("?alt=sse")
        response = await send(bench, path, ask("gemini", route), x_goog_api_key=KEY)
        assert response.headers["content-type"] == "application/json"
        chunks = json.loads(await response.read())
        parts = [part for chunk in chunks for part in chunk["candidates"][0]["content"].get("parts", [])]
        assert "".join(part["text"] for part in parts) == "Drink water."


async def test_tokens_are_counted_by_the_provider_or_estimated(bench: Bench) -> None:
    await speaking(bench, "anthropic", "openai")
    bench.upstream.handler = _reply({"input_tokens": 77})
    asked = {**ask("anthropic", "anthropic")}
    response = await send(bench, "/v1/messages/count_tokens", asked, x_api_key=KEY)
    assert (await response.json(), bench.upstream.seen[0].head.split()[1]) == (
        {"input_tokens": 77},
        b"/v1/messages/count_tokens",
    )
    response = await send(bench, "/v1/messages/count_tokens", {**asked, "model": "openai"}, x_api_key=KEY)
    assert (response.status, len(bench.upstream.seen)) == (200, 1)
    assert 10 < (await response.json())["input_tokens"] < 100
    assert "estimate" in response.headers["x-penstock-warning"]


async def test_models_are_listed_in_the_shape_of_the_asking_library(ready: Bench) -> None:
    assert ready.client is not None

    async def get(path: str, **headers: str) -> Any:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        assert ready.client is not None
        response = await ready.client.get(ready.url + path, headers=names)
        assert "x-penstock-trace-id" in response.headers
        return await response.json()

    listed = await get("/v1/models", authorization=f"Bearer {KEY}")
    assert [row["id"] for row in listed["data"]] == ["gpt-4o-mini", "minilm", "triage"]
    anthropic = await get("/v1/models", x_api_key=KEY, anthropic_version="2023-06-01")
    assert anthropic["data"][0]["type"] == "model"
    assert (anthropic["has_more"], anthropic["first_id"]) == (False, "gpt-4o-mini")
    gemini = await get(f"/v1beta/models?key={KEY}")
    assert [row["name"] for row in gemini["models"]][1] == "models/minilm"
    assert "embedContent" in gemini["models"][1]["supportedGenerationMethods"]
    assert (await get("/v1beta/models/triage", x_goog_api_key=KEY))["name"] == "models/triage"


@pytest.mark.parametrize("on_loss", ["warn", "refuse", "drop"])
async def test_what_a_provider_cannot_be_told_is_said_or_refused_as_the_route_wants(
    bench: Bench, on_loss: str
) -> None:
    await speaking(bench, "anthropic", on_loss=on_loss)
    response = await bench.post({**ask("openai", "anthropic"), "seed": 7})
    if on_loss == "refuse":
        assert response.status == 400
        assert "seed" in read_error("openai", await response.read())
        assert bench.upstream.seen == []
        return
    assert read_reply("openai", await response.read())[0] == "Drink water."
    assert response.headers.get("x-penstock-dropped") == ("seed" if on_loss == "warn" else None)


async def test_a_servers_quirks_are_heeded_though_the_dialect_is_the_same(bench: Bench) -> None:
    bench.write(quirks=("max_tokens", "no_developer_role"))
    await until_ready(bench)
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    response = await bench.post(
        {"model": "triage", "messages": messages, "max_completion_tokens": 9, "odd": 1.50}
    )
    assert response.status == 200
    seen = bench.upstream.seen[0].json
    assert (seen["max_tokens"], seen["messages"][0]["role"], seen["odd"]) == (9, "system", 1.5)


async def test_a_reply_by_bytes_keeps_every_unknown_member(bench: Bench) -> None:
    await speaking(bench, "anthropic")
    raw = b'{ "type":"message", "content":[{"type":"text","text":"x","odd":1.50}], "usage":{"input_tokens":1,"output_tokens":2} }'
    bench.upstream.handler = _reply(raw)
    body = json.dumps({**ask("anthropic", "anthropic"), "odd": {"kept": [1, 2.50]}}, indent=1).encode()
    response = await send(bench, "/v1/messages", body, x_api_key=KEY, content_type="application/json")
    assert await response.read() == raw
    assert bench.upstream.seen[0].body == body.replace(b'"model": "anthropic"', b'"model": "text"')


EMBEDDED = {
    "openai": {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}],
               "model": "up", "usage": {"prompt_tokens": 3, "total_tokens": 3}},
    "cohere": {"id": "e", "embeddings": {"float": [[0.5, 1.0]]}, "texts": ["Hi"],
               "meta": {"billed_units": {"input_tokens": 3}}},
    "gemini": {"embeddings": [{"values": [0.5, 1.0]}]},
}  # fmt: skip


@pytest.mark.parametrize("server", ["openai", "cohere", "gemini"])
@pytest.mark.parametrize(
    ("path", "body", "find"),
    [
        ("/v1/embeddings", {"input": "Hi"}, lambda reply: reply["data"][0]["embedding"]),
        (
            "/v2/embed",
            {"texts": ["Hi"], "input_type": "search_query", "embedding_types": ["float"]},
            lambda reply: reply["embeddings"]["float"][0],
        ),
        (
            "/v1beta/models/{}:embedContent",
            {"content": {"parts": [{"text": "Hi"}]}},
            lambda reply: (reply.get("embedding") or reply["embeddings"][0])["values"],
        ),
    ],
)
async def test_texts_are_embedded_by_providers_of_each_shape(
    bench: Bench, server: str, path: str, body: dict[str, Any], find: Any
) -> None:
    await speaking(bench, server)
    reply = EMBEDDED[server]
    if server == "gemini" and "embedContent" in path:
        reply = {"embedding": {"values": [0.5, 1.0]}}
    bench.upstream.handler = _reply(reply)
    if "{}" not in path:
        body = {**body, "model": server}
    response = await send(bench, path.format(server), body, x_api_key=KEY)
    assert response.status == 200, await response.text()
    assert find(await response.json()) == [0.5, 1.0]
    (span,) = await bench.sink.wait()
    assert span.kind == "embedding"
    if server == "openai":
        assert span.usage is not None
        assert span.usage.input_tokens == 3


@pytest.mark.parametrize("texts", [["a"], ["a", "b", "c"]])
async def test_vectors_that_are_not_as_many_as_the_texts_are_no_reply(bench: Bench, texts: list[str]) -> None:
    await speaking(bench, "cohere")
    bench.upstream.handler = _reply({"id": "e", "embeddings": {"float": [[0.5], [1.0]]}})
    response = await send(bench, "/v1/embeddings", {"model": "cohere", "input": texts}, x_api_key=KEY)
    assert response.status == 502, await response.text()


async def test_words_for_what_texts_are_embedded_for_arrive_or_are_named_as_dropped(bench: Bench) -> None:
    await speaking(bench, "cohere")
    bench.upstream.handler = _reply(EMBEDDED["cohere"])
    body = {"model": "cohere", "input": "Hi", "input_type": "search_query"}
    response = await send(bench, "/v1/embeddings", body, x_api_key=KEY)
    assert bench.upstream.seen[0].json["input_type"] == "search_query"
    assert "x-penstock-dropped" not in response.headers
    response = await send(bench, "/v1/embeddings", {**body, "input_type": "odd"}, x_api_key=KEY)
    assert response.headers["x-penstock-dropped"] == "input_type"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"previous_response_id": "resp_1", "input": "And?"}, "previous_response_id"),
        ({"conversation": "conv_1", "input": "And?"}, "conversation"),
        (
            {"input": [{"type": "item_reference", "id": "msg_1"}, {"role": "user", "content": "And?"}]},
            "item_reference",
        ),
    ],
)
async def test_what_only_its_provider_keeps_is_asked_of_no_other(
    bench: Bench, body: dict[str, Any], name: str
) -> None:
    await speaking(bench, "anthropic", "responses")
    refused = await send(bench, "/v1/responses", {"model": "anthropic", **body}, x_api_key=KEY)
    assert refused.status == 400
    assert f"`{name}`" in await refused.text()
    assert bench.upstream.seen == []
    served = await send(bench, "/v1/responses", {"model": "responses", **body}, x_api_key=KEY)
    assert served.status == 200
    assert name.encode() in bench.upstream.seen[0].body


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
@pytest.mark.parametrize("server", ["openai", "cohere"])
async def test_documents_are_ranked_by_providers_of_each_shape(bench: Bench, path: str, server: str) -> None:
    await speaking(bench, server)
    results = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]
    bench.upstream.handler = _reply({"id": "r", "model": "m", "results": results})
    body = {"model": server, "query": "q", "documents": ["a", "b"], "top_n": 2}
    response = await send(bench, path, body, x_api_key=KEY)
    assert response.status == 200, await response.text()
    assert [row["index"] for row in (await response.json())["results"]] == [1, 0]
    assert bench.upstream.seen[0].json["documents"] == ["a", "b"]
    assert bench.upstream.seen[0].json["model"] == "text"


async def test_two_callers_with_the_same_idempotency_key_are_two_to_the_provider(bench: Bench) -> None:
    bench.write(keys=[key_row(KEY, "test"), key_row(LIMITED_KEY, "other")])
    await until_ready(bench)
    for key, given in ((KEY, "1"), (KEY, "1"), (LIMITED_KEY, "1"), (KEY, "x" * 250), (KEY, "x" * 251)):
        response = await bench.post(ask("openai", "triage"), key=key, idempotency_key=given)
        assert response.status == 200, await response.text()
    first, again, other, long, longer = (
        exchange.header("idempotency-key") for exchange in bench.upstream.seen
    )
    assert first is not None
    assert first == again
    assert first.endswith("-1")
    assert len({first, other, long, longer}) == 4
    assert max(len(long or ""), len(longer or "")) <= 255, "OpenAI takes no more"
