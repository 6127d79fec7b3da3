"""What waits for the collector: nothing of it is lost to a moment without descriptors, nothing waits behind one bad batch."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import penstock
from penstock.sdk.sender import Sender
from penstock.sdk.settings import SdkSettings
from penstock.sdk.spill import Batch, DiskSpill, Gone, MemorySpill
from penstock.sdk.transport import Answer, HttpTransport
from penstock.sdk.troubles import MAX_TRIES, Troubles
from tests.sdk.conftest import Collector, setup

AWAY = (503, b"")
FAILED = (500, b"")
TAKEN = (200, b"{}")


def batch(*texts: str) -> Batch:
    return Batch(
        kind="scores", resource=msgspec.Raw(b"{}"), parts=[json.dumps(text).encode() for text in texts]
    )


def leave(*names: str) -> None:
    for name in names:
        with penstock.span(name):
            pass


def names_of(collector: Collector) -> set[str]:
    return {span.name for span in collector.spans}


def test_batches_that_cannot_be_read_for_a_moment_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spill = DiskSpill(tmp_path, 1 << 20)
    assert all(spill.put(batch(text)) for text in "abc")

    def fail(path: Path) -> bytes:
        raise OSError(24, "Too many open files", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        assert spill.first() is None
    assert (spill.n_records, spill.take_gone(), len(list(tmp_path.iterdir()))) == (3, Gone(), 3)
    found = spill.first()
    assert found is not None
    assert found.parts == [b'"a"']


def test_one_file_that_cannot_be_read_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spill = DiskSpill(tmp_path, 1 << 20)
    spill.put(batch("a"))
    spill.put(batch("b"))
    first = spill.first()
    assert first is not None
    read = Path.read_bytes

    def fail(path: Path) -> bytes:
        if path.name == first.name:
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", fail)
    second = spill.first()
    assert second is not None
    assert second.parts == [b'"b"']


def test_records_of_a_damaged_file_count_as_dropped(collector: Collector, spilling: Path) -> None:
    collector.answer = lambda path, body: AWAY
    leave("a", "b")
    assert penstock.flush().spilled == 2
    (path,) = [path for path in spilling.rglob("*") if path.is_file()]
    path.write_bytes(b"\x00garbage")
    collector.answer = lambda path, body: TAKEN
    delivery = penstock.flush()
    assert (delivery.dropped, delivery.pending, delivery.spilled) == (2, 0, 0)


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_batch_over_which_the_collector_stumbles_holds_up_no_other(
    collector: Collector, spilling: Path, in_memory: bool
) -> None:
    if in_memory:
        setup(collector)
    collector.answer = lambda path, body: FAILED if b"poison" in body else TAKEN
    leave("poison")
    penstock.flush()
    for number in range(4):
        leave(f"good{number}")
        penstock.flush()
    assert names_of(collector) == {f"good{number}" for number in range(4)}
    delivery = penstock.flush()
    assert (delivery.sent, delivery.pending, delivery.failed) == (4, 1, 0)


def test_a_batch_left_by_an_earlier_process_holds_up_no_other(collector: Collector, spilling: Path) -> None:
    collector.answer = lambda path, body: FAILED
    leave("poison")
    penstock.flush()
    leave("good")
    penstock.flush()
    penstock.shutdown()
    collector.answer = lambda path, body: FAILED if b"poison" in body else TAKEN
    setup(collector, spill=spilling)
    leave("new")
    penstock.flush()
    penstock.flush()
    assert names_of(collector) == {"good", "new"}


class Scripted:
    """Takes all bodies but those that hold a word; keeps what was taken."""

    def __init__(self, word: bytes, answer: Answer) -> None:
        self.word, self.answer = word, answer
        self.taken: list[bytes] = []
        self.n_tried = 0

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        self.n_tried += 1
        if self.word in body:
            return self.answer
        self.taken.append(body)
        return Answer("accepted")

    def close(self) -> None:
        pass


def make_sender(link: Scripted, clock: Callable[[], float]) -> tuple[Sender, MemorySpill]:
    spill = MemorySpill(1 << 20)
    return Sender(SdkSettings(), spill, lambda _: link, clock), spill


@pytest.mark.parametrize("is_asked", [False, True])
def test_of_a_batch_that_fails_for_long_while_others_pass_only_the_bad_record_is_given_up(
    is_asked: bool,
) -> None:
    now = itertools.count(0.0, 1.0)
    link = Scripted(b"poison", Answer("away", reason="HTTP 500", is_there=True))
    sender, spill = make_sender(link, lambda: next(now))
    spill.put(batch("one", "poison", "three", "four"))
    for number in range(6000):
        if spill.n_records == 0:
            break
        if number % 5 == 0:
            spill.put(batch(f"other{number}"))
        sender.deliver_rest(is_asked=is_asked, is_busy=lambda: False)
    taken = b"".join(link.taken)
    assert [word in taken for word in (b"one", b"three", b"four", b"poison")] == [True, True, True, False]
    assert (sender.n_failed, sender.n_dropped, spill.n_records) == (1, 0, 0)


def test_while_the_collector_takes_nothing_no_batch_is_given_up() -> None:
    now = itertools.count(0.0, 1.0)
    link = Scripted(b"", Answer("away", reason="HTTP 500", is_there=True))
    sender, spill = make_sender(link, lambda: next(now))
    for number in range(5):
        spill.put(batch(str(number)))
    for _ in range(500):
        sender.deliver_rest(is_asked=True, is_busy=lambda: False)
    assert (sender.n_failed, sender.n_dropped, spill.n_records) == (0, 0, 5)


def test_a_collector_that_asks_to_wait_blames_no_batch() -> None:
    now = itertools.count(0.0, 400.0)
    link = Scripted(b"slow", Answer("away", reason="HTTP 429"))
    sender, spill = make_sender(link, lambda: next(now))
    spill.put(batch("slow"))
    for number in range(50):
        spill.put(batch(f"other{number}"))
        sender.deliver_rest(is_asked=False, is_busy=lambda: False)
    assert (sender.n_failed, spill.n_records) == (0, 1)


@pytest.mark.parametrize(("asked_s", "waited_s"), [(60.0, 60.0), (100_000.0, 300.0)])
def test_a_collector_that_names_a_time_is_left_alone_so_long(asked_s: float, waited_s: float) -> None:
    now = [1000.0]
    link = Scripted(b"", Answer("away", reason="HTTP 503", retry_after_s=asked_s, is_there=True))
    sender, spill = make_sender(link, lambda: now[0])
    spill.put(batch("one"))

    def try_again() -> int:
        before = link.n_tried
        sender.deliver_rest(is_asked=False, is_busy=lambda: False)
        return link.n_tried - before

    assert try_again() > 0
    assert sender.pause_s == waited_s
    now[0] += waited_s - 0.5
    assert try_again() == 0
    now[0] += 1.0
    assert try_again() > 0
    assert spill.n_records == 1


def test_where_nobody_is_there_one_batch_is_tried_and_the_rest_left() -> None:
    link = Scripted(b"", Answer("away", reason="refused"))
    sender, spill = make_sender(link, lambda: 0.0)
    for number in range(5):
        spill.put(batch(str(number)))
    sender.deliver_rest(is_asked=True, is_busy=lambda: False)
    assert link.n_tried == 1
    assert sender.wait_s > 0


def test_what_cannot_be_read_just_now_is_looked_at_again_in_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spill = DiskSpill(tmp_path, 1 << 20)
    spill.put(batch("a"))
    sender = Sender(SdkSettings(), spill, lambda _: Scripted(b"no", Answer("away")), lambda: 100.0)

    def fail(path: Path) -> bytes:
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        sender.deliver_rest(is_asked=False, is_busy=lambda: False)
        assert sender.has_rest
        assert sender.wait_s == 5.0, "no thread that spins"
    sender.deliver_rest(is_asked=False, is_busy=lambda: False)
    assert (sender.n_sent, spill.n_records) == (1, 0)


def test_a_connection_that_breaks_over_a_body_is_told_from_one_that_never_was(collector: Collector) -> None:
    def broken(path: str, body: bytes) -> tuple[int, bytes]:
        raise ConnectionResetError

    collector.answer = broken
    settings = SdkSettings(url=collector.url, key="k")
    assert HttpTransport(settings).post("/v1/traces", b"{}", {}).is_there
    assert not HttpTransport(SdkSettings(url="http://127.0.0.1:9", key="k")).post("/", b"{}", {}).is_there


def test_a_batch_is_blamed_only_for_failures_while_others_pass() -> None:
    troubles = Troubles()
    for second in range(50):
        assert not troubles.note("a", second * 400.0, is_at_fault=True)
    for second in range(50, 50 + MAX_TRIES):
        troubles.n_passed += 1
        is_over = troubles.note("a", second * 400.0, is_at_fault=True)
    assert is_over
