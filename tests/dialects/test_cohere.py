"""Cohere's chat dialect: golden requests, replies and streams survive the hub; what it cannot say is listed."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.dialects.assembly import assemble, disassemble
from penstock.dialects.cohere.dialect import COHERE
from penstock.dialects.cohere.usage import read_usage_object, wire_usage
from penstock.spec.hub import (
    Choice,
    End,
    Failed,
    HubError,
    HubReply,
    HubRequest,
    Media,
    Message,
    Opaque,
    Reasoning,
    Refusal,
    ResponseFormat,
    Start,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from penstock.spec.usage import Usage
from tests.dialects.hub_requests import foreign
from tests.dialects.stream_checks import CUTS, read_stream, write_stream

GOLDEN = Path(__file__).parent / "golden" / "cohere"
REQUEST = (GOLDEN / "request.json").read_bytes()
REPLY = (GOLDEN / "reply.json").read_bytes()
STREAM = (GOLDEN / "stream.sse").read_bytes()
PLAIN = frozenset[str]()
ASKED = HubRequest(source="cohere", model="asked", messages=[], logprobs=True)


def written(request: HubRequest, quirks: frozenset[str] = PLAIN) -> tuple[dict[str, Any], tuple[str, ...]]:
    out = COHERE.write_request(request, model="command-a", quirks=quirks)
    assert out.path == "/chat"
    return json.loads(out.body), out.dropped


# -- requests


def test_a_request_with_everything_comes_back_as_it_was_but_for_the_model() -> None:
    body, dropped = written(COHERE.read_request(REQUEST, model=None, stream=None))
    assert body == {**json.loads(REQUEST), "model": "command-a"}
    assert dropped == ()


def test_the_parts_of_a_request_have_the_hub_s_words() -> None:
    request = COHERE.read_request(REQUEST, model=None, stream=None)
    assert [message.role for message in request.messages] == ["system", "user", "assistant", "user", "user"]
    thought, text, plan, *calls = request.messages[2].parts
    assert thought == Thinking(text="Two readings.", origin="cohere")
    assert isinstance(text, Text) and len(text.extra["citations"]) == 1
    assert isinstance(plan, Thinking) and plan.text == "I will read the gauge and list the boats."
    assert [call.id for call in calls if isinstance(call, ToolCall)] == ["read_depth_0", "list_boats_1"]
    results = request.messages[3].parts
    assert [result.call_id for result in results if isinstance(result, ToolResult)] == [
        "read_depth_0",
        "list_boats_1",
    ]
    assert request.messages[1].parts[1] == Media(
        kind="image", media_type="image/png", data="iVBORw0KGgo=", detail="low"
    )
    assert (request.top_k, request.top_p, request.reasoning) == (
        40,
        0.8,
        Reasoning(enabled=True, budget_tokens=500),
    )
    assert all(tool.strict for tool in request.tools)


def test_peek_reads_what_decides() -> None:
    envelope = COHERE.peek(REQUEST, model=None, stream=None, max_depth=64)
    assert (envelope.model, envelope.stream, envelope.max_tokens) == ("command-a-03-2025", True, 300)
    assert (envelope.n_messages, envelope.has_tools, envelope.wants_usage) == (6, True, True)
    with pytest.raises(InvalidInput):
        COHERE.peek(b'{"model":"a","model":"b"}', model=None, stream=None, max_depth=64)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "robot"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].image_url",
        ),
        ({"tool_choice": "MAYBE"}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"k": 1.5}, "k"),
    ],
)
def test_a_wrong_member_is_named(change: dict[str, Any], param: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **change}
    with pytest.raises(InvalidInput) as caught:
        COHERE.read_request(json.dumps(body).encode(), model=None, stream=None)
    assert caught.value.fields["param"] == param


def test_results_become_messages_of_their_own_before_the_text() -> None:
    request = foreign(
        Message(
            role="assistant", parts=[Text(text="ok"), ToolCall(id="a", name="f"), ToolCall(id="b", name="g")]
        ),
        Message(
            role="user",
            parts=[
                ToolResult(call_id="a", parts=[Text(text="1")]),
                ToolResult(call_id="b", is_error=True),
                Text(text="and"),
            ],
        ),
    )
    body, dropped = written(request)
    assert body["messages"] == [
        {
            "role": "assistant",
            "content": "ok",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "user", "content": "and"},
    ]
    assert dropped == ("messages[1].tool_result.is_error",)


def test_what_cannot_be_said_is_listed() -> None:
    request = foreign(
        Message(
            role="user",
            name="Ada",
            parts=[
                Media(kind="audio", data="x", media_type="audio/wav"),
                Media(kind="image", file_id="file-1"),
                Text(text="hi", extra={"cache_control": {"type": "ephemeral"}}),
            ],
        ),
        Message(
            role="assistant",
            parts=[
                Thinking(text="hm", signature="s", origin="anthropic"),
                ToolCall(id="a", name="f", signature="sig"),
                Opaque(dialect="anthropic", raw={"type": "server_tool_use"}),
                Refusal(text="No."),
            ],
        ),
        n=2,
        top_logprobs=3,
        top_p=1.0,
        top_k=900,
        frequency_penalty=-1,
        stop=["1", "2", "3", "4", "5", "6"],
        response_format=ResponseFormat(kind="json"),
        metadata={"team": "locks"},
        user="u",
        parallel_tool_calls=False,
        reasoning=Reasoning(effort="high"),
        tool_choice=ToolChoice(kind="named", name="f"),
        tools=[
            Tool(name="f", strict=True),
            Tool(name="g"),
            Tool(name="s", builtin=Opaque(dialect="responses", raw={})),
        ],
        extra={"prediction": {}},
    )
    body, dropped = written(request)
    assert set(dropped) == {
        "messages[0].name",
        "messages[0].audio",
        "messages[0].image",
        "messages[0].cache_control",
        "messages[1].thinking.signature",
        "messages[1].tool_calls.signature",
        "messages[1].server_tool_use",
        "n",
        "top_logprobs",
        "top_p",
        "top_k",
        "frequency_penalty",
        "stop[5]",
        "response_format",
        "metadata",
        "user",
        "parallel_tool_calls",
        "reasoning.effort",
        "tool_choice.name",
        "tools[0].strict",
        "tools[2].builtin",
        "prediction",
    }
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "No."},
    ]
    assert (body["tool_choice"], body["thinking"]) == ("REQUIRED", {"type": "enabled"})
    assert body["stop_sequences"] == ["1", "2", "3", "4", "5"]
    assert None not in body.values()


def test_members_that_nobody_knows_yet_come_back_wherever_they_stand() -> None:
    new = {"x_new": {"deep": [1]}}
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}, **new}
    body = {
        "model": "command-a",
        "stream": False,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "t", **new}], **new},
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "t", **new}],
                "tool_calls": [call],
                "citations": [
                    {"start": 0, "end": 1, "text": "t"},
                    {"start": 0, "end": 1, "text": "t", **new},
                ],
                **new,
            },
            {"role": "tool", "tool_call_id": "a", "content": "x", **new},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, **new}, **new}
        ],
        "response_format": {"type": "text", **new},
        "thinking": {"type": "disabled", **new},
        **new,
    }
    request = COHERE.read_request(json.dumps(body).encode(), model=None, stream=None)
    assert written(request) == (body, ())


def test_a_schema_is_said_where_no_tools_are() -> None:
    wanted = ResponseFormat(kind="schema", schema={"type": "object"})
    body, dropped = written(foreign(response_format=wanted))
    assert body["response_format"] == {"type": "json_object", "json_schema": {"type": "object"}}
    assert dropped == ()
    body, dropped = written(foreign(response_format=wanted), frozenset({"no_json_schema"}))
    assert (body["response_format"], dropped) == ({"type": "json_object"}, ("response_format.schema",))


# -- replies


def test_a_reply_comes_back_in_meaning() -> None:
    reply = COHERE.read_reply(REPLY)
    again = COHERE.read_reply(COHERE.write_reply(reply, model="asked", request=ASKED))
    assert again == reply
    back, golden = json.loads(COHERE.write_reply(reply, model="asked", request=ASKED)), json.loads(REPLY)
    for name in ("id", "finish_reason", "message"):
        assert back[name] == golden[name]


def test_what_is_billed_counts_as_used() -> None:
    usage, model = COHERE.read_usage(REPLY)
    assert (usage, model) == (Usage(input_uncached=15, input_cache_read=5, output_text=35), None)
    tokens_only = {"tokens": {"input_tokens": 7.0, "output_tokens": 2.0}}
    assert read_usage_object(tokens_only) == Usage(input_uncached=7, output_text=2)
    assert read_usage_object({"billed_units": {"search_units": 1}}) is None
    assert read_usage_object("much") is None


@given(
    st.none() | st.integers(0, 10**6), st.none() | st.integers(0, 10**6), st.none() | st.integers(0, 10**6)
)
def test_usage_comes_back(uncached: int | None, cached: int | None, text: int | None) -> None:
    usage = Usage(input_uncached=uncached, input_cache_read=cached, output_text=text)
    again = read_usage_object(wire_usage(usage))
    if usage.input_tokens is None and usage.output_tokens is None:
        assert again is None
        return
    assert again is not None
    assert (again.input_tokens, again.output_tokens) == (usage.input_tokens, usage.output_tokens)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("COMPLETE", "stop"),
        ("STOP_SEQUENCE", "stop"),
        ("MAX_TOKENS", "length"),
        ("TOOL_CALL", "tool_calls"),
        ("ERROR", "error"),
        ("TIMEOUT", "error"),
        ("NEW", "unknown"),
        (None, "unknown"),
    ],
)
def test_finish_reasons_are_never_guessed(reason: str | None, finish: str) -> None:
    reply = COHERE.read_reply(
        json.dumps({"message": {"role": "assistant"}, "finish_reason": reason}).encode()
    )
    assert reply.choices[0].finish == finish
    back = json.loads(COHERE.write_reply(reply, model="m", request=ASKED))["finish_reason"]
    assert back == (None if reason == "NEW" else reason)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"message":"x"}', b'{"message":{"content":[1]}}'])
def test_what_is_no_reply_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        COHERE.read_reply(body)


# -- streams


@settings(max_examples=40, deadline=None)
@given(CUTS, st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_split_of_a_stream_adds_up_to_the_whole_reply(cuts: list[int], end: bytes) -> None:
    events = read_stream(COHERE, STREAM.replace(b"\n", end), cuts)
    assert events == read_stream(COHERE, STREAM)
    assert assemble(events, source="cohere") == whole()
    assert events[-1] == End(complete=True)


def whole() -> HubReply:
    """The golden reply."""
    return COHERE.read_reply(REPLY)


def test_a_stream_written_again_says_the_same() -> None:
    events = read_stream(COHERE, STREAM)
    told = write_stream(COHERE, events, ASKED)
    for kind in (b"content", b"tool-call", b"citation"):
        assert told.count(b"event: " + kind + b"-start") == told.count(b"event: " + kind + b"-end") > 0
    again = read_stream(COHERE, told)
    assert assemble(again, source="cohere") == whole()
    assert (
        assemble(read_stream(COHERE, write_stream(COHERE, disassemble(whole()), ASKED)), source="cohere")
        == whole()
    )


def test_log_probabilities_are_told_only_to_who_asked() -> None:
    events = read_stream(COHERE, STREAM)
    silent = HubRequest(source="cohere", model="asked", messages=[])
    assert b"logprobs" in write_stream(COHERE, events, ASKED)
    assert b"logprobs" not in write_stream(COHERE, events, silent)
    assert b"logprobs" not in COHERE.write_reply(whole(), model="asked", request=silent)


def test_citations_of_other_providers_are_left_out() -> None:
    cited = Text(text="x", extra={"citations": [{"type": "char_location", "cited_text": "x"}]})
    reply = HubReply(source="anthropic", choices=[Choice(parts=[cited], finish="stop")])
    assert b"citations" not in COHERE.write_reply(reply, model="m", request=ASKED)
    assert b"citation-start" not in write_stream(COHERE, disassemble(reply), ASKED)


def test_the_scanner_knows_when_content_begins_and_what_was_used() -> None:
    scanner = COHERE.scanner()
    first = STREAM.index(b"event: content-delta")
    scanner.feed(STREAM[:first])
    assert not scanner.has_content and not scanner.is_finished()
    scanner.feed(STREAM[first : first + 200])
    assert scanner.has_content
    scanner.feed(STREAM[first + 200 :])
    assert scanner.is_finished() and scanner.error() is None
    assert scanner.usage() == COHERE.read_usage(REPLY)[0]
    calls = COHERE.scanner()
    calls.feed(STREAM[STREAM.index(b"event: tool-call-start") :][:300])
    assert calls.has_content


ERROR = b'event: message-end\ndata: {"type":"message-end","delta":{"finish_reason":"ERROR","error":"It broke."}}\n\n'


def test_an_error_inside_a_stream_is_told_and_ends_it() -> None:
    cut = STREAM.index(b"event: content-end")
    events = read_stream(COHERE, STREAM[:cut] + ERROR + STREAM[cut:])
    assert isinstance(events[-2], Failed) and events[-1] == End(complete=False)
    assert events[-2].error.message == "It broke."
    scanner = COHERE.scanner()
    scanner.feed(ERROR)
    error = scanner.error()
    assert error is not None and error.message == "It broke."
    assert b'"error":"It broke."' in write_stream(COHERE, events, ASKED)


def test_a_stream_cut_anywhere_is_not_complete() -> None:
    for cut in range(0, STREAM.index(b"event: message-end"), 97):
        assert read_stream(COHERE, STREAM[:cut])[-1] == End(complete=False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40) | st.sampled_from(STREAM.split(b"\n\n")), max_size=12), CUTS)
def test_garbage_never_raises(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"\n\n".join(pieces)
    read_stream(COHERE, stream, cuts)
    COHERE.scanner().feed(stream)


def test_a_writer_without_finish_leaves_the_stream_to_fail() -> None:
    writer = COHERE.stream_writer(model="m", request=ASKED)
    assert writer.write([Start(id="r")]).startswith(b"event: message-start\n")
    assert writer.write([End(complete=False)]) == b""
    told = writer.fail(HubError(kind="timeout", message="late", status=504))
    assert b'"finish_reason":"ERROR"' in told
    assert writer.write([End(complete=True)]) == b""


# -- errors


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "invalid request: unknown field", "invalid_request"),
        (400, "too many tokens: total number of tokens in the prompt cannot exceed 128000", "context_length"),
        (401, "invalid api token", "authentication"),
        (402, "billing limit reached", "quota"),
        (404, "model not found", "not_found"),
        (422, "unprocessable", "invalid_request"),
        (429, "trial key limit", "rate_limit"),
        (498, "blocked input", "content_filter"),
        (500, "internal", "server_error"),
        (503, "busy", "overloaded"),
        (504, "late", "timeout"),
    ],
)
def test_errors_have_their_kind_from_the_status(status: int, message: str, kind: str) -> None:
    body = json.dumps({"message": message, "id": "e-1"}).encode()
    error = COHERE.read_error(status, body)
    assert error is not None
    assert (error.kind, error.message, error.request_id) == (kind, message, "e-1")
    assert json.loads(COHERE.write_error(error)) == json.loads(body)


@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b'{"error":"x"}', b"[]"])
def test_what_is_no_error_of_this_dialect_is_none(body: bytes) -> None:
    assert COHERE.read_error(500, body) is None


def test_our_codes_stand_in_the_error() -> None:
    error = HubError(kind="quota", message="Used up.", status=429, code="PS-2641")
    assert json.loads(COHERE.write_error(error)) == {"message": "Used up.", "code": "PS-2641"}
