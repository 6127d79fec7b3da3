"""Text as the index of words sees it: the same folding for documents and questions.

Compatibility forms and decomposed accents become one form, case is folded (`Straße` and `STRASSE` are one word), and
scripts that write without spaces become overlapping pairs of characters, so that a word inside a sentence is found.
"""

import re
import unicodedata
from itertools import pairwise

MAX_QUERY_WORDS = 64
_WIDE = re.compile(
    "["
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # kana and Han
    "\uac00-\ud7af"  # Hangul
    "\U00020000-\U0003ffff"
    "]+"
)
_FUNCTION_WORDS = (
    "a an and are as at be been but by can could did do does for from had has have how i if in into is it its me "
    "my of on or our shall should so some such than that the their them then there these they this those to too "
    "was we were what when where which while who whom whose why will with would you your"
)
_STOP = frozenset(_FUNCTION_WORDS.split())


def fold(text: str) -> str:
    """Return `text` in the one form that is indexed and asked for."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _WIDE.sub(_pairs, folded)


def query_words(query: str) -> list[str]:
    """Return the words of a query that carry it: without function words, unless there are no others."""
    kept = "".join(char if _is_of_word(char) else " " for char in fold(query))
    words = list(dict.fromkeys(kept.split()))
    return ([word for word in words if word not in _STOP] or words)[:MAX_QUERY_WORDS]


def match_any(words: list[str]) -> str:
    """Return the words as an FTS5 query for rows that hold any of them.

    A single character of a script without spaces stands for every pair that begins with it.
    """
    return " OR ".join(f'"{word}"*' if _is_single_wide(word) else f'"{word}"' for word in words)


def _pairs(run: re.Match[str]) -> str:
    text = run.group()
    # the last character stands alone as well, so that each begins something that can be asked for
    return f" {' '.join([*(first + second for first, second in pairwise(text)), text[-1]])} "


def _is_of_word(char: str) -> bool:
    # marks belong to their word: vowel signs of many scripts are no letters
    return char.isalnum() or char == "_" or unicodedata.category(char).startswith("M")


def _is_single_wide(word: str) -> bool:
    return len(word) == 1 and _WIDE.fullmatch(word) is not None
