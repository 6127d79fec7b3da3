"""One page of a PDF as segments of text and ruled lines, with where they stand.

A segment is a run of characters on one line without a gap a column could fit in. Coordinates are turned so that
most of the text is upright, whatever the page's own rotation.
"""

import ctypes
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium_c

HYPHENS = "\x02\ufffe"
"""PDFium's marks of a hyphen at a line's end, in its newer and older versions."""
GAP = 1.6
"""A gap of so many type sizes ends a segment; the widest spaces of justified text are about one."""
MAX_PATH_POINTS = 6000
"""Of a page; more is a drawing and no table."""
MAX_OBJECTS = 20_000
MAX_SAMPLE = 60
_TOKEN = re.compile("[\\r\\n]+|[\\x02\ufffe]|[^\\S\\r\\n]+|[^\\s\\x02\ufffe]+")
_STRAIGHT = 1.5
_LIGATURES = str.maketrans({
    "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st",
    "\u00a0": " ", "\u00ad": "", "\u2010": "-", "\u2011": "-",
})  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Segment:
    """A run of characters on one line."""

    text: str
    size: float
    bold: bool
    left: float
    right: float
    y: float
    """Bottom of its first character."""
    page: int
    hyphen: bool = False
    """The word at its end goes on in the next line."""


@dataclass(slots=True, kw_only=True)
class Rule:
    """A straight line: `at` is its y when it is level, its x when it is upright."""

    at: float
    begin: float
    end: float


@dataclass(slots=True, kw_only=True)
class Page:
    """What is on a page."""

    number: int
    width: float
    height: float
    segments: list[Segment] = field(default_factory=list)
    level: list[Rule] = field(default_factory=list)
    upright: list[Rule] = field(default_factory=list)
    n_chars: int = 0
    n_garbled: int = 0
    n_images: int = 0
    n_objects: int = 0


def read_page(page: pypdfium2.PdfPage, number: int) -> Page:
    """Return what is on `page`; raise `PdfiumError` when it is broken."""
    text_page = page.get_textpage()
    try:
        turn = _Turn(page, text_page)
        found = Page(number=number, width=turn.width, height=turn.height)
        _read_objects(page, found, turn)
        _read_segments(text_page, found, turn)
    finally:
        text_page.close()
    return found


