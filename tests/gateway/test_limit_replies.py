"""Limits as clients meet them: refusals in their own words, headers, warnings, money, what is said to operators."""

import json
from decimal import Decimal
from typing import Any

import pytest

from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.spec.limits import LimitRule
from penstock.spec.routes import Provider, RetryPolicy, Route, Target
from penstock.spec.snapshot import Snapshot
from tests.fixtures.redis import RedisServer, redis_server
from tests.gateway.conftest import Bench, key_row, until_ready
from tests.gateway.upstream import REPLY, Exchange

__all__ = ["redis_server"]

KEY = "ps-rules-key-0123456789"
ASK = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50}


def rule(scope: Any, unit: Any, amount: Any, **fields: Any) -> LimitRule:
    values = {"name": f"{scope}-{unit}", "window": "month", **fields}
    return LimitRule(scope=scope, unit=unit, amount=Decimal(amount), **values)


async def begin(bench: Bench, *rules: LimitRule, **snapshot: Any) -> None:

    row = Provider(name="fake", base_url=bench.upstream.url, auth="none", price_id="openai")
    routes = snapshot.pop("routes", None) or [
        Route(name="m", targets=(Target(provider="fake", model="gpt-4o-mini"),)),
        Route(name="claude", targets=(Target(provider="fake", model="gpt-4o-mini"),)),
    ]
    built: Snapshot = build_snapshot(
        providers=[row],
        routes=routes,
        keys=[key_row(KEY, "rules")],
        limit_rules=list(rules),
        **snapshot,
    )
    write_snapshot(bench.folder / "current.json", built)
    await until_ready(bench)


async def test_rules_refuse_with_name_use_and_reset_and_tell_what_is_left_before(bench: Bench) -> None:
    await begin(bench, rule("user", "requests", 2, name="per-user"))
    first, second, third = [await bench.post(ASK, key=KEY, x_penstock_user="anna") for _ in range(3)]
    other = await bench.post(ASK, key=KEY, x_penstock_user="bob")
    assert [first.status, second.status, third.status, other.status] == [200, 200, 429, 200]
    assert [first.headers["x-ratelimit-remaining-requests"], second.headers["x-ratelimit-remaining-requests"]] == [
        "1", "0",
    ]  # fmt: skip
    message = json.loads(await third.read())["error"]["message"]
    assert "user 'anna' (rule 'per-user'): 2 requests per month, 2 used" in message
    assert int(third.headers["retry-after"]) > 0
    assert len(bench.upstream.seen) == 3
    *_, span = [span for span in await bench.sink.wait(4) if span.error_code]
    assert (span.error_code, span.http_status) == ("PS-2601", 429)


