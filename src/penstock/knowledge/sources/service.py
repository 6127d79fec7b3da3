"""The sources of knowledge bases: where documents come from, what is there, and bringing that up to date.

Knows nothing of parsing, passages or indexes: a scan ends with bytes in the blobs and a list of what belongs into
the base. Every public method may raise `UnknownSource`.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Row

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput, suggest
from penstock.base.ids import new_id
from penstock.knowledge.credentials import OpenSecret
from penstock.knowledge.erasure.keep_out import KeepOut
from penstock.knowledge.sources import queries
from penstock.knowledge.sources.checking import checked_settings
from penstock.knowledge.sources.declared import Change, Declaration, DeclaredSource, plan_changes
from penstock.knowledge.sources.errors import (
    SourceExists,
    SourcePaused,
    UnknownItem,
    UnknownSource,
)
from penstock.knowledge.sources.ports import BlobKeeper
from penstock.knowledge.sources.reading import SourceReader
from penstock.knowledge.sources.rows import (
    DETACHED,
    make_item,
    make_source,
    make_version,
    read_cursor,
    write_cursor,
)
from penstock.knowledge.sources.schedules import next_due, read_schedule
from penstock.knowledge.sources.types import (
    DocumentDetails,
    ItemPage,
    ItemRow,
    Scan,
    SourceRow,
    Trial,
)
from penstock.knowledge.types import IngestContext
from penstock.spec.assets import parse_asset_ref

FOLDER = "folder"
"""Name of the source of a base that was made from one folder."""
MAX_PAGE = 1000
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class SourceService:
    """Sources over the control tables and the blobs. Safe from several threads and processes."""

    def __init__(
        self,
        engine: Engine,
        blobs: BlobKeeper,
        open_secret: OpenSecret | None = None,
        *,
        clock: Callable[[], int] = wall_clock,
        chance: Callable[[], float] = lambda: 0.0,
        private_root: Path | None = None,
        kept_out: KeepOut | None = None,
    ) -> None:
        """`chance` gives numbers from 0 to 1, by which runs are spread; nothing below `private_root` is read, and
        nothing that `kept_out` lists."""
        self._engine = engine
        self._reader = SourceReader(
            engine, blobs, open_secret, clock=clock, private_root=private_root, kept_out=kept_out
        )
        self._clock = clock
        self._chance = chance

    # ---- what there is

    def list_sources(self, base: str | None = None) -> list[SourceRow]:
        """Return the sources of a base, or of all, oldest first."""
        with self._engine.connect() as connection:
            rows = queries.list_sources(connection, base)
            counts = queries.count_states(connection, rows)
        return [make_source(row, counts[row.id]) for row in rows]

    def get(self, base: str, name: str) -> SourceRow:
        """Return one source."""
        with self._engine.connect() as connection:
            row = self._find(connection, base, name)
            counts = queries.count_states(connection, [row])
        return make_source(row, counts[row.id])

    def list_items(
        self,
        base: str,
        *,
        source: str | None = None,
        states: Collection[str] = (),
        text: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> ItemPage:
        """Return a page of what the sources hold, by path; `text` is a part of the path."""
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidInput(f"The limit is {limit}; it must be between 1 and {MAX_PAGE}.")
        after = read_cursor(cursor) if cursor else None
        with self._engine.connect() as connection:
            rows = (
                [self._find(connection, base, source)] if source else queries.list_sources(connection, base)
            )
            by_id = {row.id: row for row in rows}
            found = queries.list_items(
                connection, rows, states=states, text=text, after=after, limit=limit + 1
            )
        page = [_item(row, by_id[row.source_id]) for row in found[:limit]]
        last = found[limit - 1] if len(found) > limit else None
        return ItemPage(items=page, next_cursor=write_cursor(last.path, last.source_id) if last else None)

    def iterate_items(
        self,
        base: str,
        *,
        source: str | None = None,
        states: Collection[str] = (),
        text: str | None = None,
    ) -> Iterator[ItemRow]:
        """Yield what the sources hold, by path, read page by page."""
        cursor: str | None = None
        while True:
            page = self.list_items(
                base, source=source, states=states, text=text, cursor=cursor, limit=MAX_PAGE
            )
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def document(self, base: str, path: str) -> DocumentDetails:
        """Return what is known of the document at a path of the base; raise `UnknownItem`."""
        with self._engine.connect() as connection:
            item: ItemRow | None = None
            for row in queries.list_sources(connection, base):
                prefix = row.settings.get("prefix", "")
                if path.startswith(prefix):
                    found = queries.find_item(connection, row, path.removeprefix(prefix))
                    if found is not None and (item is None or found.state in queries.KEPT_STATES):
                        item = _item(found, row)
            versions = [make_version(row) for row in queries.list_versions(connection, base, path)]
        if item is None and not versions:
            raise UnknownItem(f"knowledge:{base} has no document {path!r}.", path=path)
        return DocumentDetails(base=base, path=path, item=item, versions=versions)

    # ---- changing sources

    def add(
        self,
        base: str,
        name: str,
        kind: str,
        settings: Mapping[str, Any],
        *,
        schedule: Any = None,
    ) -> SourceRow:
        """Add a source. Without a `prefix` the first one of a base has none, and later ones `NAME/`.

        Raises `InvalidSource`, `InvalidSchedule`, `SourceExists`.
        """
        parse_asset_ref(f"knowledge:{base}")
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                f"{name!r} cannot be a source's name.",
                hint="1 to 64 lower-case letters, digits, dots, dashes and underscores.",
            )
        with self._engine.begin() as connection:
            has_others = bool(queries.list_sources(connection, base))
            given = {"prefix": f"{name}/" if has_others else "", **settings}
            row = self._new_row(base, name, kind, given, schedule)
            self._reader.check(kind, row["settings"])
            if not queries.add_source(connection, row):
                raise SourceExists(
                    f"knowledge:{base} has a source {name!r} already.",
                    hint=f"Change it: penstock knowledge source edit {base} {name}",
                )
        return self.get(base, name)

    def edit(
        self, base: str, name: str, settings: Mapping[str, Any], *, schedule: Any = msgspec.UNSET
    ) -> SourceRow:
        """Change some settings; one that is None goes back to its default. `schedule=None` takes it away."""
        with self._engine.begin() as connection:
            row = self._find(connection, base, name)
            merged = {key: value for key, value in {**row.settings, **settings}.items() if value is not None}
            values: dict[str, Any] = {"settings": checked_settings(row.kind, merged)}
            self._reader.check(row.kind, values["settings"])
            if schedule is not msgspec.UNSET:
                values.update(self._schedule_columns(schedule))
            queries.update_source(connection, row.id, {**values, "updated_ns": self._clock()})
        return self.get(base, name)

    def pause(self, base: str, name: str) -> SourceRow:
        """Read it no more until it is resumed; its documents stay."""
        return self._set_paused(base, name, is_paused=True)

    def resume(self, base: str, name: str) -> SourceRow:
        """Read it again; when it has a schedule, at the next moment of that."""
        return self._set_paused(base, name, is_paused=False)

    def remove(self, base: str, name: str, *, keep_documents: bool = False) -> str:
        """Forget a source: its documents go with the next ingest. With `keep_documents` they stay as they are, and
        the source stays in lists as detached, never to be read again. Return what becomes of them, for people.

        A base never becomes empty by an ingest: documents of its last source are served until another one is read.
        """
        now = self._clock()
        with self._engine.begin() as connection:
            row = self._find(connection, base, name)
            if not keep_documents:
                queries.delete_source(connection, row.id)
                is_last = not queries.list_sources(connection, base)
                return (
                    "are served until the base has another source" if is_last else "go with the next ingest"
                )
            report = {**(row.report or {}), DETACHED: True}
            values = {"report": report, "is_paused": 1, "schedule": None, "due_ns": None, "updated_ns": now}
            queries.update_source(connection, row.id, values)
        return "stay"

    def apply(
        self, declaration: Declaration, *, remove_others: bool = False, is_trial: bool = False
    ) -> list[Change]:
        """Make the sources of a base what a file says, and return what that changed or, in a trial, would change."""
        base = declaration.name
        parse_asset_ref(f"knowledge:{base}")
        changes = plan_changes(declaration.sources, self.list_sources(base), remove_others=remove_others)
        if is_trial:
            return changes
        declared = {each.name: each for each in declaration.sources}
        for change in changes:
            if change.action == "remove":
                self.remove(base, change.source)
            elif change.action in {"add", "edit"}:
                self._apply_one(base, declared[change.source], is_new=change.action == "add")
        return changes

    def _apply_one(self, base: str, declared: DeclaredSource, *, is_new: bool) -> None:
        if is_new:
            self.add(base, declared.name, declared.kind, declared.settings, schedule=declared.schedule)
        else:
            present = self.get(base, declared.name)
            left = {key: None for key in present.settings if key not in {"prefix", *declared.settings}}
            schedule = msgspec.UNSET if declared.schedule == present.schedule else declared.schedule
            self.edit(base, declared.name, {**left, **declared.settings}, schedule=schedule)
        row = self.get(base, declared.name)
        if row.is_paused != declared.is_paused:
            self._set_paused(base, declared.name, is_paused=declared.is_paused)

    def ensure_folder(self, base: str, folder: Path, *, seed: Mapping[str, str] | None = None) -> str:
        """Let the base have the source `folder` over this folder, and return the source's id.

        `seed` names what is live in a base from before there were sources: bytes digests by path. A new source
        takes them for what it held before, so that deletions are seen and guarded at once.
        """
        settings = {"location": str(folder)}
        now = self._clock()
        with self._engine.begin() as connection:
            row = queries.find_source(connection, base, FOLDER)
            if row is not None:
                if row.kind != "folder" or (row.report or {}).get(DETACHED):
                    raise SourcePaused(
                        f"The source {FOLDER!r} of knowledge:{base} is no folder that is read.",
                        hint="Add the folder as a source of another name.",
                    )
                if row.settings["location"] != str(folder):
                    merged = checked_settings("folder", {**row.settings, **settings})
                    queries.update_source(connection, row.id, {"settings": merged, "updated_ns": now})
                return str(row.id)
            fresh = self._new_row(base, FOLDER, "folder", {"prefix": "", **settings}, None)
            if queries.add_source(connection, fresh):
                queries.save_items(
                    connection, [_seeded(fresh["id"], *pair, now) for pair in (seed or {}).items()]
                )
            return str(self._find(connection, base, FOLDER).id)

    # ---- reading sources

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
        return self._reader.scan_all(base, ctx, only, allow_mass_deletion=allow_mass_deletion)

    def test(self, base: str, name: str, *, limit: int = 20) -> Trial:
        """Look at what a scan of a source would find; nothing is written."""
        row = self.get(base, name)
        return self._reader.test(row.kind, row.settings, limit=limit)

    def test_settings(self, kind: str, settings: Mapping[str, Any], *, limit: int = 20) -> Trial:
        """Look at what a source with these settings would hold, reading at most `limit` documents of it."""
        return self._reader.test(kind, checked_settings(kind, settings), limit=limit)

    # ---- inside

    def _find(self, connection: Connection, base: str, name: str) -> Row[Any]:
        row = queries.find_source(connection, base, name)
        if row is None:
            known = [each.name for each in queries.list_sources(connection, base)]
            raise UnknownSource(
                f"knowledge:{base} has no source {name!r}.",
                hint=suggest(name, known) or (f"It has: {', '.join(known)}." if known else None),
                source=name,
            )
        return row

    def _new_row(
        self, base: str, name: str, kind: str, settings: Mapping[str, Any], schedule: Any
    ) -> dict[str, Any]:
        now = self._clock()
        return {
            "id": new_id("src"),
            "base": base,
            "name": name,
            "kind": kind,
            "settings": checked_settings(kind, settings),
            **self._schedule_columns(schedule),
            "is_paused": 0,
            "state": "new",
            "error": None,
            "report": None,
            "epoch": 0,
            "started_ns": None,
            "ended_ns": None,
            "created_ns": now,
            "updated_ns": now,
        }

    def _schedule_columns(self, schedule: Any) -> dict[str, Any]:
        if schedule is None:
            return {"schedule": None, "due_ns": None}
        read = read_schedule(schedule)
        return {
            "schedule": msgspec.to_builtins(read),
            "due_ns": next_due(read, self._clock(), self._chance),
        }

    def _set_paused(self, base: str, name: str, *, is_paused: bool) -> SourceRow:
        with self._engine.begin() as connection:
            row = self._find(connection, base, name)
            if (row.report or {}).get(DETACHED):
                raise SourcePaused(f"The source {name!r} is only kept for its documents, and not read.")
            due = (
                None if is_paused or row.schedule is None else self._schedule_columns(row.schedule)["due_ns"]
            )
            values = {"is_paused": int(is_paused), "due_ns": due, "updated_ns": self._clock()}
            queries.update_source(connection, row.id, values)
        return self.get(base, name)


def _item(row: Row[Any], source: Row[Any]) -> ItemRow:
    return make_item(row, source.name, source.settings.get("prefix", ""))


def _seeded(source_id: str, path: str, digest: str, now_ns: int) -> dict[str, Any]:
    return {
        "source_id": source_id,
        "path": path,
        "digest": digest,
        "token": None,
        "size_bytes": None,
        "properties": {},
        "state": "live",
        "reason": None,
        "moved_from": None,
        "epoch": 0,
        "first_seen_ns": now_ns,
        "last_seen_ns": now_ns,
        "changed_ns": now_ns,
    }
