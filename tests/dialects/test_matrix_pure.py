"""Every dialect into every other, without a network: what one says the other says too, or names as dropped.

`A → B` below: a request that a client wrote in A is read, written for a target that speaks B and read there; a reply
of B is read and written for the client the other way round. What is compared are plain facts, free of either
dialect's habits: where a text stands, which call a result belongs to, what the arguments are.
"""

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.dialects.assembly import assemble, disassemble
from penstock.dialects.error_kinds import status_of_kind
from penstock.dialects.registry import DIALECTS
from penstock.spec.hub import (
    Choice,
    End,
    ErrorKind,
    Event,
    Failed,
    Finish,
    HubError,
    HubReply,
    HubRequest,
    Media,
    Message,
    Part,
    PartStart,
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
from penstock.spec.routes import DialectName
from penstock.spec.usage import Usage
from tests.dialects.stream_checks import read_stream, write_stream

PAIRS = list(itertools.product(DIALECTS, DIALECTS))
PLAIN = frozenset[str]()
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {
    "type": "object",
    "properties": {"lock": {"type": "integer", "description": "Which."}, "unit": {"type": "string"}},
    "required": ["lock"],
}


def each_pair(function: Any) -> Any:
    return pytest.mark.parametrize(("a", "b"), PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])(function)


# -- the conversation


def conversation(source: DialectName) -> HubRequest:
    """System, text, image, thoughts, parallel calls with their results, and settings that all dialects have."""
    return HubRequest(
        source=source,
        model="asked",
        messages=[
            Message(role="system", parts=[Text(text="You keep the locks of a canal.")]),
            Message(
                role="user",
                parts=[
                    Text(text="Which boat? Größe – 船"),
                    Media(kind="image", media_type="image/png", data=PNG),
                ],
            ),
            Message(
                role="assistant",
                parts=[
                    Thinking(text="Two readings.", signature="c2ln", origin=source),
                    Text(text="I will look."),
                    ToolCall(id="call_a", name="read_depth", arguments='{"lock":3,"unit":"m"}'),
                    ToolCall(id="call_b", name="list_boats", arguments=""),
                ],
            ),
            Message(
                role="user",
                parts=[
                    ToolResult(call_id="call_a", name="read_depth", parts=[Text(text="4.1")]),
                    ToolResult(call_id="call_b", name="list_boats", parts=[Text(text="Ada, Bo")]),
                    Text(text="Go on."),
                ],
            ),
            Message(role="assistant", parts=[Text(text="Done.")]),
            Message(role="user", parts=[Text(text="Thanks.")]),
        ],
        tools=[
            Tool(name="read_depth", description="Depth of a lock.", parameters=SCHEMA),
            Tool(name="list_boats", parameters={"type": "object", "properties": {}}),
        ],
        tool_choice=ToolChoice(kind="required"),
        max_tokens=300,
        temperature=0.5,
        top_p=0.9,
        stop=["END"],
    )


def said_in(name: DialectName, request: HubRequest) -> HubRequest:
    """Return `request` as a client of `name` would send it."""
    return sent_to(name, request)[0]


def sent_to(name: DialectName, request: HubRequest) -> tuple[HubRequest, tuple[str, ...]]:
    """Return what a target that speaks `name` reads of `request`, and what was dropped on the way."""
    out = DIALECTS[name].write_request(request, model="theirs", quirks=PLAIN)
    return DIALECTS[name].read_request(out.body, model="theirs", stream=request.stream), out.dropped


Facts = dict[str, Any]


