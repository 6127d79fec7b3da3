"""Rules over whole snapshots: what providers, routes, limits and prices get wrong alone and among each other."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from penstock.deploy.rules import find_problems, find_row_problems
from penstock.deploy.snapshots import draft_snapshot
from penstock.spec.limits import LimitRule
from penstock.spec.routes import (
    BreakerPolicy,
    CachePolicy,
    Deprecation,
    Fallback,
    HedgePolicy,
    KeyRow,
    PinnedVersion,
    PriceRow,
    Provider,
    RetryPolicy,
    Route,
    Target,
)
from penstock.store.sealing import MasterKeys

FAR = Provider(name="far", base_url="https://far.example/v1", auth="bearer", api_key_env="FAR_KEY")
TARGET = Target(provider="far", model="m")
A = Route(name="a", targets=(TARGET,), kind="chat")
B = Route(name="b", targets=(TARGET,), kind="chat")
EMBED = Route(name="embed", targets=(TARGET,), kind="embedding")
RULE = LimitRule(name="team", scope="project", unit="usd", amount=Decimal("12.5"), window="month")
PRICE = PriceRow(provider="far", model="m*", usd_per_million={"input_uncached": Decimal(1)})
KEYS = MasterKeys((("mk1", b"k" * 32),))
SEALED = KEYS.seal("sk", name="mine", origin="https://far.example")


def problems(**rows: Any) -> list[str]:
    all_rows: dict[str, Any] = {
        "providers": [FAR],
        "routes": [A, B, EMBED],
        "keys": [],
        "limit_rules": [RULE],
        "prices": [PRICE],
        **rows,
    }
    return find_problems(draft_snapshot(**all_rows))


def provider(**changes: Any) -> list[str]:
    secrets = changes.pop("secrets", {"mine": SEALED})
    return problems(providers=[msgspec.structs.replace(FAR, **changes)], secrets=secrets)


def route(**changes: Any) -> list[str]:
    return problems(routes=[msgspec.structs.replace(A, **changes), B, EMBED])


def rule(**changes: Any) -> list[str]:
    return problems(limit_rules=[msgspec.structs.replace(RULE, **changes)])


def price(**changes: Any) -> list[str]:
    return problems(prices=[msgspec.structs.replace(PRICE, **changes)])


def falls(*names: str) -> tuple[Fallback, ...]:
    return tuple(Fallback(route=name) for name in names)


def test_what_is_right_has_no_problem() -> None:
    assert problems() == []
    assert provider(secret="mine", api_key_env=None) == []
    assert (
        route(
            fallbacks=falls("b"),
            cache=CachePolicy(mode="semantic", embedding_route="embed"),
            hedge=HedgePolicy(after_s=1.0),
            deprecation=Deprecation(since="2026-01-01", sunset="2026-01-01", replacement="b"),
            pins=(PinnedVersion(name="v1", targets=(TARGET,), deprecation=Deprecation(sunset="2026-01-01")),),
        )
        == []
    )


def test_a_fallback_may_be_a_pin_or_a_model_of_an_open_route() -> None:
    pinned = msgspec.structs.replace(B, pins=(PinnedVersion(name="v1", targets=(TARGET,)),))
    opened = Route(name="far/*", targets=(Target(provider="far", model="*"),))
    first = msgspec.structs.replace(A, fallbacks=falls("b@v1", "far/other"))
    assert problems(routes=[first, pinned, opened]) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"idle_timeout_s": 0.0}, "idle_timeout_s must be over 0"),
        ({"auth": "sigv4"}, "understood by servers of the dialect bedrock"),
        ({"auth": "x-goog-api-key"}, "gemini"),
        ({"quirks": ("max_tokens", "no_such")}, "no quirk is called 'no_such'"),
        ({"headers": {"x a": "1"}}, "no name of a header"),
        ({"headers": {"x-a": "1\r\nauthorization: x"}}, "must be printable ASCII"),
        ({"headers": {"x-a\r\n": "1"}}, "no name of a header"),
        ({"headers": {"Authorization": "Bearer x"}}, "carries keys"),
        ({"headers": {"X-Api-Key": "x"}}, "carries keys"),
        ({"headers": {"Host": "evil"}}, "written by Penstock itself"),
        ({"headers": {"content-length": "0"}}, "written by Penstock itself"),
        ({"query": {"api-version": "1\n"}}, "printable ASCII"),
        ({"query": {"key": "AIza"}}, "carries keys"),
        *(
            ({place: {name: "sk-live-1"}}, "carries keys")
            for place in ("headers", "query")
            for name in (
                "x-auth-token",
                "Ocp-Apim-Subscription-Key",
                "subscription-key",
                "sig",
                "code",
                "X-Amz-Signature",
                "apiKey",
                "client_secret",
                "Set-Cookie",
                "user-password",
                "x-goog-credential",
                "x-portkey-api-key",
            )
        ),
        ({"base_url": "https://{REGION}.example/v1"}, "needs the variable REGION"),
        ({"secret": "mine"}, "names both api_key_env and secret"),
        ({"secret": "none", "api_key_env": None}, "there is no secret 'none'; known: mine"),
        ({"secret": "mine", "api_key_env": None, "base_url": "https://evil.example/v1"}, "was entered for"),
        ({"secret": "mine", "api_key_env": None, "base_url": "http://far.example/v1"}, "was entered for"),
        ({"secret": "mine", "api_key_env": None, "secrets": {"mine": "?"}}, "was entered for None"),
        (
            {"secret": "mine", "api_key_env": None, "local": True, "base_url": "http://127.0.0.1:1"},
            "needs no secret",
        ),
    ],
)
def test_what_is_wrong_with_a_provider_is_said(changes: dict[str, Any], words: str) -> None:
    found = provider(**changes)
    assert any(words in text for text in found), found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"deadline_s": 0.0}, "deadline_s must be over 0"),
        ({"targets": (Target(provider="far", model="m", tier=16),)}, "tier of far/m must be 0 to 15"),
        ({"targets": (Target(provider="far", model="m", timeout_s=-1.0),)}, "timeout_s must be over 0"),
        ({"retry": RetryPolicy(max_attempts=0)}, "max_attempts must be 1 to 20"),
        ({"retry": RetryPolicy(base_s=9.0)}, "base_s 9 is over max_s 5"),
        ({"retry": RetryPolicy(budget_ratio=1.5)}, "between 0 and 1"),
        ({"retry": RetryPolicy(max_retry_after_s=-1.0)}, "must not be negative"),
        ({"breaker": BreakerPolicy(failure_ratio=0.0)}, "failure_ratio must be over 0"),
        ({"breaker": BreakerPolicy(min_calls=0)}, "min_calls must be at least 1"),
        ({"hedge": HedgePolicy(after_s=float("nan"))}, "after_s must be over 0"),
        ({"fallbacks": falls("a")}, "falls back to itself"),
        ({"fallbacks": falls("nowhere")}, "'nowhere', which is not there"),
        ({"fallbacks": falls("b", "b")}, "stands there twice"),
        ({"fallbacks": falls("embed")}, "serves embedding, not chat"),
        ({"fallbacks": (Fallback(route="b", on=()),)}, "names no fault"),
        ({"cache": CachePolicy(mode="exact", ttl_s=0)}, "ttl_s must be at least 1"),
        ({"cache": CachePolicy(mode="semantic", embedding_route="nowhere")}, "is not there"),
        ({"cache": CachePolicy(mode="semantic", embedding_route="b")}, "not embeddings"),
        ({"cache": CachePolicy(mode="semantic", threshold=1.5)}, "threshold must be between"),
        ({"deprecation": Deprecation(since="2026-02-01", sunset="2026-01-01")}, "is before since"),
        ({"deprecation": Deprecation(sunset="soon")}, "YYYY-MM-DD"),
        ({"deprecation": Deprecation(replacement="b")}, "must say when"),
        ({"deprecation": Deprecation(since="2026-01-01", replacement="a")}, "is no other route"),
        ({"deprecation": Deprecation(since="2026-01-01", replacement="x")}, "is no other route"),
        ({"pins": (PinnedVersion(name="v@1", targets=(TARGET,)),)}, "without @ and /"),
        ({"pins": (PinnedVersion(name="v1", targets=()),)}, "pin 'v1': it has no target"),
        ({"pins": (PinnedVersion(name="v1", targets=(TARGET,)),) * 2}, "stands there twice"),
    ],
)
def test_what_is_wrong_with_a_route_is_said(changes: dict[str, Any], words: str) -> None:
    found = route(**changes)
    assert any(words in text for text in found), found


def test_a_pin_must_not_be_the_name_of_a_route() -> None:
    pinned = msgspec.structs.replace(A, pins=(PinnedVersion(name="v1", targets=(TARGET,)),))
    other = msgspec.structs.replace(B, name="a@v1")
    assert problems(routes=[pinned, other]) == ["route 'a': 'a@v1' is also the name of a route"]


def chain(*names: str, closed: bool = False) -> list[Route]:
    following = [*names[1:], names[0] if closed else ""]
    return [
        Route(name=name, targets=(TARGET,), fallbacks=falls(after) if after else ())
        for name, after in zip(names, following, strict=True)
    ]


def test_fallbacks_must_not_go_round_in_a_circle() -> None:
    found = problems(routes=chain("a", "b", "c", closed=True))
    assert found[0] == "route 'a': its fallbacks go round in a circle: a → b → c → a"
    assert len(found) == 3


def test_fallbacks_must_not_form_a_long_chain() -> None:
    assert problems(routes=chain("a", "b", "c", "d")) == []
    (found,) = problems(routes=chain("a", "b", "c", "d", "e"))
    assert found == "route 'a': its fallbacks are a chain of more than 3: a → b → c → d → e"


def test_many_crossing_fallbacks_are_checked_in_no_time() -> None:
    names = [f"r{number}" for number in range(40)]
    routes = [
        Route(name=name, targets=(TARGET,), fallbacks=falls(*names[number + 1 : number + 13]))
        for number, name in enumerate(names)
    ]
    assert any("chain of more than" in text for text in problems(routes=routes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "its name must be"),
        ({"name": "a\r\nb"}, "its name must be"),
        ({"scope": "all", "match": "x"}, "match must be left out"),
        ({"match": ""}, "match must be"),
        ({"amount": Decimal(0)}, "amount must be over 0"),
        ({"amount": Decimal("NaN")}, "amount must be over 0"),
        ({"amount": Decimal("Infinity")}, "amount must be over 0"),
        ({"amount": Decimal("1E16")}, "at most"),
        ({"amount": Decimal("1E-13")}, "decimals"),
        ({"amount": Decimal("1E-99999999")}, "decimals"),
        ({"amount": Decimal("1.0000000000001")}, "decimals"),
        ({"unit": "tokens", "amount": Decimal("1.5")}, "whole number of tokens"),
    ],
)
def test_what_is_wrong_with_a_limit_is_said(changes: dict[str, Any], words: str) -> None:
    found = rule(**changes)
    assert any(words in text for text in found), found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"provider": ""}, "names no provider"),
        ({"model": "a*b"}, "at the end of the model only"),
        ({"usd_per_million": {}}, "it says no price"),
        ({"usd_per_million": {"input": Decimal(1)}}, "no usage class is called input"),
        ({"usd_per_request": Decimal(-1)}, "must not be negative"),
        ({"usd_per_request": Decimal("1E-9999999")}, "at least 10^-12"),
        ({"usd_per_million": {"output_text": Decimal("0E-9999999")}}, "at least 10^-12"),
        ({"usd_per_million": {"output_text": Decimal("1." + "3" * 40)}}, "at most 30 digits"),
        ({"usd_per_million": {"output_text": Decimal("NaN")}}, "must not be negative"),
    ],
)
def test_what_is_wrong_with_a_price_is_said(changes: dict[str, Any], words: str) -> None:
    found = price(**changes)
    assert any(words in text for text in found), found


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "2852039166",
        "metadata.google.internal",
        "Metadata.Google.Internal.",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "[64:ff9b::a9fe:a9fe]",
        "[::ffff:169.254.169.254]",
        "0.0.0.0",
    ],
)
def test_where_clouds_hand_out_credentials_no_call_is_sent(host: str) -> None:
    found = provider(base_url=f"http://{host}/v1")
    assert any("never sent to" in text for text in found), found


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.7", "localhost", "[::1]", "[fd12::7]", "llm.example"])
def test_private_addresses_may_be_named(host: str) -> None:
    assert provider(base_url=f"http://{host}:9100/v1") == []


@pytest.mark.parametrize(
    "name",
    [
        "anthropic-version",
        "anthropic-beta",
        "api-version",
        "x-country-code",
        "x-design",
        "x-portkey-provider",
        "encode",
    ],
)
def test_names_that_carry_no_key_may_be_said(name: str) -> None:
    assert provider(headers={name: "1"}, query={name: "1"}) == []


def test_names_and_key_texts_are_there_once() -> None:
    assert problems(limit_rules=[RULE, RULE]) == ["limit 'team': it stands there 2 times"]
    assert problems(prices=[PRICE, PRICE]) == ["price 'far/m*': it stands there 2 times"]
    first = KeyRow(id="key_1", name="a", secret_sha256="ab" * 32)
    second = KeyRow(
        id="key_2", name="b", secret_sha256="cd" * 32, previous_sha256="ab" * 32, previous_until_ns=1
    )
    assert problems(keys=[first, second]) == ["key 'abababab…': a secret of this digest stands there 2 times"]


def test_each_problem_names_the_field_to_change() -> None:
    draft = draft_snapshot(
        providers=[FAR], routes=[msgspec.structs.replace(A, fallbacks=falls("nowhere"))], keys=()
    )
    (found,) = find_row_problems(draft)
    assert (found.kind, found.name, found.field) == ("route", "a", "fallbacks")
