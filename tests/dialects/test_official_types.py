"""What is written fits the types of OpenAI's official client, checked strictly (the client itself is lenient)."""

import json
import warnings
from functools import cache
from typing import Any

import msgspec
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.create_embedding_response import CreateEmbeddingResponse
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from penstock.dialects.assembly import disassemble
from penstock.dialects.embeddings import EmbeddingReply, EmbeddingRequest, write_embedding_reply
from penstock.dialects.openai.dialect import OPENAI
from penstock.dialects.responses.dialect import RESPONSES
from penstock.dialects.sse_events import SseSplitter
from penstock.spec.hub import Choice, HubError, HubReply, HubRequest, Refusal, Text, Thinking, ToolCall
from penstock.spec.usage import Usage

LOGPROBS = {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]}
CITED = {"annotations": [{"type": "url_citation", "url_citation": {"url": "https://e.org", "title": "E", "start_index": 0, "end_index": 1}}]}  # fmt: skip


def reply(finish: Any, *, logprobs: Any = None) -> HubReply:
    parts: list[Any] = [
        Thinking(text="hm", signature="sig", origin="anthropic"),
        Text(text="a", extra=CITED),
        Text(text="b"),
        Refusal(text="no"),
        ToolCall(id="c1", name="f"),
        ToolCall(id="c2", name="g", arguments='{"a": 1}'),
    ]
    usage = Usage(
        input_uncached=3, input_cache_read=1, input_cache_write=0, output_text=2, output_reasoning=1
    )
    choice = Choice(parts=parts, finish=finish, logprobs=logprobs)
    return HubReply(source="anthropic", id="x1", choices=[choice], usage=usage)


REQUEST = HubRequest(source="responses", model="m", messages=[], stream_usage=True)
ASKED = RESPONSES.read_request(
    json.dumps(
        {
            "model": "m",
            "input": "x",
            "instructions": "i",
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
            "tool_choice": "required",
            "reasoning": {"effort": "low", "summary": "auto"},
            "metadata": {"a": "b"},
        }
    ).encode(),
    model=None,
    stream=True,
)


@cache
def adapter(type_: Any) -> TypeAdapter[Any]:
    return TypeAdapter(type_)


def check(type_: Any, value: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydantic about the client's own types
        adapter(type_).validate_python(value)


def data_of(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in SseSplitter().feed(stream) if event.data != b"[DONE]"]


@pytest.mark.parametrize("finish", ["stop", "length", "tool_calls", "content_filter", "refusal"])
def test_chat_replies_and_chunks_fit(finish: Any) -> None:
    found = reply(finish, logprobs=LOGPROBS)
    check(ChatCompletion, json.loads(OPENAI.write_reply(found, model="m", request=REQUEST)))
    writer = OPENAI.stream_writer(model="m", request=REQUEST)
    chunks = data_of(writer.write(disassemble(found)))
    assert len(chunks) > 10 and "usage" in chunks[-1]
    for chunk in chunks:
        check(ChatCompletionChunk, chunk)


@pytest.mark.parametrize(
    "finish", ["stop", "length", "tool_calls", "content_filter", "refusal", "error", "unknown", "pause"]
)
def test_responses_and_their_events_fit(finish: Any) -> None:
    found = reply(finish, logprobs=LOGPROBS)
    check(Response, json.loads(RESPONSES.write_reply(found, model="m", request=ASKED)))
    writer = RESPONSES.stream_writer(model="m", request=ASKED)
    events = data_of(writer.write(disassemble(found)))
    assert len(events) > 20
    for event in events:
        check(ResponseStreamEvent, event)


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_uncached=3, output_text=2),
        Usage(input_uncached=3),
        Usage(output_text=2),
        Usage(input_uncached=3, input_cache_write_1h=4, output_text=2, output_audio=1),
    ],
)
def test_usage_of_responses_has_every_member_that_clients_read(usage: Usage) -> None:
    found = msgspec.structs.replace(reply("stop"), usage=usage)
    body = json.loads(RESPONSES.write_reply(found, model="m", request=ASKED))
    check(Response, body)
    writer = RESPONSES.stream_writer(model="m", request=ASKED)
    last = data_of(writer.write(disassemble(found)))[-1]
    check(ResponseStreamEvent, last)
    assert last["response"]["usage"] == body["usage"]
    assert body["usage"]["input_tokens"] == (usage.input_tokens or 0)
    assert body["usage"]["input_tokens_details"]["cache_write_tokens"] == (usage.input_cache_write_1h or 0)
    assert body["usage"]["output_tokens_details"] == {"reasoning_tokens": 0}


def test_events_of_a_failure_fit() -> None:
    writer = RESPONSES.stream_writer(model="m", request=ASKED)
    events = data_of(writer.write(disassemble(reply("stop"))[:4]))
    error = HubError(kind="rate_limit", message="Slow.", status=429, code="PS-4671")
    for event in [*events, *data_of(writer.fail(error))]:
        check(ResponseStreamEvent, event)


def test_embeddings_fit() -> None:
    request = EmbeddingRequest(source="openai", model="m", inputs=["a"])
    found = EmbeddingReply(vectors=[[0.5, 1.0]], usage=Usage(input_uncached=2))
    check(
        CreateEmbeddingResponse,
        json.loads(write_embedding_reply("openai", found, model="m", request=request)),
    )
