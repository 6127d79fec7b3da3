"""Contamination: held-out rows whose text stands in other rows too, so that a model may have seen what it is tested on.

Three proofs, each with the pair of rows: the same text, most of a held-out row's word n-grams inside one other row
(as Brown et al., "Language Models are Few-Shot Learners", 2020, appendix C, but by share and pair instead of any single
overlap), and near-duplicates by MinHash. The held-out side is held in memory as hashes; the other side streams by.

The surprise: n-grams that stand in many held-out rows (a template, a standing instruction) prove nothing and are left out;
how many is told.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from penstock.base.errors import InvalidInput
from penstock.datasets.cleaning.minhash import Hashes, MinHashOptions, band_keys, jaccard, shingle_hashes
from penstock.datasets.cleaning.texts import Part, normalise, row_text, tokens_of
from penstock.datasets.types import Tell
from penstock.spec.datasets import DatasetRow

BATCH = 1000
MAX_COMPARED = 1000
"""Held-out rows that one other row is compared with for being nearly the same."""
COMMON_SHARE = 0.05
COMMON_ROWS = 5
"""An n-gram is common when it stands in more rows than this and than that share of them."""


@dataclass(frozen=True, kw_only=True)
class ContaminationOptions:
    """What counts as contamination; stored with what was done."""

    n: int = 8
    """Words of an n-gram (characters in scripts without spaces)."""
    overlap: float = 0.8
    """Share of a held-out row's n-grams that must stand in one other row."""
    near: MinHashOptions | None = field(default_factory=MinHashOptions)
    part: Part = "inputs"
    """What is compared: a question that was seen is enough."""

    def __post_init__(self) -> None:
        if not 2 <= self.n <= 50 or not 0.1 <= self.overlap <= 1:
            raise InvalidInput("n-grams have 2 to 50 words, and the overlap lies between 0.1 and 1.")

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters as they are recorded."""
        return {**asdict(self), "near": self.near.as_dict() if self.near else None}


@dataclass(frozen=True, kw_only=True)
class Contact:
    """One held-out row and one other row that hold the same."""

    held: str
    other: str
    kind: Literal["exact", "ngrams", "near"]
    share: float
    """Share of the held-out row's n-grams found in the other one; similarity for near-duplicates."""


@dataclass(frozen=True, kw_only=True)
class ContaminationReport:
    """What two sets of rows have in common."""

    n_held: int
    n_other: int
    contacts: tuple[Contact, ...]
    n_common_ngrams: int
    """Left out because many held-out rows have them."""
    n_uncompared: int
    parameters: dict[str, Any]

    @property
    def held(self) -> frozenset[str]:
        """Ids of held-out rows that are elsewhere too."""
        return frozenset(each.held for each in self.contacts)

    @property
    def other(self) -> frozenset[str]:
        """Ids of the other rows that hold them."""
        return frozenset(each.other for each in self.contacts)

    def as_dict(self, *, n_contacts: int = 100) -> dict[str, Any]:
        """Return counts and the first contacts."""
        return {
            "n_held": self.n_held,
            "n_other": self.n_other,
            "n_held_contaminated": len(self.held),
            "n_other_contaminated": len(self.other),
            "n_contacts": len(self.contacts),
            "n_common_ngrams": self.n_common_ngrams,
            "n_uncompared": self.n_uncompared,
            "contacts": [asdict(each) for each in self.contacts[:n_contacts]],
            "parameters": self.parameters,
        }


