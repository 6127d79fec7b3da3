"""Gemini against golden files in the documented formats: requests, replies, streams in any split, errors, usage."""

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.dialects.assembly import assemble, disassemble
from penstock.dialects.gemini.dialect import GEMINI, GEMINI_ARRAY
from penstock.dialects.gemini.usage import read_usage, write_usage
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
    PartStart,
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

GOLDEN = Path(__file__).parent / "golden" / "gemini"
REQUEST = (GOLDEN / "request.json").read_bytes()
REPLY = (GOLDEN / "reply.json").read_bytes()
STREAM = (GOLDEN / "stream.sse").read_bytes()
NO_QUIRKS: frozenset[str] = frozenset()


def read(body: bytes = REQUEST, *, stream: bool = False) -> HubRequest:
    return GEMINI.read_request(body, model="gemini-2.5-pro", stream=stream)


def written(request: HubRequest, model: str = "gemini-2.5-pro") -> tuple[dict[str, Any], tuple[str, ...]]:
    got = GEMINI.write_request(request, model=model, quirks=NO_QUIRKS)
    return msgspec.json.decode(got.body), got.dropped


# -- requests


def test_a_request_is_read_into_the_words_of_the_hub() -> None:
    request = read()
    system, ask, calls, results, said, more = request.messages
    assert system == Message(role="system", parts=[Text(text="Answer briefly.")])
    assert ask.parts[1] == Media(kind="image", media_type="image/png", data="iVBORw0KGgo=")
    assert ask.parts[2] == Media(kind="document", media_type="application/pdf", url="gs://bucket/paper.pdf")
    thought, ulm, jena, clock = calls.parts
    assert thought == Thinking(text="I need the weather.", origin="gemini")
    assert isinstance(ulm, ToolCall) and isinstance(jena, ToolCall) and isinstance(clock, ToolCall)
    assert (ulm.name, ulm.arguments, ulm.signature) == ("weather", '{"city":"Ulm"}', "c2lnLTE=")
    assert ulm.id != jena.id and clock.id == "fc-9" and clock.arguments == ""
    first, second, third = results.parts
    assert isinstance(first, ToolResult) and isinstance(second, ToolResult) and isinstance(third, ToolResult)
    assert [first.call_id, second.call_id, third.call_id] == [ulm.id, jena.id, "fc-9"]
    assert first.parts == [Text(text="12 degrees")] and not first.is_error
    assert second.parts == [Text(text="no station")] and second.is_error
    assert third.parts[1] == Media(kind="image", media_type="image/png", data="aGk=", name="face.png")
    assert isinstance(said.parts[0], Opaque) and more.role == "user"
    assert (request.max_tokens, request.top_k, request.n, request.seed, request.stop) == (
        256,
        40,
        2,
        7,
        ["END"],
    )
    assert request.reasoning == Reasoning(budget_tokens=1024, include_text=True)
    assert request.tool_choice == ToolChoice(kind="required")
    assert request.tools[0].parameters == {
        "type": "object",
        "properties": {"city": {"type": "string"}, "day": {"type": ["string", "null"]}},
        "required": ["city"],
    }
    assert request.tools[2].builtin == Opaque(dialect="gemini", raw={"googleSearch": {}})
    assert request.response_format is not None and request.response_format.kind == "schema"
    assert set(request.extra) == {
        "functionCallingConfig",
        "safetySettings",
        "generationConfig",
        "cachedContent",
    }


def test_a_round_trip_loses_nothing_and_says_so() -> None:
    request = read()
    body, dropped = written(request)
    assert dropped == ()
    assert GEMINI.read_request(msgspec.json.encode(body), model="gemini-2.5-pro", stream=False) == request
    original = msgspec.json.decode(REQUEST)
    assert body["safetySettings"] == original["safetySettings"]
    assert body["cachedContent"] == "cachedContents/abc"
    assert body["toolConfig"] == original["toolConfig"]
    assert body["generationConfig"] == original["generationConfig"]
    assert body["contents"][3] == original["contents"][3]
    assert body["contents"][2] == original["contents"][2]
    calls = body["contents"][1]["parts"]
    assert calls[1] == original["contents"][1]["parts"][1], "a minted id stays here, the signature goes back"
    assert calls[3]["functionCall"] == {"id": "fc-9", "name": "clock", "args": {}}


