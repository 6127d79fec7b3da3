"""From the lines of a PDF to sections: paragraphs by distance and indent, headings by type, words made whole."""

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.knowledge.parse.pdf_layout import Item, Line
from penstock.knowledge.parse.pdf_tables import Table
from penstock.knowledge.parse.text import SectionBuilder, clean_line
from penstock.knowledge.types import Section

HEADING_RATIO = 1.15
PARAGRAPH_RATIO = 1.2
"""A line this much further below its predecessor than lines usually are begins a paragraph."""
MAX_LEADING = 2.1
"""Lines further apart than this many type sizes are no lines of one paragraph (double spacing is 2)."""
MAX_BOLD_CHARS = 80
PAGE_CHARS = 1200
"""A section that is longer goes on as another one on the next page, so that a citation opens near its words."""
_ITEM = re.compile(r"^(?:[•‣▪●◦–—*-]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s+\S")
_SENTENCE_END = (".", "!", "?", ":", ";", "”", '"', "»")
_WORD_END = re.compile(r"[\w]+$")
_WORD_BEGIN = re.compile(r"^[\w]+")


@dataclass(slots=True, kw_only=True)
class Written:
    """A paragraph that was whole already: read by text recognition."""

    text: str
    page: int


def write_sections(
    items: Sequence[Item | Written], *, title: str | None, is_slide: Mapping[int, bool]
) -> tuple[str | None, tuple[Section, ...]]:
    """Return the title and the sections. `is_slide` names pages wider than high: each is a section of its own."""
    lines = [item for item in items if isinstance(item, Line)]
    return _Writer(lines, title, is_slide).write(items)


class _Writer:
    def __init__(self, lines: list[Line], title: str | None, is_slide: Mapping[int, bool]) -> None:
        self.title = title
        self.is_slide = is_slide
        weights: Counter[float] = Counter()
        for line in lines:
            weights[line.size] += len(line.text)
        self.body = weights.most_common(1)[0][0] if weights else 0.0
        self.largest = max((line.size for line in lines), default=0.0)
        self.leading = _usual_leading(lines, self.body)
        self.sizes = sorted(
            {line.size for line in lines if line.size > self.body * HEADING_RATIO}, reverse=True
        )
        self.words = Counter(
            word for line in lines for word in re.findall(r"\w+(?:-\w+)*", line.text.lower())
        )
        self.builder = SectionBuilder()
        self.paragraph = ""
        self.paragraph_page = 0
        self.previous: Line | None = None
        self.n_chars = 0
        self._last_heading: Line | None = None

    def write(self, items: Sequence[Item | Written]) -> tuple[str | None, tuple[Section, ...]]:
        """Write all items in order."""
        for item, following in itertools.zip_longest(items, items[1:]):
            after = following if isinstance(following, Line) else None
            if isinstance(item, Table):
                self._end()
                self._begin_page(item.page)
                self.builder.add_table(item.rows)
            elif isinstance(item, Written):
                self._end()
                self._begin_page(item.page)
                self._add(item.text)
            elif self._is_heading(item, after):
                self._write_heading(item)
            else:
                self._write_line(item)
        self._end()
        return self.title, self.builder.finish()

    def _is_heading(self, line: Line, after: Line | None) -> bool:
        if not self.body or not any(char.isalnum() for char in line.text):
            return False
        if line.size > self.body * HEADING_RATIO:
            return True
        above = self.previous
        apart = above is None or above.region != line.region or (
            above.last_y - line.first_y > PARAGRAPH_RATIO * self.leading > 0
        )  # fmt: skip
        return (
            line.bold
            and apart
            and line.size >= self.body
            and len(line.text) <= MAX_BOLD_CHARS
            and not line.text.endswith((".", ",", ";", ":"))
            and after is not None
            and not after.bold
        )

    def _write_heading(self, line: Line) -> None:
        self._end()
        text = clean_line(line.text)
        first = self._last_heading is None and not self.builder.sections and not self.builder.paragraphs
        is_title = line.size == self.largest > self.body * HEADING_RATIO and line.page == 1 and first
        if is_title and text == (self.title or text):
            self.title = text
        elif (
            self.previous is None
            and self.builder.heading is not None
            and not self.builder.paragraphs
            and self._last_heading is not None
            and self._last_heading.size == line.size
            and self._last_heading.region == line.region
            and 0 < self._last_heading.last_y - line.first_y < 1.6 * line.size
        ):
            self.builder.rename(f"{self.builder.heading} {text}")  # a heading over two lines
        else:
            level = self.sizes.index(line.size) + 1 if line.size in self.sizes else len(self.sizes) + 1
            self.builder.start(text, anchor=f"page={line.page}", level=level, page=line.page)
            self.n_chars = 0
        self._last_heading = line
        self.previous = None

    def _write_line(self, line: Line) -> None:
        if self.previous is not None and self._begins_paragraph(self.previous, line):
            self._end()
        if not self.paragraph:
            self._begin_page(line.page)
            self.paragraph = line.text
        else:
            self.paragraph = self._join(self.paragraph, line.text, self.previous)
        self.previous = line

    def _begin_page(self, page: int) -> None:
        """Note the page on which what comes next begins; a long section goes on as another one."""
        if self.builder.anchor is None and not self.builder.paragraphs:
            self.builder.anchor, self.builder.page = f"page={page}", page
        elif page != self.builder.page and (self.n_chars > PAGE_CHARS or self.is_slide.get(page, False)):
            self.builder.go_on(anchor=f"page={page}", page=page)
            self.n_chars = 0

    def _end(self) -> None:
        if self.paragraph:
            self._add(self.paragraph)
        self.paragraph = ""
        self.previous = None

    def _add(self, text: str) -> None:
        self.builder.add(text)
        self.n_chars += len(text)

    def _join(self, text: str, more: str, above: Line | None) -> str:
        if above is not None and above.hyphen:
            return self._heal(text, more)
        if text.endswith("-") and more[:1].islower() and text[-2:-1].isalpha():
            return self._heal(text[:-1], more)
        return f"{text} {more}"

    def _heal(self, text: str, more: str) -> str:
        """Join a word cut at a line's end; its hyphen stays where the document writes the word with one."""
        end, begin = _WORD_END.search(text), _WORD_BEGIN.match(more)
        if end is not None and begin is not None:
            hyphened, whole = f"{end[0]}-{begin[0]}".lower(), f"{end[0]}{begin[0]}".lower()
            if self.words[hyphened] > self.words[whole]:
                return f"{text}-{more}"
        return f"{text}{more}"

    def _begins_paragraph(self, above: Line, line: Line) -> bool:
        if above.hyphen:
            return False
        if _ITEM.match(line.text) and line.left <= above.left + self.body:
            return True
        if above.region != line.region:
            is_open = not above.text.endswith(_SENTENCE_END) or line.text[:1].islower()
            return not is_open
        step = above.last_y - line.first_y
        if step < 0 or step > PARAGRAPH_RATIO * self.leading:
            return True
        indent = line.left - above.left
        return 0.9 * self.body < indent < 4 * self.body and above.text.endswith(_SENTENCE_END)


def _usual_leading(lines: Sequence[Line], body: float) -> float:
    """Return the distance between lines of one paragraph: the lower quartile of those seen in body type."""
    steps = sorted(
        step
        for above, below in itertools.pairwise(lines)
        if above.size == below.size == body and above.region == below.region
        if 0 < (step := above.last_y - below.first_y) <= MAX_LEADING * body
    )
    return steps[len(steps) // 4] if steps else 0.0
