"""Replies that are given again: what is a hit and what never is, who shares, what a hit costs, calls in flight together."""

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.spec.limits import LimitRule
from penstock.spec.routes import CachePolicy, Fallback, Provider, RetryPolicy, Route, Target
from penstock.store.response_cache import Mark
from tests.fixtures.redis import RedisServer, redis_server
from tests.gateway.conftest import Bench, key_row, until_ready
from tests.gateway.upstream import DONE, REPLY, STREAM, Exchange

__all__ = ["redis_server"]

KEYS = {name: f"ps-{name}-key-0123456789" for name in ("anna", "bob", "eve")}
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


async def begin(
    bench: Bench, *, rules: tuple[LimitRule, ...] = (), redis: str | None = None, **policy: Any
) -> None:
    settings = CachePolicy(**{"mode": "exact", **policy})
    write_snapshot(
        bench.folder / "current.json",
        build_snapshot(
            providers=[Provider(name="fake", base_url=bench.upstream.url, auth="none", price_id="openai")],
            routes=[
                Route(name="m", targets=(Target(provider="fake", model="gpt-4o-mini"),), cache=settings),
                Route(name="other", targets=(Target(provider="fake", model="gpt-4o-mini"),), cache=settings),
                Route(name="off", targets=(Target(provider="fake", model="gpt-4o-mini"),)),
            ],
            keys=[
                key_row(KEYS["anna"], "anna"),
                key_row(KEYS["bob"], "bob"),
                key_row(KEYS["eve"], "eve", project="elsewhere"),
            ],
            limit_rules=list(rules),
            redis_url_env=redis,
        ),
    )
    await until_ready(bench)


async def ask(bench: Bench, body: Any = ASK, who: str = "anna", **headers: str) -> tuple[str | None, bytes]:
    """Return what `x-penstock-cache` says, and the body."""
    response = await bench.post(body, key=KEYS[who], **headers)
    assert response.status == 200
    return response.headers.get("x-penstock-cache"), await response.read()


async def test_the_same_request_is_answered_once_by_the_provider(bench: Bench) -> None:
    await begin(bench)
    first, second = await ask(bench), await ask(bench)
    assert (first[0], second[0]) == ("miss", "hit")
    assert first[1] == second[1]
    assert len(bench.upstream.seen) == 1


async def test_a_route_without_policy_says_and_keeps_nothing(bench: Bench) -> None:
    await begin(bench)
    for _ in range(2):
        assert (await ask(bench, {**ASK, "model": "off"}))[0] is None
    assert len(bench.upstream.seen) == 2


async def test_a_hit_tells_its_age_where_it_came_from_and_is_a_call_of_its_own(bench: Bench) -> None:
    await begin(bench)
    assert bench.gateway is not None
    assert bench.gateway._cache is not None
    now = bench.gateway._cache._now_ns()
    bench.gateway._cache._now_ns = lambda: now
    first = await bench.post(ASK, key=KEYS["anna"])
    bench.gateway._cache._now_ns = lambda: now + 61_500_000_000
    second = await bench.post(ASK, key=KEYS["bob"])
    assert second.headers["age"] == "61"
    assert second.headers["x-penstock-provider"] == "fake"
    assert second.headers["x-penstock-model"] == "gpt-4o-mini"
    assert second.headers["x-penstock-attempts"] == "0"
    assert second.headers["x-penstock-trace-id"] != first.headers["x-penstock-trace-id"]
    assert second.headers["content-type"] == first.headers["content-type"]


async def test_a_hit_costs_nothing_and_tells_what_it_saved(bench: Bench) -> None:
    await begin(bench)
    assert bench.gateway is not None
    bench.gateway._prices.preload([("openai", "gpt-4o-mini")])
    await ask(bench)
    await ask(bench)
    spans = {span.attributes["penstock.cache"]: span for span in await bench.sink.wait(2)}
    paid, free = spans["miss"], spans["hit"]
    assert paid.cost_usd
    assert (free.cost_usd, free.cost_source) == (0, "cache")
    assert free.attributes["penstock.cache"] == "hit"
    assert float(free.attributes["penstock.saved_usd"]) == float(paid.cost_usd)
    assert free.status == "ok"


