"""Which training rows hold what a model is measured by: the same question, or most of its word sequences, asked or answered.

The definition is that of the datasets' decontamination without its near-duplicates: equal after folding case, width and
spaces, or 80 % of the held-out question's sequences of 8 words in one training row, sequences that many held-out rows
share left out. Made for 100,000 rows in seconds: words are hashed once, and a whole batch is looked up at a time, behind a
sieve that lets hardly any word sequence through that no held-out question has.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
N_WORDS = 8
OVERLAP = 0.8
_COMMON_SHARE, _COMMON_ROWS = 0.05, 5
"""A word sequence is common when it stands in more held-out rows than both."""
_UNSPACED = "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff]"
_WORD = re.compile(f"{_UNSPACED}|[^\\W_]+")
_NO_WORD = bytes(code if chr(code).isalnum() else 32 for code in range(128)) + bytes(range(128, 256))
"""ASCII to ASCII with spaces for all that is in no word."""
_MAX_REMEMBERED = 500_000
_MAX_SIEVE = 1 << 24
_FEW = 64


@dataclass(frozen=True, kw_only=True)
class HeldIndex:
    """Held-out questions as hashes; small enough to be handed to every process."""

    name: str
    """The dataset that they are of."""
    exact: Hashes
    """Sorted."""
    grams: Hashes
    """Sorted; with `owners`: the number of the question that each is of."""
    owners: NDArray[np.int64]
    sizes: NDArray[np.int64]
    """Word sequences of each question that count."""

    @cached_property
    def sieve(self) -> NDArray[np.bool_]:
        """A table of a power of two entries: true where the low bits of a word sequence's hash point to."""
        size = min(_MAX_SIEVE, 1 << max(10, (32 * len(self.grams)).bit_length()))
        table = np.zeros(size, bool)
        table[self.grams & np.uint64(size - 1)] = True
        return table


@dataclass(frozen=True, kw_only=True)
class WordSequences:
    """The hashes of all sequences of `N_WORDS` words in some texts, with the number of the text that each is of."""

    hashes: Hashes
    texts: NDArray[np.int64]


class WordHashes:
    """Texts → hashes of their words; remembers words."""

    def __init__(self) -> None:
        self._known: dict[bytes, bytes] = {}

    def hash_words(self, text: str) -> bytes:
        """Return the hashes of the words of a normalised text: eight bytes a word."""
        if text.isascii():
            words = text.encode().translate(_NO_WORD).split()
        else:
            words = [word.encode("utf-8", "surrogatepass") for word in _WORD.findall(text)]
        try:
            return b"".join(map(self._known.__getitem__, words))
        except KeyError:
            if len(self._known) > _MAX_REMEMBERED:
                self._known.clear()
            for word in words:
                if word not in self._known:
                    self._known[word] = blake2b(word, digest_size=8).digest()
            return b"".join(map(self._known.__getitem__, words))


@lru_cache(maxsize=_FEW)
def normalise(text: str) -> str:
    """Return the text as it is compared: NFKC, case folded, spaces as one, no final punctuation.

    The last few are remembered: of one row the same text is compared as question, turn and answer.
    """
    folded = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(folded.casefold().split()).rstrip(" .!?\u3002\uff01\uff1f\u2026,;:")


@lru_cache(maxsize=_FEW)
def text_key(normalised: str) -> bytes:
    """Return eight bytes that are equal for equal texts."""
    return blake2b(normalised.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def index_questions(name: str, questions: Iterable[str]) -> HeldIndex:
    """Return the index of held-out questions (already normalised)."""
    words = WordHashes()
    exact: list[int] = []
    hashed: list[bytes] = []
    for question in questions:
        if question:
            exact.append(int.from_bytes(text_key(question), "little"))
        hashed.append(words.hash_words(question))
    grams, owners = _unique_grams(hashed)
    _, inverse, counts = np.unique(grams, return_inverse=True, return_counts=True)
    is_kept = (counts <= max(_COMMON_ROWS, _COMMON_SHARE * len(hashed)))[inverse]
    grams, owners = grams[is_kept], owners[is_kept]
    order = np.argsort(grams, kind="stable")
    return HeldIndex(
        name=name,
        exact=np.unique(np.array(exact, np.uint64)),
        grams=grams[order],
        owners=owners[order],
        sizes=np.bincount(owners, minlength=len(hashed)).astype(np.int64),
    )


def find_overlaps(index: HeldIndex, keys: Hashes, sequences: WordSequences) -> NDArray[np.bool_]:
    """Return for each of some rows whether it holds a held-out question; `keys` are their `text_key`s as numbers."""
    is_met = np.isin(keys, index.exact)
    if len(index.grams):
        is_let_through = index.sieve[sequences.hashes & np.uint64(len(index.sieve) - 1)]
        grams, rows = sequences.hashes[is_let_through], sequences.texts[is_let_through]
        low = np.searchsorted(index.grams, grams, "left")
        is_known = low < len(index.grams)
        is_known[is_known] = index.grams[low[is_known]] == grams[is_known]
        grams, rows = grams[is_known], rows[is_known]
        for row in np.unique(rows[~is_met[rows]]) if len(rows) else ():
            is_met[row] |= _is_overlapping(index, np.unique(grams[rows == row]))
    return is_met


def _is_overlapping(index: HeldIndex, grams: Hashes) -> bool:
    low = np.searchsorted(index.grams, grams, "left")
    high = np.searchsorted(index.grams, grams, "right")
    met = np.concatenate([index.owners[a:b] for a, b in zip(low, high, strict=True)])
    held, counts = np.unique(met, return_counts=True)
    return bool((counts >= OVERLAP * index.sizes[held]).any())


def word_sequences(words: Sequence[bytes]) -> WordSequences:
    """Return the word sequences of texts whose words were hashed."""
    sizes = np.array([len(each) // 8 for each in words], np.int64)
    flat = np.frombuffer(b"".join(words), "<u8")
    if len(flat) < N_WORDS:
        return WordSequences(hashes=np.empty(0, np.uint64), texts=np.empty(0, np.int64))
    texts = np.repeat(np.arange(len(words)), sizes)
    n_grams = len(flat) - N_WORDS + 1
    mixed = np.zeros(n_grams, np.uint64)
    for offset in range(N_WORDS):
        mixed += flat[offset : offset + n_grams]
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    is_within = texts[:n_grams] == texts[N_WORDS - 1 :]
    return WordSequences(hashes=mixed[is_within], texts=texts[:n_grams][is_within])


def _unique_grams(words: Sequence[bytes]) -> tuple[Hashes, NDArray[Any]]:
    """Return the word sequences of texts, each once a text."""
    found = word_sequences(words)
    grams, rows = found.hashes, found.texts
    if not len(grams):
        return grams, rows
    order = np.lexsort((grams, rows))
    grams, rows = grams[order], rows[order]
    is_first = np.ones(len(grams), bool)
    is_first[1:] = (grams[1:] != grams[:-1]) | (rows[1:] != rows[:-1])
    return grams[is_first], rows[is_first]
