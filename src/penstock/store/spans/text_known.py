"""Remembers which traces the last searches of text found, so that list, count and chart of one search look once.

What was found stays true until spans of that time are written: every write tells the earliest start that it touched,
and from there on is looked at again. The surprise: a write is noted before and after it is committed. So whoever took
its `mark` before it began to read never keeps an answer that lacks what was there at that mark.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence

import msgspec

from penstock.spec.search import Words

MAX_HITS = 50_000
"""Most rows that are kept of one search; of more it is not remembered."""
MAX_SEARCHES = 4
MAX_CHANGES = 4096
Hit = tuple[int, str, int]
"""The number of the words, a trace that has them, and the earliest start of a span in which they were seen."""


class Known(msgspec.Struct, frozen=True, gc=False):
    """What was found among the spans that started in `[low, end)`."""

    mark: int
    low: int
    end: int
    hits: Sequence[Hit]


class KnownTexts:
    """What was found of the last few searches. May be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[Words, ...], Known] = OrderedDict()
        self._changes: deque[tuple[int, int]] = deque(maxlen=MAX_CHANGES)
        self._mark = 0

    def mark(self) -> int:
        """Return how many changes there were; to be taken before reading begins."""
        return self._mark

    def note_change(self, low_ns: int) -> None:
        """Note that spans which start at `low_ns` or later are written or were."""
        with self._lock:
            self._mark += 1
            self._changes.append((self._mark, low_ns))
            if low_ns <= 0:
                self._known.clear()

    def find(self, words: tuple[Words, ...], mark: int) -> Known | None:
        """Return what is known of `words` and still true for who took `mark` and began to read then."""
        with self._lock:
            known = self._known.get(words)
            if known is None or known.mark > mark:
                return None
            self._known.move_to_end(words)
            end = min((known.end, self._lowest_since(known.mark)))
        if end <= known.low:
            return None
        hits = known.hits if end == known.end else [hit for hit in known.hits if hit[2] < end]
        return Known(mark, known.low, end, hits)

    def keep(self, words: tuple[Words, ...], known: Known) -> None:
        """Remember what was found, unless it is too much."""
        if len(known.hits) > MAX_HITS:
            return
        with self._lock:
            if self._lowest_since(known.mark) <= known.low:
                return
            self._known[words] = known
            self._known.move_to_end(words)
            while len(self._known) > MAX_SEARCHES:
                self._known.popitem(last=False)

    def _lowest_since(self, mark: int) -> int:
        if mark == self._mark:
            return 2**63
        if not self._changes or self._changes[0][0] > mark + 1:
            return 0  # longer ago than is noted
        return min(low for number, low in self._changes if number > mark)
