"""The spool keeps what it acknowledged, through kill -9, a full disk and damaged files."""

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.telemetry import segments
from penstock.telemetry.errors import SpoolInUse, SpoolUnavailable
from penstock.telemetry.frames import encode_frame
from penstock.telemetry.segments import FolderLock, list_segments
from penstock.telemetry.spool import SpoolReader, SpoolWriter, open_writer

SCRIPT = Path(__file__).with_name("spool_writer_process.py")


def numbered(count: int, *, start: int = 0) -> list[bytes]:
    return [f"record {number}".encode() for number in range(start, start + count)]


def read_everything(folder: Path) -> list[bytes]:
    reader = SpoolReader(folder)
    found = list(reader)
    return found + reader.read(is_abandoned=True).payloads


@pytest.mark.parametrize("mode", ["durable", "flush"])
def test_everything_acknowledged_is_read_back_after_kill_9(tmp_path: Path, mode: str) -> None:
    for round_number in range(3):
        folder = tmp_path / str(round_number)
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), mode], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5 + 7 * round_number)]
        process.kill()
        lines += process.stdout.readlines()
        process.stdout.close()
        process.wait()
        acknowledged = int([line for line in lines if line.endswith("\n")][-1])
        found = [record.rstrip(b".") for record in read_everything(folder)]
        assert found[:acknowledged] == numbered(acknowledged)
        assert found == numbered(len(found))


def test_flush_makes_all_records_readable_in_order(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "w")
    for record in numbered(1000):
        writer.append(record)
    writer.flush()
    assert list(SpoolReader(tmp_path / "w")) == numbered(1000)
    writer.close()


def test_sync_each_makes_a_record_durable_before_append_returns(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "w", sync="each")
    for count, record in enumerate(numbered(5), start=1):
        writer.append(record)
        assert len(list(SpoolReader(tmp_path / "w"))) == count
    writer.close()


def test_records_of_many_threads_all_arrive(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "w")

    def work(name: int) -> None:
        for number in range(50):
            writer.append_durable([f"{name}-{number}".encode()])
            writer.append(f"{name}-{number}-plain".encode())

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    found = read_everything(tmp_path / "w")
    assert len(found) == len(set(found)) == 400


def test_segments_roll_and_acknowledged_ones_are_removed(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "w", segment_bytes=500)
    records = [record.ljust(100, b".") for record in numbered(20)]
    for record in records:
        writer.append(record)
        writer.flush()
    assert len(list_segments(tmp_path / "w")) > 3
    reader = SpoolReader(tmp_path / "w")
    batch = reader.read()
    assert batch.payloads == records
    reader.ack(batch.position)
    assert len(list_segments(tmp_path / "w")) == 1
    writer.append(b"later")
    writer.flush()
    assert SpoolReader(tmp_path / "w").read().payloads == [b"later"]
    writer.close()


def test_a_reader_begins_where_the_last_one_acknowledged(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "w", segment_bytes=300)
    for record in numbered(40):
        writer.append(record)
        writer.flush()
    reader = SpoolReader(tmp_path / "w")
    first = reader.read(max_bytes=100)
    reader.ack(first.position)
    reader.read(max_bytes=100)  # read, never acknowledged
    rest = list(SpoolReader(tmp_path / "w"))
    assert first.payloads + rest == numbered(40)
    assert 0 < len(first.payloads) < 40
    writer.close()


def test_a_damaged_position_file_means_reading_again_not_losing(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "w")
    writer.append_durable(numbered(3))
    reader = SpoolReader(tmp_path / "w")
    reader.ack(reader.read().position)
    (tmp_path / "w" / "reader.json").write_text('{"segment": ')
    assert list(SpoolReader(tmp_path / "w")) == numbered(3)
    writer.close()


def test_a_restarted_writer_continues_in_a_new_segment(tmp_path: Path) -> None:
    for start in (0, 3, 6):
        writer = SpoolWriter(tmp_path / "w")
        writer.append_durable(numbered(3, start=start))
        writer.close()
    assert list(SpoolReader(tmp_path / "w")) == numbered(9)


