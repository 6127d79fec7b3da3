"""Open indexes, shared by all searches of a process. A missing or damaged one is written anew from the truth."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from penstock.knowledge import queries
from penstock.knowledge.errors import DamagedIndex
from penstock.knowledge.index.generation import IndexRow, OpenIndex, build_index, open_index

KEPT_OPEN = 4
"""Indexes held open at the same time, over all bases."""
_log = logging.getLogger(__name__)


class OpenIndexes:
    """Indexes by their ids, below one folder. Safe from several threads."""

    def __init__(self, engine: Engine, root: Path) -> None:
        self._engine = engine
        self._root = root
        self._open: dict[str, OpenIndex] = {}
        self._lock = threading.Lock()

    def open(self, generation: Any) -> OpenIndex:
        """Return the index of a generation's row, built on the spot where it is not whole on disk."""
        key = index_of(generation)
        with self._lock:
            index = self._open.get(key)
            if index is not None:
                return index
            folder = self.folder(generation.base, key)
            try:
                index = open_index(folder)
            except DamagedIndex as error:
                if folder.exists():
                    _log.warning("index rebuilt", extra={"index": key, "reason": str(error)})
                self.build(generation)
                index = open_index(folder)
            while len(self._open) >= KEPT_OPEN:
                # Not closed here: another thread may be searching it. It closes with its last reference.
                self._open.pop(next(iter(self._open)))
            self._open[key] = index
            return index

    def reopen(self, generation: Any) -> OpenIndex:
        """Write the index anew, whatever is there, and return it."""
        self.build(generation)
        index = open_index(self.folder(generation.base, index_of(generation)))
        with self._lock:
            self._open[index_of(generation)] = index
        return index

    def build(self, generation: Any) -> None:
        """Write the index of a generation's row from the control tables."""
        with self._engine.connect() as connection:

            def find_vectors(digests: Sequence[str]) -> dict[str, bytes]:
                with self._engine.connect() as own:
                    return queries.find_vectors(own, generation.embedder, digests)

            rows = (
                IndexRow(
                    place=(each.document_id, each.position),
                    title=each.title or "",
                    section=each.section or "",
                    text=each.text,
                    embed_digest=each.embed_digest,
                )
                for each in queries.iterate_generation_passages(connection, generation.id)
            )
            build_index(
                self.folder(generation.base, index_of(generation)),
                rows,
                generation=generation.id,
                embedder=generation.embedder,
                find_vectors=find_vectors,
            )

    def folder(self, base: str, index: str) -> Path:
        """Where the files of an index lie."""
        return self._root / base / index

    def list_folders(self, base: str) -> list[Path]:
        """Return the folders of whole indexes of a base."""
        place = self._root / base
        if not place.is_dir():
            return []
        return sorted(each for each in place.iterdir() if each.name.startswith(("gen_", "idx_")))


def index_of(generation: Any) -> str:
    """Return the id of a generation's index; generations of older releases were their own."""
    return str(generation.index_id or generation.id)
