"""Duplicates within a dataset: the same text, and nearly the same, each row held against one that stays.

Rows are read twice and never held together: first their keys, then the shingles of those alone that have a candidate.
A row goes only when its true similarity to a row that stays is at least the threshold, so that chains of small changes
do not carry a dataset away.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np

from penstock.datasets.cleaning.minhash import Hashes, MinHashOptions, band_keys, jaccard, shingle_hashes
from penstock.datasets.cleaning.texts import Part, answer_fields, normalise, row_key, row_text, texts_of
from penstock.datasets.types import Tell
from penstock.spec.datasets import DatasetRow

Rows = Callable[[], Iterable[DatasetRow]]
"""Reads the rows from the first one, as often as it is called."""
BATCH = 250
"""Rows at once: their shingles fit into the cache of a core."""
MAX_COMPARED = 256
"""Rows that stay, of one band, that a row is compared with. What that leaves out is counted."""
MAX_SHORT_ANSWER = 40
"""Characters of an answer below which another answer makes a row another row: a label, a number, a name."""


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """A row that says what another one says already."""

    id: str
    kept: str
    """The first row of those that say it; it stays."""
    kind: Literal["exact", "near"]
    similarity: float
    """Jaccard similarity of the shingles; 1 for exact ones."""


@dataclass(frozen=True, kw_only=True)
class DuplicateReport:
    """What was found, and how."""

    n_rows: int
    n_empty: int
    """Rows without any text to compare: they stay."""
    duplicates: tuple[Duplicate, ...]
    n_other_answer: int
    """Near-duplicates that stay because their short answers differ."""
    n_uncompared: int
    """Comparisons left out because a band had too many rows that stay; 0 as a rule."""
    parameters: dict[str, Any]

    @property
    def n_exact(self) -> int:
        """How many say exactly the same as an earlier row."""
        return sum(each.kind == "exact" for each in self.duplicates)

    @property
    def n_near(self) -> int:
        """How many say nearly the same as an earlier row."""
        return len(self.duplicates) - self.n_exact

    @property
    def dropped(self) -> frozenset[str]:
        """Ids of the rows that would go."""
        return frozenset(each.id for each in self.duplicates)

    def clusters(self) -> list[tuple[str, list[Duplicate]]]:
        """Return what says the same as one row that stays, the largest groups first."""
        groups: dict[str, list[Duplicate]] = {}
        for each in self.duplicates:
            groups.setdefault(each.kept, []).append(each)
        return sorted(groups.items(), key=lambda item: -len(item[1]))

    def as_dict(self, *, n_clusters: int = 50) -> dict[str, Any]:
        """Return counts and the largest clusters."""
        clusters = self.clusters()
        return {
            "n_rows": self.n_rows,
            "n_exact": self.n_exact,
            "n_near": self.n_near,
            "n_empty": self.n_empty,
            "n_other_answer": self.n_other_answer,
            "n_uncompared": self.n_uncompared,
            "n_clusters": len(clusters),
            "clusters": [
                {"kept": kept, "rows": [asdict(each) for each in rows[:20]], "n": len(rows)}
                for kept, rows in clusters[:n_clusters]
            ],
            "parameters": self.parameters,
        }


def find_duplicates(
    rows: Rows,
    *,
    part: Part = "all",
    near: MinHashOptions | None = MinHashOptions(),
    n_rows: int | None = None,
    tell: Tell | None = None,
) -> DuplicateReport:
    """Return which rows say the same as an earlier one; with `near=None` exactly the same alone.

    The result does not depend on anything but the rows, their order and the parameters. Memory grows by about 300 bytes
    a row, and by the shingles of rows that have a candidate. `n_rows` is for `tell` alone.
    """
    search = _Search(rows, part, tell or (lambda *_: None), n_rows)
    open_rows = search.find_exact()
    if near is not None:
        search.find_near(open_rows, near)
    return DuplicateReport(
        n_rows=search.counts["rows"],
        n_empty=search.counts["empty"],
        duplicates=tuple(search.duplicates),
        n_other_answer=search.counts["other answer"],
        n_uncompared=search.counts["uncompared"],
        parameters={"part": part, "near": near.as_dict() if near else None},
    )


@dataclass(frozen=True)
class _Staying:
    id: str
    hashes: Hashes
    answer: str


class _Search:
    """One way through the rows, and what was found on it."""

    def __init__(self, rows: Rows, part: Part, tell: Tell, n_rows: int | None) -> None:
        self._rows = rows
        self._part = part
        self._tell = tell
        self._n_rows = n_rows
        self._staying: dict[int, list[_Staying]] = {}
        self.duplicates: list[Duplicate] = []
        self.counts: Counter[str] = Counter()

    def find_exact(self) -> set[int]:
        """Note exact duplicates; return the positions of rows that are still to be looked at."""
        first: dict[bytes, str] = {}
        open_rows: set[int] = set()
        for position, row in enumerate(self._rows()):
            self.counts["rows"] += 1
            if position % BATCH == 0 and self._n_rows:
                self._tell(0.1 * position / self._n_rows, "exact duplicates")
            if not row_text(row, self._part).strip():
                self.counts["empty"] += 1
                continue
            key = bytes.fromhex(row_key(row, self._part).removeprefix("sha256:")[:32])
            kept = first.setdefault(key, row.id)
            if kept != row.id:
                self.duplicates.append(Duplicate(id=row.id, kept=kept, kind="exact", similarity=1.0))
            else:
                open_rows.add(position)
        return open_rows

    def find_near(self, open_rows: set[int], options: MinHashOptions) -> None:
        """Note near-duplicates among the rows at these positions."""
        positions: list[int] = []
        blocks = []
        for batch in self._batches(open_rows):
            texts = [row_text(row, self._part) for _, row in batch]
            sets = shingle_hashes(texts, options, with_repeats=True)
            kept = [i for i, each in enumerate(sets) if len(each)]
            positions += [batch[i][0] for i in kept]
            blocks.append(band_keys([sets[i] for i in kept], options))
            self._tell(0.1 + 0.7 * len(positions) / len(open_rows), "signatures")
        if not positions:
            return
        shared = _shared_keys(np.concatenate(blocks), positions)
        del blocks, positions
        seen = 0
        for batch in self._batches(set(shared)):
            sets = shingle_hashes([row_text(row, self._part) for _, row in batch], options)
            for (position, row), hashes in zip(batch, sets, strict=True):
                self._place(row, hashes, shared[position], options.threshold)
            seen += len(batch)
            self._tell(0.8 + 0.2 * seen / len(shared), "comparing candidates")

    def _place(self, row: DatasetRow, hashes: Hashes, keys: list[int], threshold: float) -> None:
        """Compare a row with those that stay and share a key; it is nearly one of them, or stays itself."""
        answer = short_answer(row)
        best: tuple[float, str] | None = None
        has_other_answer = False
        for other in self._candidates(keys, len(hashes), threshold):
            similarity = jaccard(hashes, other.hashes)
            if similarity < threshold:
                continue
            if answer != other.answer:
                has_other_answer = True
            elif best is None or similarity > best[0]:
                best = (similarity, other.id)
        if best is not None:
            self.duplicates.append(
                Duplicate(id=row.id, kept=best[1], kind="near", similarity=round(best[0], 4))
            )
            return
        self.counts["other answer"] += has_other_answer
        mine = _Staying(row.id, hashes, answer)
        for key in keys:
            self._staying.setdefault(key, []).append(mine)

    def _candidates(self, keys: list[int], size: int, threshold: float) -> Iterator[_Staying]:
        """Yield each row that stays and shares a key once, unless their sizes rule the similarity out."""
        seen: set[str] = set()
        for key in keys:
            others = self._staying.get(key, [])
            self.counts["uncompared"] += max(0, len(others) - MAX_COMPARED)
            for other in others[:MAX_COMPARED]:
                if other.id in seen:
                    continue
                seen.add(other.id)
                low, high = sorted((size, len(other.hashes)))
                if low >= threshold * high:
                    yield other

    def _batches(self, wanted: set[int]) -> Iterator[list[tuple[int, DatasetRow]]]:
        picked = ((position, row) for position, row in enumerate(self._rows()) if position in wanted)
        while batch := list(islice(picked, BATCH)):
            yield batch


def short_answer(row: DatasetRow) -> str:
    """Return the answer of a row as far as it is a label, a number or a name; empty for anything longer."""
    text = "\n".join(normalise(text) for text in texts_of(list(answer_fields(row).values())))
    return text if len(text) <= MAX_SHORT_ANSWER else ""


def _shared_keys(keys: np.ndarray[Any, np.dtype[np.uint64]], positions: list[int]) -> dict[int, list[int]]:
    """Return for each row that has a candidate the keys that it shares."""
    shared: dict[int, list[int]] = {}
    for band in range(keys.shape[1]):
        column = keys[:, band]
        order = np.argsort(column, kind="stable")
        ranked = column[order]
        is_same = ranked[1:] == ranked[:-1]
        has_mate = np.zeros(len(ranked), bool)
        has_mate[1:] |= is_same
        has_mate[:-1] |= is_same
        for index in order[has_mate]:
            shared.setdefault(positions[index], []).append(int(column[index]))
    return dict(sorted(shared.items()))
