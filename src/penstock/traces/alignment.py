"""Which entries of two sequences belong together: the longest common subsequence, and differences of texts in words."""

import re
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import numpy as np

MAX_ALIGNED = 3000
"""Entries on each side, after what is alike at both ends; beyond that entries are paired by their place."""
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
Change = tuple[Literal["same", "removed", "added"], str]


def align(left: Sequence[Hashable], right: Sequence[Hashable]) -> list[tuple[int | None, int | None]]:
    """Return pairs of places in order; None stands where the other side has nothing alike.

    As many entries as possible are paired, each with an equal one. Time and memory grow with the product of the lengths
    of what differs, up to `MAX_ALIGNED` each.
    """
    head = 0
    while head < min(len(left), len(right)) and left[head] == right[head]:
        head += 1
    tail = 0
    while tail < min(len(left), len(right)) - head and left[-1 - tail] == right[-1 - tail]:
        tail += 1
    middle_left, middle_right = left[head : len(left) - tail], right[head : len(right) - tail]
    if max(len(middle_left), len(middle_right)) > MAX_ALIGNED:
        middle = _by_place(middle_left, middle_right)
    else:
        middle = _trace_back(middle_left, middle_right)
    return [
        *((at, at) for at in range(head)),
        *((None if one is None else one + head, None if two is None else two + head) for one, two in middle),
        *((len(left) - tail + at, len(right) - tail + at) for at in range(tail)),
    ]


def diff_words(left: str, right: str) -> list[Change]:
    """Return the texts as runs that are the same, removed or added; joined without the one or other they are the texts.

    Long texts are compared by lines, so that the work stays bounded. Words alike by chance between longer changes count
    as changed: where little stayed the same one reads the one text, then the other, not both at once.
    """
    pieces = _WORDS.findall(left), _WORDS.findall(right)
    if max(map(len, pieces)) > MAX_ALIGNED:
        pieces = _LINES.findall(left), _LINES.findall(right)
    one, two = pieces
    changes: list[Change] = []
    for at, to in align(one, two):
        if at is not None and to is not None and one[at] == two[to]:
            _add(changes, "same", one[at])
            continue
        if at is not None:
            _add(changes, "removed", one[at])
        if to is not None:
            _add(changes, "added", two[to])
    return _fold(_settle(changes))


def _add(changes: list[Change], kind: Literal["same", "removed", "added"], text: str) -> None:
    if changes and changes[-1][0] == kind:
        changes[-1] = (kind, changes[-1][1] + text)
    else:
        changes.append((kind, text))


def _settle(changes: list[Change]) -> list[Change]:
    """Put what was removed before what was added between two places that are the same."""
    settled: list[Change] = []
    removed = added = ""
    for kind, text in [*changes, ("same", "")]:
        if kind == "removed":
            removed += text
        elif kind == "added":
            added += text
        else:
            settled += [("removed", removed)] if removed else []
            settled += [("added", added)] if added else []
            settled += [("same", text)] if text else []
            removed = added = ""
    return settled


def _fold(changes: list[Change]) -> list[Change]:
    """Join neighbouring changes within a line where what is the same between them is no longer than either of them."""
    hunks: list[tuple[str, str, str]] = []  # what is the same before it, what was removed, what was added
    same = removed = added = ""
    for kind, text in [*changes, ("same", "")]:
        if kind == "removed":
            removed = text
        elif kind == "added":
            added = text
        else:
            if removed or added:
                hunks.append((same, removed, added))
                same = removed = added = ""
                while len(hunks) > 1 and _is_chance(hunks[-2], hunks[-1]):
                    (ahead, *one), (between, *two) = hunks[-2:]
                    hunks[-2:] = [(ahead, one[0] + between + two[0], one[1] + between + two[1])]
            same += text
    folded: list[Change] = []
    for ahead, gone, new in hunks:
        folded += [("same", ahead)] if ahead else []
        folded += [("removed", gone)] if gone else []
        folded += [("added", new)] if new else []
    return folded + ([("same", same)] if same else [])


def _is_chance(before: tuple[str, str, str], after: tuple[str, str, str]) -> bool:
    same = after[0]
    return "\n" not in same and all(len(same.strip()) <= max(map(len, each[1:])) for each in (before, after))


def _by_place(left: Sequence[Hashable], right: Sequence[Hashable]) -> list[tuple[int | None, int | None]]:
    shared = min(len(left), len(right))
    pairs: list[tuple[int | None, int | None]] = []
    for at in range(shared):
        pairs += [(at, at)] if left[at] == right[at] else [(at, None), (None, at)]
    pairs += [(at, None) for at in range(shared, len(left))]
    return pairs + [(None, at) for at in range(shared, len(right))]


def _trace_back(left: Sequence[Hashable], right: Sequence[Hashable]) -> list[tuple[int | None, int | None]]:
    numbers: dict[Hashable, int] = {}
    one = [numbers.setdefault(each, len(numbers)) for each in left]
    two = np.array([numbers.setdefault(each, len(numbers)) for each in right], dtype=np.int64)
    lengths: Any = np.zeros((len(left) + 1, len(right) + 1), dtype=np.uint16)
    for row, number in enumerate(one, start=1):
        above = lengths[row - 1]
        lengths[row, 1:] = np.maximum.accumulate(
            np.maximum(above[1:], np.where(two == number, above[:-1] + 1, 0))
        )
    pairs: list[tuple[int | None, int | None]] = []
    row, column = len(left), len(right)
    while row or column:
        if row and column and left[row - 1] == right[column - 1]:
            row, column = row - 1, column - 1
            pairs.append((row, column))
        elif column and (not row or lengths[row, column - 1] >= lengths[row - 1, column]):
            column -= 1
            pairs.append((None, column))
        else:
            row -= 1
            pairs.append((row, None))
    return pairs[::-1]
