"""Calls that apps and prompts make: whose they are, what they count for, and that nobody else can say so.

Gateway, apps and gateway again over real sockets; the fake model costs $1 a million tokens in and $2 out, so one call
with its 15 + 5 cached + 8 tokens costs $0.0000335.
"""

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from penstock.apps.app import create_apps
from penstock.apps.types import AppDeclaration
from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.main.gateway_embedder import GatewayEmbedder
from penstock.main.prompt_routes import PromptVersions, prompt_route
from penstock.prompts.service import PromptService, read_content
from penstock.prompts.serving import PromptServer
from penstock.prompts.types import PromptParts
from penstock.registry.service import Registry
from penstock.spec.limits import LimitRule
from penstock.spec.routes import CachePolicy, Fallback, KeyRow, Provider, Route, Target
from penstock.spec.spans import Span
from penstock.spec.windows import name_counter
from penstock.store.blobs import BlobStore
from penstock.store.control.engine import open_control
from penstock.store.spans.ledger import is_billed
from tests.apps.conftest import FakeRetriever
from tests.gateway.conftest import Bench, SpanList, key_row, serve
from tests.gateway.upstream import Exchange

ANNA, BOB, FREE = "ps-anna-key-0123456789", "ps-bob-key-01234567890", "ps-free-key-0123456789"
ONE_CALL = 33_500
"""What it costs in nano-dollars."""
TOKENS = 28
MAIL: list[Any] = [{"role": "user", "content": "How long do adults sleep?"}]
BOTH = pytest.mark.parametrize("model", ["prompt:triage", "handbook"])
TRIAGE: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Sort: {{ mail }}"}],
    "variables": {"mail": {}},
    "model": "gpt-4o-mini",
    "parameters": {"max_tokens": 50},
}


def rule(scope: Any, unit: Any, amount: Any, **fields: Any) -> LimitRule:
    values = {"name": f"{scope}-{unit}", "window": "month", **fields}
    return LimitRule(scope=scope, unit=unit, amount=Decimal(amount), **values)


@dataclass
class House:
    """A bench with a prompt and an app, both of which ask a model that costs money."""

    bench: Bench
    service: PromptService
    registry: Registry
    apps_url: str
    retriever: FakeRetriever

    async def begin(
        self, *rules: LimitRule, routes: tuple[Route, ...] = (), keys: tuple[KeyRow, ...] = ()
    ) -> None:
        prompts = [
            prompt_route(PromptVersions(live=self.registry.resolve(f"prompt:{asset.name}@{asset.latest}")))
            for asset in self.registry.list_assets("prompt")
        ]
        built = build_snapshot(
            providers=[
                Provider(name="fake", base_url=self.bench.upstream.url, price_id="openai"),
                Provider(name="apps", base_url=self.apps_url, local=True, price_id="local"),
            ],
            routes=[
                Route(name="gpt-4o-mini", targets=(Target(provider="fake", model="gpt-4o-mini"),)),
                Route(
                    name="handbook",
                    targets=(Target(provider="apps", model="handbook"),),
                    versions={"app:handbook": "1@sha256:0"},
                ),
                *routes,
                *prompts,
            ],
            keys=keys
            or [
                key_row(
                    ANNA, "anna", project="research", routes=("prompt:triage", "handbook", "cached", "both")
                ),
                key_row(BOB, "bob", user="bob"),
                key_row(FREE, "free"),
            ],
            limit_rules=list(rules),
        )
        write_snapshot(self.bench.folder / "current.json", built)
        assert self.bench.gateway is not None
        self.bench.gateway._watch.refresh()
        self.bench.gateway._prices.preload([("openai", "gpt-4o-mini")])

    async def ask(self, model: str, key: str = ANNA, **more: Any) -> Any:
        headers = more.pop("headers", {})
        return await self.bench.post({"model": model, "messages": MAIL, **more}, key=key, **headers)

    def used(self, scope: str, unit: str, subject: str, **rule: Any) -> int:
        """What the counter of a rule stands at; 0 where it was never touched."""
        assert self.bench.gateway is not None
        limiter = self.bench.gateway._limiter
        assert limiter is not None
        name = name_counter(rule.get("name", f"{scope}-{unit}"), unit, rule.get("window", "month"), subject)  # type: ignore[arg-type]
        return sum(each.value for each in limiter._local.list_counters(name) if each.key == name)

    async def spans(self, count: int) -> list[Span]:
        """The gateway's spans, outer calls first."""
        return sorted(await self.bench.sink.wait(count), key=lambda span: span.start_ns)


