"""An index that can be searched: vectors, words, and which row is which passage of which document.

Opening maps files and reads the manifest; a million passages open in milliseconds. A folder that does not fit its
manifest is `DamagedIndex`, and the caller builds it anew from the control tables.
"""

import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penstock.knowledge.errors import DamagedIndex
from penstock.knowledge.index import servers
from penstock.knowledge.index.dense import DenseIndex, require_rows
from penstock.knowledge.index.documents import Documents, Places
from penstock.knowledge.index.errors import UnusableConnection
from penstock.knowledge.index.graph import GRAPH_FILE, GraphIndex
from penstock.knowledge.index.lexical import LexicalIndex
from penstock.knowledge.index.manifest import Manifest, check_file, read_manifest, remove_drafts
from penstock.knowledge.index.novectors import NoVectors
from penstock.knowledge.index.types import IndexDocument, Rows, RowSelection, Scores, VectorIndex


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenIndex:
    """Row `n` of both indexes is `places[n]`. Safe to share between threads."""

    folder: Path
    manifest: Manifest
    dense: VectorIndex
    lexical: LexicalIndex
    table: Documents

    @property
    def index_id(self) -> str:
        """What the index was built as."""
        return self.manifest.index_id

    @property
    def embedder(self) -> str:
        """Id of the embedder whose vectors these are."""
        return self.manifest.embedder

    @property
    def kind(self) -> str:
        """The engine that searches the vectors."""
        return self.manifest.kind

    @property
    def n_rows(self) -> int:
        """How many passages there are."""
        return self.manifest.n_rows

    @property
    def dims(self) -> int:
        """Length of a vector; 0 when there are none."""
        return self.manifest.dims

    @property
    def places(self) -> Places:
        """Document id and position of every row."""
        return self.table.places

    @property
    def documents(self) -> Sequence[IndexDocument]:
        """The documents with what filters ask about; read from disk when they are first asked for, and
        `DamagedIndex` when they are not what was written: who may read what is told here."""
        return self.table.entries

    @property
    def document_of(self) -> NDArray[np.int32]:
        """The document number of every row."""
        return self.table.document_of

    def select(self, documents: NDArray[np.bool_]) -> RowSelection:
        """Return the rows of those documents that are true, to search among them."""
        return self.table.select(documents)

    def score(self, vector: NDArray[np.float32], rows: Rows | Sequence[int]) -> Scores:
        """Return the cosines of these rows with a vector of length one."""
        scores: Scores = self.dense.vectors(rows) @ np.asarray(vector, dtype=np.float32)
        return scores

    def close(self) -> None:
        """Let go of files and connections."""
        self.lexical.close()
        self.dense.close()


def open_index(folder: Path, *, connection: str | None = None) -> OpenIndex:
    """Open an index; raise `DamagedIndex` when files are missing or do not fit each other.

    `connection` is the recipe's with its secrets filled in, where vectors lie on a server; without one that is
    needed, `UnusableConnection`. The server itself is asked first when a search needs it.
    """
    manifest = read_manifest(folder)
    try:
        table = Documents(folder, check=lambda name: check_file(folder, manifest, name))
        lexical = LexicalIndex(folder / "lexical.db")
        dense = _open_vectors(folder, manifest, connection)
    except (OSError, ValueError, KeyError, TypeError, sqlite3.Error) as error:
        raise DamagedIndex(f"index {folder.name} cannot be opened: {error}.") from error
    if len(table.places) != manifest.n_rows:
        lexical.close()
        raise DamagedIndex(f"index {folder.name} does not fit its manifest.")
    return OpenIndex(folder=folder, manifest=manifest, dense=dense, lexical=lexical, table=table)


def purge_index(folder: Path, *, connection: str | None = None) -> None:
    """Remove an index with everything that builds of it left on disk or on its server, or are about to leave.

    Raises `UnusableConnection` or `IndexServerFailed` when what lies on a server cannot be removed; the folder is
    kept then, so that it can be tried again.
    """
    named = servers.find_name(folder)
    if named is not None and not connection:
        raise UnusableConnection(
            f"index {folder.name} also lies on a {named[0]} server, whose connection is not known.",
            hint="Set index.connection in the recipe.",
        )
    if connection:
        kind = named[0] if named else servers.guess_kind(connection)
        for name in servers.list_names(kind, connection, named_index(folder, named)):
            servers.drop(kind, connection, name)
    shutil.rmtree(folder, ignore_errors=True)
    remove_drafts(folder, in_use=True)


def named_index(folder: Path, named: tuple[str, str] | None) -> str:
    """Return the id under which a server holds the index in `folder`."""
    return read_manifest(folder).index_id if named else folder.name


def _open_vectors(folder: Path, manifest: Manifest, connection: str | None) -> VectorIndex:
    if manifest.kind == "none":
        return NoVectors()
    if manifest.kind in servers.KINDS:
        return servers.open_server(manifest, connection)
    if manifest.kind == "usearch":
        # Native code follows the numbers in this file wherever they point: one flipped bit must not end the process.
        check_file(folder, manifest, GRAPH_FILE)
        graph = GraphIndex(folder, manifest.recipe)
        require_rows(graph.flat.matrix, manifest.n_rows, manifest.dims)
        return graph
    dense = DenseIndex(folder / "vectors.npy")
    require_rows(dense.matrix, manifest.n_rows, manifest.dims)
    return dense
