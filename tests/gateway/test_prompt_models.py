"""A prompt asked as a model: gateway, apps and gateway again over real sockets, with the official clients."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from penstock.apps.app import create_apps
from penstock.main.prompt_routes import PromptVersions, prompt_route
from penstock.prompts.service import PromptService, read_content
from penstock.prompts.serving import PromptServer
from penstock.prompts.types import PromptParts
from penstock.registry.service import Registry
from penstock.spec.routes import KeyRow, Provider, Route, Target
from penstock.store.blobs import BlobStore
from penstock.store.control.engine import open_control
from tests.gateway.conftest import KEY, Bench, SpanList, key_row, serve
from tests.gateway.upstream import DONE, USAGE_EVENT, Exchange, chunk

THINKING = "I look at it.\nAnswer: urgent"
NARROW_KEY = "ps-narrow-key-0123456789"
TRIAGE: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "You are {{ tone }}."},
        {"role": "slot", "content": "history"},
        {"role": "user", "content": "Sort: {{ mail }}"},
    ],
    "variables": {"mail": {}, "tone": {"required": False, "default": "kind"}},
    "model": "gpt-4o-mini",
    "parameters": {"temperature": 0.3, "max_tokens": 50},
}
MAIL = [{"role": "user", "content": "My house burns"}]


@dataclass
class House:
    """A bench with prompts."""

    bench: Bench
    service: PromptService
    registry: Registry
    spans: SpanList
    apps_url: str
    places: dict[str, list[str]]

    def publish(self, *routes: Route) -> None:
        """Tell the gateway of everything that is registered."""
        prompts = []
        for asset in self.registry.list_assets("prompt"):
            at = {
                alias: self.registry.resolve(f"prompt:{asset.name}@{n}") for alias, n in asset.aliases.items()
            }
            live = at.get("prod") or self.registry.resolve(f"prompt:{asset.name}@{asset.latest}")
            prompts.append(prompt_route(PromptVersions(live=live, aliases=at)))
        self.bench.write(
            providers=[
                Provider(name="fake", base_url=self.bench.upstream.url, price_id="openai"),
                Provider(name="apps", base_url=self.apps_url, local=True, price_id="local"),
            ],
            routes=[
                Route(name="gpt-4o-mini", targets=(Target(provider="fake", model="gpt-4o-mini"),)),
                Route(name="dear", targets=(Target(provider="fake", model="gpt-4o-mini"),)),
                *routes,
                *prompts,
            ],
            keys=[key_row(KEY, "test"), _narrow()],
        )
        assert self.bench.gateway is not None
        self.bench.gateway._watch.refresh()

    def client(self, key: str = KEY) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.bench.url}/v1", api_key=key, max_retries=0)

    async def ask(self, model: str, messages: list[Any] | None = None, key: str = KEY, **more: Any) -> Any:
        async with self.client(key) as client:
            return await client.chat.completions.create(model=model, messages=messages or [], **more)

    async def refusal(
        self, model: str, messages: list[Any] | None = None, key: str = KEY, **more: Any
    ) -> Any:
        with pytest.raises(openai.APIStatusError) as caught:
            await self.ask(model, messages, key, **more)
        return caught.value

    @property
    def sent(self) -> Any:
        """The last request that reached the provider."""
        return self.bench.upstream.seen[-1].json


def _narrow() -> KeyRow:
    return key_row(NARROW_KEY, "narrow", routes=("prompt:triage",))


@pytest.fixture
async def house(bench: Bench, tmp_path: Path, migrated_sqlite: Path) -> AsyncIterator[House]:
    shutil.copy(migrated_sqlite, tmp_path / "control.db")
    engine = open_control(f"sqlite:///{tmp_path / 'control.db'}")
    registry = Registry(engine, BlobStore(str(tmp_path / "blobs")), protected_aliases=())
    service = PromptService(registry, PromptParts())
    spans, places = SpanList(), {}  # type: ignore[var-annotated]
    app = create_apps(
        apps=[],
        retriever=None,  # type: ignore[arg-type]  # no app is asked here
        recorder=spans,
        gateway_url=f"{bench.url}/v1",
        internal_key="internal-secret",
        prompts=PromptServer(service, routes=lambda: places),
    )
    async with serve(app) as port:
        made = House(bench, service, registry, spans, f"http://127.0.0.1:{port}/v1", places)
        service.create("triage", read_content(TRIAGE))
        made.publish()
        yield made
    engine.dispose()


async def think(exchange: Exchange) -> None:
    """A model that reasons before it answers."""
    if not exchange.json.get("stream"):
        message = {"role": "assistant", "content": THINKING}
        await exchange.reply(
            {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "model": "m"}
        )
        return
    await exchange.begin_stream()
    for start in range(0, len(THINKING), 4):
        await exchange.piece(chunk({"content": THINKING[start : start + 4]}))
    await exchange.piece(chunk({}, finish="stop"))
    await exchange.piece(USAGE_EVENT)
    await exchange.piece(DONE)
    await exchange.end_stream()


async def test_a_prompt_answers_and_the_trace_says_which_version(house: House) -> None:
    reply = await house.ask(
        "prompt:triage", extra_body={"prompt_variables": {"mail": "Fire", "tone": "calm"}}
    )
    assert reply.choices[0].message.content == "Drink water."
    assert house.sent["messages"] == [
        {"role": "system", "content": "You are calm."},
        {"role": "user", "content": "Sort: Fire"},
    ]
    assert (house.sent["temperature"], house.sent["max_tokens"]) == (0.3, 50)
    assert "prompt_variables" not in house.sent
    (step,) = await house.spans.wait()
    stamp = house.service.get("triage").stamp
    assert (step.name, step.kind, step.prompt, step.versions) == (
        "prompt triage", "app", "triage@1", {"prompt:triage": stamp},
    )  # fmt: skip
    outer, inner = sorted(await house.bench.sink.wait(2), key=lambda span: span.start_ns)
    assert (step.parent_id, inner.parent_id) == (outer.span_id, step.span_id)
    assert outer.versions == {"prompt:triage": stamp}
    assert len({outer.trace_id, step.trace_id, inner.trace_id}) == 1
    assert step.input["variables"] == {"mail": "Fire", "tone": "calm"}


async def test_the_last_user_message_is_the_one_text_that_is_needed(house: House) -> None:
    await house.ask(
        "prompt:triage", [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, *MAIL]
    )
    assert [each["content"] for each in house.sent["messages"]] == [
        "You are kind.",
        "Hi",
        "Yes?",
        "Sort: My house burns",
    ]


async def test_what_the_caller_says_wins_over_the_prompt(house: House) -> None:
    await house.ask("prompt:triage", MAIL, max_completion_tokens=9, temperature=1, seed=4, stop=["x"])
    sent = house.sent
    assert (sent["max_completion_tokens"], sent["temperature"], sent["seed"], sent["stop"]) == (
        9,
        1,
        4,
        ["x"],
    )
    assert "max_tokens" not in sent


async def test_streams_pass_as_they_come(house: House) -> None:
    stream = await house.ask("prompt:triage", MAIL, stream=True, stream_options={"include_usage": True})
    chunks = [each async for each in stream]
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == "Drink water."
    assert chunks[-1].usage.total_tokens == 28


async def test_versions_are_asked_by_alias_number_and_digest_and_moves_hold_at_once(house: House) -> None:
    second = house.service.create(
        "triage",
        read_content({**TRIAGE, "messages": [{"role": "user", "content": "Two {{ tone }} {{ mail }}"}]}),
    )
    house.service.move("triage@1", "prod", actor="me")
    house.service.move("triage@2", "canary", actor="me")
    house.publish()

    async def text_of(model: str) -> str:
        await house.ask(model, MAIL)
        return str(house.sent["messages"][-1]["content"])

    assert await text_of("prompt:triage") == await text_of("prompt:triage@prod") == "Sort: My house burns"
    for name in ("canary", "2", "latest", second.digest, second.digest[:20]):
        assert await text_of(f"prompt:triage@{name}") == "Two kind My house burns", name
    house.service.move("triage@2", "prod", actor="me")
    house.publish()
    assert await text_of("prompt:triage") == "Two kind My house burns"
    house.service.rollback("triage", "prod", actor="me")
    house.publish()
    assert await text_of("prompt:triage@prod") == "Sort: My house burns"
    async with house.client() as client:
        listed = [each.id async for each in client.models.list()]
    assert {"prompt:triage", "prompt:triage@prod", "prompt:triage@canary"} <= set(listed)


async def test_a_route_can_split_two_versions(house: House) -> None:
    house.service.create(
        "triage",
        read_content({**TRIAGE, "messages": [{"role": "user", "content": "Two {{ tone }} {{ mail }}"}]}),
    )
    house.publish(
        Route(
            name="sort",
            targets=tuple(Target(provider="apps", model=f"prompt:triage@{number}") for number in (1, 2)),
        )
    )
    asked = [house.bench.post({"model": "sort", "messages": MAIL}) for _ in range(30)]
    assert {told.status for told in await asyncio.gather(*asked)} == {200}
    texts = {each.json["messages"][-1]["content"] for each in house.bench.upstream.seen}
    assert texts == {"Sort: My house burns", "Two kind My house burns"}


async def test_reasoning_is_taken_out_of_replies_and_streams_and_kept_in_the_trace(house: House) -> None:
    house.service.create("triage", read_content({**TRIAGE, "chain_of_thought": {}}))
    house.publish()
    house.bench.upstream.handler = think
    reply = await house.ask("prompt:triage@2", MAIL)
    assert reply.choices[0].message.content == "urgent"
    stream = await house.ask("prompt:triage@2", MAIL, stream=True)
    told = [each async for each in stream]
    assert "".join(each.choices[0].delta.content or "" for each in told if each.choices) == "urgent"
    assert [each.choices[0].finish_reason for each in told if each.choices][-1] == "stop"
    assert [span.output["reasoning"] for span in await house.spans.wait(2)] == ["I look at it."] * 2


async def test_wrong_variables_are_refused_before_any_model_is_asked(house: House) -> None:
    error = await house.refusal("prompt:triage", extra_body={"prompt_variables": {"mial": "x", "tone": []}})
    assert (error.status_code, error.code) == (400, "PS-1242")
    assert "Did you mean 'mail'" in error.message
    assert "'tone' must be a text" in error.message
    assert house.bench.upstream.seen == []


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("prompt:triag", "Did you mean 'prompt:triage'"),
        ("prompt:triage@9", "unknown version 9"),
        ("prompt:triage@prdo", "unknown alias 'prdo'"),
    ],
)
async def test_unknown_names_are_404_with_near_ones(house: House, model: str, told: str) -> None:
    error = await house.refusal(model, MAIL)
    assert error.status_code == 404
    assert told in error.message


async def test_another_model_can_be_named_but_only_one_that_the_key_may_call(house: House) -> None:
    await house.ask("prompt:triage", MAIL, extra_body={"prompt_model": "dear"})
    assert (await house.bench.sink.wait(2))[0].route in ("dear", "prompt:triage")
    n_sent = len(house.bench.upstream.seen)
    await house.ask("prompt:triage", MAIL, key=NARROW_KEY)
    for body in ({"prompt_model": "dear"}, {"prompt\\u005fmodel": "dear"}):
        raw = str(body).replace("'", '"').replace("\\\\", "\\")
        sent = (
            b'{"model": "prompt:triage", "messages": [{"role": "user", "content": "x"}], ' + raw[1:].encode()
        )
        assert (await house.bench.post(sent, key=NARROW_KEY)).status == 404
    assert len(house.bench.upstream.seen) == n_sent + 1


async def test_refusals_of_the_model_reach_the_caller_as_they_are(house: House) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.reply({"error": {"message": "no such thing", "type": "t", "code": "c"}}, status=400)

    house.bench.upstream.handler = refuse
    error = await house.refusal("prompt:triage", MAIL)
    assert (error.status_code, error.message.count("no such thing")) == (400, 1)
    assert len(house.bench.upstream.seen) == 1
    (span,) = await house.spans.wait()
    assert span.status == "error"


async def test_prompts_that_ask_themselves_are_refused(house: House) -> None:
    house.service.create("one", read_content({**TRIAGE, "model": "prompt:two"}))
    house.service.create("two", read_content({**TRIAGE, "model": "ring"}))
    house.places["ring"] = ["prompt:one"]
    house.publish()
    error = await house.refusal("prompt:one", MAIL)
    assert (error.status_code, error.code) == (400, "PS-1246")
    assert "prompt:one → prompt:two → ring → prompt:one" in error.message


async def test_a_prompt_may_ask_a_prompt(house: House) -> None:
    house.service.create(
        "outer",
        read_content(
            {
                "messages": [{"role": "user", "content": "<{{ q }}>"}],
                "variables": {"q": {}},
                "model": "prompt:triage",
            }
        ),
    )
    house.publish()
    await house.ask("prompt:outer", MAIL)
    assert house.sent["messages"][-1]["content"] == "Sort: <My house burns>"


async def test_clients_of_other_dialects_ask_prompts_with_variables(house: House) -> None:
    async with anthropic.AsyncAnthropic(base_url=house.bench.url, api_key=KEY, max_retries=0) as client:
        reply = await client.messages.create(
            model="prompt:triage", max_tokens=20, messages=MAIL, extra_body={"prompt_variables": {"mail": "A"}}  # type: ignore[arg-type]
        )  # fmt: skip
    assert reply.content[0].text == "Drink water."
    assert house.sent["messages"][-1]["content"] == "Sort: A"
    assert house.sent["max_tokens"] == 20
    async with house.client() as client:
        told = await client.responses.create(
            prompt={
                "id": "triage",
                "version": "1",
                "variables": {"mail": {"type": "input_text", "text": "B"}},
            }
        )
        assert told.output_text == "Drink water."
        assert house.sent["messages"][-1]["content"] == "Sort: B"
        await client.responses.create(
            model="dear", prompt={"id": "prompt:triage", "variables": {"mail": "C"}}
        )
        assert house.sent["messages"][-1]["content"] == "Sort: C"
