"""Answers by meaning: only within one frame, only past the guards, bounded in time, and checked on a sample."""

import asyncio
import json
import math
import zlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.gateway.caching.guards import guard_of
from penstock.gateway.caching.meaning import EMBED_WITHIN_S
from penstock.gateway.caching.semantic import cosine, normalise
from penstock.spec.limits import LimitRule
from penstock.spec.routes import CachePolicy, Provider, Route, Target
from penstock.spec.windows import read_counter_name
from penstock.store.response_cache import EVERYTHING
from tests.gateway.conftest import KEY, Bench, key_row, until_ready
from tests.gateway.upstream import REPLY, Exchange, answer

ASKED = "How can I sleep better while it is warm outside?"
REPHRASED = "How could I sleep better while it is warm outside?"
OTHER_KEY = "ps-other-key-0123456789"


def embed(text: str) -> list[float]:
    """A vector of the words of a text: texts that share most words are near."""
    vector = [0.0] * 64
    for word in text.lower().replace("?", "").split():
        vector[zlib.crc32(word.encode()) % 64] += 1.0
    return vector


class Upstream:
    """Chats and embeds; counts both."""

    def __init__(self) -> None:
        self.n_chats = 0
        self.n_embeddings = 0
        self.answer = "Drink water."
        self.silent = False
        self.broken = False

    async def __call__(self, exchange: Exchange) -> None:
        if "input" in exchange.json:
            self.n_embeddings += 1
            if self.broken:
                await exchange.reply(REPLY)
                return
            if self.silent:
                await asyncio.Event().wait()
            data = [{"index": number, "object": "embedding", "embedding": embed(text)}
                    for number, text in enumerate(exchange.json["input"])]  # fmt: skip
            usage = {"prompt_tokens": 3, "total_tokens": 3}
            await exchange.reply({"object": "list", "data": data, "model": "minilm", "usage": usage})
        elif exchange.json.get("stream"):
            self.n_chats += 1
            await answer(exchange)
        else:
            self.n_chats += 1
            choice = {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": self.answer},
            }
            await exchange.reply({**REPLY, "choices": [choice]})


async def begin(bench: Bench, rules: Sequence[LimitRule] = (), **policy: Any) -> Upstream:
    settings = CachePolicy(**{"mode": "semantic", "threshold": 0.85, "check_ratio": 0.0, **policy})
    write_snapshot(
        bench.folder / "current.json",
        build_snapshot(
            providers=[Provider(name="fake", base_url=bench.upstream.url, auth="none", price_id="openai")],
            routes=[
                Route(name="m", targets=(Target(provider="fake", model="gpt-4o-mini"),), cache=settings),
                Route(name="minilm", kind="embedding", targets=(Target(provider="fake", model="minilm"),)),
            ],
            keys=[key_row(KEY, "test"), key_row(OTHER_KEY, "other", project="elsewhere")],
            limit_rules=list(rules),
        ),
    )
    await until_ready(bench)
    upstream = Upstream()
    bench.upstream.handler = upstream
    return upstream


def request(text: Any, **more: Any) -> dict[str, Any]:
    system = {"role": "system", "content": more.pop("system", "You help.")}
    return {"model": "m", "messages": [system, {"role": "user", "content": text}], **more}


async def state(
    bench: Bench, body: Any, *, key: str = KEY, path: str = "/v1/chat/completions", **headers: str
) -> Any:
    response = await bench.post(body, path, key=key, **headers)
    assert response.status == 200, await response.read()
    return response.headers["x-penstock-cache"]


async def test_the_same_question_in_other_words_gets_the_same_answer(bench: Bench) -> None:
    upstream = await begin(bench)
    assert await state(bench, request(ASKED)) == "miss"
    response = await bench.post(request(REPHRASED), key=KEY)
    assert response.headers["x-penstock-cache"] == "semantic"
    assert 0.85 <= float(response.headers["x-penstock-cache-similarity"]) < 1
    assert json.loads(await response.read())["choices"][0]["message"]["content"] == "Drink water."
    assert (upstream.n_chats, upstream.n_embeddings) == (1, 2)
    assert await state(bench, request(ASKED)) == "hit", "equal ones need no embedding"
    assert upstream.n_embeddings == 2


async def test_embedding_a_question_is_a_call_of_its_own_below_the_callers(bench: Bench) -> None:
    await begin(bench)
    await state(bench, request(ASKED))
    embedding, chat = sorted(await bench.sink.wait(2), key=lambda span: span.kind)
    assert (embedding.kind, embedding.route, chat.kind) == ("embedding", "minilm", "llm")
    assert (embedding.trace_id, embedding.parent_id) == (chat.trace_id, chat.span_id)
    assert embedding.key_id == chat.key_id


