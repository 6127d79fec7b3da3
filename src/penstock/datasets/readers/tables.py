"""CSV and TSV: texts in columns. An empty cell says nothing; a column called `NAME:json` holds JSON, as our own export writes it.

Rows count as a spreadsheet counts them: the header is row 1.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

from penstock.datasets.errors import UnreadableSource
from penstock.datasets.rows import MAX_ROW_BYTES, decode_json
from penstock.datasets.types import REST_UNREAD, RawRow, Read, RowProblem

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
            lines.begin_row()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except (csv.Error, _TooLong) as error:
                is_end = lines.n_lines > 1 or lines.has_open_quote
                yield _broken(place, error, is_end=is_end)
                if is_end:
                    return  # after an unclosed quote nobody knows where a row begins
                continue
            if lines.is_broken:
                yield RowProblem(place=place, message="bytes that are not UTF-8", reason="not UTF-8")
            elif any(cells):
                yield _row(header, cells, place)


class _TooLong(Exception):
    """A row that is longer than one may be."""

    def __init__(self) -> None:
        super().__init__(f"is longer than {MAX_ROW_BYTES:,} bytes")


class _Lines:
    """Lines of text, none longer than a row may be.

    Of the present row: `is_broken` tells whether a line holds bytes that are no text, `n_lines` how many it took so far,
    `has_open_quote` whether a line that was passed over for its length leaves a quote open.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._encoding = "utf-8-sig"
        self.begin_row()

    def begin_row(self) -> None:
        """Forget the row before."""
        self.is_broken = self.has_open_quote = False
        self.n_lines = self._n_bytes = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._file.readline(MAX_ROW_BYTES + 2)
        if not line:
            raise StopIteration
        self.n_lines += 1
        self._n_bytes += len(line)
        if len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
            self.has_open_quote = bool((line.count(b'"') + self._pass_line()) % 2)
            raise _TooLong
        if self._n_bytes > MAX_ROW_BYTES + 2:
            raise _TooLong
        try:
            text = line.decode(self._encoding)
        except UnicodeDecodeError:
            self.is_broken = True
            text = line.decode(self._encoding, "replace")
        self._encoding = "utf-8"
        return text

    def _pass_line(self) -> int:
        """Pass over the rest of the line; return how many quotes it holds."""
        n_quotes = 0
        while piece := self._file.readline(1 << 20):
            n_quotes += piece.count(b'"')
            if piece.endswith(b"\n"):
                break
        return n_quotes


def _broken(place: str, error: Exception, *, is_end: bool) -> RowProblem:
    reason = "row too large" if isinstance(error, _TooLong) else "not CSV"
    message = str(error) if isinstance(error, _TooLong) else f"the table is broken here: {error}"
    if is_end:
        message, reason = f"{message}; nothing after it could be read", REST_UNREAD
    return RowProblem(place=place, message=message, reason=reason, is_end=is_end)


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
    except (csv.Error, _TooLong) as error:
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