@pytest.fixture
async def house(bench: Bench, tmp_path: Path, migrated_sqlite: Path) -> AsyncIterator[House]:
    shutil.copy(migrated_sqlite, tmp_path / "control.db")
    engine = open_control(f"sqlite:///{tmp_path / 'control.db'}")
    registry = Registry(engine, BlobStore(str(tmp_path / "blobs")), protected_aliases=())
    service = PromptService(registry, PromptParts())
    service.create("triage", read_content(TRIAGE))
    retriever = FakeRetriever()
    app = create_apps(
        apps=[
            AppDeclaration(name="handbook", knowledge="handbook", model="gpt-4o-mini", max_tokens=50),
            AppDeclaration(name="lost", knowledge="handbook", model="nowhere"),
            AppDeclaration(name="wrapped", knowledge="handbook", model="prompt:triage", max_tokens=50),
        ],
        retriever=retriever,
        recorder=SpanList(),
        gateway_url=f"{bench.url}/v1",
        internal_key="internal-secret",
        prompts=PromptServer(service, routes=dict),
    )
    async with serve(app) as port:
        yield House(bench, service, registry, f"http://127.0.0.1:{port}/v1", retriever)
    engine.dispose()


async def told(response: Any) -> Any:
    return json.loads(await response.read())


# -- limits hold


@BOTH
async def test_a_budget_of_a_key_ends_what_it_spends_through_apps(house: House, model: str) -> None:
    await house.begin(rule("key", "usd", "0.0005", name="pocket-money"))
    for number in range(1, 40):
        reply = await house.ask(model, stream=number % 2 == 0)
        if reply.status != 200:
            break
        assert house.used("key", "usd", "key_anna", name="pocket-money") == number * ONE_CALL
    assert number > 3
    assert reply.status == 429
    error = (await told(reply))["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert error["message"].startswith(
        "Budget reached for key 'anna' (rule 'pocket-money'): $0.0005 per month"
    )
    assert error["message"].count("PS-2641") == 1
    assert error["message"].count("Try again") == 1
    assert reply.headers["x-should-retry"] == "false"
    assert int(reply.headers["retry-after"]) > 60
    assert "x-penstock-refusal" not in reply.headers
    assert len(house.bench.upstream.seen) == number - 1  # nor was anything tried again
    assert house.used("key", "usd", "key_anna", name="pocket-money") == (number - 1) * ONE_CALL
    assert (await house.ask(model, key=FREE)).status == 200  # an app that refused one is well for all others
    spans = await house.spans(2 * number + 2)
    assert {span.error_code for span in spans if span.http_status == 429} == {"PS-2641"}


@BOTH
async def test_a_limit_of_a_user_holds_for_their_key_and_for_those_that_a_program_names(
    house: House, model: str
) -> None:
    await house.begin(rule("user", "tokens", 280))
    assert [
        (await house.ask(model, key=BOB, headers={"x_penstock_user": "carl"})).status for _ in range(2)
    ] == [200, 200]
    assert [(await house.ask(model, headers={"x_penstock_user": "jörg"})).status for _ in range(2)] == [
        200,
        200,
    ]
    assert [house.used("user", "tokens", name) for name in ("bob", "jörg", "carl")] == [
        2 * TOKENS,
        2 * TOKENS,
        0,
    ]
    while (reply := await house.ask(model, key=BOB)).status == 200:
        assert house.used("user", "tokens", "bob") <= 280
    assert reply.status == 429
    assert "user 'bob'" in (await told(reply))["error"]["message"]
    assert (await house.ask(model, user="dora")).status == 200
    assert house.used("user", "tokens", "dora") == TOKENS


