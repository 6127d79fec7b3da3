"""Writes an index from rows, in bounded memory, taking over from the index before what has not changed.

Rows are read once, a thousand at a time: words go into the lexical index, vectors into the matrix. A row of the
index before is the same when document version, position and the digest of its embedded text are; its vector is
copied, and its entry in the graph stays. The folder appears whole or not at all; on a server nothing is replaced
before the folder is.
"""

import errno
import hashlib
import itertools
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.base.clock import now_ns
from penstock.knowledge.errors import DamagedIndex, UnusableEmbedding
from penstock.knowledge.index import graph, servers
from penstock.knowledge.index.dense import DenseIndex, MatrixWriter
from penstock.knowledge.index.documents import Documents, DocumentWriter, checksum_rows
from penstock.knowledge.index.errors import IndexNotWritten
from penstock.knowledge.index.lexical import LexicalWriter
from penstock.knowledge.index.manifest import FORMAT, Manifest, draft_folder, read_manifest, write_manifest
from penstock.knowledge.index.types import (
    BuildContext,
    BuildReport,
    FindVectors,
    IndexDocument,
    IndexRow,
    Matrix,
    QuietContext,
)
from penstock.spec.knowledge import IndexRecipe

BATCH_ROWS = 1000
ROWS_SHARE = 0.3
"""Part of the progress that reading rows takes, before a graph is linked or a server is filled."""


def build_index(
    folder: Path,
    rows: Iterable[IndexRow],
    *,
    embedder: str,
    find_vectors: FindVectors | None = None,
    index_id: str | None = None,
    recipe: IndexRecipe = IndexRecipe(),
    documents: Iterable[IndexDocument] | None = None,
    n_rows: int | None = None,
    connection: str | None = None,
    previous: Path | None = None,
    ctx: BuildContext | None = None,
) -> BuildReport:
    """Write an index into `folder`, which appears whole or not at all; an older `folder` is replaced.

    `rows` stand by path, then position; `documents` in the same order (those without rows may be among them).
    `n_rows` is for the progress alone. `connection` is the recipe's, with its secrets filled in. `previous` is the
    index to take over from, of the same embedder; without it every byte is new, as erasure needs it. Raises
    `DamagedIndex` when a vector is not in the cache, `UnusableEmbedding` when vectors differ in length,
    `MissingEngine`, `UnusableConnection`, `IndexServerFailed`, `IndexNotWritten`, and what `ctx` raises on
    cancelling; the older folder is untouched then.
    """
    ctx, index_id = ctx or QuietContext(), index_id or folder.name
    servers.check_recipe(recipe, connection)
    if recipe.kind == "usearch":
        graph.load_engine()  # tells at once that it is missing, not after reading everything
    vectors_of = None if recipe.kind == "none" else find_vectors
    try:
        with draft_folder(folder) as draft, ExitStack() as undo:
            before = _open_previous(previous, embedder, folder)
            written = _write_rows(
                draft, rows, documents, find_vectors=vectors_of, before=before, n_rows=n_rows, ctx=ctx
            )
            kind, note = _choose_kind(recipe, written)
            server_name = None
            later = _Share(ctx, ROWS_SHARE, 0.97)
            if kind == "usearch":
                _link(draft, recipe, before, written, later)
            elif kind in servers.KINDS:
                assert connection is not None
                server_name = servers.make_name(index_id)
                undo.callback(servers.drop, kind, connection, server_name)
                servers.upload(kind, connection, server_name, folder=draft, recipe=recipe, ctx=later)
                (draft / "vectors.npy").unlink()
            ctx.check_cancelled()
            manifest = Manifest(
                format=FORMAT,
                index_id=index_id,
                kind=kind,
                embedder=embedder,
                n_rows=written.n_rows,
                n_documents=written.n_documents,
                dims=written.dims,
                rows_checksum=checksum_rows(Documents(draft).count_rows()),
                recipe=msgspec.structs.replace(recipe, connection=None),
                files={},
                made_ns=now_ns(),
                server_name=server_name,
                note=note,
            )
            write_manifest(draft, manifest)
            replaced = servers.find_name(folder)
            undo.pop_all()
        if replaced is not None and connection is not None:
            servers.drop(replaced[0], connection, replaced[1])
    except (OSError, sqlite3.Error) as error:
        if isinstance(error, OSError) and error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise
        raise IndexNotWritten(
            f"the index {folder.name} could not be written: {error}.",
            hint="Free space on the disk and run it again; what was live stays live.",
        ) from error
    ctx.progress(1.0, f"{written.n_rows:,} passages are indexed")
    return BuildReport(
        kind=kind,
        n_rows=written.n_rows,
        n_documents=written.n_documents,
        dims=written.dims,
        n_reused=written.n_reused,
        note=note,
    )


