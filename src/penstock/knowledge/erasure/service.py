"""Asks for erasures of documents and carries them out, with a receipt.

An erasure is a row that outlives the process: cut off anywhere, it is carried out again from the beginning, and every
step may be done twice. What copies are known by is written into the row before the first thing goes, since afterwards
nobody could tell; it goes from there at the very end, before every file is looked through.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Engine, Row

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import PenstockError
from penstock.base.ids import new_id
from penstock.knowledge.erasure import queries
from penstock.knowledge.erasure.errors import BadTarget, NothingFound, UnknownErasure
from penstock.knowledge.erasure.finding import Chosen, Finder, check_target
from penstock.knowledge.erasure.keep_out import ANY_BASE, Digest, KeepOut
from penstock.knowledge.erasure.removing import Removal
from penstock.knowledge.erasure.types import (
    Finish,
    FoundTarget,
    Gone,
    KnowledgeErasure,
    Place,
    PlaceDone,
    Target,
)

MAX_REASON = 1000
_log = logging.getLogger("penstock.upkeep")


class KnowledgeErasures:
    """Erasures of documents. `carry_out_waiting` is one thread's; the rest may be called from any."""

    def __init__(
        self,
        engine: Engine,
        *,
        finder: Finder,
        removal: Removal,
        kept_out: KeepOut,
        find_digest: Callable[[], Digest],
        places: Sequence[Place],
        clean_tables: Callable[[], PlaceDone],
        finish: Finish,
        publish: Callable[[], None] = lambda: None,
        wake: Callable[[], None] = lambda: None,
        now_ns: Callable[[], int] = wall_clock,
    ) -> None:
        """`places` are cleared after the bases; `clean_tables` leaves nothing of deleted rows in the control database's
        files; `publish` tells gateways of versions that went live."""
        self.kept_out = kept_out
        self._engine = engine
        self._finder = finder
        self._removal = removal
        self._find_digest = find_digest
        self._places = tuple(places)
        self._clean_tables = clean_tables
        self._finish = finish
        self._publish = publish
        self._wake = wake
        self._now_ns = now_ns

    def find(self, target: Target) -> FoundTarget:
        """Return what there is to be erased; raise `BadTarget`."""
        return self._finder.describe(check_target(target))

    def submit(
        self, target: Target, *, reason: str, actor: str, keep_out: bool = True, may_be_nothing: bool = False
    ) -> KnowledgeErasure:
        """Ask for an erasure, durably. `keep_out` keeps a document's path out too, whatever bytes come there.

        Raises `BadTarget`, and `NothingFound` when there is nothing, unless `may_be_nothing`.
        """
        target = check_target(target)
        if target.value in reason:
            raise BadTarget(
                f"The reason names the {target.kind}, and would stay in the receipt.",
                hint="Write a number of a request or ticket instead.",
            )
        if len(reason) > MAX_REASON:
            raise BadTarget(f"A reason has at most {MAX_REASON} characters.", where="reason")
        if not may_be_nothing:
            found = self._finder.describe(target)
            if not found.documents and not found.n_judgements:
                raise NothingFound(f"No document is of this {target.kind}; nothing was erased.")
        now = self._now_ns()
        erasure_id = new_id("ker", now_ms=now // 1_000_000)
        row: dict[str, Any] = {
            "id": erasure_id,
            "state": "waiting",
            "kind": target.kind,
            "base": target.base,
            "value": target.value,
            "keep_out": int(keep_out),
            "digest": self.digest_of(target),
            "reason": reason,
            "actor": actor,
            "created_ns": now,
            "updated_ns": now,
            "attempts": 0,
            "progress": {},
            "error": None,
            "receipt": None,
        }
        with self._engine.begin() as connection:
            queries.add_erasure(connection, row)
        self._wake()
        return self.get(erasure_id)

    def digest_of(self, target: Target) -> str:
        """Return the keyed digest by which receipts name a target; raise `BadTarget`."""
        return self._find_digest()(f"knowledge {target.kind}", check_target(target).name)

    def replay(self, kind: str, digest: str, *, reason: str, actor: str) -> list[KnowledgeErasure]:
        """Ask for what a receipt says was erased once more: for a home that was restored from an older backup.

        A receipt names nothing, so everything that is there is compared with its digest. A text cannot be found so:
        `BadTarget`.
        """
        if kind == "text":
            raise BadTarget(
                "A receipt does not hold the text that was erased, and nobody can find it by its digest.",
                hint="Erase the text again by name.",
            )
        targets = [each for each in self._finder.list_targets(kind) if self.digest_of(each) == digest]
        return [self.submit(each, reason=reason, actor=actor) for each in targets]

    def get(self, erasure_id: str) -> KnowledgeErasure:
        """Return one erasure; raise `UnknownErasure`."""
        with self._engine.connect() as connection:
            row: Row[Any] | None = queries.find_erasure(connection, erasure_id)
        if row is None:
            raise UnknownErasure(f"There is no erasure {erasure_id!r}.")
        return _erasure_of(row)

    def list_newest(self, *, limit: int = 100) -> list[KnowledgeErasure]:
        """Return the newest erasures."""
        with self._engine.connect() as connection:
            return [_erasure_of(row) for row in queries.list_erasures(connection, limit=limit)]

    def erase_now(self, target: Target, *, reason: str, actor: str) -> KnowledgeErasure | None:
        """Erase and return once it is done; None when there is nothing. Of the thread that carries out erasures."""
        found = self._finder.describe(check_target(target))
        if not found.documents and not found.n_judgements:
            return None
        asked = self.submit(target, reason=reason, actor=actor, may_be_nothing=True)
        with self._engine.connect() as connection:
            row = queries.find_erasure(connection, asked.id)
        assert row is not None
        self._carry_out(row)
        return self.get(asked.id)

    def carry_out_waiting(self, *, is_stopped: Callable[[], bool] = lambda: False) -> int:
        """Carry out what waits, the oldest first; return how many were finished. What fails waits for the next time."""
        with self._engine.connect() as connection:
            waiting = queries.list_open(connection)
        n_done = 0
        for row in waiting:
            if is_stopped():
                break
            try:
                self._carry_out(row)
                n_done += 1
            except PenstockError as error:
                self._fail(row.id, f"{error.message} [{error.code}]")
            except OSError as error:
                self._fail(row.id, f"{type(error).__name__}: {error.strerror}")
        return n_done

    def _fail(self, erasure_id: str, reason: str) -> None:
        self._note(erasure_id, state="waiting", error=reason)
        _log.warning("an erasure of documents failed and waits", extra={"erasure": erasure_id})

    def _carry_out(self, row: Row[Any]) -> None:
        progress: dict[str, Any] = dict(row.progress)
        if row.value is None:  # everything was done but the receipt
            self._clean(progress)
            self._write(row, progress, None, [])
            return
        self._note(row.id, state="running", attempts=row.attempts + 1)
        target = Target(kind=row.kind, value=row.value, base=row.base)
        gone = msgspec.convert(progress.get("gone", {}), Gone)
        progress.setdefault("shared", {})
        if target.kind in {"subject", "user"}:
            names = [target.value, f"user:{target.value}"] if target.kind == "user" else [target.value]
            self.kept_out.add(target.base or ANY_BASE, "subject", names, erasure=row.id)
        for base in self._finder.list_bases(target):
            with self._removal.hold(base):
                chosen = self._finder.choose(base, target)
                if chosen:
                    counts = self._remember(row, progress, gone, chosen)
                    _keep_most(counts, self._removal.rewrite(chosen, erasure=row.id))
                    _keep_most(counts, self._removal.destroy(chosen))
                    self._note(row.id, progress=progress)
        if gone.bases:
            self._publish()
        notes = self._clear(progress, target, gone)
        progress["places"] = msgspec.to_builtins(self._report(row, progress, notes))
        self._forget(row, progress)
        self._clean(progress)
        literals = [target.value] if target.kind in {"text", "subject", "user"} else []
        self._write(row, progress, gone, literals)

    def _clean(self, progress: dict[str, Any]) -> None:
        progress["places"] = [*progress.get("places", []), msgspec.to_builtins(self._clean_tables())]

    def _remember(
        self, row: Row[Any], progress: dict[str, Any], gone: Gone, chosen: Chosen
    ) -> dict[str, int]:
        """Write down by what copies are known, what there was, and what is kept out, before the first thing goes.

        Returns the counts of the base, to go on with.
        """
        gone.add(self._finder.gather(chosen))
        progress["gone"] = msgspec.to_builtins(gone)
        counts: dict[str, int] = progress.setdefault("bases", {}).setdefault(chosen.base, {})
        _keep_most(counts, {"documents": len(chosen.paths), "document versions": len(chosen.ids)})
        self._note(row.id, progress=progress)
        self.kept_out.add(chosen.base, "bytes", chosen.digests, erasure=row.id)
        if row.kind == "document" and row.keep_out:
            self.kept_out.add(chosen.base, "path", chosen.paths, erasure=row.id)
        return counts

    def _clear(self, progress: dict[str, Any], target: Target, gone: Gone) -> list[str]:
        """Clear what bases share, then the places beside them; keep the greater of the counts of several tries."""
        done, notes = self._removal.clear_shared(gone)
        _keep_most(progress["shared"], done)
        with self._engine.begin() as connection:
            n = queries.delete_feedback(
                connection,
                actor=target.value if target.kind == "user" else None,
                bases=gone.bases,
                passage_ids=gone.passages,
                paths=gone.paths,
            )
        _keep_most(progress["shared"], {"judgements": n})
        told: dict[str, Any] = progress.setdefault("beside", {})
        for clear in self._places:
            place = clear(target, gone)
            before = told.get(place.place, {"removed": {}, "note": None})
            _keep_most(before["removed"], place.removed)
            told[place.place] = {"removed": before["removed"], "note": place.note}
        for base in gone.bases:
            _keep_most(
                progress["shared"], {"index folders left by searches": self._removal.clear_strays(base)}
            )
        return notes

    def _report(self, row: Row[Any], progress: Mapping[str, Any], notes: Sequence[str]) -> list[PlaceDone]:
        removed: dict[str, int] = {}
        for counts in (*progress.get("bases", {}).values(), progress["shared"]):
            for name, n in counts.items():
                removed[name] = removed.get(name, 0) + n
        places = [PlaceDone(place="knowledge bases", removed=removed, note="; ".join(notes) or None)]
        places += [PlaceDone(place=name, **told) for name, told in progress["beside"].items()]
        with self._engine.connect() as connection:
            n = sum(each.erasure == row.id for each in queries.list_kept_out(connection))
        places.append(PlaceDone(place="kept out from now on", note=f"{n} keyed digests of what was erased"))
        return places

    def _forget(self, row: Row[Any], progress: dict[str, Any]) -> None:
        """Keep what was named, and what copies are known by, in memory alone."""
        progress.pop("gone", None)
        progress.pop("bases", None)
        self._note(row.id, value=None, progress=progress)

    def _write(
        self, row: Row[Any], progress: Mapping[str, Any], gone: Gone | None, literals: list[str]
    ) -> None:
        places = msgspec.convert(progress.get("places", []), list[PlaceDone])
        number = self._finish(_erasure_of(row), places, gone, literals)
        self._note(row.id, state="done", error=None, receipt=number)
        _log.info("an erasure of documents is done", extra={"erasure": row.id, "receipt": number})

    def _note(self, erasure_id: str, **values: Any) -> None:
        with self._engine.begin() as connection:
            queries.change_erasure(connection, erasure_id, {"updated_ns": self._now_ns(), **values})


def _keep_most(counts: dict[str, int], now: Mapping[str, int]) -> None:
    for name, n in now.items():
        counts[name] = max(counts.get(name, 0), n)


def _erasure_of(row: Row[Any]) -> KnowledgeErasure:
    return KnowledgeErasure(
        id=row.id,
        state=row.state,
        kind=row.kind,
        base=row.base,
        digest=row.digest,
        reason=row.reason,
        actor=row.actor,
        created_ns=row.created_ns,
        updated_ns=row.updated_ns,
        attempts=row.attempts,
        error=row.error,
        receipt=row.receipt,
    )
