"""Books (.epub): the chapters in the order of the spine, each read as the page that it is."""

import posixpath
from typing import Any
from urllib.parse import unquote

from penstock.knowledge.errors import LockedDocument, UnreadableDocument
from penstock.knowledge.parse.archives import DAMAGE, Archive, attribute, name_of
from penstock.knowledge.parse.html_page import parse_html
from penstock.knowledge.parse.text import clean_line
from penstock.knowledge.types import ParsedDocument, Section
from penstock.spec.knowledge import ParseRecipe, Properties


def parse_epub(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return a book's chapters, a heading each; raise `UnreadableDocument` when it is broken or locked."""
    with Archive(data, kind="book", suffix=".epub") as archive:
        if archive.has("META-INF/rights.xml"):
            raise LockedDocument("the book is locked by its seller.", hint="Use an unlocked copy.")
        try:
            return _read(archive, recipe)
        except UnreadableDocument:
            raise
        except DAMAGE as error:
            raise UnreadableDocument("the book is broken.", hint="Convert it anew.") from error


def _read(archive: Archive, recipe: ParseRecipe) -> ParsedDocument:
    container = archive.xml("META-INF/container.xml")
    place = (
        next(attribute(each, "full-path") for each in container.iter() if name_of(each) == "rootfile") or ""
    )
    package = archive.xml(place)
    files: dict[str, str] = {}
    spine: list[str] = []
    said: dict[str, str] = {}
    for each in package.iter():
        name = name_of(each)
        if name == "item":
            target = posixpath.join(posixpath.dirname(place), unquote(attribute(each, "href") or ""))
            files[attribute(each, "id") or ""] = posixpath.normpath(target)
        elif name == "itemref":
            spine.append(attribute(each, "idref") or "")
        elif name in {"title", "language", "creator"} and clean_line(each.text or ""):
            said.setdefault(name, clean_line(each.text or ""))
    sections: list[Section] = []
    problems: list[str] = []
    for number, idref in enumerate(spine, start=1):
        part = files.get(idref, "")
        if not archive.has(part):
            problems.append(f"chapter {number} is not in the file")
            continue
        try:
            page = parse_html(archive.read(part), recipe)
        except DAMAGE as error:
            problems.append(f"chapter {number} is broken and was not read ({type(error).__name__})")
            continue
        problems += [f"chapter {number}: {problem}" for problem in page.problems]
        sections += [_below(each, page.title, number) for each in page.sections]
    return ParsedDocument(
        title=said.get("title"),
        media_type="application/epub+zip",
        sections=tuple(sections),
        problems=tuple(problems),
        language=said.get("language", "")[:2].lower() or None,
        n_pages=len(spine),
        properties=Properties(values={"author": said["creator"]} if "creator" in said else {}),
    )


def _below(section: Section, chapter: str | None, number: int) -> Section:
    path: tuple[Any, ...] = (chapter,) if chapter else ()
    anchor = f"chapter={number}"
    return Section(
        heading=section.heading or chapter,
        text=section.text,
        anchor=f"{anchor}&{section.anchor}" if section.anchor else anchor,
        headings=(*path, *section.headings),
        page=number,
        kind=section.kind,
    )
