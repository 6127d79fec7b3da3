"""Erasing everything of a user, session or trace, wherever it lies, with a receipt.

An erasure is a row that outlives the process: whenever it is cut off it is carried out again from the beginning, and
every step may be done twice. First the subject's late spans are kept out and what waits is stored; then all places
beside the store are cleared, since what they hold is found by what the store knows; then the store, which is written
anew; then every file is looked through for the name. The name itself stands in the row only until then.
"""

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine, Row, insert, select, text, update

from penstock.base.clock import iso_from_ns
from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import PenstockError
from penstock.base.ids import new_id
from penstock.store.control.tables.privacy import privacy_erasures
from penstock.store.spans.port import SpanUpkeep, SubjectReader
from penstock.store.spans.rows import is_hex
from penstock.store.spans.upkeep_types import Subject, SubjectRows
from penstock.traces.upkeep.errors import BadSubject, ReceiptInvalid, UnknownErasure
from penstock.traces.upkeep.receipts import FORMAT, ReceiptBook, read_content
from penstock.traces.upkeep.seal import PrivacyKey, SignedReceipt, is_signed_by
from penstock.traces.upkeep.sweep import Sweep, sweep
from penstock.traces.upkeep.tombstones import Tombstones
from penstock.traces.upkeep.types import SUBJECT_KINDS, Doomed, Erasure, Place, PlaceReport, Receipt

MAX_ID = 1000
MAX_REASON = 1000
_NOBODY = Subject(kind="trace", id=secrets.token_hex(16))
"""Stands for those whose names are known by their digests alone: a name that stands nowhere."""
_log = logging.getLogger("penstock.upkeep")


