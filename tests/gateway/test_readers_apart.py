"""Answers that rest on what their caller may read never reach who may read less, by whatever route an app is asked.

Scripted here as far as one process of each kind goes; `tests/main/test_readers_up.py` has the whole installation.
"""

from typing import Any

import msgspec
import pytest

from penstock.spec.routes import CachePolicy, Fallback, Route, Target
from tests.gateway.knowledge_house import BOB, House, house
from tests.gateway.upstream import Exchange

__all__ = ["house"]  # a fixture
QUESTION: list[Any] = [{"role": "user", "content": "How long do adults sleep?"}]
CACHED = CachePolicy(mode="exact")
APP, MODEL = Target(provider="apps", model="handbook"), Target(provider="fake", model="gpt-4o-mini")


async def overloaded(exchange: Exchange) -> None:
    await exchange.reply(b'{"error": {"message": "busy"}}', status=503)


async def asked_as(house: House, model: str) -> list[Any]:
    """Ask twice with finance, then twice as nobody; return as whom the documents were searched."""
    finance, plain = house.client(x_penstock_groups="finance"), house.client()
    for client in (finance, finance, plain, plain):
        await client.chat.completions.create(model=model, messages=QUESTION)
    return [scope.principals for scope in house.retriever.scopes]


EACH_ONCE = [["everyone", "group:finance"], ["everyone"]]


async def test_a_cache_in_front_of_an_app_with_another_model_beside_it_tells_readers_apart(
    house: House,
) -> None:
    mixed = Route(name="front", targets=(APP, msgspec.structs.replace(MODEL, tier=1)), cache=CACHED)
    house.begin(routes=(mixed,))
    assert await asked_as(house, "front") == EACH_ONCE


async def test_a_cache_in_front_of_a_model_that_falls_back_to_an_app_tells_readers_apart(
    house: House,
) -> None:
    front = Route(
        name="front",
        targets=(msgspec.structs.replace(MODEL, model="busy"),),
        fallbacks=(Fallback(route="handbook"),),
        cache=CACHED,
    )
    house.begin(routes=(front,))
    calm = house.bench.upstream.handler

    async def answer(exchange: Exchange) -> None:
        await (overloaded if exchange.json["model"] == "busy" else calm)(exchange)

    house.bench.upstream.handler = answer
    finance, everybody = EACH_ONCE  # what a fallback answered is not kept, so each call is answered anew
    assert await asked_as(house, "front") == [finance, finance, everybody, everybody]
    table = house.bench.gateway._watch.table if house.bench.gateway is not None else None
    assert table is not None
    assert table.routes["front"].reaches_apps


async def test_a_model_alone_is_shared_as_its_route_says(house: House) -> None:
    house.begin(routes=(Route(name="plain", targets=(MODEL,), cache=CACHED),))
    assert await asked_as(house, "plain") == []
    assert len(house.bench.upstream.seen) == 1


async def test_the_user_of_a_body_lets_nobody_in_through_an_app_that_asks_an_app(house: House) -> None:
    """Bodies hold whatever a client writes to tell people apart; only the header says for whom documents are read."""
    outer = msgspec.structs.replace(house.apps[0], name="outer", model="handbook")
    house.apps.append(outer)
    house.begin(routes=(Route(name="outer", targets=(Target(provider="apps", model="outer"),), kind="chat"),))
    await house.client().chat.completions.create(model="outer", messages=QUESTION, user="ada")
    assert [scope.principals for scope in house.retriever.scopes] == [["everyone"]] * 2
    await house.client(x_penstock_user="ada").chat.completions.create(model="outer", messages=QUESTION)
    assert [scope.principals for scope in house.retriever.scopes[2:]] == [["everyone", "user:ada"]] * 2


async def test_somebodys_key_reads_as_them_through_every_app_it_goes_through(house: House) -> None:
    house.apps.append(msgspec.structs.replace(house.apps[0], name="outer", model="handbook"))
    house.begin(routes=(Route(name="outer", targets=(Target(provider="apps", model="outer"),), kind="chat"),))
    client = house.client(BOB, x_penstock_user="ada", x_penstock_groups="finance")
    await client.chat.completions.create(model="outer", messages=QUESTION, user="ada")
    assert [scope.principals for scope in house.retriever.scopes] == [["everyone", "user:bob"]] * 2


@pytest.mark.parametrize("model", ["front", "handbook"])
async def test_a_kept_answer_of_an_app_does_not_outlive_the_documents_it_rests_on(
    house: House, model: str
) -> None:
    mixed = Route(name="front", targets=(APP, msgspec.structs.replace(MODEL, tier=1)), cache=CACHED)
    plain = Route(name="plain", targets=(MODEL,), cache=CACHED)

    async def ask_with(holds: str) -> tuple[int, int]:
        house.begin(routes=(mixed, plain), cache=CACHED, holds=holds)
        for name in (model, "plain"):
            await house.client().chat.completions.create(model=name, messages=QUESTION)
        return len(house.retriever.scopes), sum(
            exchange.json["messages"] == QUESTION for exchange in house.bench.upstream.seen
        )

    assert await ask_with("1@sha256:aa") == (1, 1)
    assert await ask_with("1@sha256:aa") == (1, 1)
    assert await ask_with("2@sha256:bb") == (2, 1)  # what a model answers alone rests on no document
    assert await ask_with("1@sha256:aa") == (2, 1)  # back to the version before: its answers hold again
