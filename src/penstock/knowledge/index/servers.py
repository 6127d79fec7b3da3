"""Indexes whose vectors lie on a server: which engines there are, and the names of what they hold.

A table or collection belongs to one build of one index and is never changed afterwards. It holds row numbers,
document numbers and vectors: no text, no path, no property.
"""

import re
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from penstock.base.ids import new_id
from penstock.knowledge.errors import DamagedIndex
from penstock.knowledge.index import pgvector, qdrant
from penstock.knowledge.index.errors import UnusableConnection
from penstock.knowledge.index.manifest import Manifest, read_manifest
from penstock.knowledge.index.types import BuildContext, Matrix, VectorIndex
from penstock.spec.knowledge import IndexRecipe

KINDS = ("pgvector", "qdrant")
_PREFIX = "penstock"


class Engine(Protocol):
    """What a module that speaks to a kind of server offers besides its `VectorIndex`."""

    def check_connection(self, connection: str) -> None:
        """Raise `UnusableConnection` or `MissingEngine` when nothing can be asked over it."""

    def upload(
        self,
        connection: str,
        name: str,
        *,
        matrix: Matrix,
        document_of: NDArray[np.int32],
        recipe: IndexRecipe,
        ctx: BuildContext,
    ) -> None:
        """Put all rows on the server under a new name, and return once they are searched fast."""

    def drop(self, connection: str, name: str) -> None:
        """Remove what has this name, if it is there."""

    def list_names(self, connection: str) -> list[str]:
        """Return the names of everything on the server, others' things included."""


def check_recipe(recipe: IndexRecipe, connection: str | None) -> None:
    """Raise `UnusableConnection` or `MissingEngine` when a server's index cannot be built with what is here."""
    if recipe.kind not in KINDS:
        return
    if not connection:
        raise UnusableConnection(
            f"an index of kind {recipe.kind} needs a connection.",
            hint="Set index.connection in the recipe, such as "
            + ("postgresql://user@host/database." if recipe.kind == "pgvector" else "http://host:6333."),
        )
    if "{{" in connection:
        raise UnusableConnection("the connection still has a placeholder for a secret in it.")
    _engine(recipe.kind).check_connection(connection)


def guess_kind(connection: str) -> str:
    """Return which kind of server a connection leads to."""
    return "pgvector" if connection.startswith("postgres") else "qdrant"


def make_name(index_id: str) -> str:
    """Return a new name for what a build of this index puts on a server."""
    return f"{_stem(index_id)}_{new_id('b')[-8:]}"


def find_name(folder: Path) -> tuple[str, str] | None:
    """Return engine and name of what the index in `folder` has on a server, if it has."""
    try:
        manifest = read_manifest(folder)
    except DamagedIndex:
        return None
    return (manifest.kind, manifest.server_name) if manifest.server_name else None


def upload(
    kind: str, connection: str, name: str, *, folder: Path, recipe: IndexRecipe, ctx: BuildContext
) -> None:
    """Put the matrix and the document numbers of `folder` on the server under `name`."""
    matrix: Matrix = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    document_of = np.load(folder / "document_of.npy", mmap_mode="r", allow_pickle=False)
    _engine(kind).upload(connection, name, matrix=matrix, document_of=document_of, recipe=recipe, ctx=ctx)


def open_server(manifest: Manifest, connection: str | None) -> VectorIndex:
    """Return the index on its server; the server is not asked before the first search."""
    if not connection or not manifest.server_name:
        raise UnusableConnection(
            f"index {manifest.index_id} lies on a {manifest.kind} server; its connection is not known.",
            hint="Set index.connection in the recipe.",
        )
    kind = pgvector.PgvectorIndex if manifest.kind == "pgvector" else qdrant.QdrantIndex
    return kind(
        connection, manifest.server_name, n_rows=manifest.n_rows, dims=manifest.dims, recipe=manifest.recipe
    )


def drop(kind: str, connection: str, name: str) -> None:
    """Remove a table or collection; it need not exist."""
    _engine(kind).drop(connection, name)


def list_names(kind: str, connection: str, index_id: str | None = None) -> list[str]:
    """Return the names of everything that builds put on this server, of one index or of all."""
    stem = _stem(index_id) if index_id else _PREFIX
    return sorted(name for name in _engine(kind).list_names(connection) if name.startswith(f"{stem}_"))


def _stem(index_id: str) -> str:
    return f"{_PREFIX}_{re.sub('[^a-z0-9]', '', index_id.lower())[-40:]}"


def _engine(kind: str) -> Engine:
    return pgvector if kind == "pgvector" else qdrant
