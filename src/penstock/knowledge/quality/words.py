"""Words of texts for telling that two texts say the same: lower case, without marks, in order."""

import re
import unicodedata
from collections.abc import Sequence

_WORD = re.compile(r"\w+", re.UNICODE)
SHINGLE = 4
"""Words in a row that two texts must share to have a place in common."""
_FUNCTION_WORDS = (
    "a an and are as at be but by can could did do does for from had has have how i if in into is it its me my of on or our "
    "should so that the their them then there these they this to us was we were what when where which who why will with "
    "would you your"
)
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())


def split_words(text: str) -> list[str]:
    """Return the words of a text; ligatures and accents as in their plain form, so that two parsers' texts agree."""
    plain = unicodedata.normalize("NFKD", text.replace("\u00ad", ""))
    return _WORD.findall("".join(char for char in plain if not unicodedata.combining(char)).casefold())


def shingles(words: Sequence[str], n: int = SHINGLE) -> list[tuple[str, ...]]:
    """Return all runs of `n` words (of all words when there are fewer), in order."""
    size = min(n, len(words))
    return [tuple(words[at : at + size]) for at in range(len(words) - size + 1)] if size else []


def cover(quote: Sequence[str], text: Sequence[str]) -> set[int]:
    """Return the places of words of `quote` that stand in `text` in runs of `SHINGLE` (of all, for shorter quotes)."""
    size = min(SHINGLE, len(quote))
    if not size:
        return set()
    there = set(shingles(text, size))
    covered: set[int] = set()
    for at in range(len(quote) - size + 1):
        if tuple(quote[at : at + size]) in there:
            covered.update(range(at, at + size))
    return covered


def likeness(first: Sequence[str], second: Sequence[str]) -> float:
    """Return the share of the shorter text's words that stand in the other in runs, 0 to 1."""
    shorter, longer = sorted((first, second), key=len)
    return len(cover(shorter, longer)) / len(shorter) if shorter else 0.0


def content_words(text: str) -> list[str]:
    """Return the words that carry a question's meaning, each once, in order."""
    return list(dict.fromkeys(word for word in split_words(text) if word not in STOP_WORDS))
