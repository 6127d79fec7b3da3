"""The responses dialect: items and messages of the hub say the same, streams name every step in order."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.dialects.assembly import assemble, disassemble
from penstock.dialects.openai.dialect import OPENAI
from penstock.dialects.responses.dialect import RESPONSES
from penstock.dialects.sse_events import SseSplitter
from penstock.spec.hub import (
    Choice,
    End,
    Event,
    Failed,
    FinishSeen,
    HubError,
    HubReply,
    HubRequest,
    Message,
    Opaque,
    PartStart,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from penstock.spec.usage import Usage
from tests.dialects.event_rules import assert_valid_events

GOLDEN = Path(__file__).parent / "golden"
NO_QUIRKS: frozenset[str] = frozenset()


def golden(name: str, dialect: str = "responses") -> bytes:
    return (GOLDEN / dialect / name).read_bytes()


def read(value: dict[str, Any]) -> HubRequest:
    return RESPONSES.read_request(json.dumps(value).encode(), model=None, stream=None)


def written(request: HubRequest, model: str = "m") -> tuple[dict[str, Any], tuple[str, ...]]:
    found = RESPONSES.write_request(request, model=model, quirks=NO_QUIRKS)
    assert found.path == "/responses"
    return json.loads(found.body), found.dropped


def events_of(stream: bytes, size: int = 0) -> list[Event]:
    reader = RESPONSES.stream_reader()
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)] if size else [stream]
    events = [event for piece in pieces for event in reader.feed(piece)]
    events += reader.finish()
    assert_valid_events(events)
    return events


def event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def decoded(stream: bytes) -> list[tuple[str | None, dict[str, Any]]]:
    return [(one.event, json.loads(one.data)) for one in SseSplitter().feed(stream)]


# -- requests


def test_a_request_comes_back_as_it_was() -> None:
    body = golden("request.json")
    request = RESPONSES.read_request(body, model=None, stream=None)
    found, dropped = written(request, model="gpt-5.1")
    said = json.loads(body)
    said["input"][0]["role"] = "system"
    assert found == said
    assert dropped == ()
    assert RESPONSES.read_request(json.dumps(found).encode(), model=None, stream=None) == request


def test_neighbouring_items_make_messages_with_turns() -> None:
    request = RESPONSES.read_request(golden("request.json"), model=None, stream=None)
    assert [
        (message.role, [type(part).__name__ for part in message.parts]) for message in request.messages
    ] == [
        ("system", ["Text"]),
        ("system", ["Text"]),
        ("user", ["Text", *["Media"] * 6, "Opaque"]),
        ("assistant", ["Thinking", "Text", "ToolCall", "ToolCall", "Opaque"]),
        ("user", ["ToolResult", "ToolResult"]),
        ("assistant", ["Refusal"]),
        ("user", ["Text"]),
    ]


def test_a_string_is_one_user_message() -> None:
    request = read({"model": "m", "input": "hi"})
    assert request.messages == [Message(role="user", parts=[Text(text="hi")])]


def test_ids_and_states_of_items_do_not_count_as_something_said() -> None:
    items = [
        {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
         "content": [{"type": "output_text", "text": "a", "annotations": [], "logprobs": []}]},
        {"type": "function_call", "id": "fc_1", "status": "completed", "call_id": "c", "name": "f", "arguments": ""},
    ]  # fmt: skip
    request = read({"model": "m", "input": items, "store": False, "include": ["reasoning.encrypted_content"]})
    assert request.messages[0].parts == [Text(text="a"), ToolCall(id="c", name="f")]
    assert OPENAI.write_request(request, model="m", quirks=NO_QUIRKS).dropped == ()


def test_what_only_a_server_with_state_understands_is_named_for_others() -> None:
    request = RESPONSES.read_request(golden("request.json"), model=None, stream=None)
    dropped = OPENAI.write_request(request, model="gpt-5.1", quirks=NO_QUIRKS).dropped
    assert set(dropped) == {
        *("previous_response_id", "truncation", "future_member", "tools[2].builtin"),
        *("messages[2].image", "messages[2].document", "messages[2].input_future"),
        *("messages[3].thinking", "messages[3].thinking.signature", "messages[3].web_search_call"),
        "reasoning.include_text",
    }


def test_a_chat_request_is_said_with_the_defaults_of_chat() -> None:
    value = {
        "model": "m",
        "messages": [{"role": "user", "content": "hi", "name": "ada"}],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "stop": "x",
        "seed": 1,
        "n": 2,
        "verbosity": "low",
        "presence_penalty": 0.5,
        "frequency_penalty": 0,
        "logprobs": True,
        "logit_bias": {"1": 2},
        "prompt_cache_key": "k",
    }
    request = OPENAI.read_request(json.dumps(value).encode(), model=None, stream=None)
    found, dropped = written(request)
    assert found == {
        "model": "m",
        "input": [{"type": "message", "role": "user", "content": "hi"}],
        "tools": [
            {
                "type": "function",
                "name": "f",
                "parameters": {"type": "object", "properties": {}},
                "strict": False,
            }
        ],
        "include": ["message.output_text.logprobs"],
        "text": {"verbosity": "low"},
        "store": False,
        "prompt_cache_key": "k",
    }
    assert set(dropped) == {"messages[0].name", "stop", "seed", "n", "presence_penalty", "logit_bias"}


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"model": "m", "input": 3}, "input"),
        ({"model": "m", "input": [3]}, r"input\[0\]"),
        ({"model": "m", "input": [{"role": "boss", "content": "x"}]}, r"input\[0\].role"),
        ({"model": "m", "input": [{"type": "function_call", "name": "f"}]}, r"input\[0\].call_id"),
        ({"model": "m", "input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "image_url"),
        ({"model": "m", "input": "x", "text": {"format": {"type": "yaml"}}}, "text.format.type"),
        ({"model": "m", "input": "x", "tools": [{}]}, r"tools\[0\].type"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(value: dict[str, Any], names: str) -> None:
    with pytest.raises(InvalidInput, match=names):
        read(value)


def test_the_envelope_tells_what_limits_and_stickiness_need() -> None:
    body = b'{"model": "m", "input": "x", "max_output_tokens": 9, "previous_response_id": "resp_1", "tools": [{}]}'
    envelope = RESPONSES.peek(body, model=None, stream=None, max_depth=9)
    assert (envelope.model, envelope.max_tokens, envelope.previous) == ("m", 9, "resp_1")
    assert envelope.has_tools and envelope.wants_usage and not envelope.stream
    assert RESPONSES.replace_model(body, "n") == body.replace(b'"m"', b'"n"')
    for bad in (
        b"{}",
        b'{"model": ""}',
        b'{"model": "m", "model": "n"}',
        b'{"model": "m", "stream": 1}',
        b"[",
    ):
        with pytest.raises(InvalidInput):
            RESPONSES.peek(bad, model=None, stream=None, max_depth=9)


# -- replies


def test_a_reply_is_read_and_written_again() -> None:
    reply = RESPONSES.read_reply(golden("reply.json"))
    request = read({"model": "m", "input": "x"})
    again = RESPONSES.write_reply(reply, model="gpt-5.1-2025-11-13", request=request)
    written = RESPONSES.read_reply(again)
    assert written.usage == msgspec.structs.replace(reply.usage or Usage(), input_cache_write=0)
    written.usage = reply.usage
    assert written == reply
    assert reply.choices[0].finish == "tool_calls"
    assert reply.usage == Usage(input_uncached=36, input_cache_read=64, output_text=32, output_reasoning=8)
    assert RESPONSES.read_usage(golden("reply.json")) == (reply.usage, "gpt-5.1-2025-11-13")


@pytest.mark.parametrize(
    ("members", "finish", "raw"),
    [
        ({"status": "completed"}, "stop", "completed"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length", "max_output_tokens"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter", "content_filter"),
        ({"status": "incomplete", "incomplete_details": None}, "unknown", "incomplete"),
        ({"status": "queued"}, "unknown", "queued"),
        ({}, "unknown", None),
    ],
)  # fmt: skip
def test_why_a_response_ended(members: dict[str, Any], finish: str, raw: str | None) -> None:
    choice = RESPONSES.read_reply(json.dumps({"output": [], **members}).encode()).choices[0]
    assert (choice.finish, choice.finish_raw) == (finish, raw)


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"choices": []}', b'{"output": 3}', b'{"status": "failed", "output": []}', b'{"output": [1]}']
)  # fmt: skip
def test_what_is_no_reply_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        RESPONSES.read_reply(body)


def test_signed_thoughts_of_others_survive_a_turn_through_the_client() -> None:
    thought = Thinking(text="hm", signature="sig", origin="anthropic")
    reply = HubReply(source="anthropic", choices=[Choice(parts=[thought, ToolCall(id="t", name="f")])])
    output = json.loads(RESPONSES.write_reply(reply, model="m", request=read({"model": "m", "input": "x"})))[
        "output"
    ]
    again = read({"model": "m", "input": output})
    assert again.messages[0].parts == [thought, ToolCall(id="t", name="f", arguments="{}")]
    broken = {**output[0], "encrypted_content": "penstock.1.###"}
    part = read({"model": "m", "input": [broken]}).messages[0].parts[0]
    assert isinstance(part, Thinking) and part.origin == "responses"


# -- streams


def test_a_stream_adds_up_to_the_reply_it_stands_for() -> None:
    reply = RESPONSES.read_reply(golden("reply.json"))
    reply.extra = {}
    assert assemble(events_of(golden("stream.sse")), source="responses") == reply


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 700))
def test_every_split_gives_the_same_events(size: int) -> None:
    assert events_of(golden("stream.sse"), size) == events_of(golden("stream.sse"))


PARTS = st.one_of(
    st.text(min_size=1, max_size=9).map(lambda text: Text(text=text)),
    st.text(min_size=1, max_size=9).map(lambda text: Refusal(text=text)),
    st.builds(
        Thinking,
        text=st.none() | st.text(min_size=1, max_size=9),
        id=st.just("rs_x"),
        sealed=st.none() | st.just("gAAA"),
        origin=st.just("responses"),
    ),
    st.builds(ToolCall, id=st.just("id"), name=st.just("f"), arguments=st.sampled_from(["{}", '{"a":"é"}'])),
    st.just(Opaque(dialect="responses", raw={"type": "web_search_call", "id": "ws"})),
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(PARTS, max_size=6),
    st.sampled_from(["stop", "length", "content_filter", "unknown"]),
    st.booleans(),
)
def test_a_written_stream_and_a_written_reply_say_the_same(
    parts: list[Any], finish: Any, has_usage: bool
) -> None:
    if finish == "stop" and any(isinstance(part, ToolCall) for part in parts):
        finish = "tool_calls"
    told = Usage(input_uncached=3, input_cache_read=0, input_cache_write=0, output_text=2, output_reasoning=0)
    usage = told if has_usage else None
    choice = Choice(parts=parts, finish=finish)
    reply = HubReply(source="responses", id="r", model="m", created_s=5, choices=[choice], usage=usage)
    request = read({"model": "m", "input": "x", "instructions": "be kind"})
    body = json.loads(RESPONSES.write_reply(reply, model="m", request=request))
    writer = RESPONSES.stream_writer(model="m", request=request)
    stream = b"".join(writer.write([one]) for one in disassemble(reply))
    events = decoded(stream)
    assert [value["sequence_number"] for _, value in events] == list(range(len(events)))
    assert all(name == value["type"] for name, value in events)
    assert events[-1][1]["response"] == body
    assert [value["item"] for name, value in events if name == "response.output_item.done"] == body["output"]
    unstreamed = RESPONSES.read_reply(json.dumps(body).encode())
    unstreamed.extra = {}
    assert assemble(events_of(stream), source="responses") == unstreamed
    assert unstreamed.choices[0].parts == parts
    assert unstreamed.choices[0].finish == finish
    scanner = RESPONSES.scanner()
    scanner.feed(stream)
    assert scanner.has_content == bool(parts)
    assert (scanner.usage(), scanner.model(), scanner.error()) == (usage, "m", None)
    assert scanner.is_finished()


def test_a_chat_stream_can_be_told_as_a_response_and_back() -> None:
    reader = OPENAI.stream_reader()
    events = [*reader.feed(golden("stream.sse", "openai")), *reader.finish()]
    writer = RESPONSES.stream_writer(model="m", request=read({"model": "m", "input": "x"}))
    again = assemble(events_of(writer.write(events)), source="responses").choices[0]
    chat = assemble(events, source="openai").choices[0]
    assert [type(part) for part in again.parts] == [type(part) for part in chat.parts]
    assert again.finish == chat.finish == "tool_calls"
    assert again.logprobs == chat.logprobs
    text = next(part for part in again.parts if isinstance(part, Text))
    assert text.extra["annotations"][0]["url"] == "https://example.org"
    back = OPENAI.stream_writer(model="m", request=read({"model": "m", "input": "x"}))
    stream = back.write(events_of(golden("stream.sse")))
    message = OPENAI.stream_reader()
    told = assemble([*message.feed(stream), *message.finish()], source="openai").choices[0]
    assert [part.text for part in told.parts if isinstance(part, Text)] == ["Hello"]
    assert next(part for part in told.parts if isinstance(part, Text)).extra["annotations"][0]["url_citation"]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_items_that_are_written_side_by_side_are_told_one_after_the_other(data: st.DataObject) -> None:
    blocks = golden("stream.sse").strip().split(b"\n\n")
    found = [(json.loads(block.split(b"data: ", 1)[1]).get("output_index"), block) for block in blocks]
    queues: dict[int, list[bytes]] = {}
    for index, block in found:
        if index is not None:
            queues.setdefault(index, []).append(block)
    mixed = [block for index, block in found[:-1] if index is None]
    n_begun = 0  # an item begins after the one before it, and then they go on as they like
    while any(queues.values()):
        going = [index for index in range(n_begun) if queues[index]]
        if n_begun < len(queues):
            going.append(n_begun)
        index = data.draw(st.sampled_from(going))
        n_begun = max(n_begun, index + 1)
        mixed.append(queues[index].pop(0))
    stream = b"".join(block + b"\n\n" for block in [*mixed, blocks[-1]])
    assert assemble(events_of(stream), source="responses") == assemble(
        events_of(golden("stream.sse")), source="responses"
    )


def test_calls_that_are_never_said_to_be_done_are_told_when_the_response_ends() -> None:
    call = {"type": "function_call", "name": "f", "arguments": ""}
    kind = "response.function_call_arguments.delta"
    stream = (
        event("response.output_item.added", output_index=0, item={**call, "call_id": "a"})
        + event("response.output_item.added", output_index=1, item={**call, "call_id": "b"})
        + event(kind, output_index=1, delta='{"n": 1}')
        + event(kind, output_index=0, delta='{"n": 0}')
        + event("response.completed", response={"status": "completed"})
    )
    assert assemble(events_of(stream), source="responses").choices[0].parts == [
        ToolCall(id="a", name="f", arguments='{"n": 0}'),
        ToolCall(id="b", name="f", arguments='{"n": 1}'),
    ]


def test_a_server_that_sends_no_deltas_is_understood() -> None:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    stream = (
        event("response.created", response={"id": "r", "model": "m"})
        + event("response.output_item.done", output_index=0, item=item)
        + event("response.output_item.added", output_index=1, item={**call, "arguments": ""})
        + event("response.output_item.done", output_index=1, item=call)
        + event("response.completed", response={"status": "completed"})
    )
    choice = assemble(events_of(stream), source="responses").choices[0]
    assert choice.parts == [Text(text="Hi"), ToolCall(id="c", name="f", arguments="{}")]
    assert choice.finish == "tool_calls"


def test_a_stream_without_its_last_event_is_incomplete_and_has_no_finish() -> None:
    events = events_of(golden("stream.sse").rsplit(b"event: ", 1)[0])
    assert events[-1] == End(complete=False)
    assert not any(isinstance(one, FinishSeen) for one in events)
    writer = RESPONSES.stream_writer(model="m", request=read({"model": "m", "input": "x"}))
    assert b"response.completed" not in writer.write(events)


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (event("error", code="rate_limit_exceeded", message="slow", param=None), "rate_limit"),
        (event("error", error={"type": "server_error", "message": "x"}), "server_error"),
        (
            event("response.failed", response={"error": {"code": "server_error", "message": "x"}}),
            "server_error",
        ),
        (event("response.failed", response={"error": None}), "unknown"),
        (event("response.output_text.delta", delta=3), "server_error"),
        (event("response.function_call_arguments.delta", delta="x"), "server_error"),
        (b"data: {cut}\n\n", "server_error"),
    ],
)
def test_a_failure_inside_a_stream_ends_it(stream: bytes, kind: str) -> None:
    failed, end = events_of(event("response.created", response={"id": "r"}) + stream)[-2:]
    assert isinstance(failed, Failed) and failed.error.kind == kind
    assert end == End(complete=False)


def test_an_error_is_told_as_the_api_tells_it() -> None:
    writer = RESPONSES.stream_writer(model="m", request=read({"model": "m", "input": "x"}))
    error = HubError(kind="overloaded", message="Busy.", status=503, code="PS-4671")
    assert [name for name, _ in decoded(writer.fail(error))] == ["error"]
    writer = RESPONSES.stream_writer(model="m", request=read({"model": "m", "input": "x"}))
    begun = writer.write(disassemble(HubReply(source="openai", choices=[Choice(parts=[Text(text="a")])]))[:3])
    (_, first), (name, last) = decoded(writer.fail(error))
    assert first["message"] == "Busy." and first["code"] == "PS-4671"
    assert name == "response.failed" and last["response"]["status"] == "failed"
    scanner = RESPONSES.scanner()
    scanner.feed(begun + writer.fail(error))
    assert scanner.error() is not None and not scanner.is_finished()


KINDS = ["response.output_item.added", "response.output_item.done", "response.output_text.delta", "response.completed",
         "response.content_part.done", "response.reasoning_summary_part.added", "error", "message", "function_call",
         "reasoning", "output_text"]  # fmt: skip
MEMBERS = ["type", "item", "part", "delta", "response", "output_index", "content_index", "content", "summary", "text",
           "call_id", "name", "arguments", "error", "usage", "annotations", "encrypted_content"]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.recursive(
            st.none() | st.sampled_from(KINDS) | st.integers(-1, 2),
            lambda inner: (
                st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=5)
            ),
            max_leaves=14,
        ),
        max_size=4,
    )
)
def test_garbage_never_raises(values: list[Any]) -> None:
    stream = b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values)
    events_of(stream)
    RESPONSES.scanner().feed(stream)


def test_results_keep_their_turn_and_parts_of_others_are_named() -> None:
    request = HubRequest(
        source="anthropic",
        model="m",
        messages=[
            Message(
                role="assistant",
                parts=[Thinking(text="t", signature="s", origin="anthropic"), ToolCall(id="c", name="f")],
            ),
            Message(
                role="user",
                parts=[ToolResult(call_id="c", parts=[Text(text="r")], is_error=True), Text(text="go")],
            ),
        ],
    )
    found, dropped = written(request)
    assert [item["type"] for item in found["input"]] == ["function_call", "function_call_output", "message"]
    assert set(dropped) == {"messages[0].thinking", "messages[1].tool_result.is_error"}


def test_parts_are_numbered_through_items() -> None:
    starts = [one.index for one in events_of(golden("stream.sse")) if isinstance(one, PartStart)]
    assert starts == [0, 1, 2, 3, 4]
