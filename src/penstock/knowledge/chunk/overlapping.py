"""Where a passage begins that repeats the end of the one before it: at a sentence, else at a word."""

import re
from collections.abc import Sequence

from penstock.knowledge.chunk.counting import Ruler, Span
from penstock.knowledge.chunk.units import Unit

_WORD_START = re.compile(r"(?<!\S)\S")


def reach_back(
    text: str, before: Sequence[Unit], passage: Sequence[Unit], *, ruler: Ruler, overlap: int
) -> tuple[int, Span | None]:
    """Return where a passage begins with its overlap, and the lead it then needs. Both are given as their units.

    It begins with the first of the units `before` that leaves at most `overlap`; where the last one alone is longer,
    with a word of it. The passage is never longer than its own text and `overlap` together.
    """
    unit, end = passage[0], passage[-1].end
    own = ruler.each([text[unit.start : end]])[0]
    chosen: tuple[int, Span | None] = unit.start, unit.lead

    def fits(start: int) -> bool:
        reached, whole = ruler.each([text[start : unit.start].rstrip(), text[start:end]])
        return reached <= overlap and whole <= own + overlap

    for each in reversed(before[1:]):  # never all of the one before
        if not fits(each.start):
            break
        chosen = each.start, each.lead
    if chosen[0] == unit.start and before:
        last = before[-1]
        words = [word.start() for word in _WORD_START.finditer(text, last.start, last.end)]
        for start in reversed(words[1:][-overlap - 1 :]):
            if not fits(start):
                break
            chosen = start, last.lead
    start, lead = chosen
    return start, lead if lead and lead[0] < start else None
