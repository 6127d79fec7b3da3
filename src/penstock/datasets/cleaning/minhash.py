"""MinHash signatures and their bands: which texts may be near-duplicates, in time that grows with the rows alone.

Broder, "On the resemblance and containment of documents" (1997); bands as in Leskovec, Rajaraman and Ullman, "Mining of
Massive Datasets", chapter 3. A pair that the bands bring together is only a candidate: whoever uses this compares the
sets themselves (`jaccard`) before anything is dropped. Everything is deterministic: the seeds are fixed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.base.errors import InvalidInput
from penstock.datasets.cleaning.texts import is_unspaced, normalise

Hashes = NDArray[np.uint32]
Keys = NDArray[np.uint64]
MISSED = 0.001
"""The share of pairs exactly at the threshold that the bands may miss."""
MAX_CHARS = 20_000
"""Longer texts are compared by their beginning."""
_BASE = np.uint64(0x9E3779B97F4A7C15)
_SEED = 20_261


@dataclass(frozen=True, kw_only=True)
class MinHashOptions:
    """How near-duplicates are found; stored with what was done."""

    threshold: float = 0.8
    """Jaccard similarity of the sets of shingles from which two texts count as the same."""
    shingle_chars: int = 5
    """Length of a shingle; 3 in texts of scripts without spaces, where a character says more."""
    n_permutations: int = 128

    def __post_init__(self) -> None:
        if not 0.3 <= self.threshold <= 1:
            raise InvalidInput("The threshold lies between 0.3 and 1.", where="threshold")
        if not 2 <= self.shingle_chars <= 20 or not 16 <= self.n_permutations <= 512:
            raise InvalidInput("Shingles have 2 to 20 characters, signatures 16 to 512 numbers.")

    @property
    def rows_per_band(self) -> int:
        """The most rows a band can have with at most `MISSED` of the pairs at the threshold missed."""
        for rows in range(self.n_permutations, 1, -1):
            if (1 - self.threshold**rows) ** (self.n_permutations // rows) <= MISSED:
                return rows
        return 1

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters as they are recorded."""
        return {**asdict(self), "rows_per_band": self.rows_per_band}


def shingle_hashes(
    texts: Sequence[str], options: MinHashOptions, *, with_repeats: bool = False
) -> list[Hashes]:
    """Return the set of hashed shingles of every text, sorted; empty for a text without anything to compare.

    A text that is shorter than a shingle is one shingle. `with_repeats` leaves them as they come, which is quicker and
    enough for `band_keys`.
    """
    prepared = [normalise(text[:MAX_CHARS]) for text in texts]
    lengths = [3 if is_unspaced(text) else options.shingle_chars for text in prepared]
    found: list[Hashes] = [np.empty(0, np.uint32)] * len(texts)
    for length in sorted(set(lengths)):
        members = [i for i, each in enumerate(lengths) if each == length and prepared[i]]
        for i, hashes in zip(members, _hash_all([prepared[i] for i in members], length), strict=True):
            found[i] = hashes if with_repeats else np.unique(hashes)
    return found


def _hash_all(texts: Sequence[str], length: int) -> list[Hashes]:
    """Hash all windows of all texts at once, then cut the result at the borders of the texts."""
    if not texts:
        return []
    padded = [text.ljust(length, "\0") for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    n_windows = len(codes) - length + 1
    mixed = np.zeros(n_windows, np.uint64)
    for offset in range(length):
        mixed = (mixed + codes[offset : offset + n_windows]) * _BASE
        mixed ^= mixed >> np.uint64(29)
    hashes = (mixed >> np.uint64(32)).astype(np.uint32)
    found: list[Hashes] = []
    start = 0
    for text in padded:
        found.append(hashes[start : start + len(text) - length + 1])
        start += len(text)
    return found


def band_keys(sets: Sequence[Hashes], options: MinHashOptions) -> Keys:
    """Return a row of band keys for each set, of shape (n, bands); sets must not be empty.

    Two sets of the same key in the same band are candidates.
    """
    rows = options.rows_per_band
    bands = options.n_permutations // rows
    if not sets:
        return np.empty((0, bands), np.uint64)
    multipliers, addends = _permutations(options.n_permutations)
    joined = np.concatenate(sets)
    starts = np.cumsum([0, *(len(each) for each in sets[:-1])])
    keys = np.empty((len(sets), bands), np.uint64)
    for band in range(bands):
        key = np.full(len(sets), band + 1, np.uint64)
        for number in range(band * rows, (band + 1) * rows):
            permuted = joined * multipliers[number] + addends[number]
            permuted ^= permuted >> np.uint32(15)
            least = np.minimum.reduceat(permuted, starts)
            key = (key ^ least) * _BASE
            key ^= key >> np.uint64(31)
        keys[:, band] = key
    return keys


@lru_cache(maxsize=4)
def _permutations(n: int) -> tuple[Hashes, Hashes]:
    rng = np.random.Generator(np.random.PCG64(_SEED))
    multipliers = rng.integers(0, 2**32, n, dtype=np.uint32) | np.uint32(1)  # odd: one to one on 32 bits
    return multipliers, rng.integers(0, 2**32, n, dtype=np.uint32)


def jaccard(left: Hashes, right: Hashes) -> float:
    """Return the share of shingles that two sets have in common, of all that either has; 0 for empty sets."""
    if not len(left) or not len(right):
        return 0.0
    n_shared = len(np.intersect1d(left, right, assume_unique=True))
    return n_shared / (len(left) + len(right) - n_shared)
