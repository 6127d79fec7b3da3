"""Word documents (.docx): headings, lists with their marks, tables, notes, text boxes, inserted text.

Reads the parts themselves: readers on top lose lists, inserted text and boxes. What is not read (comments,
deleted text, images, running heads) is counted.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse.archives import DAMAGE, Archive, attribute, name_of
from penstock.knowledge.parse.dates import read_date
from penstock.knowledge.parse.tables import spread
from penstock.knowledge.parse.text import SectionBuilder, clean_line, count_words, slug_of
from penstock.knowledge.parse.word_styles import Numbering, Styles
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe, Properties, PropertyValue

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_BREAKS = {"tab": " ", "br": " ", "cr": " ", "noBreakHyphen": "-", "ptab": " "}
_UNREAD = {"drawing": "images", "pict": "images", "object": "embedded objects", "chart": "charts"}


def parse_docx(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return the sections of a Word document; raise `UnreadableDocument` when it is broken or a bomb."""
    with Archive(data, kind="Word document", suffix=".docx") as archive:
        try:
            return _Reader(archive, recipe).read()
        except UnreadableDocument:
            raise
        except DAMAGE as error:
            raise UnreadableDocument("the Word document is broken.", hint="Open and save it anew.") from error


class _Reader:
    def __init__(self, archive: Archive, recipe: ParseRecipe) -> None:
        self.archive = archive
        self.recipe = recipe
        self.styles = Styles(archive)
        self.numbering = Numbering(archive)
        self.builder = SectionBuilder()
        self.counts: Counter[str] = Counter()
        self.lines: list[str] = []
        self.notes: list[tuple[str, str]] = []
        self.boxes: list[Any] = []
        self.title: str | None = None

    def read(self) -> ParsedDocument:
        """Read all parts that hold text."""
        body = next((each for each in self.archive.xml("word/document.xml") if name_of(each) == "body"), None)
        if body is None:
            raise ValueError("no body")
        core, values = self._read_core()
        blocks = list(_blocks(body))
        main = [each for each in blocks if self._level(each) == 1]
        title_block = main[0] if len(main) == 1 else None
        for block in blocks:
            self._write(block, title_block)
        self._end_list()
        self._write_notes()
        problems = self._problems()
        return ParsedDocument(
            title=self.title or core.get("title"),
            media_type=MEDIA_TYPE,
            sections=self.builder.finish(),
            problems=problems,
            properties=Properties(values=values, modified_ns=read_date(core.get("modified"))),
        )

    def _write(self, block: Any, title_block: Any) -> None:
        if name_of(block) == "tbl":
            self._end_list()
            self._write_table(block)
        elif name_of(block) == "p":
            self._write_paragraph(block, title_block)
        boxes, self.boxes = self.boxes, []
        for box in boxes:
            self._end_list()
            for inner in _blocks(box):
                self._write(inner, None)

    def _write_paragraph(self, block: Any, title_block: Any) -> None:
        text = clean_line(self._text(block))
        level = self._level(block)
        nothing_yet = not self.builder.paragraphs and not self.builder.sections
        if level is not None and text:
            self._end_list()
            if self.title is None and nothing_yet and (level == 0 or block is title_block):
                self.title = text
            else:
                self.builder.start(text, anchor=slug_of(text), level=max(1, level))
        elif text and (mark := self.numbering.mark(block, self.styles)) is not None:
            self.lines.append(f"{mark}{text}")
        elif text:
            self._end_list()
            self.builder.add(text)

    def _level(self, block: Any) -> int | None:
        return self.styles.level(block) if name_of(block) == "p" else None

    def _end_list(self) -> None:
        if self.lines:
            self.builder.add_verbatim("\n".join(self.lines))
        self.lines = []

    def _write_table(self, table: Any) -> None:
        rows: list[list[str]] = []
        above: dict[int, str] = {}
        for row in _children(table, "tr"):
            cells: list[tuple[str, int, int]] = []
            column = 0
            for cell in _children(row, "tc"):
                wide, merge = _cell_shape(cell)
                text = clean_line(" ".join(self._text(each) for each in _blocks(cell)))
                if merge == "continue":
                    text = above.get(column, text)
                elif merge == "restart":
                    above[column] = text
                cells.append((text, wide, 1))
                column += wide
            rows.append(spread(cells, {}))
        if max((len(row) for row in rows), default=0) > 1:
            self.builder.add_table(rows)
        else:
            for row in rows:
                self.builder.add(" ".join(row))

    def _text(self, element: Any) -> str:
        return "".join(self._pieces(element))

    def _pieces(self, element: Any) -> Iterator[str]:
        """Yield what a reader of the page sees; boxes wait until the paragraph is whole."""
        for child in element:
            name = name_of(child)
            if name == "t":
                yield child.text or ""
            elif name in _BREAKS:
                yield _BREAKS[name]
            elif name == "delText":
                self.counts["words of deleted text"] += count_words(child.text or "")
            elif name in {"footnoteReference", "endnoteReference"}:
                yield self._note(name.removesuffix("Reference"), attribute(child, "id") or "")
            elif name == "txbxContent":
                self.boxes.append(child)
            elif name == "p":
                yield " "
                yield from self._pieces(child)
            elif name not in {"Fallback", "instrText", "pPr", "rPr", "sdtPr", "tblPr", "tcPr"}:
                if name in _UNREAD and not _has_box(child):
                    self.counts[_UNREAD[name]] += 1
                yield from self._pieces(child)

    def _note(self, kind: str, own_id: str) -> str:
        self.notes.append((kind, own_id))
        return f"[{len(self.notes)}]"

    def _write_notes(self) -> None:
        notes, self.notes = self.notes, []
        if not notes:
            return
        texts: dict[tuple[str, str], str] = {}
        for kind in ("footnote", "endnote"):
            part = f"word/{kind}s.xml"
            if self.archive.has(part):
                for note in self.archive.xml(part):
                    texts[kind, attribute(note, "id") or ""] = clean_line(self._text(note))
        self.builder.start("Notes", anchor="notes", level=1)
        for number, key in enumerate(notes, start=1):
            if key not in texts:
                self.counts["notes that are not in the file"] += 1
            self.builder.add(f"[{number}] {texts.get(key, '')}")

    def _read_core(self) -> tuple[dict[str, str], dict[str, PropertyValue]]:
        return read_core_properties(self.archive)

    def _problems(self) -> tuple[str, ...]:
        if self.archive.has("word/comments.xml"):
            comments = sum(name_of(each) == "comment" for each in self.archive.xml("word/comments.xml"))
            self.counts["comments"] += comments
        heads = [name for name in self.archive.names if name.startswith(("word/header", "word/footer"))]
        for name in heads:
            text = clean_line(" ".join(self._text(each) for each in self.archive.xml(name)))
            if text and self.recipe.boilerplate:
                self.counts["words of headers and footers"] += count_words(text)
            elif text:
                self.builder.start(None, level=1)
                self.builder.add(text)
        if self.archive.has("word/vbaProject.bin"):
            self.counts["macro projects"] += 1
        return tuple(f"{count} {what} were left out" for what, count in self.counts.items() if count)


