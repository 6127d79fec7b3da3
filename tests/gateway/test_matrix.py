"""Every client dialect against every upstream dialect, over real sockets: 36 pairs, one gateway, one upstream.

The upstream only understands its own dialect, and the clients' reading is written apart from the code under test.
"""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.dialects import registry
from penstock.gateway.app import create_gateway
from penstock.providers.prices import PriceBook
from penstock.spec.routes import Provider, RetryPolicy, Route, Target
from penstock.spec.snapshot import Limits
from penstock.spec.spans import Span
from penstock.spec.usage import Usage
from tests.fixtures.upstreams.clients import (
    PICTURE,
    ask,
    path_of,
    read_error,
    read_events,
    read_reply,
    read_stream,
    says_its_dialect,
)
from tests.fixtures.upstreams.replies import TEXT
from tests.fixtures.upstreams.server import DIALECTS, PREFIXES, dialect_of, speak
from tests.gateway.conftest import KEY, SpanList, fake_cards, key_row, serve
from tests.gateway.upstream import FakeUpstream

MODELS = ("text", "tools", "limit", "long", "broken", "late-error")
WEATHER = [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})]
USAGE = (15, 5, 8)
SPOKEN = [dialect for dialect in DIALECTS if dialect in registry.DIALECTS]
PAIRS = [pytest.param(client, server, id=f"{client}-{server}") for client in SPOKEN for server in SPOKEN]
pair = pytest.mark.parametrize(("client", "server"), PAIRS)
pytestmark = pytest.mark.asyncio(loop_scope="module")


class Matrix:
    """A gateway with a route for each upstream dialect and model: `anthropic-text`, `gemini-tools` …"""

    def __init__(
        self, url: str, upstream: FakeUpstream, sink: SpanList, session: aiohttp.ClientSession
    ) -> None:
        self.url = url
        self.upstream = upstream
        self.sink = sink
        self.session = session

    async def post(self, client: str, server: str, model: str, *, stream: bool = False, **more: bool) -> Any:
        """Send a question as `client`; return the response, read. Forgets all earlier calls."""
        self.upstream.seen.clear()
        self.sink.spans.clear()
        name = f"{server}-{model}"
        path = path_of(client, name, stream=stream)
        body = ask(client, name, stream=stream, **more)
        headers = {"authorization": f"Bearer {KEY}"}
        response = await self.session.post(self.url + path, json=body, headers=headers)
        await response.read()
        return response

    def asked(self, server: str) -> Any:
        """Return the body the upstream saw, once it is sure that it is in its own dialect."""
        (exchange,) = self.upstream.seen
        assert dialect_of(exchange)[0] == server
        assert says_its_dialect(server, exchange.json), exchange.body
        assert b"ps-test-key" not in exchange.head + exchange.body
        return exchange

    async def span(self) -> Span:
        """Return the span of the last call."""
        (span,) = await self.sink.wait()
        return span


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def matrix(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Matrix]:
    folder = tmp_path_factory.mktemp("matrix")
    upstream = await FakeUpstream(speak).start()
    origin = f"http://127.0.0.1:{upstream.port}"
    providers = [
        Provider(
            name=dialect, dialect=dialect, base_url=origin + PREFIXES[dialect], auth="none", price_id="openai"
        )
        for dialect in DIALECTS
    ]
    routes = [
        Route(
            name=f"{dialect}-{model}",
            targets=(Target(provider=dialect, model=model),),
            retry=RetryPolicy(max_attempts=1),
            breaker=None,
        )
        for dialect in DIALECTS
        for model in MODELS
    ]
    snapshot = build_snapshot(
        providers=providers, routes=routes, keys=[key_row(KEY, "test")], limits=Limits()
    )
    write_snapshot(folder / "current.json", snapshot)
    sink = SpanList()
    gateway = create_gateway(
        snapshot_path=folder / "current.json",
        sink=sink,
        counters=None,
        internal_key=None,
        environ={},
        prices=PriceBook(fake_cards),
    )
    async with serve(gateway) as port, aiohttp.ClientSession() as session:
        yield Matrix(f"http://127.0.0.1:{port}", upstream, sink, session)
    await upstream.stop()


