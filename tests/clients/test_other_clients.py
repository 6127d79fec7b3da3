"""The official clients of Google, Amazon and Cohere, unchanged but for their base URL."""

import contextlib
from collections.abc import Iterator
from typing import Any

import boto3
import botocore
import botocore.config
import botocore.exceptions
import cohere
import httpx
import pytest
from google import genai
from google.genai import errors, types

from tests.clients.conftest import Place
from tests.clients.upstream import VECTORS

TEXT = "Drink water."
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
WEATHER = [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})]


# -- google-genai


@pytest.fixture(scope="module")
def google(running: Place) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=running.url)
    client = genai.Client(api_key=running.key, http_options=options)
    yield client
    client.close()


GOOGLE_TOOLS = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(name="get_weather", description="W", parameters_json_schema=SCHEMA)
    ]
)


@pytest.mark.parametrize("server", ["gemini", "openai", "anthropic"])
def test_google_text_stream_and_tools(google: genai.Client, place: Place, server: str) -> None:
    config = types.GenerateContentConfig(system_instruction="Be brief.", max_output_tokens=50)
    reply = google.models.generate_content(model=f"{server}-text", contents="What now?", config=config)
    assert reply.text == TEXT
    assert reply.usage_metadata is not None
    assert reply.usage_metadata.total_token_count == 28
    stream = google.models.generate_content_stream(
        model=f"{server}-text", contents="What now?", config=config
    )
    assert "".join(chunk.text or "" for chunk in stream) == TEXT
    config = types.GenerateContentConfig(tools=[GOOGLE_TOOLS])
    called = google.models.generate_content(model=f"{server}-tools", contents="What now?", config=config)
    assert [(call.name, call.args) for call in called.function_calls or []] == WEATHER


@pytest.mark.parametrize("server", ["gemini", "openai"])
def test_google_structured_output(google: genai.Client, place: Place, server: str) -> None:
    config = types.GenerateContentConfig(response_mime_type="application/json", response_json_schema=SCHEMA)
    reply = google.models.generate_content(model=f"{server}-json", contents="Where?", config=config)
    assert reply.parsed == {"city": "Oslo"}


def test_google_counts_embeds_and_lists(google: genai.Client, place: Place) -> None:
    assert (google.models.count_tokens(model="openai-text", contents="What now?").total_tokens or 0) > 0
    embedded = google.models.embed_content(model="openai-any", contents=["a", "b"])
    assert [tuple(vector.values or ()) for vector in embedded.embeddings or []] == list(VECTORS)
    assert "models/openai-text" in [model.name for model in google.models.list()]
    assert google.models.get(model="openai-text").name == "models/openai-text"


@pytest.mark.parametrize("server", ["gemini", "openai"])
def test_google_errors(google: genai.Client, place: Place, server: str) -> None:
    with pytest.raises(errors.ClientError) as limited:
        google.models.generate_content(model=f"{server}-limit", contents="What now?")
    assert (limited.value.code, limited.value.status) == (429, "RESOURCE_EXHAUSTED")
    with pytest.raises(errors.ClientError) as unknown:
        google.models.generate_content(model="nothing", contents="What now?")
    assert unknown.value.code == 404


# -- boto3


@pytest.fixture(scope="module")
def amazon(running: Place) -> Iterator[Any]:
    """Over https the variable AWS_BEARER_TOKEN_BEDROCK is enough; boto3 sends no token over plain http by itself."""

    def send_key(params: Any, **_: Any) -> None:
        params["headers"]["authorization"] = f"Bearer {running.key}"

    config = botocore.config.Config(
        signature_version=botocore.UNSIGNED, retries={"total_max_attempts": 1}, region_name="us-east-1"
    )
    client = boto3.client("bedrock-runtime", endpoint_url=running.url, config=config)
    client.meta.events.register("before-call.bedrock-runtime", send_key)
    yield client
    client.close()


AMAZON_ASK: list[Any] = [{"role": "user", "content": [{"text": "What now?"}]}]
AMAZON_TOOLS = {
    "tools": [{"toolSpec": {"name": "get_weather", "description": "W", "inputSchema": {"json": SCHEMA}}}]
}


