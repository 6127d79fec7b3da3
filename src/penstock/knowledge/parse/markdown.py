"""Markdown and plain text. Markdown keeps its inline marks out of the text, its code and tables whole."""

import re

from penstock.knowledge.parse.text import SectionBuilder, decode_text, slug_of
from penstock.knowledge.types import ParsedDocument

_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*\s*")
_FENCE = re.compile(r"\s*(```+|~~~+)")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_MARKS = re.compile(r"(\*\*|__|(?<!\w)[*_](?=\S)|(?<=\S)[*_](?!\w)|`)")


def parse_markdown(data: bytes) -> ParsedDocument:
    """Return the sections by `#` headings; the first level-one heading is the title."""
    text, problems = decode_text(data)
    text = _without_front_matter(text)
    builder = SectionBuilder()
    title: str | None = None
    block: list[str] = []
    fence: str | None = None

    def close_block() -> None:
        if block and (block[0].lstrip().startswith("|") or _FENCE.match(block[0])):
            builder.add_verbatim("\n".join(block))
        elif block:
            builder.add(_MARKS.sub("", _LINK.sub(r"\1", " ".join(block))))
        block.clear()

    for line in text.splitlines():
        opening = _FENCE.match(line)
        if fence is not None:
            block.append(line)
            if opening and opening.group(1).startswith(fence):
                fence = None
                close_block()
        elif opening:
            close_block()
            fence = opening.group(1)
            block.append(line)
        elif heading := _HEADING.fullmatch(line):
            close_block()
            name = _MARKS.sub("", _LINK.sub(r"\1", heading.group(2)))
            if len(heading.group(1)) == 1 and title is None:
                title = name
            else:
                builder.start(name, anchor=slug_of(name))
        elif not line.strip():
            close_block()
        else:
            block.append(line)
    close_block()
    return ParsedDocument(
        title=title, media_type="text/markdown", sections=builder.finish(), problems=problems
    )


def parse_text(data: bytes) -> ParsedDocument:
    """Return plain text as one section; blank lines separate paragraphs."""
    text, problems = decode_text(data)
    builder = SectionBuilder()
    for block in re.split(r"\n\s*\n", text):
        builder.add(block)
    return ParsedDocument(title=None, media_type="text/plain", sections=builder.finish(), problems=problems)


def _without_front_matter(text: str) -> str:
    if not text.startswith("---\n"):
        return text
    end = text.find("\n---\n", 4)
    return text if end < 0 else text[end + 5 :]
