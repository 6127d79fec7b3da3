"""Which of some numbered things a model's reply chooses. Pure.

Models are asked for bare numbers and write sentences all the same: "None of the 5 passages help", "All 4 are borne out", "1-3".
A number that counts is no choice, and a reply that both takes and refuses is not guessed at.
"""

import re

_RANGE = re.compile(r"(\d{1,3})\s*(?:-|–|—|to|through|bis)\s*(\d{1,3})", re.IGNORECASE)
_CHOICE = re.compile(rf"{_RANGE.pattern}|(\d{{1,3}})", re.IGNORECASE)
_BARE = re.compile(rf"\W*(?:(?:{_RANGE.pattern}|\d{{1,3}}|and|und|&)(?:\W+|\Z))+", re.IGNORECASE)
_ABBREVIATED = re.compile(r"\b(?:no|nr)\.?\s*(?=\d)", re.IGNORECASE)
_THINGS = r"(?:passages?|statements?|sources?|sentences?|claims?|of\s+them|passagen|aussagen|abschnitte|quellen|sätze)\b"
_COUNTS = re.compile(
    rf"\d{{1,3}}\s+(?:of|von)\s+(?:the\s+|these\s+|those\s+|all\s+|den\s+)?(?:\d{{1,3}}\b|{_THINGS})"
    rf"|\b(?:of|all|the|these|those|von|aller?|die|den)\s+\d{{1,3}}\s+{_THINGS}"
    rf"|\b(?:of|all|von|aller?)\s+(?:the\s+|these\s+|those\s+|den\s+)?\d{{1,3}}\b(?!\s*(?:,|and\b|und\b|-|–))"
    rf"|\b\d{{1,3}}\s+{_THINGS}",
    re.IGNORECASE,
)
_NONE = re.compile(r"\W*(?:none|no|nothing|neither|keine?[rs]?|nichts)\b", re.IGNORECASE)
_ALL = re.compile(r"\W*(?:all|every|each|alle|jede)\b", re.IGNORECASE)
_EXCEPT = re.compile(
    r"\b(?:but|except(?:\s+for)?|apart\s+from|other\s+than|only|just|außer|bis\s+auf|nur)\b", re.IGNORECASE
)
_REFUSES = re.compile(
    r"\b(?:not|no|none|never|neither|nor|cannot|without|nicht|keine?[rs]?|weder|irrelevant|useless|contradict\w*"
    r"|un(?:supported|related|helpful|clear|true)|except|but\s+for|außer)\b|n['’]t\b",
    re.IGNORECASE,
)


def read_numbers(reply: str, n: int) -> list[int] | None:
    """Return the numbers from 1 to `n` that a reply chooses, in order, each once; None for one that cannot be told."""
    text = _ABBREVIATED.sub("", reply).strip()
    first = text.split("\n", 1)[0]
    for bare in (text, first):  # a list alone is what was asked for, whatever is said below it
        if _BARE.fullmatch(bare):
            return _list(bare, n) or None
    if _NONE.match(text):
        return _read_exception(text, n) if _EXCEPT.search(text) else []
    if _ALL.match(text):
        return _read_all(text, n)
    told = _COUNTS.sub(" ", text)
    return None if _REFUSES.search(told) else _list(told, n) or None


def _read_exception(text: str, n: int) -> list[int] | None:
    found = _EXCEPT.search(text)
    return _list(_COUNTS.sub(" ", text[found.end() :]), n) or None if found is not None else None


def _read_all(text: str, n: int) -> list[int] | None:
    """Read what says of all, or of all but some."""
    found = _EXCEPT.search(text)
    if found is not None:
        left_out = _list(_COUNTS.sub(" ", text[found.end() :]), n)
        is_plain = "," not in text[: found.start()] and left_out and not _REFUSES.search(text[found.end() :])
        return [number for number in range(1, n + 1) if number not in left_out] if is_plain else None
    told = _COUNTS.sub(" ", text)
    if _REFUSES.search(told):
        return None
    return _list(told, n) or list(range(1, n + 1))


def _list(text: str, n: int) -> list[int]:
    found: dict[int, None] = {}
    for low, high, single in _CHOICE.findall(text):
        first, last = (int(low), int(high)) if low else (int(single), int(single))
        found.update(dict.fromkeys(range(max(1, first), min(n, last) + 1)))
    return list(found)
