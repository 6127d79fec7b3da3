"""Bedrock Converse against golden files in the documented formats, and AWS's frames against documented vectors."""

import contextlib
import struct
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.dialects.assembly import assemble, disassemble
from penstock.dialects.bedrock.dialect import BEDROCK
from penstock.dialects.bedrock.frames import Frame, FrameSplitter, write_frame
from penstock.dialects.bedrock.usage import read_usage, write_usage
from penstock.spec.hub import (
    Choice,
    End,
    Failed,
    Finish,
    FinishSeen,
    HubError,
    HubReply,
    HubRequest,
    Media,
    Message,
    Opaque,
    Reasoning,
    ResponseFormat,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    UsageSeen,
)
from penstock.spec.usage import Usage
from tests.dialects.hub_requests import asked
from tests.dialects.stream_checks import cut, feed

GOLDEN = Path(__file__).parent / "golden" / "bedrock"
REQUEST = (GOLDEN / "request.json").read_bytes()
REPLY = (GOLDEN / "reply.json").read_bytes()
CLAUDE = "anthropic.claude-3-7-sonnet-20250219-v1:0"


def frame_by_hand(headers: list[tuple[str, str]], payload: bytes) -> bytes:
    """A second writing of the format, so that codec and test do not share a mistake."""
    packed = bytearray()
    for key, text in ((name.encode(), value.encode()) for name, value in headers):
        packed += struct.pack("B", len(key)) + key + b"\x07" + struct.pack(">H", len(text)) + text
    prelude = struct.pack(">II", 12 + len(packed) + len(payload) + 4, len(packed))
    body = prelude + struct.pack(">I", crc32(prelude)) + packed + payload
    return bytes(body + struct.pack(">I", crc32(body)))


def event(name: str, value: Any) -> bytes:
    headers = [(":event-type", name), (":content-type", "application/json"), (":message-type", "event")]
    return frame_by_hand(headers, msgspec.json.encode(value))


STREAM = b"".join(
    event(name, value) for name, value in msgspec.json.decode((GOLDEN / "stream.json").read_bytes())
)
EXCEPTION = frame_by_hand(
    [
        (":exception-type", "throttlingException"),
        (":content-type", "application/json"),
        (":message-type", "exception"),
    ],
    b'{"message":"Too many requests"}',
)


def read(body: bytes = REQUEST) -> HubRequest:
    return BEDROCK.read_request(body, model=CLAUDE, stream=False)


def written(request: HubRequest, model: str = CLAUDE) -> tuple[dict[str, Any], tuple[str, ...]]:
    got = BEDROCK.write_request(request, model=model, quirks=frozenset())
    return msgspec.json.decode(got.body), got.dropped


# -- frames


@pytest.mark.parametrize(
    ("data", "frame"),
    [
        ("00000010 00000000 05c248eb 7d98c8ff", Frame({}, b"")),
        ("0000001d 00000000 fd528c5a 7b27666f6f273a27626172277d c3653936", Frame({}, b"{'foo':'bar'}")),
    ],
)
def test_documented_frames_are_read_and_written(data: str, frame: Frame) -> None:
    assert FrameSplitter().feed(bytes.fromhex(data)) == [frame]
    assert write_frame({}, frame.payload) == bytes.fromhex(data)


