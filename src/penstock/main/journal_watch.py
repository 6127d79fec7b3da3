"""Bills what gateway workers left behind that were killed: looks for their journals every few seconds."""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from penstock.base.errors import PenstockError
from penstock.gateway.journal import recover_journals
from penstock.providers.prices import PriceBook
from penstock.spec.snapshot import Snapshot
from penstock.spec.spans import Span
from penstock.telemetry.edge import SnapshotEdge
from penstock.telemetry.spool import SpoolWriter

INTERVAL_S = 5.0
_log = logging.getLogger("penstock.journal")


class JournalWatch:
    """Recovers journals into a spool, through the edge that all spans pass. One a control process."""

    def __init__(
        self,
        folder: Path,
        spool: SpoolWriter,
        edge: SnapshotEdge,
        find_snapshot: Callable[[], Snapshot | None],
    ) -> None:
        self._folder = folder
        self._spool = spool
        self._edge = edge
        self._find_snapshot = find_snapshot
        self._prices = PriceBook()

    def run(self, stop: threading.Event) -> None:
        """Look until `stop` is set; what cannot be stored now is tried again."""
        while not stop.is_set():
            try:
                self.run_once()
            except (OSError, PenstockError):
                _log.exception("journals could not be recovered, will try again")
            stop.wait(INTERVAL_S)

    def run_once(self) -> int:
        """Recover what there is now; return the number of calls."""
        if not any(self._folder.glob("*.bin")):
            return 0
        snapshot = self._find_snapshot()
        if snapshot is not None:
            self._prices.set_own_prices(snapshot.prices)
        return recover_journals(self._folder, self._store, self._prices)

    def _store(self, spans: Sequence[Span]) -> None:
        self._spool.append_durable([self._edge.admit(span)[1] for span in spans])
