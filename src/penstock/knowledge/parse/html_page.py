"""HTML pages: the main content, without navigation, headers, footers and scripts; what is left out is counted.

`<main>` or `<article>` marks the content where a page has one and it holds a fair share of the page's words;
otherwise everything in `<body>` outside boilerplate counts.
"""

import re
from collections import Counter
from typing import Literal

from penstock.base.web_addresses import web_address
from penstock.knowledge.parse.dates import read_date
from penstock.knowledge.parse.html_parts import OpenList, OpenTable
from penstock.knowledge.parse.html_tokens import Tokenizer
from penstock.knowledge.parse.text import SectionBuilder, clean_line, count_words, decode_text, slug_of
from penstock.knowledge.types import ParsedDocument, Section
from penstock.spec.knowledge import ParseRecipe, Properties, PropertyValue

_UNSEEN = frozenset({"script", "style", "template", "datalist"})
_UNDRAWN = frozenset({"title", "desc", "metadata", "defs", "symbol"})
"""Parts of a drawing (SVG) that are not seen where they stand."""
_CONTROLS = frozenset({"button", "select", "textarea", "iframe"})
_AROUND = frozenset({"nav", "header", "footer", "aside"})
_AROUND_ROLES = frozenset({"navigation", "banner", "contentinfo", "search", "complementary"})
_VOID = frozenset(
    {"br", "hr", "img", "input", "meta", "link", "area", "base", "col", "embed", "source", "track", "wbr"}
)
_BLOCK = frozenset(
    {"p", "div", "section", "article", "main", "blockquote", "dd", "dt", "dl", "figcaption", "figure", "form",
     "fieldset", "legend", "address", "details", "summary", "caption", "hr", "body", "nav", "header", "footer",
     "aside"}
)  # fmt: skip
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_META = frozenset({"author", "description", "keywords", "date"})
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([A-Za-z0-9_:.-]{2,40})", re.IGNORECASE)
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_CONSENT = re.compile(
    r"(?:^|[\s_-])(?:eu|gdpr|privacy)?[_-]?(?:cookies?|consent|gdpr)[_-]?(?:consent|law)?[_-]?"
    r"(?:banner|bar|modal|popup|pop-up|overlay|dialog|wall|toast|prompt|popover|lightbox|manager)s?(?:$|[\s_-])|"
    r"onetrust|cybotcookiebot|usercentrics|didomi-|qc-cmp2?-|truste[_-]|osano-cm|cky-consent|cmplz-cookie|iubenda-cs|"
    r"sp_message_container|(?:^|\s)cc-(?:window|banner)(?:$|\s)",
    re.IGNORECASE,
)
"""Names of banners that ask for consent; the words alone name pages about cookies and about the law as well."""
_OWNED = re.compile(r"<(main|article)[\s>]|role\s*=\s*[\"']?main\b", re.IGNORECASE)
_CODE_CLASS = re.compile(r"\b(?:language|lang|highlight-source)-([\w+#-]+)")
MAX_DEPTH = 500
FAIR_SHARES = {"main": 0.5, "role": 0.5, "article": 0.8}
"""With less than this share of the words outside of menus and the like, what is marked is one part of the page among
others (a page may hold any number of articles), and the whole page is read."""
_MARKED = {"main": "<main>", "role": "the element of role main", "article": "<article>"}
LeftOut = Literal["around", "consent", "hidden", "unseen", "controls"]