def test_headers_of_every_type_are_passed_over() -> None:
    headers = b"".join(
        bytes((1,)) + name + kind
        for name, kind in [
            (b"a", b"\x00"), (b"b", b"\x01"), (b"c", b"\x02\x07"), (b"d", b"\x03\x00\x01"), (b"e", b"\x04" + bytes(4)),
            (b"f", b"\x05" + bytes(8)), (b"g", b"\x06\x00\x02hi"), (b"h", b"\x07\x00\x02ho"), (b"i", b"\x08" + bytes(8)),
            (b"j", b"\x09" + bytes(16)),
        ]
    )  # fmt: skip
    prelude = struct.pack(">II", 16 + len(headers) + 1, len(headers))
    body = prelude + struct.pack(">I", crc32(prelude)) + headers + b"!"
    (frame,) = FrameSplitter().feed(body + struct.pack(">I", crc32(body)))
    assert (
        frame.headers["g"] == b"hi" and frame.headers["h"] == "ho" and set(frame.headers) == set("abcdefghij")
    )
    assert frame.payload == b"!"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.text(max_size=9), st.text(max_size=20), max_size=3), st.binary(max_size=50)
        ),
        max_size=4,
    ),
    st.lists(st.integers(0, 500)),
)
def test_frames_survive_any_split(frames: list[tuple[dict[str, str], bytes]], places: list[int]) -> None:
    data = b"".join(write_frame(headers, payload) for headers, payload in frames)
    assert data == b"".join(frame_by_hand(list(headers.items()), payload) for headers, payload in frames)
    splitter = FrameSplitter()
    found = [frame for piece in cut(data, places) for frame in splitter.feed(piece)]
    assert found == [Frame(headers, payload) for headers, payload in frames]
    assert splitter.is_between_frames and not splitter.is_broken


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(EXCEPTION) - 1), st.integers(1, 255))
def test_a_damaged_frame_is_never_believed(place: int, flip: int) -> None:
    damaged = bytearray(EXCEPTION)
    damaged[place] ^= flip
    splitter = FrameSplitter()
    assert splitter.feed(bytes(damaged)) == []
    assert splitter.is_broken or not splitter.is_between_frames


# -- requests


def test_a_request_is_read_into_the_words_of_the_hub() -> None:
    request = read()
    system, ask, calls, results = request.messages
    assert system.parts == [
        Text(text="Answer briefly."),
        Opaque(dialect="bedrock", raw={"cachePoint": {"type": "default"}}),
    ]
    assert ask.parts[1] == Media(kind="image", media_type="image/png", data="iVBORw0KGgo=")
    document = ask.parts[2]
    assert isinstance(document, Media)
    assert (document.kind, document.media_type, document.url) == (
        "document",
        "application/pdf",
        "s3://bucket/paper.pdf",
    )
    assert calls.parts == [
        Thinking(text="Weather first.", signature="c2lnLTE=", origin="bedrock"),
        Thinking(sealed="c2VhbGVk", origin="bedrock"),
        ToolCall(id="tooluse_1", name="weather", arguments='{"city":"Ulm"}'),
        ToolCall(id="tooluse_2", name="clock"),
    ]
    first, second, more = results.parts
    assert isinstance(first, ToolResult) and isinstance(second, ToolResult) and more == Text(text="Well?")
    assert first.parts[0] == Text(text='{"t":12}', extra={"json": True}) and isinstance(first.parts[2], Media)
    assert second.is_error and not first.is_error
    assert (request.max_tokens, request.top_k, request.stop) == (2000, 40, ["END"])
    assert request.reasoning == Reasoning(budget_tokens=1024)
    assert request.metadata == {"team": "a"}
    assert request.response_format == ResponseFormat(kind="schema", name="answer", schema={"type": "object"})
    assert request.tools[1].strict is True and request.tool_choice == ToolChoice(kind="auto")
    assert request.extra["additionalModelRequestFields"] == {"anthropic_beta": ["x"]}


def test_a_round_trip_loses_nothing_and_says_so() -> None:
    request = read()
    body, dropped = written(request)
    assert dropped == ()
    assert body == msgspec.json.decode(REQUEST)


def test_the_model_stands_encoded_in_the_path() -> None:
    arn = "arn:aws:bedrock:us-east-1:1:inference-profile/us.x"
    path = BEDROCK.write_request(asked(stream=True), model=arn, quirks=frozenset()).path
    assert path == "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.x/converse-stream"
    assert BEDROCK.write_request(asked(), model="m", quirks=frozenset()).path == "/model/m/converse"