async def test_a_hit_counts_as_a_request_and_uses_no_tokens(bench: Bench) -> None:
    rules = [
        LimitRule(name=unit, scope="all", unit=unit, amount=Decimal(amount), window="month")  # type: ignore[arg-type]  # as read
        for unit, amount in (("requests", 3), ("tokens", 100))
    ]
    await begin(bench, rules=tuple(rules))
    body = {**ASK, "max_tokens": 40}
    states = [(await ask(bench, body))[0] for _ in range(3)]
    assert states == ["miss", "hit", "hit"]
    refused = await bench.post(body, key=KEYS["anna"])
    assert refused.status == 429
    assert "3 requests per month" in (await refused.read()).decode()


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.1},
        {"seed": 1},
        {"something_new": {"a": 1}},
        {"messages": [{"role": "user", "content": "Hi "}]},
        {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "Hi"}]},
        {"model": "other"},
        {"stream": True},
    ],
)
async def test_anything_that_may_change_the_reply_is_another_request(
    bench: Bench, change: dict[str, Any]
) -> None:
    await begin(bench)
    assert (await ask(bench))[0] == "miss"
    assert (await ask(bench, {**ASK, **change}))[0] == "miss"


@pytest.mark.parametrize(
    "body",
    [
        {**ASK, "user": "u1", "metadata": {"a": "b"}},
        {"messages": ASK["messages"], "model": "m"},
        json.dumps(ASK, indent=3).encode(),
    ],
)
async def test_what_cannot_change_the_reply_is_the_same_request(bench: Bench, body: Any) -> None:
    await begin(bench)
    assert (await ask(bench))[0] == "miss"
    assert (await ask(bench, body))[0] == "hit"


@pytest.mark.parametrize(
    ("scope", "states"), [("project", ["hit", "miss"]), ("key", ["miss", "miss"]), ("user", ["miss", "miss"])]
)
async def test_replies_are_shared_within_the_scope_and_never_beyond_the_project(
    bench: Bench, scope: str, states: list[str]
) -> None:
    await begin(bench, scope=scope)
    assert (await ask(bench, who="anna"))[0] == "miss"
    assert (await ask(bench, who="anna"))[0] == "hit"
    assert [(await ask(bench, who="bob"))[0], (await ask(bench, who="eve"))[0]] == states


async def test_users_have_replies_of_their_own_in_the_scope_user(bench: Bench) -> None:
    await begin(bench, scope="user")
    states = [(await ask(bench, who=who, x_penstock_user=user))[0]
              for who, user in (("anna", "u1"), ("bob", "u1"), ("anna", "u2"), ("eve", "u1"))]  # fmt: skip
    assert states == ["miss", "hit", "miss", "miss"]


async def test_a_user_named_in_the_body_is_one_too(bench: Bench) -> None:
    await begin(bench, scope="user")
    states = [(await ask(bench, {**ASK, "user": user}))[0] for user in ("alice", "bob", "alice")]
    assert states == ["miss", "miss", "hit"]
    assert (await ask(bench, x_penstock_user="bob"))[0] == "hit", "however a client names its user"


@pytest.mark.parametrize(
    "who",
    [
        {"metadata": {"ticket": "B-1"}},
        {"user": "bob"},
        {"safety_identifier": "bob"},
        {"prompt_cache_key": "bob"},
    ],
)
async def test_a_reply_that_repeats_who_asked_goes_to_nobody_else(bench: Bench, who: dict[str, Any]) -> None:
    await begin(bench)
    asked = {"model": "m", "input": "Hi", "metadata": {"ticket": "A-SECRET"}, "user": "anna"}
    path = "/v1/responses"
    first = await bench.post(asked, path, key=KEYS["anna"])
    other = await bench.post({**asked, **who}, path, key=KEYS["bob"])
    same = await bench.post(asked, path, key=KEYS["anna"])
    assert [reply.headers["x-penstock-cache"] for reply in (first, other, same)] == ["miss", "miss", "hit"]
    assert (await first.json())["metadata"] == {"ticket": "A-SECRET"}
    assert (await other.json())["metadata"] == {**asked, **who}["metadata"]