@dataclass(frozen=True, kw_only=True)
class _Previous:
    folder: Path
    manifest: Manifest
    matrix: Matrix | None
    first_rows: dict[str, tuple[int, int]]
    digests: NDArray[np.uint64]

    def find(self, rows: Sequence[IndexRow], digests: Sequence[int]) -> list[int]:
        """Return the old row of each new one, or -1."""
        found = []
        for row, digest in zip(rows, digests, strict=True):
            document, position = row.place
            first, count = self.first_rows.get(document, (0, 0))
            same = position < count and int(self.digests[first + position]) == digest
            found.append(first + position if same else -1)
        return found


@dataclass(frozen=True, kw_only=True)
class _Written:
    n_rows: int
    n_documents: int
    dims: int
    previous_rows: NDArray[np.int32]

    @property
    def n_reused(self) -> int:
        return int(np.count_nonzero(self.previous_rows >= 0))


class _Share:
    """Shows the progress of a part as a part of the whole."""

    def __init__(self, ctx: BuildContext, start: float, end: float) -> None:
        self._ctx = ctx
        self._start = start
        self._end = end

    def progress(self, fraction: float, message: str) -> None:
        """Show it."""
        self._ctx.progress(self._start + (self._end - self._start) * fraction, message)

    def check_cancelled(self) -> None:
        """Ask the whole."""
        self._ctx.check_cancelled()


def short_hash(digest: str) -> int:
    """Return 64 bits of what is kept of an embedded text's digest, to tell whether a row is still the same."""
    return int.from_bytes(hashlib.blake2b(digest.encode(), digest_size=8).digest(), "little")


def _open_previous(folder: Path | None, embedder: str, own: Path) -> _Previous | None:
    """Return the index before, unless it is damaged or was made by another embedder."""
    if folder is None or not folder.exists():
        return None
    try:
        manifest = read_manifest(folder)
        documents = Documents(folder)
        digests: NDArray[np.uint64] = np.load(folder / "digests.npy", mmap_mode="r")
        path = folder / "vectors.npy"
        matrix = DenseIndex(path).matrix if path.exists() else None
        first_rows = documents.first_rows
        positions_start_at_zero = len(documents.positions) == 0 or all(
            int(documents.positions[first]) == 0 for first, _ in first_rows.values()
        )
    except (DamagedIndex, OSError, ValueError):
        return None
    if manifest.embedder != embedder or matrix is None or not positions_start_at_zero or folder == own:
        return None
    return _Previous(folder=folder, manifest=manifest, matrix=matrix, first_rows=first_rows, digests=digests)


