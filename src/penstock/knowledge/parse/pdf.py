"""PDF files through PDFium: text in layout order, headings by type size, pages as anchors.

The surprise: a PDF has no paragraphs and no headings. Lines are grouped by their position; a line is a
heading when its type is clearly larger than the most common size. Pages without text (scans) are named as
problems, never dropped in silence.
"""

import ctypes
import itertools
from collections import Counter
from dataclasses import dataclass

import pypdfium2
import pypdfium2.raw as pdfium_c

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse.text import SectionBuilder, clean_line
from penstock.knowledge.types import ParsedDocument

HEADING_RATIO = 1.15
PARAGRAPH_RATIO = 1.2
"""A line this much further below its predecessor than lines usually are begins a paragraph."""
MAX_LEADING = 2.1
"""Lines further apart than this many type sizes are no lines of one paragraph (double spacing is 2)."""
MAX_PAGES = 5000


@dataclass(frozen=True, kw_only=True)
class _Line:
    text: str
    size: float
    first_y: float
    last_y: float
    """Bottom of its first and last characters: PDFium joins lines where a hyphen cuts a word."""
    page: int


def parse_pdf(data: bytes) -> ParsedDocument:
    """Return the sections of a PDF; raise `UnreadableDocument` when it is broken or locked."""
    try:
        file = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        reason = "the PDF is locked by a password." if locked else "the PDF is broken."
        raise UnreadableDocument(
            reason, hint="Save an unlocked copy." if locked else "Open and save it anew."
        ) from error
    try:
        n_pages = min(len(file), MAX_PAGES)
        problems = [] if len(file) <= MAX_PAGES else [f"pages after {MAX_PAGES} were not read"]
        lines: list[_Line] = []
        for number in range(n_pages):
            try:
                found = _read_lines(file[number], number + 1)
            except pypdfium2.PdfiumError:
                problems.append(f"page {number + 1} is broken and was not read")
                continue
            if not found:
                problems.append(f"page {number + 1} holds no text; it may be a scan")
            lines.extend(found)
        title = clean_line(file.get_metadata_value("Title")) or None
    finally:
        file.close()
    return _build(lines, title=title, problems=tuple(problems))


def _read_lines(page: pypdfium2.PdfPage, number: int) -> list[_Line]:
    text_page = page.get_textpage()
    try:
        lines: list[_Line] = []
        chars: list[str] = []
        sizes: list[float] = []
        first_y = last_y = 0.0
        for index in range(text_page.count_chars()):
            char = chr(pdfium_c.FPDFText_GetUnicode(text_page.raw, index))
            if char in "\r\n":
                if chars:
                    lines.append(_line(chars, sizes, first_y, last_y, number))
                chars, sizes = [], []
                continue
            if char == "\ufffe":  # PDFium's mark of a hyphen at a line's end
                continue
            if not char.isspace():
                last_y = _bottom_of(text_page, index)
                if not sizes:
                    first_y = last_y
                sizes.append(pdfium_c.FPDFText_GetFontSize(text_page.raw, index))
            chars.append(char)
        if chars:
            lines.append(_line(chars, sizes, first_y, last_y, number))
        return [line for line in lines if line.text.strip()]
    finally:
        text_page.close()


def _line(chars: list[str], sizes: list[float], first_y: float, last_y: float, page: int) -> _Line:
    # Characters beyond the basic plane may come as two halves.
    text = "".join(chars).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return _Line(text=text, size=_middle(sizes), first_y=first_y, last_y=last_y, page=page)


def _bottom_of(text_page: pypdfium2.PdfTextPage, index: int) -> float:
    box = pdfium_c.FS_RECTF()
    pdfium_c.FPDFText_GetLooseCharBox(text_page.raw, index, ctypes.byref(box))
    return float(box.bottom)


def _middle(sizes: list[float]) -> float:
    return round(sorted(sizes)[len(sizes) // 2], 1) if sizes else 0.0


def _build(lines: list[_Line], *, title: str | None, problems: tuple[str, ...]) -> ParsedDocument:
    weights: Counter[float] = Counter()
    for line in lines:
        weights[line.size] += len(line.text)
    body = weights.most_common(1)[0][0] if weights else 0.0
    builder = SectionBuilder()
    leading = _usual_leading(lines, body)
    paragraph = ""
    previous: _Line | None = None
    largest = max((line.size for line in lines), default=0.0)

    for line in lines:
        if body and line.size > body * HEADING_RATIO:
            builder.add(paragraph)
            paragraph = ""
            is_title = (
                line.size == largest and line.page == 1 and not builder.sections and builder.heading is None
            )
            if is_title and clean_line(line.text) == (title or clean_line(line.text)):
                title = clean_line(line.text)
            else:
                builder.start(line.text, anchor=f"page={line.page}")
            previous = None
            continue
        if builder.anchor is None:
            builder.anchor = f"page={line.page}"
        if previous is not None and _begins_paragraph(previous, line, leading):
            builder.add(paragraph)
            paragraph = ""
        paragraph = f"{paragraph} {line.text}" if paragraph else line.text
        previous = line
    builder.add(paragraph)
    return ParsedDocument(
        title=title, media_type="application/pdf", sections=builder.finish(), problems=problems
    )


def _usual_leading(lines: list[_Line], body: float) -> float:
    """Return the distance between lines of one paragraph: the lower quartile of those seen in body type."""
    steps = sorted(
        step
        for above, below in itertools.pairwise(lines)
        if above.size == below.size == body and above.page == below.page
        if 0 < (step := above.last_y - below.first_y) <= MAX_LEADING * body
    )
    return steps[len(steps) // 4] if steps else 0.0


def _begins_paragraph(above: _Line, line: _Line, leading: float) -> bool:
    if above.page != line.page:
        return False  # a paragraph may go on over the page; a new one costs nothing when it is joined
    step = above.last_y - line.first_y
    return step < 0 or step > PARAGRAPH_RATIO * leading  # upwards: the next column
