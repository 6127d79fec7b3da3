"""What every dialect's stream reader and writer must hold to, as checks that their tests call."""

import itertools
from collections.abc import Iterable

import msgspec
from hypothesis import strategies as st

from penstock.dialects.port import Dialect
from penstock.spec.hub import Event, HubRequest, PartDelta
from tests.dialects.event_rules import assert_valid_events


def read_stream(dialect: Dialect, stream: bytes, cuts: Iterable[int] = ()) -> list[Event]:
    """Return the events of `stream`, fed in pieces that end at `cuts`; they are valid, or this fails."""
    reader = dialect.stream_reader()
    events: list[Event] = []
    ends = [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    start = 0
    for end in ends:
        events += reader.feed(stream[start:end])
        start = end
    events += reader.finish()
    assert_valid_events(events)
    return events


def feed(dialect: Dialect, pieces: Iterable[bytes]) -> list[Event]:
    """Return the events of a stream that comes in `pieces`; they are valid and end once, or this fails."""
    reader = dialect.stream_reader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    events += reader.finish()
    assert reader.finish() == []
    assert_valid_events(events)
    return events


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return `data` in pieces."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def joined(events: Iterable[Event]) -> list[Event]:
    """Return the events with neighbouring deltas of one part joined: readers may cut texts where bytes were cut."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        if (
            isinstance(event, PartDelta)
            and isinstance(last, PartDelta)
            and (event.index, event.choice) == (last.index, last.choice)
            and all(delta.logprobs is None and delta.extra is None for delta in (event, last))
        ):
            signature = (last.signature or "") + (event.signature or "") or None
            out[-1] = msgspec.structs.replace(last, text=last.text + event.text, signature=signature)
            continue
        out.append(event)
    return out


def write_stream(dialect: Dialect, events: list[Event], request: HubRequest) -> bytes:
    """Return the bytes a client gets for `events`, written one by one."""
    writer = dialect.stream_writer(model="asked", request=request)
    return b"".join(writer.write([event]) for event in events)


CUTS = st.lists(st.integers(0, 6000), max_size=12)
"""Where to cut a stream."""
