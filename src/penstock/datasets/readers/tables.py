"""CSV and TSV: texts in columns. An empty cell says nothing; a column called `NAME:json` holds JSON, as our own export writes it.

Rows count as a spreadsheet counts them: the header is row 1.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from penstock.datasets.errors import UnreadableSource
from penstock.datasets.rows import MAX_ROW_BYTES, decode_json
from penstock.datasets.types import RawRow, Read, RowProblem

JSON_MARK = ":json"
_SEPARATORS = (",", ";", "\t", "|")


def read_table(path: Path, source: str, separator: str | None = None) -> Iterator[Read]:
    """Yield the rows of a table; without a separator the header tells it. Raises `UnreadableSource` for a bad header."""
    csv.field_size_limit(MAX_ROW_BYTES)
    with path.open("rb") as raw:
        lines = _Lines(raw)
        reader = csv.reader(lines, delimiter=separator or guess_separator(path), strict=True)
        header = _header(reader, source)
        number = 1
        while True:
            number += 1
            place = f"{source}:{number}"
            lines.is_broken = False
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield RowProblem(place=place, message=f"the table is broken here: {error}", reason="not CSV")
                return  # after an unclosed quote nobody knows where a row begins
            if lines.is_broken:
                yield RowProblem(place=place, message="bytes that are not UTF-8", reason="not UTF-8")
            elif any(cells):
                yield _row(header, cells, place)


class _Lines:
    """Lines of text; `is_broken` tells whether one since it was last cleared holds bytes that are none."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._encoding = "utf-8-sig"
        self.is_broken = False

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            try:
                text = line.decode(self._encoding)
            except UnicodeDecodeError:
                self.is_broken = True
                text = line.decode(self._encoding, "replace")
            self._encoding = "utf-8"
            yield text


def guess_separator(path: Path) -> str:
    """Return what stands most often in the header, outside quotes."""
    with path.open("rb") as file:
        line = file.readline(1 << 20).decode("utf-8", "replace")
    bare = "".join(line.split('"')[::2])
    return max(_SEPARATORS, key=bare.count) if any(map(bare.count, _SEPARATORS)) else ","


def _header(reader: Iterator[list[str]], source: str) -> list[str]:
    try:
        names = [name.strip() for name in next(reader)]
    except StopIteration:
        return []
    except csv.Error as error:
        raise UnreadableSource(f"The header of {source} cannot be read: {error}.") from error
    twice = {name for name in names if name and names.count(name) > 1}
    if twice:
        raise UnreadableSource(
            f"{source} has the column {min(twice)!r} more than once.",
            hint="Give each column a name of its own.",
        )
    return names


def _row(header: list[str], cells: list[str], place: str) -> Read:
    if len(cells) != len(header):
        return RowProblem(
            place=place,
            message=f"has {len(cells)} cells, the header has {len(header)}",
            reason="wrong number of cells",
        )
    value: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        if not cell:
            continue
        if name.endswith(JSON_MARK):
            try:
                value[name.removesuffix(JSON_MARK)] = decode_json(cell.encode())
            except ValueError as error:
                return RowProblem(place=place, column=name, message=str(error), reason="not JSON")
        else:
            value[name or "(no name)"] = cell
    return RawRow(place, value)
