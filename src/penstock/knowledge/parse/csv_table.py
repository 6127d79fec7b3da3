"""CSV tables. Consecutive rows with the same first column become one section, each row one paragraph.

A row is written as `column: value` pairs, except where a table is plainly prose (two columns, the first a
heading that repeats, the second a sentence): then the sentence stands alone.
"""

import csv
import io
import itertools

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse.text import SectionBuilder, clean_line, decode_text
from penstock.knowledge.types import ParsedDocument

MAX_FIELD_CHARS = 1_000_000


def parse_csv(data: bytes) -> ParsedDocument:
    """Return the table's rows as paragraphs. The first row names the columns."""
    text, problems = decode_text(data)
    csv.field_size_limit(MAX_FIELD_CHARS)
    try:
        dialect = csv.Sniffer().sniff(text[:8192], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    try:
        rows = [row for row in csv.reader(io.StringIO(text), dialect) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise UnreadableDocument(
            f"the table is broken: {error}.", hint="Quote cells that hold line breaks."
        ) from error
    if not rows:
        return ParsedDocument(title=None, media_type="text/csv", sections=(), problems=problems)
    header = [clean_line(cell) for cell in rows[0]]
    ragged = sum(len(row) != len(header) for row in rows[1:])
    if ragged:
        problems += (f"{ragged} rows have another number of cells than the header",)
    builder = SectionBuilder()
    prose = _is_prose(rows[1:])
    for key, group in itertools.groupby(
        enumerate(rows[1:], start=2), key=lambda item: item[1][0] if prose else ""
    ):
        members = list(group)
        if prose:
            builder.start(key, anchor=f"row={members[0][0]}")
        for number, row in members:
            if prose:
                builder.add(row[1])
            else:
                builder.start(f"Row {number}", anchor=f"row={number}")
                builder.add(
                    "; ".join(
                        _pair(name, cell) for name, cell in itertools.zip_longest(header, row, fillvalue="")
                    )
                )
    return ParsedDocument(title=None, media_type="text/csv", sections=builder.finish(), problems=problems)


def _pair(name: str, cell: str) -> str:
    return f"{name}: {clean_line(cell)}" if name else clean_line(cell)


def _is_prose(rows: list[list[str]]) -> bool:
    if not rows or any(len(row) != 2 for row in rows):
        return False
    distinct = len({row[0] for row in rows})
    sentences = sum(row[1].rstrip().endswith((".", "?", "!")) for row in rows)
    return distinct < len(rows) and sentences >= 0.8 * len(rows)
