"""Log events find their span, whichever comes first; those that wait survive, and do not wait for ever."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.spec.spans import FOREIGN_MARK, Span, SpanEvent
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.telemetry.counters import IngestCounters
from penstock.telemetry.encode import encode_span
from penstock.telemetry.errors import SpoolUnavailable
from penstock.telemetry.otlp import LOG_EVENTS
from penstock.telemetry.spool import SpoolWriter
from penstock.traces.collector import Collector
from penstock.traces.late_events import LateEvents, join_events
from tests.fixtures.spans import make_span


def event(name: str, time_ns: int, **attributes: Any) -> SpanEvent:
    return SpanEvent(name=name, time_ns=time_ns, attributes=attributes)


def events_of(number: int, *events: SpanEvent) -> Span:
    span = make_span(number)
    return Span(
        trace_id=span.trace_id,
        span_id=span.span_id,
        name="log events",
        start_ns=events[0].time_ns,
        attributes={FOREIGN_MARK: 2, LOG_EVENTS: True},
        events=list(events),
    )


ASKED = event("gen_ai.user.message", 10, content="How much?")
SAID = event("gen_ai.choice", 20, message=json.dumps({"content": "Two litres."}))


def bare(number: int = 1) -> Span:
    return make_span(number, attributes={FOREIGN_MARK: 2}, input=None, output=None)


class Bench:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 10**18
        self.store = DuckDBSpanStore(root / "spans.duckdb")
        self.counters = IngestCounters()
        self.open()

    def open(self) -> None:
        self.writer = SpoolWriter(self.root / "spool" / f"control-{self.now}")
        self.collector = Collector(self.root / "spool", self.store, source=self.store, counters=self.counters)
        self.collector._late = LateEvents(
            self.root / "spool", self.store, self.counters, clock=lambda: self.now, wait_s=100
        )

    def close(self) -> None:
        self.writer.close()
        self.collector.close()

    def restart(self) -> None:
        self.close()
        self.now += 1
        self.open()

    def round(self, *spans: Span) -> None:
        self.writer.append_durable([encode_span(span) for span in spans])
        self.collector.run_once()

    def payload(self, number: int = 1) -> tuple[Any, Any]:
        found = self.store.get_payload(bare(number).trace_id, bare(number).span_id)
        return found.input, found.output


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    opened = Bench(tmp_path)
    yield opened
    opened.close()
    opened.store.close()


FILLED = ({"messages": [{"role": "user", "content": "How much?"}]}, [{"message": {"content": "Two litres."}}])


@pytest.mark.parametrize(
    "arrange",
    [
        lambda bench: bench.round(bare(), events_of(1, ASKED, SAID)),
        lambda bench: (bench.round(bare()), bench.round(events_of(1, ASKED, SAID))),
        lambda bench: (bench.round(events_of(1, ASKED, SAID)), bench.round(bare())),
        lambda bench: (
            bench.round(events_of(1, SAID)),
            bench.round(bare()),
            bench.round(events_of(1, ASKED)),
        ),
        lambda bench: (
            bench.round(bare()),
            bench.round(events_of(1, ASKED)),
            bench.round(events_of(1, SAID)),
        ),
    ],
    ids=["together", "after", "before", "around", "one by one"],
)
def test_events_and_span_come_together(bench: Bench, arrange: Callable[[Bench], object]) -> None:
    arrange(bench)
    assert bench.payload() == FILLED
    [span] = bench.store.get_trace(bare().trace_id)
    assert [each.name for each in span.events] == ["gen_ai.user.message", "gen_ai.choice"]
    assert (span.name, span.kind) == (bare().name, bare().kind)
    assert bench.counters.get("logs", "joined") == 2
    assert bench.collector.stats.waiting_logs == 0


def begun(number: int = 1) -> Span:
    return msgspec.structs.replace(bare(number), end_ns=None, status="unset")


@pytest.mark.parametrize(
    "arrange",
    [
        lambda bench: (bench.round(begun(), events_of(1, ASKED, SAID)), bench.round(bare())),
        lambda bench: (bench.round(begun()), bench.round(events_of(1, ASKED, SAID)), bench.round(bare())),
        lambda bench: (bench.round(events_of(1, ASKED, SAID)), bench.round(begun()), bench.round(bare())),
        lambda bench: bench.round(begun(), events_of(1, ASKED, SAID), bare()),
        lambda bench: (
            bench.round(begun(), events_of(1, ASKED)),
            bench.restart(),
            bench.round(bare()),
            bench.round(events_of(1, SAID)),
        ),
    ],
)
def test_the_record_that_tells_the_end_of_a_span_does_not_cost_its_events(
    bench: Bench, arrange: Callable[[Bench], object]
) -> None:
    arrange(bench)
    [span] = bench.store.get_trace(bare().trace_id)
    assert span.end_ns is not None
    assert [each.name for each in span.events] == ["gen_ai.user.message", "gen_ai.choice"]
    assert bench.payload() == FILLED
    bench.now += 10**12
    bench.round(bare(2))
    assert bench.collector.stats.waiting_logs == 0
    assert bench.counters.get("dropped", "log events, their span never came") == 0


def test_events_sent_twice_count_once(bench: Bench) -> None:
    bench.round(bare())
    bench.round(events_of(1, ASKED))
    bench.round(events_of(1, ASKED))
    [span] = bench.store.get_trace(bare().trace_id)
    assert len(span.events) == 1


def test_payloads_of_the_span_itself_stay() -> None:
    span = make_span(1, input="its own", output=None)
    joined = join_events(span, [events_of(1, ASKED, SAID)])
    assert (joined.input, joined.output) == ("its own", FILLED[1])


def test_an_exception_says_why_the_span_failed() -> None:
    raised = event("exception", 5, **{"exception.type": "Timeout", "exception.message": "too slow"})
    joined = join_events(make_span(1, status="error", error_code=None), [events_of(1, raised)])
    assert (joined.error_code, joined.status_message) == ("Timeout", "too slow")


def test_waiting_events_survive_a_crash(bench: Bench) -> None:
    bench.round(events_of(1, ASKED, SAID))
    assert bench.collector.stats.waiting_logs == 1
    bench.close()
    bench.now += 1
    bench.open()
    bench.round()
    bench.round(bare())
    assert bench.payload() == FILLED


def test_events_whose_span_never_comes_are_given_up_and_counted(bench: Bench) -> None:
    bench.round(events_of(1, ASKED, SAID))
    bench.now += 101 * 10**9
    bench.round(bare(2))
    assert bench.collector.stats.waiting_logs == 0
    assert bench.counters.get("dropped", "log events, their span never came") == 2


def test_what_does_not_wait_any_more_leaves_the_disk(bench: Bench) -> None:
    bench.round(events_of(1, ASKED), events_of(2, ASKED))
    late = bench.collector._late
    assert late is not None
    assert late._reader is not None
    bench.round(bare(1), bare(2))
    assert late._reader.waiting_bytes == 0


def test_a_store_that_fails_after_joining_gets_both_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.round(events_of(1, ASKED, SAID))
    append = bench.store.append
    monkeypatch.setattr(bench.store, "append", lambda spans: (_ for _ in ()).throw(OSError(28, "full")))
    bench.writer.append_durable([encode_span(bare())])
    assert not bench.collector._try_once()
    monkeypatch.setattr(bench.store, "append", append)
    assert bench.collector._try_once()
    assert bench.payload() == FILLED


def test_the_folder_of_waiting_events_is_left_to_itself(bench: Bench) -> None:
    bench.round(events_of(1, ASKED))
    bench.round(bare(1))
    assert bench.collector.stats.waiting_logs == 0
    late = bench.collector._late
    assert late is not None
    assert late.folder is not None
    assert [reader.folder for reader in bench.collector._find_readers()] == [bench.writer.folder]


def test_events_of_another_project_and_events_for_our_own_spans_are_refused(bench: Bench) -> None:
    """Ids travel with every request, so they are known to many."""
    own = make_span(1, service="gateway", input=None, output=None, payload_dropped=True)
    theirs = msgspec.structs.replace(bare(2), project="theirs")
    bench.round(own, theirs)
    bench.round(events_of(1, ASKED), events_of(2, ASKED))
    bench.round(own, theirs, events_of(1, SAID), events_of(2, SAID))
    assert bench.store.get_trace(own.trace_id) == [own, theirs]
    assert bench.payload(1) == bench.payload(2) == (None, None)
    refused = bench.counters.get("dropped", "log events under the ids of somebody else's span")
    assert refused == 4
    assert bench.collector.stats.waiting_logs == 0


def test_events_that_wait_are_not_carried_off_by_a_span_of_another_project(bench: Bench) -> None:
    bench.round(events_of(1, ASKED, SAID))
    bench.round(msgspec.structs.replace(begun(), project="other"))
    assert bench.payload() == (None, None)
    assert bench.collector.stats.waiting_logs == 1


def test_events_that_a_full_disk_refused_are_written_when_they_come_again(bench: Bench) -> None:
    bench.round(events_of(1, ASKED))
    writer = bench.collector._late._writer
    assert writer is not None
    enough, writer._min_free_bytes = writer._min_free_bytes, 2**60
    with pytest.raises(SpoolUnavailable):
        bench.round(events_of(2, ASKED, SAID))
    writer._min_free_bytes = enough
    bench.round()
    bench.restart()
    bench.round(bare(2))
    assert bench.payload(2) == FILLED