async def test_an_idempotency_key_does_not_make_a_request_another_one(bench: Bench) -> None:
    await begin(bench)
    assert [(await ask(bench, idempotency_key=str(number)))[0] for number in range(2)] == ["miss", "hit"]


async def test_a_reply_is_kept_for_its_time_only(bench: Bench) -> None:
    await begin(bench, ttl_s=60)
    assert bench.gateway is not None
    cache = bench.gateway._cache
    assert cache is not None
    now = cache._now_ns()
    cache._now_ns = lambda: now
    await ask(bench)
    cache._now_ns = lambda: now + 59_000_000_000
    assert (await ask(bench))[0] == "hit"
    cache._now_ns = lambda: now + 60_000_000_000
    assert (await ask(bench))[0] == "miss"


@pytest.mark.parametrize(
    ("headers", "states"),
    [
        ({"cache_control": "no-store"}, ["bypass", "miss", "bypass", "hit"]),
        ({"x_penstock_cache": "bypass"}, ["bypass", "miss", "bypass", "hit"]),
        ({"cache_control": "no-cache"}, ["miss", "hit", "miss", "hit"]),
        ({"x_penstock_cache": "refresh"}, ["miss", "hit", "miss", "hit"]),
    ],
)
async def test_clients_may_pass_the_cache_by_or_renew_it(
    bench: Bench, headers: dict[str, str], states: list[str]
) -> None:
    await begin(bench)
    told = [
        (await ask(bench, **headers))[0], (await ask(bench))[0],
        (await ask(bench, **headers))[0], (await ask(bench))[0],
    ]  # fmt: skip
    assert told == states


async def test_a_stream_is_replayed_as_the_same_stream(bench: Bench) -> None:
    await begin(bench)
    body = {**ASK, "stream": True}
    first, second = await ask(bench, body), await ask(bench, body)
    assert (first[0], second[0]) == ("miss", "hit")
    assert first[1] == second[1]
    assert first[1].endswith(DONE)
    with_usage = {**body, "stream_options": {"include_usage": True}}
    assert (await ask(bench, with_usage))[0] == "miss", "its bytes are others"
    assert all(span.streamed for span in await bench.sink.wait(3))