async def test_a_refusal_speaks_the_dialect_of_the_client(bench: Bench) -> None:
    await begin(bench, rule("all", "requests", 1))
    await bench.post(ASK, key=KEY)
    body = {"model": "claude", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    refused = await bench.post(body, "/v1/messages", key=KEY)
    assert refused.status == 429
    told = json.loads(await refused.read())
    assert (told["type"], told["error"]["type"]) == ("error", "rate_limit_error")
    assert "all-requests" in told["error"]["message"]


async def test_money_is_reserved_at_its_price_and_settled_by_what_was_used(bench: Bench) -> None:
    """The fake model costs $1 a million tokens in and $2 out; a call reserves about 22 + 2 × max_tokens of a million."""
    await begin(bench, rule("project", "usd", "0.0002", name="team"))
    assert bench.gateway is not None
    bench.gateway._prices.preload([("openai", "gpt-4o-mini")])
    first = await bench.post(ASK, key=KEY)
    (span,) = await bench.sink.wait()
    assert first.status == 200
    refused = await bench.post({**ASK, "max_tokens": 90}, key=KEY)
    assert refused.status == 429
    error = json.loads(await refused.read())["error"]
    assert error["code"] == "insufficient_quota"
    assert (
        f"$0.0002 per month, ${span.cost_usd:f} used and this call may cost about $0.000" in error["message"]
    )
    assert refused.headers["x-should-retry"] == "false"
    assert (await bench.post(ASK, key=KEY)).status == 200, "a smaller one still fits"


async def used(bench: Bench, count: int) -> list[int]:
    """Return the values of all counters, when `count` calls have been recorded."""
    await bench.sink.wait(count)
    assert bench.gateway is not None
    assert bench.gateway._limiter is not None
    return [one.value for one in bench.gateway._limiter._local.list_counters("")]


@pytest.mark.parametrize("has_answer", [True, False])
async def test_requests_that_were_lost_are_billed_and_count(bench: Bench, has_answer: bool) -> None:
    routes = [
        Route(
            name="m",
            targets=tuple(Target(provider="fake", model=name) for name in ("gpt-4o-mini", "gpt-4o-mini-2")),
            retry=RetryPolicy(max_attempts=2),
        )
    ]
    await begin(bench, rule("key", "tokens", 1_000_000), rule("key", "usd", 50), routes=routes)
    assert bench.gateway is not None
    bench.gateway._prices.preload([("openai", name) for name in ("gpt-4o-mini", "gpt-4o-mini-2")])

    async def is_lost_at_first(exchange: Exchange) -> None:
        if len(bench.upstream.seen) == 1 or not has_answer:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"
            await exchange.send(head)
            exchange.writer.close()
        else:
            await exchange.reply(REPLY)

    bench.upstream.handler = is_lost_at_first
    asked = {"model": "m", "messages": [{"role": "user", "content": "word " * 2000}]}
    response = await bench.post(asked, key=KEY)
    assert response.status == (200 if has_answer else 502)
    tokens, nanos = await used(bench, 1)
    spans = [*bench.sink.spans, *bench.sink.attempts]
    assert len(spans) == 2
    billed = sum(span.cost_usd or 0 for span in spans)
    n_billed = sum(
        (span.usage.input_tokens or 0) + (span.usage.output_tokens or 0) for span in spans if span.usage
    )
    assert billed > Decimal("0.002") * (1 if has_answer else 2)
    assert tokens >= n_billed
    assert nanos >= billed * 10**9


async def test_a_rule_that_warns_serves_with_a_header(bench: Bench) -> None:
    await begin(bench, rule("all", "requests", 1, action="warn", name="soft"))
    first, second = [await bench.post(ASK, key=KEY) for _ in range(2)]
    assert "x-penstock-limit-warning" not in first.headers
    assert second.status == 200
    assert second.headers["x-penstock-limit-warning"].startswith("rule 'soft' for all calls: 2 of 1 requests")


async def test_our_limits_stand_in_place_of_the_providers(bench: Bench) -> None:
    await begin(bench, rule("all", "requests", 10))

    async def tells_its_own(exchange: Exchange) -> None:
        own = "x-ratelimit-limit-requests: 9999\r\nx-ratelimit-limit-tokens: 5\r\n"
        await exchange.reply(REPLY, extra=own)

    bench.upstream.handler = tells_its_own
    response = await bench.post(ASK, key=KEY)
    assert response.status == 200
    assert response.headers.getall("x-ratelimit-limit-requests") == ["10"]
    assert response.headers.getall("x-ratelimit-limit-tokens") == ["5"], "we have none, so theirs stays"


@pytest.mark.parametrize("status", [400, 500])
async def test_what_providers_refuse_counts_as_a_request_and_costs_nothing(bench: Bench, status: int) -> None:
    await begin(bench, rule("all", "requests", 2), rule("all", "tokens", 100))

    async def refuses(exchange: Exchange) -> None:
        await exchange.reply({"error": {"message": "no", "type": "x", "param": None}}, status=status)

    bench.upstream.handler = refuses
    statuses = [(await bench.post(ASK, key=KEY)).status for _ in range(3)]
    assert statuses == [status, status, 429]


async def test_a_call_that_was_never_sent_gives_its_request_back(bench: Bench) -> None:
    await begin(bench, rule("all", "requests", 1))
    await bench.upstream.stop()
    broken = [(await bench.post(ASK, key=KEY)).status for _ in range(2)]
    assert 429 not in broken
    await bench.upstream.start()


async def test_redis_gone_is_told_on_readyz(
    bench: Bench, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench.gateway is not None
    assert bench.client is not None
    monkeypatch.setitem(bench.gateway._watch._environ, "SHARED", redis_server.url)
    redis_server.kill()
    await begin(bench, rule("all", "requests", 1), redis_url_env="SHARED")
    statuses = [(await bench.post(ASK, key=KEY)).status for _ in range(2)]
    assert statuses == [200, 429], "this machine counts alone"
    while True:
        async with bench.client.get(bench.url + "/readyz") as response:
            told = await response.json()
        if told.get("warnings"):
            break
    assert told["status"] == "ready"
    assert "Redis is gone" in told["warnings"][0]


async def test_redis_gone_is_told_in_the_metrics(
    bench: Bench, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench.gateway is not None
    monkeypatch.setitem(bench.gateway._watch._environ, "SHARED", redis_server.url)

    async def told(name: str) -> float:
        assert bench.gateway is not None
        page = (await bench.gateway._metrics.write_page(None, b"text/plain")).decode()
        return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(name))

    await begin(bench, rule("all", "requests", 10), redis_url_env="SHARED")
    assert bench.gateway._limiter is not None
    await bench.gateway._limiter.settled()
    assert (await told("penstock_limits_alone"), await told("penstock_redis_lost_total")) == (0, 0)
    redis_server.kill()
    while await told("penstock_limits_alone") == 0:
        await bench.post(ASK, key=KEY)
    assert await told("penstock_redis_lost_total") == 1