def _write_rows(
    draft: Path,
    rows: Iterable[IndexRow],
    documents: Iterable[IndexDocument] | None,
    *,
    find_vectors: FindVectors | None,
    before: _Previous | None,
    n_rows: int | None,
    ctx: BuildContext,
) -> _Written:
    previous_rows, hashes = array("i"), array("Q")
    with ExitStack() as stack:
        places = stack.enter_context(closing(DocumentWriter(draft, documents)))
        words = stack.enter_context(closing(LexicalWriter(draft / "lexical.db")))
        matrix = stack.enter_context(MatrixWriter(draft / "vectors.npy"))
        source, number = iter(rows), 0
        while batch := list(itertools.islice(source, BATCH_ROWS)):
            ctx.check_cancelled()
            places.add(batch)
            words.add((number + place, row.title, row.section, row.text) for place, row in enumerate(batch))
            digests = [short_hash(row.embed_digest) for row in batch]
            hashes.extend(digests)
            old = before.find(batch, digests) if before else [-1] * len(batch)
            if find_vectors is not None:
                matrix.add(_gather(batch, old, before, find_vectors, matrix.dims))
            previous_rows.extend(old)
            number += len(batch)
            done = ROWS_SHARE * min(1.0, number / n_rows) if n_rows else 0.0
            ctx.progress(done, f"read {number:,} passages")
        words.finish()
        places.finish()
        matrix.finish()
    np.save(draft / "digests.npy", np.frombuffer(hashes, dtype=np.uint64))
    return _Written(
        n_rows=number,
        n_documents=places.n_documents,
        dims=matrix.dims,
        previous_rows=np.frombuffer(previous_rows, dtype=np.int32),
    )


def _gather(
    batch: Sequence[IndexRow],
    old: list[int],
    before: _Previous | None,
    find_vectors: Callable[[Sequence[str]], dict[str, bytes]],
    dims: int,
) -> Matrix:
    """Return the vectors of a batch; rows of the index before whose length does not fit are asked for anew."""
    fresh = [place for place, row in enumerate(old) if row < 0]
    vectors = find_vectors([batch[place].embed_digest for place in fresh]) if fresh else {}
    parts: list[Any] = [None] * len(batch)
    for place in fresh:
        raw = vectors.get(batch[place].embed_digest)
        if raw is None:
            raise DamagedIndex(
                "a passage has no vector in the cache.",
                hint="Run the ingest again, or rebuild: it is embedded anew.",
            )
        parts[place] = np.frombuffer(raw, dtype="<f4")
    if before is not None and len(fresh) < len(batch):
        assert before.matrix is not None
        kept = [place for place, row in enumerate(old) if row >= 0]
        for place, vector in zip(kept, before.matrix[[old[place] for place in kept]], strict=True):
            parts[place] = vector
    lengths = {len(part) for part in parts} | ({dims} if dims else set())
    if len(lengths) != 1:
        raise UnusableEmbedding(
            f"vectors of {' and '.join(map(str, sorted(lengths)))} numbers under one embedder id."
        )
    return np.stack(parts)


def _choose_kind(recipe: IndexRecipe, written: _Written) -> tuple[str, str | None]:
    """Return the engine to take, and why it is not what `auto` would have taken."""
    if recipe.kind == "none":
        return "none", None
    if written.n_rows == 0:
        return "exact", None  # no engine has a place for vectors of no length
    if recipe.kind != "auto":
        return recipe.kind, None
    if written.n_rows <= recipe.exact_below:
        return "exact", None
    if graph.is_installed():
        return "usearch", None
    return "exact", (
        f"{written.n_rows:,} passages are searched exactly, which takes longer: usearch is not installed "
        "(pip install 'penstock[usearch]')."
    )


def _link(
    draft: Path, recipe: IndexRecipe, before: _Previous | None, written: _Written, ctx: BuildContext
) -> None:
    is_alike = (
        before is not None
        and before.manifest.kind == "usearch"
        and before.manifest.dims == written.dims
        and graph.is_same(before.manifest.recipe, recipe)
    )
    if before is not None and is_alike and written.n_reused:
        try:
            if graph.carry_graph(draft, recipe, before.folder, written.previous_rows, ctx):
                return
        except (OSError, ValueError):  # the older graph cannot be read: a fresh one needs nothing of it
            pass
    graph.build_graph(draft, recipe, ctx)
