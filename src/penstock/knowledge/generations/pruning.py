"""Throws away what nothing refers to any more: generations, document versions, parses, blobs, vectors, index files.

Counted by query and never by a counter, so nothing that is kept is ever missed. What another base might be about to
refer to is left for the next time.
"""

from collections.abc import Callable
from typing import Protocol

from sqlalchemy import Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput
from penstock.knowledge import queries as knowledge_queries
from penstock.knowledge.generations import queries
from penstock.knowledge.generations.errors import BaseIsBusy
from penstock.knowledge.generations.locks import BaseLocks
from penstock.knowledge.generations.opening import OpenIndexes, index_of
from penstock.knowledge.generations.tracks import Tracks
from penstock.knowledge.generations.types import KEEP, PruneReport
from penstock.knowledge.index.generation import purge_index
from penstock.knowledge.living import Living

KEPT_ON_DISK = 3
"""Newest generations whose index files are kept; those of other ones are rebuilt when they are asked for."""
BATCH = 500
GRACE_NS = 86_400 * 1_000_000_000
"""Parses younger than this may belong to an ingest that was stopped and will go on."""


PATIENCE = 20
"""How often a lock is looked at before the base is said to be busy."""


class BlobBin(Protocol):
    """Deletes blobs."""

    def delete(self, digest: str, /) -> None:
        """Remove the blob; nothing happens when there is none."""


class Pruning:
    """Prunes a base, holding its `contents` lock."""

    def __init__(
        self,
        engine: Engine,
        blobs: BlobBin,
        *,
        tracks: Tracks,
        living: Living,
        indexes: OpenIndexes,
        locks: BaseLocks,
        is_used_elsewhere: Callable[[str], bool],
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        """`is_used_elsewhere` says whether another room keeps the bytes of this digest: datasets, artefacts."""
        self._engine = engine
        self._blobs = blobs
        self._tracks = tracks
        self._living = living
        self._indexes = indexes
        self._locks = locks
        self._is_used_elsewhere = is_used_elsewhere
        self._clock = clock

    def prune(self, base: str, *, keep: int = KEEP, cache: bool = False) -> PruneReport:
        """Delete what no track and none of the newest `keep` generations refers to; with `cache` vectors too.

        Raises `BaseIsBusy` rather than wait for an ingest, which may take hours.
        """
        if keep < 0:
            raise InvalidInput("The number of generations to keep cannot be below 0.", param="keep")
        self._living.find(base)
        with self._locks.hold(base, "contents", while_waiting=_give_up(base)):
            n_indexes = self.remove_old_indexes(base, keep=min(keep, KEPT_ON_DISK))
            with self._engine.begin() as connection:
                rows = knowledge_queries.list_generations(connection, base)
                wanted = self._list_wanted(base)
                gone = [row.id for row in rows[keep:] if row.id not in wanted]
                n_generations = queries.delete_generations(connection, gone)
            n_documents, n_parses, n_blobs, n_vectors = 0, 0, 0, 0
            with self._locks.hold_blobs_alone() as is_alone:
                if is_alone:  # else all of it waits for the next time, so that no bytes are forgotten
                    digests, n_documents = self._delete_documents(base)
                    n_parses, parsed = self._delete_parses()
                    n_blobs = self._delete_blobs(digests, parsed)
                if is_alone and cache:  # no build is about to refer to what it embedded
                    with self._engine.begin() as connection:
                        queries.delete_orphan_passages(connection)
                        n_vectors = queries.delete_unused_vectors(connection)
        return PruneReport(
            base=base,
            generations=n_generations,
            documents=n_documents,
            parses=n_parses,
            blobs=n_blobs,
            vectors=n_vectors,
            indexes=n_indexes,
        )

    def remove_old_indexes(self, base: str, *, keep: int = KEPT_ON_DISK) -> int:
        """Remove index files that neither a track nor one of the newest generations uses, and what killed builds left;
        return how many."""
        with self._engine.connect() as connection:
            rows = knowledge_queries.list_generations(connection, base)
        wanted = self._list_wanted(base)
        kept = {index_of(row) for number, row in enumerate(rows) if number < keep or row.id in wanted}
        by_index = {index_of(row): row for row in rows}
        removed = 0
        for folder in self._indexes.list_folders(base):
            if folder.name in kept:
                continue
            if folder.name in by_index:
                self._indexes.purge(by_index[folder.name])
            else:
                purge_index(folder)
            removed += 1
        return removed + self._indexes.clear_drafts(base)

    def _list_wanted(self, base: str) -> set[str]:
        """Return the generations that tracks name, and the one that is searched."""
        named = {each.generation for each in self._tracks.load(base).values()}
        return {self._living.find(base)[0], *(each for each in named if each is not None)}

    def _delete_documents(self, base: str) -> tuple[set[str], int]:
        """Delete versions that no generation holds; return the digests of their bytes and how many they were."""
        digests: set[str] = set()
        n = 0
        while True:
            with self._engine.begin() as connection:
                rows = queries.list_unused_documents(connection, base, limit=BATCH)
                if not rows:
                    return digests, n
                digests.update(row.digest for row in rows)
                n += queries.delete_documents(connection, [row.id for row in rows])

    def _delete_parses(self) -> tuple[int, set[str]]:
        with self._engine.begin() as connection:
            rows = queries.list_unused_parses(
                connection, before_ns=self._clock() - GRACE_NS, limit=BATCH * 10
            )
            for row in rows:
                queries.delete_parse(connection, row.digest, row.parse_digest)
        return len(rows), {row.blob for row in rows if row.blob is not None}

    def _delete_blobs(self, documents: set[str], parsed: set[str]) -> int:
        n = 0
        for digest in sorted(documents | parsed):
            with self._engine.connect() as connection:
                is_used = queries.is_blob_used(connection, digest)
            # What a parser made is of no other room; a document's bytes may be anybody's.
            if is_used or (digest in documents and self._is_used_elsewhere(digest)):
                continue
            self._blobs.delete(digest)
            n += 1
        return n


def _give_up(base: str) -> Callable[[], None]:
    """Return what raises `BaseIsBusy` when it was called often enough."""
    n = 0

    def look() -> None:
        nonlocal n
        n += 1
        if n > PATIENCE:
            raise BaseIsBusy(
                f"{base!r} is being ingested, built or erased.",
                hint="Prune it when that has ended: penstock job list.",
            )

    return look