def test_what_bedrock_cannot_say_is_listed() -> None:
    request = asked(
        messages=[
            Message(role="user", parts=[Media(kind="image", url="https://e.org/a.png"), Text(text="hi")], name="ann"),
            Message(role="assistant", parts=[Thinking(text="t", origin="openai", sealed="x"), Text(text="ho")]),
            Message(role="user", parts=[Opaque(dialect="anthropic", raw={"type": "search_result"}), Text(text="a")]),
            Message(role="system", parts=[Text(text="late")]),
        ],
        tools=[Tool(name="web", builtin=Opaque(dialect="responses", raw={}))],
        tool_choice=ToolChoice(kind="required"),
        seed=1, n=2, presence_penalty=0.5, logprobs=True, user="u", parallel_tool_calls=False, top_k=5,
        reasoning=Reasoning(effort="low"), response_format=ResponseFormat(kind="json"), extra={"logit_bias": {}},
    )  # fmt: skip
    body, dropped = written(request, model="meta.llama3")
    assert set(dropped) == {
        "messages[0].image", "messages[0].name", "messages[1].thinking", "messages[2].search_result", "tools[0].builtin",
        "tool_choice", "seed", "n", "presence_penalty", "logprobs", "user", "parallel_tool_calls", "top_k",
        "reasoning.effort", "response_format", "logit_bias",
    }  # fmt: skip
    assert body["system"] == [{"text": "late"}]
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert "toolConfig" not in body


def test_results_of_one_turn_stand_together_first_and_roles_alternate() -> None:
    request = asked(
        messages=[
            Message(role="user", parts=[Text(text="hi")]),
            Message(
                role="assistant",
                parts=[ToolCall(id="1", name="f", arguments='{"a":1}'), ToolCall(id="2", name="f")],
            ),
            Message(role="user", parts=[ToolResult(call_id="1", parts=[Text(text="one")])]),
            Message(role="user", parts=[Text(text="and?"), ToolResult(call_id="2", parts=[], is_error=True)]),
        ]
    )
    body, dropped = written(request)
    assert dropped == ()
    assert body["messages"][2] == {
        "role": "user",
        "content": [
            {"toolResult": {"toolUseId": "1", "content": [{"text": "one"}]}},
            {"toolResult": {"toolUseId": "2", "content": [], "status": "error"}},
            {"text": "and?"},
        ],
    }
    spec = {"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object", "properties": {}}}}}
    assert body["toolConfig"] == {"tools": [spec]}, "a conversation with calls needs its tools told again"


def test_tools_that_may_not_be_called_are_left_out() -> None:
    body, dropped = written(asked(tools=[Tool(name="f")], tool_choice=ToolChoice(kind="none")))
    assert "toolConfig" not in body and dropped == ()
    body, _ = written(asked(tools=[Tool(name="f")], tool_choice=ToolChoice(kind="named", name="f")))
    assert body["toolConfig"]["toolChoice"] == {"tool": {"name": "f"}}
    body, _ = written(asked(tools=[Tool(name="f")], tool_choice=ToolChoice(kind="required")))
    assert body["toolConfig"]["toolChoice"] == {"any": {}}


def test_arguments_that_are_no_object_are_refused_by_name() -> None:
    bad = Message(role="assistant", parts=[ToolCall(id="c", name="f", arguments="[1]")])
    with pytest.raises(InvalidInput, match=r"messages\[0\]"):
        written(asked(messages=[bad]))


def test_claudes_thoughts_hold_for_claude_only() -> None:
    thought = Thinking(text="t", signature="s", origin="anthropic")
    messages = [Message(role="user", parts=[Text(text="a")]), Message(role="assistant", parts=[thought])]
    body, dropped = written(asked(source="anthropic", messages=messages))
    assert body["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "t", "signature": "s"}}}
    ]
    assert dropped == ()
    assert written(asked(source="anthropic", messages=messages), model="amazon.nova-pro-v1:0")[1] == (
        "messages[1].thinking",
    )


THINK = {"type": "enabled"}


