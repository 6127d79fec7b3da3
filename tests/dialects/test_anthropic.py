"""The Messages dialect: golden requests, replies and streams survive the hub; what it cannot say is listed."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.dialects.anthropic.dialect import ANTHROPIC
from penstock.dialects.anthropic.foreign import has_foreign_marks
from penstock.dialects.anthropic.reply import read_count, write_count
from penstock.dialects.anthropic.usage import (
    CacheCreation,
    OutputDetails,
    UsageObject,
    disjoint_usage,
    wire_usage,
)
from penstock.dialects.assembly import assemble, disassemble
from penstock.spec.hub import (
    Choice,
    End,
    Failed,
    FinishSeen,
    HubError,
    HubReply,
    HubRequest,
    Media,
    Message,
    Opaque,
    PartDelta,
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
    UsageSeen,
)
from penstock.spec.usage import Usage
from tests.dialects.hub_requests import foreign
from tests.dialects.stream_checks import CUTS, read_stream, write_stream

GOLDEN = Path(__file__).parent / "golden" / "anthropic"
REQUEST = (GOLDEN / "request.json").read_bytes()
REPLY = (GOLDEN / "reply.json").read_bytes()
STREAM = (GOLDEN / "stream.sse").read_bytes()
PLAIN = frozenset[str]()
ASKED = HubRequest(source="anthropic", model="asked", messages=[])


def written(
    request: HubRequest, model: str = "claude-opus-4-6", **more: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    out = ANTHROPIC.write_request(request, model=model, quirks=more.get("quirks", PLAIN))
    return json.loads(out.body), out.dropped


# -- requests


def test_a_request_with_everything_comes_back_as_it_was_but_for_the_model() -> None:
    request = ANTHROPIC.read_request(REQUEST, model=None, stream=None)
    body, dropped = written(request, model="claude-other")
    assert body == {**json.loads(REQUEST), "model": "claude-other"}
    assert dropped == ()


def test_the_parts_of_a_request_have_the_hub_s_words() -> None:
    request = ANTHROPIC.read_request(REQUEST, model=None, stream=None)
    roles = [message.role for message in request.messages]
    assert roles == ["system", "user", "assistant", "user"]
    assert request.messages[0].parts[0].extra == {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    kinds = [type(part).__name__ for part in request.messages[1].parts]
    assert kinds == ["Text", "Media", "Media", "Media", "Media", "Opaque", "Opaque"]
    thinking, sealed, _, call, empty, *server = request.messages[2].parts
    assert thinking == Thinking(text="Two readings are needed.", signature="EqQBCg==", origin="anthropic")
    assert sealed == Thinking(sealed="EmwKAhgB", origin="anthropic")
    assert call == ToolCall(id="toolu_01", name="read_depth", arguments='{"lock":3,"unit":"m"}')
    assert isinstance(empty, ToolCall) and empty.arguments == ""
    assert all(isinstance(part, Opaque) for part in server)
    result = request.messages[3].parts[1]
    assert isinstance(result, ToolResult) and result.is_error and len(result.parts) == 2
    assert request.reasoning == Reasoning(enabled=True, effort="high", budget_tokens=8000, include_text=True)
    assert request.parallel_tool_calls is False
    assert request.user == "u-17"
    assert request.tools[2].builtin is not None


def test_peek_reads_what_decides() -> None:
    envelope = ANTHROPIC.peek(REQUEST, model=None, stream=None, max_depth=64)
    assert (envelope.model, envelope.stream, envelope.max_tokens) == ("claude-sonnet-4-5", True, 16000)
    assert (envelope.user, envelope.n_messages, envelope.has_tools) == ("u-17", 3, True)
    assert envelope.wants_usage


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"messages":[]}',
        b'{"model":1}',
        b'{"model":"a","model":"b"}',
        b'{"model":"a","stream":true,"stre\\u0061m":false}',
        b'{"model":"a","messages":' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"model":"\xff"}',
    ],
)
def test_peek_refuses_what_must_not_pass(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        ANTHROPIC.peek(body, model=None, stream=None, max_depth=64)


def test_the_model_alone_is_replaced() -> None:
    body = b'{ "messages" : [{"role":"user","content":"\\"model\\""}], "model" : "a" , "x":1.10}'
    assert ANTHROPIC.replace_model(body, "b") == body.replace(b'"a"', b'"b"')


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 4}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0].source"),
        ({"temperature": "hot"}, "temperature"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice.type"),
        ({"thinking": {"budget_tokens": 5}}, "thinking.type"),
        ({"tools": [{"description": "x"}]}, "tools[0].name"),
    ],
)
def test_a_wrong_member_is_named(change: dict[str, Any], param: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **change}
    with pytest.raises(InvalidInput) as caught:
        ANTHROPIC.read_request(json.dumps(body).encode(), model=None, stream=None)
    assert caught.value.fields["param"] == param


def test_max_tokens_is_always_said() -> None:
    assert written(foreign())[0]["max_tokens"] == 4096
    assert written(foreign(max_tokens=0))[0]["max_tokens"] == 0
    budget = foreign(reasoning=Reasoning(enabled=True, budget_tokens=3000))
    body, dropped = written(budget, model="claude-sonnet-4-5")
    assert (body["max_tokens"], body["thinking"]) == (7096, {"type": "enabled", "budget_tokens": 3000})
    assert dropped == ()


def test_results_of_one_turn_stand_together_and_first() -> None:
    request = foreign(
        Message(role="system", parts=[Text(text="One.")]),
        Message(role="user", parts=[Text(text="go")]),
        Message(
            role="assistant", parts=[ToolCall(id="a", name="f"), ToolCall(id="b", name="g", arguments="{}")]
        ),
        Message(role="user", parts=[ToolResult(call_id="a", parts=[Text(text="1")])]),
        Message(role="user", parts=[Text(text="and"), ToolResult(call_id="b", parts=[Text(text="2")])]),
        Message(role="system", parts=[Text(text="Two.")]),
    )
    body, dropped = written(request)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert [block["type"] for block in body["messages"][2]["content"]] == [
        "tool_result",
        "tool_result",
        "text",
    ]
    assert body["messages"][1]["content"][0]["input"] == {}
    assert body["system"] == [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    assert dropped == ("messages[5].position",)


def test_arguments_keep_every_digit() -> None:
    call = ToolCall(id="a", name="f", arguments='{"n": 12345678901234567890123, "x": 1.10}')
    out = ANTHROPIC.write_request(foreign(Message(role="assistant", parts=[call])), model="m", quirks=PLAIN)
    assert b'{"n": 12345678901234567890123, "x": 1.10}' in out.body


@pytest.mark.parametrize("arguments", ["{", "[1]", '"x"', "nonsense"])
def test_arguments_that_are_no_object_are_refused_by_message(arguments: str) -> None:
    call = ToolCall(id="a", name="f", arguments=arguments)
    with pytest.raises(InvalidInput, match=r"messages\[1\]"):
        written(foreign(Message(role="user"), Message(role="assistant", parts=[call])))


def test_ids_that_anthropic_refuses_are_changed_alike_in_call_and_result() -> None:
    body, _ = written(
        foreign(
            Message(role="assistant", parts=[ToolCall(id="functions.f:0", name="f")]),
            Message(role="user", parts=[ToolResult(call_id="functions.f:0")]),
        )
    )
    number = body["messages"][0]["content"][0]["id"]
    assert number.startswith("functions_f_0_")
    assert body["messages"][1]["content"][0]["tool_use_id"] == number


def test_what_cannot_be_said_is_listed() -> None:
    request = foreign(
        Message(
            role="user",
            name="Ada",
            parts=[
                Media(kind="audio", data="x", media_type="audio/wav"),
                Media(kind="image", file_id="file-1"),
                Media(kind="image", url="gs://bucket/boat.png"),
                Media(kind="image", url="https://example.org/b.png", detail="high"),
                Media(kind="document", data="UEsDB", media_type="application/vnd.ms-excel"),
            ],
        ),
        Message(
            role="assistant",
            parts=[
                Thinking(text="hm", origin="openai"),
                Thinking(sealed="gAAA", origin="responses"),
                ToolCall(id="a", name="f", signature="sig"),
                Opaque(dialect="gemini", raw={"executableCode": {}}),
            ],
        ),
        n=2,
        seed=1,
        frequency_penalty=0.5,
        presence_penalty=0,
        logprobs=True,
        top_logprobs=3,
        temperature=1.4,
        response_format=ResponseFormat(kind="json"),
        metadata={"team": "locks"},
        tools=[Tool(name="s", builtin=Opaque(dialect="responses", raw={"type": "file_search"}))],
        extra={"prediction": {}, "store": False},
    )
    body, dropped = written(request)
    assert set(dropped) == {
        "messages[0].name",
        "messages[0].audio",
        "messages[0].image",
        "messages[0].image.detail",
        "messages[0].document",
        "messages[1].thinking",
        "messages[1].tool_calls.signature",
        "messages[1].opaque",
        "tools[0].builtin",
        "prediction",
        "response_format",
        "temperature",
        "seed",
        "frequency_penalty",
        "logprobs",
        "top_logprobs",
        "n",
        "metadata",
    }
    assert not {"temperature", "seed", "n", "metadata", "tools"} & body.keys()
    assert None not in body.values()


def test_cache_marks_of_other_clients_are_kept() -> None:
    part = Text(text="long", extra={"cache_control": {"type": "ephemeral"}, "other": 1})
    body, dropped = written(foreign(Message(role="user", parts=[part])))
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    ]
    assert dropped == ("messages[0].other",)


def test_plain_text_documents_are_written_as_text() -> None:
    body, _ = written(
        foreign(
            Message(
                role="user", parts=[Media(kind="document", media_type="text/plain", data="aGk=", name="n")]
            )
        )
    )
    assert body["messages"][0]["content"] == [
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "hi"},
            "title": "n",
        }
    ]


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (ToolChoice(kind="auto"), None, {"type": "auto"}),
        (ToolChoice(kind="required"), True, {"type": "any"}),
        (
            ToolChoice(kind="named", name="f"),
            False,
            {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        ),
        (ToolChoice(kind="none"), False, {"type": "none"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (None, None, None),
    ],
)
def test_tool_choice(
    choice: ToolChoice | None, parallel: bool | None, expected: dict[str, Any] | None
) -> None:
    body, _ = written(foreign(tools=[Tool(name="f")], tool_choice=choice, parallel_tool_calls=parallel))
    assert body.get("tool_choice") == expected
    assert body["tools"] == [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]


# -- thinking that another dialect asked for


def test_an_effort_is_said_to_models_that_take_one() -> None:
    body, dropped = written(foreign(reasoning=Reasoning(effort="minimal"), temperature=0.2, top_k=5))
    assert body["thinking"] == {"type": "adaptive"}
    assert body["output_config"] == {"effort": "low"}
    assert dropped == ("temperature", "top_k")


def test_an_effort_is_a_budget_to_older_models() -> None:
    body, _ = written(
        foreign(reasoning=Reasoning(effort="low"), max_tokens=1500), model="claude-3-7-sonnet-20250219"
    )
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 1499}
    body, dropped = written(
        foreign(reasoning=Reasoning(effort="low"), max_tokens=500), model="claude-sonnet-4-20250514"
    )
    assert "thinking" not in body
    assert dropped == ("reasoning",)
    assert "thinking" not in written(foreign(reasoning=Reasoning(effort="none")))[0]
    body, _ = written(foreign(reasoning=Reasoning(effort="none")), model="claude-opus-5")
    assert body["thinking"] == {"type": "disabled"}


@pytest.mark.parametrize(
    ("model", "kept", "lost"),
    [
        ("claude-3-5-haiku-20241022", {"temperature": 0.2, "top_p": 0.9, "top_k": 5}, ()),
        ("claude-sonnet-4-20250514", {"temperature": 0.2, "top_p": 0.9, "top_k": 5}, ()),
        ("claude-opus-4-5@20251101", {"temperature": 0.2, "top_k": 5}, ("top_p",)),
        ("anthropic/claude-4.7-opus", {}, ("temperature", "top_p", "top_k")),
        ("claude-mythos-preview", {}, ("temperature", "top_p", "top_k")),
        ("deepseek-chat", {"temperature": 0.2, "top_p": 0.9, "top_k": 5}, ()),
    ],
)
def test_sampling_is_said_to_models_that_take_it(
    model: str, kept: dict[str, Any], lost: tuple[str, ...]
) -> None:
    body, dropped = written(foreign(temperature=0.2, top_p=0.9, top_k=5), model=model)
    assert {name: body[name] for name in ("temperature", "top_p", "top_k") if name in body} == kept
    assert dropped == lost
    assert written(foreign(temperature=1, top_p=1), model=model)[1] == ()


def test_members_that_nobody_knows_yet_come_back_wherever_they_stand() -> None:
    new = {"x_new": {"deep": [1]}}
    body = {
        "model": "claude-opus-4-6",
        "max_tokens": 5,
        "system": [{"type": "text", "text": "s", **new}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "t", **new},
                    {"type": "image", "source": {"type": "url", "url": "https://e.org/i", **new}},
                    {"type": "document", "source": {"type": "file", "file_id": "f"}, **new},
                ],
                **new,
            },
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}, **new}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", **new}]},
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}, **new}],
        "tool_choice": {"type": "any", **new},
        "thinking": {"type": "between_tools", **new},
        "output_config": {"effort": "low", **new},
        "metadata": {"user_id": "u", **new},
        **new,
    }
    request = ANTHROPIC.read_request(json.dumps(body).encode(), model=None, stream=None)
    assert written(request) == (body, ())


def test_thinking_is_left_out_where_the_request_would_be_refused_with_it() -> None:
    asked = Reasoning(effort="high")
    forced = foreign(reasoning=asked, tools=[Tool(name="f")], tool_choice=ToolChoice(kind="required"))
    body, dropped = written(forced)
    assert "thinking" not in body and dropped == ("reasoning",)
    going_on = foreign(
        Message(role="assistant", parts=[ToolCall(id="a", name="f")]),
        Message(role="user", parts=[ToolResult(call_id="a")]),
        reasoning=asked,
    )
    assert "thinking" not in written(going_on, model="claude-opus-4-1")[0]
    assert "thinking" in written(going_on, model="claude-opus-4-6")[0]


# -- replies


def test_a_reply_comes_back_as_it_was() -> None:
    reply = ANTHROPIC.read_reply(REPLY)
    assert json.loads(
        ANTHROPIC.write_reply(reply, model="claude-sonnet-4-5-20250929", request=ASKED)
    ) == json.loads(REPLY)
    assert (reply.choices[0].finish, reply.choices[0].finish_raw) == ("tool_calls", "tool_use")


def test_usage_of_a_reply_is_disjoint() -> None:
    usage, model = ANTHROPIC.read_usage(REPLY)
    assert model == "claude-sonnet-4-5-20250929"
    assert usage == Usage(
        input_uncached=120,
        input_cache_read=4000,
        input_cache_write=700,
        input_cache_write_1h=200,
        output_text=55,
        output_reasoning=31,
    )


COUNTS = st.none() | st.integers(0, 1_000_000)


@given(
    st.builds(
        UsageObject,
        input_tokens=COUNTS,
        output_tokens=COUNTS,
        cache_creation_input_tokens=COUNTS,
        cache_read_input_tokens=COUNTS,
        cache_creation=st.none() | st.builds(CacheCreation, COUNTS, COUNTS),
        output_tokens_details=st.none() | st.builds(OutputDetails, COUNTS),
    )
)
def test_the_classes_sum_to_what_was_counted_and_back(wire: UsageObject) -> None:
    usage = disjoint_usage(wire)
    if usage is None:
        assert wire.input_tokens is None and wire.output_tokens is None
        return
    assert usage.output_tokens == wire.output_tokens
    assert all(count is None or count >= 0 for count in (usage.input_cache_write, usage.input_cache_write_1h))
    if wire.cache_creation_input_tokens is not None:
        in_all = (
            (wire.input_tokens or 0) + wire.cache_creation_input_tokens + (wire.cache_read_input_tokens or 0)
        )
        assert (usage.input_tokens or 0) == in_all
    if wire.input_tokens is not None and wire.output_tokens is not None:
        again = disjoint_usage(msgspec.convert(wire_usage(usage), UsageObject))
        assert again is not None
        assert (again.input_tokens, again.output_tokens) == (usage.input_tokens, usage.output_tokens)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("something_new", "unknown"),
        (None, "unknown"),
    ],
)
def test_stop_reasons_are_never_guessed(reason: str | None, finish: str) -> None:
    body = json.dumps({"type": "message", "content": [], "stop_reason": reason}).encode()
    reply = ANTHROPIC.read_reply(body)
    assert reply.choices[0].finish == finish
    back = json.loads(ANTHROPIC.write_reply(reply, model="m", request=ASKED))["stop_reason"]
    assert back == (None if reason == "something_new" else reason)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"content":[1]}', b'{"content":[{"type":"text"}]}']
)
def test_what_is_no_message_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        ANTHROPIC.read_reply(body)


def test_the_first_choice_of_another_provider_is_a_message() -> None:
    reply = HubReply(
        source="openai",
        choices=[
            Choice(
                parts=[Refusal(text="No."), ToolCall(id="c", name="f", arguments="oops")],
                finish="content_filter",
            ),
            Choice(parts=[Text(text="second")]),
        ],
    )
    message = json.loads(ANTHROPIC.write_reply(reply, model="asked", request=ASKED))
    assert message["content"] == [
        {"type": "text", "text": "No."},
        {"type": "tool_use", "id": "c", "name": "f", "input": {"_raw": "oops"}},
    ]
    assert (message["stop_reason"], message["model"]) == ("refusal", "asked")


FOREIGN = [
    Thinking(text="a", signature="s1", origin="gemini"),
    Thinking(text="b", sealed="gAAA#x", origin="responses", id="rs_1"),
    Thinking(sealed="gAAA", origin="responses", id="rs_2"),
    Thinking(text="c", origin="openai"),
]


@pytest.mark.parametrize("thought", FOREIGN)
def test_signatures_of_other_providers_travel_through_the_client_and_never_reach_anthropic(
    thought: Thinking,
) -> None:
    reply = HubReply(
        source="gemini", choices=[Choice(parts=[thought, ToolCall(id="c", name="f", signature="sig")])]
    )
    whole = json.loads(ANTHROPIC.write_reply(reply, model="m", request=ASKED))["content"]
    streamed = read_stream(ANTHROPIC, write_stream(ANTHROPIC, disassemble(reply), ASKED))
    shown = assemble(streamed, source="anthropic").choices[0].parts[0]
    for block in (whole[0], rebuilt_block(shown)):
        body = json.dumps(
            {"model": "m", "messages": [{"role": "assistant", "content": [block, whole[1]]}]}
        ).encode()
        assert has_foreign_marks(body)
        request = ANTHROPIC.read_request(body, model=None, stream=None)
        assert request.messages[0].parts == [thought, ToolCall(id="c", name="f", signature="sig")]
        sent, dropped = written(request)
        assert sent["messages"][0]["content"] == [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]
        assert dropped == ("messages[0].thinking", "messages[0].tool_calls.signature")
    assert not has_foreign_marks(REQUEST)


def rebuilt_block(shown: Any) -> dict[str, Any]:
    """The block that a client makes of a stream."""
    return {"type": "thinking", "thinking": shown.text or "", "signature": shown.signature}


# -- streams


@settings(max_examples=40, deadline=None)
@given(CUTS, st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_split_of_a_stream_adds_up_to_the_whole_reply(cuts: list[int], end: bytes) -> None:
    events = read_stream(ANTHROPIC, STREAM.replace(b"\n", end), cuts)
    assert events == read_stream(ANTHROPIC, STREAM)
    assert assemble(events, source="anthropic") == ANTHROPIC.read_reply(REPLY)
    assert events[-1] == End(complete=True)


def test_a_stream_written_again_says_the_same() -> None:
    events = read_stream(ANTHROPIC, STREAM)
    again = read_stream(ANTHROPIC, write_stream(ANTHROPIC, events, ASKED))
    whole = assemble(again, source="anthropic")
    assert msgspec.structs.replace(whole, model=None) == msgspec.structs.replace(
        ANTHROPIC.read_reply(REPLY), model=None
    )


def test_counts_of_a_stream_replace_earlier_ones() -> None:
    events = read_stream(ANTHROPIC, STREAM)
    usages = [event.usage for event in events if isinstance(event, UsageSeen)]
    assert usages == [ANTHROPIC.read_usage(REPLY)[0]]
    assert isinstance(events[0], Start) and events[0].usage is not None
    assert events[0].usage.output_tokens == 1


def test_the_scanner_knows_when_content_begins_and_what_was_used() -> None:
    scanner = ANTHROPIC.scanner()
    first = STREAM.index(b"event: content_block_delta")
    scanner.feed(STREAM[:first])
    assert not scanner.has_content and not scanner.is_finished()
    scanner.feed(STREAM[first : first + 300])
    assert scanner.has_content
    scanner.feed(STREAM[first + 300 :])
    assert scanner.is_finished() and scanner.error() is None
    assert scanner.model() == "claude-sonnet-4-5-20250929"
    assert scanner.usage() == ANTHROPIC.read_usage(REPLY)[0]


ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'


def test_an_error_inside_a_stream_is_told_and_ends_it() -> None:
    cut = STREAM.index(b"event: content_block_stop")
    events = read_stream(ANTHROPIC, STREAM[:cut] + ERROR + STREAM[cut:])
    assert isinstance(events[-2], Failed) and events[-1] == End(complete=False)
    assert (events[-2].error.kind, events[-2].error.status) == ("overloaded", 529)
    scanner = ANTHROPIC.scanner()
    scanner.feed(ERROR)
    error = scanner.error()
    assert error is not None and error.kind == "overloaded"
    told = write_stream(ANTHROPIC, events, ASKED)
    assert b"overloaded_error" in told and b"message_stop" not in told


def test_a_stream_cut_anywhere_is_not_complete() -> None:
    for cut in range(0, STREAM.index(b"event: message_stop"), 97):
        events = read_stream(ANTHROPIC, STREAM[:cut])
        assert events[-1] == End(complete=False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40) | st.sampled_from(STREAM.split(b"\n\n")), max_size=12), CUTS)
def test_garbage_never_raises(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"\n\n".join(pieces)
    read_stream(ANTHROPIC, stream, cuts)
    scanner = ANTHROPIC.scanner()
    scanner.feed(stream)


def test_blocks_that_were_never_announced_are_read() -> None:
    stream = (
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}\n\n'
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\ndata: {"type":"message_stop"}\n\n'
    )
    reply = assemble(read_stream(ANTHROPIC, stream), source="anthropic")
    assert reply.choices == [Choice(parts=[Text(text="hi")], finish="stop", finish_raw="end_turn")]
    assert reply.usage is None


def test_a_writer_without_finish_leaves_the_stream_to_fail() -> None:
    writer = ANTHROPIC.stream_writer(model="m", request=ASKED)
    begun = writer.write([Start()])
    assert begun.startswith(b"event: message_start\n")
    assert writer.write([End(complete=False)]) == b""
    assert writer.fail(HubError(kind="timeout", message="late", status=504)).startswith(b"event: error\n")
    assert writer.write([FinishSeen(finish="stop"), End(complete=True)]) == b""


def test_other_choices_are_left_out_of_a_stream() -> None:
    writer = ANTHROPIC.stream_writer(model="m", request=ASKED)
    assert writer.write([Start(), PartDelta(index=0, text="x", choice=1)]).count(b"event:") == 1


# -- errors and counts


@pytest.mark.parametrize(
    ("type_", "status", "kind"),
    [
        ("invalid_request_error", 400, "invalid_request"),
        ("authentication_error", 401, "authentication"),
        ("billing_error", 402, "quota"),
        ("permission_error", 403, "permission"),
        ("not_found_error", 404, "not_found"),
        ("request_too_large", 413, "too_large"),
        ("rate_limit_error", 429, "rate_limit"),
        ("api_error", 500, "server_error"),
        ("timeout_error", 504, "timeout"),
        ("overloaded_error", 529, "overloaded"),
    ],
)
def test_errors_keep_their_type(type_: str, status: int, kind: str) -> None:
    body = json.dumps(
        {"type": "error", "error": {"type": type_, "message": "Why."}, "request_id": "req_1"}
    ).encode()
    error = ANTHROPIC.read_error(status, body)
    assert error is not None
    assert (error.kind, error.message, error.status, error.request_id) == (kind, "Why.", status, "req_1")
    assert json.loads(ANTHROPIC.write_error(error)) == json.loads(body)


def test_errors_say_more_than_their_type_where_their_text_does() -> None:
    def kind(message: str) -> str:
        body = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
        found = ANTHROPIC.read_error(400, json.dumps(body).encode())
        assert found is not None
        return found.kind

    assert kind("prompt is too long: 210000 tokens > 200000 maximum") == "context_length"
    assert kind("Output blocked by content filtering policy") == "content_filter"
    assert kind("Your credit balance is too low to access the API") == "quota"


@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b'{"error":"x"}', b"[]", b'{"message":"x"}'])
def test_what_is_no_error_of_this_dialect_is_none(body: bytes) -> None:
    assert ANTHROPIC.read_error(500, body) is None


def test_our_codes_stand_in_the_error() -> None:
    error = HubError(kind="quota", message="Used up.", status=429, code="PS-2641")
    assert json.loads(ANTHROPIC.write_error(error)) == {
        "type": "error",
        "error": {"type": "billing_error", "message": "Used up.", "code": "PS-2641"},
    }


def test_counts_of_tokens_are_read_and_written() -> None:
    assert read_count(write_count(17)) == 17
    assert read_count(b"{}") is None
    request = ANTHROPIC.read_request(
        b'{"model":"m","messages":[{"role":"user","content":"x"}]}', model=None, stream=None
    )
    assert request.max_tokens is None
