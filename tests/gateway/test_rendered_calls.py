"""What an engine says of the tokens it evaluated stands on the span of the call; nobody else is believed."""

from typing import Any

import pytest

from tests.gateway.conftest import Bench
from tests.gateway.test_calls import ASK, until_ready
from tests.gateway.upstream import DONE, REPLY, STREAM, Exchange

RENDERER, IDS = "sha256:" + "a" * 64, "sha256:" + "b" * 64
SAID = f"x-penstock-renderer: {RENDERER}\r\nx-penstock-prompt-ids: {IDS}\r\n"
KEPT = {"penstock.renderer.digest": RENDERER, "penstock.prompt.ids_sha256": IDS}


async def tell(exchange: Exchange) -> None:
    """Answer as an engine of ours does."""
    if not exchange.json.get("stream"):
        await exchange.reply(REPLY, extra=SAID)
        return
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{SAID}transfer-encoding: chunked\r\n\r\n"
    await exchange.send(head.encode())
    for piece in [*STREAM, DONE]:
        await exchange.piece(piece)
    await exchange.end_stream()


def kept_of(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name in KEPT}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_span_of_a_call_of_an_engine_says_what_was_evaluated(
    bench: Bench, stream: bool, path: str
) -> None:
    bench.write(local=True, price_id=None)
    bench.upstream.handler = tell
    await until_ready(bench)
    await bench.post({**ASK, "max_tokens": 9, "stream": stream}, path)
    (span,) = await bench.sink.wait()
    assert kept_of(span.attributes) == KEPT


async def test_a_provider_elsewhere_cannot_say_what_we_rendered(bench: Bench) -> None:
    bench.write()
    bench.upstream.handler = tell
    await until_ready(bench)
    await bench.post(ASK)
    (span,) = await bench.sink.wait()
    assert kept_of(span.attributes) == {}
