"""The official `anthropic` client, unchanged but for its base URL."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pydantic
import pytest

from tests.clients.conftest import Place
from tests.clients.upstream import SIGNATURE, THOUGHT
from tests.fixtures.upstreams.clients import PICTURE
from tests.fixtures.upstreams.server import DIALECTS

TEXT = "Drink water."
ASK: list[Any] = [{"role": "user", "content": "What now?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[Any] = [{"name": "get_weather", "description": "Weather", "input_schema": SCHEMA}]
WEATHER = [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})]
every_server = pytest.mark.parametrize("server", DIALECTS)


class Weather(pydantic.BaseModel):
    city: str


@pytest.fixture(scope="module")
def client(running: Place) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=running.url, api_key=running.key, max_retries=0) as made:
        yield made


def calls_of(message: Any) -> list[tuple[str, Any]]:
    return [(block.name, block.input) for block in message.content if block.type == "tool_use"]


@every_server
def test_messages(client: anthropic.Anthropic, place: Place, server: str) -> None:
    message = client.messages.create(model=f"{server}-text", max_tokens=50, system="Be brief.", messages=ASK)
    assert [block.text for block in message.content if block.type == "text"] == [TEXT]
    assert message.stop_reason == "end_turn"
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (15, 5, 8)


@every_server
def test_messages_streamed(client: anthropic.Anthropic, place: Place, server: str) -> None:
    with client.messages.stream(model=f"{server}-text", max_tokens=50, messages=ASK) as stream:
        assert "".join(stream.text_stream) == TEXT
        message = stream.get_final_message()
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == 8


@every_server
def test_parallel_tool_calls_and_their_results(
    client: anthropic.Anthropic, place: Place, server: str
) -> None:
    message = client.messages.create(model=f"{server}-tools", max_tokens=50, messages=ASK, tools=TOOLS)
    assert calls_of(message) == WEATHER
    assert message.stop_reason == "tool_use"
    results: list[Any] = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "cold"}
        for block in message.content
        if block.type == "tool_use"
    ]
    turns: list[Any] = [
        *ASK,
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": results},
    ]
    again = client.messages.create(model=f"{server}-text", max_tokens=50, messages=turns, tools=TOOLS)
    assert again.stop_reason == "end_turn"
    assert place.asked().body.count(b"cold") == 2


@every_server
def test_parallel_tool_calls_streamed(client: anthropic.Anthropic, place: Place, server: str) -> None:
    with client.messages.stream(model=f"{server}-tools", max_tokens=50, messages=ASK, tools=TOOLS) as stream:
        assert calls_of(stream.get_final_message()) == WEATHER


def test_thoughts_keep_their_signature_to_the_next_turn(client: anthropic.Anthropic, place: Place) -> None:
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    message = client.messages.create(
        model="anthropic-think", max_tokens=2048, messages=ASK, thinking=thinking
    )
    thought = message.content[0]
    assert thought.type == "thinking"
    assert (thought.thinking, thought.signature) == (THOUGHT, SIGNATURE)
    with client.messages.stream(
        model="anthropic-think", max_tokens=2048, messages=ASK, thinking=thinking
    ) as stream:
        streamed = stream.get_final_message().content
    assert streamed[0].model_dump() == thought.model_dump()
    turns: list[Any] = [*ASK, {"role": "assistant", "content": message.content}, *ASK]
    client.messages.create(model="anthropic-text", max_tokens=2048, messages=turns, thinking=thinking)
    assert SIGNATURE.encode() in place.asked().body
    client.messages.create(model="openai-text", max_tokens=2048, messages=turns)
    assert SIGNATURE.encode() not in place.asked().body


@pytest.mark.parametrize("server", ["anthropic", "openai", "bedrock"])
def test_a_picture_in_the_question(client: anthropic.Anthropic, place: Place, server: str) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    content = [{"type": "text", "text": "What is it?"}, {"type": "image", "source": source}]
    question: list[Any] = [{"role": "user", "content": content}]
    message = client.messages.create(model=f"{server}-text", max_tokens=50, messages=question)
    assert message.stop_reason == "end_turn"
    assert PICTURE.encode() in place.asked().body


@pytest.mark.parametrize("server", ["anthropic", "openai"])
def test_tokens_are_counted(client: anthropic.Anthropic, place: Place, server: str) -> None:
    counted = client.messages.count_tokens(model=f"{server}-text", messages=ASK)
    assert counted.input_tokens == 17 if server == "anthropic" else counted.input_tokens > 0


def test_models(client: anthropic.Anthropic, place: Place) -> None:
    assert {"anthropic-text", "gemini-text"} <= {model.id for model in client.models.list()}


@every_server
def test_provider_errors_are_the_right_exceptions(
    client: anthropic.Anthropic, place: Place, server: str
) -> None:
    with pytest.raises(anthropic.RateLimitError) as limited:
        client.messages.create(model=f"{server}-limit", max_tokens=50, messages=ASK)
    assert limited.value.response.headers["retry-after"] == "7"
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(model=f"{server}-long", max_tokens=50, messages=ASK)
    with (
        pytest.raises(anthropic.APIError),
        client.messages.stream(model=f"{server}-broken", max_tokens=50, messages=ASK) as stream,
    ):
        stream.get_final_message()


def test_refusals_of_the_gateway_are_the_right_exceptions(client: anthropic.Anthropic, place: Place) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        client.with_options(api_key="ps-wrong").messages.create(
            model="anthropic-text", max_tokens=50, messages=ASK
        )
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.messages.create(model="anthropic-texd", max_tokens=50, messages=ASK)
    assert "anthropic-text" in unknown.value.message
    assert not place.upstream.seen


async def test_the_asynchronous_client_with_a_bearer_token(place: Place) -> None:
    async with anthropic.AsyncAnthropic(base_url=place.url, auth_token=place.key, api_key=None) as client:
        message = await client.messages.create(model="gemini-text", max_tokens=50, messages=ASK)
    assert message.content[0].type == "text"


@pytest.mark.parametrize("server", ["anthropic", "openai"])
def test_structured_output_is_parsed(client: anthropic.Anthropic, place: Place, server: str) -> None:
    message = client.messages.parse(
        model=f"{server}-json", max_tokens=50, messages=ASK, output_format=Weather
    )
    assert message.parsed_output == Weather(city="Oslo")
    assert b"json_schema" in place.asked().body
