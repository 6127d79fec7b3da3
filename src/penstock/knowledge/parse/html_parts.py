"""Tables and lists of a web page while they are open: cells that are spread, items that are marked.

Tables that only lay a page out (one column, another table or a heading inside) are told from tables of data:
their cells are paragraphs.
"""

from dataclasses import dataclass, field

from penstock.knowledge.parse.tables import spread
from penstock.knowledge.parse.text import clean_line

_ELEMENTS = """
    a abbr acronym address applet area article aside audio b base basefont bdi bdo bgsound big blink blockquote body br
    button canvas caption center cite code col colgroup data datalist dd del details dfn dialog dir div dl dt em embed
    fieldset figcaption figure font footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html i iframe img
    input ins kbd label legend li link main map mark marquee math menu menuitem meta meter nav nobr noframes noscript
    object ol optgroup option output p param picture pre progress q rb rp rt rtc ruby s samp script search section
    select slot small source span strike strong style sub summary sup svg table tbody td template textarea tfoot th
    thead time title tr track tt u ul var video wbr
    circle clippath defs desc ellipse filter foreignobject g line lineargradient marker mask metadata path pattern
    polygon polyline radialgradient rect stop symbol text textpath tspan use
    mfrac mi mn mo mover mrow mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder munderover semantics
"""
ELEMENTS = frozenset(_ELEMENTS.split())
"""Names that HTML, SVG and MathML give."""
MAX_SPAN = 100
"""Browsers stop at 1,000 columns; a hostile page multiplies them with its rows."""
MAX_ITEM_DEPTH = 8


@dataclass
class OpenTable:
    """A table whose end has not come yet."""

    is_layout: bool = False
    rows: list[list[str]] = field(default_factory=list)
    _cells: list[tuple[str, int, int]] | None = None
    _above: dict[int, tuple[str, int]] = field(default_factory=dict)
    _spans: tuple[int, int] | None = None

    @property
    def in_cell(self) -> bool:
        """Whether text belongs to a cell now."""
        return self._spans is not None

    def open_row(self, text: str) -> None:
        """Begin a row; `text` is what an open cell holds."""
        self.close_row(text)
        self._cells = []

    def open_cell(self, text: str, columns: str | None, rows: str | None) -> None:
        """Begin a cell after the one that holds `text`."""
        self.close_cell(text)
        if self._cells is None:
            self._cells = []
        self._spans = (_span(columns), _span(rows))

    def close_cell(self, text: str) -> None:
        """End the open cell, if there is one."""
        if self._spans is not None and self._cells is not None:
            self._cells.append((clean_line(text), *self._spans))
        self._spans = None

    def close_row(self, text: str) -> None:
        """End the open row, if there is one."""
        self.close_cell(text)
        if self._cells is not None:
            self.rows.append(spread(self._cells, self._above))
        self._cells = None

    def take_texts(self) -> list[str]:
        """Return what the cells hold as texts of their own and forget it: the table is for layout."""
        texts = [text for row in self.rows for text in row if text]
        texts += [text for text, _, _ in self._cells or () if text]
        self.rows, self.is_layout = [], True
        if self._cells is not None:
            self._cells = []
        return texts

    def is_data(self) -> bool:
        """Return whether it is a table to be read as one."""
        return not self.is_layout and max((len(row) for row in self.rows), default=0) > 1


def _span(value: str | None) -> int:
    text = (value or "").strip()
    return min(int(text), MAX_SPAN) if text.isascii() and text.isdigit() and int(text) else 1


@dataclass
class OpenList:
    """A list whose end has not come yet: its lines, with the marks that a reader sees."""

    lines: list[str] = field(default_factory=list)
    _counters: list[int | None] = field(default_factory=list)

    def open_list(self, *, numbered: bool) -> None:
        """Go one level down."""
        self._counters.append(0 if numbered else None)

    def close_list(self) -> bool:
        """Go one level up and return whether that ended the whole list."""
        if self._counters:
            self._counters.pop()
        return not self._counters

    def mark(self) -> str:
        """Return the mark of the next item."""
        counter = self._counters[-1]
        if counter is None:
            return "- "
        self._counters[-1] = counter + 1
        return f"{counter + 1}. "

    def add(self, text: str, mark: str | None) -> None:
        """Add an item's text; without a mark it goes on in the item before."""
        line = clean_line(text)
        if line:
            depth = min(len(self._counters) - 1, MAX_ITEM_DEPTH)
            self.lines.append(f"{'  ' * max(0, depth)}{mark if mark is not None else '  '}{line}")
