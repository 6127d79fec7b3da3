"""The vectors of an index that has words alone."""

# ruff: noqa: ARG002 - it keeps the port's signature and looks at nothing
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penstock.knowledge.index.types import Finding, IndexStats, Matrix, Rows, RowSelection, Scores


class NoVectors:
    """Finds nothing. See `VectorIndex`."""

    def search(
        self, vector: NDArray[np.float32], k: int, rows: RowSelection | None = None, *, exact: bool = False
    ) -> tuple[Rows, Scores]:
        """Find nothing."""
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)

    def vectors(self, rows: Rows | Sequence[int]) -> Matrix:
        """Return rows of no numbers."""
        return np.zeros((len(rows), 0), dtype=np.float32)

    def stats(self) -> IndexStats:
        """Return zeros: there is nothing."""
        return IndexStats(kind="none", n_rows=0, dims=0, size_bytes=0)

    def verify(self, sample: int = 100) -> list[Finding]:
        """Return nothing: there is nothing that could be wrong."""
        return []

    def close(self) -> None:
        """Do nothing."""
