"""Joins units to passages within a budget, so that an edit moves few cuts.

A stretch of more than two budgets is first cut at anchors: boundaries that are the best within reach on both
sides, by the kind of boundary and then by a hash of what follows. Whether a place is an anchor depends on the text
around it alone, so an edit moves no cut beyond the anchors next to it. Between anchors the parts are of about equal
size.
"""

import math
import zlib
from collections import deque
from collections.abc import Sequence

from penstock.knowledge.chunk.counting import Ruler, Sizes
from penstock.knowledge.chunk.units import Unit

ANCHOR_SHARE = 0.4
"""How far an anchor looks to each side, as a share of the budget. Farther gives longer passages, of which an edit
changes more: at 0.4 they are 0.66 of the budget and an edited sentence changes 1.4 of them, at 0.8 it is 0.76 and 1.8."""
EVEN_PARTS = 2
"""Stretches of so many parts are cut evenly, without anchors: an edit changes no more than these."""
_HASHED_CHARS = 64
Run = tuple[int, int]
"""Numbers of the first and the last unit."""


def pack_units(text: str, units: Sequence[Unit], ruler: Ruler, budget: int) -> list[Run]:
    """Return runs of units, in order, each within the budget where its units are; every unit is in one."""
    if not units:
        return []
    packing = _Packing(text, units, ruler, budget)
    last = len(units) - 1
    if packing.size(0, last) <= EVEN_PARTS * budget:
        return packing.cut_evenly(0, last)
    runs: list[Run] = []
    first = 0
    for anchor in packing.find_anchors():
        runs += packing.cut_evenly(first, anchor - 1)
        first = anchor
    return runs + packing.cut_evenly(first, last)


class _Packing:
    def __init__(self, text: str, units: Sequence[Unit], ruler: Ruler, budget: int) -> None:
        self._text = text
        self._units = units
        self._budget = budget
        self._sizes: Sizes = ruler.along(text, [(unit.start, unit.end) for unit in units])
        spans = list(dict.fromkeys(unit.lead for unit in units if unit.lead))
        leads = ruler.each([text[start:end] for start, end in spans])
        self._leads = dict(zip(spans, leads, strict=True))

    def size(self, first: int, last: int) -> int:
        """Return the size of a run with the lead that it would need."""
        lead = self._units[first].lead
        return self._sizes.of(first, last) + (self._leads[lead] if lead else 0)

    def cut_evenly(self, first: int, last: int) -> list[Run]:
        """Cut a run into parts of about equal size: one of 170 words gives two of 85, not one of 160 and one of 10."""
        total = self.size(first, last)
        if total <= self._budget:
            return [(first, last)]
        target = total / math.ceil(total / self._budget)
        runs: list[Run] = []
        begin = first
        for number in range(first + 1, last + 1):
            if self._sizes.of(begin, number - 1) >= target or self.size(begin, number) > self._budget:
                runs.append((begin, number - 1))
                begin = number
        return [*runs, (begin, last)]

    def find_anchors(self) -> list[int]:
        """Return the units in front of which there is an anchor."""
        units, radius = self._units, self._budget * ANCHOR_SHARE
        ranks = [(unit.level, self._hash(unit)) for unit in units]
        places = [self._sizes.of(0, number) for number in range(len(units))]  # where each unit ends
        before = [0, *places[:-1]]
        anchors: list[int] = []
        window: deque[int] = deque()  # candidates within reach, their ranks rising
        ahead = 1
        for number in range(1, len(units)):
            while ahead < len(units) and before[ahead] - before[number] <= radius:
                while window and ranks[window[-1]] > ranks[ahead]:
                    window.pop()
                window.append(ahead)
                ahead += 1
            while before[number] - before[window[0]] > radius:
                window.popleft()
            if window[0] == number and radius <= before[number] <= places[-1] - radius:
                anchors.append(number)
        return anchors

    def _hash(self, unit: Unit) -> int:
        return zlib.crc32(
            self._text[unit.start : min(unit.end, unit.start + _HASHED_CHARS)].encode("utf-8", "replace")
        )
