"""A call's payloads read as the conversation they are, whichever dialect wrote them; what a call added is found."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.traces.conversation import MAX_DEPTH, Exchange, find_added, plain_text, read_exchange

CALLED = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}


def outline(exchange: Exchange | None) -> list[tuple[str, list[tuple[str, str]]]]:
    assert exchange is not None
    return [
        (message.role, [(part.kind, part.text) for part in message.parts])
        for message in [*exchange.asked, *exchange.answered]
    ]


CASES: list[tuple[str, Any, Any, list[Any]]] = [
    (
        "openai chat",
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None, "tool_calls": [CALLED]},
                      {"role": "tool", "tool_call_id": "c1", "content": "7 degrees"}]},
        {"choices": [{"message": {"role": "assistant", "content": "Cold.", "reasoning_content": "hm"}, "finish_reason": "stop"}]},
        [("user", [("text", "Hi")]), ("assistant", [("tool_call", '{"city":"Oslo"}')]),
         ("tool", [("tool_result", "7 degrees")]), ("assistant", [("reasoning", "hm"), ("text", "Cold.")])],
    ),
    (
        "openai responses",
        {"instructions": "Be short.", "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]},
        {"output": [{"type": "reasoning", "summary": [{"text": "hm"}]}, {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
                    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes"}]}]},
        [("system", [("text", "Be short.")]), ("user", [("text", "Hi")]), ("assistant", [("reasoning", "hm")]),
         ("assistant", [("tool_call", "{}")]), ("assistant", [("text", "Yes")])],
    ),
    (
        "anthropic",
        {"system": "Be kind.", "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}, {"type": "text", "text": "What?"}]},
                                            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "42"}]}]}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "so"}, {"type": "tool_use", "id": "t2", "name": "look", "input": {"a": 1}}]},
        [("system", [("text", "Be kind.")]), ("user", [("image", "data:image/png;base64,AAAA"), ("text", "What?")]),
         ("user", [("tool_result", "42")]), ("assistant", [("reasoning", "so"), ("tool_call", '{"a":1}')])],
    ),
    (
        "gemini",
        {"contents": [{"role": "user", "parts": [{"text": "Hi"}, {"functionResponse": {"name": "f", "response": {"x": 1}}}]}]},
        {"candidates": [{"content": {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]}}]},
        [("user", [("text", "Hi"), ("tool_result", '{"x":1}')]), ("model", [("tool_call", "{}")])],
    ),
    (
        "opentelemetry parts",
        {"messages": [{"role": "user", "parts": [{"type": "text", "content": "Hi"}, {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AAAA"}]},
                      {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "result": "ok"}]}]},
        [{"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "f", "arguments": {"b": 2}}], "finish_reason": "stop"}],
        [("user", [("text", "Hi"), ("image", "data:image/png;base64,AAAA")]), ("tool", [("tool_result", "ok")]),
         ("assistant", [("tool_call", '{"b":2}')])],
    ),
    ("bare texts", "Question?", "Answer.", [("user", [("text", "Question?")]), ("assistant", [("text", "Answer.")])]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "received", "read"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_every_dialect_reads_as_a_conversation(sent: Any, received: Any, read: list[Any]) -> None:
    assert outline(read_exchange(sent, received)) == read


def test_arguments_that_are_no_json_are_kept_and_marked() -> None:
    broken = {"id": "c", "function": {"name": "f", "arguments": '{"a": '}}
    exchange = read_exchange(None, {"choices": [{"message": {"tool_calls": [broken]}}]})
    assert exchange is not None
    part = exchange.answered[0].parts[0]
    assert (part.text, part.is_broken, part.data) == ('{"a": ', True, None)


@pytest.mark.parametrize("payload", [None, 3, [], {}, {"k": 4}, "  ", [1, None], {"messages": []}])
def test_what_is_no_conversation_is_told_apart(payload: Any) -> None:
    assert read_exchange(payload, None) is None


def talk(*texts: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]}


def read(sent: Any, answer: str) -> Exchange:
    found = read_exchange(sent, {"choices": [{"message": {"role": "assistant", "content": answer}}]})
    assert found is not None
    return found


def test_a_call_is_shown_with_what_it_added_to_the_one_before() -> None:
    first = read(talk("one"), "two")
    second = read(talk("one", "two", "three"), "four")
    added = find_added(second, first)
    assert ([plain_text(each) for each in added.messages], added.n_before, added.n_gone) == (["three"], 2, 0)
    assert find_added(first, None).messages == first.asked


def test_an_answer_that_comes_back_without_its_reasoning_is_not_new() -> None:
    thought = {"choices": [{"message": {"role": "assistant", "content": "two", "reasoning_content": "hm"}}]}
    before = read_exchange(talk("one"), thought)
    assert [
        plain_text(each) for each in find_added(read(talk("one", "two", "three"), "four"), before).messages
    ] == ["three"]


def test_a_talk_that_was_cut_says_how_much_is_gone() -> None:
    before = read(talk("one", "two", "three"), "four")
    after = read(talk("three", "four", "five"), "six")
    assert [plain_text(each) for each in find_added(after, before).messages] == ["five"]
    assert find_added(after, before).n_gone >= 1


def test_the_same_words_said_again_are_new() -> None:
    before = read(talk("again"), "yes")
    after = read(talk("again", "yes", "again"), "yes")
    assert [plain_text(each) for each in find_added(after, before).messages] == ["again"]


WORDS = [
    "", "text", "user", "tool", "tool_use", "tool_result", "function_call", "reasoning", "image", "image_url", "{", '{"a":1}',
    "http://[bad", "https://a b/", "http://a:99999999/", "data:image/png;base64,AA==", "javascript:alert(1)",
]  # fmt: skip
NAMES = [
    "role", "content", "parts", "type", "text", "messages", "contents", "choices", "candidates", "message", "delta", "output",
    "tool_calls", "function_call", "function", "name", "arguments", "id", "call_id", "tool_call_id", "response", "result",
    "source", "data", "media_type", "url", "uri", "file", "input_audio", "input", "prompt", "system", "image_url", "image",
    "inlineData", "functionCall", "functionResponse", "summary", "thinking", "reasoning", "refusal", "finish_reason", "tools",
]  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=14,
)


@settings(max_examples=400, deadline=None)
@given(json_values, json_values)
def test_no_payload_breaks_the_reading(sent: Any, received: Any) -> None:
    found = read_exchange(sent, received)
    if found is not None:
        assert find_added(found, found).messages == [] or found.answered or found.asked
        assert all(isinstance(plain_text(each), str) for each in found.asked)


@pytest.mark.parametrize("odd", [["string", "null"], {"a": 1}, 3, None, "auto", [["x"]]])
@pytest.mark.parametrize(
    "place", ["type", "functionCall", "functionResponse", "role", "content", "tool_calls"]
)
def test_a_known_name_with_a_foreign_value_is_read_as_what_it_is(place: str, odd: Any) -> None:
    item = {"name": "city", place: odd}
    for sent in ([item], {"messages": [item]}, {"messages": [{"role": "tool", "content": [item]}]}):
        found = read_exchange(sent, {"choices": [{"message": {"parts": [item]}}]})
        assert found is not None
        assert find_added(found, None).messages == found.asked


@pytest.mark.parametrize("depth", [MAX_DEPTH, 300])
def test_parts_within_parts_are_read_to_a_depth(depth: int) -> None:
    content: Any = "deep"
    for _ in range(depth):
        content = [{"type": "text", "content": content}]
    found = read_exchange({"messages": [{"role": "user", "content": content}]}, None)
    assert found is not None
    (part,) = found.asked[0].parts
    assert part.kind == ("text" if depth <= MAX_DEPTH else "data")
