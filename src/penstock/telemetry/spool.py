"""The spool: append-only segments between the processes that make spans and the collector.

A writer owns one folder (`flock` on `writer.lock`) and appends to `seg-<n>.log`; a reader follows it and
deletes finished segments it has acknowledged. What `flush` or `append_durable` returned for survives
`kill -9` and power loss. Under a full disk payloads are dropped first and whole records last; both are
counted. The surprise: `append` only puts the record on a list, and one background thread does the framing, the
writing and the `fdatasync`, so a slow disk never holds up a call.
"""

import errno
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from penstock.telemetry.errors import SpoolInUse, SpoolUnavailable
from penstock.telemetry.frames import MAX_RECORD_BYTES, scan_frames
from penstock.telemetry.segments import POSITION_NAME, FolderLock, SegmentAppender, list_segments

SEGMENT_BYTES = 16 * 1024 * 1024
FLUSH_INTERVAL_S = 0.05
FLUSH_BYTES = 256 * 1024
MIN_FREE_BYTES = 64 * 1024 * 1024
MAX_PENDING_BYTES = 64 * 1024 * 1024

Slim = bytes | Callable[[], bytes] | None
"""The same record without its payloads, or how to make it; None means there is no smaller form."""

_ENDED = "the spool's writer thread has ended"
_log = logging.getLogger("penstock.spool")


Settled = Callable[[SpoolUnavailable | None], None]
"""Is told that records are on disk, or why one of them is not. Called from the writer's thread as a rule; must return at
once and must not raise."""


class _Ticket:
    """Somebody waits for a group of records; `error` is set when one of them did not reach the disk."""

    __slots__ = ("done", "error", "then")

    def __init__(self, then: Settled | None = None) -> None:
        self.done = threading.Event()
        self.error: OSError | None = None
        self.then = then

    def settle(self) -> None:
        """Say that there is nothing left to wait for."""
        self.done.set()
        if self.then is not None:
            self.then(self.fault())

    def fault(self) -> SpoolUnavailable | None:
        """Return what those who wait are to be told."""
        if self.error is None:
            return None
        fault = SpoolUnavailable(
            "The spool could not store the records.",
            hint="Free some disk space, then send them again.",
            reason=self.error.strerror,
        )
        fault.__cause__ = self.error
        return fault


Stored = Callable[[], None] | None
"""Is called once the record is on disk, in whichever form; never for one that was lost."""
_Item = tuple[bytes, Slim, _Ticket | None, Stored, Any]


class Handed(msgspec.Struct, frozen=True, gc=False):
    """A record that is on disk, and what its writer had in hand when it wrote it."""

    record: bytes
    value: Any
    """What `append_durable` was given with the record, so that nobody has to decode it again; or None."""


Taker = Callable[[list[Handed], "Position"], None]
"""Is given each group of records once it is on disk, in the order of the file, with the place just behind it. Called
from the writer's thread; must return at once and must not raise."""


