"""Remembers which traces the last searches of text found, so that list, count and chart of one search look once.

What was found stays true until spans of that time are written: every write tells the earliest start that it touched,
and from there on is looked at again. The surprise: a write is noted before and after it is committed. So whoever took
its `mark` before it began to read never keeps an answer that lacks what was there at that mark.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.spec.search import Words

MAX_HITS = 250_000
"""Most rows that are kept of one search; of more it is not remembered."""
MAX_SEARCHES = 4
MAX_CHANGES = 4096
Hits = Mapping[str, Any]
"""Columns: the number of the words (`place`), a trace that has them (`high` and `low` half of its id), and the earliest
start of a span in which they were seen (`start_ns`). 32 bytes a row."""


class Known(msgspec.Struct, frozen=True, gc=False):
    """What was found among the spans that started in `[low, end)`."""

    mark: int
    low: int
    end: int
    hits: Hits

    @property
    def n_hits(self) -> int:
        """How many rows there are."""
        return len(self.hits["start_ns"])


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
        if end == known.end:
            return Known(mark, known.low, end, known.hits)
        is_before = known.hits["start_ns"] < end
        return Known(mark, known.low, end, {name: column[is_before] for name, column in known.hits.items()})

    def keep(self, words: tuple[Words, ...], known: Known) -> None:
        """Remember what was found, unless it is too much."""
        if known.n_hits > MAX_HITS:
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
