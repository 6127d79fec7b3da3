"""Approximate search by usearch's HNSW graph, scored again from the exact matrix.

The graph proposes, the matrix decides: candidates are asked for with a margin and scored exactly; when a selection
leaves fewer than were wanted, more are asked for, and at last all selected rows are scored. A graph that was carried over from the
index before holds entries of rows that are gone; they are skipped, and counted in `stats`. (Taking them out would
loosen the graph: arXiv 2407.07871, "unreachable points".)
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penstock.knowledge.index.dense import DenseIndex, best_places, check_lengths, check_query
from penstock.knowledge.index.errors import MissingEngine
from penstock.knowledge.index.expansion import choose_expansion
from penstock.knowledge.index.probe import probe_recall
from penstock.knowledge.index.types import (
    BuildContext,
    Finding,
    IndexStats,
    Matrix,
    Rows,
    RowSelection,
    Scores,
)
from penstock.spec.knowledge import IndexRecipe

if TYPE_CHECKING:
    from usearch.index import Index

GRAPH_FILE = "graph.usearch"
SLOTS_FILE = "slots.npy"
ROWS_PER_CANDIDATE = 12
"""Rows that are scored exactly in the time the graph takes for one more candidate (measured: 5 µs and 0.4 µs)."""
WIDER = 8
"""Times as many are asked for when a selection leaves too few, as where it lies far from the question."""
ADD_BATCH = 8192
REBUILD_SHARE = 0.2
"""Share of gone entries from which a graph is built anew."""
LEAST_RECALL = 0.95
"""A carried-over graph that finds less of what an exact search finds is built anew, and `verify` warns."""


def load_engine() -> type["Index"]:
    """Return usearch's index class; raise `MissingEngine` when it is not installed."""
    try:
        from usearch.index import Index  # 40 ms and native code: only where it is used
    except ImportError as error:
        raise MissingEngine(
            "the package usearch, which searches vectors by a graph, is not installed.",
            hint="Install it with: pip install 'penstock[usearch]'. Or set index.kind to exact.",
        ) from error
    return Index


def is_installed() -> bool:
    """Return whether usearch is there."""
    try:
        load_engine()
    except MissingEngine:
        return False
    return True


class GraphIndex:
    """A graph beside a matrix. See `VectorIndex`."""

    def __init__(self, folder: Path, recipe: IndexRecipe) -> None:
        """Raise `ValueError` or `OSError` when a file is missing or they do not fit each other."""
        self.flat = DenseIndex(folder / "vectors.npy")
        n_rows, dims = self.flat.matrix.shape
        self._oversample = recipe.oversample
        self._expansion = choose_expansion(recipe, n_rows)
        self._precision = choose_precision(recipe)
        self._size_bytes = (folder / GRAPH_FILE).stat().st_size
        self._graph = open_graph(folder / GRAPH_FILE, recipe, dims)
        if self._graph.ndim != dims:
            raise ValueError(f"the graph holds vectors of {self._graph.ndim} numbers, the matrix of {dims}")
        self.slots = read_slots(folder, n_rows)
        n_slots = len(self._graph)
        if n_rows > n_slots or (len(self.slots) and int(self.slots.max()) >= n_slots):
            raise ValueError(f"the graph has {n_slots} entries for {n_rows} rows")
        self._n_slots = n_slots
        self._row_of = np.full(n_slots, -1, dtype=np.int32)
        self._row_of[self.slots] = np.arange(n_rows, dtype=np.int32)
        # usearch counts on no more searches at once than it was opened for; one takes well below a millisecond.
        self._lock = threading.Lock()

    def search(
        self, vector: NDArray[np.float32], k: int, rows: RowSelection | None = None, *, exact: bool = False
    ) -> tuple[Rows, Scores]:
        """Search the graph, or every selected row where that is the faster way."""
        n_rows, dims = self.flat.matrix.shape
        query = check_query(vector, dims, n_rows)
        count = n_rows if rows is None else rows.count
        wanted = min(k, count)
        if wanted == 0:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        share = count / self._n_slots
        # The graph looks at `expansion` entries anyway, and being told of them costs nothing; of a selection as many.
        n_asked = int(max(wanted * self._oversample, self._expansion) / share) + 1
        while not exact and n_asked * ROWS_PER_CANDIDATE < count:
            found = self._propose(query, n_asked)
            if rows is not None:
                found = found[rows.mask[found]]
            if len(found) >= wanted:
                scores = self.flat.score(query, found)
                places = best_places(scores, wanted)
                return found[places], scores[places]
            n_asked *= WIDER
        return self.flat.search(query, k, rows)

    def vectors(self, rows: Rows | Sequence[int]) -> Matrix:
        """Return the exact vectors."""
        return self.flat.vectors(rows)

    def stats(self) -> IndexStats:
        """Return counts, and the size of matrix and graph."""
        n_rows, dims = self.flat.matrix.shape
        return IndexStats(
            kind="usearch",
            n_rows=n_rows,
            dims=dims,
            precision=self._precision,
            size_bytes=self._size_bytes + self.flat.path.stat().st_size,
            n_removed=self._n_slots - n_rows,
            details={"graph_bytes": self._size_bytes},
        )

    def verify(self, sample: int = 100) -> list[Finding]:
        """Check lengths, and recall at 10 against the matrix."""
        return [
            check_lengths(self.flat.matrix, sample),
            probe_recall(self, len(self.flat.matrix), sample, threshold=LEAST_RECALL),
        ]

    def close(self) -> None:
        """Let go of the mappings, which end with their last reference."""

    def _propose(self, query: NDArray[np.float32], count: int) -> Rows:
        with self._lock:
            keys = self._graph.search(query, count, threads=1).keys
        rows = self._row_of[np.asarray(keys, dtype=np.int64)]
        found: Rows = np.unique(rows[rows >= 0]).astype(np.int64)
        return found


