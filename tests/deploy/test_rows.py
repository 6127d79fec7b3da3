"""What people write becomes rows: every field can be said, and what is left out is the default."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from penstock.deploy.limit_sections import LimitRuleSettings, NamedLimitRuleSettings, PriceSettings
from penstock.deploy.objects import ObjectInvalid, parse_object, plain_content
from penstock.deploy.rows import limit_row, price_row, provider_row, route_row
from penstock.deploy.sections import (
    BreakerSettings,
    CacheSettings,
    DeprecationSettings,
    FallbackSettings,
    HedgeSettings,
    PinSettings,
    ProviderSettings,
    RetrySettings,
    RouteSettings,
    TargetSettings,
)
from penstock.spec.limits import LimitRule
from penstock.spec.routes import (
    BreakerPolicy,
    CachePolicy,
    Deprecation,
    Fallback,
    HedgePolicy,
    PinnedVersion,
    Provider,
    RetryPolicy,
    Route,
    Target,
)
from penstock.spec.usage import TOKEN_CLASSES

TARGET = {"provider": "far", "model": "m"}


@pytest.mark.parametrize(
    ("section", "row", "unsaid"),
    [
        (ProviderSettings, Provider, {"name", "local"}),
        (RouteSettings, Route, {"name", "versions", "holds"}),
        (TargetSettings, Target, set()),
        (RetrySettings, RetryPolicy, set()),
        (BreakerSettings, BreakerPolicy, set()),
        (HedgeSettings, HedgePolicy, set()),
        (FallbackSettings, Fallback, set()),
        (CacheSettings, CachePolicy, set()),
        (DeprecationSettings, Deprecation, set()),
        (PinSettings, PinnedVersion, {"versions"}),
        (NamedLimitRuleSettings, LimitRule, set()),
    ],
)
def test_every_field_of_a_row_can_be_said(
    section: type[BaseModel], row: type[msgspec.Struct], unsaid: set[str]
) -> None:
    assert set(row.__struct_fields__) - set(section.model_fields) == unsaid


def test_every_usage_class_can_have_a_price() -> None:
    assert set(PriceSettings.model_fields) == {*TOKEN_CLASSES, "usd_per_request"}


def test_a_route_of_one_target_is_a_route_of_defaults() -> None:
    made = route_row("r", RouteSettings.model_validate({"targets": [TARGET]}))
    assert made == Route(name="r", targets=(Target(provider="far", model="m"),), owned_by="far")


def test_defaults_are_those_of_the_rows() -> None:
    """A default that stands in two places must not differ."""
    made = route_row(
        "r",
        RouteSettings.model_validate(
            {
                "targets": [TARGET],
                "retry": {},
                "breaker": {},
                "cache": {},
                "hedge": {"after_s": 1.0},
                "fallbacks": [{"route": "s"}],
            }
        ),
    )
    assert (made.retry, made.breaker, made.cache) == (RetryPolicy(), BreakerPolicy(), CachePolicy())
    assert (made.hedge, made.fallbacks) == (HedgePolicy(after_s=1.0), (Fallback(route="s"),))
    provider = provider_row("far", ProviderSettings(base_url="http://far/v1"))
    assert provider == Provider(name="far", base_url="http://far/v1", auth="none")


def test_everything_that_is_said_of_a_route_arrives() -> None:
    content = {
        "targets": [{**TARGET, "weight": 2.0, "tier": 1, "timeout_s": 9.0}],
        "kind": "chat",
        "owned_by": "me",
        "version": "v",
        "balance": "latency",
        "sticky": "user",
        "deadline_s": 60.0,
        "retry": {"max_attempts": 1, "on": ["timeout"], "same_target": False},
        "breaker": {"enabled": False},
        "hedge": {"after_s": 2.0, "max_ratio": 0.5},
        "fallbacks": [{"route": "other", "on": ["context-length"]}],
        "cache": {"mode": "exact", "ttl_s": 5},
        "on_loss": "refuse",
        "deprecation": {"since": "2026-01-01", "sunset": "2026-06-01", "replacement": "other"},
        "pins": [{"name": "v1", "targets": [TARGET], "deprecation": {"sunset": "2026-06-01"}}],
        "cancel_upstream": False,
    }
    made = route_row("r", parse_route(content))
    assert made == Route(
        name="r",
        targets=(Target(provider="far", model="m", weight=2.0, tier=1, timeout_s=9.0),),
        kind="chat",
        owned_by="me",
        version="v",
        balance="latency",
        sticky="user",
        deadline_s=60.0,
        retry=RetryPolicy(max_attempts=1, on=("timeout",), same_target=False),
        breaker=None,
        hedge=HedgePolicy(after_s=2.0, max_ratio=0.5),
        fallbacks=(Fallback(route="other", on=("context-length",)),),
        cache=CachePolicy(mode="exact", ttl_s=5),
        on_loss="refuse",
        deprecation=Deprecation(since="2026-01-01", sunset="2026-06-01", replacement="other"),
        pins=(
            PinnedVersion(
                name="v1",
                targets=(Target(provider="far", model="m"),),
                deprecation=Deprecation(sunset="2026-06-01"),
            ),
        ),
        cancel_upstream=False,
    )
    assert plain_content(parse_route(content)) == content


def parse_route(content: dict[str, Any]) -> RouteSettings:
    section = parse_object("route", "r", content)
    assert isinstance(section, RouteSettings)
    return section


def test_a_provider_of_the_catalogue_keeps_what_is_not_said() -> None:
    made = provider_row("anthropic", ProviderSettings(timeout_s=5.0))
    assert made is not None
    assert (made.api_key_env, made.timeout_s, made.price_id) == ("ANTHROPIC_API_KEY", 5.0, "anthropic")
    sealed = provider_row("anthropic", ProviderSettings(secret="mine"))
    assert sealed is not None
    assert (sealed.api_key_env, sealed.secret, sealed.auth) == (None, "mine", made.auth)


def test_own_headers_are_added_to_those_of_the_catalogue() -> None:
    usual = provider_row("anthropic", ProviderSettings())
    made = provider_row("anthropic", ProviderSettings(headers={"x-team": "search"}))
    assert usual is not None
    assert made is not None
    assert made.headers == {**usual.headers, "x-team": "search"}


@pytest.mark.parametrize(
    ("dialect", "auth"),
    [
        ("anthropic", "x-api-key"),
        ("gemini", "x-goog-api-key"),
        ("bedrock", "bearer"),
        ("cohere", "bearer"),
        ("responses", "bearer"),
        (None, "bearer"),
    ],
)
def test_a_key_is_sent_as_servers_of_the_dialect_expect_it(dialect: Any, auth: str) -> None:
    far = ProviderSettings(dialect=dialect, base_url="https://far.example/v1", api_key_env="FAR_KEY")
    made = provider_row("far", far)
    assert made is not None
    assert made.auth == auth
    local = provider_row("ollama", ProviderSettings(dialect=dialect, api_key_env="OLLAMA_KEY"))
    assert local is not None
    assert local.auth == auth
    bare = provider_row("far", ProviderSettings(dialect=dialect, base_url="https://far.example/v1"))
    assert bare is not None
    assert bare.auth == "none"
    said = provider_row("far", far.model_copy(update={"auth": "bearer"}))
    assert said is not None
    assert said.auth == "bearer"


@pytest.mark.parametrize(
    ("written", "amount"),
    [(12.5, "12.5"), (7, "7"), ("0.10", "0.10"), (0.1, "0.1"), (1e-05, "0.00001")],
)
def test_money_is_what_is_written(written: object, amount: str) -> None:
    content = {"scope": "all", "unit": "usd", "amount": written, "window": "day"}
    section = parse_object("limit", "day", content)
    assert isinstance(section, LimitRuleSettings)
    assert limit_row("day", section).amount == Decimal(amount)


@given(st.decimals(min_value=0, max_value=1000, places=6))
def test_a_price_survives_being_stored(rate: Decimal) -> None:
    section = parse_object("price", "far/m*", {"input_uncached": str(rate), "usd_per_request": str(rate)})
    stored = parse_object("price", "far/m*", plain_content(section))
    assert isinstance(stored, PriceSettings)
    made = price_row("far/m*", stored)
    assert (made.provider, made.model, made.usd_per_million) == ("far", "m*", {"input_uncached": rate})
    assert made.usd_per_request == rate


@pytest.mark.parametrize(
    ("kind", "name", "content", "words"),
    [
        ("provider", "Far", {"base_url": "http://x"}, "lower case"),
        ("provider", "far", {"base_ulr": "http://x"}, "Did you mean 'base_url'"),
        ("provider", "far", {"base_url": "x"}, "must be an address"),
        ("provider", "far", {"secret": "sk-Very Secret"}, "never the secret itself"),
        ("provider", "far", {"timeout_s": "5"}, "timeout_s"),
        ("route", "r\n", {"targets": [TARGET]}, "printable ASCII"),
        ("route", "r", {}, "'targets' is missing"),
        ("route", "r", {"targets": [{**TARGET, "wieght": 2}]}, "Did you mean 'weight'"),
        ("route", "r", {"targets": [TARGET], "retry": {"on": ["conect"]}}, "Did you mean 'connect'"),
        ("route", "r", {"targets": [TARGET], "deprecation": {"since": "1.1.26"}}, "YYYY-MM-DD"),
        ("limit", "a b", {"scope": "all", "unit": "usd", "amount": 1, "window": "day"}, "limit's name"),
        ("limit", "a", {"scope": "all", "unit": "usd", "amount": True, "window": "day"}, "must be a number"),
        ("limit", "a", {"scope": "all", "unit": "usd", "amount": "NaN", "window": "day"}, "finite"),
        *(
            (kind, name, {**content, field: number}, "at most 30 digits")
            for kind, name, content, field in (
                ("limit", "a", {"scope": "all", "unit": "usd", "window": "day"}, "amount"),
                ("price", "far/m", {}, "input_uncached"),
                ("price", "far/m", {}, "usd_per_request"),
            )
            for number in ("1e-99999999", "1e99999999", "0e-99999999", "0e99999999", "1." + "1" * 40)
        ),
        ("price", "far", {"input_uncached": 1}, "PROVIDER/MODEL"),
        ("price", "far/m", [], "table"),
    ],
)
def test_what_cannot_be_used_is_named(kind: Any, name: str, content: Any, words: str) -> None:
    with pytest.raises(ObjectInvalid) as refused:
        parse_object(kind, name, content)
    assert words in str(refused.value)
    assert "Very Secret" not in str(refused.value)