@pytest.mark.parametrize(
    ("model", "stream", "path"),
    [
        ("gemini-2.5-pro", False, "/models/gemini-2.5-pro:generateContent"),
        ("models/gemini-x", True, "/models/gemini-x:streamGenerateContent?alt=sse"),
        ("tunedModels/a b/../c", False, "/tunedModels/a%20b%2F..%2Fc:generateContent"),
        ("x/../../y?key=1", False, "/models/x%2F..%2F..%2Fy%3Fkey%3D1:generateContent"),
    ],
)
def test_the_model_stands_in_the_path_and_cannot_leave_it(model: str, stream: bool, path: str) -> None:
    assert GEMINI.write_request(asked(stream=stream), model=model, quirks=NO_QUIRKS).path == path


def test_what_google_cannot_say_is_listed() -> None:
    request = asked(
        messages=[
            Message(role="system", parts=[Text(text="a")]),
            Message(role="user", parts=[Text(text="hi", extra={"cache_control": {}})], name="ann"),
            Message(role="user", parts=[Media(kind="image", file_id="file-1"), Text(text="ho")]),
            Message(role="assistant", parts=[Thinking(text="t", signature="s", origin="anthropic")]),
            Message(role="system", parts=[Text(text="b")]),
        ],
        tools=[
            Tool(name="f", strict=True),
            Tool(name="web", builtin=Opaque(dialect="responses", raw={"type": "web"})),
        ],
        user="u1",
        metadata={"a": "b"},
        parallel_tool_calls=False,
        extra={"logit_bias": {"1": 2}},
    )
    body, dropped = written(request)
    assert set(dropped) == {
        "logit_bias",
        "messages[1].cache_control",
        "messages[1].name",
        "messages[2].image",
        "messages[3].thinking",
        "tools[0].strict",
        "tools[1].builtin",
        "user",
        "metadata",
        "parallel_tool_calls",
    }
    assert body["systemInstruction"] == {"parts": [{"text": "a"}, {"text": "b"}]}
    assert body["contents"] == [{"role": "user", "parts": [{"text": "hi"}, {"text": "ho"}]}]
    assert body["tools"] == [{"functionDeclarations": [{"name": "f"}]}]


def test_calls_and_results_of_others_keep_their_ids_and_get_their_names() -> None:
    request = asked(
        messages=[
            Message(role="user", parts=[Text(text="hi")]),
            Message(
                role="assistant",
                parts=[
                    ToolCall(id="toolu_1", name="f", arguments='{"a":1}'),
                    ToolCall(id="toolu_2", name="g"),
                ],
            ),
            Message(role="user", parts=[ToolResult(call_id="toolu_2", parts=[Text(text='{"$ref":"#/x"}')])]),
            Message(role="user", parts=[ToolResult(call_id="toolu_1", parts=[Text(text='{"b":[2]}')])]),
        ],
        source="anthropic",
    )
    body, dropped = written(request, model="gemini-3-pro")
    assert dropped == ()
    first, second = body["contents"][1]["parts"]
    assert first["functionCall"] == {"id": "toolu_1", "name": "f", "args": {"a": 1}}
    assert first["thoughtSignature"] == "skip_thought_signature_validator"
    assert "thoughtSignature" not in second and second["functionCall"]["args"] == {}
    assert [part["functionResponse"] for part in body["contents"][2]["parts"]] == [
        {"id": "toolu_2", "name": "g", "response": {"result": '{"$ref":"#/x"}'}},
        {"id": "toolu_1", "name": "f", "response": {"b": [2]}},
    ]


