"""Word documents (.docx): headings by style, tables as rows, unpacked size bounded before reading."""

import io
import zipfile
import zlib
from typing import Any

from penstock.knowledge.errors import DocumentTooLarge, UnreadableDocument
from penstock.knowledge.parse.text import SectionBuilder, clean_line, slug_of
from penstock.knowledge.types import ParsedDocument

MAX_UNPACKED_BYTES = 256 * 1024 * 1024
MAX_RATIO = 200
"""Real documents compress up to about 30 : 1; zip bombs start at 1,000 : 1."""
_LOCKED = 0x1
"""Bit of a zip entry's flags (APPNOTE.TXT 4.4.4)."""
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    SyntaxError,  # lxml's errors, too
    LookupError,  # parts that are referred to and not there
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,  # zipfile's: locked entries, and ways to compress that it does not know
    EOFError,
    OSError,
)
"""What zipfile, lxml and python-docx raise on a damaged file: they document none of it."""


def parse_docx(data: bytes) -> ParsedDocument:
    """Return the sections of a Word document; raise `UnreadableDocument` when it is broken or a bomb."""
    _check_archive(data)
    # Loaded with the first Word document: it costs every process that only searches half a second at start.
    import docx
    from docx.opc.exceptions import PackageNotFoundError

    try:
        return _read_sections(docx.Document(io.BytesIO(data)))
    except (PackageNotFoundError, *_DAMAGE) as error:
        raise UnreadableDocument("the Word document is broken.", hint="Open and save it anew.") from error


def _read_sections(document: Any) -> ParsedDocument:
    from docx.table import Table

    title = clean_line(document.core_properties.title or "") or None
    builder = SectionBuilder()
    seen_heading = False
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            rows = [" | ".join(clean_line(cell.text) for cell in row.cells) for row in block.rows]
            builder.add_verbatim("\n".join(f"| {row} |" for row in rows))
            continue
        style = (block.style.name or "") if block.style is not None else ""
        if style == "Title" or (style == "Heading 1" and not seen_heading and not builder.paragraphs):
            title = clean_line(block.text) or title
            seen_heading = True
        elif style.startswith("Heading"):
            builder.start(block.text, anchor=slug_of(block.text))
        else:
            builder.add(block.text)
    media_type = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    return ParsedDocument(title=title, media_type=media_type, sections=builder.finish())


def _check_archive(data: bytes) -> None:
    if data[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        raise UnreadableDocument(
            "the file is locked by a password or is an old .doc.", hint="Save an unlocked copy as .docx."
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except _DAMAGE as error:
        raise UnreadableDocument("the file is not a Word document.", hint="Save it as .docx.") from error
    if any(entry.flag_bits & _LOCKED for entry in entries):
        raise UnreadableDocument("the file is locked by a password.", hint="Save an unlocked copy.")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MAX_UNPACKED_BYTES or unpacked > MAX_RATIO * max(len(data), 1024):
        raise DocumentTooLarge(
            f"the file would unpack to {unpacked:,} bytes.", hint="It looks like a zip bomb."
        )
