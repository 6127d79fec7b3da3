"""Spans and log events from outside: taken by whatever way, acknowledged once they are on disk, refused in time.

Between acknowledging and storing only so much may wait, and only so much may be in hand at once; beyond it senders are
told when to come again, so that a flood costs them time and us no memory.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from penstock.base.errors import TooLarge
from penstock.spec.spans import Span
from penstock.telemetry.counters import CollectorHealth, ForwardHealth, IngestCounters, RecordHealth
from penstock.telemetry.edge import Edge, SnapshotEdge
from penstock.telemetry.errors import IngestBusy, SpoolUnavailable
from penstock.telemetry.mapping_table import load_table
from penstock.telemetry.otlp import OtlpBatch, Signal, decode_otlp_batch
from penstock.telemetry.otlp_logs import decode_otlp_logs
from penstock.telemetry.otlp_metrics import decode_otlp_metrics

MAX_REQUEST_BYTES = 32 * 1024 * 1024
MAX_IN_HAND_BYTES = 96 * 1024 * 1024
MAX_WAITING_BYTES = 512 * 1024 * 1024
MAX_RETRY_S = 60
MAX_HOLD_S = 1.0
"""How long a request is held at most while storing falls behind, counted from when it came: those held have few threads, and
others wait for these."""
CALM_BYTES = 8 * 1024 * 1024
"""Up to so much waiting nobody is held, and up to so much in hand small requests need no thread."""
_DECODERS: dict[Signal, "Decoder"] = {
    "traces": decode_otlp_batch,
    "logs": decode_otlp_logs,
    "metrics": decode_otlp_metrics,
}


class Decoder(Protocol):
    """Makes spans of the body of a request."""

    def __call__(self, body: bytes, content_type: str, *, project: str, key_id: str | None) -> OtlpBatch:
        """Return what the body brings; raise `MalformedTelemetry`."""
        ...


class DurableSpool(Protocol):
    """Where records are put before they are acknowledged."""

    dropped_payloads: int
    dropped_records: int

    def append_durable(self, payloads: Sequence[bytes], values: Sequence[Any] | None = None) -> None:
        """Return once all are on disk; raise `SpoolUnavailable`."""
        ...

    def append_then(
        self,
        payloads: Sequence[bytes],
        values: Sequence[Any] | None = None,
        *,
        then: Callable[[SpoolUnavailable | None], None],
    ) -> None:
        """Return at once; call `then`, from whichever thread, once all are on disk or one of them will not be."""
        ...


class StoringSide(Protocol):
    """The collector, as far as senders have to do with it."""

    @property
    def waiting_bytes(self) -> int:
        """Acknowledged and not stored."""
        ...

    @property
    def stats(self) -> CollectorHealth:
        """How storing goes."""
        ...

    def wait_for_room(self, timeout_s: float) -> None:
        """Return once the next request can be stored soon, or the time is up."""
        ...


class IngestService:
    """Takes requests in. Every method may be called from any thread."""

    def __init__(
        self,
        spool: DurableSpool,
        collector: StoringSide,
        edge: SnapshotEdge,
        counters: IngestCounters,
        *,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        max_in_hand_bytes: int = MAX_IN_HAND_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = counters
        self.grpc_address: str | None = None
        self.grpc_problem: str | None = None
        self.list_forwards: Callable[[], tuple[ForwardHealth, ...]] = tuple
        """How sending on goes; set by whoever starts it."""
        self._spool = spool
        self._collector = collector
        self._edge = edge
        self._max_waiting_bytes = max_waiting_bytes
        self._max_in_hand_bytes = max_in_hand_bytes
        self._clock = clock
        self._guard = threading.Lock()
        self._decoding = threading.Semaphore(2)
        self._in_hand_bytes = 0
        self._pace = (clock(), 0)
        self._bytes_per_s = 0.0

    @contextmanager
    def reserve(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that takes room for more bytes of one request, and give all of it back at the end.

        The function raises `IngestBusy` where there is no room now, `TooLarge` where there never will be.
        """
        held = 0

        def grow(n_bytes: int) -> None:
            nonlocal held
            if held + n_bytes > MAX_REQUEST_BYTES:
                self.counters.add("refused", "larger than a request may be")
                raise TooLarge(
                    f"An export may have at most {MAX_REQUEST_BYTES >> 20} MiB, inflated.",
                    hint="Send smaller batches.",
                )
            with self._guard:
                has_room = self._in_hand_bytes + n_bytes <= self._max_in_hand_bytes
                if has_room:
                    self._in_hand_bytes += n_bytes
                    held += n_bytes
            if not has_room:
                raise self._busy("too much is being read at once", 1)

        self.check_room()
        try:
            yield grow
        finally:
            with self._guard:
                self._in_hand_bytes -= held

    def check_room(self) -> None:
        """Raise `IngestBusy`, with the seconds after which to come again, while too much waits to be stored."""
        waiting = self._collector.waiting_bytes
        self._note_pace(waiting)
        over = waiting - self._max_waiting_bytes
        if over >= 0:
            pace = max(self._bytes_per_s, 1024 * 1024)
            raise self._busy("more is waiting than may wait", 1 + math.ceil(over / pace))

    def _busy(self, reason: str, wait_s: float) -> IngestBusy:
        self.counters.add("refused", reason)
        return IngestBusy(
            "Spans come faster than they can be stored.",
            hint="Send them again after the time that Retry-After names; nothing of this request was taken.",
            retry_after_s=max(1, min(MAX_RETRY_S, math.ceil(wait_s))),
        )

    def _note_pace(self, waiting: int) -> None:
        """Follow how fast what waits becomes less, for telling senders how long to wait."""
        now = self._clock()
        since, before = self._pace
        if now - since >= 1.0:
            self._bytes_per_s = max(0.0, (before - waiting) / (now - since))
            self._pace = (now, waiting)

    def take(
        self,
        signal: Signal,
        body: bytes,
        content_type: str,
        *,
        way: str,
        key_id: str | None = None,
        project: str = "default",
        came_s: float | None = None,
    ) -> OtlpBatch:
        """Decode a request, mask it, and return once what it brings is on disk.

        Spans belong to the project of the key that sends them. Waits a moment first while storing falls behind, so that
        what is acknowledged can soon be found; a request that came at `came_s` (of the clock) and has waited for a thread
        since has waited that long already. Raises `MalformedTelemetry` and `SpoolUnavailable`.
        """
        hold_s = MAX_HOLD_S if came_s is None else came_s + MAX_HOLD_S - self._clock()
        if hold_s > 0:
            self._collector.wait_for_room(hold_s)
        with self._decoding:  # more at once would only share the same core and hold more memory
            batch, records = self._decode(signal, body, content_type, key_id, project)
        try:
            self._spool.append_durable(records, batch.spans)
        except SpoolUnavailable as fault:
            self.finish(batch, fault, way=way)
        self.finish(batch, None, way=way)
        return batch

    @property
    def is_calm(self) -> bool:
        """Whether `take` would hold nobody and little is in hand, so that `begin` may be used.

        What `begin` takes is held as spans until the disk has it, up to forty times what was sent.
        """
        return max(self._in_hand_bytes, self._collector.waiting_bytes) <= CALM_BYTES

    def begin(
        self,
        signal: Signal,
        body: bytes,
        content_type: str,
        *,
        then: Callable[[SpoolUnavailable | None], None],
        key_id: str | None = None,
        project: str = "default",
    ) -> OtlpBatch:
        """Decode a small request and mask it, as `take` does, and return before what it brings is on disk.

        `then` is called once it is, or with the reason why it is not, and from another thread; whoever hears it calls
        `finish` before answering. For loops that must not wait: two threads to hand a request to take longer than five
        spans do. Raises `MalformedTelemetry`.
        """
        batch, records = self._decode(signal, body, content_type, key_id, project)
        self._spool.append_then(records, batch.spans, then=then)
        return batch

    def finish(self, batch: OtlpBatch, fault: SpoolUnavailable | None, *, way: str) -> None:
        """Count what became of a request; raise `fault` if there is one."""
        if fault is not None:
            self.counters.add("refused", "the disk did not take it")
            raise fault
        self._count(batch, way)

    def _decode(
        self, signal: Signal, body: bytes, content_type: str, key_id: str | None, project: str
    ) -> tuple[OtlpBatch, list[bytes]]:
        """Return what a request brings as it may be kept, with its records."""
        try:
            batch = _DECODERS[signal](body, content_type, project=project, key_id=key_id)
        except Exception:
            self.counters.add("refused", f"{signal} that are not OTLP")
            raise
        batch.spans, records = self._admit(self._edge.refresh(), batch.spans)
        return batch, records

    def store(self, spans: Sequence[Span]) -> None:
        """Take spans that are decoded already, such as scores; raise `SpoolUnavailable`."""
        edge = self._edge.refresh()
        kept, records = self._admit(edge, spans)
        self._spool.append_durable(records, kept)
        self.counters.add("taken", "scores", len(kept))

    def _admit(self, edge: Edge, spans: Sequence[Span]) -> tuple[list[Span], list[bytes]]:
        kept: list[Span] = []
        records: list[bytes] = []
        for span in spans:
            admitted, record = edge.admit(span)
            if admitted is not span and admitted.payload_dropped and not span.payload_dropped:
                self.counters.add("withheld", span.project)
            kept.append(admitted)
            records.append(record)
        return kept, records

    def _count(self, batch: OtlpBatch, way: str) -> None:
        self.counters.add("taken", f"{batch.signal} {way}", len(batch.spans))
        if batch.is_mended:
            self.counters.add("cut", "characters that are not UTF-8 (requests)")
        if batch.n_rejected:
            self.counters.add("rejected", _plain(batch.reason or "unknown"), batch.n_rejected)
        if batch.unmapped:
            self.counters.add_all("unmapped", batch.unmapped)

    def record_health(self) -> RecordHealth:
        """Return what became of everything that was sent."""
        return RecordHealth(
            since_ns=self.counters.since_ns,
            gaps=self.counters.gaps,
            counts=self.counters.read(),
            mapping_version=load_table().version,
            collector=self._collector.stats,
            forwards=self.list_forwards(),
            spool_dropped_payloads=self._spool.dropped_payloads,
            spool_dropped_records=self._spool.dropped_records,
            grpc_address=self.grpc_address,
            grpc_problem=self.grpc_problem,
        )


def _plain(reason: str) -> str:
    """Return a reason without the name of what it was about, so that the same ones are counted together."""
    return reason.rpartition(": ")[2]
