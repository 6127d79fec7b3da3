"""Porter's stemmer for English (M. F. Porter, 1980, "An algorithm for suffix stripping"), with the later repairs.

The repairs are those that `nltk` and, through it, `rouge-score` apply by default: a few irregular words, `ied` and short `ies`,
`y` after a consonant only, and the endings `bli`, `alli`, `fulli`, `logi`. Tests hold it to that package word by word.
"""

import itertools
from collections.abc import Callable
from functools import lru_cache

_IRREGULAR = {
    "sky": "sky",
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "news": "news",
    "innings": "inning",
    "inning": "inning",
    "outings": "outing",
    "outing": "outing",
    "cannings": "canning",
    "canning": "canning",
    "howe": "howe",
    "proceed": "proceed",
    "exceed": "exceed",
    "succeed": "succeed",
}
_STEP_2 = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"),
    ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"),
    ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"),
    ("iviti", "ive"), ("biliti", "ble"), ("fulli", "ful"),
)  # fmt: skip
_STEP_3 = (
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
)
_STEP_4 = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
)  # fmt: skip


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """Return the stem of a lower-case English word; words of one or two letters stay as they are."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 2:
        return word
    for step in (_step_1a, _step_1b, _step_1c, _step_2, _step_3, _step_4, _step_5a, _step_5b):
        word = step(word)
    return word


def _is_consonant(word: str, place: int) -> bool:
    letter = word[place]
    if letter in "aeiou":
        return False
    if letter == "y":
        return place == 0 or not _is_consonant(word, place - 1)
    return True


def _measure(text: str) -> int:
    """Return how often a vowel is followed by a consonant: Porter's m in [C](VC)^m[V]."""
    kinds = [_is_consonant(text, place) for place in range(len(text))]
    return sum(1 for before, after in itertools.pairwise(kinds) if not before and after)


def _has_vowel(text: str) -> bool:
    return any(not _is_consonant(text, place) for place in range(len(text)))


def _ends_double(text: str) -> bool:
    return len(text) >= 2 and text[-1] == text[-2] and _is_consonant(text, len(text) - 1)


def _ends_short(text: str) -> bool:
    """Return whether it ends consonant, vowel, consonant other than w, x, y; or is vowel and consonant alone."""
    last = len(text) - 1
    if len(text) >= 3:
        return (
            _is_consonant(text, last - 2)
            and not _is_consonant(text, last - 1)
            and _is_consonant(text, last)
            and text[last] not in "wxy"
        )
    return len(text) == 2 and not _is_consonant(text, 0) and _is_consonant(text, 1)


def _step_1a(word: str) -> str:
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _step_1b(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        if word.endswith(ending) and _has_vowel(word[: -len(ending)]):
            base = word[: -len(ending)]
            break
    else:
        return word
    if base.endswith(("at", "bl", "iz")):
        return base + "e"
    if _ends_double(base):
        return base if base[-1] in "lsz" else base[:-1]
    return base + "e" if _measure(base) == 1 and _ends_short(base) else base


def _step_1c(word: str) -> str:
    if word.endswith("y") and len(word) > 2 and _is_consonant(word, len(word) - 2):
        return word[:-1] + "i"
    return word


def _replace(
    word: str, rules: tuple[tuple[str, str], ...], condition: Callable[[str], bool]
) -> tuple[str, str]:
    """Return the word and the ending that was replaced; the first ending found decides, whether or not it may go."""
    for ending, instead in rules:
        if word.endswith(ending):
            base = word[: -len(ending)]
            return (base + instead, ending) if condition(base) else (word, "")
    return word, ""


def _has_measure(base: str) -> bool:
    return _measure(base) > 0


def _step_2(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        return _step_2(word[:-4] + "al")
    if word.endswith("logi") and not word.endswith(tuple(ending for ending, _ in _STEP_2)):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    return _replace(word, _STEP_2, _has_measure)[0]


def _step_3(word: str) -> str:
    return _replace(word, _STEP_3, _has_measure)[0]


def _step_4(word: str) -> str:
    for ending in _STEP_4:
        if word.endswith(ending):
            base = word[: -len(ending)]
            is_free = _measure(base) > 1 and (ending != "ion" or base.endswith(("s", "t")))
            return base if is_free else word
    return word


def _step_5a(word: str) -> str:
    if not word.endswith("e"):
        return word
    base = word[:-1]
    measure = _measure(base)
    return base if measure > 1 or (measure == 1 and not _ends_short(base)) else word


def _step_5b(word: str) -> str:
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word