def facts_of(request: HubRequest) -> Facts:
    numbers: dict[str, int] = {}
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, ToolCall):
                numbers.setdefault(part.id, len(numbers))
    flow: list[Any] = []
    thoughts: list[str] = []
    system: list[str] = []
    images: list[Any] = []
    for message in request.messages:
        for part in message.parts:
            if message.role == "system":
                assert isinstance(part, Text)
                system.append(part.text)
            elif isinstance(part, Thinking):
                thoughts.append(part.text or "")
            elif isinstance(part, Media):
                images.append((len(flow), part.media_type, part.data))
            else:
                flow.append((message.role, *_fact(part, numbers)))
    choice = request.tool_choice
    return {
        "flow": flow,
        "thinking": "".join(thoughts),
        "system": "\n\n".join(system),
        "image": images,
        "tools": [(tool.name, tool.description, _plain_schema(tool.parameters)) for tool in request.tools],
        "tool_choice": None if choice is None else (choice.kind, choice.name),
        **{name: getattr(request, name) for name in ("max_tokens", "temperature", "top_p", "stop", "stream")},
    }


def _fact(part: Part, numbers: dict[str, int]) -> tuple[Any, ...]:
    if isinstance(part, ToolCall):
        return ("call", numbers[part.id], part.name, json.loads(part.arguments or "{}"))
    if isinstance(part, ToolResult):
        texts = [held.text for held in part.parts if isinstance(held, Text)]
        return ("result", numbers.get(part.call_id, part.call_id), "".join(texts))
    assert isinstance(part, Text | Refusal), part
    return ("text", part.text)


def _plain_schema(schema: dict[str, Any] | None) -> Any:
    """A function without parameters is said with no schema, or with an empty one."""
    return None if not schema or not schema.get("properties") else json.loads(json.dumps(schema).lower())


def assert_told(before: Facts, after: Facts, dropped: tuple[str, ...]) -> None:
    """Whatever is not the same on both sides is named in `dropped`."""
    for name, value in before.items():
        if after[name] != value:
            named = [path for path in dropped if re.search(rf"(^|\.){name}(\.|\[|$)", path)]
            assert named, (
                f"{name} changed from {value!r} to {after[name]!r}, but dropped names only {dropped}"
            )


@each_pair
def test_a_conversation_is_told_whole_or_what_is_missing_is_named(a: DialectName, b: DialectName) -> None:
    request = said_in(a, conversation(a))
    assert request.source == a
    there, dropped = sent_to(b, request)
    before, after = facts_of(request), facts_of(there)
    assert_told(before, after, dropped)
    for name in ("flow", "system", "image", "tools", "tool_choice", "max_tokens", "stream"):
        assert after[name] == before[name], f"every dialect can say {name}"
    if a == b:
        assert dropped == ()
    written = DIALECTS[b].write_request(request, model="theirs", quirks=PLAIN).body
    assert b": null" not in written and b":null" not in written, "what is absent is not said"


@each_pair
def test_a_stream_is_asked_for_alike(a: DialectName, b: DialectName) -> None:
    request = said_in(a, HubRequest(source=a, model="m", messages=conversation(a).messages[:2], stream=True))
    there, _ = sent_to(b, request)
    assert request.stream and there.stream


@each_pair
def test_what_one_dialect_marked_survives_there_and_back_or_is_named(a: DialectName, b: DialectName) -> None:
    """Signatures of thoughts mean something to their own provider only."""
    request = said_in(a, conversation(a))
    signed = [
        part.signature
        for message in request.messages
        for part in message.parts
        if isinstance(part, Thinking) and part.signature
    ]
    there, dropped = sent_to(b, request)
    kept = [
        part.signature
        for message in there.messages
        for part in message.parts
        if isinstance(part, Thinking) and part.signature
    ]
    if signed and not kept:
        assert any("thinking" in path for path in dropped), dropped
    if a == b:
        assert kept == signed


@pytest.mark.parametrize("kind", ["auto", "none", "required", "named"])
@each_pair
def test_tool_choices_are_told_or_named(a: DialectName, b: DialectName, kind: Any) -> None:
    asked = conversation(a)
    asked.tool_choice = ToolChoice(kind=kind, name="read_depth" if kind == "named" else None)
    request = said_in(a, asked)
    there, dropped = sent_to(b, request)
    said = None if request.tool_choice is None else request.tool_choice.kind
    heard = None if there.tool_choice is None else there.tool_choice.kind
    if (said or "auto") != (heard or "auto"):
        assert any(path.startswith("tool_choice") for path in dropped), (said, heard, dropped)


