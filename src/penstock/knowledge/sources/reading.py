"""Reads the sources of a base: opens each, scans it, and collects what belongs into the base."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine, Row

from penstock.base.errors import PenstockError, suggest
from penstock.knowledge.credentials import Credentials, OpenSecret, without_secrets
from penstock.knowledge.erasure.keep_out import KeepOut
from penstock.knowledge.sources import queries
from penstock.knowledge.sources.catalogue import find_kind, read_kind_settings
from penstock.knowledge.sources.errors import InvalidSource, SourcePaused, SourceUnavailable, UnknownSource
from penstock.knowledge.sources.ports import BlobKeeper
from penstock.knowledge.sources.rows import DETACHED
from penstock.knowledge.sources.scanning import ScanOrder, SourceScan, say_unread, storable, tell
from penstock.knowledge.sources.settings import SourceSettings
from penstock.knowledge.sources.types import (
    LeftOut,
    Scan,
    ScannedItem,
    Source,
    SourceItem,
    SourceOutcome,
    Trial,
)
from penstock.knowledge.sources.web.guard import check_literal
from penstock.knowledge.sources.web.settings import WebSettings
from penstock.knowledge.types import Dropped, DroppedKind, IngestContext
from penstock.spec.knowledge import Properties

TRIED_LEFT_OUT = 100
"""So many times the limit of a trial may be left out before it stops."""


class SourceReader:
    """Scans sources over the control tables and the blobs."""

    def __init__(
        self,
        engine: Engine,
        blobs: BlobKeeper,
        open_secret: OpenSecret | None,
        *,
        clock: Callable[[], int],
        private_root: Path | None = None,
        kept_out: KeepOut | None = None,
    ) -> None:
        self._engine = engine
        self._kept_out = kept_out
        self._blobs = blobs
        self._open_secret = open_secret
        self._clock = clock
        self._private = None if private_root is None else private_root.resolve()

    def scan_all(
        self,
        base: str,
        ctx: IngestContext,
        only: Sequence[str] | None = None,
        *,
        allow_mass_deletion: bool = False,
    ) -> Scan:
        """Bring the items of the base's sources up to date, and return what belongs into the base.

        Paused sources are scanned only when `only` names them; documents of sources that are not scanned stay. When
        every source that was to be scanned failed, the first error is raised; when some did, their outcomes say so.
        """
        with self._engine.connect() as connection:
            rows = queries.list_sources(connection, base)
        chosen = _choose(rows, base, only)
        outcomes: list[SourceOutcome] = []
        gone: list[str] = []
        errors: list[PenstockError] = []
        for row in chosen:
            ctx.check_cancelled()
            try:
                outcome, lost = self._scan_one(row, ctx, allow_mass_deletion=allow_mass_deletion)
            except PenstockError as error:
                errors.append(error)
                outcomes.append(_failed(row.name, tell(error)))
                ctx.log(f"source {row.name}: {tell(error)}")
                continue
            outcomes.append(outcome)
            gone.extend(row.settings.get("prefix", "") + path for path in lost)
            for problem in outcome.problems:
                ctx.log(f"source {row.name}: {problem}")
        if errors and len(errors) == len(chosen):
            raise errors[0]
        return self._collect(base, gone, outcomes)

    def test(self, kind: str, settings: Mapping[str, Any], *, limit: int = 20) -> Trial:
        """Look at what a source with these settings would hold, reading at most `limit` documents of it."""
        read = read_kind_settings(kind, settings)
        source, credentials = self._open(kind, "trial", read)
        first: list[dict[str, Any]] = []
        errors: list[Dropped] = []
        seen = left_out = n_unread = 0
        is_cut = False
        try:
            for found in source.scan({}):
                if isinstance(found, LeftOut):
                    left_out += 1
                    what: DroppedKind = "unreadable" if found.is_unreadable else "left_out"
                    reason = credentials.hide(found.reason)
                    errors.append(Dropped(path=found.path, reason=reason, what=what))
                else:
                    seen += 1
                    n_unread += found.properties.readers == []
                    first.append(_tried(found))
                if seen >= limit or left_out >= TRIED_LEFT_OUT * limit:
                    is_cut = True
                    break
        except OSError as error:
            raise SourceUnavailable(f"The place {tell(error)}.") from error
        except PenstockError as error:
            raise _hidden(error, credentials) from None
        except Exception as error:  # as in a scan: whatever a library raises
            raise SourceUnavailable(
                credentials.hide(f"It cannot be read: {type(error).__name__}: {error}.")
            ) from error
        return Trial(
            seen=seen,
            left_out=left_out,
            complete=source.complete,
            first=first[:limit],
            errors=errors[:limit],
            problems=[*(credentials.hide(each) for each in source.problems), *say_unread(n_unread, seen)],
            is_cut=is_cut,
        )

    def _scan_one(
        self, row: Row[Any], ctx: IngestContext, *, allow_mass_deletion: bool
    ) -> tuple[SourceOutcome, list[str]]:
        settings = read_kind_settings(row.kind, row.settings)
        source, credentials = self._open(row.kind, row.id, settings)
        order = ScanOrder(
            source_id=row.id,
            name=row.name,
            max_bytes=settings.max_bytes,
            max_gone_share=settings.max_gone_share,
            allow_mass_deletion=allow_mass_deletion,
        )
        sieve = self._kept_out.open(row.base, row.settings.get("prefix", "")) if self._kept_out else None
        scan = SourceScan(
            self._engine, self._blobs, order, clock=self._clock, hide=credentials.hide, sieve=sieve
        )
        try:
            return scan.run(source, ctx)
        except OSError as error:
            raise SourceUnavailable(f"The source {row.name!r} {credentials.hide(tell(error))}.") from error
        except PenstockError as error:
            raise _hidden(error, credentials) from None

    def check(self, kind: str, settings: Mapping[str, Any]) -> None:
        """Raise what opening a source with these settings would raise for where it lies; asks nobody."""
        read = read_kind_settings(kind, settings)
        self._check_places(kind, read)
        if isinstance(read, WebSettings):
            check_literal(read.location, read.allow_private)

    def _open(self, kind: str, source_id: str, settings: SourceSettings) -> tuple[Source, Credentials]:
        self._check_places(kind, settings)
        credentials = Credentials(self._open_secret, without_secrets(settings.secret_address()))
        try:
            return find_kind(kind).open(source_id, settings, credentials, self._private), credentials
        except PenstockError:
            raise
        except Exception as error:  # as in a scan: whatever a library raises
            raise SourceUnavailable(
                credentials.hide(f"It cannot be opened: {type(error).__name__}.")
            ) from error

    def _check_places(self, kind: str, settings: SourceSettings) -> None:
        for place in settings.local_places():
            try:
                resolved = Path(place).resolve()
            except (OSError, RuntimeError, ValueError) as error:  # such as links that lead to one another
                raise InvalidSource(f"{place!r} cannot be looked at: {error}.") from None
            self._refuse_private(resolved, is_pruned=kind == "folder")

    def _refuse_private(self, place: Path, *, is_pruned: bool) -> None:
        if self._private is None:
            return
        is_around = self._private.is_relative_to(place) and not is_pruned
        if place.is_relative_to(self._private) or is_around:
            raise InvalidSource(
                f"{str(place)!r} reaches into Penstock's own home.", hint="Keep documents beside it."
            )

    def _collect(self, base: str, gone: list[str], outcomes: list[SourceOutcome]) -> Scan:
        items: dict[str, ScannedItem] = {}
        left_out: list[Dropped] = []
        with self._engine.connect() as connection:
            for row in queries.list_sources(connection, base):
                prefix = row.settings.get("prefix", "")
                for item in queries.iterate_items(connection, row.id):
                    if item.state == "gone":
                        continue
                    path = prefix + item.path
                    if item.state != "live":
                        left_out.append(Dropped(path=path, reason=item.reason or item.state, what=item.state))
                    if item.digest is None or item.state not in queries.KEPT_STATES:
                        continue
                    if path in items:
                        reason = f"the source {items[path].source!r} has a document of this path; set another prefix"
                        left_out.append(Dropped(path=path, reason=reason, what="left_out"))
                        continue
                    items[path] = ScannedItem(
                        source_id=row.id,
                        source=row.name,
                        path=path,
                        digest=item.digest,
                        size_bytes=item.size_bytes or 0,
                        properties=msgspec.convert(item.properties, Properties),
                        moved_from=None if item.moved_from is None else prefix + item.moved_from,
                        problem=item.reason if item.state == "unreadable" else None,
                    )
        left_out.sort(key=lambda each: each.path)
        return Scan(
            items=[items[path] for path in sorted(items)],
            left_out=left_out,
            gone=sorted(set(gone) - items.keys()),
            outcomes=outcomes,
        )


def _choose(rows: Sequence[Row[Any]], base: str, only: Sequence[str] | None) -> list[Row[Any]]:
    if only is None:
        return [row for row in rows if not row.is_paused]
    known = {row.name: row for row in rows}
    for name in only:
        if name not in known:
            raise UnknownSource(
                f"knowledge:{base} has no source {name!r}.", hint=suggest(name, known), source=name
            )
        if (known[name].report or {}).get(DETACHED):
            raise SourcePaused(f"The source {name!r} is only kept for its documents, and not read.")
    return [known[name] for name in dict.fromkeys(only)]


def _failed(name: str, error: str) -> SourceOutcome:
    return SourceOutcome(
        source=name,
        complete=False,
        seen=0,
        read=0,
        read_bytes=0,
        added=0,
        changed=0,
        moved=0,
        gone=0,
        unreadable=0,
        left_out=0,
        seconds=0.0,
        error=error,
    )


def _tried(found: SourceItem) -> dict[str, Any]:
    try:
        size: int | None = len(found.read())
        error = None
    except (PenstockError, OSError) as problem:
        size, error = found.size_bytes, tell(problem)
    except Exception as problem:  # as in a scan
        size, error = found.size_bytes, f"cannot be read: {type(problem).__name__}"
    return {
        "path": storable(found.path),
        "size_bytes": size,
        "error": error,
        "properties": msgspec.to_builtins(found.properties),
    }


def _hidden(error: PenstockError, credentials: Credentials) -> PenstockError:
    """Return the error without secrets in its text."""
    hint = None if error.hint is None else credentials.hide(error.hint)
    return type(error)(credentials.hide(error.message), hint=hint, **error.fields)
