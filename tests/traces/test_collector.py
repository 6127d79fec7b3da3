"""Spans reach the store from every writer, once, through crashes, damage and a failing store."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from penstock.base.errors import InvalidInput
from penstock.spec.home import Home
from penstock.spec.search import Words
from penstock.spec.spans import Span
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.types import TraceQuery
from penstock.telemetry.recorder import SpanRecorder
from penstock.telemetry.segments import list_segments
from penstock.telemetry.spool import SpoolWriter
from penstock.traces.collector import Collector
from tests.fixtures.spans import make_call_trace, make_span


class RecordingStore:
    """Takes spans like a store; fails when told to, refuses spans named `bad`."""

    def __init__(self) -> None:
        self.spans: dict[tuple[str, str], Span] = {}
        self.failures: list[Exception] = []

    def append(self, spans: Sequence[Span]) -> int:
        if self.failures:
            raise self.failures.pop()
        if any(span.name == "bad" for span in spans):
            raise InvalidInput("refused")
        if any(span.name == "breaks" for span in spans):
            raise OverflowError("too large for a column")
        new = {(span.trace_id, span.span_id): span for span in spans}
        n_new = len(set(new) - set(self.spans))
        self.spans.update(new)
        return n_new


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def writer(spool: Path) -> Iterator[SpoolWriter]:
    opened = SpoolWriter(spool / "gateway-1")
    yield opened
    opened.close()


def record(writer: SpoolWriter, *spans: Span) -> None:
    recorder = SpanRecorder(writer)
    for span in spans:
        recorder.record(span)
    writer.flush()


def test_spans_of_every_writer_become_searchable_with_their_payloads(home: Home) -> None:
    gateway, apps = SpoolWriter(home.spool / "gateway"), SpoolWriter(home.spool / "apps")
    trace = make_call_trace()
    record(gateway, trace[0], trace[4])
    record(apps, *trace[1:4])
    store = DuckDBSpanStore(home.span_db)
    collector = Collector(home.spool, store)
    assert collector.run_once() == 5
    assert collector.run_once() == 0
    row = store.list_traces(TraceQuery(where=Words("should i walk"))).rows[0]
    assert (row.n_spans, row.route) == (5, "handbook")
    assert store.get_payload(trace[0].trace_id, trace[0].span_id).input == trace[0].input
    for opened in (gateway, apps, store):
        opened.close()


def test_nothing_to_read_is_no_fault(spool: Path) -> None:
    assert Collector(spool, RecordingStore()).run_once() == 0


def test_a_crash_between_storing_and_acknowledging_repeats_nothing(spool: Path, writer: SpoolWriter) -> None:
    store = RecordingStore()
    record(writer, *make_call_trace())
    crashed = Collector(spool, store)
    crashed._find_readers()[0].ack = lambda position: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[assignment,method-assign]
    with pytest.raises(KeyboardInterrupt):
        crashed.run_once()
    assert len(store.spans) == 5
    assert Collector(spool, store).run_once() == 0
    assert len(store.spans) == 5


def test_what_a_failing_store_did_not_take_is_offered_again(spool: Path, writer: SpoolWriter) -> None:
    store = RecordingStore()
    store.failures = [OSError(28, "No space left on device")] * 3
    collector = Collector(spool, store)
    record(writer, *make_call_trace())
    stop = threading.Event()
    thread = threading.Thread(target=collector.run, args=(stop,), kwargs={"interval_s": 0.01})
    thread.start()
    for _ in range(500):
        if len(store.spans) == 5:
            break
        stop.wait(0.01)
    stop.set()
    thread.join()
    assert len(store.spans) == 5
    assert collector.stats.last_error is None


def test_stopping_stores_what_arrived_before(spool: Path, writer: SpoolWriter) -> None:
    store = RecordingStore()
    stop = threading.Event()
    stop.set()
    record(writer, make_span(1))
    Collector(spool, store).run(stop)
    assert len(store.spans) == 1


def test_records_that_hold_no_storable_span_are_counted_and_do_not_block_others(
    spool: Path, writer: SpoolWriter
) -> None:
    store = RecordingStore()
    good = [make_span(number) for number in range(1, 30)]
    record(writer, *good[:10], make_span(50, name="bad"), *good[10:], make_span(51, name="bad"))
    for junk in (b"not json", b"{}", b'{"trace_id": 5}', b"[" * 20_000, b"\xff\xfe"):
        writer.append(junk)
    writer.flush()
    collector = Collector(spool, store)
    assert collector.run_once() == 29
    assert collector.stats.n_undecodable == 7
    assert collector.run_once() == 0


def test_a_dead_writers_folder_is_drained_then_removed_and_a_living_ones_is_kept(
    spool: Path, writer: SpoolWriter
) -> None:
    dead = SpoolWriter(spool / "gateway-dead", segment_bytes=2000)
    record(dead, *(make_span(number) for number in range(1, 20)))
    dead.close()
    with list_segments(dead.folder)[-1][1].open("ab") as file:
        file.write(b"\x10\x00\x00\x00torn")
    record(writer, make_span(1, trace=2))
    store = RecordingStore()
    collector = Collector(spool, store)
    assert collector.run_once() == 20
    assert [path.name for path in spool.iterdir()] == [writer.folder.name]
    assert collector.stats.n_skipped_bytes == 8
    record(writer, make_span(2, trace=2))
    assert collector.run_once() == 1


def test_a_dead_writers_folder_with_foreign_files_is_left(spool: Path) -> None:
    dead = SpoolWriter(spool / "dead")
    record(dead, make_span(1))
    dead.close()
    (dead.folder / "notes.txt").write_text("mine")
    collector = Collector(spool, RecordingStore())
    assert collector.run_once() == 1
    assert [path.name for path in dead.folder.iterdir()] == ["notes.txt"]
    assert collector.run_once() == 0


def test_a_large_backlog_is_taken_in_rounds(spool: Path, writer: SpoolWriter) -> None:
    record(writer, *(make_span(number, input="x" * 500) for number in range(1, 200)))
    store = RecordingStore()
    assert Collector(spool, store, round_bytes=5000).run_once() == 199


def test_a_span_without_its_payload_says_so(spool: Path, tmp_path: Path) -> None:
    small = SpoolWriter(spool / "small", free_bytes=lambda folder: 0)
    record(small, make_span(1, input="question", output="answer"))
    assert (small.dropped_payloads, small.dropped_records) == (1, 0)
    store = DuckDBSpanStore(tmp_path / "s.duckdb")
    assert Collector(spool, store).run_once() == 1
    payload = store.get_payload(make_span(1).trace_id, make_span(1).span_id)
    assert (payload.input, payload.output, payload.dropped) == (None, None, True)
    small.close()
    store.close()


def test_a_span_that_breaks_the_store_holds_up_no_other(spool: Path, writer: SpoolWriter) -> None:
    store = RecordingStore()
    record(writer, make_span(1), msgspec.structs.replace(make_span(2), name="breaks"), make_span(3))
    collector = Collector(spool, store)
    assert collector.run_once() == 2
    assert sorted(span.name for span in store.spans.values()) == ["span 1", "span 3"]
    assert collector.stats.n_undecodable == 1


def test_when_every_span_breaks_the_store_all_of_them_wait(spool: Path, writer: SpoolWriter) -> None:
    store = RecordingStore()
    record(writer, *(msgspec.structs.replace(make_span(number), name="breaks") for number in (1, 2)))
    collector = Collector(spool, store)
    with pytest.raises(OverflowError):
        collector.run_once()
    assert collector.stats.n_undecodable == 0
    record(writer, make_span(3))
    assert collector.run_once() == 1
