"""Tool calls of a chat completion stream whose deltas are mixed, as servers send them that decode calls at once."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.dialects.assembly import assemble
from penstock.dialects.openai.dialect import OPENAI
from penstock.spec.hub import End, Event, Failed, PartDelta, PartStart, ToolCall
from tests.dialects.stream_checks import read_stream

Json = dict[str, Any]
ARGUMENTS = st.dictionaries(
    st.text(max_size=6), st.one_of(st.text(max_size=12), st.lists(st.integers(), max_size=3)), max_size=4
)


def chunk(delta: Json | None, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode() + b"\n\n"


def begin(index: int, arguments: str = "") -> bytes:
    call = {
        "index": index,
        "id": f"id_{index}",
        "type": "function",
        "function": {"name": f"f{index}", "arguments": arguments},
    }
    return chunk({"tool_calls": [call]})


def more(index: int, arguments: str) -> bytes:
    return chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})


END = chunk(None, "tool_calls") + b"data: [DONE]\n\n"


def calls_of(events: list[Event]) -> list[tuple[str, str, str]]:
    reply = assemble(events, source="openai")
    return [
        (part.id, part.name, part.arguments) for part in reply.choices[0].parts if isinstance(part, ToolCall)
    ]


@settings(max_examples=80, deadline=None)
@given(st.lists(ARGUMENTS, min_size=1, max_size=4), st.data())
def test_mixed_calls_are_read_as_if_they_had_come_in_turn(arguments: list[Json], data: Any) -> None:
    texts = [json.dumps(value) for value in arguments]
    queues = []
    for index, text in enumerate(texts):
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        queues.append([begin(index, pieces[0]), *(more(index, piece) for piece in pieces[1:])])
    stream = b""
    begun = 0
    while any(queues):
        ready = [n for n, queue in enumerate(queues) if queue and n <= begun]
        chosen = data.draw(st.sampled_from(ready))
        begun = max(begun, chosen + 1)
        stream += queues[chosen].pop(0)
    events = read_stream(OPENAI, stream + END)
    assert calls_of(events) == [(f"id_{n}", f"f{n}", text) for n, text in enumerate(texts)]
    assert events[-1] == End(complete=True)


def test_a_call_that_comes_after_a_whole_one_is_passed_on_at_once() -> None:
    reader = OPENAI.stream_reader()
    reader.feed(begin(0, '{"a": "}'))
    assert reader.feed(begin(1, '{"b"')) == []
    told = reader.feed(more(0, '"}'))
    assert [event.part.id for event in told if isinstance(event, PartStart)] == ["id_1"]
    told = reader.feed(more(1, ": 2}"))
    assert [event.text for event in told if isinstance(event, PartDelta)] == [": 2}"]


def test_calls_that_wait_when_the_connection_ends_are_given_all_the_same() -> None:
    events = read_stream(OPENAI, begin(0, '{"a":') + begin(1, "{}"))
    assert calls_of(events) == [("id_0", "f0", '{"a":'), ("id_1", "f1", "{}")]
    assert events[-1] == End(complete=False)


def test_calls_without_arguments_are_all_given() -> None:
    events = read_stream(OPENAI, begin(0) + begin(1) + begin(2) + END)
    assert [name for _, name, _ in calls_of(events)] == ["f0", "f1", "f2"]


def test_a_call_that_goes_on_after_it_was_whole_and_another_began_is_a_failure() -> None:
    events = read_stream(OPENAI, begin(0, "{}") + begin(1, "{") + more(0, '"late"') + END)
    assert any(isinstance(event, Failed) for event in events)