@each_pair
def test_reasoning_is_asked_for_or_named(a: DialectName, b: DialectName) -> None:
    asked = HubRequest(
        source=a,
        model="m",
        messages=[Message(role="user", parts=[Text(text="hi")])],
        reasoning=Reasoning(effort="high"),
    )
    request = said_in(a, asked)
    there, dropped = sent_to(b, request)
    said, heard = request.reasoning, there.reasoning
    if said is None or (said.effort is None and said.budget_tokens is None and not said.enabled):
        return
    if heard is None or (heard.effort is None and heard.budget_tokens is None and not heard.enabled):
        assert any(path.startswith("reasoning") for path in dropped), (said, heard, dropped)


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20).map(
    lambda text: f"x{text}x"
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
TURNS = st.lists(
    st.tuples(TEXTS, TEXTS, st.lists(st.dictionaries(TEXTS, VALUES, max_size=2), max_size=2)), max_size=3
)


@settings(max_examples=60, deadline=None)
@given(TURNS, st.sampled_from(PAIRS))
def test_any_conversation_of_texts_and_calls_is_told(
    turns: list[tuple[str, str, list[dict[str, Any]]]], pair: tuple[DialectName, DialectName]
) -> None:
    messages: list[Message] = []
    for number, (question, answer, calls) in enumerate(turns):
        made = [
            ToolCall(id=f"call_{number}_{index}", name=f"tool_{index}", arguments=json.dumps(arguments))
            for index, arguments in enumerate(calls)
        ]
        messages.append(Message(role="user", parts=[Text(text=question)]))
        messages.append(Message(role="assistant", parts=[Text(text=answer), *made]))
        if made:
            results: list[Part] = [
                ToolResult(call_id=call.id, name=call.name, parts=[Text(text=answer)]) for call in made
            ]
            messages.append(Message(role="user", parts=results))
            messages.append(Message(role="assistant", parts=[Text(text=question)]))
    messages.append(Message(role="user", parts=[Text(text="end")]))
    a, b = pair
    tools = [Tool(name="tool_0", parameters=SCHEMA), Tool(name="tool_1", parameters=SCHEMA)]
    request = said_in(a, HubRequest(source=a, model="m", messages=messages, tools=tools))
    there, _ = sent_to(b, request)
    assert facts_of(there)["flow"] == facts_of(request)["flow"]


# -- what only some dialects can say


def rich(source: DialectName) -> HubRequest:
    """Settings and parts that some dialects have and others lack."""
    return HubRequest(
        source=source,
        model="asked",
        messages=[
            Message(
                role="user",
                name="Ada",
                parts=[
                    Text(text="look"),
                    Media(kind="image", url="https://example.org/boat.png"),
                    Media(
                        kind="document", media_type="application/pdf", data="JVBERi0xLjQK", name="chart.pdf"
                    ),
                    Media(kind="audio", media_type="audio/wav", data="UklGRg=="),
                ],
            ),
            Message(role="assistant", parts=[ToolCall(id="call_a", name="read_depth", arguments="{}")]),
            Message(
                role="user",
                parts=[
                    ToolResult(
                        call_id="call_a",
                        name="read_depth",
                        is_error=True,
                        parts=[Text(text="broken"), Media(kind="image", media_type="image/png", data=PNG)],
                    )
                ],
            ),
        ],
        tools=[Tool(name="read_depth", parameters=SCHEMA, strict=True)],
        tool_choice=ToolChoice(kind="auto"),
        parallel_tool_calls=False,
        temperature=1.7,
        top_k=40,
        seed=7,
        n=2,
        frequency_penalty=0.25,
        presence_penalty=0.5,
        logprobs=True,
        top_logprobs=2,
        response_format=ResponseFormat(kind="schema", name="answer", schema=SCHEMA, strict=True),
        user="u-1",
        metadata={"team": "locks"},
    )


SETTINGS = (
    "temperature",
    "top_k",
    "seed",
    "n",
    "frequency_penalty",
    "presence_penalty",
    "top_logprobs",
    "user",
    "metadata",
    "parallel_tool_calls",
)


def rich_facts(request: HubRequest) -> Facts:
    held = [part for message in request.messages for part in message.parts]
    results = [part for part in held if isinstance(part, ToolResult)]
    inside = [part for result in results for part in result.parts]
    media = [part for part in [*held, *inside] if isinstance(part, Media)]
    wanted = request.response_format
    return {
        **{name: getattr(request, name) for name in SETTINGS},
        "logprobs": request.logprobs or None,
        "image": sorted(str((part.url, part.data)) for part in media if part.kind == "image"),
        "document": [part.data for part in media if part.kind == "document"],
        "audio": [part.data for part in media if part.kind == "audio"],
        "is_error": [result.is_error for result in results],
        "name": [message.name for message in request.messages if message.name],
        "strict": [bool(tool.strict) for tool in request.tools],
        "response_format": None if wanted is None else (wanted.kind, _plain_schema(wanted.schema)),
    }


@each_pair
def test_settings_and_media_are_told_or_named(a: DialectName, b: DialectName) -> None:
    request = said_in(a, rich(a))
    there, dropped = sent_to(b, request)
    assert_told(rich_facts(request), rich_facts(there), dropped)


@pytest.mark.parametrize("a", DIALECTS)
def test_what_a_dialect_cannot_say_itself_is_named_there_too(a: DialectName) -> None:
    """Also a request that was never in the target's words: nothing goes missing in silence."""
    for source in DIALECTS:
        if source != a:
            there, dropped = sent_to(a, rich(source))
            assert_told(rich_facts(rich(source)), rich_facts(there), dropped)


# -- replies


def reply_of(source: DialectName, finish: Finish = "tool_calls") -> HubReply:
    """Thoughts, a text and two parallel calls."""
    calls: list[Part] = [
        ToolCall(id="call_a", name="read_depth", arguments='{"lock":3,"unit":"m"}'),
        ToolCall(id="call_b", name="list_boats", arguments="{}"),
    ]
    return HubReply(
        source=source,
        id="r-1",
        model="theirs",
        choices=[
            Choice(
                parts=[
                    Thinking(text="Größe – two readings.", origin=source),
                    Text(text="I will look. 船"),
                    *(calls if finish == "tool_calls" else []),
                ],
                finish=finish,
            )
        ],
        usage=Usage(input_uncached=100, input_cache_read=40, output_text=20, output_reasoning=10),
    )


def asked_in(name: DialectName, **members: Any) -> HubRequest:
    return HubRequest(source=name, model="asked", messages=[], stream_usage=True, **members)


def answered_by(name: DialectName, reply: HubReply) -> HubReply:
    """Return `reply` as a provider that speaks `name` would send it, or as its client reads it."""
    dialect = DIALECTS[name]
    return dialect.read_reply(dialect.write_reply(reply, model="asked", request=asked_in(name)))


def reply_facts(reply: HubReply) -> Facts:
    choice = reply.choices[0]
    numbers = {part.id: index for index, part in enumerate(choice.parts) if isinstance(part, ToolCall)}
    order = {number: place for place, number in enumerate(numbers.values())}
    return {
        "texts": "".join(part.text for part in choice.parts if isinstance(part, Text | Refusal)),
        "thoughts": "".join(part.text or "" for part in choice.parts if isinstance(part, Thinking)),
        "calls": [
            (order[numbers[part.id]], part.name, json.loads(part.arguments or "{}"))
            for part in choice.parts
            if isinstance(part, ToolCall)
        ],
        "finish": choice.finish,
        "input": reply.usage.input_tokens if reply.usage else None,
        "output": reply.usage.output_tokens if reply.usage else None,
    }


@each_pair
def test_a_reply_is_told_whole(a: DialectName, b: DialectName) -> None:
    reply = answered_by(b, reply_of(b))
    there = answered_by(a, reply)
    assert reply_facts(there) == reply_facts(reply)
    facts = reply_facts(there)
    assert (facts["input"], facts["output"], facts["finish"], len(facts["calls"])) == (
        140,
        30,
        "tool_calls",
        2,
    )


ENDS: dict[Finish, set[Finish]] = {
    "stop": {"stop"},
    "length": {"length"},
    "content_filter": {"content_filter", "refusal"},
    "unknown": {"unknown"},
}


@pytest.mark.parametrize("finish", ENDS)
@each_pair
def test_why_a_reply_ended_is_never_guessed(a: DialectName, b: DialectName, finish: Finish) -> None:
    there = answered_by(a, answered_by(b, reply_of(b, finish)))
    assert there.choices[0].finish in ENDS[finish]


def stream_of(name: DialectName, events: list[Event]) -> bytes:
    return write_stream(DIALECTS[name], events, asked_in(name, stream=True))


@each_pair
def test_a_stream_says_what_the_whole_reply_says(a: DialectName, b: DialectName) -> None:
    source = stream_of(b, disassemble(reply_of(b)))
    events = read_stream(DIALECTS[b], source, cuts=range(0, len(source), 7))
    shown = read_stream(DIALECTS[a], stream_of(a, events))
    assert shown[-1] == End(complete=True)
    whole = answered_by(a, answered_by(b, reply_of(b)))
    assert reply_facts(assemble(shown, source=a)) == reply_facts(whole)


@each_pair
def test_a_stream_without_an_end_is_not_complete_on_the_other_side(a: DialectName, b: DialectName) -> None:
    begun = [event for event in disassemble(reply_of(b)) if isinstance(event, Start | PartStart)][:3]
    source = stream_of(b, begun[:1])
    events = read_stream(DIALECTS[b], source)
    assert events[-1] == End(complete=False)
    shown = read_stream(DIALECTS[a], stream_of(a, events))
    assert shown[-1] == End(complete=False)


# -- errors

KINDS: tuple[ErrorKind, ...] = (
    "invalid_request",
    "authentication",
    "permission",
    "not_found",
    "rate_limit",
    "overloaded",
    "server_error",
    "timeout",
)


@pytest.mark.parametrize("kind", KINDS)
@each_pair
def test_an_error_keeps_its_kind_and_its_text(a: DialectName, b: DialectName, kind: ErrorKind) -> None:
    status = status_of_kind(kind)
    error = HubError(kind=kind, message="Because of the lock.", status=status)
    read = DIALECTS[b].read_error(status, DIALECTS[b].write_error(error))
    assert read is not None
    shown = DIALECTS[a].read_error(status, DIALECTS[a].write_error(read))
    assert shown is not None
    assert (shown.kind, shown.message, shown.status) == (kind, "Because of the lock.", status)


@each_pair
def test_an_error_inside_a_stream_reaches_the_client(a: DialectName, b: DialectName) -> None:
    error = HubError(kind="overloaded", message="Because of the lock.", status=503)
    events = disassemble(reply_of(b))[:3]
    source = DIALECTS[b].stream_writer(model="m", request=asked_in(b))
    upstream = source.write(events) + source.fail(error)
    seen = read_stream(DIALECTS[b], upstream)
    client = DIALECTS[a].stream_writer(model="m", request=asked_in(a))
    shown = read_stream(DIALECTS[a], client.write(seen))
    failed = [event for event in shown if isinstance(event, Failed)]
    assert len(failed) == 1
    assert "Because of the lock." in failed[0].error.message
    assert shown[-1] == End(complete=False)