def test_media_by_address_tell_what_they_are() -> None:
    parts = [
        Media(kind="image", url="https://e.org/a.PNG?x=1"),
        Media(kind="image", url="https://e.org/picture"),
        Media(kind="document", url="https://video.example.org/watch"),
    ]
    body, dropped = written(asked(messages=[Message(role="user", parts=list(parts))]))
    assert dropped == ()
    assert [part["fileData"].get("mimeType") for part in body["contents"][0]["parts"]] == [
        "image/png",
        "image/jpeg",
        None,
    ]
    again = read(b'{"contents": [{"parts": [{"fileData": {"fileUri": "gs://b/film.mp4"}}]}]}')
    assert again.messages[0].parts == [Media(kind="video", url="gs://b/film.mp4")]


def test_arguments_that_are_no_object_are_refused_by_name() -> None:
    bad = Message(role="assistant", parts=[ToolCall(id="c", name="f", arguments='{"a"')])
    with pytest.raises(InvalidInput, match=r"messages\[0\]"):
        written(asked(messages=[bad]))


@pytest.mark.parametrize(
    ("reasoning", "model", "config", "dropped"),
    [
        (Reasoning(effort="low"), "gemini-2.5-pro", {"thinkingBudget": 1024}, ()),
        (Reasoning(effort="none"), "gemini-2.5-pro", {"thinkingBudget": 0}, ()),
        (Reasoning(effort="high"), "gemini-3-pro-preview", {"thinkingLevel": "HIGH"}, ()),
        (
            Reasoning(budget_tokens=99, effort="low"),
            "gemini-2.5-pro",
            {"thinkingBudget": 99},
            ("reasoning.effort",),
        ),
        (
            Reasoning(enabled=True, include_text=True),
            "m",
            {"thinkingBudget": -1, "includeThoughts": True},
            (),
        ),
        (Reasoning(enabled=False), "m", {"thinkingBudget": 0}, ()),
        (Reasoning(effort="odd"), "m", None, ("reasoning.effort",)),
    ],
)
def test_reasoning_is_a_level_or_a_budget(
    reasoning: Reasoning, model: str, config: dict[str, Any] | None, dropped: tuple[str, ...]
) -> None:
    body, lost = written(asked(reasoning=reasoning), model=model)
    assert (body.get("generationConfig", {}).get("thinkingConfig"), lost) == (config, dropped)


def test_schemas_go_lowered_where_that_is_exact_and_whole_where_not() -> None:
    exact = {
        "type": "object",
        "properties": {"a": {"type": ["string", "null"]}},
        "additionalProperties": False,
    }
    other = {
        "type": "object",
        "properties": {"a": {"type": "object", "additionalProperties": {"type": "string"}}},
    }
    request = asked(
        tools=[
            Tool(name="f", parameters=exact),
            Tool(name="g", parameters=other),
            Tool(name="h", parameters={"type": "object", "properties": {}}),
        ],
        response_format=ResponseFormat(kind="schema", schema=exact, name="n"),
        tool_choice=ToolChoice(kind="named", name="g"),
    )
    body, _ = written(request)
    f, g, h = body["tools"][0]["functionDeclarations"]
    lowered = {"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": True}}}
    assert f["parameters"] == lowered and g["parametersJsonSchema"] == other and h == {"name": "h"}
    assert body["generationConfig"] == {"responseMimeType": "application/json", "responseSchema": lowered}
    assert body["toolConfig"]["functionCallingConfig"] == {"mode": "ANY", "allowedFunctionNames": ["g"]}


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"[]", "body"),
        (b'{"contents": []}', "contents"),
        (b'{"contents": [{"role": "x", "parts": []}]}', r"contents\[0\].role"),
        (b'{"contents": [{"parts": [{"text": 1}]}]}', r"contents\[0\].parts\[0\].text"),
        (b'{"contents": [{"parts": [{"functionCall": {"args": {}}}]}]}', r"functionCall.name"),
        (b'{"contents": "x", "generationConfig": {"topK": "many"}}', r"generationConfig.topK"),
        (b'{"contents"', "JSON"),
    ],
)
def test_what_is_wrong_is_named(body: bytes, names: str) -> None:
    with pytest.raises(InvalidInput, match=names):
        read(body)


