"""Server-sent events: the same events for every split of the bytes, and bounds that hold."""

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.dialects.sse_events import SseEvent, SseSplitter, write_event


def split_all(stream: bytes, cuts: list[int] | None = None) -> list[SseEvent]:
    splitter = SseSplitter()
    edges = [0, *sorted(cuts or []), len(stream)]
    events: list[SseEvent] = []
    for start, end in itertools.pairwise(edges):
        events += splitter.feed(stream[start:end])
    return events + splitter.finish()


def test_names_data_and_comments_are_told_apart() -> None:
    stream = (
        b'\xef\xbb\xbfevent: a\ndata: {"x":1}\n\n: ping\n\nid: 7\ndata:two\ndata: lines\n\ndata: [DONE]\n\n'
    )
    assert split_all(stream) == [
        SseEvent("a", b'{"x":1}'),
        SseEvent(None, b"two\nlines"),
        SseEvent(None, b"[DONE]"),
    ]


def test_an_event_comes_out_as_soon_as_its_blank_line_is_there() -> None:
    for end in (b"\n", b"\r\n", b"\r"):
        splitter = SseSplitter()
        assert splitter.feed(b"data: a" + end) == []
        assert splitter.feed(end) == [SseEvent(None, b"a")], end
        assert splitter.feed(b"data: b" + end + end) == [SseEvent(None, b"b")]


def test_an_event_without_data_is_none() -> None:
    assert split_all(b"event: ping\n\n\n\nretry: 5\n\ndata: x\n\n") == [SseEvent(None, b"x")]


def test_the_last_event_may_lack_its_blank_line() -> None:
    assert split_all(b"data: a\n\ndata: b") == [SseEvent(None, b"a"), SseEvent(None, b"b")]


STREAMS = st.lists(
    st.sampled_from(
        [b"data: ", b"data:", b"event: e", b"\n", b"\r", b"\r\n", b": c", b"x", "é😀".encode(), b"\n\n"]
    ),
    max_size=30,
).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(STREAMS | st.binary(max_size=80), st.data())
def test_every_split_gives_the_same_events(stream: bytes, data: Any) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10))
    whole = split_all(stream)
    assert split_all(stream, cuts) == whole
    assert split_all(stream, list(range(len(stream)))) == whole


def test_an_event_over_the_bound_ends_the_stream() -> None:
    for stream in (b"data: " + b"x" * 200, b"data: 12345678901234567890\n" * 10):
        splitter = SseSplitter(max_event_bytes=100)
        assert splitter.feed(b"data: ok\n\n") == [SseEvent(None, b"ok")]
        for at in range(0, len(stream), 16):
            assert splitter.feed(stream[at : at + 16]) == []
        assert splitter.is_broken
        assert splitter.feed(b"\n\ndata: more\n\n") == []
        assert splitter.finish() == []


@given(st.none() | st.just("message_start"), st.text(max_size=40))
def test_what_is_written_is_read_again(name: str | None, text: str) -> None:
    data = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace")
    assert split_all(write_event(data, name)) in (
        [SseEvent(name, data)],
        [SseEvent(name, data.removesuffix(b"\n"))],
    )
