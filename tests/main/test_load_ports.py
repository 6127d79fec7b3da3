"""What is known of a load test's targets before they are asked: whether calls leave the house, and what they cost."""

from collections.abc import Mapping
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.base.errors import NotFound
from penstock.main.load_ports import SnapshotTargets
from penstock.spec.callers import APPS
from penstock.spec.routes import Fallback, Provider, Route, Target
from penstock.spec.snapshot import Snapshot


class Prices:
    """A microdollar a prompt token, two a completion token; nothing is known of `odd`."""

    def estimate_usd(self, model: str, *, input_tokens: int, output_tokens: int) -> Decimal | None:
        return None if model == "odd" else Decimal(input_tokens + 2 * output_tokens) / 1_000_000


class Versions:
    def __init__(self, contents: Mapping[str, Mapping[str, Any]]) -> None:
        self.contents = contents

    def resolve(self, ref: str) -> Any:
        if ref not in self.contents:
            raise NotFound(f"There is no {ref}.")
        return SimpleNamespace(content=self.contents[ref])


def route(name: str, provider: str, *fallbacks: str, model: str = "m") -> Route:
    return Route(
        name=name,
        targets=(Target(provider=provider, model=model),),
        fallbacks=tuple(Fallback(route=each) for each in fallbacks),
        versions={name: "v1"},
    )


SNAPSHOT = Snapshot(
    digest="d",
    written_ns=1,
    providers=(
        Provider(name="engine", dialect="openai", base_url="http://127.0.0.1:1/v1", local=True),
        Provider(name="east", dialect="openai", base_url="https://east.example/v1"),
        Provider(name=APPS, dialect="openai", base_url="http://127.0.0.1:2/v1"),
    ),
    routes=(
        route("pocket", "engine"),
        route("big", "east"),
        route("odd", "east"),
        route("spill", "engine", "big"),
        route("prompt:triage", APPS, model="prompt:triage@1"),
        route("helper", APPS, model="app:helper@1"),
    ),
)
TARGETS = SnapshotTargets(
    lambda: SNAPSHOT,
    Versions({"prompt:triage": {"model": "big"}, "app:helper@1": {"steps": [{"model": "pocket"}]}}),  # type: ignore[arg-type]
    Prices(),  # type: ignore[arg-type]
)


def test_a_local_route_costs_nothing() -> None:
    facts = TARGETS.describe("pocket")
    assert (facts.is_known, facts.is_hosted, facts.prices) == (True, False, (0.0, 0.0))
    assert facts.versions == {"pocket": "v1"}


def test_a_version_behind_a_route_is_known_by_its_route() -> None:
    assert TARGETS.describe("pocket@2").is_known


def test_a_hosted_route_has_prices_of_single_tokens() -> None:
    facts = TARGETS.describe("big")
    assert facts.providers == ("east",)
    assert facts.prices == pytest.approx((1e-6, 2e-6))
    assert TARGETS.describe("odd").prices is None


@pytest.mark.parametrize("name", ["spill", "prompt:triage"])
def test_what_may_end_at_a_provider_is_hosted_at_a_cost_that_is_unknown(name: str) -> None:
    """A local route whose fallback is hosted spends money exactly when it is loaded too much."""
    facts = TARGETS.describe(name)
    assert facts.is_hosted
    assert facts.providers == ("east",)
    assert facts.prices is None


def test_an_app_that_asks_local_models_alone_is_free() -> None:
    facts = TARGETS.describe("helper")
    assert not facts.is_hosted
    assert facts.prices == (0.0, 0.0)


def test_a_name_that_nobody_serves_is_unknown_and_the_nearest_is_told() -> None:
    assert not TARGETS.describe("pokcet").is_known
    assert "pocket" in (TARGETS.suggest("pokcet") or "")
