"""PowerPoint presentations (.pptx): one section a slide, with its title, text, tables and speaker's notes."""

import posixpath
from collections import Counter
from collections.abc import Iterator
from typing import Any

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse.archives import DAMAGE, Archive, attribute, name_of
from penstock.knowledge.parse.dates import read_date
from penstock.knowledge.parse.tables import spread
from penstock.knowledge.parse.text import SectionBuilder, clean_line, count_words
from penstock.knowledge.parse.word import read_core_properties
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe, Properties

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
_RUNNING = frozenset({"ftr", "sldNum", "dt", "hdr"})


def parse_pptx(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return a section a slide; raise `UnreadableDocument` when the file is broken or a bomb."""
    with Archive(data, kind="PowerPoint presentation", suffix=".pptx") as archive:
        try:
            return _Reader(archive, recipe).read()
        except UnreadableDocument:
            raise
        except DAMAGE as error:
            raise UnreadableDocument("the presentation is broken.", hint="Open and save it anew.") from error


class _Reader:
    def __init__(self, archive: Archive, recipe: ParseRecipe) -> None:
        self.archive = archive
        self.recipe = recipe
        self.builder = SectionBuilder()
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.related: dict[str, tuple[str, str]] = {}

    def read(self) -> ParsedDocument:
        """Read the slides in the order of the presentation."""
        core, values = read_core_properties(self.archive)
        slides = self._find_slides()
        first_title: str | None = None
        for number, part in enumerate(slides, start=1):
            title = self._read_slide(part, number)
            first_title = first_title or title
        self._count_parts()
        counts = (f"{count} {what} were left out" for what, count in self.counts.items() if count)
        return ParsedDocument(
            title=first_title or core.get("title"),
            media_type=MEDIA_TYPE,
            sections=self.builder.finish(),
            problems=(*self.problems, *counts),
            n_pages=len(slides),
            properties=Properties(values=values, modified_ns=read_date(core.get("modified"))),
        )

    def _find_slides(self) -> list[str]:
        root = self.archive.xml("ppt/presentation.xml")
        related = read_relations(self.archive, "ppt/presentation.xml")
        slides = []
        for each in root.iter():
            if name_of(each) == "sldId":
                target = related.get(_relation_id(each), ("", ""))[1]
                if self.archive.has(target):
                    slides.append(target)
                else:
                    self.problems.append(f"slide {len(slides) + 1} is not in the file")
        return slides

    def _read_slide(self, part: str, number: int) -> str | None:
        try:
            root = self.archive.xml(part)
        except DAMAGE:
            self.problems.append(f"slide {number} is broken and was not read")
            return None
        self.related = read_relations(self.archive, part)
        if attribute(root, "show") == "0":
            self.problems.append(f"slide {number} is hidden; it was read")
        shapes = list(_shapes(root))
        title = next((text for each in shapes if _placeholder(each) in {"title", "ctrTitle"}
                      if (text := _plain(each))), None)  # fmt: skip
        self.builder.start(title or f"Slide {number}", anchor=f"slide={number}", level=1, page=number)
        before = len(self.builder.paragraphs)
        for shape in shapes:
            if _placeholder(shape) not in {"title", "ctrTitle"}:
                self._read_shape(shape)
        self._read_notes()
        if len(self.builder.paragraphs) == before and title is None:
            self.problems.append(f"slide {number} holds no text")
            self.builder.heading = None
        return title

    def _read_shape(self, shape: Any) -> None:
        name = name_of(shape)
        if name == "pic":
            self.counts["images"] += 1
        elif name == "graphicFrame":
            self._read_frame(shape)
        elif _placeholder(shape) in _RUNNING and self.recipe.boilerplate:
            self.counts["words of running heads"] += count_words(_plain(shape))
        else:
            is_list = _placeholder(shape) in {"body", "obj", ""}
            self._write_paragraphs(shape, is_list=is_list)

    def _read_frame(self, frame: Any) -> None:
        for each in frame.iter():
            name = name_of(each)
            if name == "tbl":
                self.builder.add_table([_row(row) for row in each if name_of(row) == "tr"])
                return
            if name == "relIds":
                part = self.related.get(attribute(each, "dm") or "", ("", ""))[1]
                if self.archive.has(part):
                    self._write_paragraphs(self.archive.xml(part), is_list=True)
                return
            if name == "chart":
                self.counts["charts"] += 1
                return
        self.counts["embedded objects"] += 1

    def _write_paragraphs(self, shape: Any, *, is_list: bool) -> None:
        lines = []
        for paragraph in shape.iter():
            if name_of(paragraph) == "p" and (text := clean_line(_text(paragraph))):
                level = next((attribute(each, "lvl") for each in paragraph if name_of(each) == "pPr"), None)
                lines.append((min(int(level), 8) if level and level.isdigit() else 0, text))
        if is_list and len(lines) > 1:
            self.builder.add_verbatim("\n".join(f"{'  ' * level}- {text}" for level, text in lines))
        else:
            for _, text in lines:
                self.builder.add(text)

    def _read_notes(self) -> None:
        for kind, target in self.related.values():
            if kind.endswith("/notesSlide") and self.archive.has(target):
                for shape in _shapes(self.archive.xml(target)):
                    if _placeholder(shape) == "body" and (text := _plain(shape)):
                        self.builder.add(f"Notes: {text}")

    def _count_parts(self) -> None:
        for name in self.archive.names:
            if name.startswith("ppt/comments/"):
                self.counts["comment lists"] += 1
            elif name.startswith("ppt/media/") and name.endswith((".mp4", ".mp3", ".wav", ".m4a", ".mov")):
                self.counts["recordings"] += 1
            elif name == "ppt/vbaProject.bin":
                self.counts["macro projects"] += 1


def read_relations(archive: Archive, part: str) -> dict[str, tuple[str, str]]:
    """Return type and target of each relation of a part, by id."""
    folder, name = posixpath.split(part)
    place = f"{folder}/_rels/{name}.rels"
    found: dict[str, tuple[str, str]] = {}
    if archive.has(place):
        for each in archive.xml(place):
            target = attribute(each, "Target") or ""
            whole = target.lstrip("/") if target.startswith("/") else posixpath.join(folder, target)
            found[attribute(each, "Id") or ""] = (
                attribute(each, "Type") or "",
                posixpath.normpath(whole),
            )
    return found


def _relation_id(element: Any) -> str:
    return next(
        (str(value) for key, value in element.attrib.items() if key.endswith("}id")),
        "",
    )


def _shapes(parent: Any) -> Iterator[Any]:
    for child in parent:
        name = name_of(child)
        if name in {"sp", "pic", "graphicFrame", "cxnSp"}:
            yield child
        elif name in {"cSld", "spTree", "grpSp", "AlternateContent", "Choice"}:
            yield from _shapes(child)


def _placeholder(shape: Any) -> str | None:
    """Return the kind of placeholder, "" for one of no kind (a body), None for a box of its own."""
    for each in shape.iter():
        if name_of(each) == "ph":
            return attribute(each, "type") or ""
        if name_of(each) == "txBody":
            return None
    return None


def _plain(shape: Any) -> str:
    return clean_line(" ".join(_text(each) for each in shape.iter() if name_of(each) == "p"))


def _text(paragraph: Any) -> str:
    pieces = []
    for each in paragraph.iter():
        if name_of(each) == "t":
            pieces.append(each.text or "")
        elif name_of(each) == "br":
            pieces.append(" ")
    return "".join(pieces)


def _row(row: Any) -> list[str]:
    cells = []
    for cell in row:
        if name_of(cell) == "tc" and attribute(cell, "hMerge") not in {"1", "true"}:
            wide = attribute(cell, "gridSpan") or "1"
            cells.append((_plain(cell), min(int(wide), 100) if wide.isdigit() else 1, 1))
    return spread(cells, {})
