"""Spans that nobody would send on purpose, through the whole way: taken, stored, listed, drawn and sent on in bounded time."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.main.recording import Recording
from penstock.spec.home import Home
from penstock.store.spans.trace_lists import DuckDBTraceLists
from penstock.store.spans.types import TraceQuery
from penstock.telemetry.otlp import JSON, PROTOBUF
from penstock.telemetry.otlp_out import encode_otlp_json
from penstock.traces.lists import TraceListService
from penstock.traces.service import TraceService
from tests.fixtures.large_trace import make_large_trace
from tests.fixtures.spans import T0
from tests.main import lives
from tests.telemetry.test_otlp import as_protobuf, pairs, request_of

TRACE = f"{77:032x}"
YEAR_2200_NS = 7_258_118_400 * 10**9


def span(number: int, **fields: Any) -> dict[str, Any]:
    attributes = fields.pop("attributes", {})
    return {
        "traceId": TRACE,
        "spanId": f"{number:016x}",
        "name": f"span {number}",
        "startTimeUnixNano": str(T0 + number),
        "endTimeUnixNano": str(T0 + number + 100),
        "attributes": pairs(attributes),
        **fields,
    }


def request(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


class Place:
    """A home that takes spans and shows them."""

    def __init__(self, home: Home) -> None:
        self.recording = Recording(lives.prepare(home.root), lives.settings_of())
        self.traces = TraceService(self.recording.store)
        self.lists = TraceListService(DuckDBTraceLists(self.recording.store.file))

    def take(self, *spans: dict[str, Any]) -> Any:
        body = json.dumps(request(*spans)).encode()
        batch = self.recording.ingest.take("traces", body, JSON, way="http")
        self.recording.collector.run_once()
        return batch

    def shown(self) -> set[str]:
        """Read the trace in every way there is; return the ids of its spans."""
        ids = {each.span_id for each in self.recording.store.get_trace(TRACE)}
        (row,) = [row for row in self.lists.list_traces(TraceQuery()).rows if row.trace_id == TRACE]
        assert row.n_spans == len(ids)
        outline = self.traces.read_outline(TRACE)
        columns = self.traces.read_columns(TRACE)
        assert len(outline.tree) == len(ids)
        assert columns is not None
        self.traces.show_trace(TRACE)
        for span_id in sorted(ids)[:5]:
            self.traces.get_span(TRACE, span_id)
            self.traces.get_payload(TRACE, span_id)
        json.loads(encode_otlp_json(self.recording.store.get_trace(TRACE)))
        return ids


@pytest.fixture
def place(home: Home) -> Iterator[Place]:
    opened = Place(home)
    yield opened
    opened.recording.stop_taking()
    opened.recording.close()


NEIGHBOUR = span(9)
HOSTILE = {
    "1 MB in an attribute": [span(1, attributes={"blob": "x" * 1_000_000, "gen_ai.prompt": "y" * 1_000_000})],
    "10,000 attributes": [span(1, attributes={f"attribute.{number}": number for number in range(10_000)})],
    "its own parent": [span(1, parentSpanId=f"{1:016x}")],
    "parents in a circle": [span(number, parentSpanId=f"{number % 3 + 1:016x}") for number in (1, 2, 3)],
    "a parent that never comes": [span(1, parentSpanId="ff" * 8)],
    "the year 2200": [span(1, startTimeUnixNano=str(YEAR_2200_NS), endTimeUnixNano=str(YEAR_2200_NS + 5))],
    "the year 1970": [span(1, startTimeUnixNano="1", endTimeUnixNano="2")],
    "an end before its start": [span(1, endTimeUnixNano="5")],
    "children before their parents": [
        span(1, startTimeUnixNano=str(T0 + 10**15)),
        span(2, parentSpanId=f"{1:016x}"),
    ],
    "values nested 200 deep": [span(1, attributes={"deep": json.loads('{"a":' * 200 + "1" + "}" * 200)})],
    "text of zeros and half pairs": [span(1, name="a\0b\ud800", attributes={"k\0": "\ud800 v\0"})],
    "twice in one request": [span(1), span(1)],
    "200 levels": [span(number + 10, parentSpanId=f"{number + 9:016x}") for number in range(1, 200)],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_span_is_kept_shown_and_harms_no_other(place: Place, what: str) -> None:
    batch = place.take(*HOSTILE[what], NEIGHBOUR)
    assert batch.n_rejected == 0
    expected = {each["spanId"] for each in [*HOSTILE[what], NEIGHBOUR]}
    assert place.shown() == expected
    assert place.recording.collector.stats.last_error is None
    place.take(*HOSTILE[what], NEIGHBOUR)
    assert place.shown() == expected, "sent again"


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (span(1, startTimeUnixNano="0"), "times"),
        (span(1, startTimeUnixNano=str(2**64 - 1)), "time"),
        (span(1, spanId="0" * 16), "span"),
        (span(1, traceId="zz" * 16), "trace"),
    ],
)
def test_a_span_that_cannot_be_kept_is_named_and_counted_and_its_neighbours_are_kept(
    place: Place, what: dict[str, Any], reason: str
) -> None:
    batch = place.take(what, NEIGHBOUR)
    assert batch.n_rejected == 1
    assert reason in (batch.reason or "")
    assert place.shown() == {NEIGHBOUR["spanId"]}
    assert sum(place.recording.ingest.record_health().counts["rejected"].values()) == 1


def test_text_that_is_not_utf8_is_mended_and_counted(place: Place) -> None:
    body = as_protobuf(request_of({"gen_ai.prompt": "caf\u00e9"}, traceId=TRACE))
    place.recording.ingest.take("traces", body.replace("\u00e9".encode(), b"\xc3\xff"), PROTOBUF, way="http")
    place.recording.collector.run_once()
    assert len(place.shown()) == 1
    assert place.recording.ingest.record_health().counts["cut"]


def test_two_senders_that_race_for_one_span_leave_the_fuller_record_once(place: Place) -> None:
    stop = threading.Event()
    collecting = threading.Thread(
        target=place.recording.collector.run, args=(stop,), kwargs={"interval_s": 0.001}
    )
    collecting.start()
    begun = {"endTimeUnixNano": "0", "status": {}}

    def send(fields: dict[str, Any]) -> None:
        for _ in range(5):
            for number in range(1, 11):
                body = json.dumps(request(span(number, **fields))).encode()
                place.recording.ingest.take("traces", body, JSON, way="http")

    senders = [
        threading.Thread(target=send, args=(fields,))
        for fields in (begun, {}, {"attributes": {"gen_ai.prompt": "full"}})
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    stop.set()
    collecting.join()
    place.recording.collector.run_once()
    assert len(place.shown()) == 10
    for stored in place.recording.store.get_trace(TRACE):
        assert stored.end_ns is not None
        assert place.recording.store.get_payload(TRACE, stored.span_id).input == "full"


@pytest.mark.slow
def test_a_trace_of_100_000_spans_is_listed_and_drawn(place: Place) -> None:
    store = place.recording.store
    spans = make_large_trace(100_000, T0, trace_id=TRACE)
    for start in range(0, len(spans), 25_000):
        assert store.append(spans[start : start + 25_000]) == len(spans[start : start + 25_000])
    assert store.append(spans[:100]) == 0, "sent again"
    (row,) = place.lists.list_traces(TraceQuery()).rows
    assert row.n_spans == len(spans) > 99_000
    outline = place.traces.read_outline(TRACE)
    assert len(outline.tree) == len(spans)
    assert len(place.traces.list_spans(TRACE, [spans[0].span_id, spans[-1].span_id])) == 2
