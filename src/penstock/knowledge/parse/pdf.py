"""PDF files through PDFium: text in reading order, headings by type, tables, pages as anchors.

The surprise: a PDF has no paragraphs and no headings. Lines are grouped by their position; a line is a
heading when its type is clearly larger than the most common size, or bold and apart. Pages without text (scans)
are named as problems one by one, never dropped in silence.
"""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo

import pypdfium2
import pypdfium2.raw as pdfium_c

from penstock.knowledge.errors import LockedDocument, UnreadableDocument
from penstock.knowledge.parse.ocr import (
    DOTS_PER_INCH,
    MAX_PIXELS,
    MISSING,
    as_picture,
    find_recogniser,
    recognise,
)
from penstock.knowledge.parse.pdf_layout import Item, order_page, remove_running_heads
from penstock.knowledge.parse.pdf_page import Page, read_page
from penstock.knowledge.parse.pdf_sections import Written, write_sections
from penstock.knowledge.parse.text import clean_line
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe, Properties, PropertyValue

MAX_PAGES = 5000
MAX_NAMED_PAGES = 100
GARBLED_SHARE = 0.2
_DATE = re.compile(r"D:(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(?:([+-])(\d{2})'?(\d{2})?)?")
_NO_TITLE = re.compile(
    r"^(untitled|microsoft word\b.*|.*\.(docx?|pdf|indd|tex|dvi|qxd|pptx?))$", re.IGNORECASE
)


def parse_pdf(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return the sections of a PDF; raise `UnreadableDocument` when it is broken or locked."""
    try:
        file = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise LockedDocument("the PDF is locked by a password.", hint="Save an unlocked copy.") from error
        raise UnreadableDocument("the PDF is broken.", hint="Open and save it anew.") from error
    try:
        return _Reader(file, recipe).read()
    finally:
        file.close()


class _Reader:
    def __init__(self, file: pypdfium2.PdfDocument, recipe: ParseRecipe) -> None:
        self.file = file
        self.recipe = recipe
        self.problems: list[str] = []
        self.recognised: dict[int, list[str]] = {}
        self.n_images = 0
        self._n_named = 0
        self._n_more = 0

    def read(self) -> ParsedDocument:
        """Read all pages."""
        n_pages = min(len(self.file), MAX_PAGES)
        if len(self.file) > MAX_PAGES:
            self.problems.append(f"pages after {MAX_PAGES} were not read")
        pages = [page for number in range(n_pages) if (page := self._read_page(number)) is not None]
        if self._n_more:
            self.problems.append(f"{self._n_more} more pages hold no text that can be read")
        if self.recipe.boilerplate:
            self.problems += remove_running_heads(pages)
        items: list[Item | Written] = []
        region = 0
        for page in pages:
            if page.number in self.recognised:
                items += [Written(text=text, page=page.number) for text in self.recognised[page.number]]
            else:
                ordered, region = order_page(page, region)
                items += ordered
            page.segments = []
        self._count_rest()
        title, values, modified_ns = self._read_metadata()
        shape = {page.number: page.width > page.height for page in pages}
        title, sections = write_sections(items, title=title, is_slide=shape)
        return ParsedDocument(
            title=title,
            media_type="application/pdf",
            sections=sections,
            problems=tuple(self.problems),
            n_pages=len(self.file),
            properties=Properties(values=values, modified_ns=modified_ns),
        )

    def _read_page(self, index: int) -> Page | None:
        number = index + 1
        try:
            page = self.file[index]
        except pypdfium2.PdfiumError:
            self.problems.append(f"page {number} is broken and was not read")
            return None
        try:
            found = read_page(page, number)
            is_garbled = found.n_chars >= 20 and found.n_garbled > GARBLED_SHARE * found.n_chars
            if found.segments and not is_garbled:
                self.n_images += found.n_images
                return found
            if self.recipe.ocr == "auto" and found.n_objects and self._recognise(page, number):
                found.segments = []
                return found
            if is_garbled:
                self._name_page(f"page {number} is garbled: its letters have no names in the file")
            elif found.n_objects:
                self._name_page(f"page {number} holds no text (scanned?)")
            else:
                self._name_page(f"page {number} is empty")
            found.segments = []
            return found
        except pypdfium2.PdfiumError:
            self.problems.append(f"page {number} is broken and was not read")
            return None
        finally:
            page.close()

    def _name_page(self, problem: str) -> None:
        if self._n_named < MAX_NAMED_PAGES:
            self.problems.append(problem)
            self._n_named += 1
        else:
            self._n_more += 1

    def _recognise(self, page: pypdfium2.PdfPage, number: int) -> bool:
        if find_recogniser() is None:
            if MISSING not in self.problems:
                self.problems.append(MISSING)
            return False
        width, height = page.get_size()
        scale = min(DOTS_PER_INCH / 72, (MAX_PIXELS / max(width * height, 1)) ** 0.5)
        bitmap = page.render(scale=scale, grayscale=True)
        picture = as_picture(bitmap.width, bitmap.height, bitmap.stride, bytes(bitmap.buffer))
        bitmap.close()
        pages, problem = recognise(picture, self.recipe.languages)
        paragraphs = [text for each in pages for text in each]
        if problem is not None:
            self.problems.append(f"page {number}: {problem}")
        if not paragraphs:
            return False
        self.recognised[number] = paragraphs
        self.problems.append(f"page {number} was read by text recognition")
        return True

    def _count_rest(self) -> None:
        if self.n_images:
            self.problems.append(f"{self.n_images} images on pages with text were not read")
        attached = pdfium_c.FPDFDoc_GetAttachmentCount(self.file.raw)
        if attached > 0:
            self.problems.append(f"{attached} attached files were not read")

    def _read_metadata(self) -> tuple[str | None, dict[str, PropertyValue], int | None]:
        said = {
            name: clean_line(self.file.get_metadata_value(name) or "")
            for name in ("Title", "Author", "Keywords")
        }
        values: dict[str, PropertyValue] = {}
        if said["Author"]:
            values["author"] = said["Author"]
        if tags := [each.strip() for each in re.split("[,;]", said["Keywords"]) if each.strip()]:
            values["tags"] = tags
        title = said["Title"] if said["Title"] and not _NO_TITLE.match(said["Title"]) else None
        return title, values, _moment(self.file.get_metadata_value("ModDate") or "")


def _moment(text: str) -> int | None:
    """Return a PDF's date (ISO 32000-1, 7.9.4) as nanoseconds since 1970."""
    found = _DATE.match(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, sign, off_hours, off_minutes = found.groups()
    zone: tzinfo = UTC
    try:
        if sign:
            offset = timedelta(hours=int(off_hours), minutes=int(off_minutes or 0))
            zone = timezone(offset if sign == "+" else -offset)
        moment = datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0),
            tzinfo=zone,
        )  # fmt: skip
        return int(moment.timestamp()) * 1_000_000_000
    except (ValueError, OverflowError):
        return None