def parse_html(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return the sections of the page's main content; the title is its `<h1>`, else its `<title>`."""
    text, problems = _decode(data)
    content = _content_element(text) if recipe.main_content else None
    reader = _read(text, content, recipe)
    if content and reader.n_inside < FAIR_SHARES[content] * (reader.n_inside + reader.n_outside):
        reader = _read(text, None, recipe)
    left_out = reader.left_out
    if reader.skipping and reader.skipping[0][1] != "unseen":
        problems += (f"<{reader.skipping[0][0]}> is never closed; the text after it was left out",)
    elif reader.skipping:
        problems += (f"<{reader.skipping[0][0]}> is never closed; what follows it is no text",)
    if left_out["around"]:
        problems += (f"{left_out['around']} words of menus, headers, footers and asides were left out",)
    if reader.content_element and reader.n_outside:
        problems += (f"{reader.n_outside} words outside of {_MARKED[reader.content_element]} were left out",)
    if left_out["consent"]:
        problems += (f"{left_out['consent']} words of banners that ask for consent were left out",)
    if left_out["hidden"]:
        problems += (f"{left_out['hidden']} words of hidden elements were left out",)
    if left_out["controls"]:
        problems += (f"{left_out['controls']} words of buttons and fields were left out",)
    if reader.n_images:
        problems += (f"{reader.n_images} images were not read",)
    if reader.too_deep:
        problems += (f"elements nested deeper than {MAX_DEPTH} were read as flat text",)
    return ParsedDocument(
        title=reader.h1 or clean_line("".join(reader.title_parts)) or reader.hidden_h1,
        media_type="text/html",
        sections=reader.sections,
        problems=problems,
        language=reader.language,
        properties=reader.properties(),
    )


def _decode(data: bytes) -> tuple[str, tuple[str, ...]]:
    text, problems = decode_text(data)
    found = _CHARSET.search(data[:4096])
    if found is not None and (problems or found[1].lower().startswith(b"iso-2022")):
        name = found[1].decode("ascii")
        # A page that calls itself Latin-1 is read as Windows-1252 (WHATWG Encoding, section 4.2).
        name = "cp1252" if name.lower() in {"iso-8859-1", "latin1", "us-ascii", "ascii", "utf-8"} else name
        try:
            return data.decode(name), ()
        except (LookupError, ValueError):
            return text, problems
    return text, problems


def _content_element(text: str) -> str | None:
    marks = {(match[1] or "role").lower() for match in _OWNED.finditer(text)}
    return next((each for each in ("main", "role", "article") if each in marks), None)


def _read(text: str, content: str | None, recipe: ParseRecipe) -> "_Reader":
    reader = _Reader(content_element=content, keep_around=not recipe.main_content)
    reader.read(text)
    reader.sections = reader.finish()
    return reader


class _Reader(Tokenizer):
    def __init__(self, *, content_element: str | None, keep_around: bool) -> None:
        super().__init__()
        self.content_element = content_element
        self.keep_around = keep_around
        self.content_tags: list[str] = []
        self.skipping: list[tuple[str, LeftOut]] = []
        self.n_skipping: Counter[str] = Counter()
        self.n_drawings = 0
        self.left_out: Counter[LeftOut] = Counter()
        self.n_inside = self.n_outside = self.n_images = 0
        self.builder = SectionBuilder()
        self.sections: tuple[Section, ...] = ()
        self.text: list[str] = []
        self.heading: str | None = None
        self.heading_id: str | None = None
        self.block_id: str | None = None
        self.pre = 0
        self.code_language = ""
        self.tables: list[OpenTable] = []
        self.list = OpenList()
        self.item_mark: str | None = None
        self.in_list = 0
        self.depth = 0
        self.too_deep = False
        self.in_title = False
        self.title_parts: list[str] = []
        self.h1: str | None = None
        self.hidden_h1: str | None = None
        self.language: str | None = None
        self.found: dict[str, str] = {}

    @property
    def in_content(self) -> bool:
        """Whether text counts, by the element that marks the content."""
        return self.content_element is None or bool(self.content_tags)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in _VOID:
            self.depth += 1
            self.too_deep |= self.depth > MAX_DEPTH
        if self.content_tags and tag == self.content_tags[0]:
            self.content_tags.append(tag)
        elif self._marks_content(tag, values) and not self.content_tags:
            self._flush()
            self.content_tags.append(tag)
        if tag not in _VOID and (reason := self._reason_to_skip(tag, values)):
            if not self.skipping and tag in _BLOCK and self.heading is None:
                self._flush()
            self.skipping.append((tag, reason))
            self.n_skipping[tag] += 1
        elif tag == "html":
            self.language = _language_of(values.get("lang") or values.get("xml:lang"))
        elif tag in {"meta", "link"}:
            self._note_meta(tag, values)
        elif tag == "title":
            self.in_title = not self.skipping
        elif not self.skipping:
            self._open(tag, values)
        elif tag == "h1":
            self.hidden_h1 = self.hidden_h1 or ""

    def _open(self, tag: str, values: dict[str, str | None]) -> None:
        if tag in _HEADINGS:
            self._flush()
            if self.tables:
                self._lay_out()
            self.heading, self.heading_id = tag, values.get("id") or self.block_id
            self.block_id = None
        elif tag in {"ul", "ol", "menu"}:
            self._flush()
            self.in_list += 1
            self.list.open_list(numbered=tag == "ol")
        elif tag == "li":
            self._flush()
            if self.in_list:
                self.item_mark = self.list.mark()
        elif tag == "table":
            self._open_table(values)
        elif tag in {"tr", "td", "th"} and self.tables:
            self._open_cell(tag, values)
        elif tag in _BLOCK or tag == "pre":
            self._flush()
            self.pre += tag == "pre"
            self._note_language(values)
            self.block_id = values.get("id") or (self.block_id if tag != "p" else None)
        elif tag == "code" and self.pre:
            self._note_language(values)
        elif tag == "svg":
            self.n_drawings += 1
        elif self.n_drawings and tag in {"text", "tspan"}:
            self._open_label(tag, values)
        elif tag == "br":
            self.text.append("\n" if self.pre else " ")
        elif tag == "img" and self.in_content:
            self.n_images += 1

    def _open_label(self, tag: str, values: dict[str, str | None]) -> None:
        """Begin a label of a drawing, or a line of one (which says where it stands)."""
        if tag == "text" and self.heading is None:
            self._flush()
        elif tag == "text" or not values.keys().isdisjoint({"x", "y", "dy"}):
            self.text.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self.depth = max(0, self.depth - 1)
        if self.n_skipping[tag]:  # ends what was left open inside it, too
            ended = ""
            while ended != tag:
                ended = self.skipping.pop()[0]
                self.n_skipping[ended] -= 1
            return
        if tag == "title":
            self.in_title = False
        elif not self.skipping:
            self._close(tag)
        if self.content_tags and tag == self.content_tags[0]:
            self._flush()
            self.content_tags.pop()

    def _close(self, tag: str) -> None:
        if tag in _HEADINGS:
            self._close_heading()
        elif tag in {"td", "th"} and self.tables:
            self.tables[-1].close_cell(self._take_text())
        elif tag == "tr" and self.tables:
            self.tables[-1].close_row(self._take_text())
        elif tag == "table" and self.tables:
            self._close_table()
        elif tag in {"ul", "ol", "menu"} and self.in_list:
            self._flush()
            self.in_list -= 1
            if self.list.close_list():
                self._close_list()
        elif tag == "svg":
            self.n_drawings = max(0, self.n_drawings - 1)
        elif tag == "text" and self.n_drawings:
            self._open_label(tag, {})
        elif tag in _BLOCK or tag in {"pre", "li"}:
            self._flush()
            self.pre = max(0, self.pre - (tag == "pre"))

    def handle_data(self, data: str) -> None:
        if self.in_title:
            self.title_parts.append(data)
        elif self.skipping:
            reason = self.skipping[0][1]
            self.left_out[reason] += count_words(data)
            if self.hidden_h1 == "" and reason == "around":
                self.hidden_h1 = clean_line(data)
        elif self.in_content:
            self.n_inside += count_words(data)
            self.text.append(data)
        else:
            self.n_outside += count_words(data)

    def finish(self) -> tuple[Section, ...]:
        """Close what the page left open and return the sections."""
        while self.tables:
            self._close_table()
        self._flush()
        self._close_list()
        return self.builder.finish()

    def properties(self) -> Properties:
        """Return what the page says of itself."""
        values: dict[str, PropertyValue] = {
            name: text for name, text in self.found.items() if name in _META and name != "keywords"
        }
        if tags := [each.strip() for each in self.found.get("keywords", "").split(",") if each.strip()]:
            values["tags"] = tags
        return Properties(
            values=values,
            language=self.language,
            url=web_address(self.found.get("canonical")),
            modified_ns=read_date(self.found.get("modified")),
        )

    def _marks_content(self, tag: str, values: dict[str, str | None]) -> bool:
        if self.content_element == "role":
            return (values.get("role") or "").lower() == "main"
        return tag == self.content_element

    def _reason_to_skip(self, tag: str, values: dict[str, str | None]) -> LeftOut | None:
        if tag in _UNSEEN:
            return "unseen"
        if tag in _CONTROLS:
            return "controls"
        if self.n_drawings and tag in _UNDRAWN:
            return "hidden"
        if tag == "noscript" or "hidden" in values or _HIDDEN.search(values.get("style") or ""):
            return "hidden"
        if self.keep_around or tag in {"html", "body", "main"}:
            return None
        if tag in {"header", "footer"} and self.content_tags:
            return None  # of the article, which may hold its heading
        role = (values.get("role") or "").lower()
        names = f"{values.get('id') or ''} {values.get('class') or ''}"
        if tag in {"div", "section", "dialog", "form"} and len(names) < 500 and _CONSENT.search(names):
            return "consent"
        return "around" if tag in _AROUND or role in _AROUND_ROLES else None

    def _note_meta(self, tag: str, values: dict[str, str | None]) -> None:
        if tag == "link":
            if (values.get("rel") or "").lower() == "canonical" and values.get("href"):
                self.found.setdefault("canonical", clean_line(values["href"] or ""))
            return
        name = (values.get("name") or values.get("property") or "").lower()
        content = clean_line(values.get("content") or "")[:2000]
        if content and name in _META:
            self.found.setdefault(name, content)
        elif content and name in {"article:modified_time", "last-modified", "dcterms.modified"}:
            self.found.setdefault("modified", content)

    def _note_language(self, values: dict[str, str | None]) -> None:
        if self.pre and (found := _CODE_CLASS.search(values.get("class") or "")):
            self.code_language = found[1]

    def _take_text(self) -> str:
        joined = "".join(self.text)
        self.text = []
        return joined

    def _flush(self) -> None:
        if self.tables and self.tables[-1].in_cell:
            self.text.append(" ")  # blocks in a cell are words of one line
            return
        joined = self._take_text()
        if self.pre:
            self._close_list()
            self.builder.add_code(joined, self.code_language)
            self.code_language = ""
        elif self.in_list:
            self.list.add(joined, self.item_mark)
            if joined.strip():
                self.item_mark = None
        else:
            self.builder.add(joined)

    def _close_list(self) -> None:
        if self.list.lines:
            self.builder.add_verbatim("\n".join(self.list.lines))
        self.list.lines = []

    def _close_heading(self) -> None:
        name = clean_line(self._take_text())
        if self.heading == "h1" and self.h1 is None and name:
            self.h1 = name
        elif name:
            self._close_list()
            level = int(self.heading[1]) if self.heading else 2
            self.builder.start(name, anchor=self.heading_id or slug_of(name), level=level)
        self.heading = None

    def _open_table(self, values: dict[str, str | None]) -> None:
        if self.tables:
            self._lay_out()
        self._flush()
        self._close_list()
        self.tables.append(OpenTable(is_layout=(values.get("role") or "") in {"presentation", "none"}))

    def _open_cell(self, tag: str, values: dict[str, str | None]) -> None:
        table = self.tables[-1]
        if table.is_layout:
            self._flush()
        elif tag == "tr":
            table.open_row(self._take_text())
        else:
            table.open_cell(self._take_text(), values.get("colspan"), values.get("rowspan"))

    def _lay_out(self) -> None:
        """Take the open table for layout: its cells so far become paragraphs. Those around it are, already."""
        table = self.tables[-1]
        for text in table.take_texts():
            self.builder.add(text)
        if table.in_cell:
            table.close_cell("")
            self.builder.add(self._take_text())

    def _close_table(self) -> None:
        table = self.tables.pop()
        if not table.is_layout:
            table.close_row(self._take_text())
        if table.is_data():
            self.builder.add_table(table.rows)
        else:
            self._flush()
            for text in table.take_texts():
                self.builder.add(text)


def _language_of(tag: str | None) -> str | None:
    primary = (tag or "").strip().lower().replace("_", "-").partition("-")[0]
    return primary if len(primary) in {2, 3} and primary.isascii() and primary.isalpha() else None
