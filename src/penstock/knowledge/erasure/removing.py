"""Takes documents out of a base for good: out of what is live first, then everything that ever held them.

Searches go on all the while. Indexes are written anew and take nothing over; what is live changes in one step; only
then are generations, index files, versions, passages, vectors, parses and bytes destroyed. Every step may be done
twice, so an erasure that was cut off begins again from the beginning. Needs no embedder.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Engine

from penstock.base.errors import PenstockError
from penstock.knowledge import queries as knowledge_queries
from penstock.knowledge.erasure import queries
from penstock.knowledge.erasure.errors import ErasureWaits
from penstock.knowledge.erasure.finding import Chosen
from penstock.knowledge.erasure.types import Gone
from penstock.knowledge.errors import UnknownKnowledge
from penstock.knowledge.generations import queries as generation_queries
from penstock.knowledge.generations.build import Builder, Members
from penstock.knowledge.generations.locks import BaseLocks
from penstock.knowledge.generations.opened_tracks import AbsentEmbedder
from penstock.knowledge.generations.opening import OpenIndexes, index_of
from penstock.knowledge.generations.switching import Renewed, Switching
from penstock.knowledge.generations.tracks import Tracks
from penstock.knowledge.generations.types import LIVE
from penstock.knowledge.index.generation import purge_index
from penstock.knowledge.living import Living
from penstock.knowledge.recipes import read_recipe
from penstock.knowledge.types import InlineContext

ACTOR = "knowledge.erase"
TRIES = 600
WAIT_S = 0.5
_REASON = "an erasure embeds nothing"


class BlobBin(Protocol):
    """Deletes blobs."""

    def delete(self, digest: str, /) -> None:
        """Remove the blob; nothing happens when there is none."""

    def exists(self, digest: str, /) -> bool:
        """Return whether the blob is there."""


@dataclass(frozen=True, kw_only=True)
class RemovalParts:
    """What removing works with."""

    engine: Engine
    blobs: BlobBin
    tracks: Tracks
    living: Living
    indexes: OpenIndexes
    locks: BaseLocks
    builder: Builder
    switching: Switching
    is_used_elsewhere: Callable[[str], bool]


class Removal:
    """Removes. Callers hold the base's `contents` lock where a base is named."""

    def __init__(self, parts: RemovalParts, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._parts = parts
        self._engine = parts.engine
        self._sleep = sleep

    def hold(self, base: str) -> AbstractContextManager[None]:
        """Keep ingests of a base waiting."""
        return self._parts.locks.hold(base, "contents")

    def rewrite(self, chosen: Chosen, *, erasure: str) -> dict[str, int]:
        """Let every track of the base go on without the chosen documents, on indexes of which every byte is new."""
        base = chosen.base
        tracks = self._parts.tracks.load(base)
        renewed: list[Renewed] = []
        for name in sorted(tracks, key=lambda each: each != LIVE):
            track = tracks[name]
            if track.generation is None:
                continue
            embedder: str | None = None
            built: str | None = None
            reason = ""
            try:
                embedder = str(self._parts.living.row(base, track.generation).embedder)
                built = self._build(base, track.generation, chosen.ids)
            except PenstockError as error:
                if name == LIVE:
                    raise
                reason = error.message
            renewed.append(Renewed(track=track, embedder=embedder, generation=built, reason=reason))
        if LIVE in tracks and tracks[LIVE].generation is not None:
            live, _ = self._parts.switching.publish(base, renewed, evidence={"erasure": erasure})
            if any(each.generation is None and each.track.generation == live for each in renewed):
                raise ErasureWaits(
                    f"{base!r} was switched meanwhile to a track that could not be rewritten.",
                    hint="The erasure is kept, and tried again.",
                )
        return {"indexes written anew": len({each.generation for each in renewed} - {None})}

    def _build(self, base: str, generation: str, doomed: set[str]) -> str:
        row = self._parts.living.row(base, generation)
        with self._engine.connect() as connection:
            members = queries.list_members(connection, generation)
        kept = {each: n for each, n in members.items() if each not in doomed}
        indexes = self._parts.indexes
        if len(kept) == len(members):
            indexes.reopen(row)  # it may have been made from one that held them
            return generation
        made = self._parts.builder.build(
            base,
            read_recipe(row.recipe),
            AbsentEmbedder(row.embedder, _REASON),
            Members(ids=tuple(sorted(kept)), n_live=sum(n > 0 for n in kept.values())),
            InlineContext(),
        )
        if not made.is_new:
            indexes.reopen(made.row)
        return str(made.row.id)

    def destroy(self, chosen: Chosen) -> dict[str, int]:
        """Delete generations that hold the documents, index files, the versions with their passages, and the items."""
        base, ids = chosen.base, sorted(chosen.ids)
        with self._engine.connect() as connection:
            rows = queries.find_generation_rows(connection, sorted(queries.find_generations(connection, ids)))
        kept = self._list_kept(base)
        doomed = [row for row in rows if row.id not in kept[0]]
        n_indexes = self._purge(base, doomed, kept[1])
        with self._engine.begin() as connection:
            n_generations = generation_queries.delete_generations(connection, [row.id for row in doomed])
            n_documents = generation_queries.delete_documents(connection, ids)
            n_items = queries.delete_items(connection, chosen.items)
            queries.forget_moves(connection, [path for _, path in chosen.items])
        n_indexes += self._purge(base, doomed, kept[1])  # a search that began before may have made one again
        return {
            "generations": n_generations,
            "index folders": n_indexes,
            "document versions": n_documents,
            "items of sources": n_items,
        }

    def clear_strays(self, base: str) -> int:
        """Remove index files that belong to no track; return how many folders that were."""
        return self._purge(base, [], self._list_kept(base)[1])

    def _list_kept(self, base: str) -> tuple[set[str], set[str]]:
        """Return the generations that tracks name and that is live, and their indexes."""
        named = {each.generation for each in self._parts.tracks.load(base).values()}
        kept = {each for each in named if each is not None}
        with suppress(UnknownKnowledge):
            kept.add(self._parts.living.find(base)[0])
        with self._engine.connect() as connection:
            rows = queries.find_generation_rows(connection, sorted(kept))
        return kept, {index_of(row) for row in rows}

    def _purge(self, base: str, doomed: Sequence[Any], kept: set[str]) -> int:
        """Remove the indexes of these generations, of all that no track uses, and of killed builds; on servers too."""
        indexes = self._parts.indexes
        with self._engine.connect() as connection:
            others = knowledge_queries.list_generations(connection, base)
        rows = {index_of(row): row for row in [*others, *doomed]}
        there = {folder.name: folder for folder in indexes.list_folders(base)}
        n = 0
        for name in sorted({*there, *(index_of(row) for row in doomed)} - kept):
            if name in rows:
                indexes.purge(rows[name])
            else:
                purge_index(there[name])
            n += name in there
        return n + indexes.clear_drafts(base)

    def clear_shared(self, gone: Gone) -> tuple[dict[str, int], list[str]]:
        """Delete vectors, parses and bytes that nothing else refers to; return how many, and what stays and why.

        Waits for ingests that may be about to refer to the same bytes; raises `ErasureWaits` when they do not end.
        """
        with self._alone():
            with self._engine.begin() as connection:
                n_vectors = queries.delete_vectors(connection, gone.vectors)
                n_parses, parsed = queries.delete_parses(connection, gone.digests)
            n_blobs, n_shared, n_elsewhere = 0, 0, 0
            for digest in [*parsed, *gone.digests]:
                with self._engine.connect() as connection:
                    is_used = generation_queries.is_blob_used(connection, digest)
                if is_used:
                    n_shared += digest in gone.digests
                elif digest in gone.digests and self._parts.is_used_elsewhere(digest):
                    n_elsewhere += 1
                elif self._parts.blobs.exists(digest):
                    self._parts.blobs.delete(digest)
                    n_blobs += 1
        notes = []
        if n_shared:
            notes.append(f"{n_shared} of the bytes are those of other documents too, and stay with them")
        if n_elsewhere:
            notes.append(
                f"{n_elsewhere} of the bytes are artefacts of registered versions too, and stay there"
            )
        return {"vectors": n_vectors, "parses": n_parses, "files of bytes": n_blobs}, notes

    def _alone(self) -> "AbstractContextManager[None]":
        return _Alone(self._parts.locks, self._sleep)


class _Alone(AbstractContextManager[None]):
    """Holds blobs alone, waiting until nobody else does."""

    def __init__(self, locks: BaseLocks, sleep: Callable[[float], None]) -> None:
        self._locks = locks
        self._sleep = sleep
        self._held: AbstractContextManager[bool] | None = None

    def __enter__(self) -> None:
        for _ in self._rounds():
            held = self._locks.hold_blobs_alone()
            if held.__enter__():
                self._held = held
                return
            held.__exit__(None, None, None)
        raise ErasureWaits(
            "An ingest that is under way may be about to use the same bytes.",
            hint="The erasure is kept, and tried again.",
        )

    def __exit__(self, *told: Any) -> None:
        assert self._held is not None
        self._held.__exit__(*told)

    def _rounds(self) -> Iterator[int]:
        for number in range(TRIES):
            if number:
                self._sleep(WAIT_S)
            yield number
