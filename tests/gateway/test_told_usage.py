"""What a provider told is what is billed, also where its answer went to nobody or its client had left."""

import asyncio
from typing import Any

import pytest

from penstock.gateway.answers import Answer
from penstock.gateway.calls import AttemptRecord
from penstock.gateway.limits import LimitFacts
from penstock.gateway.run import discard
from penstock.spec.hub import Start, UsageSeen
from penstock.spec.routes import CachePolicy, Fallback, RetryPolicy, Route, Target
from penstock.spec.usage import Usage
from tests.fixtures.upstreams.clients import ask as write_ask
from tests.fixtures.upstreams.clients import path_of
from tests.gateway.conftest import KEY, Bench, key_row, until_ready
from tests.gateway.test_bills import ASK, some_target, usd_of, write
from tests.gateway.upstream import DONE, REPLY, STREAM, USAGE_EVENT, Exchange, answer, chunk

LONG_WORDS = "internationalisation responsibilities " * 20
"""Over four bytes a token, so that an estimate says more than the provider does."""


class Halfway:
    """An upstream that stops within its stream until it is let go on to its clean end."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.piece(STREAM[0] + chunk({"content": LONG_WORDS[:100]}))
        await self.go_on.wait()
        await exchange.piece(chunk({"content": LONG_WORDS[100:]}) + STREAM[3] + USAGE_EVENT + DONE)
        await exchange.end_stream()


@pytest.mark.parametrize("client", ["openai", "anthropic"])
async def test_a_stream_that_came_to_its_end_is_billed_as_told_though_its_client_had_left(
    bench: Bench, client: str
) -> None:
    bench.upstream.handler = halfway = Halfway()
    route = Route(name="r", targets=(Target(provider="fake", model="gpt-4o-mini"),), cancel_upstream=False)
    bench.write(routes=[route])
    await until_ready(bench)
    assert bench.client is not None
    response = await bench.client.post(
        bench.url + path_of(client, "r", stream=True),
        json=write_ask(client, "r", stream=True),
        headers={"authorization": f"Bearer {KEY}"},
    )
    await response.content.readuntil(b"internationalisation")
    response.close()
    await asyncio.sleep(0.3)  # until the gateway has seen it
    halfway.go_on.set()
    (span,) = await bench.sink.wait()
    assert span.error_code == "client_gone"
    assert span.usage is not None
    assert (span.usage.estimated, span.usage.output_tokens) == (False, 8)
    assert span.cost_usd == usd_of(span)


async def test_the_first_of_a_shared_call_leaves_and_neither_its_bill_nor_the_target_suffers(
    bench: Bench,
) -> None:
    bench.upstream.handler = halfway = Halfway()
    route = Route(
        name="r",
        targets=(Target(provider="fake", model="gpt-4o-mini"),),
        cache=CachePolicy(mode="exact", share_in_flight=True),
    )
    bench.write(routes=[route], auth="none")
    await until_ready(bench)
    gateway = bench.gateway
    assert gateway is not None
    assert bench.client is not None
    assert gateway._cache is not None
    flights = gateway._cache._flights
    body = {**ASK, "model": "r", "stream": True}

    async def until(n_readers: int) -> None:
        while sum(flight.n_readers for flight in flights.values()) != n_readers:
            await asyncio.sleep(0.002)

    first = await bench.client.post(
        bench.url + "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"}
    )
    second = asyncio.create_task(bench.post(body))
    await until(2)
    first.close()
    await until(1)
    halfway.go_on.set()
    assert (await second).status == 200
    left, shared = sorted(await bench.sink.wait(2), key=lambda span: span.error_code is None)
    assert (left.error_code, shared.cost_source) == ("client_gone", "cache")
    assert left.usage is not None
    assert (left.usage.estimated, left.usage.output_tokens) == (False, 8)
    table = gateway._watch.table
    assert table is not None
    ready = table.routes["r"]
    health = gateway._attempts._asking.health_of(ready, ready.targets[0])
    assert ready.route.breaker is not None
    assert health.recent(ready.route.breaker) == (1, 0)


FILTERED: dict[str, Any] = {
    **REPLY,
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "content_filter"}
    ],
    "usage": {"prompt_tokens": 5000, "completion_tokens": 300, "total_tokens": 5300},
}


def filtered_pieces() -> bytes:
    return chunk({"role": "assistant", "content": ""}) + chunk({}, finish="content_filter") + chunk(None, usage=FILTERED["usage"]) + DONE  # fmt: skip


@pytest.mark.parametrize("client", ["openai", "anthropic"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("helped", [False, True])
async def test_what_was_told_of_a_filtered_reply_is_billed_whoever_answers_then(
    bench: Bench, client: str, stream: bool, helped: bool
) -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.json["model"] == "gpt-4o-mini-good":
            await answer(exchange)
        elif stream:
            await exchange.begin_stream()
            await exchange.piece(filtered_pieces())
            await exchange.end_stream()
        else:
            await exchange.reply(FILTERED)

    bench.upstream.handler = handler
    other = "gpt-4o-mini-good" if helped else "gpt-4o-mini"
    bench.write(
        routes=[
            Route(
                name="r",
                targets=(Target(provider="fake", model="gpt-4o-mini"),),
                fallbacks=(Fallback(route="b", on=("content-filter",)),),
            ),
            Route(name="b", targets=(Target(provider="fake", model=other),)),
        ]
    )
    await until_ready(bench)
    response = await bench.post(
        write_ask(client, "r", stream=stream), path=path_of(client, "r", stream=stream)
    )
    assert response.status == 200
    (span,) = await bench.sink.wait()
    (lost,) = bench.sink.attempts
    for bill in [lost] if helped else [lost, span]:
        assert bill.usage is not None
        assert (bill.usage.input_tokens, bill.usage.output_tokens) == (5000, 300)
        assert not bill.usage.estimated
        assert bill.cost_usd == usd_of(bill)
    assert span.usage is not None
    assert not span.usage.estimated


async def test_a_whole_answer_that_comes_second_is_billed_as_told(bench: Bench) -> None:
    """Both answers of a race are there in the same turn of the loop."""
    target = some_target()
    late = Answer(target, status=200, record=AttemptRecord(target))
    late.usage = Usage(input_uncached=5000, output_text=300)
    discard(late)
    streamed = Answer(target, status=200, record=AttemptRecord(target), is_stream=True)
    streamed.events = [
        Start(usage=Usage(input_uncached=7)),
        UsageSeen(usage=Usage(input_uncached=7, output_text=1)),
    ]
    discard(streamed)
    for loser, tokens in ((late, (5000, 300)), (streamed, (7, 1))):
        record = loser.record
        assert record is not None
        assert record.outcome == "abandoned"
        assert record.usage is not None
        assert (record.usage.input_tokens, record.usage.output_tokens) == tokens


async def test_an_empty_reply_costs_what_the_provider_says_it_used(bench: Bench) -> None:
    async def handler(exchange: Exchange) -> None:
        if len(bench.upstream.seen) == 1:
            await exchange.reply({**FILTERED, "choices": []})
        else:
            await answer(exchange)

    bench.upstream.handler = handler
    write(bench, retry=RetryPolicy(base_s=0.001, max_s=0.002))
    await until_ready(bench)
    assert (await bench.post(ASK)).status == 200
    await bench.sink.wait()
    (lost,) = bench.sink.attempts
    assert lost.usage is not None
    assert (lost.usage.input_tokens, lost.usage.estimated) == (5000, False)


@pytest.mark.parametrize("told", [None, 1])
async def test_a_limit_counts_of_a_cut_stream_what_is_billed(bench: Bench, told: int | None) -> None:
    """A provider may tell the count of the answer's beginning, and then no more."""

    async def stops(exchange: Exchange) -> None:
        await exchange.begin_stream()
        usage = None if told is None else {"prompt_tokens": 20, "completion_tokens": told, "total_tokens": 21}
        await exchange.piece(chunk({"content": LONG_WORDS}, usage=usage))
        exchange.writer.close()

    bench.upstream.handler = stops
    bench.write(keys=[key_row(KEY, "test", tokens_per_minute=10_000_000)])
    await until_ready(bench)
    await bench.post({**ASK, "stream": True})
    (span,) = await bench.sink.wait()
    gateway = bench.gateway
    assert gateway is not None
    limiter = gateway._limiter
    assert limiter is not None
    assert span.usage is not None
    assert span.usage.output_tokens == -(-len(LONG_WORDS) // 4)
    facts = LimitFacts(
        key=key_row(KEY, "test", tokens_per_minute=10_000_000), user=None, route="gpt-4o-mini",
        model="gpt-4o-mini", prompt_tokens=1, completion_tokens=1, usd=None,
    )  # fmt: skip
    hold = await limiter.admit(facts)
    assert hold is not None
    (used,) = [taken.value - taken.taken for charge, taken in hold.lines if charge.meter.unit == "tokens"]
    assert used == (span.usage.input_tokens or 0) + span.usage.output_tokens
