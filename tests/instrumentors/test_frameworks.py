"""Instrumentations of frameworks and other providers' clients: LangChain, LlamaIndex, Google, Bedrock, Cohere."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import botocore
import botocore.config
import cohere
import openai
import pytest
from google import genai
from google.genai import types
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openinference.instrumentation.bedrock import BedrockInstrumentor as OpenInferenceBedrock
from openinference.instrumentation.google_genai import GoogleGenAIInstrumentor
from openinference.instrumentation.langchain import LangChainInstrumentor as OpenInferenceLangChain
from opentelemetry.instrumentation.bedrock import BedrockInstrumentor as OpenLLMetryBedrock
from opentelemetry.instrumentation.cohere import CohereInstrumentor
from opentelemetry.instrumentation.langchain import LangchainInstrumentor as OpenLLMetryLangChain

from tests.clients.install import LLAMA_INDEX, install_llama_index
from tests.instrumentors.conftest import Watching
from tests.instrumentors.receiver import Receiver, texts_of
from tests.instrumentors.test_openai_and_anthropic import TEXT, check_chat, check_tools

HERE = Path(__file__).parent


@tool
def get_weather(city: str) -> str:
    """Tell the weather."""
    return f"cold in {city}"


class Shelf(BaseRetriever):
    """Knows one thing."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [Document(page_content="Water is wet.", metadata={"source": "w.md"})]


def check_tokens(span: Any) -> None:
    assert span.kind == "llm"
    assert span.usage is not None
    assert (span.usage.input_uncached, span.usage.input_cache_read, span.usage.output_text) == (15, 5, 8)


@pytest.mark.parametrize("kind", [OpenInferenceLangChain, OpenLLMetryLangChain])
def test_langchain_chain_tool_and_retriever(watching: Watching, upstream: str, kind: Any) -> None:
    with watching(kind()) as watch, openai.DefaultHttpxClient() as sockets:

        def chat(model: str) -> ChatOpenAI:
            where: Any = {"base_url": f"{upstream}/v1", "api_key": "k", "http_client": sockets}
            return ChatOpenAI(**where, model=model, max_retries=0)

        prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{q}")])
        (prompt | chat("text")).invoke({"q": "What now?"}, config={"metadata": {"session_id": "s1"}})
        assert "".join(chunk.text for chunk in chat("text").stream("What now?")) == TEXT
        chat("tools").bind_tools([get_weather]).invoke("What now?")
        get_weather.invoke({"city": "Oslo"})
        assert Shelf().invoke("wet")[0].page_content == "Water is wet."
    models = [span for span in watch.spans if span.kind == "llm"]
    invoked, streamed, called = models
    for span in models:
        check_tokens(span)
        assert span.provider == "openai"
    check_chat(invoked)
    check_chat(streamed)
    check_tools(called)
    (chain,) = [span for span in watch.spans if span.span_id == invoked.parent_id]
    assert (chain.kind, chain.session_id, chain.parent_id) == ("chain", "s1", None)
    assert "What now?" in texts_of(chain.input)
    ran = watch.one(kind="tool")
    assert ran.tool == "get_weather"
    assert "Oslo" in texts_of(ran.input)
    assert "cold in Oslo" in texts_of(ran.output)
    found = watch.one(kind="retrieval")
    assert "wet" in texts_of(found.input)
    assert "Water is wet." in texts_of(found.output)


def test_llama_index(receiver: Receiver, upstream: str) -> None:
    problem = install_llama_index()
    if problem is not None:
        pytest.skip(problem)
    receiver.take()
    done = subprocess.run(
        [sys.executable, str(HERE / "llama_program.py"), upstream, receiver.url, receiver.key],
        env={**os.environ, "PYTHONPATH": str(LLAMA_INDEX)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["openinference"] == seen["openllmetry"] == TEXT
    spans = receiver.take()
    models = [span for span in spans if span.kind == "llm"]
    assert (
        {(span.scope or "").split(" ")[0] for span in models}
        == {
            "openinference.instrumentation.llama_index",
            "opentelemetry.instrumentation.openai.v1",  # OpenLLMetry leaves the model to the instrumentation of its client
        }
    )
    asked = [span for span in models if "messages" in span.input]  # beside what only fills in templates
    assert len(asked) >= 4
    for span in asked:
        check_chat(span)
        assert span.usage is not None
        assert (span.usage.input_tokens, span.usage.output_tokens) == (20, 8)
    for scope, kind in (("openinference", "retrieval"), ("opentelemetry", "chain")):
        found = [
            span
            for span in spans
            if (span.scope or "").startswith(scope) and "Retriever" in span.name and span.kind == kind
        ]
        assert any("Water is wet." in texts_of(span.output) for span in found), scope


def test_google(watching: Watching, upstream: str) -> None:
    options = types.HttpOptions(base_url=upstream, api_version="v1beta")
    with watching(GoogleGenAIInstrumentor()) as watch:
        client = genai.Client(api_key="k", http_options=options)
        client.models.generate_content(model="text", contents="What now?")
        stream = client.models.generate_content_stream(model="text", contents="What now?")
        assert "".join(chunk.text or "" for chunk in stream) == TEXT
        client.close()
    assert len(watch.spans) == 2
    for span in watch.spans:
        check_tokens(span)
        check_chat(span)
        assert span.provider is not None


@pytest.fixture
def amazon(upstream: str) -> Any:
    config = botocore.config.Config(
        signature_version=botocore.UNSIGNED, retries={"total_max_attempts": 1}, region_name="us-east-1"
    )
    return lambda: boto3.client("bedrock-runtime", endpoint_url=upstream, config=config)


@pytest.mark.parametrize("kind", [OpenInferenceBedrock, OpenLLMetryBedrock])
def test_bedrock_converse(watching: Watching, amazon: Any, kind: Any) -> None:
    asked = [{"role": "user", "content": [{"text": "What now?"}]}]
    with watching(kind()) as watch:
        client = amazon()
        client.converse(modelId="text", messages=asked)
        list(client.converse_stream(modelId="text", messages=asked)["stream"])
        client.close()
    assert len(watch.spans) == 2
    for span in watch.spans:
        check_tokens(span)
        check_chat(span)
        assert span.model == "text"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_cohere_chat_and_rerank(watching: Watching, upstream: str) -> None:
    with watching(CohereInstrumentor()) as watch:
        client = cohere.ClientV2(api_key="k", base_url=upstream)
        client.chat(model="text", messages=[{"role": "user", "content": "What now?"}])
        client.rerank(model="any", query="q", documents=["a", "b"])
    chat, rerank = watch.spans
    assert chat.usage is not None
    assert (chat.kind, chat.usage.input_tokens, chat.usage.output_tokens) == ("llm", 20, 8)
    check_chat(chat)
    assert rerank.kind == "rerank"
    assert {(chat.provider or "").lower(), (rerank.provider or "").lower()} == {"cohere"}
