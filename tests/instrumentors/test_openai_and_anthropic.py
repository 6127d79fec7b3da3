"""OpenInference and OpenLLMetry over the official `openai` and `anthropic` clients: the same canonical spans from both."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from openinference.instrumentation.anthropic import AnthropicInstrumentor as OpenInferenceAnthropic
from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInferenceOpenAI
from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor as OpenLLMetryAnthropic

import penstock
from penstock.spec.spans import Span
from tests.instrumentors.conftest import Watching
from tests.instrumentors.receiver import Receiver, texts_of
from tests.sdk.conftest import switch_off

TEXT = "Drink water."
ASK: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What now?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
pytestmark = pytest.mark.filterwarnings(
    "ignore:Support for class-based `config`"
)  # OpenLLMetry's own classes
every_anthropic = pytest.mark.parametrize("kind", [OpenInferenceAnthropic, OpenLLMetryAnthropic])


@pytest.fixture
def client(upstream: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{upstream}/v1", api_key="k", max_retries=0) as made:
        yield made


@pytest.fixture
def claude(upstream: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=upstream, api_key="k", max_retries=0) as made:
        yield made


def check_call(span: Span, *, provider: str, model: str = "up-1", output: int = 8) -> None:
    """20 tokens in, 5 of them from a cache: whoever counts how, they are 15 and 5 here."""
    assert (span.kind, span.provider, span.model) == ("llm", provider, model)
    assert span.usage is not None
    usage = span.usage
    assert (usage.input_uncached, usage.input_cache_read, usage.output_text) == (15, 5, output)
    assert span.status != "error"
    assert (span.service, span.release) == ("instrumented", "7")
    assert span.end_ns is not None


def check_chat(span: Span) -> None:
    assert [message["role"] for message in span.input["messages"]][-1] == "user"
    assert "What now?" in texts_of(span.input)
    assert len(span.output) == 1
    assert span.output[0]["role"] != "user"
    assert TEXT in texts_of(span.output)


def check_tools(span: Span) -> None:
    assert [tool.get("name") or tool["function"]["name"] for tool in span.input["tools"]] == ["get_weather"]
    said = texts_of(span.output)
    assert "get_weather" in said
    assert all(word in said for word in ("call_a", "Oslo", "call_b", "Rome"))


class Scenarios:
    """What was stored of each scenario of `openai_program.py`: the spans below the one of its name."""

    def __init__(self, kind: str, spans: list[Span]) -> None:
        self.kind = kind
        self._spans = spans

    def __getitem__(self, name: str) -> Span:
        (root,) = [span for span in self._spans if span.name == name]
        (call,) = [span for span in self._spans if span.parent_id == root.span_id]
        return call


@pytest.fixture(scope="module", params=["openinference", "openllmetry"])
def openai_seen(request: pytest.FixtureRequest, receiver: Receiver, upstream: str) -> Scenarios:
    receiver.take()
    command = [sys.executable, "-m", "tests.instrumentors.openai_program", request.param]
    done = subprocess.run(
        [*command, upstream, receiver.url, receiver.key],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Scenarios(request.param, receiver.take())


@pytest.mark.parametrize("scenario", ["chat", "stream"])
def test_openai_chat(openai_seen: Scenarios, scenario: str) -> None:
    span = openai_seen[scenario]
    check_call(span, provider="openai")
    check_chat(span)
    assert "Be brief." in texts_of(span.input["messages"][0])


def test_openai_tools(openai_seen: Scenarios) -> None:
    check_call(openai_seen["tools"], provider="openai")
    check_tools(openai_seen["tools"])


def test_openai_responses_and_embeddings(openai_seen: Scenarios) -> None:
    check_call(openai_seen["responses"], provider="openai")
    check_chat(openai_seen["responses"])
    embedding = openai_seen["embeddings"]
    assert (embedding.kind, embedding.model) == ("embedding", "up-embed")
    assert embedding.usage is not None
    assert embedding.usage.input_tokens == 3


def test_a_refused_call_is_a_failed_span(openai_seen: Scenarios) -> None:
    span = openai_seen["refused"]
    assert (span.kind, span.status) == ("llm", "error")
    assert "Slow down" in (span.status_message or "")


def test_a_stream_that_is_left_early_is_stored(openai_seen: Scenarios) -> None:
    span = openai_seen["left_early"]
    assert span.end_ns is not None
    assert "Drink" in texts_of(span.output)


@every_anthropic
def test_anthropic_messages_stream_and_tools(
    watching: Watching, claude: anthropic.Anthropic, kind: Any
) -> None:
    tools: list[Any] = [{"name": "get_weather", "description": "Weather", "input_schema": SCHEMA}]
    asked: list[Any] = ASK[1:]
    with watching(kind()) as watch:
        claude.messages.create(model="text", max_tokens=50, system="Be brief.", messages=asked)
        with claude.messages.stream(model="text", max_tokens=50, messages=asked) as stream:
            assert "".join(stream.text_stream) == TEXT
        claude.messages.create(model="tools", max_tokens=50, messages=asked, tools=tools)
    chat, streamed, called = watch.spans
    check_call(chat, provider="anthropic")
    # OpenLLMetry adds the count of the first event to the one of the last, which contains it
    check_call(streamed, provider="anthropic", output=9 if kind is OpenLLMetryAnthropic else 8)
    check_call(called, provider="anthropic")
    assert "Be brief." in texts_of(chat.input)
    check_chat(chat)
    check_chat(streamed)
    check_tools(called)


def test_instrumentations_hang_below_our_own_spans(receiver: Receiver, client: openai.OpenAI) -> None:
    receiver.take()
    penstock.configure(
        url=receiver.url, key=receiver.key, service="instrumented", release="7", spill=False, enabled=True
    )
    instrumentor = OpenInferenceOpenAI()
    penstock.instrument_with(instrumentor, skip_dep_check=True)
    try:

        @penstock.observe(kind="agent")
        def answer(question: str) -> str:
            reply = client.chat.completions.create(
                model="text", messages=[{"role": "user", "content": question}]
            )
            penstock.feedback("up")
            return reply.choices[0].message.content or ""

        with penstock.attributes(session_id="s7", user_id="ada", tags=["beta"], metadata={"plan": "pro"}):
            assert answer("What now?") == TEXT
        assert penstock.flush().is_complete
    finally:
        instrumentor.uninstrument()
        switch_off()
    spans = receiver.take()
    ours, chat = spans[:2]
    check_call(chat, provider="openai")
    check_chat(chat)
    assert (ours.kind, ours.input, ours.output, ours.status) == (
        "agent",
        {"question": "What now?"},
        TEXT,
        "ok",
    )
    assert chat.parent_id == ours.span_id
    assert {(span.session_id, span.user_id, tuple(span.tags)) for span in (ours, chat)} == {
        ("s7", "ada", ("beta",))
    }