def test_a_corrupt_end_of_the_last_segment_is_stepped_over(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "w")
    writer.append_durable(numbered(5))
    writer.close()
    path = list_segments(tmp_path / "w")[-1][1]
    path.write_bytes(path.read_bytes() + encode_frame(b"torn")[:-2])
    writer = SpoolWriter(tmp_path / "w")
    writer.append_durable(numbered(5, start=5))
    reader = SpoolReader(tmp_path / "w")
    assert list(reader) == numbered(10)
    assert reader.skipped_bytes > 0
    writer.close()


def test_a_wrong_checksum_in_a_living_segment_is_skipped_at_the_second_look(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "w")
    writer.append_durable([b"one", b"two", b"three"])
    path = list_segments(tmp_path / "w")[-1][1]
    path.write_bytes(path.read_bytes().replace(b"two", b"tWo"))
    reader = SpoolReader(tmp_path / "w")
    assert reader.read().payloads == [b"one"]
    assert reader.read().payloads == [b"three"]
    writer.close()


def test_two_writers_never_share_a_folder(tmp_path: Path) -> None:
    first = SpoolWriter(tmp_path / "w")
    with pytest.raises(SpoolInUse) as caught:
        SpoolWriter(tmp_path / "w")
    assert caught.value.hint
    first.close()
    SpoolWriter(tmp_path / "w").close()
    one, two = open_writer(tmp_path, "gateway"), open_writer(tmp_path, "gateway")
    assert one.folder != two.folder
    one.close()
    two.close()


