"""The apps process: answers with citations in OpenAI's shape, as one trace, and contains whatever goes wrong."""

import asyncio
import io
import threading
from typing import Any

import aiohttp
import openai
import pytest

from penstock.apps.handbook import declare_handbook
from penstock.apps.tracing import read_context
from penstock.base.errors import NotFound
from tests.apps.conftest import KEY, SLEEP, World

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_an_answer_comes_with_its_citation_and_usage(world: World) -> None:
    status, body = await world.ask()
    assert status == 200
    assert body["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Most adults need 7 to 9 hours of sleep each night.",
        "annotations": [
            {
                "type": "file_citation",
                "file_citation": {"file_id": "file-c2xlZXAubWQ", "filename": "sleep.md", "index": 50},
            }
        ],
    }
    assert body["citations"] == [
        {
            "document": "sleep.md",
            "section": "Length",
            "passage_id": "psg_1",
            "quote": SLEEP.sentences[0],
            "start": 0,
            "end": 50,
        }
    ]
    assert body["outcome"] == {"state": "answered", "knowledge": "knowledge:handbook@1"}
    assert body["usage"] == {"prompt_tokens": 40, "completion_tokens": 12, "total_tokens": 52}
    assert (body["object"], body["model"]) == ("chat.completion", "handbook")


async def test_a_streamed_answer_is_the_same_and_ends_with_the_citations(world: World) -> None:
    events = await world.stream()
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    assert text == "Most adults need 7 to 9 hours of sleep each night."
    assert len(events) > 3
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["citations"] == (await world.ask())[1]["citations"]
    with_usage = await world.stream(stream_options={"include_usage": True})
    assert with_usage[-1]["usage"]["total_tokens"] == 52
    assert with_usage[-2]["citations"]


async def test_the_official_client_understands_both(world: World) -> None:
    async with openai.AsyncOpenAI(base_url=f"{world.url}/v1", api_key=KEY, max_retries=0) as client:
        asked: Any = [{"role": "user", "content": [{"type": "text", "text": "How long?"}]}]
        reply = await client.chat.completions.create(model="handbook", messages=asked)
        assert reply.choices[0].message.content.startswith("Most adults")
        assert reply.model_extra["citations"][0]["document"] == "sleep.md"
        stream = await client.chat.completions.create(model="handbook", messages=asked, stream=True)
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].model_extra["citations"][0]["document"] == "sleep.md"
        assert [model.id async for model in client.models.list()] == ["handbook"]


async def test_one_call_is_one_trace_whose_model_call_is_a_child(world: World) -> None:
    headers = {"traceparent": PARENT, "x-penstock-session": "s-1", "x-penstock-user": "u-1"}
    body = {"model": "handbook", "messages": [{"role": "user", "content": "How long?"}]}
    await world.session.post(f"{world.url}/v1/chat/completions", json=body, headers=headers)
    app = world.recorder.named("app handbook")
    retrieve, answer = world.recorder.named("retrieve handbook"), world.recorder.named("answer")
    assert {span.trace_id for span in world.recorder.spans} == {"0af7651916cd43dd8448eb211c80319c"}
    assert app.parent_id == "b7ad6b7169203331"
    assert retrieve.parent_id == answer.parent_id == app.span_id
    assert world.retriever.calls[0][3] == f"00-{app.trace_id}-{retrieve.span_id}-01"
    sent_headers, sent = world.gateway.requests[0]
    assert sent_headers["traceparent"] == f"00-{app.trace_id}-{answer.span_id}-01"
    assert (sent_headers["x-penstock-session"], sent_headers["x-penstock-user"]) == ("s-1", "u-1")
    assert sent_headers["authorization"] == f"Bearer {KEY}"
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("pocket", 0.0, 256)
    assert (app.kind, app.status, app.session_id, app.cost_usd, app.usage) == ("app", "ok", "s-1", None, None)
    assert app.versions["knowledge:handbook"] == "1@gen_1"
    assert app.versions["app:handbook"].startswith("sha256:")
    assert app.input["messages"][0]["content"] == "How long?"
    assert app.output["citations"][0]["document"] == "sleep.md"
    assert retrieve.output["documents"][0]["passage_id"] == "psg_1"


