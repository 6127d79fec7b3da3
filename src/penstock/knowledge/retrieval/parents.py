"""Shows what a found passage stands in: its parent's text, put together from the document's own passages.

No parse is read while searching: what was erased from the passages is not shown by another way either. Passages that
were found in the same parent, or in parents that mostly overlap, become one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.knowledge.index.types import Place
from penstock.knowledge.retrieval.types import Candidate, LoadPassages, PassageRow, RankedPassage

WINDOW = 16
"""Neighbours on each side that are read at first; doubled while they do not reach the parent's ends."""
MAX_WINDOW = 4096
MERGED_SHARE = 0.5
"""Parents that share more than this part of the shorter one become one."""
_BREAK = "\n\n"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Passages to show, and what became of candidates that are not shown by themselves."""

    passages: tuple[RankedPassage, ...]
    merged: tuple[tuple[Candidate, str], ...]
    """Candidates that are shown within another one, with that one's passage id."""


class ParentReader:
    """Puts parents together for one search. `places` are those of the index, in row order."""

    def __init__(self, places: Sequence[Place], load: LoadPassages) -> None:
        self._places = places
        self._load = load
        self._known: dict[Place, PassageRow | None] = {}

    def remember(self, passages: Mapping[Place, PassageRow]) -> None:
        """Take up passages that were loaded already."""
        self._known.update(passages)

    def read(self, candidate: Candidate, passage: PassageRow) -> tuple[str, int, int]:
        """Return the text of the passage's parent and its offsets; the passage's own where it has none."""
        start, end = passage.parent_start, passage.parent_end
        if start is None or end is None or (start >= passage.start_char and end <= passage.end_char):
            return passage.text, passage.start_char, passage.end_char
        children = [row for row in self._siblings(candidate, start, end) if _overlaps(row, start, end)]
        return join_passages(children or [passage], start, end)

    def _siblings(self, candidate: Candidate, start: int, end: int) -> list[PassageRow]:
        width = WINDOW
        while True:
            low, high = self._bounds(candidate.row, width)
            rows = self._fetch([self._places[row] for row in range(low, high)])
            known = [row for row in rows if row is not None]
            begins = low == candidate.row - width and bool(known) and known[0].start_char > start
            goes_on = high == candidate.row + width + 1 and bool(known) and known[-1].end_char < end
            if not (begins or goes_on) or width >= MAX_WINDOW:
                return known
            width *= 4

    def _bounds(self, row: int, width: int) -> tuple[int, int]:
        """Return the range of rows around `row` that belong to its document."""
        document = self._places[row][0]
        low = high = row
        while low > 0 and row - low < width and self._places[low - 1][0] == document:
            low -= 1
        last = len(self._places) - 1
        while high < last and high - row < width and self._places[high + 1][0] == document:
            high += 1
        return low, high + 1

    def _fetch(self, places: Sequence[Place]) -> list[PassageRow | None]:
        missing = [place for place in places if place not in self._known]
        if missing:
            found = self._load(missing)
            self._known.update((place, found.get(place)) for place in missing)
        return [self._known[place] for place in places]


def join_passages(rows: Sequence[PassageRow], start: int, end: int) -> tuple[str, int, int]:
    """Return the text between two offsets as its passages hold it, and where it truly begins and ends.

    Overlaps are told once; between passages that do not touch stands a blank line.
    """
    pieces: list[str] = []
    begun: int | None = None
    at = start
    for row in sorted(rows, key=lambda each: (each.start_char, each.end_char)):
        low, high = max(row.start_char, at), min(row.end_char, end)
        if high <= low:
            continue
        if begun is None:
            begun = low
        elif low > at:
            pieces.append(" " if low - at == 1 else _BREAK)
        pieces.append(row.text[low - row.start_char : high - row.start_char])
        at = high
    return "".join(pieces).strip(), start if begun is None else begun, at


def merge_parents(passages: Sequence[RankedPassage]) -> Shown:
    """Make passages of one parent one, at the best one's rank and with its score."""
    kept: list[RankedPassage] = []
    merged: list[tuple[Candidate, str]] = []
    for passage in passages:
        for number, other in enumerate(kept):
            if _mostly_within(passage, other):
                kept[number] = replace(other, merged=(*other.merged, passage.passage_id, *passage.merged))
                merged.append((passage.candidate, other.passage_id))
                break
        else:
            kept.append(passage)
    return Shown(passages=tuple(kept), merged=tuple(merged))


def _mostly_within(passage: RankedPassage, other: RankedPassage) -> bool:
    """Whether nothing much would be shown that the other one does not show, and the passage itself is in it."""
    if passage.candidate.place[0] != other.candidate.place[0] or passage.passage_id == other.passage_id:
        return False
    if passage.found_start < other.start or passage.found_end > other.end:
        return False
    shared = min(passage.end, other.end) - max(passage.start, other.start)
    return shared > MERGED_SHARE * min(passage.end - passage.start, other.end - other.start)


def _overlaps(row: PassageRow, start: int, end: int) -> bool:
    return row.start_char < end and row.end_char > start
