"""What late spans of erased subjects are known by, and the sieve that keeps them out.

A user or session may come back: of theirs only what began before the erasure is kept out. Of an erased trace nothing is
taken any more. Only digests are kept, so the list names nobody. A late call that was billed passes without all that leads
to somebody, for the ledger's sake; its span goes at the next look, its row stays.
"""

import threading
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Engine, delete, insert, select

from penstock.base.clock import now_ns as wall_clock
from penstock.spec.spans import Span
from penstock.store.control.tables.privacy import privacy_tombstones
from penstock.store.spans.ledger import RATES, SAVED_USD, is_billed
from penstock.store.spans.ledger_types import LedgerRow
from penstock.store.spans.types import TraceRow
from penstock.store.spans.upkeep_types import Subject
from penstock.traces.upkeep.seal import PrivacyKey

TRACE_LIVES_NS = 90 * 86_400_000_000_000
"""How long spans of an erased trace are waited for; ids of traces are never given twice."""
_BATCH = 5_000
_OF_LEDGER = (
    "trace_id",
    "span_id",
    "kind",
    "start_ns",
    "end_ns",
    "status",
    "error_code",
    "project",
    "service",
    "key_id",
    "route",
    "provider",
    "model",
    "cache",
    "usage",
    "cost_usd",
    "cost_source",
    "versions",
)
_RATES = (RATES, SAVED_USD)


class Tombstones:
    """Digests of what was erased. Every method may be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        key: PrivacyKey,
        *,
        find_billed: Callable[[str], Sequence[LedgerRow]] = lambda _: (),
        find_trace: Callable[[str], TraceRow | None] = lambda _: None,
        now_ns: Callable[[], int] = wall_clock,
    ) -> None:
        """`find_billed` returns the ledger's rows of a trace, `find_trace` its row."""
        self._find_trace = find_trace
        self._find_billed = find_billed
        self._engine = engine
        self._digest = key.digest
        self._now_ns = now_ns
        self._guard = threading.Lock()
        self._erased: dict[str, dict[str, int]] = {"user": {}, "session": {}, "trace": {}}
        self._late_traces: dict[str, set[str]] = {}
        """Traces that have to go again, and the bare spans of each that were let through."""
        self.n_dropped = 0
        """Spans kept out since the start."""
        self._load()

    def __len__(self) -> int:
        return sum(map(len, self._erased.values()))

    def add(self, subjects: Iterable[Subject]) -> int:
        """Keep spans of these out from now on; durable on return."""
        now = self._now_ns()
        rows = {
            (each.kind, self._digest(each.kind, each.id)): TRACE_LIVES_NS + now
            if each.kind == "trace"
            else None
            for each in subjects
        }
        listed = [
            {"kind": kind, "digest": digest, "erased_ns": now, "until_ns": until}
            for (kind, digest), until in rows.items()
        ]
        with self._engine.begin() as connection:
            for start in range(0, len(listed), _BATCH):
                batch = listed[start : start + _BATCH]
                for kind in self._erased:
                    digests = [row["digest"] for row in batch if row["kind"] == kind]
                    if digests:
                        connection.execute(
                            delete(privacy_tombstones).where(
                                privacy_tombstones.c.kind == kind, privacy_tombstones.c.digest.in_(digests)
                            )
                        )
                connection.execute(insert(privacy_tombstones), batch)
        with self._guard:
            for kind, digest in rows:
                self._erased[kind][digest] = now
        return len(rows)

    def sift(self, spans: Sequence[Span]) -> list[Span]:
        """Return the spans that may be stored. What belongs to a trace of an erased subject goes with it."""
        if not len(self):
            return list(spans)
        doomed = {id(span) for span in spans if self.covers(span)}
        if doomed and self._late_traces:  # whose trace it is may have become known by a later span
            doomed.update(id(span) for span in spans if id(span) not in doomed and self.covers(span))
        if not doomed:
            return list(spans)
        kept = [span for span in spans if id(span) not in doomed]
        bare = [bared for span in spans if id(span) in doomed and (bared := self._bared(span)) is not None]
        self.n_dropped += len(doomed) - len(bare)
        return kept + bare

    def _bared(self, span: Span) -> Span | None:
        """Return what the ledger needs of a billed call that it does not have; None for any other span."""
        if not is_billed(span) or any(
            row.span_id == span.span_id for row in self._find_billed(span.trace_id)
        ):
            return None
        with self._guard:
            self._late_traces.setdefault(span.trace_id, set()).add(span.span_id)
        kept = {name: getattr(span, name) for name in _OF_LEDGER}
        attributes = {name: span.attributes[name] for name in _RATES if name in span.attributes}
        return Span(name=span.kind, attributes=attributes, payload_dropped=True, **kept)

    def covers(self, span: Span) -> bool:
        """Return whether a span belongs to something that was erased."""
        erased, digest = self._erased, self._digest
        if erased["trace"] and digest("trace", span.trace_id) in erased["trace"]:
            return True
        for kind, name in (("user", span.user_id), ("session", span.session_id)):
            if name is not None and self._is_before(kind, name, span.start_ns):
                if self._may_tell_whose(span):
                    self._note_trace(span.trace_id)
                return True
        for score in span.scores:
            if score.trace_id is not None and digest("trace", score.trace_id) in erased["trace"]:
                return True
            for kind, name in (("user", score.scorer), ("session", score.session_id)):
                if name is not None and self._is_before(kind, name, score.time_ns or span.start_ns):
                    return True
        return False

    def take_late_traces(self) -> dict[str, int]:
        """Return traces that late spans showed to be of erased subjects, once, with the number of bare spans of each.

        What is stored of them has to go too.
        """
        with self._guard:
            found, self._late_traces = self._late_traces, {}
        return {trace_id: len(bare) for trace_id, bare in found.items()}

    def forget_old(self) -> None:
        """Drop the digests of traces of which nothing can come any more."""
        now = self._now_ns()
        with self._engine.begin() as connection:
            connection.execute(delete(privacy_tombstones).where(privacy_tombstones.c.until_ns < now))
        with self._guard:
            traces = self._erased["trace"]
            self._erased["trace"] = {
                digest: at for digest, at in traces.items() if at + TRACE_LIVES_NS >= now
            }

    def _is_before(self, kind: str, name: str, at_ns: int) -> bool:
        erased = self._erased[kind]
        return bool(erased) and at_ns <= erased.get(self._digest(kind, name), -1)

    def _may_tell_whose(self, span: Span) -> bool:
        """Say whether a late span shows whose its trace is: one that was sent must not have others' traces erased."""
        trace = self._find_trace(span.trace_id) if span.is_foreign else None
        if trace is None:
            return True
        return span.project == trace.project and trace.user_id in (None, span.user_id)

    def _note_trace(self, trace_id: str) -> None:
        with self._guard:
            self._erased["trace"].setdefault(self._digest("trace", trace_id), self._now_ns())
            self._late_traces.setdefault(trace_id, set())

    def _load(self) -> None:
        with self._engine.connect() as connection:
            for row in connection.execute(select(privacy_tombstones)):
                self._erased.setdefault(row.kind, {})[row.digest] = row.erased_ns
