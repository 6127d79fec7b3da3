"""The official `openai` client, unchanged but for its base URL, against targets of all six dialects."""

import json
import warnings
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from tests.clients.conftest import Place
from tests.clients.upstream import LOGPROBS, SOUND, THOUGHT, VECTORS
from tests.fixtures.upstreams.clients import PICTURE
from tests.fixtures.upstreams.server import DIALECTS

TEXT = "Drink water."
ASK: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What now?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": SCHEMA}}
]
WEATHER = [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})]
every_server = pytest.mark.parametrize("server", DIALECTS)
three_servers = pytest.mark.parametrize("server", ["openai", "anthropic", "gemini"])


class Weather(pydantic.BaseModel):
    city: str


def fits(type_: type[pydantic.BaseModel], reply: pydantic.BaseModel) -> None:
    """Fail unless a reply has all that its type promises: the client itself takes anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydantic, of what the client took unchecked
        said = reply.model_dump(mode="json", by_alias=True, exclude_unset=True)
        type_.model_validate(said)


@pytest.fixture(scope="module")
def client(running: Place) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.url + "/v1", api_key=running.key, max_retries=0) as made:
        yield made


# -- chat completions


@every_server
def test_chat(client: openai.OpenAI, place: Place, server: str) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=f"{server}-text", messages=ASK, max_tokens=50
    )
    reply = raw.parse()
    fits(ChatCompletion, reply)
    assert reply.choices[0].message.content == TEXT
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (20, 8, 28)
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 5
    assert raw.headers["x-penstock-provider"] == server


@every_server
def test_chat_streamed(client: openai.OpenAI, place: Place, server: str) -> None:
    stream = client.chat.completions.create(
        model=f"{server}-text", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    for chunk in chunks:
        fits(ChatCompletionChunk, chunk)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == TEXT
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 28


@every_server
def test_parallel_tool_calls_and_their_results(client: openai.OpenAI, place: Place, server: str) -> None:
    reply = client.chat.completions.create(model=f"{server}-tools", messages=ASK, tools=TOOLS)
    message = reply.choices[0].message
    calls = message.tool_calls or []
    assert [(c.function.name, json.loads(c.function.arguments)) for c in calls] == WEATHER  # type: ignore[union-attr]
    assert reply.choices[0].finish_reason == "tool_calls"
    results: list[Any] = [{"role": "tool", "tool_call_id": call.id, "content": "cold"} for call in calls]
    again = client.chat.completions.create(
        model=f"{server}-text", messages=[*ASK, message, *results], tools=TOOLS
    )
    assert again.choices[0].message.content == TEXT
    assert place.asked().body.count(b"cold") == 2


@every_server
def test_parallel_tool_calls_streamed(client: openai.OpenAI, place: Place, server: str) -> None:
    with client.chat.completions.stream(model=f"{server}-tools", messages=ASK, tools=TOOLS) as stream:
        for _ in stream:
            pass
        message = stream.get_final_completion().choices[0].message
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]
    assert calls == WEATHER


@every_server
def test_structured_output_is_parsed(client: openai.OpenAI, place: Place, server: str) -> None:
    reply = client.chat.completions.parse(model=f"{server}-json", messages=ASK, response_format=Weather)
    assert reply.choices[0].message.parsed == Weather(city="Oslo")
    assert b"city" in place.asked().body


@three_servers
def test_a_picture_in_the_question(client: openai.OpenAI, place: Place, server: str) -> None:
    url = f"data:image/png;base64,{PICTURE}"
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    question: list[Any] = [{"role": "user", "content": content}]
    reply = client.chat.completions.create(model=f"{server}-text", messages=question)
    assert reply.choices[0].message.content == TEXT
    assert PICTURE.encode() in place.asked().body


def test_logprobs(client: openai.OpenAI, place: Place) -> None:
    reply = client.chat.completions.create(
        model="openai-logprobs", messages=ASK, logprobs=True, top_logprobs=0
    )
    assert reply.choices[0].logprobs is not None
    assert reply.choices[0].logprobs.model_dump(exclude_none=True)["content"] == LOGPROBS["content"]


def test_thoughts_of_another_dialect_are_shown(client: openai.OpenAI, place: Place) -> None:
    reply = client.chat.completions.create(model="anthropic-think", messages=ASK, reasoning_effort="low")
    assert reply.choices[0].message.reasoning_content == THOUGHT  # type: ignore[attr-defined]
    assert reply.choices[0].message.content == TEXT


async def test_the_asynchronous_client(place: Place) -> None:
    async with openai.AsyncOpenAI(base_url=place.url + "/v1", api_key=place.key, max_retries=0) as client:
        stream = await client.chat.completions.create(model="anthropic-text", messages=ASK, stream=True)
        text = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert "".join(text) == TEXT


# -- responses


@every_server
def test_responses(client: openai.OpenAI, place: Place, server: str) -> None:
    reply = client.responses.create(model=f"{server}-text", instructions="Be brief.", input="What now?")
    assert (reply.status, reply.output_text) == ("completed", TEXT)
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (20, 8)
    assert reply.usage.input_tokens_details.cached_tokens == 5
    assert reply.usage.output_tokens_details.reasoning_tokens == 0
    if server != "responses":  # whose bytes are the provider's
        fits(Response, reply)


@every_server
def test_responses_streamed(client: openai.OpenAI, place: Place, server: str) -> None:
    with client.responses.stream(model=f"{server}-text", input="What now?") as stream:
        events = list(stream)
        final = stream.get_final_response()
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert final.output_text == text == TEXT
    completed = next(event for event in events if event.type == "response.completed")
    if server != "responses":
        fits(Response, completed.response)


@every_server
def test_responses_with_tools(client: openai.OpenAI, place: Place, server: str) -> None:
    tools: list[Any] = [{"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": False}]
    reply = client.responses.create(model=f"{server}-tools", input="What now?", tools=tools)
    calls = [item for item in reply.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == WEATHER
    with client.responses.stream(model=f"{server}-tools", input="What now?", tools=tools) as stream:
        items = stream.get_final_response().output if list(stream) else []
    assert [(c.name, json.loads(c.arguments)) for c in items if c.type == "function_call"] == WEATHER


@pytest.mark.parametrize("server", ["responses", "openai", "gemini"])
def test_responses_parsed(client: openai.OpenAI, place: Place, server: str) -> None:
    reply = client.responses.parse(model=f"{server}-json", input="Where?", text_format=Weather)
    assert reply.output_parsed == Weather(city="Oslo")


# -- everything else


@pytest.mark.parametrize("server", ["openai", "cohere", "gemini"])
def test_embeddings(client: openai.OpenAI, place: Place, server: str) -> None:
    reply = client.embeddings.create(model=f"{server}-any", input=["a", "b"])
    assert [tuple(row.embedding) for row in reply.data] == list(VECTORS)


def test_moderations(client: openai.OpenAI, place: Place) -> None:
    reply = client.moderations.create(model="openai-any", input="I will hit it.")
    assert reply.results[0].flagged
    assert reply.results[0].category_scores.violence == 0.75


def test_pictures_are_made_and_edited(client: openai.OpenAI, place: Place) -> None:
    made = client.images.generate(model="openai-any", prompt="A pipe")
    assert made.data is not None
    assert made.data[0].b64_json == PICTURE
    edited = client.images.edit(
        model="openai-any", image=("a.png", b"\x89PNG\r\n--x", "image/png"), prompt="Blue"
    )
    assert edited.data is not None
    asked = place.asked()
    assert b"\x89PNG\r\n--x" in asked.body
    assert b"openai-any" not in asked.body


def test_sound_is_made_and_heard(client: openai.OpenAI, place: Place) -> None:
    assert client.audio.speech.create(model="openai-any", voice="alloy", input="Hi").content == SOUND
    with client.audio.speech.with_streaming_response.create(
        model="openai-any", voice="alloy", input="Hi"
    ) as reply:
        assert b"".join(reply.iter_bytes()) == SOUND
        assert reply.headers["content-type"] == "audio/mpeg"
    heard = client.audio.transcriptions.create(model="openai-any", file=("a.mp3", SOUND, "audio/mpeg"))
    assert heard.text == TEXT
    assert SOUND in place.asked().body


def test_completions_of_the_old_kind(client: openai.OpenAI, place: Place) -> None:
    reply = client.completions.create(model="openai-any", prompt="What now?")
    assert reply.choices[0].text == TEXT
    stream = client.completions.create(model="openai-any", prompt="What now?", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == TEXT


@pytest.mark.filterwarnings("ignore:deprecated")  # by OpenAI, for models of today
def test_variations_and_translations(client: openai.OpenAI, place: Place) -> None:
    varied = client.images.create_variation(model="openai-any", image=("a.png", b"png", "image/png"))
    assert varied.data is not None
    assert varied.data[0].b64_json == PICTURE
    told = client.audio.translations.create(model="openai-any", file=("a.mp3", SOUND, "audio/mpeg"))
    assert told.text == TEXT


def test_models(client: openai.OpenAI, place: Place) -> None:
    names = [model.id for model in client.models.list()]
    assert {"openai-text", "bedrock-tools"} <= set(names)
    assert client.models.retrieve("openai-text").id == "openai-text"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


# -- errors


@every_server
def test_provider_errors_are_the_right_exceptions(client: openai.OpenAI, place: Place, server: str) -> None:
    with pytest.raises(openai.RateLimitError) as limited:
        client.chat.completions.create(model=f"{server}-limit", messages=ASK)
    assert limited.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=f"{server}-long", messages=ASK)
    assert refused.value.code == "context_length_exceeded"
    with (
        pytest.raises(openai.APIError),
        client.chat.completions.create(model=f"{server}-broken", messages=ASK, stream=True) as stream,
    ):
        for _ in stream:
            pass


def test_refusals_of_the_gateway_are_the_right_exceptions(client: openai.OpenAI, place: Place) -> None:
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="ps-wrong").chat.completions.create(model="openai-text", messages=ASK)
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="openai-texd", messages=ASK)
    assert unknown.value.code == "model_not_found"
    assert "openai-text" in unknown.value.message
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="anthropic-text", messages=ASK, extra_body={"messages": 5})
    assert wrong.value.param == "messages"
    assert not place.upstream.seen


def test_a_broken_provider_is_asked_again_by_the_client(client: openai.OpenAI, place: Place) -> None:
    patient = client.with_options(max_retries=1)
    with pytest.raises(openai.InternalServerError):
        patient.chat.completions.create(model="openai-broken-server", messages=ASK)
    assert len(place.upstream.seen) == 2


def test_a_client_that_waits_no_longer_gets_its_timeout(client: openai.OpenAI, place: Place) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.2).chat.completions.create(model="openai-slow", messages=ASK)