async def test_what_the_model_does_not_know_is_said_plainly_and_cites_nothing(world: World) -> None:
    world.gateway.reply = "I do not know from these passages."
    _, body = await world.ask()
    assert body["choices"][0]["message"]["content"].startswith("I do not know")
    assert "[" not in body["choices"][0]["message"]["content"]
    assert body["citations"] == []
    events = await world.stream()
    assert events[0]["choices"][0]["delta"]["content"] == body["choices"][0]["message"]["content"]
    assert events[-1]["citations"] == []


async def test_a_quoting_app_holds_its_model_to_the_sentences_shown(world: World) -> None:
    world.apps.append(declare_handbook(name="quoting"))
    await world.ask(model="quoting")
    choices = world.gateway.requests[0][1]["structured_outputs"]["choice"]
    assert choices[0] == f"[1] {SLEEP.sentences[0]}"
    assert choices[-1] == "I do not know from these passages."


async def test_a_greeting_that_finds_nothing_calls_no_model(world: World) -> None:
    world.retriever.hits = []
    status, body = await world.ask("hello")
    assert status == 200
    assert "found nothing" in body["choices"][0]["message"]["content"]
    nothing = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert (body["citations"], body["usage"]) == ([], nothing)
    assert world.gateway.requests == []
    assert len(await world.stream("hello")) == 2
    counted = await world.stream("hello", stream_options={"include_usage": True})
    assert (counted[-1]["choices"], counted[-1]["usage"]) == ([], nothing)


async def test_the_last_user_message_is_the_question_and_sampling_passes_on(world: World) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "First?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Second?"},
    ]
    await world.ask(messages=messages, temperature=0.5, seed=7, max_completion_tokens=9)
    assert world.retriever.calls[0][1] == "Second?"
    sent = world.gateway.requests[0][1]
    assert (sent["temperature"], sent["seed"], sent["max_completion_tokens"]) == (0.5, 7, 9)
    assert "max_tokens" not in sent


async def test_apps_declared_later_are_found(world: World) -> None:
    world.apps.append(declare_handbook(model="big", knowledge="other", name="guide"))
    _, body = await world.ask(model="guide")
    assert body["model"] == "guide"
    assert world.retriever.calls[0][0] == "other"
    assert world.gateway.requests[0][1]["messages"][0]["role"] == "system"


@pytest.mark.parametrize(
    ("members", "status", "word"),
    [
        ({"model": "handbok"}, 404, "Did you mean 'handbook'"),
        ({"n": 2}, 400, "one answer"),
        ({"tools": [{"type": "function"}]}, 400, "tools"),
        ({"messages": []}, 400, "no user message"),
        ({"messages": [{"role": "user", "content": "  "}]}, 400, "empty"),
        ({"messages": [{"role": "user", "content": "x" * 5000}]}, 400, "5,000"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "image_url"),
        ({"messages": "hello"}, 400, "messages"),
        ({"temperature": "hot"}, 400, "temperature"),
    ],
)
async def test_wrong_requests_say_what_is_wrong(
    world: World, members: dict[str, Any], status: int, word: str
) -> None:
    got, body = await world.ask(**members)
    assert (got, word in body["error"]["message"]) == (status, True), body


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b'{"model": 1}', b"[" * 100_000])
async def test_what_is_no_request_is_refused(world: World, data: bytes) -> None:
    async with world.session.post(f"{world.url}/v1/chat/completions", data=data) as response:
        assert response.status == 400
        assert "error" in await response.json()


async def test_a_body_over_the_limit_is_refused(world: World) -> None:
    async with world.session.post(
        f"{world.url}/v1/chat/completions", data=io.BytesIO(b" " * 27_000_000)
    ) as response:
        assert response.status == 413


@pytest.mark.parametrize("key", ["", "Bearer wrong", "Basic x", f"Bearer {KEY}x"])
async def test_only_the_internal_key_opens(world: World, key: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{world.url}/v1/chat/completions", json={}, headers={"authorization": key}) as response,
    ):
        assert response.status == 401


