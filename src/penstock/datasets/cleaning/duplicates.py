"""Duplicates within a dataset: the same text, and nearly the same, each row held against one that stays.

Rows are read twice and never held together: first their keys, then the shingles of those alone that have a candidate.
A row goes only when its true similarity to a row that stays is at least the threshold, so that chains of small changes
do not carry a dataset away.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np

from penstock.datasets.cleaning.minhash import Hashes, MinHashOptions, band_keys, jaccard, shingle_hashes
from penstock.datasets.cleaning.texts import Part, answer_fields, normalise, row_key, row_text, texts_of
from penstock.spec.datasets import DatasetRow

Rows = Callable[[], Iterable[DatasetRow]]
"""Reads the rows from the first one, as often as it is called."""
BATCH = 1000
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


@dataclass
class _Found:
    duplicates: list[Duplicate] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def find_duplicates(
    rows: Rows,
    *,
    part: Part = "all",
    near: MinHashOptions | None = MinHashOptions(),  # noqa: B008 - frozen
    on_progress: Callable[[float, str], None] = lambda share, text: None,
    n_rows: int | None = None,
) -> DuplicateReport:
    """Return which rows say the same as an earlier one; with `near=None` exactly the same alone.

    The result does not depend on anything but the rows, their order and the parameters. Memory grows by about 200 bytes
    a row, and by the shingles of rows that have a candidate.
    """
    found = _Found()
    exact = _find_exact(rows, part, found, on_progress, n_rows)
    if near is not None:
        _find_near(rows, part, near, exact, found, on_progress)
    order = {each.id: each for each in found.duplicates}
    return DuplicateReport(
        n_rows=found.counts["rows"],
        n_empty=found.counts["empty"],
        duplicates=tuple(order.values()),
        n_other_answer=found.counts["other answer"],
        n_uncompared=found.counts["uncompared"],
        parameters={"part": part, "near": near.as_dict() if near else None},
    )


def _find_exact(
    rows: Rows,
    part: Part,
    found: _Found,
    on_progress: Callable[[float, str], None],
    n_rows: int | None,
) -> set[int]:
    """Note exact duplicates; return the positions of rows that are still to be looked at."""
    first: dict[bytes, str] = {}
    open_rows: set[int] = set()
    for position, row in enumerate(rows()):
        found.counts["rows"] += 1
        if position % BATCH == 0 and n_rows:
            on_progress(0.1 * position / n_rows, "exact duplicates")
        if not row_text(row, part).strip():
            found.counts["empty"] += 1
            continue
        key = bytes.fromhex(row_key(row, part).removeprefix("sha256:")[:32])
        kept = first.setdefault(key, row.id)
        if kept != row.id:
            found.duplicates.append(Duplicate(id=row.id, kept=kept, kind="exact", similarity=1.0))
        else:
            open_rows.add(position)
    return open_rows


def _find_near(
    rows: Rows,
    part: Part,
    options: MinHashOptions,
    open_rows: set[int],
    found: _Found,
    on_progress: Callable[[float, str], None],
) -> None:
    positions: list[int] = []
    blocks = []
    for batch in _batches(rows, open_rows):
        sets = shingle_hashes([row_text(row, part) for _, row in batch], options)
        kept = [i for i, each in enumerate(sets) if len(each)]
        positions += [batch[i][0] for i in kept]
        blocks.append(band_keys([sets[i] for i in kept], options))
        on_progress(0.1 + 0.7 * len(positions) / len(open_rows), "signatures")
    if not positions:
        return
    shared = _shared_keys(np.concatenate(blocks), positions)
    del blocks, positions
    seen = 0
    staying: dict[int, list[_Staying]] = {}
    for batch in _batches(rows, set(shared)):
        sets = shingle_hashes([row_text(row, part) for _, row in batch], options)
        for (position, row), hashes in zip(batch, sets, strict=True):
            _place(row, hashes, shared[position], staying, options.threshold, found)
        seen += len(batch)
        on_progress(0.8 + 0.2 * seen / len(shared), "comparing candidates")


@dataclass(frozen=True)
class _Staying:
    id: str
    hashes: Hashes
    answer: str


def _place(
    row: DatasetRow,
    hashes: Hashes,
    keys: list[int],
    staying: dict[int, list[_Staying]],
    threshold: float,
    found: _Found,
) -> None:
    """Compare a row with those that stay and share a key; it is nearly one of them, or stays itself."""
    answer = short_answer(row)
    compared: set[str] = set()
    best: tuple[float, str] | None = None
    has_other_answer = False
    for key in keys:
        others = staying.get(key, [])
        found.counts["uncompared"] += max(0, len(others) - MAX_COMPARED)
        for other in others[:MAX_COMPARED]:
            if other.id in compared:
                continue
            compared.add(other.id)
            low, high = sorted((len(hashes), len(other.hashes)))
            if low < threshold * high:
                continue  # sets of such sizes cannot be that similar
            similarity = jaccard(hashes, other.hashes)
            if similarity < threshold:
                continue
            if answer != other.answer:
                has_other_answer = True
            elif best is None or similarity > best[0]:
                best = (similarity, other.id)
    if best is not None:
        found.duplicates.append(Duplicate(id=row.id, kept=best[1], kind="near", similarity=round(best[0], 4)))
        return
    found.counts["other answer"] += has_other_answer
    mine = _Staying(row.id, hashes, answer)
    for key in keys:
        staying.setdefault(key, []).append(mine)


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


def _batches(rows: Rows, wanted: set[int]) -> Iterator[list[tuple[int, DatasetRow]]]:
    picked = ((position, row) for position, row in enumerate(rows()) if position in wanted)
    while batch := list(islice(picked, BATCH)):
        yield batch