def test_the_envelope_is_read_in_both_spellings_and_the_body_keeps_its_bytes() -> None:
    body = b'{"contents": [{}, {}], "tools": [{}], "generation_config": {"max_output_tokens": 5, "candidateCount": 2}}'
    envelope = GEMINI.peek(body, model="g", stream=True, max_depth=8)
    assert (envelope.model, envelope.stream, envelope.max_tokens, envelope.n) == ("g", True, 5, 2)
    assert (envelope.n_messages, envelope.has_tools, envelope.wants_usage) == (2, True, True)
    assert GEMINI.replace_model(body, "other") == body
    assert (
        GEMINI.replace_model(b'{"model": "models/a", "x": "model"}', "b")
        == b'{"model": "models/b", "x": "model"}'
    )
    with pytest.raises(InvalidInput):
        GEMINI.peek(b'{"contents":[],"contents":[]}', model="g", stream=None, max_depth=8)
    with pytest.raises(InvalidInput):
        GEMINI.peek(b"{}", model=None, stream=None, max_depth=8)


# -- replies


def test_a_reply_is_read_with_usage_in_disjoint_classes() -> None:
    reply = GEMINI.read_reply(REPLY)
    (choice,) = reply.choices
    assert choice.finish == "tool_calls" and choice.finish_raw == "STOP"
    assert isinstance(choice.parts[0], Thinking) and choice.parts[1] == Text(text="It is ")
    assert choice.logprobs["content"][0]["token"] == "It"
    assert reply.usage == Usage(
        input_uncached=27,
        input_cache_read=40,
        input_audio=20,
        input_image=20,
        output_text=20,
        output_reasoning=30,
    )
    assert GEMINI.read_usage(REPLY) == (reply.usage, "gemini-2.5-pro")
    again = msgspec.json.decode(GEMINI.write_reply(reply, model="mine", request=asked()))
    original = msgspec.json.decode(REPLY)
    assert again["candidates"][0]["content"]["parts"] == original["candidates"][0]["content"]["parts"]
    assert again["candidates"][0]["safetyRatings"] == original["candidates"][0]["safetyRatings"]
    assert again["usageMetadata"]["totalTokenCount"] == 157 and again["modelVersion"] == "mine"


@pytest.mark.parametrize(
    ("raw", "finish"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("UNEXPECTED_TOOL_CALL", "error"),
        ("LANGUAGE", "unknown"),
        ("OTHER", "unknown"),
        ("SOMETHING_NEW", "unknown"),
        (None, "unknown"),
    ],
)
def test_no_finish_reason_is_guessed(raw: str | None, finish: str) -> None:
    body = {"candidates": [{"content": {"parts": [{"text": "a"}]}, **({"finishReason": raw} if raw else {})}]}
    reply = GEMINI.read_reply(msgspec.json.encode(body))
    assert (reply.choices[0].finish, reply.choices[0].finish_raw) == (finish, raw)
    back = msgspec.json.decode(GEMINI.write_reply(reply, model="m", request=asked()))
    assert back["candidates"][0].get("finishReason") == raw


def test_a_blocked_prompt_is_a_content_filter() -> None:
    body = (
        b'{"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 4}}'
    )
    reply = GEMINI.read_reply(body)
    assert reply.choices == [Choice(finish="content_filter", finish_raw="PROHIBITED_CONTENT")]
    assert reply.usage == Usage(input_uncached=4)
    events = feed(GEMINI, [b"data: " + body + b"\n\n"])
    assert FinishSeen(finish="content_filter", finish_raw="PROHIBITED_CONTENT") in events
    assert events[-1] == End(complete=True)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"error": {"message": "x"}}'])
def test_what_is_no_reply_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        GEMINI.read_reply(body)


def test_broken_arguments_end_an_answer_as_malformed() -> None:
    reply = HubReply(
        source="openai",
        choices=[Choice(parts=[ToolCall(id="c", name="f", arguments='{"a')], finish="tool_calls")],
    )
    for body in (
        GEMINI.write_reply(reply, model="m", request=asked()),
        GEMINI.stream_writer(model="m", request=asked()).write(disassemble(reply)).split(b"data: ")[-1],
    ):
        candidate = msgspec.json.decode(body)["candidates"][0]
        assert candidate["finishReason"] == "MALFORMED_FUNCTION_CALL"
        assert 'f({"a)' in candidate["finishMessage"]


