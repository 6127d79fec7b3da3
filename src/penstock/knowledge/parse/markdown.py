"""Markdown and plain text. Markdown keeps its inline marks out of the text, its lists, code and tables whole.

What only looks like a tag, such as `<your-name>`, is text: a tag is what HTML names, or what is closed somewhere.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from penstock.knowledge.parse.front_matter import read_front_matter, split_front_matter
from penstock.knowledge.parse.html_parts import ELEMENTS, OpenList
from penstock.knowledge.parse.markdown_rules import count_unused, make_reader
from penstock.knowledge.parse.text import SectionBuilder, clean_line, decode_text, slug_of
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe, Properties

if TYPE_CHECKING:
    from markdown_it.token import Token

MAX_NESTING = 60
_TAG = re.compile(r"<!--.*?(?:-->|\Z)|</?[A-Za-z][^<>]{0,2000}>", re.DOTALL)
_NAME = re.compile(r"</?([A-Za-z][\w.:-]*)")
_CLOSED = re.compile(r"</([A-Za-z][\w.:-]*)\s*>|<([A-Za-z][\w.:-]*)(?:\s[^<>]{0,2000})?/>")
_COMMENT = re.compile(r"<!--(.*?)(?:-->|\Z)", re.DOTALL)
_UNSEEN = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE)


def parse_markdown(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return the sections by headings; the first level-one heading is the title, else the front matter's."""
    del recipe
    text, problems = decode_text(data)
    text, inner, fence = split_front_matter(text)
    properties, told_title = Properties(), None
    if inner is not None:
        properties, told_title, more = read_front_matter(inner, fence)
        problems += more
    env: dict[str, object] = {}
    tokens = make_reader(MAX_NESTING).parse(text, env)
    writer = _Writer(closed={(found[1] or found[2]).lower() for found in _CLOSED.finditer(text)})
    writer.walk(tokens)
    if writer.n_images:
        problems += (f"{writer.n_images} images were not read",)
    if writer.n_comment_words:
        problems += (f"{writer.n_comment_words} words of HTML comments were left out",)
    if n_unused := count_unused(tokens, env):
        problems += (f"{n_unused} link definitions that nothing refers to were left out",)
    if any(token.level >= MAX_NESTING - 1 for token in tokens):
        problems += (f"blocks nested deeper than {MAX_NESTING} were not read",)
    return ParsedDocument(
        title=writer.title or told_title,
        media_type="text/markdown",
        sections=writer.builder.finish(),
        problems=problems,
        language=properties.language,
        properties=properties,
    )


def parse_text(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return plain text as one section; blank lines separate paragraphs."""
    del recipe
    text, problems = decode_text(data)
    builder = SectionBuilder()
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        builder.add(block)
    return ParsedDocument(title=None, media_type="text/plain", sections=builder.finish(), problems=problems)


class _Writer:
    """Walks the flat list of tokens that markdown-it gives, without recursion."""

    def __init__(self, *, closed: Collection[str]) -> None:
        """`closed` are the names of elements that are closed somewhere in the document."""
        self.builder = SectionBuilder()
        self._tags = ELEMENTS.union(closed)
        self.title: str | None = None
        self.n_images = 0
        self.n_comment_words = 0
        self._level: int | None = None
        self._list = OpenList()
        self._depth = 0
        self._mark: str | None = None
        self._rows: list[list[str]] = []

    def walk(self, tokens: Sequence["Token"]) -> None:
        """Write the tokens' text into the builder."""
        in_table = False
        for token in tokens:
            kind = token.type
            if kind == "heading_open":
                self._level = int(token.tag[1])
            elif kind in {"bullet_list_open", "ordered_list_open"}:
                self._list.open_list(numbered=kind == "ordered_list_open")
                self._depth += 1
            elif kind in {"bullet_list_close", "ordered_list_close"}:
                self._depth -= 1
                if self._list.close_list():
                    self._end_list()
            elif kind == "list_item_open":
                self._mark = self._list.mark()
            elif kind == "table_open":
                in_table, self._rows = True, []
            elif kind == "tr_open":
                self._rows.append([])
            elif kind == "table_close":
                in_table = False
                self._end_list()
                self.builder.add_table(self._rows)
            elif kind == "inline":
                if not in_table and _is_grid(token.content):  # a table without its line of dashes
                    self._end_list()
                    self.builder.add_verbatim(token.content)
                else:
                    self._write_inline(self._plain(token.children or []), in_table=in_table)
            elif kind in {"fence", "code_block"}:
                self._end_list()
                self.builder.add_code(token.content, (token.info or "").strip().partition(" ")[0])
            elif kind == "html_block":
                self._write_html(token.content)

    def _write_inline(self, text: str, *, in_table: bool) -> None:
        if in_table:
            self._rows[-1].append(text)
        elif self._level is not None:
            name = clean_line(text)
            if self._level == 1 and self.title is None and name:
                self.title = name
            elif name:
                self.builder.start(name, anchor=slug_of(name), level=self._level)
            self._level = None
        elif self._depth:
            self._list.add(text, self._mark)
            if text.strip():
                self._mark = None
        else:
            self.builder.add(text)

    def _write_html(self, html: str) -> None:
        self._count_comments(html)
        text = _unescape(_TAG.sub(lambda found: self._show_tag(found[0]) or " ", _UNSEEN.sub(" ", html)))
        if self._depth:
            self._list.add(text, self._mark)
        else:
            self.builder.add(text)

    def _end_list(self) -> None:
        if self._list.lines:
            self.builder.add_verbatim("\n".join(self._list.lines))
        self._list.lines = []

    def _plain(self, children: Sequence["Token"]) -> str:
        return "".join(self._pieces(children))

    def _pieces(self, children: Sequence["Token"]) -> Iterator[str]:
        for child in children:
            if child.type in {"text", "code_inline", "text_special"}:
                yield child.content
            elif child.type in {"softbreak", "hardbreak"}:
                yield " "
            elif child.type == "image":
                self.n_images += 1
                yield self._plain(child.children or [])
            elif child.type == "html_inline":
                self._count_comments(child.content)
                yield " " if child.content.lower().startswith("<br") else self._show_tag(child.content)

    def _show_tag(self, tag: str) -> str:
        """Return what is no tag of any element as the text that it is, "" for a tag."""
        found = _NAME.match(tag)
        return "" if found is None or found[1].lower() in self._tags else tag

    def _count_comments(self, html: str) -> None:
        self.n_comment_words += sum(len(found.split()) for found in _COMMENT.findall(html))


def _is_grid(content: str) -> bool:
    lines = content.split("\n")
    return len(lines) > 1 and all(line.lstrip().startswith("|") for line in lines)


def _unescape(text: str) -> str:
    import html

    return html.unescape(text)
