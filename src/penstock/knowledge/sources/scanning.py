"""One scan of one source: what is new is read into the blobs, what vanished is marked, and all of it is counted.

Killed at any point, the next scan goes on from what was written. A document counts as gone only after a scan that
saw the whole source; a scan that a later one overtook takes nothing away; and what the guard against mass deletion
stops is not written at all.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from penstock.base.digest import digest_bytes
from penstock.base.errors import PenstockError
from penstock.knowledge.erasure.keep_out import Sieve
from penstock.knowledge.errors import MassDeletion
from penstock.knowledge.sources import queries
from penstock.knowledge.sources.errors import SourceUnavailable, UnknownSource
from penstock.knowledge.sources.ports import BlobKeeper
from penstock.knowledge.sources.tree import reason_against_size
from penstock.knowledge.sources.types import (
    MAX_PROBLEMS,
    KnownItem,
    LeftOut,
    Source,
    SourceItem,
    SourceOutcome,
    note_problem,
)
from penstock.knowledge.types import IngestContext

MASS_DELETION_FLOOR = 2
"""Fewer documents than this may vanish from any source."""
BATCH = 200
GONE_DAYS = 90
"""How long what is gone stays listed."""
_log = logging.getLogger(__name__)
_COMPARED = ("state", "digest", "token", "size_bytes", "properties", "reason", "moved_from")
_DAY_NS = 86_400 * 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class ScanOrder:
    """What is to be scanned, and how careful to be."""

    source_id: str
    name: str
    max_bytes: int
    max_gone_share: float
    allow_mass_deletion: bool = False


@dataclass(kw_only=True)
class _Tally:
    seen: int = 0
    read: int = 0
    read_bytes: int = 0
    added: int = 0
    changed: int = 0
    unreadable: int = 0
    left_out: int = 0
    unread: int = 0
    """Nobody may read them."""
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Before:
    """An item as the scan before left it."""

    token: str | None
    digest: str | None
    size_bytes: int | None
    properties: dict[str, Any]
    state: str
    reason: str | None
    moved_from: str | None
    changed_ns: int

    @property
    def is_kept(self) -> bool:
        return self.digest is not None and self.state in queries.KEPT_STATES


class SourceScan:
    """Scans one source once."""

    def __init__(
        self,
        engine: Engine,
        blobs: BlobKeeper,
        order: ScanOrder,
        *,
        clock: Callable[[], int],
        hide: Callable[[str], str],
        sieve: Sieve | None = None,
    ) -> None:
        """`hide` takes secrets out of a text; of what `sieve` keeps out nothing is written."""
        self._engine = engine
        self._blobs = blobs
        self._order = order
        self._clock = clock
        self._hide = hide
        self._sieve = sieve
        self._before: dict[str, _Before] = {}
        self._now: dict[str, str] = {}
        """Digests of what is kept after this scan, by path."""
        self._seen: set[str] = set()
        self._waiting: list[dict[str, Any]] = []
        self._held_back: list[dict[str, Any]] = []
        """Takes documents away, so it waits for the guard."""
        self._epoch = 0
        self._tally = _Tally()

    def run(self, source: Source, ctx: IngestContext) -> tuple[SourceOutcome, list[str]]:
        """Scan and return what came of it, with the paths that left the base.

        Raises what the source raises when nothing can be listed, and `MassDeletion`: both are noted with the
        source, and nothing is taken away.
        """
        started = time.monotonic()
        with self._engine.begin() as connection:
            epoch = queries.next_epoch(connection, self._order.source_id, self._clock())
            if epoch is None:
                raise self._removed()
            self._epoch = epoch
            self._load(connection)
        try:
            for found in _only_told_errors(source, _KnownItems(self._before, self._blobs)):
                ctx.check_cancelled()
                self._take(found)
                if len(self._waiting) >= BATCH:
                    self._save()
                    ctx.progress(0.02, f"{self._order.name}: {self._tally.seen} documents seen")
            self._save()
            self._tally.problems += [self._hide(each) for each in source.problems]
            self._tally.problems += self._sieve.tell() if self._sieve is not None else []
            self._tally.problems[:0] = say_unread(self._tally.unread, self._tally.seen)
            lost, moves = self._sweep(is_complete=source.complete)
        except (PenstockError, OSError) as error:
            self._save()
            self._end("failed", self._told(error), None)
            raise
        except BaseException as error:
            self._end("failed", f"it was stopped: {type(error).__name__}", None)
            raise
        outcome = SourceOutcome(
            source=self._order.name,
            complete=source.complete,
            seen=self._tally.seen,
            read=self._tally.read,
            read_bytes=self._tally.read_bytes,
            added=self._tally.added,
            changed=self._tally.changed,
            moved=len(moves),
            gone=len(lost),
            unreadable=self._tally.unreadable,
            left_out=self._tally.left_out,
            seconds=round(time.monotonic() - started, 3),
            problems=self._tally.problems[:MAX_PROBLEMS],
        )
        self._end("ok" if source.complete else "incomplete", None, outcome)
        return outcome, lost

    def _load(self, connection: Any) -> None:
        for row in queries.iterate_items(connection, self._order.source_id):
            self._before[row.path] = _Before(
                token=row.token,
                digest=row.digest,
                size_bytes=row.size_bytes,
                properties=row.properties,
                state=row.state,
                reason=row.reason,
                moved_from=row.moved_from,
                changed_ns=row.changed_ns,
            )

    def _take(self, found: SourceItem | LeftOut) -> None:
        path = storable(found.path)
        if path in self._seen:
            self._tally.left_out += 1
            note_problem(self._tally.problems, f"{path} comes twice; the first one counts")
            return
        if self._is_erased(
            path=path, subjects=() if isinstance(found, LeftOut) else found.properties.subjects
        ):
            return
        self._seen.add(path)
        if isinstance(found, LeftOut):
            self._leave_out(path, self._hide(found.reason), is_unreadable=found.is_unreadable)
            return
        before = self._before.get(path)
        is_known = before is not None and before.is_kept
        if before is not None and is_known and found.token is not None and found.token == before.token:
            assert before.digest is not None
            digest, size = before.digest, before.size_bytes
        else:
            try:
                data = found.read()
            except (PenstockError, OSError) as error:
                self._leave_out(path, self._told(error), is_unreadable=True)
                return
            except Exception as error:  # whatever a library raises over one document
                _log.exception("a document cannot be read", extra={"source": self._order.name})
                self._leave_out(path, f"cannot be read: {type(error).__name__}", is_unreadable=True)
                return
            reason = reason_against_size(len(data), self._order.max_bytes)
            if reason is not None:
                self._leave_out(path, reason, is_unreadable=False)
                return
            if self._is_erased(bytes_digest=digest_bytes(data)):
                return
            digest, size = self._blobs.put_bytes(data), len(data)
            self._tally.read += 1
            self._tally.read_bytes += size
        self._tally.seen += 1
        self._tally.unread += found.properties.readers == []
        self._tally.added += not is_known
        self._tally.changed += before is not None and is_known and digest != before.digest
        self._now[path] = digest
        self._write(
            self._row(
                path,
                state="live",
                reason=None,
                digest=digest,
                token=found.token,
                size_bytes=size,
                properties=_storable_all(msgspec.to_builtins(found.properties)),
            )
        )

    def _is_erased(self, **named: Any) -> bool:
        """Return whether it must not come back; it counts as left out, by no name."""
        if self._sieve is None or not self._sieve.keeps_out(**named):
            return False
        self._tally.left_out += 1
        return True

    def _leave_out(self, path: str, reason: str, *, is_unreadable: bool) -> None:
        before = self._before.get(path)
        kept = before if before is not None and before.is_kept else None
        if is_unreadable:
            self._tally.unreadable += 1
        else:
            self._tally.left_out += 1
        stays = kept if is_unreadable else None
        if stays is not None and stays.digest is not None:
            self._now[path] = stays.digest
        row = self._row(
            path,
            state="unreadable" if is_unreadable else "left_out",
            reason=storable(reason)[:1000],
            digest=stays.digest if stays else None,
            token=None,  # so that it is read as soon as it can be
            size_bytes=stays.size_bytes if stays else None,
            properties=stays.properties if stays else {},
        )
        if kept is not None and stays is None:
            self._held_back.append(row)
        else:
            self._write(row)

    def _row(self, path: str, **values: Any) -> dict[str, Any]:
        now, before = self._clock(), self._before.get(path)
        is_same = before is not None and (before.digest, before.state, before.properties) == (
            values["digest"],
            values["state"],
            values["properties"],
        )
        return {
            "source_id": self._order.source_id,
            "path": path,
            **values,
            "moved_from": None,
            "epoch": self._epoch,
            "first_seen_ns": now,
            "last_seen_ns": now,
            "changed_ns": before.changed_ns if before is not None and is_same else now,
        }

    def _write(self, row: dict[str, Any]) -> None:
        """Line a row up; one that says nothing new is seen to by the sweep."""
        before = self._before.get(row["path"])
        if before is None or any(row[name] != getattr(before, name) for name in _COMPARED):
            self._waiting.append(row)

    def _save(self) -> None:
        rows, self._waiting = self._waiting, []
        try:
            with self._engine.begin() as connection:
                queries.save_items(connection, rows)
        except IntegrityError as error:
            with self._engine.connect() as connection:
                if queries.get_source(connection, self._order.source_id) is None:
                    raise self._removed() from error
            raise

    def _removed(self) -> UnknownSource:
        return UnknownSource(
            f"The source {self._order.name!r} was removed while it was scanned.", source=self._order.name
        )

    def _sweep(self, *, is_complete: bool) -> tuple[list[str], dict[str, str]]:
        """Take away what is gone, and find where it moved to; return lost paths and former paths by new ones."""
        order = self._order
        with self._engine.begin() as connection:
            if not queries.is_newest_epoch(connection, order.source_id, self._epoch):
                self._tally.problems.append("a later scan began meanwhile; nothing was taken away")
                return [], {}
            had = {path: each.digest for path, each in self._before.items() if each.is_kept}
            lost = [path for path in had if path not in self._now and (is_complete or path in self._seen)]
            present = set(self._now.values())
            self._guard(len(had), [path for path in lost if had[path] not in present])
            queries.save_items(connection, self._held_back)
            moves: dict[str, str] = {}
            if is_complete:
                moves = self._find_moves({path: had[path] for path in lost}, had)
                now = self._clock()
                unseen = [path for path, each in self._before.items() if each.state != "gone"]
                unseen = [path for path in unseen if path not in self._seen]
                queries.mark_gone(connection, order.source_id, unseen, now)
                queries.mark_seen(connection, order.source_id, self._epoch, now)
                queries.mark_moved(connection, order.source_id, moves)
                queries.forget_gone(connection, order.source_id, self._clock() - GONE_DAYS * _DAY_NS)
        return sorted(lost), moves

    def _find_moves(self, lost: Mapping[str, str | None], had: Mapping[str, str | None]) -> dict[str, str]:
        """Return former paths by new ones, for bytes that left one path and came to another."""
        places: dict[str | None, list[str]] = {}
        for path in sorted(lost, reverse=True):
            places.setdefault(lost[path], []).append(path)
        moves: dict[str, str] = {}
        for path in sorted(self._now):
            waiting = places.get(self._now[path])
            if path not in had and waiting:
                moves[path] = waiting.pop()
        return moves

    def _guard(self, n_before: int, gone: list[str]) -> None:
        order = self._order
        few = len(gone) < MASS_DELETION_FLOOR or len(gone) <= order.max_gone_share * n_before
        if order.allow_mass_deletion or few:
            return
        raise MassDeletion(
            f"{len(gone)} of {n_before} documents are gone from the source {order.name!r} or no longer wanted, "
            f"such as {min(gone)!r}.",
            hint="Check the source; if they are to be removed, ingest again with --allow-mass-deletion.",
            source=order.name,
            n_gone=len(gone),
            n_before=n_before,
        )

    def _end(self, state: str, error: str | None, outcome: SourceOutcome | None) -> None:
        now = self._clock()
        with self._engine.begin() as connection:
            row = queries.get_source(connection, self._order.source_id)
            if row is None or row.epoch != self._epoch:
                return
            values: dict[str, Any] = {"state": state, "error": error, "ended_ns": now, "updated_ns": now}
            if outcome is not None:
                values["report"] = {**(row.report or {}), "outcome": msgspec.to_builtins(outcome)}
            queries.update_source(connection, self._order.source_id, values)

    def _told(self, error: PenstockError | OSError) -> str:
        return self._hide(tell(error))


class _KnownItems(Mapping[str, KnownItem]):
    """What the scan before found, made into `KnownItem` one by one."""

    def __init__(self, before: Mapping[str, _Before], blobs: BlobKeeper) -> None:
        self._before = before
        self._blobs = blobs

    def __getitem__(self, path: str) -> KnownItem:
        before = self._before[path]
        if before.digest is None or not before.is_kept:
            raise KeyError(path)
        digest = before.digest
        return KnownItem(
            token=before.token,
            digest=digest,
            size_bytes=before.size_bytes,
            properties=before.properties,
            read=lambda: self._blobs.get(digest),
        )

    def __iter__(self) -> Iterator[str]:
        return (path for path, before in self._before.items() if before.is_kept)

    def __len__(self) -> int:
        return sum(before.is_kept for before in self._before.values())


def say_unread(n_unread: int, n_seen: int) -> list[str]:
    """Return what is to be told of documents whose list of readers is empty."""
    if not n_unread:
        return []
    name, find = ("names", "it") if n_unread == 1 else ("name", "them")
    return [f"{n_unread:,} of {n_seen:,} documents {name} no readers: nobody finds {find}"]


def tell(error: PenstockError | OSError) -> str:
    """Return why something could not be read, for people."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return f"{error.message} {error.hint}" if error.hint else error.message


def _only_told_errors(source: Source, known: Mapping[str, KnownItem]) -> Iterator[SourceItem | LeftOut]:
    """Yield what a source yields; what it raises beside what it says it does becomes `SourceUnavailable`."""
    try:
        yield from source.scan(known)
    except (PenstockError, OSError):
        raise
    except Exception as error:  # a fault over one page or row is this source's own, and not that of the base
        _log.exception("a source cannot be read on")
        raise SourceUnavailable(f"It cannot be read on: {type(error).__name__}: {error}.") from error


def _storable_all(value: Any) -> Any:
    """Return JSON values whose texts databases take."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(name): _storable_all(each) for name, each in value.items()}
    return [_storable_all(each) for each in value] if isinstance(value, list) else value


def storable(text: str) -> str:
    """Return a text that databases and JSON take: valid Unicode without the zero character."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "�")
