"""Chooses the parser by file name, and turns each parser's failure into one clear error.

Knows nothing of any format. The surprise: a document that parses to no text at all is an error, because an
empty document in an index is the commonest silent loss (scanned PDFs, pages built by scripts).
"""

import dataclasses
from collections.abc import Callable
from pathlib import PurePath

from penstock.knowledge.errors import DocumentTooLarge, UnreadableDocument, UnsupportedFormat
from penstock.knowledge.parse.csv_table import parse_csv
from penstock.knowledge.parse.html_page import parse_html
from penstock.knowledge.parse.markdown import parse_markdown, parse_text
from penstock.knowledge.parse.pdf import parse_pdf
from penstock.knowledge.parse.text import clean_line
from penstock.knowledge.parse.word import parse_docx
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe

Parser = Callable[[bytes], ParsedDocument]
SUFFIXES: dict[str, Parser] = {
    ".md": parse_markdown,
    ".markdown": parse_markdown,
    ".txt": parse_text,
    ".html": parse_html,
    ".htm": parse_html,
    ".csv": parse_csv,
    ".pdf": parse_pdf,
    ".docx": parse_docx,
}
MAX_BYTES = ParseRecipe().max_bytes


def parse_document(name: str, data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return the sections of the file `name` with content `data`.

    Raises `UnsupportedFormat` for an unknown suffix, `DocumentTooLarge` over the recipe's bytes, and
    `UnreadableDocument` when the content is broken, locked or holds no text.
    """
    suffix = PurePath(name).suffix.lower()
    parser = SUFFIXES.get(suffix)
    if parser is None:
        raise UnsupportedFormat(
            f"{name!r}: no parser for {suffix or 'a file without suffix'}.",
            hint=f"Known formats: {', '.join(sorted(SUFFIXES))}.",
        )
    if len(data) > recipe.max_bytes:
        raise DocumentTooLarge(
            f"{name!r} has {len(data):,} bytes; the limit is {recipe.max_bytes:,}.",
            hint="Split it, or raise the limit.",
        )
    try:
        document = parser(data)
    except UnreadableDocument as error:
        raise type(error)(f"{name!r}: {error.message}", hint=error.hint, **error.fields) from error
    if not any(section.text.strip() for section in document.sections):
        raise UnreadableDocument(
            f"{name!r} holds no text.",
            hint="A scanned PDF needs text recognition first; a page built by scripts needs its rendered form.",
        )
    return dataclasses.replace(document, title=clean_line(document.title or "") or None)