def counted(usage: Usage | None) -> tuple[int | None, int | None, int | None]:
    assert usage is not None
    return usage.input_uncached, usage.input_cache_read, usage.output_tokens


@pair
async def test_text(matrix: Matrix, client: str, server: str) -> None:
    response = await matrix.post(client, server, "text")
    assert response.status == 200, await response.text()
    assert read_reply(client, await response.read()) == ("".join(TEXT), [])
    seen = matrix.asked(server)
    assert seen.body.count(b"Be brief.") == 1
    assert seen.body.count(b"What now?") == 1
    span = await matrix.span()
    assert counted(span.usage) == USAGE
    assert (span.status, span.model or "up-1") == (
        "ok",
        "up-1" if server not in ("bedrock", "cohere") else span.model,
    )


@pair
async def test_parallel_tool_calls(matrix: Matrix, client: str, server: str) -> None:
    response = await matrix.post(client, server, "tools", tools=True)
    assert response.status == 200, await response.text()
    _, calls = read_reply(client, await response.read())
    assert calls == WEATHER
    seen = matrix.asked(server)
    assert b'"get_weather"' in seen.body
    assert b'"city"' in seen.body


@pair
async def test_a_picture_reaches_the_provider(matrix: Matrix, client: str, server: str) -> None:
    response = await matrix.post(client, server, "text", picture=True)
    assert response.status == 200, await response.text()
    assert PICTURE.encode() in matrix.asked(server).body


@pair
@pytest.mark.parametrize("model", ["text", "tools"])
async def test_streams(matrix: Matrix, client: str, server: str, model: str) -> None:
    response = await matrix.post(client, server, model, stream=True, tools=model == "tools")
    assert response.status == 200, await response.text()
    kind = "application/vnd.amazon.eventstream" if client == "bedrock" else "text/event-stream"
    assert response.headers["content-type"].startswith(kind)
    text, calls = read_stream(client, await response.read())
    assert (text, calls) == (("".join(TEXT), []) if model == "text" else ("", WEATHER))
    matrix.asked(server)
    span = await matrix.span()
    assert counted(span.usage) == USAGE
    assert (span.status, span.streamed) == ("ok", True)


@pair
async def test_a_refusal_keeps_status_and_wait_in_the_words_of_the_client(
    matrix: Matrix, client: str, server: str
) -> None:
    response = await matrix.post(client, server, "limit")
    assert response.status == 429
    assert "Slow down." in read_error(client, await response.read())
    assert response.headers["retry-after"] == "7"
    if client == "bedrock":
        assert response.headers.getall("x-amzn-errortype") == ["ThrottlingException"]
    span = await matrix.span()
    assert (span.status, span.http_status) == ("error", 429)


@pair
async def test_a_bad_request_of_the_provider_is_one_of_the_client(
    matrix: Matrix, client: str, server: str
) -> None:
    response = await matrix.post(client, server, "long", stream=True)
    assert response.status == 400
    assert "maximum context length" in read_error(client, await response.read())


@pair
@pytest.mark.parametrize("model", ["broken", "late-error"])
async def test_a_stream_that_fails_says_so_in_the_words_of_the_client(
    matrix: Matrix, client: str, server: str, model: str
) -> None:
    response = await matrix.post(client, server, model, stream=True)
    assert response.status == 200
    stream = await response.read()
    events = read_events(client, stream)
    assert "Drink" in str(events)
    needle = "ended the stream" if model == "broken" else "It broke."
    assert needle in str(events[-1]) or (client, server, model) == ("cohere", "cohere", "late-error")
    assert b"[DONE]" not in stream
    span = await matrix.span()
    assert span.status == "error"
