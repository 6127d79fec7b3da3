"""One generation on disk: `vectors.npy`, `lexical.db`, `places.json` and a manifest, in a folder of its own.

Built beside its place and renamed, so a folder that exists is whole. Opening checks it; a folder that fails
the check is rebuilt by the caller from the control tables.
"""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from penstock.base.files import sync_directory
from penstock.knowledge.errors import DamagedIndex, UnusableEmbedding
from penstock.knowledge.index.dense import DenseIndex
from penstock.knowledge.index.lexical import LexicalIndex, write_lexical

FORMAT = 1
Place = tuple[str, int]
"""Where a row's passage is kept: document id and position."""


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """One passage as the index needs it."""

    place: Place
    title: str
    section: str
    text: str
    embed_digest: str


@dataclass(frozen=True, kw_only=True)
class OpenIndex:
    """A generation that can be searched. Row `n` of both indexes is `places[n]`."""

    generation: str
    embedder: str
    places: tuple[Place, ...]
    dense: DenseIndex
    lexical: LexicalIndex

    @property
    def dims(self) -> int:
        """Length of a vector; 0 when there are no passages."""
        return int(self.dense.matrix.shape[1])


def build_index(
    folder: Path,
    rows: Iterable[IndexRow],
    *,
    generation: str,
    embedder: str,
    find_vectors: Callable[[Sequence[str]], dict[str, bytes]],
) -> None:
    """Write the generation into `folder`, which appears whole or not at all. An older `folder` is replaced."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.parent / f".{folder.name}.{os.getpid()}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        places: list[Place] = []
        digests: list[str] = []

        def lexical_rows() -> Iterable[tuple[int, str, str, str]]:
            for number, row in enumerate(rows):
                places.append(row.place)
                digests.append(row.embed_digest)
                yield number, row.title, row.section, row.text

        write_lexical(draft / "lexical.db", lexical_rows())
        dims = _write_vectors(draft / "vectors.npy", digests, find_vectors)
        (draft / "places.json").write_text(json.dumps(places))
        manifest = {
            "format": FORMAT,
            "generation": generation,
            "embedder": embedder,
            "n_passages": len(places),
            "dims": dims,
        }
        (draft / "manifest.json").write_text(json.dumps(manifest, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        try:
            draft.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            shutil.rmtree(draft)  # another process built the same generation meanwhile
        sync_directory(folder.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def open_index(folder: Path) -> OpenIndex:
    """Open a generation; raise `DamagedIndex` when files are missing or do not fit each other."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        places = tuple(
            (str(document), int(position))
            for document, position in json.loads((folder / "places.json").read_text())
        )
        dense = DenseIndex(folder / "vectors.npy")
        lexical = LexicalIndex(folder / "lexical.db")
        lexical.search("probe", limit=1)
    except (OSError, ValueError, KeyError, TypeError, sqlite3.Error) as error:
        raise DamagedIndex(f"index {folder.name} cannot be opened: {error}.") from error
    shape = (manifest.get("n_passages"), manifest.get("dims"))
    if manifest.get("format") != FORMAT or shape != dense.matrix.shape or len(places) != shape[0]:
        lexical.close()
        raise DamagedIndex(f"index {folder.name} does not fit its manifest.")
    return OpenIndex(
        generation=manifest["generation"],
        embedder=manifest["embedder"],
        places=places,
        dense=dense,
        lexical=lexical,
    )


def _write_vectors(
    path: Path, digests: Sequence[str], find_vectors: Callable[[Sequence[str]], dict[str, bytes]]
) -> int:
    """Write the matrix piece by piece, so that memory does not grow with it; return the length of a row."""
    if not digests:
        np.save(path, np.zeros((0, 0), dtype=np.float32))
        return 0
    matrix: np.memmap | None = None
    dims = 0
    for start in range(0, len(digests), 1000):
        part = digests[start : start + 1000]
        vectors = find_vectors(part)
        for number, digest in enumerate(part, start=start):
            if digest not in vectors:
                raise DamagedIndex("a passage has no vector in the cache.", hint="Run the ingest again.")
            vector = np.frombuffer(vectors[digest], dtype="<f4")
            if matrix is None:
                dims = len(vector)
                matrix = np.lib.format.open_memmap(
                    path, mode="w+", dtype=np.float32, shape=(len(digests), dims)
                )
            if len(vector) != dims:
                raise UnusableEmbedding(f"vectors of {dims} and {len(vector)} numbers under one embedder id.")
            matrix[number] = vector
    assert matrix is not None
    matrix.flush()
    return dims
