"""A flood costs its senders time: what waits and what is in hand stay bounded, what was acknowledged is stored once."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from penstock.base.errors import TooLarge
from penstock.spec.spans import Span
from penstock.telemetry.counters import IngestCounters
from penstock.telemetry.edge import Edge, SnapshotEdge
from penstock.telemetry.errors import IngestBusy
from penstock.telemetry.otlp import PROTOBUF
from penstock.telemetry.spool import SpoolWriter
from penstock.traces import ingest as ingest_module
from penstock.traces.collector import Collector
from penstock.traces.ingest import IngestService
from penstock.traces.live_folder import LiveFolder
from tests.telemetry.test_otlp import as_protobuf, request_of

MAX_WAITING = 200_000
MAX_LIVE = 50_000


class SlowStore:
    """Takes spans only when it is let."""

    def __init__(self) -> None:
        self.may_go = threading.Event()
        self.seen: dict[str, int] = {}

    def append(self, spans: Sequence[Span]) -> int:
        self.may_go.wait(120)
        for span in spans:
            self.seen[span.span_id] = self.seen.get(span.span_id, 0) + 1
        return len(spans)


class Bench:
    def __init__(self, root: Path) -> None:
        self.store = SlowStore()
        self.live = LiveFolder(max_bytes=MAX_LIVE)
        self.writer = SpoolWriter(root / "spool" / "control", taker=self.live.take)
        self.live.watch(self.writer.folder)
        self.collector = Collector(root / "spool", self.store, live=self.live)
        self.counters = IngestCounters()
        self.ingest = IngestService(
            self.writer,
            self.collector,
            SnapshotEdge(root / "none", Edge()),
            self.counters,
            max_waiting_bytes=MAX_WAITING,
        )

    def send(self, number: int, *, came_s: float | None = None) -> bool:
        body = as_protobuf(request_of({"gen_ai.prompt": "x" * 1000}, spanId=f"{number:016x}"))
        try:
            with self.ingest.reserve() as grow:
                grow(len(body))
                self.ingest.take("traces", body, PROTOBUF, way="http", came_s=came_s)
        except IngestBusy as busy:
            return not 1 <= busy.fields["retry_after_s"] <= 60
        return True


def test_ten_times_more_than_can_be_stored_is_refused_in_time_and_nothing_acknowledged_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_module, "MAX_HOLD_S", 0.001)
    bench = Bench(tmp_path)
    stop = threading.Event()
    collecting = threading.Thread(target=bench.collector.run, args=(stop,), kwargs={"interval_s": 0.001})
    collecting.start()
    taken: list[int] = []
    most_waiting: list[int] = []

    def flood(first: int) -> None:
        for number in range(first, first + 400):
            if bench.send(number):
                taken.append(number)
            most_waiting.append(bench.collector.waiting_bytes)

    senders = [threading.Thread(target=flood, args=(first,)) for first in (1, 1001, 2001, 3001)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    n_refused = 1600 - len(taken)
    assert n_refused > 1000
    assert max(most_waiting) < MAX_WAITING + 4 * 3000  # what four senders had in hand when it was full
    assert bench.live._live_bytes <= MAX_LIVE
    assert bench.counters.get("refused", "more is waiting than may wait") == n_refused
    bench.store.may_go.set()
    while bench.collector.waiting_bytes:
        stop.wait(0.01)
    assert bench.send(9999), "there is room again"
    stop.set()
    collecting.join()
    bench.writer.close()
    assert sorted(bench.store.seen) == sorted(f"{number:016x}" for number in [*taken, 9999])
    assert set(bench.store.seen.values()) == {1}


def test_a_request_is_held_until_there_is_room_and_no_longer_than_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_module, "MAX_HOLD_S", 600.0)
    bench = Bench(tmp_path)
    number = 0
    while bench.live._live_bytes <= MAX_LIVE // 2:  # held from here on
        number += 1
        assert bench.send(number)
    held = threading.Thread(target=bench.send, args=(number + 1,))
    held.start()
    held.join(0.2)
    assert held.is_alive()
    came_s = time.monotonic() - 600.0
    queued = threading.Thread(target=bench.send, args=(number + 2,), kwargs={"came_s": came_s})
    queued.start()
    queued.join(60)
    assert not queued.is_alive(), "it waited that long already, for a thread"
    bench.store.may_go.set()
    bench.collector.run_once()
    held.join(60)
    assert not held.is_alive()
    bench.collector.run_once()
    bench.writer.close()
    assert len(bench.store.seen) == number + 2


def test_requests_take_their_turn_once_much_is_in_hand_however_small_they_are(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with bench.ingest.reserve() as grow:
        grow(ingest_module.CALM_BYTES)
        assert bench.ingest.is_calm
        grow(1)
        assert not bench.ingest.is_calm, "the disk may have stalled: spans of thousands would lie in memory"
    assert bench.ingest.is_calm
    bench.writer.close()


def test_a_request_that_is_too_large_for_ever_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_module, "MAX_REQUEST_BYTES", 100)
    bench = Bench(tmp_path)
    with bench.ingest.reserve() as grow:
        grow(60)
        with pytest.raises(TooLarge):
            grow(60)
    assert bench.ingest._in_hand_bytes == 0
    bench.writer.close()


def test_the_time_to_wait_follows_how_fast_it_becomes_less(tmp_path: Path) -> None:
    class Behind:
        waiting_bytes = 100_000_000

    now = [0.0]
    bench = Bench(tmp_path)
    service = IngestService(
        bench.writer,
        Behind(),  # type: ignore[arg-type]
        SnapshotEdge(tmp_path / "none", Edge()),
        IngestCounters(),
        max_waiting_bytes=10_000_000,
        clock=lambda: now[0],
    )

    def wait() -> int:
        with pytest.raises(IngestBusy) as caught:
            service.check_room()
        return int(caught.value.fields["retry_after_s"])

    wait()
    now[0], Behind.waiting_bytes = 2.0, 90_000_000
    wait()
    now[0], Behind.waiting_bytes = 4.0, 70_000_000  # ten million a second
    assert wait() == 7
    bench.writer.close()