class ErasureService:
    """Asks for erasures and carries them out. `carry_out_waiting` is one thread's; the rest may be called from any."""

    def __init__(
        self,
        engine: Engine,
        key: PrivacyKey,
        *,
        upkeep: SpanUpkeep,
        reader: SubjectReader,
        tombstones: Tombstones,
        drain: Callable[[], None],
        places: Sequence[Place],
        list_beyond: Callable[[], Sequence[str]],
        root: Path,
        wake: Callable[[], None] = lambda: None,
        now_ns: Callable[[], int] = wall_clock,
    ) -> None:
        """`drain` stores all that was acknowledged; `places` are cleared before the store; `root` is looked through."""
        self.receipts = ReceiptBook(engine, key, now_ns=now_ns)
        self._engine = engine
        self._key = key
        self._upkeep = upkeep
        self._reader = reader
        self._tombstones = tombstones
        self._drain = drain
        self._places = tuple(places)
        self._list_beyond = list_beyond
        self._root = root
        self._wake = wake
        self._n_dropped_seen = 0
        self._now_ns = now_ns

    def add_place(self, place: Place) -> None:
        """Clear another place too from now on, after those that are known."""
        self._places = (*self._places, place)

    def find(self, subject: Subject) -> SubjectRows:
        """Return what is stored of a subject; raise `BadSubject`."""
        return self._upkeep.find_subject(check_subject(subject))

    def submit(self, subject: Subject, *, reason: str, actor: str) -> Erasure:
        """Ask for an erasure, durably, and keep late spans of the subject out from now on; raise `BadSubject`."""
        checked = check_subject(subject)
        if checked.id in reason:
            raise BadSubject(
                f"The reason names the {checked.kind}, and would stay in the receipt.",
                hint="Write a number of a request or ticket instead.",
            )
        if len(reason) > MAX_REASON:
            raise BadSubject(f"A reason has at most {MAX_REASON} characters.", where="reason")
        now = self._now_ns()
        self._tombstones.add([checked])
        erasure_id = new_id("era", now_ms=now // 1_000_000)
        with self._engine.begin() as connection:
            connection.execute(
                insert(privacy_erasures).values(
                    id=erasure_id,
                    state="waiting",
                    subject_kind=checked.kind,
                    subject_id=checked.id,
                    reason=reason,
                    actor=actor,
                    created_ns=now,
                    updated_ns=now,
                    attempts=0,
                    progress={"digest": self._key.digest(checked.kind, checked.id)},
                )
            )
        self._wake()
        return self.get(erasure_id)

    def replay(self, signed: SignedReceipt, *, actor: str) -> list[Erasure]:
        """Erase again what a receipt says was erased: for a home that was restored from an older backup.

        The receipt names nobody, so everything stored is compared with its digest. Raises `ReceiptInvalid` for one that
        another installation signed.
        """
        receipt = read_content(signed.content)
        if receipt.kind not in SUBJECT_KINDS:
            raise ReceiptInvalid(
                f"The receipt is of {receipt.kind!r}, not of somebody's record.",
                hint="Receipts of documents are carried out again by `penstock knowledge replay`.",
            )
        if not is_signed_by(signed, self._key.public_key):
            raise ReceiptInvalid(
                "This installation did not sign the receipt, or it was changed.",
                hint="Only receipts of the home that the backup was made of can be carried out again.",
            )
        ids = self._reader.find_ids(
            receipt.kind, lambda each: self._key.digest(receipt.kind, each) == receipt.subject_digest
        )
        reason = f"again, after receipt {receipt.number} of {receipt.finished_at[:10]}"
        subjects = msgspec.convert([{"kind": receipt.kind, "id": each} for each in ids], list[Subject])
        return [self.submit(subject, reason=reason, actor=actor) for subject in subjects]

    def get(self, erasure_id: str) -> Erasure:
        """Return one erasure; raise `UnknownErasure`."""
        query = select(privacy_erasures).where(privacy_erasures.c.id == erasure_id)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise UnknownErasure(f"There is no erasure {erasure_id!r}.")
        return _erasure_of(row)

    def list_newest(self, *, limit: int = 100) -> list[Erasure]:
        """Return the newest erasures."""
        query = select(privacy_erasures).order_by(privacy_erasures.c.id.desc()).limit(limit)
        with self._engine.connect() as connection:
            return [_erasure_of(row) for row in connection.execute(query)]

    def carry_out_waiting(self, *, is_stopped: Callable[[], bool] = lambda: False) -> int:
        """Carry out what waits, the oldest first; return how many were finished. What fails waits for the next time."""
        query = (
            select(privacy_erasures).where(privacy_erasures.c.state != "done").order_by(privacy_erasures.c.id)
        )
        with self._engine.connect() as connection:
            waiting = list(connection.execute(query))
        n_done = 0
        for row in waiting:
            if is_stopped():
                break
            try:
                self._carry_out(row, is_stopped)
                n_done += 1
            except PenstockError as error:
                self._note(row.id, state="waiting", error=f"{error.message} [{error.code}]")
                _log.warning("an erasure failed and waits", extra={"erasure": row.id, "code": error.code})
            except OSError as error:
                self._note(row.id, state="waiting", error=f"{type(error).__name__}: {error.strerror}")
                _log.warning(
                    "an erasure failed and waits", extra={"erasure": row.id, "reason": error.strerror}
                )
        return n_done

    def follow_late(self) -> int:
        """Erase what is stored of traces that late spans showed to be of erased subjects; return how many spans went."""
        late, n_dropped = self._tombstones.take_late_traces(), self._tombstones.n_dropped
        if not late and n_dropped == self._n_dropped_seen:
            return 0
        self._n_dropped_seen = n_dropped
        subjects = [Subject(kind="trace", id=trace_id) for trace_id in late]
        self._tombstones.add(subjects)
        n_spans = 0
        for subject in subjects:
            n_spans += self._upkeep.erase(subject).n_spans
        if n_spans > sum(late.values()):  # bare spans leave nothing behind that has to be written over
            self._upkeep.compact()
        self._clear_places(
            Doomed(subject=_NOBODY, trace_ids=list(late), calls=[], covers=self._tombstones.covers)
        )
        return n_spans

    def _carry_out(self, row: Row[Any], is_stopped: Callable[[], bool]) -> None:
        progress: dict[str, Any] = dict(row.progress)
        if row.subject_id is None:  # everything was done but the receipt
            self._truncate_log()
            seen = Sweep(skipped="the process ended before the files were looked through")
            self._write_receipt(row, progress, progress["reports"], seen)
            return
        subject = Subject(kind=row.subject_kind, id=row.subject_id)
        self._note(row.id, state="running", attempts=row.attempts + 1)
        self._tombstones.add([subject])
        self._drain()
        found = self._upkeep.find_subject(subject)
        if "store" not in progress or found.n_spans or found.n_ledger_rows:
            progress["store"] = _most(progress.get("store", {}), _counts(found))
            self._note(row.id, progress=progress)
        self._tombstones.add(Subject(kind="trace", id=trace_id) for trace_id in found.trace_ids)
        doomed = Doomed(
            subject=subject,
            trace_ids=found.trace_ids,
            calls=self._reader.find_calls(found.trace_ids),
            covers=self._tombstones.covers,
        )
        reports = self._clear_places(doomed)
        progress["places"] = _join_reports(progress.get("places", {}), reports)
        self._note(row.id, progress=progress)
        self._upkeep.erase(subject)
        compaction = self._upkeep.compact()
        self._drain()
        reports = [
            *self._clear_places(doomed),
            PlaceReport(
                place="span store",
                removed=progress["store"],
                note=f"written anew, {compaction.size_before} bytes before, {compaction.size_after} after; what calls cost"
                " stays in the ledger without user, session and digests",
            ),
        ]
        progress["reports"] = msgspec.to_builtins(reports)
        self._note(row.id, progress=progress)
        self._forget_name(row.id)
        seen = sweep(self._root, subject.id, is_stopped=is_stopped)
        self._write_receipt(row, progress, progress["reports"], seen)

    def _clear_places(self, doomed: Doomed) -> list[PlaceReport]:
        return [clear(doomed) for clear in self._places]

    def _forget_name(self, erasure_id: str) -> None:
        """Keep the name in memory alone, for the look through the files; a crash now leaves the row to be cleared again."""
        with self._engine.begin() as connection:
            connection.execute(
                update(privacy_erasures).where(privacy_erasures.c.id == erasure_id).values(subject_id=None)
            )
        self._truncate_log()

    def _truncate_log(self) -> None:
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).all()

    def _write_receipt(
        self, row: Row[Any], progress: Mapping[str, Any], told: Sequence[Any], seen: Sweep
    ) -> SignedReceipt:
        reports = msgspec.convert(told, list[PlaceReport])
        places = [
            PlaceReport(
                place=each.place,
                removed=_most(progress["places"].get(each.place, {}), each.removed),
                note=each.note,
            )
            for each in reports
        ]
        finished = self._now_ns()

        def build(number: int, previous: str | None) -> Receipt:
            return Receipt(
                format=FORMAT,
                number=number,
                previous=previous,
                erasure=row.id,
                kind=row.subject_kind,
                subject_digest=progress["digest"],
                reason=row.reason,
                actor=row.actor,
                asked_at=iso_from_ns(row.created_ns),
                finished_at=iso_from_ns(finished),
                places=places,
                sweep=seen,
                beyond_reach=list(self._list_beyond()),
            )

        signed = self.receipts.write(build)
        number = read_content(signed.content).number
        self._note(row.id, state="done", error=None, receipt=number)
        _log.info("an erasure is done", extra={"erasure": row.id, "receipt": number})
        return signed

    def _note(self, erasure_id: str, **values: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(
                update(privacy_erasures)
                .where(privacy_erasures.c.id == erasure_id)
                .values(updated_ns=self._now_ns(), **values)
            )


def check_subject(subject: Subject) -> Subject:
    """Return the subject as it is stored; raise `BadSubject` for one that cannot be."""
    if subject.kind not in SUBJECT_KINDS:
        raise BadSubject(
            f"{subject.kind!r} is no kind of subject.", hint="Name a user, a session or a trace."
        )
    if not subject.id or len(subject.id) > MAX_ID:
        raise BadSubject(f"The id of a {subject.kind} has 1 to {MAX_ID} characters.")
    if subject.kind == "trace":
        if not is_hex(subject.id.lower(), 32):
            raise BadSubject(f"{subject.id!r} is no trace's id.", hint="It has 32 hex characters.")
        return Subject(kind="trace", id=subject.id.lower())
    return subject


def _counts(rows: SubjectRows) -> dict[str, int]:
    return {
        "traces": len(rows.trace_ids),
        "spans": rows.n_spans,
        "payloads": rows.n_payloads,
        "scores": rows.n_scores,
        "ledger rows made anonymous": rows.n_ledger_rows,
    }


def _most(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """Return the greater of two counts of the same thing: what was removed by a try that was cut off counts."""
    return {name: max(before.get(name, 0), now.get(name, 0)) for name in {**before, **now}}


def _join_reports(before: Mapping[str, Mapping[str, int]], reports: Sequence[PlaceReport]) -> dict[str, Any]:
    return {each.place: _most(before.get(each.place, {}), each.removed) for each in reports}


def _erasure_of(row: Row[Any]) -> Erasure:
    return Erasure(
        id=row.id,
        state=row.state,
        kind=row.subject_kind,
        subject_digest=row.progress["digest"],
        reason=row.reason,
        actor=row.actor,
        created_ns=row.created_ns,
        updated_ns=row.updated_ns,
        attempts=row.attempts,
        error=row.error,
        receipt=row.receipt,
    )
