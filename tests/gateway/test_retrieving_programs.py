"""Programs that search through the gateway: the SDK, and the retrievers of the examples that are built on it."""

import asyncio
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import penstock
from penstock.sdk.errors import RetrievalFailed, RetrievalRefused, SdkSettingInvalid
from tests.gateway.knowledge_house import ANNA, NARROW, House, house
from tests.gateway.upstream import Exchange
from tests.sdk.conftest import Collector, collector, setup, switch_off

__all__ = ["collector", "house"]  # fixtures
EXAMPLES = Path(__file__).parents[2] / "examples" / "retrievers"


@pytest.fixture
def sdk(collector: Collector) -> Any:
    setup(collector, key=ANNA)
    yield collector
    switch_off()


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def search(house: House, *args: Any, **options: Any) -> penstock.Retrieved:
    return await asyncio.to_thread(penstock.retrieve, *args, **{"gateway_url": house.bench.url, **options})


async def test_a_program_searches_and_its_span_stands_above_the_gateways(
    house: House, sdk: Collector
) -> None:
    with penstock.attributes(user_id="Zoë", session_id="s1"):
        found = await search(house, "handbook", "sleep", k=2, filter="language:en", groups=["finance"])
    assert [passage.document for passage in found] == ["sleep.md", "water.md"]
    assert (len(found), found.version, found.mode) == (2, "knowledge:handbook@1", "hybrid")
    assert found.passages[0].section == "Length"
    assert house.principals() == ["everyone", "user:Zoë", "group:finance"]
    assert house.retriever.scopes[0].conditions[0].field == "language"
    await asyncio.to_thread(penstock.flush)
    ours = sdk.span("retrieve handbook")
    (theirs,) = await house.bench.sink.wait(1)
    assert (theirs.trace_id, theirs.parent_id, theirs.session_id) == (ours.trace, ours.id, "s1")
    assert ours.attributes["openinference.span.kind"] == "RETRIEVER"
    assert ours.output["documents"][0]["passage_id"] == "psg_1"


async def test_a_group_is_one_group_whatever_its_name_holds(house: House, sdk: Collector) -> None:
    """Names of groups come from directories: one with a comma in it must not be two, of which one lets somebody in."""
    names = ["Sales, finance", "50% club", "Zoë's", "a+b", " finance"]
    await search(house, "handbook", "sleep", groups=names)
    assert house.principals() == ["everyone", *(f"group:{name}" for name in names)]
    await house.client(x_penstock_groups="board, R%26D,50% club").vector_stores.search("handbook", query="x")
    assert house.principals() == ["everyone", "group:board", "group:R&D", "group:50% club"]


async def test_a_group_that_would_have_to_be_made_to_fit_is_left_out(house: House, sdk: Collector) -> None:
    for name in ("fin\nance", "finance\u200b", "g" * 201):
        await search(house, "handbook", "sleep", groups=["board", name])
        assert house.principals() == ["everyone", "group:board"]


async def test_one_text_is_no_list_of_groups(house: House, sdk: Collector) -> None:
    with pytest.raises(SdkSettingInvalid, match="groups"):
        await search(house, "handbook", "sleep", groups="finance")
    with pytest.raises(SdkSettingInvalid, match="x-penstock-user"):
        await search(house, "handbook", "sleep", user="ada\r\nx-penstock-groups: finance")
    assert house.retriever.calls == []


ROW = {"passage_id": "p", "filename": "f", "score": 1, "content": [{"text": "t"}]}


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        {"data": None},
        {"data": [5]},
        {"data": [{**ROW, "content": None}]},
        {"data": [{**ROW, "score": "high"}]},
        {"data": [ROW], "knowledge": 5},
    ],
)
async def test_an_answer_that_is_no_page_is_a_failure(house: House, sdk: Collector, answer: Any) -> None:
    async def reply(exchange: Exchange) -> None:
        await exchange.reply(json.dumps(answer).encode())

    house.bench.upstream.handler = reply
    with pytest.raises(RetrievalFailed, match="something else than a page"):
        await search(house, "handbook", "sleep", gateway_url=house.bench.upstream.url)


async def test_an_asynchronous_program_searches_too(house: House, sdk: Collector) -> None:
    found = await penstock.retrieve_async(
        "handbook", "sleep", user="ada", gateway_url=f"{house.bench.url}/v1"
    )
    assert len(found) == 2
    assert house.principals() == ["everyone", "user:ada"]


async def test_the_gateway_is_found_by_its_variable(
    house: House, sdk: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_GATEWAY_URL", house.bench.url)
    assert len(await asyncio.to_thread(penstock.retrieve, "handbook", "sleep")) == 2


async def test_a_refusal_and_a_silence_are_told_apart(house: House, sdk: Collector) -> None:
    with pytest.raises(RetrievalRefused, match="no knowledge base 'nowhere'"):
        await search(house, "nowhere", "sleep")
    with pytest.raises(RetrievalRefused, match="max_num_results"):
        await search(house, "handbook", "sleep", k=51)
    with pytest.raises(RetrievalFailed, match="did not answer"):
        await search(house, "handbook", "sleep", gateway_url="http://127.0.0.1:9")
    with pytest.raises(SdkSettingInvalid):
        await search(house, "handbook", "sleep", gateway_url="gateway:4600")
    house.retriever.before = _break
    with pytest.raises(RetrievalFailed, match="step 'retrieve'"):
        await search(house, "handbook", "sleep")


async def test_a_key_without_the_base_is_refused(house: House, collector: Collector) -> None:
    setup(collector, key=NARROW)
    try:
        with pytest.raises(RetrievalRefused):
            await search(house, "ledger", "sleep")
        assert len(await search(house, "handbook", "sleep")) == 2
    finally:
        switch_off()


async def test_the_langchain_retriever_of_the_examples(house: House, sdk: Collector) -> None:
    made = load("langchain_retriever").PenstockRetriever(
        base="handbook", k=2, user="ada", gateway_url=house.bench.url
    )
    documents = await asyncio.to_thread(made.invoke, "sleep")
    assert documents == await made.ainvoke("sleep")
    assert [each.metadata["document"] for each in documents] == ["sleep.md", "water.md"]
    assert documents[0].page_content.startswith("Most adults")
    assert house.principals() == ["everyone", "user:ada"]


async def test_the_llamaindex_retriever_of_the_examples(house: House, sdk: Collector) -> None:
    made = load("llamaindex_retriever").PenstockRetriever(
        "handbook", k=2, user="ada", gateway_url=house.bench.url
    )
    nodes = await asyncio.to_thread(made.retrieve, "sleep")
    assert [node.node.metadata["file_path"] for node in nodes] == ["sleep.md", "water.md"]
    assert nodes[0].score == 1.0
    assert [node.text for node in await made.aretrieve("sleep")] == [node.text for node in nodes]
    assert house.principals() == ["everyone", "user:ada"]


def _break() -> None:
    raise OSError("disk")