@pytest.mark.parametrize(
    ("model", "members", "fields", "dropped"),
    [
        (CLAUDE, {"reasoning": Reasoning(effort="low")}, {"thinking": {**THINK, "budget_tokens": 2048}}, ()),
        (CLAUDE, {"reasoning": Reasoning(budget_tokens=5000), "max_tokens": 3000}, {"thinking": {**THINK, "budget_tokens": 2999}}, ()),
        (CLAUDE, {"reasoning": Reasoning(effort="low"), "max_tokens": 100}, None, ("reasoning",)),
        (CLAUDE, {"reasoning": Reasoning(effort="none")}, {"thinking": {"type": "disabled"}}, ()),
        (
            "us.anthropic.claude-opus-4-6-v1",
            {"reasoning": Reasoning(effort="high")},
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
            (),
        ),
        (
            "amazon.nova-2-lite-v1:0",
            {"reasoning": Reasoning(budget_tokens=3000), "top_k": 9},
            {"inferenceConfig": {"topK": 9}, "reasoningConfig": {**THINK, "maxReasoningEffort": "medium"}},
            ("reasoning.budget_tokens",),
        ),
        ("openai.gpt-oss-120b-1:0", {"reasoning": Reasoning(effort="high")}, {"reasoning_effort": "high"}, ()),
        ("mistral.m", {"reasoning": Reasoning(enabled=True)}, None, ("reasoning.enabled",)),
    ],
)  # fmt: skip
def test_each_family_is_asked_to_think_in_its_own_way(
    model: str, members: dict[str, Any], fields: dict[str, Any] | None, dropped: tuple[str, ...]
) -> None:
    body, lost = written(asked(**members), model=model)
    assert (body.get("additionalModelRequestFields"), lost) == (fields, dropped)


def test_media_get_the_formats_and_names_that_bedrock_takes() -> None:
    parts = [
        Media(kind="document", media_type="application/pdf", data="aGk=", name="år_rapport (1).v2.pdf"),
        Media(kind="document", media_type="text/plain", data="aGk="),
        Media(kind="video", url="s3://b/film.mp4"),
        Media(kind="image", media_type="image/tiff", data="aGk="),
    ]
    body, dropped = written(asked(messages=[Message(role="user", parts=parts)]))
    first, second, third = body["messages"][0]["content"]
    assert first["document"]["name"] == "r rapport (1) v2" and first["document"]["format"] == "pdf"
    assert second["document"] == {"format": "txt", "name": "document", "source": {"bytes": "aGk="}}
    assert third["video"] == {"format": "mp4", "source": {"s3Location": {"uri": "s3://b/film.mp4"}}}
    assert dropped == ("messages[0].image",)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"[]", "body"),
        (b"{}", "messages"),
        (b'{"messages": [{"role": "system", "content": []}]}', r"messages\[0\].role"),
        (b'{"messages": [{"role": "user", "content": [{"toolUse": {"name": "f"}}]}]}', r"toolUse.toolUseId"),
        (b'{"messages": [{"role": "user", "content": ["a"]}]}', r"messages\[0\].content\[0\]"),
        (b'{"messages": [], "inferenceConfig": {"maxTokens": 1.5}}', r"inferenceConfig.maxTokens"),
    ],
)
def test_what_is_wrong_is_named(body: bytes, names: str) -> None:
    with pytest.raises(InvalidInput, match=names):
        read(body)


def test_the_envelope_is_read_and_the_body_keeps_its_bytes() -> None:
    envelope = BEDROCK.peek(REQUEST, model="m", stream=True, max_depth=20)
    assert (envelope.model, envelope.stream, envelope.max_tokens, envelope.n_messages, envelope.has_tools) == (
        "m", True, 2000, 3, True,
    )  # fmt: skip
    assert BEDROCK.replace_model(REQUEST, "other") is REQUEST
    with pytest.raises(InvalidInput):
        BEDROCK.peek(b'{"messages":[],"messages":[]}', model="m", stream=None, max_depth=9)


# -- replies


def test_a_reply_is_read_with_usage_in_disjoint_classes_and_written_back() -> None:
    reply = BEDROCK.read_reply(REPLY)
    (choice,) = reply.choices
    assert (choice.finish, choice.finish_raw) == ("tool_calls", "tool_use")
    assert choice.parts[2] == ToolCall(id="tooluse_9", name="weather", arguments='{"city":"Bonn","n":1.5}')
    assert reply.usage == Usage(
        input_uncached=10, input_cache_read=30, input_cache_write=10, input_cache_write_1h=5, output_text=20
    )
    assert BEDROCK.read_usage(REPLY) == (reply.usage, None)
    assert msgspec.json.decode(BEDROCK.write_reply(reply, model="m", request=asked())) == msgspec.json.decode(
        REPLY
    )


