"""What Word's styles and numbering say of a paragraph: its level as a heading, its mark as a list item."""

import re
from collections import Counter
from typing import Any

from penstock.knowledge.parse.archives import Archive, attribute, name_of

_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)
MAX_BASES = 20
MAX_LEVEL = 8


class Styles:
    """Names, outline levels and lists of the styles of a document."""

    def __init__(self, archive: Archive) -> None:
        self._names: dict[str, str] = {}
        self._based_on: dict[str, str] = {}
        self._outlines: dict[str, int] = {}
        self._lists: dict[str, tuple[str, int]] = {}
        if archive.has("word/styles.xml"):
            for style in archive.xml("word/styles.xml"):
                if name_of(style) == "style":
                    self._note(style)

    def level(self, paragraph: Any) -> int | None:
        """Return 0 for a title, 1 to 9 for a heading, None for other paragraphs."""
        properties = _find(paragraph, "pPr")
        outline = _value(properties, "outlineLvl")
        if outline is not None and outline.isdigit() and int(outline) < 9:
            return int(outline) + 1
        for style in self._chain(_value(properties, "pStyle")):
            name = self._names.get(style, style)
            if name.lower() == "title":
                return 0
            if found := _HEADING.match(name):
                return int(found[1])
            if style in self._outlines:
                return self._outlines[style] + 1
        return None

    def numbering(self, paragraph: Any) -> tuple[str, int] | None:
        """Return list id and level of a paragraph, by itself or its style."""
        properties = _find(paragraph, "pPr")
        own = _numbering(properties)
        if own is not None:
            return own
        chain = self._chain(_value(properties, "pStyle"))
        return next((self._lists[style] for style in chain if style in self._lists), None)

    def is_list(self, paragraph: Any) -> str | None:
        """Return the name of the style where it is one of Word's list styles."""
        for style in self._chain(_value(_find(paragraph, "pPr"), "pStyle")):
            name = self._names.get(style, style).lower()
            if name.startswith("list ") and not name.startswith("list paragraph"):
                return name
        return None

    def _note(self, style: Any) -> None:
        own_id = attribute(style, "styleId") or ""
        self._names[own_id] = _value(style, "name") or own_id
        if base := _value(style, "basedOn"):
            self._based_on[own_id] = base
        properties = _find(style, "pPr")
        outline = _value(properties, "outlineLvl")
        if outline is not None and outline.isdigit() and int(outline) < 9:
            self._outlines[own_id] = int(outline)
        if numbering := _numbering(properties):
            self._lists[own_id] = numbering

    def _chain(self, style: str | None) -> list[str]:
        chain: list[str] = []
        while style is not None and style not in chain and len(chain) < MAX_BASES:
            chain.append(style)
            style = self._based_on.get(style)
        return chain


class Numbering:
    """Counts list items as Word does: one counter a list and level, deeper ones begin anew."""

    def __init__(self, archive: Archive) -> None:
        self._formats: dict[tuple[str, int], str] = {}
        self._abstract: dict[str, str] = {}
        self._counters: Counter[tuple[str, int]] = Counter()
        if archive.has("word/numbering.xml"):
            for each in archive.xml("word/numbering.xml"):
                if name_of(each) == "abstractNum":
                    own_id = attribute(each, "abstractNumId") or ""
                    for level in each:
                        if name_of(level) == "lvl":
                            number = int(attribute(level, "ilvl") or 0)
                            self._formats[own_id, number] = _value(level, "numFmt") or "bullet"
                elif name_of(each) == "num":
                    own_id = attribute(each, "numId") or ""
                    self._abstract[own_id] = _value(each, "abstractNumId") or ""

    def mark(self, paragraph: Any, styles: Styles) -> str | None:
        """Return the mark that stands before the paragraph, with its indent; None where it is no list item."""
        found = styles.numbering(paragraph)
        if found is None:
            name = styles.is_list(paragraph)
            if name is None:
                return None
            found = (name, 0)
        list_id, level = found
        if list_id == "0":
            return None  # "no list" by the paragraph's own word
        kind = self._formats.get((self._abstract.get(list_id, ""), level))
        if kind is None:
            kind = "decimal" if "number" in list_id else "bullet"
        indent = "  " * min(level, MAX_LEVEL)
        for key in [each for each in self._counters if each[0] == list_id and each[1] > level]:
            del self._counters[key]
        if kind in {"bullet", "none"}:
            return f"{indent}- "
        self._counters[list_id, level] += 1
        return f"{indent}{_number(self._counters[list_id, level], kind)}. "


def _number(count: int, kind: str) -> str:
    if kind in {"lowerLetter", "upperLetter"} and count <= 26:
        letter = chr(ord("a") + count - 1)
        return letter if kind == "lowerLetter" else letter.upper()
    return str(count)


def _numbering(properties: Any) -> tuple[str, int] | None:
    found = _find(properties, "numPr")
    own_id = _value(found, "numId")
    if own_id is None:
        return None
    level = _value(found, "ilvl")
    return own_id, min(int(level), MAX_LEVEL) if level and level.isdigit() else 0


def _find(parent: Any, name: str) -> Any:
    return next((each for each in parent if name_of(each) == name), None) if parent is not None else None


def _value(parent: Any, name: str) -> str | None:
    found = _find(parent, name)
    return attribute(found, "val") if found is not None else None