@pytest.mark.parametrize("server", ["bedrock", "openai", "anthropic"])
def test_amazon_converse(amazon: Any, place: Place, server: str) -> None:
    reply = amazon.converse(
        modelId=f"{server}-text", messages=AMAZON_ASK, system=[{"text": "Be brief."}],
        inferenceConfig={"maxTokens": 50},
    )  # fmt: skip
    assert reply["output"]["message"]["content"] == [{"text": TEXT}]
    assert (reply["stopReason"], reply["usage"]["outputTokens"]) == ("end_turn", 8)
    called = amazon.converse(modelId=f"{server}-tools", messages=AMAZON_ASK, toolConfig=AMAZON_TOOLS)
    uses = [part["toolUse"] for part in called["output"]["message"]["content"]]
    assert [(use["name"], use["input"]) for use in uses] == WEATHER


@pytest.mark.parametrize("server", ["bedrock", "openai", "anthropic"])
def test_amazon_converse_stream(amazon: Any, place: Place, server: str) -> None:
    events = list(amazon.converse_stream(modelId=f"{server}-text", messages=AMAZON_ASK)["stream"])
    text = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    assert "".join(text) == TEXT
    assert [event["messageStop"]["stopReason"] for event in events if "messageStop" in event] == ["end_turn"]
    assert events[-1]["metadata"]["usage"]["outputTokens"] == 8


@pytest.mark.parametrize("server", ["bedrock", "openai"])
def test_amazon_errors(amazon: Any, place: Place, server: str) -> None:
    with pytest.raises(amazon.exceptions.ThrottlingException):
        amazon.converse(modelId=f"{server}-limit", messages=AMAZON_ASK)
    with pytest.raises(amazon.exceptions.ValidationException):
        amazon.converse(modelId=f"{server}-long", messages=AMAZON_ASK)
    with pytest.raises(amazon.exceptions.ResourceNotFoundException):
        amazon.converse(modelId="nothing", messages=AMAZON_ASK)
    stream = amazon.converse_stream(modelId=f"{server}-late-error", messages=AMAZON_ASK)["stream"]
    with contextlib.closing(stream), pytest.raises(botocore.exceptions.EventStreamError):
        list(stream)


# -- cohere


@pytest.fixture(scope="module")
def made_cohere(running: Place) -> Iterator[cohere.ClientV2]:
    with httpx.Client(timeout=240) as sockets:
        yield cohere.ClientV2(api_key=running.key, base_url=running.url, httpx_client=sockets)


COHERE_ASK: list[Any] = [{"role": "user", "content": "What now?"}]
COHERE_TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "get_weather", "description": "W", "parameters": SCHEMA}}
]


@pytest.mark.parametrize("server", ["cohere", "openai", "anthropic"])
def test_cohere_chat(made_cohere: cohere.ClientV2, place: Place, server: str) -> None:
    reply = made_cohere.chat(model=f"{server}-text", messages=COHERE_ASK)
    assert [part.text for part in reply.message.content or [] if part.type == "text"] == [TEXT]
    assert reply.finish_reason == "COMPLETE"
    events = made_cohere.chat_stream(model=f"{server}-text", messages=COHERE_ASK)
    text = [event.delta.message.content.text for event in events if event.type == "content-delta"]  # type: ignore[union-attr]
    assert "".join(piece or "" for piece in text) == TEXT
    called = made_cohere.chat(model=f"{server}-tools", messages=COHERE_ASK, tools=COHERE_TOOLS)
    assert [call.function.name for call in called.message.tool_calls or [] if call.function] == [
        "get_weather"
    ] * 2


def test_cohere_embed_and_rerank(made_cohere: cohere.ClientV2, place: Place) -> None:
    for server in ("cohere", "openai"):
        embedded = made_cohere.embed(
            model=f"{server}-any", texts=["a", "b"], input_type="search_query", embedding_types=["float"]
        )
        assert [tuple(vector) for vector in embedded.embeddings.float_ or []] == list(VECTORS)
    ranked = made_cohere.rerank(model="cohere-any", query="a", documents=["a", "b"])
    assert [(row.index, row.relevance_score) for row in ranked.results] == [(1, 0.75)]


@pytest.mark.parametrize("server", ["cohere", "openai"])
def test_cohere_errors(made_cohere: cohere.ClientV2, place: Place, server: str) -> None:
    once: Any = {"max_retries": 0}
    with pytest.raises(cohere.TooManyRequestsError):
        made_cohere.chat(model=f"{server}-limit", messages=COHERE_ASK, request_options=once)
    with pytest.raises(cohere.BadRequestError):
        made_cohere.chat(model=f"{server}-long", messages=COHERE_ASK, request_options=once)
    with pytest.raises(cohere.NotFoundError):
        made_cohere.chat(model="nothing", messages=COHERE_ASK, request_options=once)