@pytest.mark.parametrize(
    ("raw", "finish"),
    [
        ("end_turn", "stop"), ("stop_sequence", "stop"), ("tool_use", "tool_calls"), ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"), ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"), ("malformed_tool_use", "error"), ("new_reason", "unknown"),
    ],
)  # fmt: skip
def test_no_stop_reason_is_guessed(raw: str, finish: Finish) -> None:
    body = msgspec.json.encode({"output": {"message": {"content": [{"text": "a"}]}}, "stopReason": raw})
    reply = BEDROCK.read_reply(body)
    assert (reply.choices[0].finish, reply.choices[0].finish_raw, reply.usage) == (finish, raw, None)
    back = msgspec.json.decode(BEDROCK.write_reply(reply, model="m", request=asked()))
    assert back.get("stopReason") == (raw if finish != "unknown" else None)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"message": "x"}', b'{"output": {}}'])
def test_what_is_no_reply_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        BEDROCK.read_reply(body)


def test_broken_arguments_end_an_answer_as_malformed() -> None:
    call = ToolCall(id="c", name="f", arguments='{"a')
    reply = HubReply(
        source="openai", choices=[Choice(parts=[call], finish="tool_calls", finish_raw="tool_calls")]
    )
    assert (
        msgspec.json.decode(BEDROCK.write_reply(reply, model="m", request=asked()))["stopReason"]
        == "malformed_tool_use"
    )
    events = feed(BEDROCK, [BEDROCK.stream_writer(model="m", request=asked()).write(disassemble(reply))])
    assert FinishSeen(finish="error", finish_raw="malformed_tool_use") in events


def test_foreign_signatures_do_not_reach_a_client_that_would_send_them_back_as_bedrocks() -> None:
    thought = Thinking(text="t", signature="s", sealed="x", origin="openai")
    reply = HubReply(source="responses", choices=[Choice(parts=[thought], finish="stop")])
    content = msgspec.json.decode(BEDROCK.write_reply(reply, model="m", request=asked()))["output"][
        "message"
    ]["content"]
    assert content == [{"reasoningContent": {"reasoningText": {"text": "t"}}}]
    stream = BEDROCK.stream_writer(model="m", request=asked()).write(disassemble(reply))
    assert assemble(feed(BEDROCK, [stream]), source="bedrock").choices[0].parts == [
        Thinking(text="t", origin="bedrock")
    ]


COUNT = st.none() | st.integers(-5, 1000)


@settings(max_examples=150, deadline=None)
@given(COUNT, COUNT, COUNT, COUNT, COUNT)
def test_usage_classes_are_disjoint_and_sum_to_what_was_told(
    uncached: int | None, made: int | None, read_: int | None, write: int | None, hour: int | None
) -> None:
    usage = read_usage(
        {
            "inputTokens": uncached, "outputTokens": made, "cacheReadInputTokens": read_, "cacheWriteInputTokens": write,
            "cacheDetails": [{"ttl": "1h", "inputTokens": hour}],
        }
    )  # fmt: skip
    # a count below zero is none
    uncached, made, read_, write = (
        None if count is not None and count < 0 else count for count in (uncached, made, read_, write)
    )
    if usage is None:
        assert uncached is None and made is None
        return
    told = [count for count in (uncached, read_, write) if count is not None]
    assert usage.input_tokens == (sum(told) if told else None)
    assert all(count >= 0 for count in msgspec.structs.asdict(usage).values() if count is not None)
    again = read_usage(write_usage(usage))
    assert again is not None and (again.input_tokens or 0) == (usage.input_tokens or 0)
    assert (again.input_cache_read, again.input_cache_write_1h) == (
        usage.input_cache_read,
        usage.input_cache_write_1h,
    )


# -- streams


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 9000), max_size=12))
def test_any_split_of_a_stream_reads_the_same(places: list[int]) -> None:
    assert feed(BEDROCK, cut(STREAM, places)) == feed(BEDROCK, [STREAM])
    scanner = BEDROCK.scanner()
    for piece in cut(STREAM, places):
        scanner.feed(piece)
    assert (
        scanner.is_finished() and scanner.has_content and scanner.error() is None and scanner.model() is None
    )
    assert scanner.usage() == Usage(input_uncached=9, output_text=12)


