"""How long a text is, in words or in an embedder's tokens, and how long any run of its units is.

The surprise: lengths of runs come from sums over units, so that cutting a long text costs one pass. In words they are
exact; in tokens a run may differ by a few from the sum, and who needs to be sure counts the run itself.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

TokenCounter = Callable[[Sequence[str]], list[int]]
"""Texts to their lengths in an embedder's tokens."""
CHARS_PER_WORD = 8
"""Text without spaces (long codes, addresses) counts one word for so many characters."""
WIDE_CHARS_PER_WORD = 1.5
"""Chinese, Japanese and Korean write a word in so many."""
BYTES_PER_TOKEN = 2.5
"""Below what common tokenizers make of prose in any script (English 4 to 5, Chinese 3), so counts are rather high."""
_WIDE = re.compile(
    "[\u1100-\u11ff\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\ua4cf\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003fffd]"
)
Span = tuple[int, int]


class Sizes(Protocol):
    """Lengths of runs of units."""

    def of(self, first: int, last: int) -> int:
        """Return the length of the text from unit `first` to unit `last`, both within."""


class Ruler(Protocol):
    """One way to tell length."""

    def each(self, texts: Sequence[str]) -> list[int]:
        """Return the length of each text."""

    def is_within(self, text: str, limit: int) -> bool:
        """Return whether a text is no longer than `limit`."""

    def along(self, text: str, spans: Sequence[Span]) -> Sizes:
        """Return the lengths of runs of `spans`, which stand in `text` in order."""


def count_words(text: str) -> int:
    """Return the size of `text` in words."""
    n_wide = 0 if text.isascii() else len(_WIDE.findall(text))
    return max(len(text.split()), _words_by_chars(len(text), n_wide))


def estimate_tokens(texts: Sequence[str]) -> list[int]:
    """Return about how many tokens each text has; rather too many than too few."""
    return [math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN) for text in texts]


class WordRuler:
    """Counts words."""

    def each(self, texts: Sequence[str]) -> list[int]:
        """Return the length of each text."""
        return [count_words(text) for text in texts]

    def is_within(self, text: str, limit: int) -> bool:
        """Return whether a text is no longer than `limit`."""
        return len(text) <= limit or count_words(text) <= limit

    def along(self, text: str, spans: Sequence[Span]) -> Sizes:
        """Return the lengths of runs, each what `count_words` says of its text."""
        wide = not text.isascii()
        words, wides = [0], [0]
        end_before = -1
        for start, end in spans:
            # two spans without a space between them share a word
            joined = start == end_before and not (text[start - 1].isspace() or text[start].isspace())
            words.append(words[-1] + len(text[start:end].split()) - joined)
            wides.append(wides[-1] + (len(_WIDE.findall(text, start, end)) if wide else 0))
            end_before = end
        return _WordSizes(tuple(spans), words, wides, text)


class TokenRuler:
    """Counts tokens."""

    def __init__(self, count: TokenCounter) -> None:
        self._count = count

    def each(self, texts: Sequence[str]) -> list[int]:
        """Return the length of each text."""
        return self._count(texts) if texts else []

    def is_within(self, text: str, limit: int) -> bool:
        """Return whether a text is no longer than `limit`."""
        return self._count([text])[0] <= limit

    def along(self, text: str, spans: Sequence[Span]) -> Sizes:
        """Return the lengths of runs, near enough."""
        counts = self.each([text[start:end] for start, end in spans])
        return _TokenSizes([0, *accumulate(counts)])


@dataclass(frozen=True, slots=True)
class _WordSizes:
    spans: tuple[Span, ...]
    words: list[int]
    wides: list[int]
    text: str

    def of(self, first: int, last: int) -> int:
        start, end = self.spans[first][0], self.spans[last][1]
        n_words = self.words[last + 1] - self.words[first]
        if first and start == self.spans[first - 1][1]:
            # what `along` took off for a word that this run does not share
            n_words += not (self.text[start - 1].isspace() or self.text[start].isspace())
        return max(n_words, _words_by_chars(end - start, self.wides[last + 1] - self.wides[first]))


@dataclass(frozen=True, slots=True)
class _TokenSizes:
    sums: list[int]

    def of(self, first: int, last: int) -> int:
        return self.sums[last + 1] - self.sums[first]


def _words_by_chars(n_chars: int, n_wide: int) -> int:
    if not n_wide:
        return math.ceil(n_chars / CHARS_PER_WORD)
    return math.ceil((n_chars - n_wide) / CHARS_PER_WORD + n_wide / WIDE_CHARS_PER_WORD)
