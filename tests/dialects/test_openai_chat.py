"""The chat completions dialect: nothing a request says is lost on the way through the hub, and what a server cannot
be told is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.dialects.assembly import assemble, disassemble
from penstock.dialects.openai.dialect import OPENAI
from penstock.dialects.openai.stream_read import ChatStreamReader
from penstock.spec.hub import (
    Choice,
    End,
    Event,
    Failed,
    FinishSeen,
    HubError,
    HubReply,
    HubRequest,
    Media,
    Message,
    PartDelta,
    PartStart,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    UsageSeen,
)
from penstock.spec.usage import Usage
from tests.dialects.event_rules import assert_valid_events

GOLDEN = Path(__file__).parent / "golden" / "openai"
NO_QUIRKS: frozenset[str] = frozenset()


def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def read(value: dict[str, Any]) -> HubRequest:
    return OPENAI.read_request(json.dumps(value).encode(), model=None, stream=None)


def written(request: HubRequest, *quirks: str, model: str = "m") -> tuple[dict[str, Any], tuple[str, ...]]:
    found = OPENAI.write_request(request, model=model, quirks=frozenset(quirks))
    assert found.path == "/chat/completions"
    return json.loads(found.body), found.dropped


def events_of(stream: bytes, cuts: list[int] | None = None) -> list[Event]:
    reader = ChatStreamReader()
    edges = [0, *sorted(cuts or []), len(stream)]
    events: list[Event] = []
    for start, end in zip(edges, edges[1:], strict=False):  # noqa: RUF007 - one shorter by intent
        events += reader.feed(stream[start:end])
    events += reader.finish()
    assert_valid_events(events)
    return events


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": [choice], **more}).encode() + b"\n\n"


# -- requests


def test_a_request_comes_back_as_it_was() -> None:
    body = golden("request.json")
    request = OPENAI.read_request(body, model=None, stream=None)
    found, dropped = written(request, model="gpt-4o")
    said = json.loads(body)
    said["messages"][0]["role"] = "system"  # which OpenAI's own servers take for the same
    said["messages"][5]["content"] = "noon"
    said["messages"][7]["content"] = None
    said["future_member"] = {"deep": [1, 2, None]}
    assert found == said
    assert dropped == ()
    assert OPENAI.read_request(json.dumps(found).encode(), model=None, stream=None) == request


def test_what_the_hub_understands_of_a_request() -> None:
    request = OPENAI.read_request(golden("request.json"), model=None, stream=None)
    assert [message.role for message in request.messages] == [
        *("system", "system", "user", "assistant", "user", "assistant", "assistant", "user")
    ]
    image = request.messages[2].parts[2]
    assert isinstance(image, Media)
    assert (image.kind, image.media_type, image.data) == ("image", "image/png", "iVBORw0KGgo=")
    results = request.messages[4].parts
    assert [part.call_id for part in results if isinstance(part, ToolResult)] == ["call_a", "call_b"]
    assert request.tool_choice == ToolChoice(kind="named", name="look")
    assert request.extra.keys() == {"logit_bias", "service_tier", "future_member", "stream_options"}
    assert request.stream_usage


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"model": "m", "messages": "hi"}, "messages"),
        ({"model": "m", "messages": [3]}, r"messages\[0\]"),
        ({"model": "m", "messages": [{"content": "x"}]}, r"messages\[0\].role"),
        ({"model": "m", "messages": [{"role": "function", "content": "x"}]}, r"messages\[0\].role"),
        ({"model": "m", "messages": [{"role": "user", "content": 3}]}, r"messages\[0\].content"),
        (
            {"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            r"messages\[0\].content\[0\].image_url",
        ),
        ({"model": "m", "messages": [{"role": "tool", "content": "x"}]}, "tool_call_id"),
        ({"model": "m", "messages": [], "temperature": "hot"}, "temperature"),
        ({"model": "m", "messages": [], "n": 1.5}, "n` must be a whole number"),
        ({"model": "m", "messages": [], "stop": [1]}, "stop"),
        (
            {"model": "m", "messages": [], "tools": [{"type": "function", "function": {}}]},
            r"tools\[0\].function.name",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_path(value: dict[str, Any], names: str) -> None:
    with pytest.raises(InvalidInput, match=names):
        read(value)


def test_the_limit_of_tokens_goes_by_the_name_the_model_knows() -> None:
    request = read({"model": "m", "messages": [], "max_completion_tokens": 5})
    names = {
        ("gpt-4o", ""): "max_tokens",
        ("o3-mini", ""): "max_completion_tokens",
        ("gpt-5.1", ""): "max_completion_tokens",
        ("openai/gpt-5-mini", ""): "max_completion_tokens",
        ("gpt-5-chat-latest", ""): "max_tokens",
        ("o3-mini", "max_tokens"): "max_tokens",
        ("my-deployment", "max_completion_tokens"): "max_completion_tokens",
        ("deepseek-chat", "max_tokens"): "max_tokens",
    }
    for (model, quirk), name in names.items():
        found, dropped = written(request, *([quirk] if quirk else []), model=model)
        assert found[name] == 5, model
        assert len(found) == 3 and dropped == ()


def test_a_reasoning_model_is_spared_what_it_refuses() -> None:
    value = {
        "model": "m",
        "messages": [],
        "temperature": 0.5,
        "top_p": 1,
        "logprobs": True,
        "top_logprobs": 2,
    }
    request = read(
        {**value, "presence_penalty": 0, "frequency_penalty": 1, "stop": "x", "reasoning_effort": "low"}
    )
    found, dropped = written(request, model="o4-mini")
    assert found == {"model": "o4-mini", "messages": [], "reasoning_effort": "low"}
    assert dropped == ("temperature", "frequency_penalty", "logprobs", "top_logprobs", "stop")
    found, dropped = written(request, model="gpt-4o")
    assert found["temperature"] == 0.5
    assert dropped == ("reasoning.effort",)


def test_quirks_change_how_things_are_said_or_name_what_cannot_be() -> None:
    request = read(
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
            ],
            "tools": [{"type": "function", "function": {"name": "f", "strict": True}}],
            "tool_choice": "required",
            "parallel_tool_calls": True,
            "seed": 3,
            "n": 2,
            "user": "u",
            "logprobs": True,
            "presence_penalty": 1,
            "stream": True,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "object"}},
            },
        }
    )
    quirks = "no_parallel_tools no_strict_tools no_json_schema tool_choice_any random_seed no_n no_user string_content"
    found, dropped = written(request, *quirks.split(), "no_logprobs", "no_penalties", "no_stream_usage")
    assert found == {
        "model": "m",
        "messages": [{"role": "user", "content": "a\n\nb"}],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "tool_choice": "any",
        "random_seed": 3,
        "response_format": {"type": "json_object"},
        "stream": True,
    }
    assert set(dropped) == {
        *("tools[0].strict", "parallel_tool_calls", "n", "user", "logprobs", "presence_penalty"),
        "response_format.schema",
    }
    found, dropped = written(request, "no_seed")
    assert "seed" not in found and dropped == ("seed",)
    assert found["stream_options"] == {"include_usage": True}


def foreign() -> HubRequest:
    return HubRequest(
        source="anthropic",
        model="m",
        messages=[
            Message(role="system", parts=[Text(text="s", extra={"cache_control": {"type": "ephemeral"}})]),
            Message(
                role="assistant",
                parts=[
                    Thinking(text="hm", signature="sig", origin="anthropic"),
                    ToolCall(id="t1", name="look", arguments="", signature="g"),
                ],
            ),
            Message(
                role="user",
                parts=[
                    ToolResult(
                        call_id="t1",
                        is_error=True,
                        parts=[Text(text="see"), Media(kind="image", media_type="image/png", data="QQ==")],
                    ),
                    Text(text="and now?"),
                    Media(kind="document", url="https://example.org/a.pdf"),
                ],
            ),
        ],
        tools=[Tool(name="look", parameters={"type": "object"}), Tool(name="w", builtin=None)],
        top_k=5,
        reasoning=Reasoning(enabled=True, budget_tokens=4096),
        extra={"container": "c", "store": False},
    )


def test_what_another_dialect_said_and_this_one_cannot_is_named() -> None:
    found, dropped = written(foreign())
    assert found["messages"] == [
        {"role": "system", "content": "s"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "see"},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}],
        },
        {"role": "user", "content": "and now?"},
    ]
    assert found["reasoning_effort"] == "medium"
    assert set(dropped) == {
        "messages[0].cache_control",
        "messages[1].thinking",
        "messages[1].thinking.signature",
        "messages[1].tool_calls.signature",
        "messages[2].tool_result.is_error",
        "messages[2].document",
        "top_k",
        "reasoning.budget_tokens",
        "container",
    }


def test_thoughts_go_where_the_server_reads_them() -> None:
    found, dropped = written(foreign(), "reasoning_field:reasoning_content", "top_k")
    assert found["messages"][1]["reasoning_content"] == "hm"
    assert found["top_k"] == 5
    assert "messages[1].thinking" not in dropped
    assert "messages[1].thinking.signature" in dropped


# -- replies


def test_a_reply_comes_back_as_it_was() -> None:
    reply = OPENAI.read_reply(golden("reply.json"))
    request = read({"model": "m", "messages": []})
    again = json.loads(OPENAI.write_reply(reply, model="gpt-4o-2024-08-06", request=request))
    said = json.loads(golden("reply.json"))
    said["choices"][0]["message"].pop("refusal")
    said["choices"][0]["logprobs"].pop("refusal")
    for name in ("accepted_prediction_tokens", "rejected_prediction_tokens"):
        said["usage"]["completion_tokens_details"].pop(name)
    assert again == said
    assert OPENAI.read_reply(json.dumps(again).encode()) == reply
    assert reply.usage == Usage(
        input_uncached=36,
        input_cache_read=64,
        input_audio=0,
        output_text=32,
        output_reasoning=8,
        output_audio=0,
    )


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"error": {}}', b'{"choices": 3}', b'{"choices": [{"message": 1}]}']
)
def test_what_is_no_reply_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        OPENAI.read_reply(body)


def test_stop_with_tool_calls_is_a_tool_call_and_no_reason_stays_unknown() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    message = {"role": "assistant", "content": "", "tool_calls": [call]}
    body = json.dumps(
        {"choices": [{"message": message, "finish_reason": "stop"}, {"index": 1, "message": {}}]}
    )
    first, second = OPENAI.read_reply(body.encode()).choices
    assert (first.finish, first.finish_raw) == ("tool_calls", "stop")
    assert first.parts == [ToolCall(id="a", name="f", arguments="")]
    assert (second.finish, second.finish_raw, second.parts) == ("unknown", None, [])
    again = json.loads(
        OPENAI.write_reply(HubReply(source="openai", choices=[second]), model="m", request=foreign())
    )
    assert again["choices"][0]["finish_reason"] is None
    assert "usage" not in again


def test_signed_thoughts_survive_a_turn_through_the_client() -> None:
    thoughts = [
        Thinking(text="hm", signature="sig", origin="anthropic"),
        Thinking(sealed="xyz", origin="bedrock"),
    ]
    call = ToolCall(id="t", name="f", arguments="{}", signature="google's")
    reply = HubReply(source="anthropic", choices=[Choice(parts=[*thoughts, call], finish="tool_calls")])
    message = json.loads(OPENAI.write_reply(reply, model="m", request=foreign()))["choices"][0]["message"]
    assert message["reasoning_content"] == "hm"
    request = read({"model": "m", "messages": [message]})
    assert request.messages[0].parts == [*thoughts, call]


# -- streams


def test_a_stream_adds_up_to_the_reply_it_stands_for() -> None:
    reply = OPENAI.read_reply(golden("reply.json"))
    reply.extra = {}
    assert assemble(events_of(golden("stream.sse")), source="openai") == reply


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_split_gives_the_same_events(data: Any) -> None:
    stream = golden("stream.sse")
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    assert events_of(stream, cuts) == events_of(stream)


def test_a_stream_can_be_fed_byte_by_byte() -> None:
    stream = golden("stream.sse")
    assert events_of(stream, list(range(len(stream)))) == events_of(stream)


PARTS = st.one_of(
    st.text(min_size=1, max_size=9).map(lambda text: Text(text=text)),
    st.text(min_size=1, max_size=9).map(lambda text: Refusal(text=text)),
    st.text(min_size=1, max_size=9).map(lambda text: Thinking(text=text, origin="openai")),
    st.builds(ToolCall, id=st.just("id"), name=st.just("f"), arguments=st.sampled_from(["{}", '{"a":"é"}'])),
)
ORDER = [Thinking, Text, Refusal, ToolCall]


@st.composite
def replies(draw: Any) -> HubReply:
    """Replies as this dialect can say them: one text, thoughts first, calls last."""
    choices = []
    for _ in range(draw(st.integers(1, 2))):
        parts = sorted(draw(st.lists(PARTS, max_size=5)), key=lambda part: ORDER.index(type(part)))
        kept = [
            part
            for n, part in enumerate(parts)
            if isinstance(part, ToolCall) or type(part) is not type(parts[n - 1]) or n == 0
        ]
        finish = "tool_calls" if any(isinstance(part, ToolCall) for part in kept) else "stop"
        choices.append(Choice(parts=kept, finish=finish, finish_raw=finish))
    usage = draw(st.none() | st.just(Usage(input_uncached=3, output_text=2)))
    return HubReply(source="openai", id="c", model="m", created_s=5, choices=choices, usage=usage)


@settings(max_examples=80, deadline=None)
@given(replies())
def test_a_written_stream_and_a_written_reply_say_the_same(reply: HubReply) -> None:
    request = read({"model": "m", "messages": [], "stream_options": {"include_usage": True}})
    writer = OPENAI.stream_writer(model="m", request=request)
    stream = b"".join(writer.write([event]) for event in disassemble(reply))
    unstreamed = OPENAI.read_reply(OPENAI.write_reply(reply, model="m", request=request))
    assert unstreamed == reply
    assert assemble(events_of(stream), source="openai") == reply
    assert stream.endswith(b"data: [DONE]\n\n")
    scanner = OPENAI.scanner()
    scanner.feed(stream)
    assert scanner.has_content == any(choice.parts for choice in reply.choices)
    assert scanner.usage() == reply.usage
    assert scanner.is_finished() and scanner.error() is None


def test_usage_is_written_only_for_a_client_that_asked() -> None:
    events = disassemble(HubReply(source="gemini", choices=[Choice()], usage=Usage(input_uncached=1)))
    quiet = OPENAI.stream_writer(model="m", request=read({"model": "m", "messages": []}))
    assert b"usage" not in quiet.write(events)


def test_an_error_inside_a_stream_ends_it() -> None:
    stream = (
        chunk({"content": "a"})
        + b'data: {"error": {"message": "busy", "code": 429}}\n\n'
        + chunk({"content": "b"})
    )
    events = events_of(stream)
    failed, end = events[-2:]
    assert isinstance(failed, Failed) and (failed.error.kind, failed.error.status) == ("rate_limit", 429)
    assert end == End(complete=False)
    assert not any(isinstance(event, PartDelta) and event.text == "b" for event in events)
    scanner = OPENAI.scanner()
    scanner.feed(stream)
    error = scanner.error()
    assert error is not None and error.kind == "rate_limit"


@pytest.mark.parametrize(
    ("stream", "complete"),
    [
        (chunk({"content": "a"}), False),
        (chunk({"content": "a"}, "stop"), True),
        (chunk({"content": "a"}, "length") + chunk({"content": "b"}, index=1), False),
        (chunk({"content": "a"}) + b"data: [DONE]\n\n", True),
        (chunk({"content": "a"}) + b'data: {"choices": [{"ind', False),
        (b"", False),
        (b"<html>no</html>", False),
    ],
)
def test_a_stream_is_complete_when_the_provider_said_so(stream: bytes, complete: bool) -> None:
    assert events_of(stream)[-1] == End(complete=complete)


def test_a_finish_is_never_made_up() -> None:
    events = events_of(chunk({"content": "a"}) + b"data: [DONE]\n\n")
    assert not any(isinstance(event, FinishSeen) for event in events)
    writer = OPENAI.stream_writer(model="m", request=foreign())
    assert b'"finish_reason":"' not in writer.write(events)


def test_usage_in_every_chunk_is_not_added_up() -> None:
    usage = [{"prompt_tokens": 3, "completion_tokens": n} for n in (1, 2, 3)]
    events = events_of(b"".join(chunk({"content": "x"}, usage=one) for one in usage) + b"data: [DONE]\n\n")
    assert [event.usage.output_text for event in events if isinstance(event, UsageSeen)] == [1, 2, 3]
    assert assemble(events, source="openai").usage == Usage(input_uncached=3, output_text=3)


def test_whole_calls_without_numbers_are_told_apart() -> None:
    calls = [{"id": name, "function": {"name": name, "arguments": "{}"}} for name in ("f", "g")]
    for pieces in ([calls], [calls[:1], calls[1:]]):
        stream = b"".join(chunk({"tool_calls": piece}) for piece in pieces) + chunk({}, "stop")
        choice = assemble(events_of(stream), source="openai").choices[0]
        assert [part.name for part in choice.parts if isinstance(part, ToolCall)] == ["f", "g"]
        assert choice.finish == "tool_calls"


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=120)
    | st.recursive(
        st.none() | st.text(max_size=4) | st.integers(-2, 3),
        lambda inner: st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "tool_calls", "function", "index", "content", "error", "usage", "id",
                             "finish_reason", "logprobs", "images", "audio", "type", "text", "name", "arguments"]),
            inner, max_size=4),
        max_leaves=12,
    ).map(lambda value: b"data: " + json.dumps(value).encode() + b"\n\n")
)  # fmt: skip
def test_garbage_never_raises(data: bytes) -> None:
    events_of(data + data)
    scanner = OPENAI.scanner()
    scanner.feed(data)
    scanner.usage(), scanner.error(), scanner.model(), scanner.is_finished()
    OPENAI.read_error(500, data.removeprefix(b"data: "))


def test_content_is_noticed_wherever_the_bytes_are_cut() -> None:
    quiet = chunk({"role": "assistant", "content": ""})
    for delta in (
        {"content": "a"},
        {"reasoning": "a"},
        {"tool_calls": [{"index": 0}]},
        {"content": [{"type": "text"}]},
    ):
        scanner = OPENAI.scanner()
        for at in range(len(quiet)):
            scanner.feed(quiet[at : at + 1])
        assert not scanner.has_content
        loud = chunk(delta)
        for at in range(len(loud)):
            scanner.feed(loud[at : at + 1])
        assert scanner.has_content, delta


# -- errors


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (401, {"error": {"message": "no", "type": "invalid_request_error", "code": "invalid_api_key"}}, "authentication", "invalid_api_key"),
        (400, {"error": {"message": "long", "code": "context_length_exceeded"}}, "context_length", "context_length_exceeded"),
        (400, {"error": {"message": "This model's maximum context length is 8192 tokens."}}, "context_length", None),
        (429, {"error": {"message": "pay", "type": "insufficient_quota", "code": "insufficient_quota"}}, "quota", "insufficient_quota"),
        (400, {"error": {"message": "x", "code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, "content_filter", "content_filter"),
        (404, {"error": {"message": "none", "type": "invalid_request_error", "code": "model_not_found"}}, "not_found", "model_not_found"),
        (429, {"object": "error", "message": "slow down", "type": "TooManyRequests", "code": 429}, "rate_limit", "429"),
        (422, {"detail": [{"loc": ["body"], "msg": "bad"}]}, "invalid_request", None),
        (500, [{"error": {"code": 500, "message": "x", "status": "INTERNAL"}}], "server_error", "500"),
        (503, {"error": "down"}, "overloaded", None),
    ],
)  # fmt: skip
def test_errors_are_read_by_kind(status: int, body: Any, kind: str, code: str | None) -> None:
    error = OPENAI.read_error(status, json.dumps(body).encode())
    assert error is not None
    assert (error.kind, error.code, error.status) == (kind, code, status)


def test_an_html_page_is_no_error_reply() -> None:
    assert OPENAI.read_error(502, b"<html>Bad Gateway</html>") is None
    assert OPENAI.read_error(500, b'{"ok": true}') is None


def test_errors_carry_the_codes_clients_look_for_and_ours() -> None:
    error = HubError(kind="rate_limit", message="Too fast.", status=429, code="PS-2601")
    assert json.loads(OPENAI.write_error(error)) == {
        "error": {
            "message": "Too fast.  [PS-2601]", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded",
        }
    }  # fmt: skip
    writer = OPENAI.stream_writer(model="m", request=foreign())
    event = writer.fail(error)
    assert event.startswith(b"data: {") and event.endswith(b"\n\n") and b"[DONE]" not in event
    assert writer.write([End(complete=True)]) == b""
    again = events_of(chunk({"content": "a"}) + event)[-2]
    assert isinstance(again, Failed) and again.error.kind == "rate_limit"


def test_the_first_events_of_a_stream_begin_it_once() -> None:
    filters = b'data: {"id": "", "model": "", "choices": [], "prompt_filter_results": []}\n\n'
    events = events_of(
        filters + chunk({"role": "assistant", "content": ""}) + chunk({"content": "a"}, "stop")
    )
    assert [type(event).__name__ for event in events] == [
        *("Start", "PartStart", "PartDelta", "PartEnd", "FinishSeen", "End")
    ]
    assert isinstance(events[1], PartStart) and events[1].part == Text(text="")