def test_a_stream_adds_up() -> None:
    events = feed(BEDROCK, [STREAM])
    reply = assemble(events, source="bedrock")
    assert reply.choices == [
        Choice(
            parts=[
                Thinking(text="Hm, weather.", signature="c2ln", origin="bedrock"),
                Thinking(sealed="c2VhbGVk", origin="bedrock"),
                Text(text="Grüß Gott"),
                ToolCall(id="tooluse_1", name="weather", arguments='{"city": "Köln"}'),
                ToolCall(id="tooluse_2", name="clock"),
            ],
            finish="tool_calls",
            finish_raw="tool_use",
        )
    ]
    assert events[-2:] == [UsageSeen(usage=Usage(input_uncached=9, output_text=12)), End(complete=True)]


@pytest.mark.parametrize("n_frames", range(20))
def test_a_stream_that_breaks_off_is_not_complete(n_frames: int) -> None:
    frames = [
        event(name, value) for name, value in msgspec.json.decode((GOLDEN / "stream.json").read_bytes())
    ]
    whole = b"".join(frames[:n_frames])
    assert feed(BEDROCK, [whole])[-1] == End(complete=n_frames >= 19)
    assert feed(BEDROCK, [whole + frames[n_frames][:-1]])[-1] == End(complete=False)


def test_content_begins_with_the_first_word_not_with_the_role() -> None:
    scanner = BEDROCK.scanner()
    scanner.feed(event("messageStart", {"role": "assistant"}))
    scanner.feed(event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": ""}}))
    assert not scanner.has_content
    scanner.feed(event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "a"}}))
    assert scanner.has_content


def test_an_exception_inside_a_stream_is_told_and_nothing_follows() -> None:
    stream = event("messageStart", {"role": "assistant"}) + EXCEPTION + STREAM
    events = feed(BEDROCK, [stream])
    failed = events[1]
    assert isinstance(failed, Failed) and events[2:] == [End(complete=False)]
    assert (failed.error.kind, failed.error.message, failed.error.status) == (
        "rate_limit",
        "Too many requests",
        429,
    )
    scanner = BEDROCK.scanner()
    scanner.feed(stream)
    assert scanner.error() == failed.error
    other = frame_by_hand(
        [(":message-type", "error"), (":error-code", "InternalServer"), (":error-message", "oh")], b""
    )
    (first, _) = feed(BEDROCK, [other])
    assert isinstance(first, Failed) and first.error.message == "oh" and first.error.kind == "server_error"


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.binary(max_size=40) | st.just(EXCEPTION[:20]) | st.just(event("contentBlockDelta", {"delta": [1]}))
    )
)
def test_garbage_never_raises(pieces: list[bytes]) -> None:
    feed(BEDROCK, pieces)
    scanner = BEDROCK.scanner()
    for piece in pieces:
        scanner.feed(piece)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["contentBlockIndex", "delta", "start", "toolUse", "name", "toolUseId", "input", "text", "image", "format",
             "reasoningContent", "signature", "usage", "inputTokens", "stopReason", "output", "message", "content",
             "source", "bytes", "toolResult", "status"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip
NAMES = st.sampled_from(
    [
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
        "new",
    ]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(NAMES, JSON), max_size=6), JSON)