class HeldOut:
    """The held-out rows as hashes: about 16 bytes a word and 4 a character."""

    def __init__(self, rows: Iterable[DatasetRow], options: ContaminationOptions) -> None:
        self._options = options
        self.ids: list[str] = []
        self.n_uncompared = 0
        """Comparisons left out because too many rows were candidates."""
        self._texts: dict[bytes, list[int]] = {}
        self._shingles: list[Hashes] = []
        self._bands: dict[int, list[int]] = {}
        grams: list[NDArray[np.uint64]] = []
        for batch in _batches(rows):
            texts = [row_text(row, options.part) for row in batch]
            for row, text in zip(batch, texts, strict=True):
                if normalise(text):
                    self._texts.setdefault(_text_key(text), []).append(len(self.ids))
                grams.append(ngram_hashes(text, options.n))
                self.ids.append(row.id)
            self._add_bands(texts, len(self.ids) - len(batch))
        self._index(grams)

    def _add_bands(self, texts: Sequence[str], first: int) -> None:
        if self._options.near is None:
            return
        sets = shingle_hashes(texts, self._options.near)
        self._shingles += sets
        filled = [i for i, each in enumerate(sets) if len(each)]
        for i, keys in zip(filled, band_keys([sets[i] for i in filled], self._options.near), strict=True):
            for key in keys:
                self._bands.setdefault(int(key), []).append(first + i)

    def _index(self, grams: Sequence[NDArray[np.uint64]]) -> None:
        """Sort all n-grams with the rows that have them, without the common ones."""
        joined = np.concatenate([*grams, np.empty(0, np.uint64)])
        owners = np.repeat(np.arange(len(grams)), [len(each) for each in grams]).astype(np.int64)
        _, inverse, counts = np.unique(joined, return_inverse=True, return_counts=True)
        is_common = counts > max(COMMON_ROWS, COMMON_SHARE * len(grams))
        self.n_common = int(is_common.sum())
        is_kept = ~is_common[inverse]
        order = np.argsort(joined[is_kept], kind="stable")
        self._grams = joined[is_kept][order]
        self._owners = owners[is_kept][order]
        self._sizes = np.bincount(owners[is_kept], minlength=len(grams))

    def find(self, rows: Sequence[DatasetRow]) -> Iterator[Contact]:
        """Yield the contacts of some other rows, at most one a pair."""
        texts = [row_text(row, self._options.part) for row in rows]
        candidates = self._near(texts)
        for i, (row, text) in enumerate(zip(rows, texts, strict=True)):
            met: dict[int, Contact] = {}
            for same in self._texts.get(_text_key(text), ()) if normalise(text) else ():
                met[same] = Contact(held=self.ids[same], other=row.id, kind="exact", share=1.0)
            for held, share in self._overlaps(text):
                met.setdefault(held, Contact(held=self.ids[held], other=row.id, kind="ngrams", share=share))
            for held, share in candidates[i]:
                met.setdefault(held, Contact(held=self.ids[held], other=row.id, kind="near", share=share))
            yield from met.values()

    def _overlaps(self, text: str) -> Iterator[tuple[int, float]]:
        grams = ngram_hashes(text, self._options.n)
        if not len(grams) or not len(self._grams):
            return
        low = np.searchsorted(self._grams, grams, "left")
        high = np.searchsorted(self._grams, grams, "right")
        is_met = high > low
        if not is_met.any():
            return
        met = np.concatenate([self._owners[a:b] for a, b in zip(low[is_met], high[is_met], strict=True)])
        held, counts = np.unique(met, return_counts=True)
        for index, count in zip(held, counts, strict=True):
            share = count / self._sizes[index]
            if share >= self._options.overlap:
                yield int(index), round(float(share), 4)

    def _near(self, texts: Sequence[str]) -> list[list[tuple[int, float]]]:
        options = self._options.near
        found: list[list[tuple[int, float]]] = [[] for _ in texts]
        if options is None or not self._bands:
            return found
        sets = shingle_hashes(texts, options)
        filled = [i for i, each in enumerate(sets) if len(each)]
        for i, keys in zip(filled, band_keys([sets[i] for i in filled], options), strict=True):
            candidates = sorted({held for key in keys for held in self._bands.get(int(key), ())})
            self.n_uncompared += max(0, len(candidates) - MAX_COMPARED)
            for held in candidates[:MAX_COMPARED]:
                similarity = jaccard(self._shingles[held], sets[i])
                if similarity >= options.threshold:
                    found[i].append((held, round(similarity, 4)))
        return found


def find_contamination(
    held: Iterable[DatasetRow],
    other: Iterable[DatasetRow],
    options: ContaminationOptions = ContaminationOptions(),
    *,
    tell: Tell | None = None,
) -> ContaminationReport:
    """Return which rows of `held` stand in `other` too, with proof."""
    index = HeldOut(held, options)
    contacts: list[Contact] = []
    n_other = 0
    for batch in _batches(other):
        contacts += index.find(batch)
        n_other += len(batch)
        if tell is not None:
            tell(None, f"{n_other:,} rows compared with {len(index.ids):,} held out")
    return ContaminationReport(
        n_held=len(index.ids),
        n_other=n_other,
        contacts=tuple(contacts),
        n_common_ngrams=index.n_common,
        n_uncompared=index.n_uncompared,
        parameters=options.as_dict(),
    )


def ngram_hashes(text: str, n: int) -> NDArray[np.uint64]:
    """Return the set of hashed n-grams of words; empty for a text of fewer words."""
    tokens = tokens_of(text)
    if len(tokens) < n:
        return np.empty(0, np.uint64)
    hashed = np.array([_token_hash(token) for token in tokens], np.uint64)
    mixed = np.zeros(len(tokens) - n + 1, np.uint64)
    for offset in range(n):
        mixed = (mixed + hashed[offset : offset + len(mixed)]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return np.unique(mixed)


def _token_hash(token: str) -> int:
    return int.from_bytes(blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _text_key(text: str) -> bytes:
    return blake2b(normalise(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _batches(rows: Iterable[DatasetRow]) -> Iterator[list[DatasetRow]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, BATCH)):
        yield batch
