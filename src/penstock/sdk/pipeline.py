"""From an ended span to an acknowledgement: a bounded queue, one worker thread, and the count of what became of it.

`add` is all that the program's own threads ever do here: a look at the bound and an append, no waiting, no encoding. It may
be called from anywhere, from `__del__` and signal handlers too, which is why the queue is a `deque` and the wake-up a
`SimpleQueue`: both bear being entered again in the middle of themselves.
"""

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable

from opentelemetry import context as otel
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from penstock.sdk.delivery import Delivery
from penstock.sdk.records import SPAN_BYTES, Record, SpanRecord, slim
from penstock.sdk.sender import Sender
from penstock.sdk.settings import SdkSettings, spill_place
from penstock.sdk.spill import DiskSpill, MemorySpill
from penstock.sdk.transport import HttpTransport, Transport

SLIM_SHARE = 1.25
"""How far over the bound spans without payload may go, so that a flood loses texts before it loses structure."""

_log = logging.getLogger("penstock.sdk")


class _Ask:
    """Somebody waits until all that was added before has been tried."""

    __slots__ = ("done", "is_last")

    def __init__(self, is_last: bool) -> None:
        self.done = threading.Event()
        self.is_last = is_last


class Pipeline:
    """Takes records, delivers them from a thread of its own, which starts with the first record."""

    def __init__(
        self,
        settings: SdkSettings,
        *,
        transport: Callable[[SdkSettings], Transport] = HttpTransport,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self._guard = threading.RLock()
        self._records: deque[Record] = deque()
        self._bells: queue.SimpleQueue[_Ask | None] = queue.SimpleQueue()
        self._bytes = 0
        self._n_taken = 0
        self._n_dropped = 0
        self._n_payloads_dropped = 0
        self._lost: dict[int, int] = {}
        self._is_rung = False
        self._is_closed = False
        self._thread: threading.Thread | None = None
        folder = spill_place(settings)
        spill = (
            MemorySpill(settings.max_buffer_bytes)
            if folder is None
            else DiskSpill(folder, settings.max_spill_bytes)
        )
        self._sender = Sender(settings, spill, transport, clock, lambda: self._n_dropped)

    # -- the program's side

    def reserve(self, size: int) -> bool:
        """Set `size` bytes aside for the texts of an open span; False when there is no room."""
        with self._guard:
            if self._bytes + size > self.settings.max_buffer_bytes:
                return False
            self._bytes += size
            return True

    def release(self, size: int) -> None:
        """Give back what was set aside."""
        with self._guard:
            self._bytes -= size

    def add(self, record: Record) -> None:
        """Take a record; without room its payload is left out, and without any room it is dropped and counted."""
        limit = self.settings.max_buffer_bytes
        with self._guard:
            self._n_taken += 1
            if isinstance(record, SpanRecord) and self._bytes + record.size > limit:
                self._n_payloads_dropped += record.size > SPAN_BYTES
                record = slim(record)
                limit = int(limit * SLIM_SHARE)
            if self._is_closed or self._bytes + record.size > limit:
                self._n_dropped += 1
                if isinstance(record, SpanRecord) and record.span.context is not None:
                    self._note_loss(record.span.context.trace_id)
                return
            self._bytes += record.size
            self._records.append(record)
            is_first = not self._is_rung
            self._is_rung = True
        if is_first:
            self._ring(None)

    def note_payload_dropped(self) -> None:
        """Count a payload for which there was no room while its span was open."""
        with self._guard:
            self._n_payloads_dropped += 1

    def losses_of(self, trace_id: int) -> int:
        """Return how many spans of a trace were dropped here, and forget it."""
        return self._lost.pop(trace_id, 0) if self._lost else 0

    def orphan(self) -> None:
        """In a forked child: take nothing more, and free what a thread of the parent may hold; open spans still look here."""
        self._guard = threading.RLock()
        self._is_closed = True

    def flush(self, timeout_s: float) -> Delivery:
        """Try to deliver all that was added before; return the counts after at most `timeout_s`."""
        if not self._is_closed:
            ask = _Ask(is_last=False)
            self._ring(ask)
            ask.done.wait(timeout_s)
        return self.delivery

    def close(self, timeout_s: float) -> Delivery:
        """Deliver for at most `timeout_s`, put the rest into the spill folder, and end the thread."""
        if self._is_closed:
            return self.delivery
        self._is_closed = True
        if self._thread is not None or self._records:
            ask = _Ask(is_last=True)
            self._ring(ask)
            if not ask.done.wait(timeout_s):
                self._sender.save_rest(self._take(1 << 30))  # the worker hangs in a request
        return self.delivery

    @property
    def delivery(self) -> Delivery:
        """The counts so far."""
        sender = self._sender
        with self._guard:
            sent, failed, dropped = sender.n_sent, sender.n_failed, self._n_dropped + sender.n_dropped
            return Delivery(
                sent=sent,
                failed=failed,
                dropped=dropped,
                pending=max(0, self._n_taken - sent - failed - dropped),
                spilled=sender.n_spilled,
                payloads_dropped=self._n_payloads_dropped + sender.n_payloads_dropped,
                problem=sender.problem,
            )

    # -- the worker's side

    def _ring(self, ask: _Ask | None) -> None:
        if self._thread is None:
            with self._guard:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="penstock-sdk", daemon=True)
                    self._thread = thread  # before it starts: a span may end in here, too
                    try:
                        thread.start()
                    except RuntimeError:  # the interpreter is ending and starts no more threads
                        self._is_closed = True
                        self._sender.save_rest(self._take(1 << 30))
                        if ask is not None:
                            ask.done.set()
                        return
        self._bells.put(ask)

    def _run(self) -> None:
        # whoever traces HTTP in this program shall not trace this thread
        otel.attach(otel.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        while True:
            asks: list[_Ask] = []
            self._wait(asks)
            try:
                self._work(is_asked=bool(asks), is_last=any(ask.is_last for ask in asks))
            except Exception:  # the edge of this thread: it has to outlive anything that one batch does to it
                _log.exception("penstock: the sender stumbled")
            for ask in asks:
                ask.done.set()
            if any(ask.is_last for ask in asks):
                return

    def _wait(self, asks: list[_Ask]) -> None:
        """Return when there is something to do; what was added first waits a moment for more."""
        pause = self._sender.wait_s if self._sender.has_rest else None
        bell: _Ask | None = None
        with contextlib.suppress(queue.Empty):
            bell = self._bells.get(timeout=pause)
        deadline = time.monotonic() + self.settings.interval_s
        while bell is None and (left := deadline - time.monotonic()) > 0:
            try:
                bell = self._bells.get(timeout=left)
            except queue.Empty:
                break
        if bell is not None:
            asks.append(bell)
        with contextlib.suppress(queue.Empty):
            while True:
                more = self._bells.get_nowait()
                if more is not None:
                    asks.append(more)

    def _work(self, *, is_asked: bool, is_last: bool) -> None:
        self._is_rung = False
        while records := self._take(self.settings.max_batch_bytes):
            self._sender.deliver(records, is_asked=is_asked)
            is_asked = False
        self._sender.deliver_rest(
            is_asked=is_asked, is_busy=lambda: bool(self._records or not self._bells.empty())
        )
        if is_last:
            self._sender.close()

    def _take(self, max_bytes: int) -> list[Record]:
        taken: list[Record] = []
        size = 0
        while self._records and size < max_bytes:
            record = self._records.popleft()
            taken.append(record)
            size += record.size
        with self._guard:
            self._bytes -= size
        return taken

    def _note_loss(self, trace_id: int) -> None:
        if len(self._lost) < 1000 or trace_id in self._lost:
            self._lost[trace_id] = self._lost.get(trace_id, 0) + 1