def test_json_of_any_shape_never_raises(frames: list[tuple[str, Any]], value: Any) -> None:
    stream = b"".join(event(name, inner) for name, inner in frames)
    feed(BEDROCK, [stream])
    BEDROCK.scanner().feed(stream)
    body = msgspec.json.encode(value)
    BEDROCK.read_error(500, body)
    for call in (BEDROCK.read_reply, BEDROCK.read_usage):
        with contextlib.suppress(ValueError):
            call(body)


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
RAWS: dict[str, Finish] = {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length"}


@st.composite
def replies(draw: st.DrawFn) -> HubReply:
    parts: list[Any] = []
    if draw(st.booleans()):
        parts.append(Thinking(text=draw(WORDS), signature=draw(st.none() | WORDS), origin="bedrock"))
    if draw(st.booleans()):
        parts.append(Thinking(sealed=draw(WORDS), origin="bedrock"))
    parts += [Text(text=draw(WORDS)) for _ in range(draw(st.integers(0, 2)))]
    for number in range(draw(st.integers(0, 2))):
        args = draw(st.dictionaries(WORDS, st.integers(-9, 9) | WORDS, max_size=3))
        parts.append(
            ToolCall(
                id=f"id-{number}", name="f", arguments=msgspec.json.encode(args).decode() if args else ""
            )
        )
    raw = draw(st.sampled_from(list(RAWS)))
    usage = Usage(input_uncached=draw(st.integers(0, 99)), output_text=draw(st.integers(0, 99)))
    return HubReply(
        source="bedrock", choices=[Choice(parts=parts, finish=RAWS[raw], finish_raw=raw)], usage=usage
    )


@settings(max_examples=80, deadline=None)
@given(replies(), st.lists(st.integers(0, 3000), max_size=6))
def test_a_streamed_reply_adds_up_to_the_unstreamed_one(reply: HubReply, places: list[int]) -> None:
    stream = BEDROCK.stream_writer(model="m", request=asked()).write(disassemble(reply))
    assert assemble(feed(BEDROCK, cut(stream, places)), source="bedrock") == reply
    assert BEDROCK.read_reply(BEDROCK.write_reply(reply, model="m", request=asked())) == reply


def test_a_failed_stream_ends_with_an_exception() -> None:
    writer = BEDROCK.stream_writer(model="m", request=asked())
    begun = writer.write(disassemble(BEDROCK.read_reply(REPLY))[:4])
    error = HubError(kind="overloaded", message="busy", status=503, code="PS-4503")
    events = feed(BEDROCK, [begun + writer.fail(error)])
    (failed,) = [found for found in events if isinstance(found, Failed)]
    assert (failed.error.kind, failed.error.message) == ("overloaded", "busy [PS-4503]")
    assert writer.fail(error) == b"" and writer.write([End(complete=False)]) == b""


# -- errors


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (
            400,
            "The model returned the following errors: Input is too long for requested model.",
            "context_length",
        ),
        (400, "Malformed input request", "invalid_request"),
        (403, "You don't have access to the model with the specified model ID.", "permission"),
        (403, "The security token included in the request is invalid.", "authentication"),
        (404, "no model", "not_found"),
        (408, "timed out", "timeout"),
        (424, "model failed", "server_error"),
        (429, "Too many tokens, please wait before trying again.", "rate_limit"),
        (503, "unavailable", "overloaded"),
    ],
)
def test_kinds_of_errors(status: int, message: str, kind: str) -> None:
    error = BEDROCK.read_error(status, msgspec.json.encode({"message": message}))
    assert error is not None and (error.kind, error.message, error.status) == (kind, message, status)


def test_errors_are_written_as_aws_clients_read_them() -> None:
    assert BEDROCK.read_error(502, b"<html>") is None and BEDROCK.read_error(502, b"[]") is None
    error = HubError(kind="rate_limit", message="Slow down.", status=429, code="PS-2641")
    assert msgspec.json.decode(BEDROCK.write_error(error)) == {"message": "Slow down. [PS-2641]"}
    assert BEDROCK.error_headers(error) == ((b"x-amzn-errortype", b"ThrottlingException"),)


def test_awss_own_parser_reads_what_is_written() -> None:
    eventstream = pytest.importorskip("botocore.eventstream")
    buffer = eventstream.EventStreamBuffer()
    reply = BEDROCK.read_reply(REPLY)
    buffer.add_data(BEDROCK.stream_writer(model="m", request=asked()).write(disassemble(reply)))
    messages = [message.to_response_dict() for message in buffer]
    names = [message["headers"][":event-type"] for message in messages]
    assert names[0] == "messageStart" and names[-2:] == ["messageStop", "metadata"]
    assert all(message["status_code"] == 200 for message in messages)
    assert msgspec.json.decode(messages[-1]["body"])["usage"]["cacheReadInputTokens"] == 30
