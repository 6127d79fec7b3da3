"""`langchain-openai`, unchanged but for its base URL."""

from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from tests.clients.conftest import Place
from tests.clients.upstream import VECTORS

TEXT = "Drink water."
three_servers = pytest.mark.parametrize("server", ["openai", "anthropic", "gemini"])


class Weather(pydantic.BaseModel):
    """Weather of a city."""

    city: str


@tool
def get_weather(city: str) -> str:
    """Tell the weather."""
    return f"cold in {city}"


@pytest.fixture(scope="module")
def sockets() -> Iterator[openai.DefaultHttpxClient]:
    with openai.DefaultHttpxClient() as made:
        yield made


def chat(place: Place, sockets: Any, model: str, **more: Any) -> ChatOpenAI:
    where: Any = {"base_url": place.url + "/v1", "api_key": place.key, "http_client": sockets}
    return ChatOpenAI(**where, model=model, max_retries=0, **more)


@three_servers
def test_invoke(place: Place, sockets: Any, server: str) -> None:
    reply = chat(place, sockets, f"{server}-text").invoke([("system", "Be brief."), ("human", "What now?")])
    assert reply.text == TEXT
    assert reply.usage_metadata is not None
    assert reply.usage_metadata["total_tokens"] == 28


@three_servers
def test_stream(place: Place, sockets: Any, server: str) -> None:
    chunks = list(chat(place, sockets, f"{server}-text", stream_usage=True).stream("What now?"))
    assert "".join(chunk.text for chunk in chunks) == TEXT
    assert sum(chunk.usage_metadata["total_tokens"] for chunk in chunks if chunk.usage_metadata) == 28


@three_servers
def test_tools(place: Place, sockets: Any, server: str) -> None:
    model = chat(place, sockets, f"{server}-tools").bind_tools([get_weather])
    reply = model.invoke("What now?")
    assert [call["args"] for call in reply.tool_calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    streamed = None
    for chunk in model.stream("What now?"):
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed is not None
    assert [call["args"] for call in streamed.tool_calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    results = [
        ToolMessage(get_weather.invoke(call).content, tool_call_id=call["id"]) for call in reply.tool_calls
    ]
    last = (
        chat(place, sockets, f"{server}-text")
        .bind_tools([get_weather])
        .invoke([HumanMessage("?"), reply, *results])
    )
    assert last.text == TEXT
    assert b"cold in Rome" in place.asked().body


@three_servers
def test_structured_output(place: Place, sockets: Any, server: str) -> None:
    assert chat(place, sockets, f"{server}-json").with_structured_output(Weather).invoke("Where?") == Weather(
        city="Oslo"
    )


@pytest.mark.parametrize("server", ["responses", "anthropic"])
def test_the_responses_interface(place: Place, sockets: Any, server: str) -> None:
    model = chat(place, sockets, f"{server}-text", use_responses_api=True)
    assert model.invoke("What now?").text == TEXT
    assert "".join(chunk.text for chunk in model.stream("What now?")) == TEXT


@pytest.mark.parametrize("server", ["openai", "cohere"])
def test_embeddings(place: Place, sockets: Any, server: str) -> None:
    where: Any = {"base_url": place.url + "/v1", "api_key": place.key, "http_client": sockets}
    made = OpenAIEmbeddings(**where, model=f"{server}-any", check_embedding_ctx_length=False)
    assert [tuple(vector) for vector in made.embed_documents(["a", "b"])] == list(VECTORS)