@pytest.mark.parametrize(
    "body",
    [
        request("How can I sleep better while it is not warm outside?"),
        request("How can I sleep better while it is 30 degrees warm outside?"),
        request("How can I sleep better while it is warm outside in Oslo?"),
        request("How can Anna sleep better while it is warm outside?"),
        request("Why can I sleep better while it is warm outside?"),
        request("How can I sleep worse while it is warm outside?"),
        request(REPHRASED, system="You help little."),
        request(REPHRASED, temperature=0.3),
        request(REPHRASED, stream=True),
        request(REPHRASED, something_new=1),
        request(REPHRASED, n=2),
        request(
            [
                {"type": "text", "text": REPHRASED},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            ]
        ),
        request(REPHRASED, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}]),
        {**request("Hello"), "messages": [*request("Hello")["messages"], *request(REPHRASED)["messages"]]},
    ],
)
async def test_what_differs_in_more_than_words_is_asked(bench: Bench, body: dict[str, Any]) -> None:
    await begin(bench)
    assert await state(bench, request(ASKED)) == "miss"
    assert await state(bench, body) == "miss"


async def test_a_reply_that_repeats_who_asked_is_no_answer_to_anybody_else(bench: Bench) -> None:
    await begin(bench)
    path = "/v1/responses"
    asked = {"model": "m", "input": ASKED, "metadata": {"ticket": "A"}, "user": "anna"}
    assert await state(bench, asked, path=path) == "miss"
    assert await state(bench, {**asked, "input": REPHRASED, "metadata": {"ticket": "B"}}, path=path) == "miss"
    assert await state(bench, {**asked, "input": REPHRASED, "user": "bob"}, path=path) == "miss"
    assert await state(bench, {**asked, "input": REPHRASED}, path=path) == "semantic"


async def test_users_of_the_body_are_apart_in_the_scope_user(bench: Bench) -> None:
    await begin(bench, scope="user")
    assert await state(bench, request(ASKED, user="alice")) == "miss"
    assert await state(bench, request(REPHRASED, user="bob")) == "miss"