@pytest.mark.parametrize("parts", [7, True, "x", 0.5])
@pytest.mark.parametrize("place", ["systemInstruction", "contents"])
def test_parts_that_are_no_list_are_refused_by_name(place: str, parts: Any) -> None:
    message = {"role": "user", "parts": parts}
    body = {"contents": [{"role": "user", "parts": [{"text": "x"}]}], "systemInstruction": {"parts": []}}
    body[place] = [message] if place == "contents" else message
    with pytest.raises(InvalidInput, match=rf"{place}.*parts"):
        GEMINI.read_request(msgspec.json.encode(body), model="m", stream=False)


COUNTS = st.none() | st.integers(-5, 1000)


@settings(max_examples=200, deadline=None)
@given(COUNTS, COUNTS, COUNTS, COUNTS, st.dictionaries(st.sampled_from(["AUDIO", "IMAGE", "TEXT"]), COUNTS))
def test_usage_classes_are_disjoint_and_sum_to_what_was_told(
    prompt: int | None,
    cached: int | None,
    made: int | None,
    thoughts: int | None,
    kinds: dict[str, int | None],
) -> None:
    told = {
        "promptTokenCount": prompt,
        "cachedContentTokenCount": cached,
        "candidatesTokenCount": made,
        "thoughtsTokenCount": thoughts,
        "promptTokensDetails": [{"modality": kind, "tokenCount": count} for kind, count in kinds.items()],
    }
    usage = read_usage(told)
    # a count below zero is none
    prompt, made, thoughts = (
        None if count is not None and count < 0 else count for count in (prompt, made, thoughts)
    )
    if usage is None:
        assert prompt is None and made is None and thoughts is None
        return
    assert usage.input_tokens == prompt
    parts = [made, thoughts]
    assert usage.output_tokens == (None if parts == [None, None] else sum(part or 0 for part in parts))
    assert all(count >= 0 for count in msgspec.structs.asdict(usage).values() if count is not None)
    again = read_usage(write_usage(usage))
    assert again is not None
    assert (again.input_tokens, again.output_tokens) == (usage.input_tokens, usage.output_tokens)


# -- streams


ARRAY = (
    b"["
    + b",\r\n".join(line.removeprefix(b"data: ") for line in STREAM.split(b"\r\n\r\n") if line)
    + b"\n]\n"
)


@pytest.mark.parametrize("stream", [STREAM, ARRAY, STREAM.replace(b"\r\n", b"\n"), STREAM.rstrip()])
@settings(max_examples=60, deadline=None)
@given(places=st.lists(st.integers(0, 5000), max_size=12))
def test_any_split_of_a_stream_reads_the_same(stream: bytes, places: list[int]) -> None:
    events = feed(GEMINI, cut(stream, places))
    assert events == feed(GEMINI, [STREAM])
    scanner = GEMINI.scanner()
    for piece in cut(stream, places):
        scanner.feed(piece)
    scanner.feed(b"\r\n\r\n")
    assert scanner.is_finished() and scanner.has_content and scanner.error() is None
    assert scanner.usage() == Usage(input_uncached=9, output_text=12, output_reasoning=4)
    assert scanner.model() == "gemini-2.5-flash"


def test_a_stream_tells_parts_in_order_and_finish_and_usage_once_at_the_end() -> None:
    events = feed(GEMINI, [STREAM])
    reply = assemble(events, source="gemini")
    thought, text, koeln, bonn = reply.choices[0].parts
    assert thought == Thinking(text="Hm, weather.", origin="gemini")
    assert text == Text(text="Grüß Gott ", extra={"thoughtSignature": "c2ln"})
    assert isinstance(koeln, ToolCall) and isinstance(bonn, ToolCall)
    assert koeln.arguments == '{"city":"Köln"}' and koeln.id != bonn.id
    assert reply.choices[0].finish == "tool_calls"
    assert sum(isinstance(event, FinishSeen) for event in events) == 1
    assert sum(isinstance(event, UsageSeen) for event in events) == 1


