"""Whether a reply says what its reference says: exact match and F1 of words, as the scorers `exact` and `token_f1` count.

The same two numbers stand in evaluations and gates later; `tests/tuning/trainer` holds them to those scorers.
"""

import unicodedata
from collections import Counter

_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2FA1F),
)
"""Scripts without spaces: a character is a word there."""


def is_exact_match(text: str, reference: str) -> bool:
    """Return whether both are the same, spaces and Unicode forms aside."""
    return _normalize(text) == _normalize(reference)


def token_f1(text: str, reference: str) -> float:
    """Return the harmonic mean of the shares of words that both have in common."""
    found, wanted = Counter(split_words(text)), Counter(split_words(reference))
    if not found or not wanted:
        is_same = found == wanted and _normalize(text).casefold() == _normalize(reference).casefold()
        return float(is_same)
    n_shared = (found & wanted).total()
    return 2 * n_shared / (found.total() + wanted.total())


def split_words(text: str) -> list[str]:
    """Return the words of a text: runs of letters, digits and their marks, compatibility forms unified, case folded."""
    words: list[str] = []
    current, is_single = "", False
    for char in unicodedata.normalize("NFKC", text).casefold():
        code = ord(char)
        if any(start <= code <= end for start, end in _UNSPACED):
            if unicodedata.category(char).startswith("M"):
                current += char
                continue
            words.append(current)
            current, is_single = (char if char.isalnum() else ""), True
        elif unicodedata.category(char).startswith("M"):
            current += char
        elif char.isalnum() or char == "_":
            if is_single:
                words.append(current)
                current, is_single = "", False
            current += char
        else:
            words.append(current)
            current, is_single = "", False
    return [word for word in (*words, current) if word]


def _normalize(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())