class SpoolWriter:
    """Appends records to one folder. Every method may be called from any thread.

    With `sync="batch"` a record is durable after at most `FLUSH_INTERVAL_S` or when `flush` returns; with
    `sync="each"` when `append` returns. Free disk space under `min_free_bytes` makes the writer store the
    slim form of records. Raises `SpoolInUse` when another living writer holds `folder`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sync: Literal["batch", "each"] = "batch",
        min_free_bytes: int = MIN_FREE_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        free_bytes: Callable[[Path], int] | None = None,
        taker: Taker | None = None,
    ) -> None:
        self.folder = folder
        self.dropped_payloads = 0
        """Records that were stored without their payloads."""
        self.dropped_records = 0
        """Records that were lost as a whole."""
        self._sync = sync
        self._taker = taker
        self._min_free_bytes = min_free_bytes
        self._free_bytes = free_bytes or _free_bytes
        self._lock_file = _claim_folder(folder)
        self._segment = SegmentAppender(folder, limit_bytes=segment_bytes)
        self._guard = threading.Lock()
        self._pending: list[_Item] = []
        self._pending_bytes = 0
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._is_closing = False
        self._is_degraded = False
        self._thread = threading.Thread(target=self._run, name="spool-flusher", daemon=True)
        self._thread.start()

    def append(self, payload: bytes, slim: Slim = None, on_stored: Stored = None) -> None:
        """Take one record; it becomes durable as `sync` says. Never raises because of the disk.

        `on_stored` is called from the writer's thread and must return at once.
        """
        self._add_all([(payload, slim, None, on_stored, None)], None)
        if self._sync == "each":
            self.flush()

    def append_durable(self, payloads: Sequence[bytes], values: Sequence[Any] | None = None) -> None:
        """Return once all `payloads` are on disk; raise `SpoolUnavailable` if one of them is not.

        `values` are what the writer's taker is handed with them, one each.
        """
        if not payloads:
            return
        ticket = _Ticket()
        self._add_awaited(payloads, values, ticket)
        self._wait_for(ticket)
        fault = ticket.fault()
        if fault is not None:
            raise fault

    def append_then(
        self, payloads: Sequence[bytes], values: Sequence[Any] | None = None, *, then: Settled
    ) -> None:
        """Take `payloads` as `append_durable` does and return at once; `then` hears when that would have returned."""
        if not payloads:
            then(None)
            return
        ticket = _Ticket(then)
        self._add_awaited(payloads, values, ticket)
        self._hurry.set()
        self._wake.set()
        if not self._thread.is_alive() and not ticket.done.is_set():
            ticket.error = OSError(errno.EIO, _ENDED)
            ticket.settle()

    def _add_awaited(self, payloads: Sequence[bytes], values: Sequence[Any] | None, ticket: _Ticket) -> None:
        items: list[_Item] = [
            (payload, None, ticket, None, value)
            for payload, value in zip(payloads, values or [None] * len(payloads), strict=True)
        ]
        self._add_all(items, ticket)

    def flush(self) -> None:
        """Return once everything appended before is on disk, or counted as dropped."""
        ticket = _Ticket()
        self._add_all([(b"", None, ticket, None, None)], ticket)
        self._wait_for(ticket)

    def close(self) -> None:
        """Flush, stop the background thread, and give the folder up. Safe to call twice."""
        if self._is_closing:
            return
        self._is_closing = True
        self._wake.set()
        self._hurry.set()
        self._thread.join()
        self._segment.close()
        self._lock_file.close()

    def _add_all(self, items: list[_Item], ticket: _Ticket | None) -> None:
        sizes = [len(item[0]) for item in items]
        if self._is_closing or max(sizes) > MAX_RECORD_BYTES:
            self.dropped_records += sum(1 for item in items if item[0])
            if ticket is not None:
                ticket.error = OSError(errno.EFBIG, "a record is too large or the spool is closed")
                ticket.settle()
            return
        with self._guard:
            is_first = not self._pending
            self._pending += items
            self._pending_bytes += sum(sizes)
            waiting = self._pending_bytes
        if is_first:
            self._wake.set()
        if waiting >= FLUSH_BYTES:
            self._hurry.set()
            if waiting > MAX_PENDING_BYTES:
                self._shed()

    def _shed(self) -> None:
        """Bound the memory of a writer whose disk has stalled: keep the slim form of what waits."""
        with self._guard:
            kept: list[_Item] = []
            dropped = 0
            for payload, slim, ticket, on_stored, value in self._pending:
                small = _slim_bytes(slim)
                if small is None and ticket is None:
                    dropped += 1
                    continue
                kept.append((payload if small is None else small, None, ticket, on_stored, value))
                self.dropped_payloads += small is not None
            self._pending = kept
            self._pending_bytes = sum(len(item[0]) for item in kept)
            self.dropped_records += dropped

    def _wait_for(self, ticket: _Ticket) -> None:
        self._hurry.set()
        self._wake.set()
        while not ticket.done.wait(1.0):
            if not self._thread.is_alive() and not ticket.done.is_set():
                ticket.error = OSError(errno.EIO, _ENDED)
                return

    def _run(self) -> None:
        while True:
            self._wake.wait()
            if not self._is_closing:
                self._hurry.wait(FLUSH_INTERVAL_S)
            with self._guard:
                items, self._pending, self._pending_bytes = self._pending, [], 0
                self._wake.clear()
                self._hurry.clear()
            is_last = self._is_closing
            if items:
                try:
                    self._write(items)
                except Exception:  # the edge of this thread: it has to live as long as its writer
                    self._refuse(items)
            if is_last and not self._pending:
                return
            if self._is_closing:
                self._wake.set()

    def _refuse(self, items: list[_Item]) -> None:
        _log.exception("spool group lost", extra={"n_records": len(items)})
        self.dropped_records += sum(1 for payload, _, ticket, _, _ in items if payload and ticket is None)
        for ticket in _tickets(items):
            if not ticket.done.is_set():
                ticket.error = ticket.error or OSError(errno.EIO, "the spool could not write the group")
                ticket.settle()

    def _write(self, items: list[_Item]) -> None:
        try:
            if self._is_disk_low():
                raise OSError(errno.ENOSPC, "less free space than the reserve")
            self._segment.write([item[0] for item in items if item[0]])
            self._note_pressure(None)
            if self._taker is not None:
                self._hand_over([Handed(payload, value) for payload, _, _, _, value in items if payload])
            for _, _, _, on_stored, _ in items:
                if on_stored is not None:
                    on_stored()
        except OSError as error:
            self._note_pressure(error)
            self._write_degraded(items, error)
        for ticket in _tickets(items):
            ticket.settle()

    def _hand_over(self, records: list[Handed]) -> None:
        if self._taker is not None and records:
            self._taker(records, Position(*self._segment.end))

    def _write_degraded(self, items: list[_Item], cause: OSError) -> None:
        """Store what still fits: slim forms for records that have one, refusal for those awaited."""
        for payload, slim, ticket, on_stored, _ in items:
            if not payload:
                continue
            if ticket is not None:
                ticket.error = ticket.error or cause
                continue
            small = _slim_bytes(slim)
            try:
                self._segment.write([payload if small is None else small])
                self.dropped_payloads += small is not None
                self._hand_over([Handed(payload if small is None else small, None)])
            except OSError:
                self.dropped_records += 1
                continue
            if on_stored is not None:
                on_stored()

    def _note_pressure(self, error: OSError | None) -> None:
        if (error is not None) != self._is_degraded:
            self._is_degraded = error is not None
            if error is not None:
                _log.warning("spool is short of disk, payloads are dropped", extra={"reason": str(error)})
            else:
                _log.warning("spool has room again", extra={"dropped_payloads": self.dropped_payloads})

    def _is_disk_low(self) -> bool:
        try:
            return self._free_bytes(self.folder) < self._min_free_bytes
        except OSError:
            return False


def open_writer(
    root: Path, name: str, *, sync: Literal["batch", "each"] = "batch", taker: Taker | None = None
) -> SpoolWriter:
    """Return a writer in a fresh folder of its own below `root`, such as `gateway-1234-5f0c`."""
    return SpoolWriter(root / f"{name}-{os.getpid()}-{secrets.token_hex(2)}", sync=sync, taker=taker)


@dataclass(frozen=True, order=True)
class Position:
    """A place in a spool folder: just behind a record."""

    segment: int
    offset: int


@dataclass(frozen=True)
class Batch:
    """Records in the order they were written, and the position to acknowledge once they are safe."""

    payloads: list[bytes]
    position: Position


class SpoolReader:
    """Follows one spool folder from the position last acknowledged. One reader a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.skipped_bytes = 0
        """Damaged bytes that were passed over."""
        self._saved = folder / POSITION_NAME
        self._position = self._load()
        self._suspect: Position | None = None

    def read(self, *, max_bytes: int = 8 * 1024 * 1024, is_abandoned: bool = False) -> Batch:
        """Return the next records, about `max_bytes` at most; an empty batch when there are none now.

        `is_abandoned` says that no writer will ever complete a torn tail.
        """
        payloads: list[bytes] = []
        left = max_bytes
        segments = [item for item in list_segments(self.folder) if item[0] >= self._position.segment]
        for index, (number, path) in enumerate(segments):
            if left <= 0:
                break
            is_final = is_abandoned or index + 1 < len(segments)
            start = self._position.offset if number == self._position.segment else 0
            found, end = self._read_segment(path, Position(number, start), is_final=is_final, max_bytes=left)
            payloads += found
            left -= sum(map(len, found))
            self._position = end
            if not is_final or left <= 0:
                break
        return Batch(payloads, self._position)

    def __iter__(self) -> Iterator[bytes]:
        """Yield every record that can be read now, without acknowledging any."""
        while batch := self.read().payloads:
            yield from batch

    def ack(self, position: Position) -> None:
        """Remember `position` and delete the segments before it."""
        self._position = max(self._position, position)
        part = self._saved.with_name(f"{POSITION_NAME}.part")
        part.write_text(json.dumps({"segment": position.segment, "offset": position.offset}))
        part.replace(self._saved)
        for number, path in list_segments(self.folder):
            if number < position.segment:
                path.unlink(missing_ok=True)

    @property
    def position(self) -> Position:
        """The place up to which was read."""
        return self._position

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes lie behind that place."""
        size = 0
        for number, path in list_segments(self.folder):
            if number >= self._position.segment:
                size += path.stat().st_size
                if number == self._position.segment:
                    size -= self._position.offset
        return max(0, size)

    def rewind(self) -> None:
        """Go back to the position last acknowledged."""
        self._position = self._load()

    def _read_segment(
        self, path: Path, start: Position, *, is_final: bool, max_bytes: int
    ) -> tuple[list[bytes], Position]:
        with path.open("rb") as file:
            file.seek(start.offset)
            data = file.read()
        scan = scan_frames(
            data,
            base=start.offset,
            is_final=is_final,
            skip_damage=self._suspect == start,
            max_bytes=max_bytes,
        )
        self.skipped_bytes += scan.skipped_bytes
        end = Position(start.segment, scan.next_offset)
        # A wrong checksum in a growing segment is believed only when it is still there at the next look.
        self._suspect = end if scan.is_suspect else None
        return [frame.payload for frame in scan.frames], end

    def _load(self) -> Position:
        try:
            saved = json.loads(self._saved.read_text())
            return Position(int(saved["segment"]), int(saved["offset"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return Position(0, 0)  # reading again what was stored before changes nothing


def _claim_folder(folder: Path) -> FolderLock:
    for _ in range(200):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock.take(folder)
        if lock is not None:
            return lock
        time.sleep(0.005)  # a collector holds it for the moment it needs to remove the folder
    raise SpoolInUse(
        f"Another process writes to the spool folder {folder}.", hint="Give each its own folder."
    )


def _tickets(items: Sequence[_Item]) -> list[_Ticket]:
    """Return whoever waits for one of `items`, each once."""
    return [ticket for ticket in dict.fromkeys([item[2] for item in items]) if ticket is not None]


def _slim_bytes(slim: Slim) -> bytes | None:
    return slim() if callable(slim) else slim


def _free_bytes(folder: Path) -> int:
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize
