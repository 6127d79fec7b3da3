"""A card's Markdown as blocks that a template can draw: headings, items, code, tables, paragraphs. No HTML passes through.

Only what cards use is known; everything else is shown as it was written.
"""

import re
from dataclasses import dataclass
from typing import Literal

BlockKind = Literal["heading", "item", "code", "table", "paragraph"]
Span = tuple[Literal["plain", "strong", "em", "code"], str]
_INLINE = re.compile(r"\*\*(?P<strong>[^*]+)\*\*|`(?P<code>[^`]+)`|\*(?P<em>[^*\s][^*]*)\*")
_RULE = re.compile(r"[|:\s-]+")
_ITEM = re.compile(r"\s*(?:[-*]|\d+\.)\s+(.*)")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block with its text in spans."""

    kind: BlockKind
    spans: tuple[Span, ...] = ()
    rows: tuple[tuple[tuple[Span, ...], ...], ...] = ()
    """Of a table: its rows of cells, the heading first."""


def parse_card(text: str) -> tuple[Block, ...]:
    """Return the blocks of `text` in order; the text of all of them is the text without its marks."""
    blocks: list[Block] = []
    waiting: list[str] = []
    fence: list[str] | None = None

    def flush() -> None:
        if waiting:
            blocks.append(Block(kind="paragraph", spans=parse_inline(" ".join(waiting))))
            waiting.clear()

    for line in text.splitlines():
        if line.startswith("```"):
            if fence is None:
                flush()
                fence = []
            else:
                blocks.append(Block(kind="code", spans=(("plain", "\n".join(fence)),)))
                fence = None
        elif fence is not None:
            fence.append(line)
        elif line.startswith("|"):
            flush()
            if not _RULE.fullmatch(line.strip()):
                cells = line.strip().strip("|").split("|")
                blocks.append(
                    Block(kind="table", rows=(tuple(parse_inline(each.strip()) for each in cells),))
                )
        elif line.startswith("    "):
            flush()
            blocks.append(Block(kind="code", spans=(("plain", line),)))
        elif line.startswith("#"):
            flush()
            blocks.append(Block(kind="heading", spans=parse_inline(line.lstrip("#").strip())))
        elif found := _ITEM.fullmatch(line):
            flush()
            blocks.append(Block(kind="item", spans=parse_inline(found[1])))
        elif line.strip():
            waiting.append(line.strip())
        else:
            flush()
    flush()
    if fence:
        blocks.append(Block(kind="code", spans=(("plain", "\n".join(fence)),)))
    return _join_alike(blocks)


def parse_inline(text: str) -> tuple[Span, ...]:
    """Return the text with **strong**, *stressed* and `code` parts set apart."""
    spans: list[Span] = []
    at = 0
    for found in _INLINE.finditer(text):
        if found.start() > at:
            spans.append(("plain", text[at : found.start()]))
        if found["strong"]:
            spans.append(("strong", found["strong"]))
        elif found["code"]:
            spans.append(("code", found["code"]))
        else:
            spans.append(("em", found["em"]))
        at = found.end()
    if at < len(text) or not spans:
        spans.append(("plain", text[at:]))
    return tuple(spans)


def _join_alike(blocks: list[Block]) -> tuple[Block, ...]:
    joined: list[Block] = []
    for block in blocks:
        if block.kind == "code" and joined and joined[-1].kind == "code":
            text = f"{joined[-1].spans[0][1]}\n{block.spans[0][1]}"
            joined[-1] = Block(kind="code", spans=(("plain", text),))
        elif block.kind == "table" and joined and joined[-1].kind == "table":
            joined[-1] = Block(kind="table", rows=joined[-1].rows + block.rows)
        else:
            joined.append(block)
    return tuple(joined)
