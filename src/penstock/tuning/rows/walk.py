"""One walk over the rows of one side: chunks to workers, what comes back to files and into one report."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.tuning.rows.chunks import MAX_ROWS_TOLD, Chunk, NumberedRow, RowWork, Trouble
from penstock.tuning.rows.files import RowFiles
from penstock.tuning.rows.pool import chunked, count_processes, work_all
from penstock.tuning.rows.types import RowKind, RowsReport, Spread

Tell = Callable[[float | None, str], None]


class Walked:
    """What became of all rows of one side."""

    def __init__(self, kind: RowKind, max_length: int) -> None:
        self.kind = kind
        self.max_length = max_length
        self.n_read = self.n_kept = self.n_truncated = self.n_dropped = 0
        self.n_lost_tokens = self.n_tokens = self.n_sequences = 0
        self.troubles: dict[tuple[Trouble, str], tuple[int, list[int]]] = {}
        self.labels: dict[str, int] = {}
        self.samples: list[dict[str, Any]] = []
        self._lengths: list[NDArray[np.int64]] = []
        self._trained: list[NDArray[np.int64]] = []
        self._keys: list[NDArray[np.uint64]] = []
        self._numbers: list[NDArray[np.int64]] = []

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence before anything was cut."""
        return np.concatenate([np.empty(0, np.int64), *self._lengths])

    @property
    def keys(self) -> NDArray[np.uint64]:
        """Equal for rows that say the same."""
        return np.concatenate([np.empty(0, np.uint64), *self._keys])

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Of the rows that `keys` are of."""
        return np.concatenate([np.empty(0, np.int64), *self._numbers])

    def add(self, chunk: Chunk) -> None:
        """Count a chunk."""
        self.n_read += chunk.n_read
        self.n_kept += chunk.n_kept
        self.n_truncated += chunk.n_truncated
        self.n_dropped += chunk.n_dropped
        self.n_lost_tokens += chunk.n_lost_tokens
        self.n_sequences += len(chunk.rows)
        self.n_tokens += sum(int(sizes.sum()) for sizes in chunk.sizes)
        self._lengths.append(chunk.lengths)
        self._trained.append(chunk.trained)
        self._keys.append(chunk.keys)
        self._numbers.append(chunk.numbers)
        self.samples += chunk.samples
        for key, (count, rows) in chunk.troubles.items():
            before, known = self.troubles.get(key, (0, []))
            self.troubles[key] = (before + count, (known + rows)[:MAX_ROWS_TOLD])
        if self.kind == "kto":
            good = int(chunk.labels.sum())
            for name, count in (("good", good), ("bad", len(chunk.labels) - good)):
                self.labels[name] = self.labels.get(name, 0) + count

    def report(self, *, digest: str | None, folder: Path | None) -> RowsReport:
        """Return all that was counted."""
        trained = np.concatenate([np.empty(0, np.int64), *self._trained])
        return RowsReport(
            kind=self.kind,
            n_read=self.n_read,
            n_kept=self.n_kept,
            n_sequences=self.n_sequences,
            n_tokens=self.n_tokens,
            n_trained_tokens=int(trained.sum()),
            n_truncated=self.n_truncated,
            n_dropped=self.n_dropped,
            n_lost_tokens=self.n_lost_tokens,
            n_split_by_turn=self.troubles.get(("split-by-turn", ""), (0, []))[0],
            lengths=_spread(self.lengths),
            trained=_spread(trained),
            max_length=self.max_length,
            labels=self.labels,
            digest=digest,
            folder=None if folder is None else folder.name,
        )


def walk_rows(
    work: RowWork,
    rows: Iterable[NumberedRow],
    *,
    n_rows: int,
    folder: Path | None = None,
    processes: int | None = None,
    tell: Tell | None = None,
) -> tuple[Walked, RowsReport]:
    """Render all rows, write them to `folder` if one is given, and return what became of them.

    `n_rows` is how many there are about: by it the work is shared between processes, and progress is told.
    """
    walked = Walked(work.reader.kind, work.max_length)
    files = None if folder is None else RowFiles(folder, work.reader.kind)
    chunks = work_all(work, chunked(rows), processes=processes or count_processes(n_rows))
    for chunk in chunks:
        walked.add(chunk)
        if files is not None:
            files.add(chunk)
        if tell is not None:
            tell(min(1.0, walked.n_read / max(1, n_rows)), f"{walked.n_read:,} rows looked at")
    digest = None if files is None else files.close()
    return walked, walked.report(digest=digest, folder=folder)


def number_rows(rows: Iterable[Any]) -> Iterator[NumberedRow]:
    """Yield rows with their numbers, from 1."""
    return enumerate(rows, start=1)


def _spread(values: NDArray[np.int64]) -> Spread | None:
    if not len(values):
        return None
    p50, p90, p99 = (int(np.quantile(values, share, method="inverted_cdf")) for share in (0.5, 0.9, 0.99))
    return Spread(p50=p50, p90=p90, p99=p99, largest=int(values.max()))
