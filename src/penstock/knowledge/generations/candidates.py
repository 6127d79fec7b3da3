"""Recipes built beside what is live, and indexes written anew. Neither changes what is searched."""

from dataclasses import replace
from time import monotonic

import msgspec

from penstock.knowledge import queries
from penstock.knowledge.cutting import CutTally
from penstock.knowledge.errors import NoDocuments
from penstock.knowledge.generations.build import Scaled
from penstock.knowledge.generations.errors import TrackBehind
from penstock.knowledge.generations.opened_tracks import open_track
from penstock.knowledge.generations.opening import OpenIndexes, index_of
from penstock.knowledge.generations.tracks import Track
from penstock.knowledge.generations.types import LIVE, BuildReport, check_candidate_name
from penstock.knowledge.ingest import FOLDER, IngestParts
from penstock.knowledge.living import Living
from penstock.knowledge.recipe_bounds import check_recipe
from penstock.knowledge.recipes import cut_digest, document_digest, document_id, read_recipe
from penstock.knowledge.sources.types import ScannedItem
from penstock.knowledge.types import Embedder, IngestContext
from penstock.spec.knowledge import Properties, Recipe


class Candidates:
    """Builds candidates and repairs indexes, holding the base's `contents` lock."""

    def __init__(self, parts: IngestParts, living: Living, indexes: OpenIndexes) -> None:
        self._parts = parts
        self._living = living
        self._indexes = indexes

    def build(
        self, base: str, name: str, recipe: Recipe | None, ctx: IngestContext, *, note: str
    ) -> BuildReport:
        """Build `recipe` over the documents of what is live and keep it as the candidate `name`."""
        check_candidate_name(name)
        self._living.find(base)
        parts = self._parts
        locks = parts.locks
        with locks.hold(base, "contents", while_waiting=ctx.check_cancelled), locks.share_blobs():
            live = parts.tracks.load(base)[LIVE]
            track = Track(
                name=name, recipe=live.recipe if recipe is None else recipe, generation=None, note=note
            )
            check_recipe(track.recipe)
            opened = open_track(parts.embedders, track, None)
            tally = CutTally()
            before = parts.choosing.list_live(live.generation)
            items = self._list_items(base, str(live.generation), ctx)
            chosen = parts.choosing.choose(
                base, items, [opened.cut], before=before, ctx=Scaled(ctx, 0.0, 0.3), tally=tally
            )[opened.cut.key]
            if not chosen.ids:
                raise NoDocuments(f"By this recipe no document of {base!r} can be read.")
            built = parts.builder.build(
                base, track.recipe, opened.embedder, chosen.members, Scaled(ctx, 0.3, 1.0)
            )
            parts.switching.add_candidate(
                base, Track(name=name, recipe=track.recipe, generation=built.row.id, note=note)
            )
        ctx.progress(1.0, f"{built.row.n_passages} passages of {built.row.n_documents} documents")
        return BuildReport(
            base=base,
            track=name,
            generation=built.row.id,
            index_id=index_of(built.row),
            embedder=built.row.embedder,
            n_documents=built.row.n_documents,
            n_passages=built.row.n_passages,
            n_embedded=built.filled.n_embedded,
            is_new=built.is_new,
            cost_nano_usd=built.filled.cost_nano_usd,
            problems=[f"{each.path}: {each.reason}" for each in chosen.dropped[:200]],
            seconds={key: round(value, 3) for key, value in {**tally.seconds, **built.seconds}.items()},
        )

    def repair(self, base: str, name: str | None, ctx: IngestContext) -> str:
        """Write a track's index anew, embedding what the cache has lost; return its generation."""
        self._living.find(base)
        parts = self._parts
        with parts.locks.hold(base, "contents", while_waiting=ctx.check_cancelled):
            track = parts.tracks.get(base, name or LIVE)
            if track.generation is None:
                raise TrackBehind(f"track {track.name!r} of {base!r} has nothing built.", hint=track.note)
            begun = monotonic()
            row = self._living.row(base, track.generation)
            with parts.engine.connect() as connection:
                members = [each.id for each in queries.list_member_states(connection, track.generation)]
            if track.recipe.index.kind != "none":
                parts.builder.fill(
                    members, self._embedder(track, row.embedder), track.recipe, Scaled(ctx, 0.0, 0.7)
                )
            self._indexes.reopen(row)
        ctx.progress(1.0, f"the index was written anew in {monotonic() - begun:.1f} s")
        return track.generation

    def _embedder(self, track: Track, made_with: str) -> Embedder:
        # Under no track's name: an embedder that is gone is not replaced by another one here.
        probe = Track(name="repair", recipe=track.recipe, generation=track.generation)
        return open_track(self._parts.embedders, probe, made_with).embedder

    def _list_items(self, base: str, live: str, ctx: IngestContext) -> list[ScannedItem]:
        """Return the documents of what is live, as their sources told of them.

        Not what was scanned since: contents go live by an ingest, and a switch changes the recipe alone.
        """
        sources = self._parts.sources
        has_sources = bool(sources.list_sources(base))
        known = {each.path: each for each in sources.scan_all(base, ctx, []).items} if has_sources else {}
        made = self._living.row(base, live)
        cut = cut_digest(read_recipe(made.recipe), made.embedder)
        with self._parts.engine.connect() as connection:
            rows = queries.list_generation_documents(connection, live)
        by_path: dict[str, ScannedItem] = {}
        for row in sorted(
            rows, key=lambda each: each.n_passages == 0
        ):  # a newer version that cannot be read goes last
            item = known.get(row.path)
            if item is not None:
                item = replace(item, digest=row.digest, size_bytes=row.size_bytes)
                told = document_digest(cut, item.properties, item.source)
                if document_id(base, row.path, row.digest, told) != row.id:
                    item = None  # its properties are others by now
            by_path[row.path] = item or ScannedItem(
                source_id=row.source_id or "",
                source=row.source or FOLDER,
                path=row.path,
                digest=row.digest,
                size_bytes=row.size_bytes,
                properties=msgspec.convert(row.properties or {}, Properties),
            )
        return list(by_path.values())