def test_a_writer_whose_folder_is_removed_under_its_feet_makes_it_again(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    folder.mkdir()
    lock = FolderLock.take(folder)
    assert lock is not None
    remover = threading.Timer(0.05, lambda: ((folder / "writer.lock").unlink(), folder.rmdir(), lock.close()))
    remover.start()
    writer = SpoolWriter(folder)
    remover.join()
    writer.append_durable([b"here"])
    assert list(SpoolReader(folder)) == [b"here"]
    writer.close()


def fail_writes_over(limit: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make the disk take no write of more than `limit` bytes, half of the larger ones; return a cure."""
    real = os.write

    def write(descriptor: int, data: Any) -> int:
        if len(data) > limit:
            if limit and len(data) > limit * 2:
                return real(descriptor, bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    monkeypatch.setattr(segments.os, "write", write)
    return lambda: monkeypatch.setattr(segments.os, "write", real)


def test_a_full_disk_drops_payloads_first_and_counts_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SpoolWriter(tmp_path / "w")
    writer.append_durable([b"before"])
    cure = fail_writes_over(200, monkeypatch)
    for number in range(10):
        writer.append(f"full {number}".encode().ljust(1000, b"."), f"slim {number}".encode())
    writer.append(b"no slim form".ljust(1000, b"."))
    writer.flush()
    assert (writer.dropped_payloads, writer.dropped_records) == (10, 1)
    with pytest.raises(SpoolUnavailable):
        writer.append_durable([b"awaited".ljust(1000, b".")])
    cure()
    writer.append_durable([b"after"])
    writer.close()
    assert list(SpoolReader(tmp_path / "w")) == [
        b"before",
        *(f"slim {number}".encode() for number in range(10)),
        b"after",
    ]


def test_a_disk_that_takes_nothing_drops_records_and_the_writer_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SpoolWriter(tmp_path / "w")
    cure = fail_writes_over(0, monkeypatch)
    writer.append(b"full", lambda: b"slim")
    writer.flush()
    assert (writer.dropped_payloads, writer.dropped_records) == (0, 1)
    cure()
    writer.append(b"after")
    writer.close()
    assert list(SpoolReader(tmp_path / "w")) == [b"after"]


def test_payloads_stop_before_the_disk_is_full(tmp_path: Path) -> None:
    free = [10_000_000]
    writer = SpoolWriter(tmp_path / "w", min_free_bytes=1_000_000, free_bytes=lambda folder: free[0])
    writer.append(b"full one", b"slim one")
    writer.flush()
    free[0] = 999_999
    writer.append(b"full two", b"slim two")
    writer.flush()
    with pytest.raises(SpoolUnavailable):
        writer.append_durable([b"awaited"])
    free[0] = 10_000_000
    writer.append(b"full three", b"slim three")
    writer.close()
    assert list(SpoolReader(tmp_path / "w")) == [b"full one", b"slim two", b"full three"]
    assert writer.dropped_payloads == 1


def test_a_failed_sync_moves_to_a_new_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SpoolWriter(tmp_path / "w")
    writer.append_durable([b"before"])
    failures = [OSError(errno.EIO, "bad block")]
    real = os.fdatasync

    def sync(descriptor: int) -> None:
        if failures:
            raise failures.pop()
        real(descriptor)

    monkeypatch.setattr(segments.os, "fdatasync", sync)
    writer.append(b"during")
    writer.flush()
    writer.close()
    assert list(SpoolReader(tmp_path / "w")) == [b"before", b"during"]
    assert len(list_segments(tmp_path / "w")) == 2
    assert writer.dropped_records == 0


def test_a_slim_form_that_cannot_be_made_does_not_stop_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SpoolWriter(tmp_path / "w")
    cure = fail_writes_over(10, monkeypatch)
    writer.append(b"a record that is too long", lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    writer.flush()
    cure()
    writer.append_durable([b"after"])
    writer.close()
    assert list(SpoolReader(tmp_path / "w")) == [b"after"]
    assert writer.dropped_records == 1


def test_a_closed_writer_counts_what_it_is_still_given(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "w")
    writer.close()
    writer.append(b"late")
    writer.close()
    assert writer.dropped_records == 1
    with pytest.raises(SpoolUnavailable):
        writer.append_durable([b"late"])


def test_who_does_not_wait_hears_once_that_all_records_are_on_disk(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "w")
    heard: list[tuple[object, list[bytes]]] = []
    told = threading.Event()

    def hear(fault: SpoolUnavailable | None) -> None:
        heard.append((fault, list(SpoolReader(tmp_path / "w"))))
        told.set()

    writer.append_then([b"one", b"two"], then=hear)
    assert told.wait(10)
    writer.append_then([], then=hear)
    writer.close()
    assert heard == [(None, [b"one", b"two"])] * 2


def test_who_does_not_wait_hears_what_goes_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SpoolWriter(tmp_path / "w")
    heard: list[SpoolUnavailable | None] = []
    told = threading.Event()

    def hear(fault: SpoolUnavailable | None) -> None:
        heard.append(fault)
        told.set()

    cure = fail_writes_over(0, monkeypatch)
    writer.append_then([b"one", b"two"], then=hear)
    assert told.wait(10)
    cure()
    writer.close()
    writer.append_then([b"late"], then=hear)
    assert [type(fault) for fault in heard] == [SpoolUnavailable] * 2
    with pytest.raises(SpoolUnavailable) as raised:
        writer.append_durable([b"late"])
    assert (str(heard[1]), heard[1].fields) == (str(raised.value), raised.value.fields)  # type: ignore[union-attr]


def test_who_does_not_wait_hears_of_a_fault_of_ours_too(tmp_path: Path) -> None:
    def fail(records: object, position: object) -> None:
        raise RuntimeError("the taker broke")

    writer = SpoolWriter(tmp_path / "w", taker=fail)
    heard: list[SpoolUnavailable | None] = []
    told = threading.Event()

    def hear(fault: SpoolUnavailable | None) -> None:
        heard.append(fault)
        told.set()

    writer.append_then([b"one"], then=hear)
    assert told.wait(10)
    writer.close()
    assert [type(fault) for fault in heard] == [SpoolUnavailable]
