"""What an index is to the rest of the room: rows, the documents they belong to, selections, and the port.

Row numbers count the passages of an index from 0, by path, then by position in the document. They mean nothing
outside one index. Vectors have length one (or are all zero), so a dot product is a cosine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.spec.knowledge import Properties

Place = tuple[str, int]
"""Where a row's passage is kept: document id and position."""
Rows = NDArray[np.int64]
Scores = NDArray[np.float32]
Matrix = NDArray[np.float32]
FindVectors = Callable[[Sequence[str]], dict[str, bytes]]
"""From digests of embedded texts to vectors as little-endian float32. Called with at most 1,000 digests."""


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """One passage as an index needs it."""

    place: Place
    title: str
    section: str
    text: str
    """Read for its words; the text itself is kept nowhere in an index."""
    embed_digest: str


class IndexDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A document of an index with what filters ask about. A change of any of it is another index."""

    id: str
    path: str
    title: str | None = None
    media_type: str | None = None
    source: str | None = None
    """Name of its source."""
    added_ns: int = 0
    properties: Properties = Properties()


@dataclass(frozen=True, kw_only=True, eq=False)
class RowSelection:
    """The rows that a search may find. Made by `OpenIndex.select`; never changed afterwards."""

    mask: NDArray[np.bool_]
    """One truth value a row."""
    count: int
    """How many rows are true."""
    documents: NDArray[np.bool_]
    """One truth value a document of the index: what servers are told, as their numbers alone."""
    document_of: NDArray[np.int32]
    """The document number of every row."""

    @property
    def rows(self) -> Rows:
        """The selected row numbers, ascending."""
        return np.flatnonzero(self.mask)


@dataclass(frozen=True, kw_only=True)
class IndexStats:
    """What an index says about itself. Unknown is None."""

    kind: str
    n_rows: int
    dims: int
    precision: str = "f32"
    size_bytes: int | None = None
    n_removed: int = 0
    """Entries of an approximate index that are dead weight until it is built anew."""
    details: dict[str, str | int | float | None] = field(default_factory=dict)


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was checked. `advice` says what to do about it when it is not `ok`."""

    check: str
    """Such as `row count`, `recall`."""
    state: Literal["ok", "warning", "failed", "skipped"]
    message: str
    measured: float | None = None
    threshold: float | None = None
    advice: str | None = None


class VectorIndex(Protocol):
    """Vectors of one index, searched by cosine. Safe to share between threads; never changes once it is open."""

    def search(
        self, vector: NDArray[np.float32], k: int, rows: RowSelection | None = None, *, exact: bool = False
    ) -> tuple[Rows, Scores]:
        """Return the best rows and their cosines, best first, ties by row number.

        Always `min(k, selected rows)` of them: an approximate search that comes back short is made up exactly.
        `exact` scores every selected row. Raises `DimensionMismatch` for a vector of another length, and
        `UpstreamError` when a server cannot be reached.
        """

    def vectors(self, rows: Rows | Sequence[int]) -> Matrix:
        """Return the vectors of these rows, in this order."""

    def stats(self) -> IndexStats:
        """Return counts and sizes."""

    def verify(self, sample: int = 100) -> list[Finding]:
        """Check counts, ids and, on `sample` of its own vectors, recall at 10 against an exact search."""

    def close(self) -> None:
        """Let go of files and connections. A search after it may fail."""


class BuildContext(Protocol):
    """The part of a job's context that a long build needs."""

    def progress(self, fraction: float, message: str) -> None:
        """Show how far the build is, between 0 and 1."""

    def check_cancelled(self) -> None:
        """Raise when the build is to stop; nothing of it is left behind."""


class BuildReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a build did."""

    kind: str
    """The engine that was taken: never `auto`."""
    n_rows: int
    n_documents: int
    dims: int
    n_reused: int = 0
    """Rows taken over from the index before."""
    note: str | None = None
    """Why another engine was taken than the recipe would have had."""


class QuietContext:
    """Shows nothing and is never cancelled."""

    def progress(self, fraction: float, message: str) -> None:
        """Drop it."""

    def check_cancelled(self) -> None:
        """Never cancelled."""
