"""HTML pages: the main content, without navigation, headers, footers, forms and scripts.

Uses the standard library's tolerant tokenizer. `<main>` or `<article>` marks the content where a page has
one; otherwise everything in `<body>` outside boilerplate elements counts.
"""

import re
from html.parser import HTMLParser

from penstock.knowledge.parse.text import SectionBuilder, clean_line, decode_text, slug_of
from penstock.knowledge.types import ParsedDocument, Section

_SKIP = frozenset(
    {
        "script",
        "style",
        "nav",
        "header",
        "footer",
        "aside",
        "form",
        "noscript",
        "template",
        "svg",
        "button",
        "iframe",
    }
)
_VOID = frozenset(
    {"br", "hr", "img", "input", "meta", "link", "area", "base", "col", "embed", "source", "track", "wbr"}
)
_BLOCK = frozenset(
    {"p", "div", "li", "ul", "ol", "section", "article", "main", "blockquote", "dd", "dt", "dl", "figcaption"}
)
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_CONTENT = re.compile(r"<(main|article)[\s>]", re.IGNORECASE)
MAX_DEPTH = 500


def parse_html(data: bytes) -> ParsedDocument:
    """Return the sections of the page's main content; the title is its `<h1>`, else its `<title>`."""
    text, problems = decode_text(data)
    marked = _CONTENT.search(text)
    reader = _Reader(content_element=marked.group(1).lower() if marked else None)
    reader.feed(text)
    reader.close()
    sections = reader.finish()
    if reader.skipping:
        problems += (f"<{reader.skipping[0]}> is never closed; the text after it was left out",)
    if reader.too_deep:
        problems += (f"elements nested deeper than {MAX_DEPTH} were read as flat text",)
    return ParsedDocument(
        title=reader.h1 or reader.page_title, media_type="text/html", sections=sections, problems=problems
    )


class _Reader(HTMLParser):
    def __init__(self, *, content_element: str | None) -> None:
        super().__init__(convert_charrefs=True)
        self.content_element = content_element
        self.in_content = 0 if content_element else 1
        self.skipping: list[str] = []
        self.builder = SectionBuilder()
        self.text: list[str] = []
        self.heading: str | None = None
        self.heading_id: str | None = None
        self.pre = 0
        self.cells: list[str] | None = None
        self.rows: list[list[str]] = []
        self.depth = 0
        self.too_deep = False
        self.in_title = False
        self.page_title: str | None = None
        self.h1: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.depth += 1
            self.too_deep |= self.depth > MAX_DEPTH
        if tag == self.content_element:
            self.in_content += 1
        if tag in _SKIP:
            self.skipping.append(tag)
        elif tag == "title":
            self.in_title = True
        elif tag in _HEADINGS:
            self._flush()
            self.heading, self.heading_id = tag, dict(attrs).get("id")
        elif tag in _BLOCK or tag in {"table", "pre"}:
            self._flush()
            self.pre += tag == "pre"
        elif tag == "tr":
            self._flush()
            self.cells = []
        elif tag == "br":
            self.text.append("\n" if self.pre else " ")

    def handle_endtag(self, tag: str) -> None:
        self.depth = max(0, self.depth - 1)
        if tag in self.skipping:  # ends what was left open inside it, too
            while self.skipping.pop() != tag:
                pass
            return
        if tag == "title":
            self.in_title = False
        elif tag in _HEADINGS:
            self._close_heading()
        elif tag in {"td", "th"} and self.cells is not None:
            self.cells.append(clean_line("".join(self.text)))
            self.text = []
        elif tag == "tr" and self.cells is not None:
            self.rows.append(self.cells)
            self.cells = None
        elif tag == "table":
            self._close_table()
        elif tag in _BLOCK or tag == "pre":
            self._flush()
            self.pre = max(0, self.pre - (tag == "pre"))
        if tag == self.content_element:
            self.in_content = max(0, self.in_content - 1)

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """Read `<![anything]>` as browsers do: an unknown one is a comment, where the base class gives up."""
        try:
            return super().parse_marked_section(i, report)
        except AssertionError:
            return self.parse_bogus_comment(i)

    def handle_data(self, data: str) -> None:
        if self.in_title:
            self.page_title = clean_line((self.page_title or "") + data)
        elif self.in_content and not self.skipping:
            self.text.append(data)

    def finish(self) -> tuple[Section, ...]:
        """Close what the page left open and return the sections."""
        self._close_table()
        self._flush()
        return self.builder.finish()

    def _flush(self) -> None:
        joined = "".join(self.text)
        self.text = []
        if self.pre:
            self.builder.add_verbatim(joined)
        else:
            self.builder.add(joined)

    def _close_heading(self) -> None:
        name = clean_line("".join(self.text))
        self.text = []
        if self.heading == "h1" and self.h1 is None:
            self.h1 = name
        elif name:
            self.builder.start(name, anchor=self.heading_id or slug_of(name))
        self.heading = None

    def _close_table(self) -> None:
        rows = [" | ".join(row) for row in self.rows if any(row)]
        if rows:
            self.builder.add_verbatim("\n".join(f"| {row} |" for row in rows))
        self.rows = []
