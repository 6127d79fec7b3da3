"""OpenDocument texts (.odt): headings, paragraphs, lists and tables."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse.archives import DAMAGE, Archive, attribute, name_of
from penstock.knowledge.parse.dates import read_date
from penstock.knowledge.parse.html_parts import OpenList
from penstock.knowledge.parse.tables import spread
from penstock.knowledge.parse.text import SectionBuilder, clean_line, slug_of
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe, Properties

MEDIA_TYPE = "application/vnd.oasis.opendocument.text"
_UNREAD = {"image": "images", "annotation": "comments", "object": "embedded objects"}
MAX_REPEATED = 100


def parse_odt(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return the sections of a text; raise `UnreadableDocument` when it is broken or locked."""
    del recipe
    with Archive(data, kind="OpenDocument text", suffix=".odt") as archive:
        try:
            return _Reader(archive).read()
        except UnreadableDocument:
            raise
        except DAMAGE as error:
            raise UnreadableDocument("the document is broken.", hint="Open and save it anew.") from error


class _Reader:
    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.builder = SectionBuilder()
        self.counts: Counter[str] = Counter()
        self.title: str | None = None

    def read(self) -> ParsedDocument:
        """Read the body."""
        root = self.archive.xml("content.xml")
        text = next(
            each for each in root.iter() if name_of(each) == "text" and name_of(each.getparent()) == "body"
        )
        for block in text:
            self._write(block)
        said = self._read_meta()
        sections = self.builder.finish()
        return ParsedDocument(
            title=self.title or said.get("title"),
            media_type=MEDIA_TYPE,
            sections=sections,
            problems=tuple(f"{count} {what} were left out" for what, count in self.counts.items()),
            properties=Properties(
                values={"author": said["creator"]} if "creator" in said else {},
                modified_ns=read_date(said.get("date")),
            ),
        )

    def _write(self, block: Any) -> None:
        name = name_of(block)
        if name == "h":
            heading = clean_line(self._text(block))
            level = attribute(block, "outline-level") or "1"
            if heading:
                self.builder.start(
                    heading, anchor=slug_of(heading), level=int(level) if level.isdigit() else 1
                )
        elif name == "p":
            line = clean_line(self._text(block))
            is_title = (attribute(block, "style-name") or "").lower() == "title"
            if line and is_title and self.title is None:
                self.title = line
            else:
                self.builder.add(line)
        elif name == "list":
            items = OpenList()
            self._write_list(block, items)
            self.builder.add_verbatim("\n".join(items.lines))
        elif name == "table":
            self.builder.add_table([self._row(row) for row in block.iter() if name_of(row) == "table-row"])
        elif name == "tracked-changes":
            self.counts["deleted passages"] += sum(name_of(each) == "deletion" for each in block.iter())
        elif name not in {"sequence-decls", "forms", "variable-decls"}:
            for inner in block:
                self._write(inner)

    def _write_list(self, block: Any, items: OpenList) -> None:
        items.open_list(numbered=False)
        for item in block:
            mark: str | None = items.mark()
            for inner in item:
                if name_of(inner) == "list":
                    self._write_list(inner, items)
                else:
                    items.add(self._text(inner), mark)
                    mark = None
        items.close_list()

    def _row(self, row: Any) -> list[str]:
        cells = []
        for cell in row:
            if name_of(cell) in {"table-cell", "covered-table-cell"}:
                repeated = attribute(cell, "number-columns-repeated") or "1"
                wide = min(int(repeated), MAX_REPEATED) if repeated.isdigit() else 1
                cells.append((clean_line(" ".join(self._text(each) for each in cell)), wide, 1))
        return spread(cells, {})

    def _text(self, element: Any) -> str:
        return "".join(self._pieces(element))

    def _pieces(self, element: Any) -> Iterator[str]:
        yield element.text or ""
        for child in element:
            name = name_of(child)
            if name in _UNREAD:
                self.counts[_UNREAD[name]] += 1
            if name in {"tab", "line-break", "s"}:
                yield " "
            elif name == "note":
                yield " ("
                yield from self._pieces(child)
                yield ")"
            elif name not in {"annotation", "note-citation", "desc", "title"}:
                yield from self._pieces(child)
            yield child.tail or ""

    def _read_meta(self) -> dict[str, str]:
        if not self.archive.has("meta.xml"):
            return {}
        try:
            root = self.archive.xml("meta.xml")
        except DAMAGE:
            return {}
        return {
            name_of(each): clean_line(each.text) for each in root.iter() if each.text and each.text.strip()
        }