def test_a_stream_without_a_finish_reason_is_not_complete() -> None:
    whole = STREAM.split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    events = feed(GEMINI, [whole])
    assert events[-1] == End(complete=False)
    assert not any(isinstance(event, FinishSeen) for event in events)
    assert feed(GEMINI, [])[-1] == End(complete=False)
    cut_event = feed(GEMINI, [whole, b'data: {"candidates":[{"cont'])
    assert cut_event[-1] == End(complete=False) and not any(isinstance(event, Failed) for event in cut_event)


def test_an_error_inside_a_stream_is_told_and_nothing_follows() -> None:
    error = (GOLDEN / "error.json").read_bytes().replace(b"\n", b" ")
    first = STREAM.split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    for stream in (first + b"data: " + error + b"\r\n\r\n" + STREAM, b"[" + error + b"]"):
        events = feed(GEMINI, [stream])
        (failed,) = [event for event in events if isinstance(event, Failed)]
        assert failed.error.kind == "rate_limit" and failed.error.status == 429
        assert events[-1] == End(complete=False)
        scanner = GEMINI.scanner()
        scanner.feed(stream)
        assert scanner.error() == failed.error


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.binary(max_size=60)
        | st.sampled_from([b"data: ", b"\n\n", b"[", b"{", b'{"candidates":[{}]}', b'"'])
    )
)
def test_garbage_never_raises(pieces: list[bytes]) -> None:
    feed(GEMINI, pieces)
    scanner = GEMINI.scanner()
    for piece in pieces:
        scanner.feed(piece)
    scanner.usage()


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "candidates",
                        "content",
                        "parts",
                        "text",
                        "functionCall",
                        "name",
                        "args",
                        "usageMetadata",
                        "promptTokenCount",
                        "finishReason",
                        "index",
                        "error",
                        "message",
                        "thought",
                        "inlineData",
                        "logprobsResult",
                        "chosenCandidates",
                        "promptFeedback",
                        "functionResponse",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=25,
    )
)
def test_json_of_any_shape_never_raises(value: Any) -> None:
    body = msgspec.json.encode(value)
    feed(GEMINI, [b"data: " + body + b"\n\n"])
    GEMINI.scanner().feed(b"data: " + body + b"\n\n")
    GEMINI.read_error(500, body)
    for call in (GEMINI.read_reply, GEMINI.read_usage):
        with contextlib.suppress(ValueError):
            call(body)


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
ARGS = st.dictionaries(WORDS, st.integers(-9, 9) | WORDS, max_size=3)


