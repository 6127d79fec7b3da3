"""CSV and TSV tables. Consecutive rows with the same first column become one section, each row one paragraph.

A row is written as `column: value` pairs, except where a table is plainly prose (two columns, the first a
heading that repeats, the second a sentence): then the sentence stands alone.
"""

import csv
import io
import itertools
from collections import Counter

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse.text import SectionBuilder, clean_line, decode_text
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe

MAX_FIELD_CHARS = 1_000_000
SAMPLE_CHARS = 16_384
DELIMITERS = ",;\t|"


def parse_csv(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return the table's rows as paragraphs. The first row names the columns."""
    del recipe
    text, problems = decode_text(data)
    if text[:4].lower() == "sep=":  # Excel's own way to tell
        told, _, text = text.partition("\n")
        return _parse(text, told[4:5] or ",", problems, first_row=2)
    return _parse(text, find_delimiter(text[:SAMPLE_CHARS]), problems)


def parse_tsv(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return the rows of a table whose columns are separated by tabs."""
    del recipe
    text, problems = decode_text(data)
    return _parse(text, "\t", problems)


def find_delimiter(sample: str) -> str:
    """Return the separator by which most of the first rows have the same number of cells, above one."""
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        try:
            rows = [row for row in csv.reader(io.StringIO(sample), delimiter=delimiter) if row][:100]
        except csv.Error:
            continue
        (width, count), = Counter(len(row) for row in rows[:-1] or rows).most_common(1) or [(0, 0)]  # fmt: skip
        score = (round(count / max(1, len(rows[:-1] or rows)), 1), width)
        if width > 1 and score > best_score:
            best, best_score = delimiter, score
    return best


def _parse(text: str, delimiter: str, problems: tuple[str, ...], *, first_row: int = 1) -> ParsedDocument:
    media_type = "text/tab-separated-values" if delimiter == "\t" else "text/csv"
    csv.field_size_limit(MAX_FIELD_CHARS)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [
            (number, row)
            for number, row in enumerate(reader, start=first_row)
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise UnreadableDocument(
            f"the table is broken: {error}.", hint="Quote cells that hold line breaks."
        ) from error
    if not rows:
        return ParsedDocument(title=None, media_type=media_type, sections=(), problems=problems)
    header = [clean_line(cell) for cell in rows[0][1]]
    body = rows[1:]
    ragged = sum(len(row) != len(header) for _, row in body)
    if ragged:
        problems += (f"{ragged} rows have another number of cells than the header",)
    builder = SectionBuilder()
    if not body:  # a table of nothing but names
        builder.add("; ".join(cell for cell in header if cell))
    elif _is_prose([row for _, row in body]):
        for key, group in itertools.groupby(body, key=lambda item: item[1][0]):
            members = list(group)
            builder.start(key, anchor=f"row={members[0][0]}")
            for _, row in members:
                builder.add(row[1])
    else:
        for number, row in body:
            builder.start(f"Row {number}", anchor=f"row={number}", kind="record")
            pairs = itertools.zip_longest(header, row, fillvalue="")
            builder.add("; ".join(_pair(name, cell) for name, cell in pairs))
    return ParsedDocument(title=None, media_type=media_type, sections=builder.finish(), problems=problems)


def _pair(name: str, cell: str) -> str:
    return f"{name}: {clean_line(cell)}" if name else clean_line(cell)


def _is_prose(rows: list[list[str]]) -> bool:
    if not rows or any(len(row) != 2 for row in rows):
        return False
    distinct = len({row[0] for row in rows})
    sentences = sum(row[1].rstrip().endswith((".", "?", "!")) for row in rows)
    return distinct < len(rows) and sentences >= 0.8 * len(rows)
