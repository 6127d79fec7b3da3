"""One JSON array of objects, read element by element: a file of any size, one element at a time in memory.

The scanner only finds where elements end; what they hold is decoded as in JSON lines. Rows count from 1.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from penstock.datasets.readers.json_lines import read_object
from penstock.datasets.rows import MAX_ROW_BYTES
from penstock.datasets.types import REST_UNREAD, Read, RowProblem

_PIECE = 1 << 18
_MARKS = re.compile(rb'["\[\]{},]')
_STRING_END = re.compile(rb'["\\]')
_LAST_COMMA = "a comma stands before the end of the array"
_SPACE = b" \t\r\n"


def read_json_array(path: Path, source: str) -> Iterator[Read]:
    """Yield the elements of the array; what follows a place where the text itself is broken cannot be read."""
    with path.open("rb") as file:
        number = 0
        for element in _elements(file):
            number += 1
            place = f"{source}:{number}"
            if isinstance(element, str):
                if element == _LAST_COMMA:
                    yield RowProblem(place=place, message=element, reason="not JSON")
                else:
                    message = f"{element}; nothing after it could be read"
                    yield RowProblem(place=place, message=message, reason=REST_UNREAD, is_end=True)
                return
            if len(element) > MAX_ROW_BYTES:
                yield RowProblem(
                    place=place, message=f"is longer than {MAX_ROW_BYTES:,} bytes", reason="row too large"
                )
                continue
            yield read_object(element, place)


class _Window:
    """The stretch of the file that is looked at. `start` is where the present element begins, `position` where to look on."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.data = b""
        self.start = self.position = 0

    def grow(self) -> bool:
        """Read on, forgetting what lies before the present element; return whether there was more."""
        piece = self._file.read(_PIECE)
        self.data = self.data[self.start :] + piece
        self.position -= self.start
        self.start = 0
        return bool(piece)

    @property
    def is_long(self) -> bool:
        """Whether the present element is longer than a row may be."""
        return len(self.data) - self.start > MAX_ROW_BYTES + _PIECE

    def next_byte(self) -> bytes:
        """Return the next byte that is no space, without passing it; nothing at the end of the file."""
        while True:
            rest = self.data[self.position : self.position + 64].lstrip(_SPACE)
            if rest:
                return rest[:1]
            if self.position + 64 < len(self.data):
                self.position += 64
            else:
                self.position = len(self.data)
                if not self.grow():
                    return b""


def _elements(file: BinaryIO) -> Iterator[bytes | str]:
    """Yield the text of each element, or why there is no further one."""
    window = _Window(file)
    window.grow()
    window.position = window.start = 3 if window.data.startswith(b"\xef\xbb\xbf") else 0
    if window.next_byte() != b"[":
        yield "is not a JSON array"
        return
    window.position = window.start = window.data.index(b"[", window.position) + 1
    if window.next_byte() == b"]":
        return
    while True:
        end = _end_of_element(window)
        if isinstance(end, str):
            yield end
            return
        element = window.data[window.start : end].strip(_SPACE)
        if not element:
            is_last = window.data[end : end + 1] == b"]"
            yield (_LAST_COMMA if is_last else "an element is missing before a comma")
            return
        yield element
        if window.data[end : end + 1] == b"]":
            return
        window.start = window.position = end + 1


def _end_of_element(window: _Window) -> int | str:
    """Return where the comma or bracket after the present element stands, or why there is none."""
    depth = 0
    while True:
        mark = _MARKS.search(window.data, window.position)
        if mark is None:
            window.position = len(window.data)
            if window.is_long or not window.grow():
                return "an element does not end" if window.is_long else "the array does not end"
            continue
        found = mark.group()
        window.position = mark.end()
        if found == b'"':
            if not _pass_string(window):
                return "a text does not end"
        elif found in b"[{":
            depth += 1
        elif depth:
            depth -= found in b"]}"
        elif found == b"}":
            return "a bracket closes what was not opened"
        else:
            return mark.start()


def _pass_string(window: _Window) -> bool:
    """Move behind the text that has begun; return whether it ends."""
    while True:
        mark = _STRING_END.search(window.data, window.position)
        if mark is not None and mark.group() == b'"':
            window.position = mark.end()
            return True
        if mark is not None and mark.end() < len(window.data):
            window.position = mark.end() + 1
            continue
        window.position = mark.start() if mark is not None else len(window.data)
        if window.is_long or not window.grow():
            return False