def open_graph(path: Path, recipe: IndexRecipe, dims: int, *, change: bool = False) -> "Index":
    """Map a graph from disk, or read it into memory to `change` it; raise `ValueError` when it is none."""
    graph = new_graph(recipe, dims)
    try:
        if change:
            graph.load(str(path))
        else:
            graph.view(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path.name}: {error}") from error
    return graph


def new_graph(recipe: IndexRecipe, dims: int) -> "Index":
    """Return an empty graph as the recipe has it. Keys are entry numbers, so they need no look-up by key."""
    return load_engine()(
        ndim=dims,
        metric="ip",
        dtype=choose_precision(recipe),
        connectivity=recipe.connectivity,
        expansion_add=recipe.expansion_add,
        expansion_search=choose_expansion(recipe, 0),  # a search says itself how many it wants
        enable_key_lookups=False,
    )


def choose_precision(recipe: IndexRecipe) -> str:
    """Return how entries are held; bytes unless the recipe says otherwise.

    Measured on 100,000 clustered vectors of 384 numbers: a quarter of the memory, a third of the time to build, and
    the same recall, since candidates are scored again exactly.
    """
    return recipe.precision or "i8"


def is_same(before: IndexRecipe, recipe: IndexRecipe) -> bool:
    """Return whether a graph of one recipe can be carried on under another."""

    def shape(each: IndexRecipe) -> tuple[object, ...]:
        return choose_precision(each), each.connectivity, each.expansion_add

    return shape(before) == shape(recipe)


def read_slots(folder: Path, n_rows: int) -> NDArray[np.int64]:
    """Return the graph entry of every row: its own number, unless the graph was carried over."""
    path = folder / SLOTS_FILE
    if not path.exists():
        return np.arange(n_rows, dtype=np.int64)
    slots: NDArray[np.int64] = np.load(path, allow_pickle=False).astype(np.int64)
    if slots.shape != (n_rows,) or len(np.unique(slots)) != n_rows or (n_rows and int(slots.min()) < 0):
        raise ValueError(f"{SLOTS_FILE} does not fit {n_rows} rows")
    return slots


def build_graph(folder: Path, recipe: IndexRecipe, ctx: BuildContext, *, threads: int = 0) -> None:
    """Write a graph of the matrix in `folder`; memory is the graph's own."""
    matrix: Matrix = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    graph = new_graph(recipe, matrix.shape[1])
    every = np.arange(len(matrix))
    _add_rows(graph, folder, every, keys=every, ctx=ctx, threads=threads)
    graph.save(str(folder / GRAPH_FILE))


def carry_graph(
    folder: Path,
    recipe: IndexRecipe,
    before: Path,
    previous_rows: NDArray[np.int32],
    ctx: BuildContext,
    *,
    threads: int = 0,
) -> bool:
    """Write the graph of the index `before` with the new rows added; return whether that was worth it.

    `previous_rows` has for every row of the new matrix its row in the one before, or -1. Nothing is written when
    more than a fifth of the entries would be gone, or when the result is worse than a fresh graph would be.
    """
    matrix: Matrix = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    n_before = len(np.load(before / "vectors.npy", mmap_mode="r", allow_pickle=False))
    slots_before = read_slots(before, n_before)
    kept = previous_rows >= 0
    fresh = np.flatnonzero(~kept)
    graph = open_graph(before / GRAPH_FILE, recipe, matrix.shape[1], change=True)
    n_slots = len(graph) + len(fresh)
    if n_slots - len(matrix) > REBUILD_SHARE * n_slots or len(fresh) > len(matrix) // 2:
        return False
    slots = np.empty(len(matrix), dtype=np.int32)
    slots[kept] = slots_before[previous_rows[kept]]
    slots[fresh] = np.arange(len(graph), n_slots)
    _add_rows(graph, folder, fresh, keys=slots[fresh], ctx=ctx, threads=threads)
    graph.save(str(folder / GRAPH_FILE))
    np.save(folder / SLOTS_FILE, slots)
    del graph
    finding = probe_recall(GraphIndex(folder, recipe), len(matrix), 50, threshold=LEAST_RECALL)
    if finding.state != "ok":
        (folder / SLOTS_FILE).unlink()
        return False
    return True


def _add_rows(
    graph: "Index",
    folder: Path,
    rows: NDArray[Any],
    *,
    keys: NDArray[Any],
    ctx: BuildContext,
    threads: int,
) -> None:
    for start in range(0, len(rows), ADD_BATCH):
        ctx.check_cancelled()
        part = rows[start : start + ADD_BATCH]
        # Mapped anew each time: pages of a mapping that was read whole would count as this process's memory.
        matrix: Matrix = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
        graph.add(keys[start : start + ADD_BATCH], np.ascontiguousarray(matrix[part]), threads=threads)
        ctx.progress(
            (start + len(part)) / len(rows), f"linked {start + len(part):,} of {len(rows):,} passages"
        )