@BOTH
async def test_tokens_per_minute_of_the_key_itself_hold(house: House, model: str) -> None:
    row = key_row(ANNA, "anna", tokens_per_minute=600, requests_per_minute=50)
    await house.begin(keys=(row,))
    asked = 0
    while (reply := await house.ask(model)).status == 200:
        asked += 1
    assert reply.status == 429
    assert "tokens per minute" in (await told(reply))["error"]["message"]
    assert asked >= 1
    assert house.used("key", "tokens", "key_anna", name="", window="minute") == asked * TOKENS
    assert house.used("key", "requests", "key_anna", name="", window="minute") == asked + 1


@BOTH
async def test_each_counter_counts_once(house: House, model: str) -> None:
    scopes = ("all", "key", "user", "project", "route", "model")
    await house.begin(
        *[rule(scope, unit, 1_000_000) for scope in scopes for unit in ("requests", "tokens", "usd")]
    )
    replies = [await house.ask(model) for _ in range(3)]
    assert [reply.status for reply in replies] == [200] * 3
    served_by = "prompt:triage@1" if model == "prompt:triage" else "handbook"
    for scope, subject in (("all", ""), ("key", "key_anna"), ("user", "key key_anna"), ("project", "research"),
                           ("route", model), ("model", served_by)):  # fmt: skip
        assert [house.used(scope, unit, subject) for unit in ("requests", "tokens", "usd")] == [
            3, 3 * TOKENS, 3 * ONE_CALL,
        ], scope  # fmt: skip
    # the model's own route and model see each request that they get
    for scope in ("route", "model"):
        assert [house.used(scope, unit, "gpt-4o-mini") for unit in ("requests", "tokens", "usd")] == [
            3, 3 * TOKENS, 3 * ONE_CALL,
        ], scope  # fmt: skip
    for scope, subject in (("key", "internal"), ("project", "default"), ("user", "key internal")):
        assert house.used(scope, "requests", subject) == house.used(scope, "tokens", subject) == 0


@BOTH
async def test_a_route_of_an_app_can_have_a_budget(house: House, model: str) -> None:
    await house.begin(rule("route", "usd", "0.0003", match=model))
    while (reply := await house.ask(model)).status == 200:
        assert house.used("route", "usd", model) < 300_000
    assert reply.status == 429
    assert f"route {model!r}" in (await told(reply))["error"]["message"]
    assert (await house.ask("gpt-4o-mini", key=FREE)).status == 200


async def test_request_limits_of_the_models_own_route_refuse_and_those_of_the_caller_count_one(
    house: House,
) -> None:
    await house.begin(rule("route", "requests", 2, match="gpt-4o-mini"), rule("key", "requests", 10))
    assert [(await house.ask("prompt:triage")).status for _ in range(3)] == [200, 200, 429]
    assert (house.used("key", "requests", "key_anna"), house.used("route", "requests", "gpt-4o-mini")) == (
        3,
        2,
    )


async def test_an_app_that_asks_a_prompt_passes_the_caller_through_both(house: House) -> None:
    await house.begin(
        *[
            rule(scope, unit, 1_000_000)
            for scope in ("key", "route")
            for unit in ("requests", "tokens", "usd")
        ],
        routes=(Route(name="wrapped", targets=(Target(provider="apps", model="wrapped"),)),),
    )
    assert (await house.ask("wrapped", key=FREE)).status == 200
    for scope, subject in (
        ("key", "key_free"),
        ("route", "wrapped"),
        ("route", "prompt:triage"),
        ("route", "gpt-4o-mini"),
    ):
        assert [house.used(scope, unit, subject) for unit in ("requests", "tokens", "usd")] == [
            1,
            TOKENS,
            ONE_CALL,
        ]
    assert {span.key_id for span in await house.spans(3)} == {"key_free"}