def read_core_properties(archive: Archive) -> tuple[dict[str, str], dict[str, PropertyValue]]:
    """Return an office file's title and times, and what counts as properties. A broken part is no loss of text."""
    found: dict[str, str] = {}
    if archive.has("docProps/core.xml"):
        try:
            for each in archive.xml("docProps/core.xml"):
                text = clean_line(each.text or "")
                if text:
                    found[name_of(each)] = text
        except DAMAGE:
            return {}, {}
    values: dict[str, PropertyValue] = {}
    if "creator" in found:
        values["author"] = found["creator"]
    if tags := [each.strip() for each in found.get("keywords", "").split(",") if each.strip()]:
        values["tags"] = tags
    return found, values


def _blocks(parent: Any) -> Iterator[Any]:
    for child in parent:
        name = name_of(child)
        if name in {"p", "tbl"}:
            yield child
        elif name in {"sdt", "sdtContent", "customXml", "smartTag", "ins", "moveTo"}:
            yield from _blocks(child)


def _children(parent: Any, name: str) -> Iterator[Any]:
    for child in parent:
        if name_of(child) == name:
            yield child
        elif name_of(child) in {"sdt", "sdtContent", "customXml", "ins"}:
            yield from _children(child, name)


def _cell_shape(cell: Any) -> tuple[int, str | None]:
    wide, merge = 1, None
    for properties in _children(cell, "tcPr"):
        for each in properties:
            if name_of(each) == "gridSpan":
                wide = min(int(attribute(each, "val") or 1), 100)
            elif name_of(each) == "vMerge":
                merge = attribute(each, "val") or "continue"
    return wide, merge


def _has_box(element: Any) -> bool:
    return any(name_of(each) == "txbxContent" for each in element.iter())