@st.composite
def replies(draw: st.DrawFn) -> HubReply:
    choices = []
    for _ in range(draw(st.integers(1, 2))):
        parts: list[Any] = []
        if draw(st.booleans()):
            parts.append(Thinking(text=draw(WORDS), origin="gemini"))
        if draw(st.booleans()):
            parts.append(Text(text=draw(WORDS)))
        for number in range(draw(st.integers(0, 2))):
            args = draw(ARGS)
            text = msgspec.json.encode(args).decode() if args else ""
            parts.append(ToolCall(id=f"id-{number}", name="f", arguments=text))
        has_calls = any(isinstance(part, ToolCall) for part in parts)
        raw = draw(st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY"]))
        finish: Any = {
            "STOP": "tool_calls" if has_calls else "stop",
            "MAX_TOKENS": "length",
            "SAFETY": "content_filter",
        }
        choices.append(Choice(parts=parts, finish=finish[raw], finish_raw=raw))
    usage = Usage(input_uncached=draw(st.integers(0, 99)), output_text=draw(st.integers(0, 99)))
    return HubReply(source="gemini", id="r", model="m", choices=choices, usage=usage)


@settings(max_examples=80, deadline=None)
@given(replies(), st.booleans(), st.lists(st.integers(0, 3000), max_size=6))
def test_a_streamed_reply_adds_up_to_the_unstreamed_one(
    reply: HubReply, as_array: bool, places: list[int]
) -> None:
    dialect = GEMINI_ARRAY if as_array else GEMINI
    stream = dialect.stream_writer(model="m", request=asked()).write(disassemble(reply))
    if as_array:
        msgspec.json.decode(stream)
    got = assemble(feed(GEMINI, cut(stream, places)), source="gemini")
    assert got == reply
    assert GEMINI.read_reply(GEMINI.write_reply(reply, model="m", request=asked())) == reply


def test_a_client_without_sse_gets_one_json_array_also_when_it_ends_in_an_error() -> None:
    writer = GEMINI_ARRAY.stream_writer(model="m", request=asked())
    begun = writer.write(disassemble(GEMINI.read_reply(REPLY))[:4])
    error = HubError(kind="overloaded", message="busy", status=503, code="PS-4503")
    chunks = msgspec.json.decode(begun + writer.fail(error))
    assert chunks[-1]["error"]["status"] == "UNAVAILABLE"
    assert writer.fail(error) == b"" and writer.write([End(complete=False)]) == b""
    empty = GEMINI_ARRAY.stream_writer(model="m", request=asked())
    assert empty.write([End(complete=False)]) == b"[]"
    assert GEMINI_ARRAY.stream_content_type == b"application/json"


def test_calls_are_written_whole_when_their_pieces_are_there() -> None:
    writer = GEMINI.stream_writer(model="m", request=asked())
    events = disassemble(
        HubReply(source="openai", choices=[Choice(parts=[ToolCall(id="c1", name="f", arguments='{"a":1}')])])
    )
    assert isinstance(events[1], PartStart)
    assert writer.write(events[:3]) == b""
    chunk = msgspec.json.decode(writer.write(events[3:4]).removeprefix(b"data: "))
    assert chunk["candidates"][0]["content"]["parts"] == [
        {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}}
    ]


# -- errors


def test_errors_are_read_with_their_delay_and_written_as_google_does() -> None:
    error = GEMINI.read_error(429, (GOLDEN / "error.json").read_bytes())
    assert error is not None
    assert (error.kind, error.status, error.code, error.retry_after_s) == (
        "rate_limit",
        429,
        "RESOURCE_EXHAUSTED",
        33.5,
    )
    assert GEMINI.read_error(502, b"<html>Bad Gateway</html>") is None
    assert GEMINI.read_error(502, b'{"error": "text"}') is None
    wrapped = b"[" + (GOLDEN / "error.json").read_bytes() + b"]"
    assert GEMINI.read_error(429, wrapped) == error
    ours = HubError(
        kind="not_found", message="No such model.", status=404, code="PS-1604", param="model", retry_after_s=2
    )
    body = msgspec.json.decode(GEMINI.write_error(ours))
    assert body["error"]["code"] == 404 and body["error"]["status"] == "NOT_FOUND"
    again = GEMINI.read_error(404, GEMINI.write_error(ours))
    assert again is not None
    assert (again.kind, again.message, again.code, again.retry_after_s) == (
        "not_found",
        "No such model.",
        "PS-1604",
        2,
    )


@pytest.mark.parametrize(
    ("status", "name", "message", "details", "kind"),
    [
        (400, "INVALID_ARGUMENT", "API key not valid.", [{"reason": "API_KEY_INVALID"}], "authentication"),
        (
            400,
            "INVALID_ARGUMENT",
            "The input token count (9) exceeds the maximum number of tokens allowed (8).",
            [],
            "context_length",
        ),
        (
            429,
            "RESOURCE_EXHAUSTED",
            "q",
            [{"violations": [{"quotaId": "RequestsPerDayPerProject"}]}],
            "quota",
        ),
        (403, "PERMISSION_DENIED", "p", [], "permission"),
        (503, "UNAVAILABLE", "overloaded", [], "overloaded"),
        (504, "DEADLINE_EXCEEDED", "d", [], "timeout"),
        (500, "INTERNAL", "i", [], "server_error"),
        (418, None, "t", [], "invalid_request"),
    ],
)
def test_kinds_of_errors(status: int, name: str | None, message: str, details: list[Any], kind: str) -> None:
    body = {"error": {"code": status, "message": message, "status": name, "details": details}}
    error = GEMINI.read_error(status, msgspec.json.encode(body))
    assert error is not None and error.kind == kind
