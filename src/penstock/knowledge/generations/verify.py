"""Holds what a base says against what is there: tables, blobs, vectors, index files, the embedder, the pointer.

Changes nothing. Everything that is found is derived or can be read again from its source, so the advice is always a
command.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Engine

from penstock.base.digest import digest_bytes
from penstock.base.errors import PenstockError
from penstock.knowledge import queries as knowledge_queries
from penstock.knowledge.errors import DamagedIndex
from penstock.knowledge.generations import queries
from penstock.knowledge.generations.opening import OpenIndexes, index_of
from penstock.knowledge.generations.tracks import Track, Tracks
from penstock.knowledge.generations.types import LIVE
from penstock.knowledge.index.types import Finding, IndexRow, Place
from penstock.knowledge.index.verify import IndexTruth, verify_index
from penstock.knowledge.living import Living
from penstock.knowledge.recipes import read_recipe
from penstock.knowledge.types import EmbedderSource

SAMPLE = 50
DEEP_SAMPLE = 500
ORDER = {"failed": 0, "warning": 1, "skipped": 2, "ok": 3}


class BlobReader(Protocol):
    """Reads blobs."""

    def get(self, digest: str, /) -> bytes:
        """Return the bytes; raise a `PenstockError` when they are not there or damaged."""

    def exists(self, digest: str, /) -> bool:
        """Return whether the blob is there."""


class Verifying:
    """Checks bases. Reads only."""

    def __init__(
        self,
        engine: Engine,
        blobs: BlobReader,
        *,
        tracks: Tracks,
        living: Living,
        indexes: OpenIndexes,
        embedders: EmbedderSource,
    ) -> None:
        self._engine = engine
        self._blobs = blobs
        self._tracks = tracks
        self._living = living
        self._indexes = indexes
        self._embedders = embedders

    def verify(self, base: str, *, track: str | None = None, deep: bool = False) -> list[Finding]:
        """Return every check with what it found, failed ones first; of one track, or of all.

        `deep` reads every blob and a larger sample of vectors.
        """
        live, version = self._living.find(base)
        try:
            self._living.row(base, live)
        except DamagedIndex as error:
            advice = f"Ingest again, or move the alias back: penstock knowledge ingest {base}."
            return [Finding(check="live: pointer", state="failed", message=error.message, advice=advice)]
        chosen = self._tracks.load(base) if track is None else {track: self._tracks.get(base, track)}
        findings = [
            Finding(check="live: pointer", state="ok", message=f"{version or 'the base'} names {live}")
        ]
        for name, each in chosen.items():
            findings += self._check_track(base, name, each, deep=deep)
        findings += self._check_leftovers(base)
        return sorted(findings, key=lambda each: ORDER[each.state])

    def check_embedder(self, base: str) -> Finding:
        """Return whether what is live was made with an embedder that is served in that version."""
        return self._check_embedder(LIVE, self._living.row(base, self._living.find(base)[0]), is_live=True)

    def _check_track(self, base: str, name: str, track: Track, *, deep: bool) -> Iterator[Finding]:
        if track.generation is None:
            yield _finding(name, "documents", "warning", f"it is not up to date: {track.note}", _ingest(base))
            return
        try:
            row = self._living.row(base, track.generation)
        except DamagedIndex as error:
            yield _finding(name, "generation", "failed", error.message, _ingest(base))
            return
        yield from self._check_counts(base, name, row)
        yield from self._check_blobs(base, name, row, deep=deep)
        yield self._check_vectors(base, name, row)
        yield self._check_embedder(name, row, is_live=name == LIVE)
        advice = f"penstock knowledge rebuild {base}" + ("" if name == LIVE else f" --track {name}")
        for each in verify_index(
            self._indexes.folder(base, index_of(row)),
            connection=self._indexes.address(row),
            truth=self._truth(row),
            sample=DEEP_SAMPLE if deep else SAMPLE,
        ):
            told = None if each.state == "ok" else f"{each.advice or ''} {advice}.".strip()
            yield Finding(
                check=f"{name}: index: {each.check}",
                state=each.state,
                message=each.message,
                measured=each.measured,
                threshold=each.threshold,
                advice=told,
            )

    def _check_counts(self, base: str, name: str, row: Any) -> Iterator[Finding]:
        with self._engine.connect() as connection:
            members = knowledge_queries.list_member_states(connection, row.id)
            stored = queries.count_stored_passages(connection, row.id)
        told = sum(each.n_passages for each in members)
        if told != row.n_passages or stored != row.n_passages:
            message = f"the generation counts {row.n_passages} passages, its documents {told}, the table holds {stored}"
            yield _finding(name, "passages", "failed", message, _ingest(base))
        else:
            yield _finding(name, "passages", "ok", f"{stored:,} of {len(members):,} documents")

    def _check_blobs(self, base: str, name: str, row: Any, *, deep: bool) -> Iterator[Finding]:
        with self._engine.connect() as connection:
            digests = {
                each.digest: each.path for each in knowledge_queries.list_member_states(connection, row.id)
            }
        missing = [path for digest, path in digests.items() if not self._holds(digest, deep=deep)]
        if missing:
            message = f"bytes of {len(missing)} documents are missing or damaged, such as {min(missing)!r}"
            advice = f"They are searched all the same; another way of cutting needs them: {_ingest(base)}"
            yield _finding(name, "bytes", "failed", message, advice)
        else:
            how = "read and equal to their digests" if deep else "there"
            yield _finding(name, "bytes", "ok", f"of {len(digests):,} documents are {how}")

    def _holds(self, digest: str, *, deep: bool) -> bool:
        if not deep:
            return self._blobs.exists(digest)
        try:
            return digest_bytes(self._blobs.get(digest)) == digest
        except (PenstockError, OSError, KeyError):
            return False

    def _check_vectors(self, base: str, name: str, row: Any) -> Finding:
        with self._engine.connect() as connection:
            n_missing = queries.count_missing_vectors(connection, row.id, row.embedder)
        if n_missing and read_recipe(row.recipe).index.kind != "none":
            advice = f"penstock knowledge rebuild {base} embeds them again."
            message = f"{n_missing:,} passages have no vector in the cache: the index cannot be rebuilt without them"
            return _finding(name, "vectors", "failed", message, advice)
        return _finding(name, "vectors", "ok", "every passage has its vector")

    def _check_embedder(self, name: str, row: Any, *, is_live: bool) -> Finding:
        if read_recipe(row.recipe).index.kind == "none":
            return _finding(name, "embedder", "ok", "words alone are searched")
        state = "failed" if is_live else "warning"
        advice = "Serve it again, or build a candidate with another one and switch."
        try:
            embedder = self._embedders.open(read_recipe(row.recipe).embed, made_with=row.embedder)
        except PenstockError as error:
            return _finding(name, "embedder", "warning", f"nobody can tell: {error.message}", advice)
        if embedder.id == row.embedder:
            return _finding(name, "embedder", "ok", f"{row.embedder} is served")
        message = f"made with {row.embedder!r}; served is {embedder.id!r}, so searches go by words alone"
        return _finding(name, "embedder", state, message, advice)

    def _check_leftovers(self, base: str) -> Iterator[Finding]:
        with self._engine.connect() as connection:
            n_documents = queries.count_unused_documents(connection, base)
            n_orphans = queries.count_orphan_passages(connection)
        if n_orphans:
            yield Finding(
                check="passages without a document",
                state="failed",
                message=f"{n_orphans:,} passages belong to no document",
                advice=f"penstock knowledge prune {base} --cache",
            )
        if n_documents:
            yield Finding(
                check="leftovers",
                state="warning",
                message=f"{n_documents:,} document versions belong to no generation",
                advice=f"penstock knowledge prune {base}",
            )

    def _truth(self, row: Any) -> IndexTruth:
        with self._engine.connect() as connection:
            documents = [
                (each.id, each.n_passages)
                for each in knowledge_queries.list_member_states(connection, row.id)
            ]

        def find_rows(places: Sequence[Place]) -> Mapping[Place, IndexRow]:
            with self._engine.connect() as connection:
                found = knowledge_queries.find_passages(connection, places)
            return {
                place: IndexRow(
                    place=place,
                    title=each.title or "",
                    section=each.section or "",
                    text=each.text,
                    embed_digest=each.embed_digest,
                )
                for place, each in found.items()
            }

        def find_vectors(digests: Sequence[str]) -> dict[str, bytes]:
            with self._engine.connect() as connection:
                return knowledge_queries.find_vectors(connection, row.embedder, digests)

        return IndexTruth(documents=documents, find_rows=find_rows, find_vectors=find_vectors)


def _finding(track: str, check: str, state: Any, message: str, advice: str | None = None) -> Finding:
    return Finding(check=f"{track}: {check}", state=state, message=message, advice=advice)


def _ingest(base: str) -> str:
    return f"penstock knowledge ingest {base} brings it up to date."
