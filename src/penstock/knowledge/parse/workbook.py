"""Excel workbooks (.xlsx): small sheets are Markdown tables, larger ones a record a row; values as cells show them.

Sheets are read as streams. A merged cell's value counts for each cell it covers. Hidden sheets, rows and
columns are read and told of: what is hidden in a workbook is still searched for.
"""

import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse.archives import DAMAGE, Archive, attribute, name_of
from penstock.knowledge.parse.dates import read_date
from penstock.knowledge.parse.number_formats import built_in_format, show_number
from penstock.knowledge.parse.slides import read_relations
from penstock.knowledge.parse.text import SectionBuilder, clean_line
from penstock.knowledge.parse.word import read_core_properties
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe, Properties

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
TABLE_ROWS, TABLE_COLUMNS = 30, 12
"""A sheet up to this size is one Markdown table."""
MAX_COLUMNS = 2000
MAX_MERGED_CELLS = 200_000
_REFERENCE = re.compile(r"([A-Z]{1,3})(\d{1,7})")
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\s[^>]{0,200}?ref=\"([A-Z]{1,3}\d{1,7}:[A-Z]{1,3}\d{1,7})\"")
_ERRORS = frozenset({"#N/A", "#REF!", "#NAME?", "#DIV/0!", "#NULL!", "#NUM!", "#VALUE!"})


