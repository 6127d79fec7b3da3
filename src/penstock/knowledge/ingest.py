"""From sources to what is live: scan, parse and cut what is new, embed what is new, build, publish.

Every track of the base is brought up to date, so candidates are compared on the documents of now, and the way back
never leads to a document that was deleted since. Contents go live here; a changed recipe never does.

Safe to stop at any point and to run again: everything that is made is named by what it was made of, so finished work
is found and not repeated, and what is live changes at the very end, in one step. One ingest of a base at a time.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import NoReturn

import msgspec
from sqlalchemy import Engine

from penstock.base.clock import now_ns
from penstock.base.errors import PenstockError
from penstock.knowledge import queries
from penstock.knowledge.choosing import Choosing, Chosen, LiveDocument
from penstock.knowledge.cutting import CutTally
from penstock.knowledge.errors import MassDeletion, NoDocuments
from penstock.knowledge.generations.build import Builder, Built, Scaled
from penstock.knowledge.generations.errors import RecipeIsNotLive
from penstock.knowledge.generations.locks import BaseLocks
from penstock.knowledge.generations.opened_tracks import OpenTrack, open_track
from penstock.knowledge.generations.switching import Renewed, Switching
from penstock.knowledge.generations.tracks import Track, Tracked, Tracks
from penstock.knowledge.generations.types import LIVE
from penstock.knowledge.parse import SUFFIXES
from penstock.knowledge.recipe_bounds import check_recipe
from penstock.knowledge.recipes import recipe_as_dict
from penstock.knowledge.sources.service import SourceService
from penstock.knowledge.sources.types import Scan, ScannedItem
from penstock.knowledge.types import Dropped, EmbedderSource, IngestContext, IngestReport
from penstock.spec.knowledge import EVERYONE, Recipe

MASS_DELETION_FLOOR = 2
MASS_DELETION_SHARE = 0.5
FOLDER = "folder"


@dataclass(frozen=True, kw_only=True)
class IngestOrder:
    """What is to be ingested."""

    base: str
    folder: Path | None = None
    """The base's source `folder` is over this folder from now on, and it alone is scanned."""
    sources: Sequence[str] | None = None
    """Names of the sources to scan; None scans all that are not paused."""
    recipe: Recipe | None = None
    """Of a base that is new."""
    allow_mass_deletion: bool = False


@dataclass(frozen=True, kw_only=True)
class IngestParts:
    """What an ingest works with."""

    engine: Engine
    sources: SourceService
    embedders: EmbedderSource
    choosing: Choosing
    builder: Builder
    tracks: Tracks
    switching: Switching
    locks: BaseLocks