async def test_a_route_of_an_app_and_a_model_counts_each_call_once(house: House) -> None:
    both = Route(
        name="both",
        targets=(
            Target(provider="apps", model="prompt:triage"),
            Target(provider="fake", model="gpt-4o-mini"),
        ),
    )
    await house.begin(rule("key", "tokens", 100_000), rule("key", "usd", "1"), routes=(both,))
    for _ in range(20):
        assert (await house.ask("both", max_tokens=9)).status == 200
    assert house.used("key", "tokens", "key_anna") == 20 * TOKENS
    assert house.used("key", "usd", "key_anna") == 20 * ONE_CALL


async def test_a_model_that_takes_over_from_an_app_is_counted(house: House) -> None:
    broken = Route(
        name="both",
        targets=(Target(provider="apps", model="lost"),),
        fallbacks=(Fallback(route="gpt-4o-mini"),),
    )
    await house.begin(rule("key", "tokens", 100_000), routes=(broken,))
    assert (await house.ask("both")).status == 200
    assert house.used("key", "tokens", "key_anna") == TOKENS


async def test_a_refusal_reaches_clients_in_their_own_dialect(house: House) -> None:
    await house.begin(rule("key", "usd", "0.00001"))
    async with anthropic.AsyncAnthropic(base_url=house.bench.url, api_key=ANNA, max_retries=0) as client:
        with pytest.raises(anthropic.RateLimitError, match="Budget reached for key 'anna'"):
            await client.messages.create(
                model="prompt:triage",
                max_tokens=50,
                messages=MAIL,
                extra_body={"prompt_variables": {"mail": "A"}},
            )
    async with openai.AsyncOpenAI(base_url=f"{house.bench.url}/v1", api_key=ANNA, max_retries=0) as client:
        with pytest.raises(openai.RateLimitError, match="Budget reached"):
            await client.chat.completions.create(model="handbook", messages=MAIL)


# -- whose it is


@BOTH
async def test_spans_are_the_callers_and_only_the_model_call_is_billed(house: House, model: str) -> None:
    await house.begin()
    await house.ask(model, headers={"x_penstock_user": "jörg", "x_penstock_session": "s-é"})
    outer, inner = await house.spans(2)
    for span in (outer, inner):
        assert (span.key_id, span.project, span.user_id, span.session_id) == (
            "key_anna",
            "research",
            "jörg",
            "s-é",
        )
    assert [is_billed(span) for span in (outer, inner)] == [False, True]
    assert (outer.cost_usd, outer.cost_source) == (0, "billed with the calls it made")
    assert inner.cost_usd == Decimal("0.0000335")
    if model == "prompt:triage":
        assert inner.versions == outer.versions == {"prompt:triage": house.service.get("triage").stamp}


async def test_the_key_of_an_app_need_not_be_allowed_to_call_its_model(house: House) -> None:
    await house.begin()
    assert (await house.ask("gpt-4o-mini")).status == 404
    assert (await house.ask("prompt:triage")).status == 200
    assert (await house.ask("handbook")).status == 200


async def test_cached_replies_of_the_model_are_not_shared_between_projects(house: House) -> None:
    cached = Route(
        name="cached",
        targets=(Target(provider="fake", model="gpt-4o-mini"),),
        cache=CachePolicy(mode="exact"),
    )
    house.service.create("triage", read_content({**TRIAGE, "model": "cached"}))
    await house.begin(rule("key", "usd", "1"), routes=(cached,))
    for key in (ANNA, ANNA, FREE):
        assert (await house.ask("prompt:triage", key=key)).status == 200
    assert len(house.bench.upstream.seen) == 2
    assert house.used("key", "usd", "key_anna") == ONE_CALL