async def test_a_long_conversation_and_tools_are_not_even_embedded(bench: Bench) -> None:
    upstream = await begin(bench, max_messages=1)
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    await state(bench, {"model": "m", "messages": [*turns, {"role": "user", "content": ASKED}]})
    await state(
        bench, request(ASKED, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
    )
    assert upstream.n_embeddings == 0


async def test_questions_of_another_project_are_never_near(bench: Bench) -> None:
    await begin(bench)
    assert await state(bench, request(ASKED)) == "miss"
    assert await state(bench, request(REPHRASED), key=OTHER_KEY) == "miss"


async def test_a_slow_embedder_is_a_miss(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.gateway.caching.meaning.EMBED_WITHIN_S", 0.02)
    assert EMBED_WITHIN_S == 0.3
    upstream = await begin(bench)
    upstream.silent = True
    assert [await state(bench, request(text)) for text in (ASKED, REPHRASED)] == ["miss", "miss"]
    assert await state(bench, request(ASKED)) == "hit"


async def test_a_route_that_does_not_embed_is_a_miss(bench: Bench) -> None:
    upstream = await begin(bench)
    upstream.broken = True
    assert [await state(bench, request(text)) for text in (ASKED, REPHRASED)] == ["miss", "miss"]


async def test_an_answer_that_was_purged_is_asked_again_and_kept_again(bench: Bench) -> None:
    upstream = await begin(bench)
    await state(bench, request(ASKED))
    assert bench.gateway is not None
    cache = bench.gateway._cache
    assert cache is not None
    cache._store.store.purge(EVERYTHING, now_ns=cache._now_ns())
    assert [await state(bench, request(REPHRASED)), await state(bench, request(ASKED))] == [
        "miss",
        "semantic",
    ]
    assert upstream.n_chats == 2


async def test_clients_may_renew_an_answer(bench: Bench) -> None:
    await begin(bench)
    await state(bench, request(ASKED))
    assert await state(bench, request(REPHRASED), x_penstock_cache="refresh") == "miss"


@pytest.mark.parametrize(
    ("fresh", "counts"),
    [("Drink water.", {"checked": 1}), ("Buy a new bed today", {"checked": 1, "differed": 1})],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_sample_of_hits_is_asked_too_and_compared(
    bench: Bench, fresh: str, counts: dict[str, int], stream: bool
) -> None:
    upstream = await begin(bench, check_ratio=1.0)
    await state(bench, request(ASKED, stream=stream))
    upstream.answer = fresh
    assert await state(bench, request(REPHRASED, stream=stream)) == "semantic"
    assert bench.gateway is not None
    cache = bench.gateway._cache
    assert cache is not None
    while not cache._counts["m\x1fchecked"]:
        await asyncio.sleep(0.005)
    told = {name.partition("\x1f")[2]: count for name, count in cache._counts.items()}
    assert {name: told[name] for name in ("checked", "differed") if told.get(name)} == counts
    assert upstream.n_chats == 2


async def test_what_the_cache_asks_for_a_caller_counts_for_the_callers_limits(bench: Bench) -> None:
    kinds: list[tuple[Any, Any]] = [("key", "tokens"), ("user", "tokens"), ("key", "requests")]
    rules = [
        LimitRule(name=f"{scope}-{unit}", scope=scope, unit=unit, window="month", amount=Decimal(10**6))
        for scope, unit in kinds
    ]
    upstream = await begin(bench, rules=rules, check_ratio=1.0)
    assert await state(bench, request(ASKED, user="alice")) == "miss"
    for number in range(3):
        assert await state(bench, request(REPHRASED + " " * number, user="alice")) == "semantic"
        while upstream.n_chats < number + 2:
            await asyncio.sleep(0.002)
    spans = await bench.sink.wait(14)
    assert (upstream.n_chats, upstream.n_embeddings) == (4, 7)
    billed = sum(
        (span.usage.input_tokens or 0) + (span.usage.output_tokens or 0)
        for span in spans
        if span.usage is not None and span.cost_source != "cache"
    )
    assert billed > 4 * 28
    assert bench.gateway is not None
    assert bench.gateway._limiter is not None
    counted = {
        (name.rule, name.subject): one.value
        for one in bench.gateway._limiter._local.list_counters("")
        if (name := read_counter_name(one.key)) is not None
    }
    assert counted == {
        ("key-tokens", "key_test"): billed,
        ("user-tokens", "alice"): billed,
        ("key-requests", "key_test"): 4,
    }


async def test_it_works_for_other_clients_too(bench: Bench) -> None:
    await begin(bench)
    body = {"model": "m", "max_tokens": 50, "system": "You help."}
    states = [
        await state(bench, {**body, "messages": [{"role": "user", "content": text}]}, path="/v1/messages")
        for text in (ASKED, REPHRASED, REPHRASED)
    ]
    assert states == ["miss", "semantic", "semantic"]


# -- guards


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is it safe to take aspirin?", "Isn't it safe to take aspirin?"),
        ("Is aspirin safe?", "Is aspirin unsafe?"),
        ("revenue in 2023", "revenue in 2024"),
        ("the first of May", "the first of June"),
        ("take two pills", "take three pills"),
        ("flights from Paris to London", "flights from London to Paris"),
        ("weather in Paris", "weather in Rome"),
        ("Paris weather", "London weather"),
        ("when was it built", "where was it built"),
        ("how to enable logging", "how to disable logging"),
        ("turn the light off", "turn the light on"),
        ("before meals", "after meals"),
        ("what does 'foo' mean", "what does 'bar' mean"),
        ("call get_user", "call get_item"),
        ("rate 5%", "rate 5"),
        ("who may not enter", "who may enter"),
        ("睡眠はどうすれば良くなりますか", "睡眠はどうすれば悪くなりますか"),
    ],
)
def test_questions_that_embeddings_take_for_each_other_have_other_guards(one: str, other: str) -> None:
    assert guard_of(one) != guard_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I reset my password?", "How can I reset my password?"),
        ("Tell me how to sleep better", "how can I sleep better?"),
        ("Which side effects does ibuprofen have?", "What are the side effects of ibuprofen?"),
        ("What is a good breakfast?", "what's a good breakfast"),
    ],
)
def test_questions_in_other_words_have_equal_guards(one: str, other: str) -> None:
    assert guard_of(one) == guard_of(other)


@given(text=st.text(max_size=200))
def test_any_text_has_a_guard_that_blanks_do_not_change(text: str) -> None:
    assert len(guard_of(text)) == 16
    assert guard_of(f"  {text} ") == guard_of(text)


@given(vector=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
def test_a_vector_is_nearest_to_itself(vector: list[float]) -> None:
    made = normalise(vector)
    length = math.sqrt(sum(value * value for value in vector))
    assert cosine(made, made) == pytest.approx(1.0 if length > 1e-20 else cosine(made, made), abs=1e-3)