class Ingesting:
    """Brings bases up to date with their sources."""

    def __init__(self, parts: IngestParts) -> None:
        self._parts = parts
        self._engine = parts.engine

    def ingest(self, order: IngestOrder, ctx: IngestContext) -> IngestReport:
        """Make the base hold exactly what its sources hold, and make that live in one step."""
        locks = self._parts.locks
        with locks.hold(order.base, "contents", while_waiting=ctx.check_cancelled), locks.share_blobs():
            tracks = self._prepare(order)
            try:
                report = self._bring_up(order, tracks, ctx)
            except PenstockError:
                self._tell_narrowed(order.base, tracks[LIVE].generation, ctx)
                raise
        ctx.progress(1.0, f"{report.passages} passages of {report.documents} documents are live")
        return report

    def _bring_up(self, order: IngestOrder, tracks: Tracked, ctx: IngestContext) -> IngestReport:
        before = self._parts.choosing.list_live(tracks[LIVE].generation)
        begun = monotonic()
        scan = self._scan(order, before, Scaled(ctx, 0.0, 0.1))
        tally = CutTally(seconds={"scan": monotonic() - begun})
        may_empty = order.allow_mass_deletion and bool(before)
        if not scan.items and not may_empty:
            _refuse_empty(order, scan.left_out, was_live=bool(before))
        opened = {name: self._open(each) for name, each in tracks.items()}
        chosen = self._parts.choosing.choose(
            order.base,
            scan.items,
            [each.cut for each in opened.values()],
            before=before,
            ctx=Scaled(ctx, 0.1, 0.4),
            tally=tally,
        )
        live = chosen[opened[LIVE].cut.key]
        if not live.ids and not may_empty:
            _refuse_empty(order, [*scan.left_out, *live.dropped], was_live=bool(before))
        _guard(before, live, scan.items, allowed=order.allow_mass_deletion)
        built, behind = self._build(order.base, opened, chosen, Scaled(ctx, 0.4, 0.98))
        report = _report(order.base, scan, before, live, built=built[LIVE], tally=tally)
        report = msgspec.structs.replace(report, notes=_notes(opened, behind))
        ctx.check_cancelled()
        went_live, version = self._parts.switching.publish(
            order.base,
            [
                Renewed(
                    track=each.track,
                    embedder=each.made_with,
                    generation=str(built[name].row.id) if name in built else None,
                    reason=behind.get(name, ""),
                )
                for name, each in opened.items()
            ],
            evidence={"ingest": report.as_evidence()},
        )
        if went_live != report.generation:
            report = self._report_other(report, went_live, built)
        self._note_source(order)
        return msgspec.structs.replace(report, version=version)

    def _tell_narrowed(self, base: str, live: str | None, ctx: IngestContext) -> None:
        """Note at the base which documents are found by more than their sources let read them, until an ingest ends."""
        if live is None:
            return
        try:
            items = self._parts.sources.scan_all(base, ctx, []).items
        except PenstockError:
            return
        with self._engine.connect() as connection:
            rows = queries.list_generation_documents(connection, live)
        told = {each.path: each.properties.readers for each in items}
        open_to = {row.path: (row.properties or {}).get("readers") for row in rows if row.n_passages}
        narrowed = [path for path, readers in open_to.items() if _is_narrower(told.get(path), readers)]
        if narrowed:
            note = (
                f"{len(narrowed)} documents are found by more than their sources let read them, such as "
                f"{min(narrowed)!r}, until an ingest ends"
            )
            ctx.log(note)
            self._parts.switching.note_live(base, note)

    def _report_other(self, report: IngestReport, live: str, built: Mapping[str, Built]) -> IngestReport:
        """Return the report of an ingest during which somebody switched: what is live is another track."""
        with self._engine.connect() as connection:
            row = queries.find_generation(connection, live)
        if row is None:
            return report
        told = "another track was made live meanwhile"
        if not any(str(each.row.id) == live for each in built.values()):
            told += " and could not be brought up to date: it holds the documents of before"
        return msgspec.structs.replace(
            report,
            generation=live,
            embedder=row.embedder,
            passages=row.n_passages,
            documents=row.n_documents,
            notes=[*report.notes, told],
        )

    def _prepare(self, order: IngestOrder) -> Tracked:
        """Return the tracks; a base that has nothing live yet begins with the recipe that was asked for."""
        base = order.base
        tracks = self._parts.tracks.load(base)
        live = tracks.get(LIVE)
        if live is not None and live.generation is not None:
            if order.recipe is not None and order.recipe != live.recipe:
                raise RecipeIsNotLive(
                    f"{base!r} is live by another recipe.",
                    hint=f"Build the new one beside it, compare, and switch: penstock knowledge rebuild {base} "
                    "--as NAME, then switch.",
                )
            return tracks
        recipe = order.recipe or (live.recipe if live is not None else Recipe())
        check_recipe(recipe)
        with self._engine.begin() as connection:  # documents refer to it; lists show it once it is live
            queries.add_base(connection, name=base, recipe=recipe_as_dict(recipe), now_ns=now_ns())
        return self._parts.switching.start(base, Track(name=LIVE, recipe=recipe, generation=None))

    def _scan(self, order: IngestOrder, before: Mapping[str, LiveDocument], ctx: IngestContext) -> Scan:
        sources = self._parts.sources
        only = order.sources
        if order.folder is not None:
            is_first = not sources.list_sources(order.base)
            seed = {path: each.digest for path, each in before.items()} if is_first else None
            sources.ensure_folder(order.base, order.folder, seed=seed)
            only = [FOLDER]
        scan = sources.scan_all(order.base, ctx, only, allow_mass_deletion=order.allow_mass_deletion)
        ctx.progress(1.0, f"found {len(scan.items)} documents")
        return scan

    def _open(self, track: Track) -> OpenTrack:
        made_with: str | None = None
        if track.generation is not None:
            with self._engine.connect() as connection:
                row = queries.find_generation(connection, track.generation)
            made_with = None if row is None else row.embedder
        return open_track(self._parts.embedders, track, made_with)

    def _build(
        self,
        base: str,
        opened: Mapping[str, OpenTrack],
        chosen: Mapping[str, Chosen],
        ctx: IngestContext,
    ) -> tuple[dict[str, Built], dict[str, str]]:
        """Build what is live, then the others; one of those that fails stays behind, with the reason."""
        built: dict[str, Built] = {}
        behind: dict[str, str] = {}
        names = [LIVE, *sorted(opened.keys() - {LIVE})]
        for number, name in enumerate(names):
            each = opened[name]
            within = Scaled(ctx, number / len(names), (number + 1) / len(names))
            try:
                built[name] = self._parts.builder.build(
                    base,
                    each.track.recipe,
                    each.embedder,
                    chosen[each.cut.key].members,
                    within,
                    previous=each.track.generation,
                )
            except PenstockError as error:
                if name == LIVE:
                    raise
                behind[name] = error.message
                ctx.log(f"track {name} could not be brought up to date: {error.message}")
        return built, behind

    def _note_source(self, order: IngestOrder) -> None:
        if order.folder is not None:
            with self._engine.begin() as connection:
                queries.set_source(connection, order.base, str(order.folder.resolve()), now_ns=now_ns())


