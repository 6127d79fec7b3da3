"""Open indexes, shared by all searches of a process. A missing or damaged one is written anew from the truth."""

import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine

from penstock.knowledge import queries
from penstock.knowledge.errors import DamagedIndex
from penstock.knowledge.index.build import build_index
from penstock.knowledge.index.generation import OpenIndex, open_index, purge_index
from penstock.knowledge.index.manifest import NAME as MANIFEST
from penstock.knowledge.index.manifest import clear_drafts
from penstock.knowledge.index.types import BuildContext, IndexDocument, IndexRow
from penstock.knowledge.recipes import read_recipe
from penstock.spec.knowledge import Properties

KEPT_OPEN = 8
"""Indexes held open at the same time, over all bases."""
FillAddress = Callable[[str], str]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Kept:
    index: OpenIndex
    stamp: tuple[int, int] | None


class OpenIndexes:
    """Indexes by their ids, below one folder. Safe from several threads."""

    def __init__(
        self, engine: Engine, root: Path, *, fill_address: FillAddress = lambda address: address
    ) -> None:
        """`fill_address` puts secrets into the address of a server's index."""
        self._engine = engine
        self._root = root
        self._fill_address = fill_address
        self._open: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._building: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def open(self, generation: Any, *, previous: Any = None, ctx: BuildContext | None = None) -> OpenIndex:
        """Return the index of a generation's row, built on the spot where it is not whole on disk.

        `previous` is the row of a generation to take over from.
        """
        key = index_of(generation)
        index = self._find_current(generation)
        if index is not None:
            return index
        with self._lock:
            building = self._building[key]
        with building:  # others go on searching what is open meanwhile
            index = self._find_current(generation)
            if index is None:
                index = self._open_or_build(generation, previous, ctx)
            return index

    def mend(self, generation: Any, damaged: OpenIndex) -> OpenIndex:
        """Write an index anew that was found to be damaged while it was searched, unless somebody did; return it."""
        key = index_of(generation)
        with self._lock:
            building = self._building[key]
        with building:
            index = self._find_current(generation)
            if index is not None and index is not damaged:
                return index
            if index is None:  # another process wrote it anew
                return self._open_or_build(generation, None, None)
            _log.warning("index rebuilt", extra={"index": key, "reason": "damaged while it was searched"})
            self.build(generation)
            return self._open_folder(generation)

    def reopen(self, generation: Any, *, ctx: BuildContext | None = None) -> OpenIndex:
        """Write the index anew, whatever is there, taking nothing over, and return it."""
        key = index_of(generation)
        with self._lock:
            building = self._building[key]
        with building:
            self.build(generation, ctx=ctx)
            return self._open_folder(generation)

    def build(self, generation: Any, *, previous: Any = None, ctx: BuildContext | None = None) -> None:
        """Write the index of a generation's row from the control tables."""
        recipe = read_recipe(generation.recipe).index
        before = None if previous is None else self.folder(generation.base, index_of(previous))
        with self._engine.connect() as connection:

            def find_vectors(digests: Sequence[str]) -> dict[str, bytes]:
                with self._engine.connect() as own:
                    return queries.find_vectors(own, generation.embedder, digests)

            build_index(
                self.folder(generation.base, index_of(generation)),
                self._list_rows(connection, generation.id),
                embedder=generation.embedder,
                find_vectors=find_vectors,
                index_id=index_of(generation),
                recipe=recipe,
                documents=self._list_documents(generation.id),
                n_rows=generation.n_passages,
                connection=self.address(generation),
                previous=before if before is not None and before.is_dir() else None,
                ctx=ctx,
            )

    def purge(self, generation: Any) -> None:
        """Remove the files of a generation's index, and what lies of it on a server."""
        key = index_of(generation)
        with self._lock:
            self._open.pop(key, None)
        purge_index(self.folder(generation.base, key), connection=self.address(generation))

    def folder(self, base: str, index: str) -> Path:
        """Where the files of an index lie."""
        return self._root / base / index

    def list_folders(self, base: str) -> list[Path]:
        """Return the folders of whole indexes of a base."""
        place = self._root / base
        if not place.is_dir():
            return []
        return sorted(each for each in place.iterdir() if each.name.startswith(("gen_", "idx_")))

    def clear_drafts(self, base: str) -> int:
        """Remove what killed builds left of indexes of a base; return how many folders that were."""
        return clear_drafts(self._root / base)

    def address(self, generation: Any) -> str | None:
        """Return where a server's index lies, secrets filled in; None for one of files."""
        told = read_recipe(generation.recipe).index.connection
        return None if told is None else self._fill_address(told)

    def _open_or_build(self, generation: Any, previous: Any, ctx: BuildContext | None) -> OpenIndex:
        try:
            return self._open_folder(generation)
        except DamagedIndex as error:
            if self.folder(generation.base, index_of(generation)).exists():
                _log.warning("index rebuilt", extra={"index": index_of(generation), "reason": str(error)})
            self.build(generation, previous=previous, ctx=ctx)
            return self._open_folder(generation)

    def _open_folder(self, generation: Any) -> OpenIndex:
        key = index_of(generation)
        folder = self.folder(generation.base, key)
        stamp = _stamp(folder)  # before it is opened: one that is replaced meanwhile is looked at again
        index = open_index(folder, connection=self.address(generation))
        with self._lock:
            for name in [each for each, kept in self._open.items() if not kept.index.folder.exists()]:
                # Pruned or erased by another process: its files are freed once nobody has them.
                del self._open[name]
            self._open[key] = _Kept(index=index, stamp=stamp)
            self._open.move_to_end(key)
            while len(self._open) > KEPT_OPEN:
                # Not closed here: another thread may be searching it. It closes with its last reference.
                self._open.popitem(last=False)
        return index

    def _find_current(self, generation: Any) -> OpenIndex | None:
        """Return the open index, unless another process wrote it anew since: a repair reaches all that serve."""
        key = index_of(generation)
        with self._lock:
            kept = self._open.get(key)
            if kept is None:
                return None
            self._open.move_to_end(key)
        stamp = _stamp(kept.index.folder)
        # Without a manifest it is just being replaced, or was pruned: what is open serves on.
        return kept.index if stamp is None or stamp == kept.stamp else None

    def _list_rows(self, connection: Any, generation: str) -> Iterator[IndexRow]:
        for each in queries.iterate_generation_passages(connection, generation):
            yield IndexRow(
                place=(each.document_id, each.position),
                title=each.title or "",
                section=each.section or "",
                text=each.text,
                embed_digest=each.embed_digest,
            )

    def _list_documents(self, generation: str) -> Iterator[IndexDocument]:
        with self._engine.connect() as connection:
            sources = queries.list_source_names(connection)
            for row in queries.iterate_generation_documents(connection, generation):
                yield IndexDocument(
                    id=row.id,
                    path=row.path,
                    title=row.title,
                    media_type=row.media_type,
                    source=sources.get(row.source_id),
                    added_ns=row.created_ns,
                    properties=msgspec.convert(row.properties or {}, Properties),
                )


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Return what tells this build of an index from another one of the same id; None where there is none."""
    try:
        found = (folder / MANIFEST).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def index_of(generation: Any) -> str:
    """Return the id of a generation's index; generations of older releases were their own."""
    return str(generation.index_id or generation.id)