async def test_health_needs_no_key_and_other_paths_do_not_exist(world: World) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{world.url}/health") as response:
        assert (await response.json())["apps"] == ["handbook"]
    async with world.session.get(f"{world.url}/nothing") as response:
        assert response.status == 404


@pytest.mark.parametrize(
    ("status", "broken", "expected", "word"),
    [
        (404, None, 502, "the model is not here"),
        (500, None, 502, "status 500"),
        (200, "garbage", 502, "no chat reply"),
        (200, "hang", 504, "longer than 0.6 s"),
    ],
)
async def test_a_failing_model_is_contained_and_named(
    world: World, status: int, broken: str | None, expected: int, word: str
) -> None:
    world.gateway.status, world.gateway.broken = status, broken
    if broken == "hang":
        world.hurry(answer_timeout_s=0.6)
    got, body = await world.ask()
    assert got == expected
    assert "step 'answer'" in body["error"]["message"]
    assert word in body["error"]["message"]
    states = {span.name: span.status for span in world.recorder.spans}
    assert states == {"retrieve handbook": "ok", "answer": "error", "app handbook": "error"}


@pytest.mark.parametrize("broken", ["cut", "stall"])
async def test_a_stream_that_breaks_ends_with_an_error_event(world: World, broken: str) -> None:
    world.gateway.broken = broken
    if broken == "stall":
        world.hurry(answer_timeout_s=1.5)
    events = await world.stream()
    assert events[0]["choices"][0]["delta"]["content"]
    assert "step 'answer'" in events[-1]["error"]["message"]
    assert world.recorder.named("app handbook").status == "error"


async def test_a_failing_search_is_contained_and_named(world: World) -> None:
    def fail() -> None:
        raise RuntimeError("disk gone")

    world.retriever.before = fail
    status, body = await world.ask()
    assert status == 502
    assert "step 'retrieve' failed: RuntimeError: disk gone" in body["error"]["message"]
    assert world.recorder.named("retrieve handbook").error_code == "PS-4681"
    assert world.gateway.requests == []


async def test_a_search_that_hangs_is_given_up(world: World) -> None:
    gate = threading.Event()
    world.hurry(retrieve_timeout_s=0.3)
    world.retriever.before = lambda: gate.wait(60) and None
    status, body = await world.ask()
    gate.set()
    assert status == 504
    assert "step 'retrieve' took longer" in body["error"]["message"]


async def test_missing_knowledge_is_the_callers_to_see(world: World) -> None:
    def fail() -> None:
        raise NotFound("no knowledge base 'handbook'.")

    world.retriever.before = fail
    status, body = await world.ask()
    assert (status, "no knowledge base" in body["error"]["message"]) == (404, True)


async def test_a_caller_who_hangs_up_stops_the_model_call(world: World) -> None:
    world.gateway.broken = "stall"
    body = {"model": "handbook", "messages": [{"role": "user", "content": "x"}], "stream": True}
    response = await world.session.post(f"{world.url}/v1/chat/completions", json=body)
    await response.content.readany()
    response.close()
    await asyncio.wait_for(world.gateway.hung_up.wait(), 120)
    while not any(span.name == "app handbook" for span in world.recorder.spans):
        await asyncio.sleep(0.01)
    assert world.recorder.named("app handbook").status == "error"


async def test_many_questions_at_once_keep_their_own_traces(world: World) -> None:
    answers = await asyncio.gather(*(world.ask(f"Question {number}?") for number in range(20)))
    assert all(status == 200 for status, _ in answers)
    apps = [span for span in world.recorder.spans if span.kind == "app"]
    assert len({span.trace_id for span in apps}) == 20
    for span in world.recorder.spans:
        if span.name == "answer":
            (parent,) = [app for app in apps if app.span_id == span.parent_id]
            assert parent.trace_id == span.trace_id


@pytest.mark.parametrize(
    "header",
    [None, "", "garbage", "ff" + PARENT[2:], "00-" + "0" * 32 + "-b7ad6b7169203331-01", PARENT.upper()],
)
def test_a_bad_traceparent_starts_a_new_trace(header: str | None) -> None:
    context = read_context(header)
    assert context.parent_id is None
    assert len(context.trace_id) == 32
    assert read_context(PARENT).parent_id == "b7ad6b7169203331"
