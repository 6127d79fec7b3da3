"""Records of one's own spool are stored from memory while the collector keeps up, and from disk when it does not."""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from penstock.spec.spans import Span
from penstock.telemetry import encode
from penstock.telemetry.encode import encode_span
from penstock.telemetry.spool import SpoolWriter
from penstock.traces import collector as collector_module
from penstock.traces.collector import Collector
from penstock.traces.live_folder import LiveFolder
from tests.fixtures.spans import make_span


class CountingStore:
    """Takes spans; counts how often each came; fails when told to."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], int] = {}
        self.n_failures = 0

    def append(self, spans: Sequence[Span]) -> int:
        if self.n_failures:
            self.n_failures -= 1
            raise OSError(28, "No space left on device")
        new = 0
        for span in spans:
            key = (span.trace_id, span.span_id)
            new += key not in self.seen
            self.seen[key] = self.seen.get(key, 0) + 1
        return new


class Bench:
    def __init__(self, root: Path, *, max_bytes: int) -> None:
        self.root = root
        self.live = LiveFolder(max_bytes=max_bytes)
        self.writer = SpoolWriter(root / "control", taker=self.live.take)
        self.live.watch(self.writer.folder)
        self.store = CountingStore()
        self.collector = Collector(root, self.store, live=self.live)

    def send(self, first: int, last: int) -> None:
        spans = [make_span(number) for number in range(first, last)]
        self.writer.append_durable([encode_span(span) for span in spans], spans)


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    opened: list[Bench] = []

    def make(max_bytes: int = 10**9) -> Bench:
        opened.append(Bench(tmp_path / "spool", max_bytes=max_bytes))
        return opened[-1]

    yield make
    for bench in opened:
        bench.writer.close()


def test_what_is_in_memory_is_not_read_back(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(record: bytes) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(collector_module, "decode_span", fail)
    bench = make_bench()
    bench.send(1, 50)
    assert bench.live.waiting_bytes > 0
    assert bench.collector.run_once() == 49
    assert bench.live.waiting_bytes == 0
    assert bench.collector.run_once() == 0


def test_records_without_a_value_are_decoded(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.writer.append(encode_span(make_span(1)))
    bench.writer.flush()
    assert bench.collector.run_once() == 1


def test_beyond_the_bound_the_rest_waits_on_disk_and_none_is_lost(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_bytes=2000)
    for first in range(1, 1000, 10):
        bench.send(first, first + 10)
    assert bench.live.n_spilled == 1
    assert len(bench.live._groups) < 20
    assert bench.collector.run_once() == 1000
    assert bench.live.waiting_bytes == 0
    bench.send(2000, 2010)  # back in memory
    assert bench.live._groups
    assert bench.collector.run_once() == 10
    assert set(bench.store.seen.values()) == {1}


def test_a_failing_store_is_offered_the_same_again(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.store.n_failures = 2
    bench.send(1, 20)
    stop = threading.Event()
    stop.set()
    for _ in range(3):
        bench.collector.run(stop)
    assert len(bench.store.seen) == 19


def test_what_was_acknowledged_and_not_stored_is_read_by_the_next_process(
    make_bench: Callable[..., Bench], tmp_path: Path
) -> None:
    bench = make_bench()
    bench.send(1, 20)
    assert bench.collector.run_once() == 19
    bench.send(20, 30)
    shutil.copytree(bench.root, tmp_path / "killed")  # as a kill leaves it
    store = CountingStore()
    assert Collector(tmp_path / "killed", store).run_once() == 10
    assert encode.decode_span  # the ordinary way


def test_writing_and_collecting_at_once_loses_and_doubles_nothing(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_bytes=5000)
    stop = threading.Event()
    running = threading.Thread(target=bench.collector.run, args=(stop,), kwargs={"interval_s": 0.001})
    running.start()
    writers = [
        threading.Thread(
            target=lambda start=start: [
                bench.send(first, first + 5) for first in range(start, start + 500, 5)
            ]
        )
        for start in (1, 1001, 2001)
    ]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    running.join()
    assert len(bench.store.seen) == 1500
    assert bench.live.waiting_bytes == 0


def test_what_comes_between_looking_at_the_disk_and_going_back_to_memory_is_not_lost(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(max_bytes=10)
    bench.send(1, 5)
    bench.send(5, 9)
    assert bench.live._is_spilled
    read, found_nothing = bench.live._read_disk, []

    def read_and_be_overtaken(max_bytes: int) -> object:
        batch = read(max_bytes)
        if batch.position is None and not found_nothing:
            found_nothing.append(True)
            bench.send(100, 110)
        return batch

    monkeypatch.setattr(bench.live, "_read_disk", read_and_be_overtaken)
    bench.collector.run_once()
    bench.send(200, 210)
    bench.collector.run_once()
    assert len(bench.store.seen) == 8 + 10 + 10
