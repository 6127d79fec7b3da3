"""Begins ingests when sources are due or their folders change, and takes note of how they ended.

All that must survive a restart is in the control tables: when a source is due, which run is under way, how often it
failed. What was missed while nothing ran is caught up once. A base has one run at a time: what becomes due meanwhile
waits. After a failure a source is tried again later and later.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Row

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import PenstockError
from penstock.knowledge.sources import queries
from penstock.knowledge.sources.ports import IngestRuns
from penstock.knowledge.sources.schedules import backoff_ns, next_due, read_schedule
from penstock.knowledge.sources.watching import fingerprint

POLL_S = 2.0
WATCH_EVERY_S = 5.0
WATCH_SHARE = 20
"""A folder is looked at no more often than takes a twentieth of the time."""
_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class _Watched:
    """What a watched folder looked like."""

    settled: str | None
    """As it was when it was last taken up; None before the first look."""
    seen: str
    """As it was at the last look."""
    look_again: float


class SourceScheduler:
    """The loop over all sources of all bases."""

    def __init__(
        self,
        engine: Engine,
        runs: IngestRuns,
        *,
        clock: Callable[[], int] = wall_clock,
        now: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = lambda: 0.0,
        look: Callable[[str, dict[str, Any]], str | None] = fingerprint,
    ) -> None:
        """`chance` gives numbers from 0 to 1; `look` gives what a local source looks like, or None for no folder."""
        self._engine = engine
        self._runs = runs
        self._clock = clock
        self._now = now
        self._chance = chance
        self._look = look
        self._watched: dict[str, _Watched] = {}

    def run(self, stop: threading.Event) -> None:
        """Look every two seconds until `stop` is set."""
        while not stop.wait(POLL_S):
            try:
                self.tick()
            except Exception:  # the edge of a thread: one bad round must not end the loop
                _log.exception("sources could not be looked after")

    def tick(self) -> None:
        """Look once: note what ended, find what is due or changed, and begin it."""
        with self._engine.connect() as connection:
            rows = queries.list_sources(connection)
        for row in rows:
            if _job(row) is not None:
                self._try(row, self._note_end)
        with self._engine.connect() as connection:
            rows = queries.list_sources(connection)
        wanted: dict[str, list[Row[Any]]] = {}
        for row in rows:
            if not row.is_paused and _job(row) is None and self._try(row, self._is_wanted):
                wanted.setdefault(row.base, []).append(row)
        for base, due in wanted.items():
            self._begin(base, due)
        for source_id in self._watched.keys() - {row.id for row in rows}:
            del self._watched[source_id]

    def _try(self, row: Row[Any], step: Callable[[Row[Any]], bool | None]) -> bool:
        """Take a step for one source; what goes wrong is its own failure, and holds up no other."""
        try:
            return bool(step(row))
        except Exception as error:  # such as a share that hangs, or a folder that may not be entered
            told = error.strerror if isinstance(error, OSError) else None
            self._note_failure(row, f"it cannot be looked at: {told or type(error).__name__}")
            return False

    def _is_wanted(self, row: Row[Any]) -> bool:
        is_due = row.due_ns is not None and row.due_ns <= self._clock()
        has_changed = self._has_changed(row)
        return is_due or has_changed

    def _has_changed(self, row: Row[Any]) -> bool:
        """Return whether a watched source changed, and has been quiet since the look before."""
        if not row.settings.get("watch") or (row.report or {}).get("failures"):
            return False  # after a failure its time is due_ns, like any other's
        known = self._watched.get(row.id)
        started = self._now()
        if known is not None and started < known.look_again:
            return False
        seen = self._look(row.kind, row.settings)
        again = self._now() + max(WATCH_EVERY_S, (self._now() - started) * WATCH_SHARE)
        if seen is None:
            return False
        if known is None:
            # What it was at the last scan is not known any more: a scan of what did not change is cheap.
            self._watched[row.id] = _Watched(settled=None, seen=seen, look_again=again)
            return False
        is_quiet, known.seen, known.look_again = seen == known.seen, seen, again
        return is_quiet and seen != known.settled

    def _begin(self, base: str, due: Sequence[Row[Any]]) -> None:
        names = sorted(row.name for row in due)
        try:
            job = self._runs.begin(base, names)
        except PenstockError as error:
            for row in due:
                self._note_failure(row, f"it could not be begun: {error.message}")
            return
        if job is None:  # another run of this base is under way
            return
        now = self._clock()
        with self._engine.begin() as connection:
            for row in due:
                report = {**_report(connection, row), "job": job}
                values: dict[str, Any] = {"report": report, "updated_ns": now, "due_ns": self._next(row, now)}
                queries.update_source(connection, row.id, values)
        for row in due:
            if row.id in self._watched:
                self._watched[row.id].settled = self._watched[row.id].seen

    def _note_end(self, row: Row[Any]) -> None:
        job = _job(row)
        assert job is not None
        found = self._runs.find(job)
        if found is not None and found.state == "active":
            return
        if found is None or found.state == "failed":
            self._note_failure(row, (found.error if found else None) or "the run is gone")
            return
        with self._engine.connect() as connection:
            now_row = queries.get_source(connection, row.id)
        if now_row is not None and now_row.state == "failed":  # others of the same run did not
            self._note_failure(row, now_row.error or "its scan failed")
            return
        with self._engine.begin() as connection:
            report = {**_report(connection, row), "job": None, "failures": 0}
            queries.update_source(connection, row.id, {"report": report, "updated_ns": self._clock()})

    def _note_failure(self, row: Row[Any], error: str) -> None:
        now = self._clock()
        with self._engine.begin() as connection:
            report = _report(connection, row)
            failures = int(report.get("failures", 0)) + 1
            is_repeated = row.schedule is not None or bool(row.settings.get("watch"))
            values = {
                "report": {**report, "job": None, "failures": failures},
                "error": error[:1000],
                "state": "failed",
                "due_ns": now + backoff_ns(failures) if is_repeated else None,
                "updated_ns": now,
            }
            queries.update_source(connection, row.id, values)
        _log.warning(
            "source failed",
            extra={"base": row.base, "source": row.name, "failures": failures, "reason": error},
        )

    def _next(self, row: Row[Any], now_ns: int) -> int | None:
        if row.schedule is None:
            return None
        try:
            return next_due(read_schedule(row.schedule), now_ns, self._chance)
        except PenstockError as error:  # such as a time zone that this machine no longer knows
            _log.warning("schedule not followed", extra={"source": row.name, "reason": str(error)})
            return None


def _job(row: Row[Any]) -> str | None:
    return (row.report or {}).get("job")


def _report(connection: Any, row: Row[Any]) -> dict[str, Any]:
    """Return the report as it is now: a scan may have written to it meanwhile."""
    found = queries.get_source(connection, row.id)
    return dict(found.report or {}) if found is not None else {}
