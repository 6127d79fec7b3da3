"""Looks into JSON text without building it: nesting depth, and where top-level members stand.

Works on bytes that a JSON decoder has accepted (only `json_depth` takes anything). Its one surprise: member
names are compared after decoding escapes, because `"mod\\u0065l"` names the same member as `"model"`.
"""

import re
from typing import NamedTuple

import msgspec

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}:,]', re.DOTALL)
_PAIR = re.compile(rb"\[\]|\{\}")
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_SPACE = b" \t\r\n"


class Member(NamedTuple):
    """One member of the outermost object: its name, and its value's place in the text."""

    name: str
    start: int
    end: int


def json_depth(text: bytes, *, stop_above: int) -> int:
    """Return how deeply arrays and objects nest; a result over `stop_above` means "deeper than that".

    Runs on text of any kind without recursion. Strings are left out; brackets that do not match count
    towards the depth, as no decoder will accept such text anyway.
    """
    if text.count(b"[") + text.count(b"{") <= stop_above:
        return min(stop_above, text.count(b"[") + text.count(b"{"))
    brackets = _STRING.sub(b"", text).translate(None, _NOT_BRACKETS)
    depth = 0
    while brackets and depth <= stop_above:
        inner = _PAIR.sub(b"", brackets)
        if len(inner) == len(brackets):
            return stop_above + 1
        brackets = inner
        depth += 1
    return depth


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
