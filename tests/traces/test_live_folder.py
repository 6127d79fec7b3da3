"""Records of one's own spool are stored from memory while the collector keeps up, and from disk when it does not."""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from penstock.spec.spans import Span
from penstock.telemetry import encode
from penstock.telemetry.encode import encode_span
from penstock.telemetry.spool import Handed, Position, SpoolWriter
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


def test_a_round_takes_no_more_spans_than_asked_and_leaves_the_rest_for_the_next(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    sizes: list[int] = []
    bench.collector = Collector(
        bench.root, bench.store, live=bench.live, round_spans=8, taps=[lambda spans: sizes.append(len(spans))]
    )
    bench.send(1, 13)
    bench.send(13, 18)
    assert bench.collector.run_once() == 17
    assert sizes == [8, 8, 1]
    assert bench.live.waiting_bytes == 0
    assert set(bench.store.seen.values()) == {1}


def test_a_kill_between_two_rounds_of_one_group_loses_nothing(
    make_bench: Callable[..., Bench], tmp_path: Path
) -> None:
    bench = make_bench()
    bench.send(1, 5)
    bench.send(5, 17)
    batch = bench.live.read(max_bytes=10**9, max_items=8)
    assert [len(batch.items), batch.position is not None] == [8, True]  # the first four can be acknowledged
    bench.live.ack(batch)
    batch = bench.live.read(max_bytes=10**9, max_items=4)
    assert batch.position is None
    bench.live.ack(batch)
    shutil.copytree(bench.root, tmp_path / "killed")
    store = CountingStore()
    assert Collector(tmp_path / "killed", store).run_once() == 12  # what was stored of them is known there
    assert len(bench.live.read(max_bytes=10**9, max_items=8).items) == 4
    bench.live.rewind()
    assert bench.collector.run_once() == 4


def test_a_round_that_will_soon_be_full_is_waited_for(tmp_path: Path) -> None:
    now = [100.0]
    live = LiveFolder(clock=lambda: now[0])
    live.watch(tmp_path)

    def take(n: int) -> None:
        live.take([Handed(b"{}", None)] * n, Position(0, 0))

    def wait_s() -> float | None:
        return live.fill_wait_s(1000, within_s=0.75)

    assert wait_s() is None  # nothing waits
    take(200)
    now[0] += 0.1
    assert wait_s() == pytest.approx(0.4)  # two hundred in 0.1 s: a thousand in 0.5 s
    now[0] += 0.1
    assert wait_s() is None  # it would take a second
    take(600)
    assert wait_s() == pytest.approx(0.05)
    take(200)
    assert wait_s() is None  # it is full
    assert len(live.read(max_bytes=10**9, max_items=1000).items) == 1000
    live.rewind()
    assert wait_s() is None
    live.read(max_bytes=10**9, max_items=500)
    now[0] += 0.1
    assert wait_s() == pytest.approx(0.1)  # time begins anew with each round
    now[0] += 0.7
    assert wait_s() is None  # what has waited long enough is stored


def test_the_collector_leaves_a_filling_round_and_stores_it_when_asked_plainly(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    now = [0.0]
    bench.live._clock = lambda: now[0]
    bench.collector = Collector(bench.root, bench.store, live=bench.live, round_spans=100)
    bench.send(1, 60)
    now[0] += 0.1
    assert bench.collector.run_once(fills_rounds=True) == 0
    now[0] += 10
    assert bench.collector.run_once(fills_rounds=True) == 59
    bench.send(100, 160)
    assert bench.collector.run_once(fills_rounds=True) == 0
    assert bench.collector.run_once() == 60


def test_what_could_not_be_stored_is_given_back_in_its_order_and_tried_without_waiting(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    bench.live._clock = lambda: 5.0
    for first in (1, 21, 41):
        bench.send(first, first + 20)
    before = bench.live.read(max_bytes=10**9, max_items=50).items
    bench.live.rewind()
    assert bench.live.fill_wait_s(100, within_s=0.75) is None
    assert [item.record for item in bench.live.read(max_bytes=10**9, max_items=50).items] == [
        item.record for item in before
    ]
    bench.live.rewind()


def test_senders_wait_for_room_until_something_is_stored(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_bytes=2000)
    bench.collector.wait_for_room(600)  # there is room
    bench.send(1, 10)
    assert 1000 < bench.live.waiting_bytes < 2000
    bench.collector.wait_for_room(0.01)  # not longer than they are told
    waiting = threading.Thread(target=bench.collector.wait_for_room, args=(600,))
    waiting.start()
    assert bench.collector.run_once() == 9
    waiting.join(timeout=120)
    assert not waiting.is_alive()


def test_senders_do_not_wait_while_the_rest_lies_on_disk(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_bytes=2000)
    for first in range(1, 100, 10):
        bench.send(first, first + 10)
    assert bench.live.n_spilled == 1
    bench.collector.wait_for_room(600)
