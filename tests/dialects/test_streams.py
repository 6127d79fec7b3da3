"""Streams: any split of the bytes gives the same bytes out; usage is found; replies fold together."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.dialects.openai.replies import fold_stream, read_reply
from penstock.dialects.openai.sse import StreamTail, UsageStripper, find_usage, is_usage_event, iter_data

USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def event(value: dict[str, Any], end: str) -> bytes:
    return b"data: " + json.dumps(value).encode() + end.encode() * 2


def usage_event(end: str, **extra: Any) -> bytes:
    return event({"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": USAGE, **extra}, end)


ENDS = st.sampled_from(["\n", "\r\n", "\r"])
CONTENT = st.text(max_size=30).map(
    lambda text: {"choices": [{"index": 0, "delta": {"content": text}}], "usage": None}
)
FILTERS = st.just({"choices": [], "prompt_filter_results": [1]})
COMMENT = st.just(b": keep-alive\n\n")


@st.composite
def streams(draw: Any) -> tuple[bytes, bytes]:
    """A stream with usage events in it, and the same one without them."""
    whole, stripped = b"", b""
    for kind in draw(
        st.lists(st.sampled_from(["content", "usage", "filter", "comment", "cited"]), max_size=8)
    ):
        end = draw(ENDS)
        if kind == "usage":
            whole += usage_event(end)
            continue
        if kind == "content":
            part = event(draw(CONTENT), end)
        elif kind == "filter":
            part = event(draw(FILTERS), end)
        elif kind == "cited":
            part = usage_event(end, citations=[{"document": "a"}])
        else:
            part = draw(COMMENT)
        whole += part
        stripped += part
    tail = draw(st.sampled_from([b"data: [DONE]\n\n", b"", b'data: {"cut']))
    return whole + tail, stripped + tail


@settings(max_examples=60, deadline=None)
@given(streams(), st.data())
def test_stripping_is_the_same_for_every_split(stream: tuple[bytes, bytes], data: Any) -> None:
    whole, stripped = stream
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    stripper = UsageStripper()
    out = b""
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        out += stripper.feed(whole[start:end])
    assert out + stripper.finish() == stripped


@settings(max_examples=60, deadline=None)
@given(streams())
def test_stripping_works_byte_by_byte(stream: tuple[bytes, bytes]) -> None:
    whole, stripped = stream
    stripper = UsageStripper()
    assert (
        b"".join(stripper.feed(whole[at : at + 1]) for at in range(len(whole))) + stripper.finish()
        == stripped
    )


def test_a_complete_event_is_passed_at_once() -> None:
    stripper = UsageStripper()
    part = event({"choices": [{"index": 0, "delta": {"content": "a"}}]}, "\n")
    assert stripper.feed(part) == part


def test_a_very_long_event_is_not_held_back() -> None:
    stripper = UsageStripper()
    long = event({"choices": [{"index": 0, "delta": {"content": "x" * 300_000}}]}, "\n")
    pieces = [long[at : at + 10_000] for at in range(0, len(long), 10_000)]
    passed = [stripper.feed(piece) for piece in pieces]
    assert sum(map(len, passed[:-1])) > 200_000
    rest = stripper.feed(usage_event("\n") + b"data: [DONE]\n\n")
    assert b"".join(passed) + rest + stripper.finish() == long + b"data: [DONE]\n\n"


@settings(max_examples=60, deadline=None)
@given(streams(), st.integers(1, 40))
def test_the_tail_finds_the_usage_whatever_the_split(stream: tuple[bytes, bytes], size: int) -> None:
    whole = stream[0] + b"\n\n" + usage_event("\n") + b"data: [DONE]\n\n"
    tail = StreamTail()
    for at in range(0, len(whole), size):
        tail.feed(whole[at : at + size])
    usage, _ = tail.find_usage()
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (9, 4)
    assert tail.is_finished()


def test_a_stream_without_end_mark_is_not_finished() -> None:
    tail = StreamTail()
    tail.feed(event({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}, "\n"))
    assert not tail.is_finished()
    tail.feed(event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}, "\n"))
    assert tail.is_finished()


def test_text_that_looks_like_a_usage_event_is_content() -> None:
    inner = json.dumps({"choices": [], "usage": USAGE})
    assert not is_usage_event(event({"choices": [{"index": 0, "delta": {"content": inner}}]}, "\n"))
    assert find_usage(event({"choices": [{"index": 0, "delta": {"content": inner}}]}, "\n")) == (None, None)


def test_events_of_several_lines_are_joined() -> None:
    assert list(iter_data(b'event: x\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata: [DONE]\r\n\r\n')) == [
        b'{"a":\n1}'
    ]


def test_a_stream_folds_into_the_reply_it_stands_for() -> None:
    def choice(delta: dict[str, Any], index: int = 0, finish: str | None = None) -> dict[str, Any]:
        return {"id": "c", "object": "chat.completion.chunk", "model": "m",
                "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}  # fmt: skip

    call = {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}}
    parts = [
        choice({"role": "assistant", "content": ""}),
        choice({"content": "Hel"}),
        choice({"content": "lo"}),
        choice({"content": "two"}, 1),
        choice({"tool_calls": [call]}),
        choice({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}),
        choice({}, 0, "tool_calls"),
        {"id": "c", "choices": [], "usage": USAGE, "citations": [{"document": "d"}]},
    ]
    folded = fold_stream(b"".join(event(part, "\n") for part in parts) + b"data: garbage\n\ndata: [DONE]\n\n")
    assert folded["object"] == "chat.completion"
    assert folded["usage"] == USAGE
    assert folded["citations"] == [{"document": "d"}]
    first, second = folded["choices"]
    assert first["finish_reason"] == "tool_calls"
    assert first["message"]["content"] == "Hello"
    assert first["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert second["message"]["content"] == "two"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_never_raises(data: bytes) -> None:
    fold_stream(data)
    find_usage(data)
    read_reply(data)
    stripper = UsageStripper()
    assert stripper.feed(data) + stripper.finish() == data


def test_a_reply_with_an_odd_usage_is_still_a_reply() -> None:
    reply = read_reply(b'{"model": "m", "usage": {"prompt_tokens": "many"}}')
    assert reply is not None
    assert (reply.model, reply.usage) == ("m", None)
    assert read_reply(b"<html>") is None
    assert read_reply(b"[1]") is None


def test_text_that_says_done_does_not_end_a_stream() -> None:
    tail = StreamTail()
    tail.feed(event({"choices": [{"index": 0, "delta": {"content": "write data: [DONE]"}}]}, "\n"))
    assert not tail.is_finished()
    tail.feed(b"data: [DONE]\n\n")
    assert tail.is_finished()