class _Turn:
    """Turns coordinates by the direction that most of a page's text has."""

    def __init__(self, page: pypdfium2.PdfPage, text_page: pypdfium2.PdfTextPage) -> None:
        count = text_page.count_chars()
        angles = Counter(
            round(math.degrees(pdfium_c.FPDFText_GetCharAngle(text_page.raw, index)) / 90) * 90 % 360
            for index in range(0, count, max(1, count // MAX_SAMPLE))
        )
        self.rotation = -angles.most_common(1)[0][0] % 360 if angles else 0
        self.left, self.bottom, self.right, self.top = page.get_bbox()
        self.width, self.height = self.right - self.left, self.top - self.bottom
        if self.rotation in {90, 270}:
            self.width, self.height = self.height, self.width

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point is seen, from the lower left corner."""
        if self.rotation == 90:
            return y - self.bottom, self.right - x
        if self.rotation == 180:
            return self.right - x, self.top - y
        if self.rotation == 270:
            return self.top - y, x - self.left
        return x - self.left, y - self.bottom


def _read_segments(text_page: pypdfium2.PdfTextPage, page: Page, turn: _Turn) -> None:
    raw = text_page.raw
    words: list[str] = []
    size = left = right = y = first_y = 0.0
    bold = False
    after_space = False

    def end(*, hyphen: bool = False) -> None:
        text = _clean("".join(words)).strip()
        if text:
            page.segments.append(
                Segment(text=text, size=size, bold=bold, left=left, right=right, y=first_y,
                        page=page.number, hyphen=hyphen)
            )  # fmt: skip
        words.clear()

    for token in _TOKEN.finditer(_text_of(text_page)):
        word = token[0]
        if word[0] in "\r\n":
            end()
            continue
        if word[0] in HYPHENS:
            end(hyphen=True)
            continue
        if word.isspace():
            if words:
                words.append(" ")
            after_space = True
            continue
        page.n_chars += len(word)
        if not word.isascii() or not word.isprintable():
            page.n_garbled += sum(_is_nameless(char) for char in word)
        near, low, far, last = _box_of(raw, token.start(), token.end() - 1, turn)
        if words and (
            _is_apart(near - right, abs(low - y), size)
            or (after_space and _is_ruled_off(page, right, near, low + size / 2))
        ):
            end()
        if not words:
            size, bold = _type_of(raw, token.start())
            left, first_y, right = near, low, far
        words.append(word)
        right, y, after_space = max(right, far), last, False
    end()


def _text_of(text_page: pypdfium2.PdfTextPage) -> str:
    """Return the page's characters, one for each of PDFium's places."""
    count = text_page.count_chars()
    buffer = (ctypes.c_ushort * (count + 1))()
    if pdfium_c.FPDFText_GetText(text_page.raw, 0, count, buffer) == count + 1:
        return "".join(map(chr, buffer[:count]))
    # Some places have no character in the text: asked one by one, ten times as slow.
    codes = (pdfium_c.FPDFText_GetUnicode(text_page.raw, index) for index in range(count))
    return "".join(chr(code) if code < 0x110000 else "\ufffd" for code in codes)


def _box_of(raw: Any, first: int, last: int, turn: _Turn) -> tuple[float, float, float, float]:
    """Return where a word begins, its bottom there, where it ends and its bottom there."""
    box = pdfium_c.FS_RECTF()
    place = ctypes.byref(box)
    pdfium_c.FPDFText_GetLooseCharBox(raw, first, place)
    one, two = turn.point(box.left, box.bottom), turn.point(box.right, box.top)
    near, low, far = min(one[0], two[0]), min(one[1], two[1]), max(one[0], two[0])
    if last == first:
        return near, low, far, low
    pdfium_c.FPDFText_GetLooseCharBox(raw, last, place)
    one, two = turn.point(box.left, box.bottom), turn.point(box.right, box.top)
    # Scripts written from the right end where they begin.
    return min(near, one[0], two[0]), low, max(far, one[0], two[0]), min(one[1], two[1])


def _is_nameless(char: str) -> bool:
    return char < " " or char == "\ufffd" or "\ue000" <= char <= "\uf8ff"


def _is_apart(gap: float, step: float, size: float) -> bool:
    return step > 0.6 * size or gap > GAP * size or gap < -2.5 * size


def _is_ruled_off(page: Page, begin: float, end: float, y: float) -> bool:
    """Return whether a drawn line stands between two words."""
    return any(
        begin - 1 <= rule.at <= end + 1 and rule.begin - 1 <= y <= rule.end + 1 for rule in page.upright
    )


def _type_of(raw: Any, index: int) -> tuple[float, bool]:
    """Return size and weight of a character; the size counts the scale of the text's matrix."""
    size = pdfium_c.FPDFText_GetFontSize(raw, index)
    matrix = pdfium_c.FS_MATRIX()
    if pdfium_c.FPDFText_GetMatrix(raw, index, ctypes.byref(matrix)):
        scale = math.hypot(matrix.c, matrix.d)
        if scale > 0:
            size *= scale
    weight = pdfium_c.FPDFText_GetFontWeight(raw, index)
    buffer = ctypes.create_string_buffer(128)
    flags = ctypes.c_int()
    pdfium_c.FPDFText_GetFontInfo(raw, index, buffer, 128, ctypes.byref(flags))
    return round(size, 1), weight >= 600 or b"bold" in buffer.value.lower()


def _clean(text: str) -> str:
    # Characters beyond the basic plane may come as two halves.
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.translate(_LIGATURES)


def _read_objects(page: pypdfium2.PdfPage, found: Page, turn: _Turn) -> None:
    budget = MAX_PATH_POINTS
    for number, each in enumerate(_objects(page)):
        if number >= MAX_OBJECTS:
            return
        found.n_objects += 1
        kind = pdfium_c.FPDFPageObj_GetType(each)
        if kind == pdfium_c.FPDF_PAGEOBJ_IMAGE:
            found.n_images += 1
        elif kind == pdfium_c.FPDF_PAGEOBJ_PATH and budget > 0:
            budget -= _read_path(each, found, turn)
    if budget <= 0:
        found.level.clear()
        found.upright.clear()


def _objects(page: pypdfium2.PdfPage) -> Iterator[Any]:
    for index in range(pdfium_c.FPDFPage_CountObjects(page.raw)):
        yield pdfium_c.FPDFPage_GetObject(page.raw, index)


def _read_path(path: Any, found: Page, turn: _Turn) -> int:
    n_points = int(pdfium_c.FPDFPath_CountSegments(path))
    if not 0 < n_points <= MAX_PATH_POINTS:
        return max(n_points, 0)
    matrix = pdfium_c.FS_MATRIX()
    pdfium_c.FPDFPageObj_GetMatrix(path, ctypes.byref(matrix))
    x, y = ctypes.c_float(), ctypes.c_float()
    start = last = (0.0, 0.0)
    for index in range(n_points):
        segment = pdfium_c.FPDFPath_GetPathSegment(path, index)
        pdfium_c.FPDFPathSegment_GetPoint(segment, ctypes.byref(x), ctypes.byref(y))
        here = turn.point(
            matrix.a * x.value + matrix.c * y.value + matrix.e,
            matrix.b * x.value + matrix.d * y.value + matrix.f,
        )
        kind = pdfium_c.FPDFPathSegment_GetType(segment)
        if kind == pdfium_c.FPDF_SEGMENT_MOVETO:
            start = here
        elif kind == pdfium_c.FPDF_SEGMENT_LINETO:
            _add_rule(found, last, here)
        if pdfium_c.FPDFPathSegment_GetClose(segment):
            _add_rule(found, here, start)
        last = here
    return n_points


def _add_rule(found: Page, begin: tuple[float, float], end: tuple[float, float]) -> None:
    (left, low), (right, high) = begin, end
    if abs(low - high) <= _STRAIGHT < abs(left - right):
        found.level.append(Rule(at=(low + high) / 2, begin=min(left, right), end=max(left, right)))
    elif abs(left - right) <= _STRAIGHT < abs(low - high):
        found.upright.append(Rule(at=(left + right) / 2, begin=min(low, high), end=max(low, high)))
