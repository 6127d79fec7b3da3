"""Upkeep as a whole: the thread that carries out retention and erasure, and what REST, commands and pages ask."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from penstock.base.ids import new_id
from penstock.store.spans.port import SpanUpkeep
from penstock.store.spans.upkeep_types import Compaction
from penstock.traces.upkeep.erasure import ErasureService
from penstock.traces.upkeep.handout import Handout
from penstock.traces.upkeep.retention import Retention, RetentionPolicy, RetentionState
from penstock.traces.upkeep.tombstones import Tombstones

FIRST_RETENTION_S = 60.0
"""After the start, so that a program that is started again and again does not begin with it."""
LOOK_S = 30.0
FORGET_S = 86_400.0
TICK_S = 1.0
CarryOut = Callable[[Callable[[], bool]], object]
"""Carries out what waits in another room; told how to know that it is to stop."""
_log = logging.getLogger("penstock.upkeep")


class UpkeepReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the record is looked after."""

    policy: RetentionPolicy
    retention: RetentionState
    store_bytes: int
    """Size of the span store's file."""
    n_waiting_erasures: int
    n_tombstones: int
    """Digests that late spans are compared with."""
    n_late_dropped: int
    """Late spans of erased subjects that were kept out since the start."""


class UpkeepService:
    """Everything about upkeep. `run` is one thread's; the rest may be called from any."""

    def __init__(
        self,
        *,
        upkeep: SpanUpkeep,
        retention: Retention,
        erasures: ErasureService,
        handout: Handout,
        tombstones: Tombstones,
        store_path: Path,
        copies: Path,
        wake: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.retention = retention
        self.erasures = erasures
        self.handout = handout
        self._upkeep = upkeep
        self._tombstones = tombstones
        self._store_path = store_path
        self._copies = copies
        self._wake = wake
        self._clock = clock
        self._forget_at = clock()
        self.wake = wake.set
        """Has the thread look at what waits."""
        self._also: list[CarryOut] = []

    def also(self, carry_out: CarryOut) -> None:
        """Have the thread carry out what other rooms were asked to erase."""
        self._also.append(carry_out)

    def compact(self) -> Compaction:
        """Write the span store anew; raise `SpanStoreBusy` or `SpanStoreFailed` where that cannot be now."""
        return self._upkeep.compact()

    def copy_spans(self) -> tuple[Path, int]:
        """Copy the span store as it is now to a new file in the backup folder; return where it is, and its size."""
        self._copies.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._copies / f"{new_id('spans')}.duckdb"
        return path, self._upkeep.back_up(path)

    def report(self) -> UpkeepReport:
        """Return how things stand."""
        return UpkeepReport(
            policy=self.retention.policy,
            retention=self.retention.state,
            store_bytes=self._store_path.stat().st_size if self._store_path.exists() else 0,
            n_waiting_erasures=sum(each.state != "done" for each in self.erasures.list_newest(limit=1000)),
            n_tombstones=len(self._tombstones),
            n_late_dropped=self._tombstones.n_dropped,
        )

    def run(self, stop: threading.Event) -> None:
        """Carry out erasures as they are asked for, and retention when it is due, until `stop` is set."""
        retention_at = self._forget_at = self._clock() + FIRST_RETENTION_S
        look_at = self._clock()
        while not stop.is_set():
            if self._wake.is_set() or self._clock() >= look_at:
                self._wake.clear()
                look_at = self._clock() + LOOK_S
                self._look(stop, is_retention_time=self._clock() >= retention_at)
            self._wake.wait(TICK_S)

    def _look(self, stop: threading.Event, *, is_retention_time: bool) -> None:
        try:
            self.erasures.carry_out_waiting(is_stopped=stop.is_set)
            self.erasures.follow_late()
            for carry_out in self._also:
                carry_out(stop.is_set)
            if is_retention_time and self.retention.is_due():
                self.retention.run(stop)
            if self._clock() >= self._forget_at:
                self._forget_at = self._clock() + FORGET_S
                self._tombstones.forget_old()
        except Exception:  # the edge of this thread: what fails now is tried again at the next look
            _log.exception("upkeep failed, will try again")
