"""Who pays for what: usage that was not told, requests that were lost, sums that a provider tells itself."""

import asyncio
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.gateway import journal, recorder
from penstock.gateway.calls import AttemptRecord, Call
from penstock.gateway.endpoints import CALLS
from penstock.gateway.journal import Journal
from penstock.gateway.table import ReadyTarget, Table
from penstock.providers.prices import PriceBook
from penstock.spec.routes import (
    HedgePolicy,
    PriceRow,
    Provider,
    RetryPolicy,
    Route,
    Target,
)
from penstock.spec.spans import Span
from penstock.spec.usage import Usage
from tests.gateway.conftest import KEY, Bench, SpanList, fake_cards, key_row, until_ready
from tests.gateway.upstream import REPLY, STREAM, USAGE, Exchange, answer

TEXT = "Tell me of water. " * 20
ASK: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": TEXT}]}
MILLION = Decimal(1_000_000)


def usd_of(span: Span) -> Decimal:
    """Return what the test's prices make of a span's tokens: 1 for input, 0.5 cached, 2 for output, a million."""
    usage = span.usage
    assert usage is not None
    return (
        Decimal(usage.input_uncached or 0)
        + Decimal(usage.input_cache_read or 0) / 2
        + Decimal(usage.output_text or 0) * 2
    ) / MILLION


async def test_a_reply_without_usage_is_estimated_from_its_texts_and_marked(ready: Bench) -> None:
    written = "water " * 100

    async def silent(exchange: Exchange) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": written}, "finish_reason": "stop"}
        await exchange.reply({**REPLY, "choices": [choice], "usage": None})

    ready.upstream.handler = silent
    await ready.post(ASK)
    (span,) = await ready.sink.wait()
    assert span.usage is not None
    assert span.usage.estimated
    assert span.usage.output_text == len(written) // 4
    assert span.usage.input_uncached == pytest.approx(len(TEXT) / 4, rel=0.5)
    assert span.cost_usd == usd_of(span) > 0