async def test_embedding_the_question_of_a_search_is_the_callers_too(house: House) -> None:
    embedder = GatewayEmbedder(
        find_model=lambda: ("minilm", ""), find_url=lambda: house.bench.url, internal_key="internal-secret"
    )

    def embed() -> None:
        embedder.embed(["How long?"], "query")
        embedder.close()

    house.retriever.before = embed
    minilm = Route(name="minilm", kind="embedding", targets=(Target(provider="fake", model="minilm"),))
    await house.begin(rule("key", "tokens", 10_000), routes=(minilm,))
    assert (await house.ask("handbook")).status == 200
    assert house.used("key", "tokens", "key_anna") == TOKENS + 3
    assert {span.key_id for span in await house.spans(3)} == {"key_anna"}
    await asyncio.to_thread(embed)
    assert (await house.spans(4))[-1].key_id == "internal"  # nobody's, when no call is being served


async def test_a_key_that_is_deleted_meanwhile_is_still_whose_call_it_was(house: House) -> None:
    await house.begin(rule("key", "tokens", 1_000), rule("project", "tokens", 1_000))
    gone = as_header(key="key_gone", project="past", user="anna")
    reply = await house.ask("gpt-4o-mini", key="internal-secret", headers={"x_penstock_caller": gone})
    assert reply.status == 200
    assert (house.used("key", "tokens", "key_gone"), house.used("project", "tokens", "past")) == (
        TOKENS,
        TOKENS,
    )


# -- nobody else can say so


def as_header(**values: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


@pytest.mark.parametrize("model", ["gpt-4o-mini", "prompt:triage"])
async def test_a_client_that_names_another_caller_gains_nothing(house: House, model: str) -> None:
    await house.begin(
        *[rule(scope, unit, 1_000_000) for scope in ("key", "project") for unit in ("requests", "tokens")]
    )
    forged = {
        "x_penstock_caller": as_header(key="key_bob", project="default", user="bob", routes=["gpt-4o-mini"]),
        "x_penstock_prompt": "prompt:other 9@sha256:1",
        "x_penstock_refusal": as_header(code="PS-2641", message="no"),
    }
    assert (await house.ask(model, key=FREE, headers=forged)).status == 200
    assert [house.used("key", unit, "key_free") for unit in ("requests", "tokens")] == [1, TOKENS]
    assert [house.used("key", unit, "key_bob") for unit in ("requests", "tokens")] == [0, 0]
    for span in await house.spans(1 if model == "gpt-4o-mini" else 2):
        assert (span.key_id, span.user_id) == ("key_free", None)
        assert "prompt:other" not in span.versions
    assert (await house.ask("gpt-4o-mini", headers=forged)).status == 404  # nor does it open other routes
    sent = house.bench.upstream.seen[-1].head.lower()
    assert not [
        name for name in (b"x-penstock-caller", b"x-penstock-prompt", b"x-penstock-refusal") if name in sent
    ]


async def test_a_provider_that_claims_a_limit_is_not_believed(house: House) -> None:
    async def refuse(exchange: Exchange) -> None:
        claim = as_header(code="PS-2641", message="Budget reached for nobody.")
        await exchange.reply(
            {"error": {"message": "slow down", "type": "t", "code": "rate_limit_exceeded"}},
            status=429,
            extra=f"x-penstock-refusal: {claim}\r\n",
        )

    await house.begin()
    house.bench.upstream.handler = refuse
    reply = await house.ask("prompt:triage")
    assert reply.status == 429
    assert "slow down" in (await told(reply))["error"]["message"]


async def test_a_caller_that_cannot_be_read_is_refused_even_from_the_installation(house: House) -> None:
    await house.begin()
    for wrong in ("?", "e30=", as_header(key=1, project="x")):
        reply = await house.ask("gpt-4o-mini", key="internal-secret", headers={"x_penstock_caller": wrong})
        assert reply.status == 400
    assert house.bench.upstream.seen == []