def _report(
    base: str,
    scan: Scan,
    before: Mapping[str, LiveDocument],
    live: Chosen,
    *,
    built: Built,
    tally: CutTally,
) -> IngestReport:
    dropped = tuple(sorted((*scan.left_out, *live.dropped), key=lambda each: each.what != "unreadable"))
    seconds = {**tally.seconds, **built.seconds}
    return IngestReport(
        base=base,
        added=sum(path not in before for path in live.ids),
        changed=sum(path in before and before[path].id != each for path, each in live.ids.items()),
        unchanged=sum(path in before and before[path].id == each for path, each in live.ids.items()),
        deleted=sum(path not in live.ids for path in before),
        passages=built.row.n_passages,
        embedded=built.filled.n_embedded,
        dropped=dropped,
        embedder=built.row.embedder,
        generation=built.row.id,
        version=None,
        is_new=built.is_new,
        documents=len(live.ids),
        parsed=tally.n_parsed,
        kept_old=live.kept_old,
        formats=dict(sorted(tally.by_format.items())),
        reasons=_count_reasons(dropped),
        seconds={name: round(value, 3) for name, value in seconds.items()},
        embed_tokens=built.filled.n_tokens,
        cost_nano_usd=built.filled.cost_nano_usd,
        n_unreadable=len({each.path for each in dropped if each.what == "unreadable"}),
        n_in_parts=built.filled.n_in_parts,
        sources=[msgspec.to_builtins(each) for each in scan.outcomes],
    )


def _is_narrower(told: Sequence[str] | None, live: Sequence[str] | None) -> bool:
    """Whether somebody may read what is live whom its source does not tell any more."""
    if told is None or EVERYONE in told:
        return False
    return live is None or not set(told).issuperset(live)


def _notes(opened: Mapping[str, OpenTrack], behind: Mapping[str, str]) -> list[str]:
    notes = [each.note for each in opened.values() if each.note]
    return notes + [f"track {name} stayed behind: {reason}" for name, reason in behind.items()]


def _count_reasons(dropped: Sequence[Dropped]) -> dict[str, int]:
    """Return how often each reason came, the most frequent ones."""
    return dict(Counter(each.reason for each in dropped).most_common(20))


def _refuse_empty(order: IngestOrder, dropped: Sequence[Dropped], *, was_live: bool) -> NoReturn:
    """Raise `NoDocuments` with the first reason, if anything was there at all."""
    seen = "it is empty"
    if dropped:
        more = f" and {len(dropped) - 1} more" if len(dropped) > 1 else ""
        seen = f"left out: {dropped[0].path} ({dropped[0].reason}){more}"
    place = repr(str(order.folder)) if order.folder is not None else f"knowledge:{order.base}"
    raise NoDocuments(
        f"{place} holds no document that can be read: {seen}.",
        hint="To empty the knowledge base, ingest again with --allow-mass-deletion."
        if was_live
        else f"Name a folder with files of these kinds: {', '.join(sorted(SUFFIXES))}.",
    )


def _guard(
    before: Mapping[str, LiveDocument], live: Chosen, items: Sequence[ScannedItem], *, allowed: bool
) -> None:
    """Stop when most of what is live could be read no more. What left the sources was guarded by their scan."""
    there = {item.path for item in items}
    lost = [path for path in before if path in there and path not in live.ids]
    if allowed or len(lost) < MASS_DELETION_FLOOR or len(lost) <= MASS_DELETION_SHARE * len(before):
        return
    raise MassDeletion(
        f"{len(lost)} of {len(before)} documents can be read no longer, such as {min(lost)!r}.",
        hint="Look into the reasons; if they are to be left out, ingest again with --allow-mass-deletion.",
        n_gone=len(lost),
        n_before=len(before),
    )
