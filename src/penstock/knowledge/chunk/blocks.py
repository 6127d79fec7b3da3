"""Finds what stands together in a section: paragraphs, lists, tables, fenced code. Knows nothing of lengths."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from penstock.knowledge.types import SectionKind

BlockKind = Literal["prose", "list", "table", "code"]
_LINE = re.compile(r"[^\n]*\n?")
_FENCE = re.compile(r"[^\S\n]*(`{3,}|~{3,})([^\n]*)")
_BULLET = re.compile(r"[^\S\n]*(?:[-*+•‣◦▪–]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])[^\S\n]+\S")
_RULE_CHARS = frozenset("|:+=- \t")
Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A stretch of whole lines."""

    kind: BlockKind
    lines: tuple[Span, ...]
    """Without line ends and spaces before them; none is blank, but for lines within code."""

    @property
    def start(self) -> int:
        """Where it begins."""
        return self.lines[0][0]

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.lines[-1][1]


def find_blocks(text: str, start: int, end: int, kind: SectionKind = "text") -> Iterator[Block]:
    """Yield the blocks between `start` and `end`, in order; all visible characters are in one."""
    lines = _lines(text, start, end)
    if kind == "code":
        lines = _trimmed(text, lines)
        if lines:
            yield Block(kind="code", lines=tuple(lines))
        return
    gathered: list[Span] = []
    unclosed: set[str] = set()
    number = 0
    while number < len(lines):
        first, last = lines[number]
        closing = _closing_fence(text, lines, number, unclosed)
        if closing is not None:
            yield from _sort_lines(text, gathered)
            gathered = []
            yield Block(kind="code", lines=tuple(lines[number : closing + 1]))
            number = closing
        elif not text[first:last].strip():
            yield from _sort_lines(text, gathered)
            gathered = []
        else:
            gathered.append((first, last))
        number += 1
    yield from _sort_lines(text, gathered)


def header_lines(text: str, table: Block) -> int:
    """Return how many lines of a table are its header: the rule under it included; 0 when it has no rule."""
    for number, (start, end) in enumerate(table.lines[:4]):
        line = text[start:end]
        if number and "-" in line and _RULE_CHARS.issuperset(line):
            return number + 1
    return 0


def list_items(text: str, block: Block) -> tuple[Span | None, list[Span]]:
    """Return what stands before the first item of a list, and its items with the lines that go on with them."""
    items: list[Span] = []
    lead: Span | None = None
    for start, end in block.lines:
        if _BULLET.match(text, start, end):
            items.append((start, end))
        elif items:
            items[-1] = (items[-1][0], end)
        else:
            lead = (start if lead is None else lead[0], end)
    return lead, items


def announces(text: str, end: int) -> bool:
    """Return whether what ends at `end` announces what comes next: a line that ends in a colon."""
    return text[max(0, end - 1) : end] in (":", "：")


def _lines(text: str, start: int, end: int) -> list[Span]:
    return [
        (line.start(), line.start() + len(line.group().rstrip()))
        for line in _LINE.finditer(text, start, end)
        if line.end() > line.start()
    ]


def _trimmed(text: str, lines: list[Span]) -> list[Span]:
    visible = [number for number, (start, end) in enumerate(lines) if text[start:end].strip()]
    return lines[visible[0] : visible[-1] + 1] if visible else []


def _closing_fence(text: str, lines: list[Span], number: int, unclosed: set[str]) -> int | None:
    """Return the line that closes the fence which opens here; a fence that nothing closes is text.

    `unclosed` remembers such fences, so that a text full of them is read once and not once for each.
    """
    opening = _FENCE.match(text, *lines[number])
    if opening is None or opening.group(1) in unclosed:
        return None
    if opening.group(1)[0] == "`" and "`" in opening.group(2):
        return None  # code within a line
    for later in range(number + 1, len(lines)):
        closing = _FENCE.match(text, *lines[later])
        if closing and closing.group(1).startswith(opening.group(1)) and not closing.group(2).strip():
            return later
    unclosed.add(opening.group(1))
    return None


def _sort_lines(text: str, lines: list[Span]) -> Iterator[Block]:
    """Cut gathered lines where a table begins or ends, and tell lists from prose."""
    run: list[Span] = []
    in_table = False
    for start, end in lines:
        is_row = text[start:end].lstrip().startswith("|")
        if run and is_row != in_table:
            yield _block_of(text, run, in_table)
            run = []
        in_table = is_row
        run.append((start, end))
    if run:
        yield _block_of(text, run, in_table)


def _block_of(text: str, lines: list[Span], is_table: bool) -> Block:
    kind: BlockKind = "prose"
    if is_table:
        kind = "table"
    elif len(lines) > 1 and any(_BULLET.match(text, *line) for line in lines):
        kind = "list"
    return Block(kind=kind, lines=tuple(lines))
