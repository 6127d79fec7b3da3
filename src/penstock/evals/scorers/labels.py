"""Which of several labels an answer gives. Signs that belong to a label tell labels apart: -1 is not 1, C# is not C.

An answer is compared as it is first, then without the marks around it that no label begins or ends with, and last without
any such marks on both sides, where that leaves one label only.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

_SIGNS = frozenset("#%&@/\\†‡§¶‰‱*_-‐‑‒–—―")
"""Marks of punctuation that stay: they change what a word means, or are emphasis, which goes in pairs."""
_BULLET = re.compile(r"\A(?:[-–—*+•·>]|#{1,6})\s+(?=\S)")
_PAIRS = "*_`~"
_NOTHING = frozenset[str]()


def read_label(text: str, *, ignore_case: bool) -> str:
    """Return a label or an answer in the form in which they are compared."""
    text = unicodedata.normalize("NFKC", text).replace("\u2212", "-").strip()
    return text.casefold() if ignore_case else text


def fold_labels(labels: Iterable[str], *, ignore_case: bool) -> dict[str, str]:
    """Return each form beside the first label that has it."""
    folded: dict[str, str] = {}
    for label in labels:
        folded.setdefault(read_label(label, ignore_case=ignore_case), label)
    return folded


class LabelFinder:
    """Finds labels in answers. Of labels that are one label in another spelling, the first is told."""

    def __init__(self, labels: Iterable[str], *, ignore_case: bool) -> None:
        self._ignore_case = ignore_case
        self._exact = fold_labels(labels, ignore_case=ignore_case)
        self._begins = frozenset(form[0] for form in self._exact if form)
        self._ends = frozenset(form[-1] for form in self._exact if form)
        bare = {form: _strip(form) for form in self._exact}
        counts = Counter(bare.values())
        self._bare = {bare[form]: label for form, label in self._exact.items() if counts[bare[form]] == 1}

    def find_whole(self, answer: str) -> str | None:
        """Return the label that the answer is."""
        form = read_label(answer, ignore_case=self._ignore_case)
        known = self._exact.get(form)
        if known is None:
            known = self._exact.get(_strip(form, self._begins, self._ends))
        return known if known is not None else self._bare.get(_strip(form))

    def list_mentions(self, answer: str) -> list[str]:
        """Return the labels that stand in the answer as words of their own, in order, none within a longer one."""
        text = read_label(answer, ignore_case=self._ignore_case)
        mentions = sorted(
            (at, -len(form), label) for form, label in self._sought().items() for at in _mentions(text, form)
        )
        clear: list[tuple[int, int, str]] = []
        end = -1
        for at, minus_length, label in mentions:
            if at - minus_length > end:  # a label within a longer one is not mentioned by itself
                clear.append((at, minus_length, label))
                end = at - minus_length
        return [label for *_, label in clear]

    def _sought(self) -> Mapping[str, str]:
        return {form: label for form, label in self._exact.items() if form}


@lru_cache(maxsize=512)
def finder_of(labels: Sequence[str], *, ignore_case: bool) -> LabelFinder:
    """Return the finder of these labels; most cases of a dataset share one."""
    return LabelFinder(labels, ignore_case=ignore_case)


def _strip(text: str, begins: frozenset[str] = _NOTHING, ends: frozenset[str] = _NOTHING) -> str:
    """Return `text` without marks around it, but for those that some label begins or ends with."""
    start, end = 0, len(text)
    while True:
        before = (start, end)
        while start < end and _is_mark(text[start]) and text[start] not in begins:
            start += 1
        while end > start and _is_mark(text[end - 1]) and text[end - 1] not in ends:
            end -= 1
        if (
            end - start > 2
            and text[start] == text[end - 1]
            and text[start] in _PAIRS
            and text[start] not in begins | ends
        ):
            start, end = start + 1, end - 1
        bullet = _BULLET.match(text[start:end])
        if bullet:
            start += bullet.end()
        if (start, end) == before:
            return text[start:end] or text  # a label may be nothing but signs, such as "+"


def _is_mark(char: str) -> bool:
    return char not in _SIGNS and unicodedata.category(char)[0] in "PZC"


def _mentions(text: str, form: str) -> list[int]:
    """Return where `form` stands in `text` as a word of its own: no part of a word, and without a sign of its own."""
    found = []
    at = text.find(form)
    while at >= 0:
        before, after = text[:at][-2:], text[at + len(form) :][:2]
        if not (_goes_on(before[::-1], form[0], is_end=False) or _goes_on(after, form[-1], is_end=True)):
            found.append(at)
        at = text.find(form, at + 1)
    return found


def _goes_on(beside: str, edge: str, *, is_end: bool) -> bool:
    """Return whether the text beside a label, nearest character first, belongs to the same word."""
    if not beside or not edge.isalnum():
        return False
    near, next_but_one = beside[0], beside[1:2]
    if near.isalnum():
        return True
    if edge.isdigit() and near in ".," and next_but_one.isdigit():
        return True  # 1 in 1.5
    if is_end:
        return near in "+#" and not next_but_one.isalnum()  # C in C# and C++, A in A+
    return near in "-+" and edge.isdigit() and not next_but_one.isalnum()  # 1 in -1
