"""Vectors and rows for index tests: clusters, so that neighbours mean something, and documents of ten passages."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penstock.knowledge.index.build import build_index
from penstock.knowledge.index.generation import OpenIndex
from penstock.knowledge.index.types import BuildReport, IndexRow
from penstock.spec.knowledge import IndexRecipe

EMBEDDER = "test embedder@1"
PER_DOCUMENT = 10


def make_vectors(n_rows: int, dims: int = 32, seed: int = 0) -> NDArray[np.float32]:
    """Return unit rows around sixteen centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(16, dims))
    rows = centres[rng.integers(16, size=n_rows)] + 0.7 * rng.normal(size=(n_rows, dims))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_questions(vectors: NDArray[np.float32], n: int = 20, seed: int = 1) -> NDArray[np.float32]:
    """Return unit vectors near some rows."""
    rng = np.random.default_rng(seed)
    rows = vectors[rng.integers(len(vectors), size=n)] + 0.2 * rng.normal(size=(n, vectors.shape[1]))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Corpus:
    """Rows by number: row `n` of the matrix is passage `n % 10` of document `n // 10`, unless told otherwise."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = vectors
        self.asked = 0

    def row(self, number: int) -> IndexRow:
        """Return a row; its digest names its vector."""
        return IndexRow(
            place=(f"doc_{number // PER_DOCUMENT:05d}", number % PER_DOCUMENT),
            title=f"Title {number // PER_DOCUMENT}",
            section="Section",
            text=f"passage number{number} speaks of subject{number % 7}",
            embed_digest=f"sha256:{number:064x}",
        )

    def rows(self, numbers: Sequence[int] | None = None) -> list[IndexRow]:
        """Return rows in order."""
        return [self.row(each) for each in (range(len(self.vectors)) if numbers is None else numbers)]

    def find_vectors(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Return vectors by digest and count how many were asked for."""
        self.asked += len(digests)
        return {each: self.vectors[int(each[7:], 16)].tobytes() for each in digests}

    def build(
        self,
        folder: Path,
        recipe: IndexRecipe,
        *,
        numbers: Sequence[int] | None = None,
        connection: str | None = None,
        previous: Path | None = None,
    ) -> BuildReport:
        """Build an index of these rows."""
        return build_index(
            folder,
            self.rows(numbers),
            index_id=folder.name,
            embedder=EMBEDDER,
            find_vectors=self.find_vectors,
            recipe=recipe,
            connection=connection,
            previous=previous,
        )


def choose_documents(index: OpenIndex, share: float, seed: int = 2) -> NDArray[np.bool_]:
    """Return which documents are chosen: a share of them, at least one where the share is not 0."""
    n = len(index.table.ids)
    chosen = np.zeros(n, dtype=bool)
    if share > 0 and n:
        order = np.random.default_rng(seed).permutation(n)
        chosen[order[: max(1, round(share * n))]] = True
    return chosen


def measure_recall(
    vectors: NDArray[np.float32],
    question: NDArray[np.float32],
    mask: NDArray[np.bool_],
    k: int,
    found: NDArray[np.int64],
    *,
    epsilon: float = 1e-5,
) -> float:
    """Return the share of the best `k` that was found, where equal cosines are interchangeable."""
    cosines = vectors @ question
    wanted = min(k, int(mask.sum()))
    if wanted == 0:
        return 1.0
    edge = np.sort(cosines[mask])[::-1][wanted - 1] - epsilon
    return float(np.count_nonzero(cosines[found] >= edge)) / wanted
