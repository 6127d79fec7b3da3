"""Cuts blocks into units: the pieces that passages are made of, each within a budget.

What fits stays whole: a table, a list, a piece of code, with the line that announces it. What does not is cut where
it harms least: between rows, items or lines, then sentences, then words, then anywhere. A unit that begins in the
middle of a table or list knows its lead, the text further up that is needed to read it.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from penstock.knowledge.chunk.blocks import Block, Span, announces, find_blocks, header_lines, list_items
from penstock.knowledge.chunk.counting import Ruler
from penstock.knowledge.sentences import cut_paragraph
from penstock.knowledge.types import SectionKind

PARAGRAPH, SENTENCE, LINE, WORD = 0, 1, 2, 3
"""How much a cut in front of a unit harms; the lower, the better."""
_WORD = re.compile(r"\S+\s*")
_JOINER = "\u200d"
_SLICE_CHARS = 24
MAX_LEAD_SHARE = 3
"""A lead takes at most one part in so many of the budget; longer ones are left out."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece that is not cut again."""

    start: int
    end: int
    level: int
    lead: Span | None = None
    is_row: bool = False
    """A row of a table or a record."""


class UnitCutter:
    """Cuts one document's text."""

    def __init__(self, text: str, ruler: Ruler, budget: int) -> None:
        self._text = text
        self._ruler = ruler
        self._budget = budget

    def cut(
        self, start: int, end: int, kind: SectionKind = "text", *, sentences: bool = False, rows: bool = False
    ) -> list[Unit]:
        """Return the units of a section. With `sentences` all that can be cut is; with `rows` tables are."""
        units: list[Unit] = []
        for block in find_blocks(self._text, start, end, kind):
            if block.kind == "prose":
                units += self._cut_prose(block, whole=not sentences)
                continue
            apart = (sentences and block.kind != "code") or (rows and block.kind == "table")
            intro = None if sentences or apart else self._take_intro(units)
            whole = _trim(self._text, intro.start if intro else block.start, block.end)
            if not apart and self._fits(*whole):
                units.append(Unit(*whole, intro.level if intro else PARAGRAPH))
                continue
            units += self._cut_block(block, intro)
        return units

    def _take_intro(self, units: list[Unit]) -> Unit | None:
        """Take the sentence that announces what follows off the units, to go with it."""
        if units and announces(self._text, units[-1].end) and units[-1].level < WORD:
            return units.pop()
        return None

    def _cut_block(self, block: Block, intro: Unit | None) -> Iterator[Unit]:
        lead_start = intro.start if intro else block.start
        if block.kind == "table":
            n_header = header_lines(self._text, block)
            rows = list(block.lines[n_header:])
            lead = (lead_start, block.lines[n_header - 1][1]) if n_header else None
            if n_header and rows:
                rows[0] = (block.start, rows[0][1])  # the header stands with its first row
            elif n_header:
                rows = [(block.start, block.end)]
        elif block.kind == "list":
            before, rows = list_items(self._text, block)
            last = before or ((intro.start, intro.end) if intro else None)
            lead = (lead_start, last[1]) if last else None
            if before and rows:
                rows[0] = (before[0], rows[0][1])
        else:
            yield from self._cut_code(block, intro)
            return
        if intro and rows:
            rows[0] = (intro.start, rows[0][1])
        if lead and self._size(*lead) * MAX_LEAD_SHARE > self._budget:
            lead = None
        for number, (first, last_end) in enumerate(rows):
            level = (intro.level if intro else PARAGRAPH) if not number else SENTENCE
            row = Unit(
                *_trim(self._text, first, last_end), level, lead if number else None, block.kind == "table"
            )
            yield from self._cut_unit(row, lead)

    def _cut_code(self, block: Block, intro: Unit | None) -> Iterator[Unit]:
        """Yield stretches of code between blank lines where those fit, else lines."""
        level = PARAGRAPH
        if intro:
            yield intro
            level = LINE  # better not between the two
        for stretch in _stretches(self._text, block.lines):
            start, end = stretch[0][0], stretch[-1][1]
            for first, last in [(start, end)] if self._fits(start, end) else stretch:
                yield from self._cut_unit(Unit(first, last, level), None)
                level = LINE
            level = SENTENCE

    def _cut_unit(self, unit: Unit, lead: Span | None) -> Iterator[Unit]:
        """Yield the unit, or its parts, each of which needs the lead that the unit itself may hold."""
        room = self._budget - (self._size(*lead) if lead else 0)
        if self._size(unit.start, unit.end) <= (room if unit.lead else self._budget):
            yield unit
            return
        for number, part in enumerate(self._cut_long(unit.start, unit.end, room)):
            own = unit.level if not number else max(part.level, LINE)
            yield replace(part, level=own, lead=lead if number else unit.lead, is_row=unit.is_row)

    def _cut_prose(self, block: Block, *, whole: bool) -> Iterator[Unit]:
        start, end = _trim(self._text, block.start, block.end)
        if whole and len(block.lines) > 1 and self._fits(start, end):
            yield Unit(start, end, PARAGRAPH)
            return
        sentences = [_trim(self._text, *span) for span in cut_paragraph(self._text, start, end)]
        for number, (first, last) in enumerate(sentences):
            level = SENTENCE if number else PARAGRAPH
            if self._fits(first, last):
                yield Unit(first, last, level)
            else:
                for part in self._cut_long(first, last, self._budget):
                    yield replace(part, level=level)
                    level = WORD

    def _cut_long(self, start: int, end: int, budget: int) -> Iterator[Unit]:
        """Cut what is over the budget, and holds no better place to cut: at lines, at words, else anywhere."""
        text = self._text
        lines = [line for line in _split(text, start, end, "\n") if line[0] < line[1]]
        if len(lines) > 1:
            sizes = self._ruler.each([text[first:last] for first, last in lines])
            for (first, last), size in zip(lines, sizes, strict=True):
                if size <= budget:
                    yield Unit(first, last, LINE)
                else:
                    yield from self._cut_long(first, last, budget)
            return
        words = [_trim(text, word.start(), word.end()) for word in _WORD.finditer(text, start, end)]
        if len(words) == 1:
            yield from self._cut_word(*words[0], budget)
            return
        sizes = self._ruler.each([text[first:last] for first, last in words])
        for (first, last), size in zip(words, sizes, strict=True):
            if size <= budget:
                yield Unit(first, last, WORD)
            else:
                yield from self._cut_word(first, last, budget)

    def _cut_word(self, start: int, end: int, budget: int, step: int = _SLICE_CHARS) -> Iterator[Unit]:
        """Cut a run without spaces: by a few characters, not in front of a mark that belongs to the one before."""
        slices: list[Span] = []
        first = start
        while first < end:
            plain = min(first + step, end)
            last = _character_end(self._text, plain, end) if step > 1 else plain
            slices.append((first, last))
            first = last
        sizes = self._ruler.each([self._text[first:last] for first, last in slices])
        for (first, last), size in zip(slices, sizes, strict=True):
            if size <= budget or last - first == 1:
                yield Unit(first, last, WORD)
            else:
                yield from self._cut_word(first, last, budget, max(1, min(step, last - first) // 2))

    def _fits(self, start: int, end: int) -> bool:
        return self._ruler.is_within(self._text[start:end], self._budget)

    def _size(self, start: int, end: int) -> int:
        return self._ruler.each([self._text[start:end]])[0]


def _stretches(text: str, lines: Sequence[Span]) -> Iterator[list[Span]]:
    stretch: list[Span] = []
    for start, end in lines:
        if text[start:end].strip():
            stretch.append((start, end))
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _split(text: str, start: int, end: int, mark: str) -> Iterator[Span]:
    while start < end:
        found = text.find(mark, start, end)
        stop = end if found < 0 else found
        yield _trim(text, start, stop)
        start = stop + 1


def _trim(text: str, start: int, end: int) -> Span:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _character_end(text: str, place: int, end: int) -> int:
    """Return the first place from `place` on where a character begins that stands for itself."""
    limit = min(end, place + 32)  # longer runs of marks are noise, not writing
    while 0 < place < limit and (
        unicodedata.combining(text[place])
        or unicodedata.category(text[place]) in ("Mn", "Mc", "Me", "Sk")
        or text[place] == _JOINER
        or text[place - 1] == _JOINER
    ):
        place += 1
    return place
