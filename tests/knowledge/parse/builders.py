"""Documents written by other people's programs, so that our readers are not tested against ourselves."""

import io
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import docx
import fpdf
import pptx
import xlsxwriter

from penstock.knowledge.parse import parse_document
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe


def words_of(document: ParsedDocument) -> list[str]:
    """Every word that the document shows: its title, headings and text."""
    pieces = [document.title or ""]
    for section in document.sections:
        pieces += [*section.headings, section.text]
    return " ".join(pieces).split()


def read(name: str, data: bytes, recipe: ParseRecipe | None = None) -> ParsedDocument:
    return parse_document(name, data, recipe or ParseRecipe())


def outline(document: ParsedDocument) -> list[tuple[tuple[str, ...], str]]:
    """Heading path and text of each section."""
    return [(section.headings, section.text) for section in document.sections]


def make_pdf(write: Callable[[fpdf.FPDF], None], *, size: int = 11, paper: Any = "A4") -> bytes:
    pdf = fpdf.FPDF(format=paper)
    pdf.add_page()
    pdf.set_font("helvetica", size=size)
    write(pdf)
    return bytes(pdf.output())


def make_docx(write: Callable[[Any], None]) -> bytes:
    document = docx.Document()
    write(document)
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def make_pptx(write: Callable[[Any], None]) -> bytes:
    presentation = pptx.Presentation()
    write(presentation)
    buffer = io.BytesIO()
    presentation.save(buffer)
    return buffer.getvalue()


def make_xlsx(write: Callable[[Any], None]) -> bytes:
    buffer = io.BytesIO()
    workbook = xlsxwriter.Workbook(buffer, {"in_memory": True})
    write(workbook)
    workbook.close()
    return buffer.getvalue()


def make_zip(parts: Sequence[tuple[str, str | bytes]], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return buffer.getvalue()


def add_part(data: bytes, name: str, content: bytes) -> bytes:
    """Return a zip file with one more part, or another content of one."""
    with zipfile.ZipFile(io.BytesIO(data)) as before:
        parts = [(entry, before.read(entry)) for entry in before.namelist() if entry != name]
    return make_zip([*parts, (name, content)])