def parse_xlsx(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return the rows of each sheet; raise `UnreadableDocument` when the file is broken or a bomb."""
    del recipe
    with Archive(data, kind="workbook", suffix=".xlsx") as archive:
        try:
            return _Reader(archive).read()
        except UnreadableDocument:
            raise
        except DAMAGE as error:
            raise UnreadableDocument("the workbook is broken.", hint="Open and save it anew.") from error


@dataclass
class _Sheet:
    name: str
    rows: list[tuple[int, dict[int, str]]] = field(default_factory=list)


class _Reader:
    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.builder = SectionBuilder()
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.strings: list[str] = []
        self.formats: list[str] = []
        self.since_1904 = False

    def read(self) -> ParsedDocument:
        """Read the sheets in the order of the workbook."""
        core, values = read_core_properties(self.archive)
        root = self.archive.xml("xl/workbook.xml")
        related = read_relations(self.archive, "xl/workbook.xml")
        self.since_1904 = any(
            name_of(each) == "workbookPr" and attribute(each, "date1904") in {"1", "true"} for each in root
        )
        self._read_strings()
        self._read_formats()
        sheets = [each for each in root.iter() if name_of(each) == "sheet"]
        for number, sheet in enumerate(sheets, start=1):
            name = clean_line(attribute(sheet, "name") or "") or f"Sheet {number}"
            if (attribute(sheet, "state") or "visible") != "visible":
                self.problems.append(f"sheet {name!r} is hidden; it was read")
            relation = next((str(v) for k, v in sheet.attrib.items() if k.endswith("}id")), "")
            self._read_sheet(name, related.get(relation, ("", ""))[1], number)
        self._count_parts()
        counts = (f"{count} {what}" for what, count in self.counts.items() if count)
        return ParsedDocument(
            title=core.get("title"),
            media_type=MEDIA_TYPE,
            sections=self.builder.finish(),
            problems=(*self.problems, *counts),
            n_pages=len(sheets),
            properties=Properties(values=values, modified_ns=read_date(core.get("modified"))),
        )

    def _read_sheet(self, name: str, part: str, number: int) -> None:
        if not self.archive.has(part) or "chartsheet" in part:
            self.problems.append(f"sheet {name!r} holds no cells and was not read")
            return
        try:
            rows = list(self._rows(self.archive.read(part)))
        except DAMAGE as error:
            self.problems.append(f"sheet {name!r} is broken and was not read ({type(error).__name__})")
            return
        _write_sheet(self.builder, name, rows, page=number)

    def _rows(self, data: bytes) -> Iterator[tuple[int, dict[int, str]]]:
        """Yield number and cells by column of each row with any text."""
        from lxml import etree

        covered = self._merged(data)
        values: dict[tuple[int, int], str] = {}
        events = etree.iterparse(
            io.BytesIO(data),
            events=("end",),
            tag=("{*}row", "{*}col"),
            resolve_entities=False,
            no_network=True,
            huge_tree=False,
        )
        number = 0
        for _, element in events:
            name = name_of(element)
            if name == "row":
                number = int(attribute(element, "r") or number + 1)
                if attribute(element, "hidden") in {"1", "true"}:
                    self.counts["hidden rows were read"] += 1
                cells = self._cells(element)
                for column, text in cells.items():
                    if (number, column) in covered["first"]:
                        values[number, column] = text
                for column, origin in covered["rows"].get(number, {}).items():
                    if origin in values:
                        cells.setdefault(column, values[origin])
                if any(cells.values()):
                    yield number, cells
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
            elif name == "col" and attribute(element, "hidden") in {"1", "true"}:
                self.counts["hidden column groups were read"] += 1

    def _cells(self, row: Any) -> dict[int, str]:
        found: dict[int, str] = {}
        column = 0
        for cell in row:
            if name_of(cell) != "c":
                continue
            reference = _REFERENCE.fullmatch(attribute(cell, "r") or "")
            column = _column(reference[1]) if reference else column + 1
            if column > MAX_COLUMNS:
                self.counts[f"cells right of column {MAX_COLUMNS} were left out"] += 1
                continue
            if text := clean_line(self._value(cell)):
                found[column] = text
        return found

    def _value(self, cell: Any) -> str:
        kind = attribute(cell, "t") or "n"
        raw: str | None = None
        has_formula = False
        for each in cell:
            name = name_of(each)
            if name == "v":
                raw = each.text or ""
            elif name == "is":
                raw = "".join(part.text or "" for part in each.iter() if name_of(part) == "t")
            elif name == "f":
                has_formula = True
        if raw is None:
            self.counts["formulas hold no value and were left out"] += has_formula
            return ""
        if kind == "s":
            return self.strings[int(raw)]
        if kind == "b":
            return "TRUE" if raw == "1" else "FALSE"
        if kind in {"str", "inlineStr", "e", "d"}:
            self.counts["cells show an error"] += raw in _ERRORS
            return raw
        style = int(attribute(cell, "s") or 0)
        pattern = self.formats[style] if style < len(self.formats) else "General"
        return show_number(raw, pattern, since_1904=self.since_1904)

    def _merged(self, data: bytes) -> dict[str, Any]:
        """Return the first cell of each merged range, and for each row which columns it covers."""
        first: set[tuple[int, int]] = set()
        rows: dict[int, dict[int, tuple[int, int]]] = {}
        n_cells = 0
        for found in _MERGED.findall(data, max(0, data.rfind(b"sheetData>"))):
            begin, _, end = found.decode("ascii").partition(":")
            (left, top), (right, bottom) = _place(begin), _place(end)
            n_cells += max(0, right - left + 1) * max(0, bottom - top + 1)
            if n_cells > MAX_MERGED_CELLS:
                self.problems.append("so many cells are merged that the rest was read unmerged")
                break
            first.add((top, left))
            for row, column in itertools.product(range(top, bottom + 1), range(left, right + 1)):
                if (row, column) != (top, left):
                    rows.setdefault(row, {})[column] = (top, left)
        return {"first": first, "rows": rows}

    def _read_strings(self) -> None:
        if not self.archive.has("xl/sharedStrings.xml"):
            return
        from lxml import etree

        source = io.BytesIO(self.archive.read("xl/sharedStrings.xml"))
        events = etree.iterparse(
            source, events=("end",), tag="{*}si", resolve_entities=False, no_network=True, huge_tree=False
        )
        for _, element in events:
            self.strings.append("".join(_string_pieces(element)))
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]

    def _read_formats(self) -> None:
        if not self.archive.has("xl/styles.xml"):
            return
        root = self.archive.xml("xl/styles.xml")
        own = {
            int(attribute(each, "numFmtId") or 0): attribute(each, "formatCode") or "General"
            for each in root.iter()
            if name_of(each) == "numFmt"
        }
        for group in root:
            if name_of(group) == "cellXfs":
                for each in group:
                    number = int(attribute(each, "numFmtId") or 0)
                    self.formats.append(own.get(number) or built_in_format(number))

    def _count_parts(self) -> None:
        for name in self.archive.names:
            if name.startswith("xl/charts/chart"):
                self.counts["charts were left out"] += 1
            elif name.startswith("xl/media/"):
                self.counts["images were left out"] += 1
            elif name.startswith("xl/comments") and name.endswith(".xml"):
                comments = sum(name_of(each) == "comment" for each in self.archive.xml(name).iter())
                self.counts["comments were left out"] += comments
            elif name == "xl/vbaProject.bin":
                self.counts["macro projects were left out"] += 1


def _write_sheet(
    builder: SectionBuilder, name: str, rows: list[tuple[int, dict[int, str]]], *, page: int
) -> None:
    width = max((column for _, cells in rows for column in cells), default=0)
    head = _find_header(rows)
    above, body = rows[:head], rows[head:]
    if above:
        builder.start(name, anchor=f"sheet={name}", level=1, page=page)
        for _, cells in above:
            builder.add("; ".join(cells[column] for column in sorted(cells)))
    if not body:
        return
    if len(body) <= TABLE_ROWS + 1 and width <= TABLE_COLUMNS:
        if above:
            builder.go_on(anchor=f"sheet={name}&row={body[0][0]}", page=page)
            builder.kind = "table"
        else:
            builder.start(name, anchor=f"sheet={name}", level=1, page=page, kind="table")
        builder.add_table([[cells.get(column, "") for column in range(1, width + 1)] for _, cells in body])
        return
    header = body[0][1] if head or _is_header(body[0][1], body[1:]) else {}
    for number, cells in body[1:] if header else body:
        builder.start(name, anchor=f"sheet={name}&row={number}", level=1, page=page, kind="record")
        builder.add("; ".join(_pair(header.get(column), column, cells[column]) for column in sorted(cells)))


def _find_header(rows: list[tuple[int, dict[int, str]]]) -> int:
    """Return where the table begins: after lines of one cell at the top, such as a caption."""
    for index, (_, cells) in enumerate(rows[:10]):
        if len(set(cells.values())) > 1:
            return index
    return 0


def _is_header(cells: dict[int, str], below: list[tuple[int, dict[int, str]]]) -> bool:
    texts = list(cells.values())
    return bool(below) and len(set(texts)) == len(texts) and not any(text[:1].isdigit() for text in texts)


def _pair(head: str | None, column: int, text: str) -> str:
    return f"{head or _letters(column)}: {text}"


def _string_pieces(element: Any) -> Iterator[str]:
    for each in element:
        name = name_of(each)
        if name == "t":
            yield each.text or ""
        elif name == "r":
            yield from (part.text or "" for part in each if name_of(part) == "t")


def _place(reference: str) -> tuple[int, int]:
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise ValueError(reference)
    return _column(found[1]), int(found[2])


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number


def _letters(column: int) -> str:
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