async def test_a_stream_without_usage_is_estimated_from_what_was_written(bench: Bench) -> None:
    bench.write(stream_usage=False)
    await until_ready(bench)
    await bench.post({**ASK, "stream": True})
    (span,) = await bench.sink.wait()
    assert span.usage is not None
    assert (span.usage.estimated, span.usage.output_text) == (True, -(-len("Drink water.") // 4))


async def test_a_stream_that_the_client_leaves_is_billed_for_what_was_written(ready: Bench) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for piece in STREAM[:3]:
            await exchange.piece(piece)
        await asyncio.sleep(30)

    ready.upstream.handler = endless
    assert ready.client is not None
    response = await ready.client.post(
        ready.url + "/v1/chat/completions",
        json={**ASK, "stream": True},
        headers={"authorization": f"Bearer {KEY}"},
    )
    await response.content.readuntil(STREAM[2])
    response.close()
    (span,) = await ready.sink.wait()
    assert (span.error_code, span.status) == ("client_gone", "error")
    assert span.usage is not None
    assert (span.usage.estimated, span.usage.output_text) == (True, 3)
    assert span.cost_usd == usd_of(span) > 0
    assert ready.sink.attempts == []


async def test_what_was_told_is_never_called_an_estimate(ready: Bench) -> None:
    for body in (ASK, {**ASK, "stream": True}):
        await ready.post(body)
    for span in await ready.sink.wait(2):
        assert span.usage is not None
        assert not span.usage.estimated
        assert span.cost_usd == usd_of(span)
        assert span.attributes["penstock.cost.rates"] == {
            "input_uncached": Decimal(1),
            "input_cache_read": Decimal("0.5"),
            "output_text": Decimal(2),
        }


async def test_the_sum_that_a_provider_tells_stands_but_the_operator_s_price_wins(bench: Bench) -> None:
    async def telling(exchange: Exchange) -> None:
        await exchange.reply({**REPLY, "usage": {**USAGE, "cost": 0.25}})

    bench.upstream.handler = telling
    bench.write()
    await until_ready(bench)
    await bench.post(ASK)
    write(
        bench,
        retry=RetryPolicy(),
        prices=(PriceRow(provider="first", model="*", usd_per_request=Decimal(7)),),
    )
    await until_ready(bench)
    await bench.post(ASK)
    told, own = await bench.sink.wait(2)
    assert (told.cost_usd, told.cost_source) == (Decimal("0.25"), "provider")
    assert told.usage is not None
    assert told.usage.reported_usd is None, "it stands in the cost, not in the tokens"
    assert own.cost_usd is None
    assert "settings has no price" in (own.cost_source or "")


async def test_a_request_that_timed_out_is_billed_beside_the_one_that_served(bench: Bench) -> None:
    n_seen = 0

    async def first_hangs(exchange: Exchange) -> None:
        nonlocal n_seen
        n_seen += 1
        if n_seen == 1:
            await asyncio.sleep(30)
        await answer(exchange)

    bench.upstream.handler = first_hangs
    write(bench, retry=RetryPolicy(base_s=0.001, max_s=0.002), first_byte_timeout_s=0.1)
    await until_ready(bench)
    response = await bench.post(ASK)
    assert response.status == 200
    (span,) = await bench.sink.wait()
    (lost,) = bench.sink.attempts
    assert (lost.parent_id, lost.trace_id, lost.kind) == (span.span_id, span.trace_id, "attempt")
    assert lost.span_id != span.span_id
    assert lost.usage is not None
    assert (lost.usage.estimated, lost.usage.output_tokens) == (True, None)
    assert lost.cost_usd == usd_of(lost) > 0
    assert (lost.status, lost.route, lost.key_id) == ("error", "gpt-4o-mini", "key_test")
    assert span.usage is not None
    assert not span.usage.estimated


async def test_the_loser_of_a_race_is_billed_once_and_the_winner_once(bench: Bench) -> None:
    n_seen = 0

    async def first_is_slow(exchange: Exchange) -> None:
        nonlocal n_seen
        n_seen += 1
        if n_seen == 1:
            await asyncio.sleep(30)
        await answer(exchange)

    bench.upstream.handler = first_is_slow
    write(bench, hedge=HedgePolicy(after_s=0.05, max_ratio=1.0), targets=("first", "second"))
    await until_ready(bench)
    assert (await bench.post(ASK)).status == 200
    await bench.sink.wait()
    assert len(bench.upstream.seen) == 2 == len(bench.sink.spans) + len(bench.sink.attempts)
    assert bench.sink.attempts[0].attributes["penstock.attempt.outcome"] == "abandoned"


async def test_what_a_provider_refuses_costs_nothing(bench: Bench) -> None:
    async def busy_then_good(exchange: Exchange) -> None:
        if len(bench.upstream.seen) == 1:
            await exchange.reply({"error": {"message": "slow down"}}, status=429)
        else:
            await answer(exchange)

    bench.upstream.handler = busy_then_good
    write(bench, retry=RetryPolicy(base_s=0.001, max_s=0.002))
    await until_ready(bench)
    assert (await bench.post(ASK)).status == 200

    async def refuse(exchange: Exchange) -> None:
        await exchange.reply(
            {"error": {"message": "no such thing", "type": "invalid_request_error"}}, status=400
        )

    bench.upstream.handler = refuse
    await bench.post(ASK)
    first, second = sorted(await bench.sink.wait(2), key=lambda span: span.start_ns)
    assert bench.sink.attempts == []
    assert first.cost_usd == usd_of(first) > 0
    assert (second.cost_usd, second.cost_source, second.usage) == (0, "refused", None)


async def test_a_request_that_was_refused_is_owed_by_nobody_from_then_on(
    bench: Bench, tmp_path: Path
) -> None:
    """A worker that dies while the next target works must not leave a bill for it."""
    go_on = asyncio.Event()
    asked_again = asyncio.Event()

    async def busy_then_slow(exchange: Exchange) -> None:
        if len(bench.upstream.seen) == 1:
            await exchange.reply({"error": {"message": "slow down"}}, status=429)
            return
        asked_again.set()
        await go_on.wait()
        await answer(exchange)

    bench.upstream.handler = busy_then_slow
    write(bench, retry=RetryPolicy(base_s=0.001, max_s=0.002))
    await until_ready(bench)
    gateway = bench.gateway
    assert gateway is not None
    kept = Journal(tmp_path / "journal")
    gateway._recorder._journal = kept
    asking = asyncio.create_task(bench.post(ASK))
    await asked_again.wait()
    (path,) = (tmp_path / "journal").glob("*.bin")
    ((opened, settled),) = journal._read_slots(path.read_bytes())
    go_on.set()
    assert (await asking).status == 200
    (span,) = await bench.sink.wait()
    assert (opened.span_id, opened.is_first, settled) == (span.span_id, True, None)
    assert kept.n_open == 0
    assert span.attempts == 2


def test_when_the_recorder_is_behind_the_event_loop_waits_for_no_price(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder, "_QUEUE_CALLS", 2)
    let_go, loaded = threading.Event(), []

    def slow(wanted: Any) -> Any:
        let_go.wait(2)
        loaded.append(wanted)
        return fake_cards(wanted)

    sink = SpanList()
    keeper = recorder.CallRecorder(sink, PriceBook(slow))
    keeper.start()
    target = some_target()
    for _ in range(6):
        call = Call(CALLS["/v1/chat/completions"], None)
        call.target, call.n_sent, call.http_status = target, 1, 200
        call.usage = Usage(input_uncached=1, output_text=1)
        record = AttemptRecord(target)
        record.outcome, record.status = "served", 200
        call.attempt_log.append(record)
        keeper.record(call, capture=True, max_payload_bytes=1000)
    assert loaded == [], "nobody waited"
    let_go.set()
    keeper.close()
    assert len(sink.spans) == 6
    known = [span for span in sink.spans if span.cost_usd is not None]
    late = [span for span in sink.spans if span.cost_usd is None]
    assert known
    assert keeper.dropped_payloads == len(late) > 0
    assert {span.cost_source for span in late} == {"the price was not loaded when the call was recorded"}


def some_target() -> ReadyTarget:
    table = Table(
        build_snapshot(
            providers=[Provider(name="p", base_url="http://127.0.0.1:1", auth="none", price_id="openai")],
            routes=[Route(name="r", targets=(Target(provider="p", model="gpt-4o-mini"),))],
            keys=[],
        ),
        environ={},
        internal_key=None,
    )
    return table.routes["r"].targets[0]


def write(
    bench: Bench,
    *,
    retry: RetryPolicy | None = None,
    hedge: HedgePolicy | None = None,
    targets: tuple[str, ...] = ("first",),
    prices: tuple[PriceRow, ...] = (),
    **provider: Any,
) -> None:
    """Write a snapshot whose one route has these targets, all at the test's provider."""
    rows = [
        Provider(**{"name": name, "base_url": bench.upstream.url, "price_id": "openai", **provider})
        for name in targets
    ]
    route = Route(
        name="gpt-4o-mini",
        targets=tuple(
            Target(provider=name, model="gpt-4o-mini", tier=number) for number, name in enumerate(targets)
        ),
        retry=retry or RetryPolicy(),
        hedge=hedge,
    )
    write_snapshot(
        bench.folder / "current.json",
        build_snapshot(providers=rows, routes=[route], keys=[key_row(KEY, "test")], prices=prices),
    )
