"""Chooses the parser by content and file name, and turns each parser's failure into one clear error.

Knows nothing of any format. The surprise: a document that parses to no text at all is an error, because an
empty document in an index is the commonest silent loss (scanned PDFs, pages built by scripts).
"""

import dataclasses
from collections.abc import Callable

from penstock.knowledge.errors import DocumentTooLarge, UnreadableDocument, UnsupportedFormat
from penstock.knowledge.parse.csv_table import parse_csv, parse_tsv
from penstock.knowledge.parse.detect import find_suffix
from penstock.knowledge.parse.epub import parse_epub
from penstock.knowledge.parse.html_page import parse_html
from penstock.knowledge.parse.image import parse_image
from penstock.knowledge.parse.json_records import parse_json, parse_json_lines
from penstock.knowledge.parse.language import find_language
from penstock.knowledge.parse.mail import parse_mail, parse_mailbox
from penstock.knowledge.parse.markdown import parse_markdown, parse_text
from penstock.knowledge.parse.open_document import parse_odt
from penstock.knowledge.parse.pdf import parse_pdf
from penstock.knowledge.parse.rich_text import parse_rtf
from penstock.knowledge.parse.scrub import scrub_document
from penstock.knowledge.parse.slides import parse_pptx
from penstock.knowledge.parse.text import clean_line
from penstock.knowledge.parse.word import parse_docx
from penstock.knowledge.parse.workbook import parse_xlsx
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe

PARSER = "parse@4"
"""Part of every parse digest: a change of these rules parses all documents anew."""
Parser = Callable[[bytes, ParseRecipe], ParsedDocument]


def _read_mail(data: bytes, recipe: ParseRecipe) -> ParsedDocument:
    return parse_mail(data, recipe, read=_parse)


def _read_mailbox(data: bytes, recipe: ParseRecipe) -> ParsedDocument:
    return parse_mailbox(data, recipe, read=_parse)


SUFFIXES: dict[str, Parser] = {
    ".md": parse_markdown,
    ".markdown": parse_markdown,
    ".txt": parse_text,
    ".text": parse_text,
    ".html": parse_html,
    ".htm": parse_html,
    ".xhtml": parse_html,
    ".csv": parse_csv,
    ".tsv": parse_tsv,
    ".json": parse_json,
    ".jsonl": parse_json_lines,
    ".ndjson": parse_json_lines,
    ".pdf": parse_pdf,
    ".docx": parse_docx,
    ".docm": parse_docx,
    ".pptx": parse_pptx,
    ".pptm": parse_pptx,
    ".xlsx": parse_xlsx,
    ".xlsm": parse_xlsx,
    ".eml": _read_mail,
    ".mbox": _read_mailbox,
    ".odt": parse_odt,
    ".epub": parse_epub,
    ".rtf": parse_rtf,
    ".png": parse_image,
    ".jpg": parse_image,
    ".jpeg": parse_image,
    ".tif": parse_image,
    ".tiff": parse_image,
}
MAX_BYTES = ParseRecipe().max_bytes


def parse_document(name: str, data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return the sections of the file `name` with content `data`.

    Raises `UnsupportedFormat` where neither content nor suffix is known, `DocumentTooLarge` over the recipe's
    bytes, `PersonalDataRefused` by the recipe, and `UnreadableDocument` when the content is broken, locked or
    holds no text.
    """
    if len(data) > recipe.max_bytes:
        raise DocumentTooLarge(
            f"{name!r} has {len(data):,} bytes; the limit is {recipe.max_bytes:,}.",
            hint="Split it, or raise the limit.",
        )
    document = _parse(name, data, recipe)
    try:
        document = dataclasses.replace(document, language=document.language or find_language(document))
        return scrub_document(document, recipe.scrub)
    except UnreadableDocument as error:
        raise type(error)(f"{name!r}: {error.message}", hint=error.hint, **error.fields) from error


def _parse(name: str, data: bytes, recipe: ParseRecipe) -> ParsedDocument:
    suffix, told = find_suffix(name, data, known=SUFFIXES)
    parser = SUFFIXES.get(suffix)
    if parser is None:
        raise UnsupportedFormat(
            f"{name!r}: no parser for {suffix or 'a file without suffix'}.",
            hint=f"Known formats: {', '.join(sorted(SUFFIXES))}.",
        )
    try:
        document = parser(data, recipe)
        if not any(section.text.strip() for section in document.sections):
            raise UnreadableDocument(
                "it holds no text."
                if not document.problems
                else f"it holds no text: {document.problems[0]}.",
                hint="A scan needs text recognition (parse.ocr); a page built by scripts its rendered form.",
            )
        return dataclasses.replace(
            document,
            title=clean_line(document.title or "") or None,
            problems=(*((told,) if told else ()), *document.problems),
        )
    except UnreadableDocument as error:
        raise type(error)(f"{name!r}: {error.message}", hint=error.hint, **error.fields) from error
