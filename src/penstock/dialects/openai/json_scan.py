"""Looks into JSON text without building it: nesting depth, and where top-level members stand.

Works on bytes that a JSON decoder has accepted (only `is_nested_deeper` takes anything). Its one surprise: member
names are compared after decoding escapes, because `"mod\\u0065l"` names the same member as `"model"`.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}:,]', re.DOTALL)
_NOT_MARKS = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_PIECE_BYTES = 16 * 1024
_RUN_BYTES = 64
_SPACE = b" \t\r\n"


class Member(NamedTuple):
    """One member of the outermost object: its name, and its value's place in the text."""

    name: str
    start: int
    end: int


def is_nested_deeper(text: bytes, *, than: int) -> bool:
    """Return whether arrays and objects nest deeper than `than` levels.

    Takes text of any kind. What is no JSON may nest in any way behind its first error, which no decoder passes.
    """
    if text.count(b"[") + text.count(b"{") <= than:
        return False
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")  # now each quote begins or ends a string
    return is_deeper(text.translate(_TO_SQUARE, _NOT_MARKS), than=than)


def is_deeper(marks: bytes, *, than: int) -> bool:
    """Return whether `marks`, made of `"`, `[` and `]` only, nests deeper than `than`. Each byte is read once.

    A run of brackets is walked only where its opening ones could pass the limit; the others are counted.
    """
    depth = 0
    is_in_string = False
    for piece in _cut(marks, _PIECE_BYTES):
        parts = piece.split(b'"')
        for run in _cut(b"".join(parts[is_in_string::2]), _RUN_BYTES):
            n_opening = run.count(b"[")
            if depth + n_opening > than and depth + _highest(run) > than:
                return True
            depth += 2 * n_opening - len(run)
        is_in_string ^= len(parts) % 2 == 0
    return False


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def _highest(run: bytes) -> int:
    level = highest = 0
    for mark in run:
        if mark == 0x5B:
            level += 1
            highest = max(highest, level)
        else:
            level -= 1
    return highest


def scan_members(text: bytes) -> list[Member]:
    """Return the members of the object that `text` holds, in order, duplicates included."""
    members: list[Member] = []
    depth = 0
    name: str | None = None
    last_string: tuple[int, int] | None = None
    value_start = 0
    for token in _TOKEN.finditer(text):
        mark = text[token.start()]
        if mark == 0x22:  # a string
            if depth == 1 and name is None:
                last_string = token.span()
        elif mark in b"[{":
            depth += 1
        elif mark == 0x3A:  # a colon
            if depth == 1 and name is None and last_string is not None:
                name = msgspec.json.decode(text[last_string[0] : last_string[1]], type=str)
                value_start = token.end()
        elif depth == 1 and name is not None and mark in b",}":
            members.append(_trim(text, name, value_start, token.start()))
            name, last_string = None, None
            depth -= mark == 0x7D
        elif mark in b"]}":
            depth -= 1
    return members


def _trim(text: bytes, name: str, start: int, end: int) -> Member:
    raw = text[start:end]
    lead = len(raw) - len(raw.lstrip(_SPACE))
    return Member(name, start + lead, start + len(raw.rstrip(_SPACE)))
