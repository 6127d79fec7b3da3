"""Whom calls count for: the user whose key it is, and only with a key of nobody's whom the caller names."""

from decimal import Decimal
from typing import Any

import pytest

from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.gateway.arrivals import note_headers
from penstock.gateway.asking import sticky_key
from penstock.gateway.calls import Call
from penstock.gateway.endpoints import CALLS
from penstock.gateway.table import ReadyRoute
from penstock.spec.limits import LimitRule
from penstock.spec.routes import CachePolicy, Provider, Route, Target
from tests.gateway.conftest import Bench, key_row, until_ready

ANNAS, NOBODYS, BOBS = "ps-annas-key-0123456789", "ps-nobodys-key-012345678", "ps-bobs-key-01234567890"
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50}
NAMING: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {}),
    ({"user": "bob"}, {}),
    ({}, {"x_penstock_user": "carl"}),
]


async def begin(bench: Bench, *rules: LimitRule, cache: CachePolicy | None = None) -> None:
    target = Target(provider="fake", model="gpt-4o-mini")
    route = Route(name="m", targets=(target,), **({"cache": cache} if cache is not None else {}))
    write_snapshot(
        bench.folder / "current.json",
        build_snapshot(
            providers=[Provider(name="fake", base_url=bench.upstream.url, auth="none", price_id="openai")],
            routes=[route],
            keys=[
                key_row(ANNAS, "annas", user="anna"),
                key_row(BOBS, "bobs", user="bob"),
                key_row(NOBODYS, "nobodys"),
            ],
            limit_rules=list(rules),
        ),
    )
    await until_ready(bench)


def each_user(amount: int) -> LimitRule:
    return LimitRule(name="each", scope="user", unit="requests", amount=Decimal(amount), window="month")


async def statuses(bench: Bench, key: str) -> list[int]:
    return [(await bench.post({**ASK, **body}, key=key, **headers)).status for body, headers in NAMING]


async def test_nobody_steps_out_of_a_limit_by_naming_another(bench: Bench) -> None:
    await begin(bench, each_user(1))
    assert await statuses(bench, ANNAS) == [200, 429, 429]


async def test_nobody_uses_up_what_is_a_colleagues(bench: Bench) -> None:
    await begin(bench, each_user(2))
    await bench.post({**ASK, "user": "bob"}, key=ANNAS)
    await bench.post(ASK, key=ANNAS, x_penstock_user="bob")
    assert [(await bench.post(ASK, key=BOBS)).status for _ in range(3)] == [200, 200, 429]


async def test_with_a_key_of_nobodys_the_caller_names_the_user(bench: Bench) -> None:
    await begin(bench, each_user(1))
    assert await statuses(bench, NOBODYS) == [200, 200, 200]
    assert await statuses(bench, NOBODYS) == [429, 429, 429]


async def test_calls_are_billed_to_whose_key_it_is(bench: Bench) -> None:
    await begin(bench)
    await statuses(bench, ANNAS)
    await statuses(bench, NOBODYS)
    assert [span.user_id for span in await bench.sink.wait(6)] == [
        "anna",
        "anna",
        "anna",
        None,
        "bob",
        "carl",
    ]


async def test_replies_kept_for_a_user_are_not_had_by_naming_the_user(bench: Bench) -> None:
    await begin(bench, cache=CachePolicy(mode="exact", scope="user"))
    asked = [
        await bench.post(ASK, key=BOBS),
        await bench.post({**ASK, "user": "bob"}, key=ANNAS),
        await bench.post(ASK, key=ANNAS, x_penstock_user="bob"),
        await bench.post(ASK, key=NOBODYS, x_penstock_user="bob"),
    ]
    assert [reply.headers["x-penstock-cache"] for reply in asked] == ["miss", "miss", "hit", "hit"]


@pytest.mark.parametrize(("user", "kept_with"), [("anna", "user anna"), (None, "user carl")])
def test_calls_stay_with_the_target_of_whose_key_it_is(user: str | None, kept_with: str) -> None:
    call = Call(CALLS["/v1/chat/completions"], None)
    call.key = key_row(ANNAS, "annas", user=user)
    note_headers(call, {b"x-penstock-user": b"carl"})
    route = Route(name="m", targets=(Target(provider="fake", model="x"),), sticky="user")
    assert sticky_key(call, ReadyRoute(route=route, targets=(), tiers=(), row="m")) == kept_with