async def test_failures_and_broken_streams_are_never_kept(bench: Bench) -> None:
    await begin(bench)

    async def fails(exchange: Exchange) -> None:
        await exchange.reply({"error": {"message": "no", "type": "x", "param": None}}, status=400)

    async def breaks(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.piece(STREAM[1])
        await exchange.end_stream()

    bench.upstream.handler = fails
    assert [(await bench.post(ASK, key=KEYS["anna"])).status for _ in range(2)] == [400, 400]
    bench.upstream.handler = breaks
    body = {**ASK, "stream": True}
    assert [(await ask(bench, body))[0] for _ in range(2)] == ["miss", "miss"]
    assert len(bench.upstream.seen) >= 4


async def test_a_reply_that_is_too_long_is_not_kept(bench: Bench) -> None:
    await begin(bench, max_entry_bytes=50)
    assert [(await ask(bench))[0] for _ in range(2)] == ["miss", "miss"]


async def test_a_long_reply_is_kept_whole(bench: Bench) -> None:
    await begin(bench)
    text = "word " * 40_000

    async def at_length(exchange: Exchange) -> None:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        await exchange.reply({**REPLY, "choices": [choice]})

    bench.upstream.handler = at_length
    first = await ask(bench)
    while (second := await ask(bench))[0] == "miss":
        pass  # a long reply is written after the client has it
    assert first[1] == second[1]
    assert json.loads(second[1])["choices"][0]["message"]["content"] == text


async def test_a_purge_forgets_what_was_kept_before_it(bench: Bench) -> None:
    await begin(bench)
    other = {**ASK, "model": "other"}
    await ask(bench)
    await ask(bench, other)
    assert bench.gateway is not None
    cache = bench.gateway._cache
    assert cache is not None
    cache._store.store.purge(Mark("route", "m"), now_ns=cache._now_ns())
    assert ((await ask(bench))[0], (await ask(bench, other))[0]) == ("miss", "hit")
    cache._store.store.purge(Mark("project", "default"), now_ns=cache._now_ns())
    assert ((await ask(bench))[0], (await ask(bench, other))[0]) == ("miss", "miss")
    assert (await ask(bench))[0] == "hit"


async def test_what_a_fallback_gave_is_not_kept(bench: Bench) -> None:
    told: list[tuple[str, str]] = []
    ill = [True, True, False, True, False]

    async def reply(exchange: Exchange) -> None:
        if ill[len(told)] and exchange.json["model"] == "first":
            await exchange.reply({"error": {"message": "x", "type": "server_error"}}, status=500)
        else:
            await exchange.reply(REPLY)

    bench.upstream.handler = reply
    bench.write(
        routes=[
            Route(
                name="m",
                targets=(Target(provider="fake", model="first"),),
                cache=CachePolicy(mode="exact"),
                retry=RetryPolicy(max_attempts=1),
                fallbacks=(Fallback(route="stand-in", on=("server-error",)),),
            ),
            Route(name="stand-in", targets=(Target(provider="fake", model="second"),)),
        ],
        keys=[key_row(KEYS["anna"], "anna")],
    )
    await until_ready(bench)
    for _ in range(4):
        response = await bench.post(ASK, key=KEYS["anna"])
        assert response.status == 200
        told.append((response.headers["x-penstock-cache"], response.headers["x-penstock-model"]))
    assert told == [("miss", "second"), ("miss", "second"), ("miss", "first"), ("hit", "first")]
    assert bench.gateway is not None
    assert bench.gateway._cache is not None
    bench.gateway._cache._store.store.purge(Mark("route", "m"), now_ns=bench.gateway._cache._now_ns())
    assert (await ask(bench))[0] == "miss"


async def test_a_cache_that_fails_is_a_cache_that_misses(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await begin(bench)
    (bench.folder / "cache").write_text("in the way")
    assert [(await ask(bench))[0] for _ in range(3)] == ["miss", "miss", "miss"]
    assert [record.message for record in caplog.records if "cache" in record.message] == [
        "the cache cannot be used, calls go on without it"
    ]


async def test_a_conversation_that_the_provider_keeps_is_not_cached(bench: Bench) -> None:
    await begin(bench)
    assert (await ask(bench, {**ASK, "previous_response_id": "resp_1"}))[0] == "bypass"


# -- calls in flight


class Gate:
    """An upstream that answers when it is let, and says when it is left."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = asyncio.Event()
        self.n_left = 0

    async def __call__(self, exchange: Exchange) -> None:
        self.asked.set()
        try:
            if exchange.json.get("stream"):
                await exchange.begin_stream()
                await exchange.piece(STREAM[1])
                await self.open.wait()
                await exchange.piece(STREAM[2] + STREAM[3] + DONE)
                await exchange.end_stream()
            else:
                await self.open.wait()
                await exchange.reply(REPLY)
        except (ConnectionError, asyncio.CancelledError):
            self.n_left += 1


@pytest.fixture
async def gate(bench: Bench) -> AsyncIterator[Gate]:
    made = Gate()
    bench.upstream.handler = made
    yield made
    made.open.set()


async def until_readers(bench: Bench, count: int) -> None:
    assert bench.gateway is not None
    assert bench.gateway._cache is not None
    while sum(flight.n_readers for flight in bench.gateway._cache._flights.values()) != count:
        await asyncio.sleep(0.002)


@pytest.mark.parametrize("stream", [False, True])
async def test_equal_calls_in_flight_share_one_call_upstream(bench: Bench, gate: Gate, stream: bool) -> None:
    await begin(bench, share_in_flight=True)
    body = {**ASK, "stream": stream}
    asking = [asyncio.create_task(ask(bench, body)) for _ in range(5)]
    await until_readers(bench, 5)
    gate.open.set()
    told = await asyncio.gather(*asking)
    assert sorted(state or "" for state, _ in told) == ["miss", "shared", "shared", "shared", "shared"]
    assert len({text for _, text in told}) == 1
    assert len(bench.upstream.seen) == 1
    spans = await bench.sink.wait(5)
    assert sum(span.cost_source != "cache" for span in spans) == 1
    assert (await ask(bench, body))[0] == "hit"


async def test_the_first_may_leave_and_the_others_get_all_of_it(bench: Bench, gate: Gate) -> None:
    await begin(bench, share_in_flight=True)
    body = {**ASK, "stream": True}
    assert bench.client is not None
    headers = {"authorization": f"Bearer {KEYS['anna']}"}
    first = await bench.client.post(bench.url + "/v1/chat/completions", json=body, headers=headers)
    second = asyncio.create_task(ask(bench, body, "bob"))
    await until_readers(bench, 2)
    first.close()
    await until_readers(bench, 1)
    gate.open.set()
    state, text = await second
    assert state == "shared"
    assert text.endswith(DONE)
    assert gate.n_left == 0
    spans = {span.key_id: span for span in await bench.sink.wait(2)}
    assert spans["key_anna"].error_code == "client_gone"
    assert spans["key_anna"].usage is not None, (
        "who began it pays for it, with the usage that came at the end"
    )
    assert spans["key_bob"].cost_source == "cache"


async def test_when_all_have_left_the_provider_is_left_too(bench: Bench, gate: Gate) -> None:
    await begin(bench, share_in_flight=True)
    body = {**ASK, "stream": True}
    assert bench.client is not None
    headers = {"authorization": f"Bearer {KEYS['anna']}"}
    both = [
        await bench.client.post(bench.url + "/v1/chat/completions", json=body, headers=headers)
        for _ in range(2)
    ]
    await until_readers(bench, 2)
    for response in both:
        response.close()
    await bench.sink.wait(2)
    assert bench.gateway is not None
    assert bench.gateway._cache is not None
    assert bench.gateway._cache._flights == {}


async def test_a_failure_is_told_to_all_who_share_it(bench: Bench, gate: Gate) -> None:
    await begin(bench, share_in_flight=True)

    async def fails(exchange: Exchange) -> None:
        await gate.open.wait()
        await exchange.reply({"error": {"message": "no such", "type": "x", "param": None}}, status=400)

    bench.upstream.handler = fails
    asking = [asyncio.create_task(bench.post(ASK, key=KEYS["anna"])) for _ in range(3)]
    await until_readers(bench, 3)
    gate.open.set()
    responses = await asyncio.gather(*asking)
    assert [response.status for response in responses] == [400] * 3
    assert len(bench.upstream.seen) == 1


# -- Redis


async def test_machines_share_replies_through_redis_and_go_on_without_it(
    bench: Bench, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench.gateway is not None
    cache = bench.gateway._cache
    assert cache is not None
    monkeypatch.setitem(bench.gateway._watch._environ, "SHARED", redis_server.url)
    await begin(bench, redis="SHARED")
    while not cache._store._is_there():
        await asyncio.sleep(0.005)
    assert [(await ask(bench))[0] for _ in range(2)] == ["miss", "hit"]
    assert not (bench.folder / "cache").exists(), "nothing is in the file"
    redis_server.kill()
    assert [(await ask(bench))[0] for _ in range(2)] == ["miss", "hit"]
    assert (bench.folder / "cache").exists()
