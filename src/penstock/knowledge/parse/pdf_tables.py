"""Tables on a PDF page: by the grid that is drawn, or by columns that several lines keep."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.knowledge.parse.pdf_page import Page, Rule, Segment

TOUCH = 3.0
"""Points by which lines of one grid may miss each other."""
MIN_FILL = 0.4
"""Grids with less text than this share of cells are charts and forms."""
MIN_ROWS = 3
"""Lines that must keep the same columns to be a table without a grid."""
Row = list[Segment]
"""Segments of one line, from left to right."""


@dataclass(slots=True, kw_only=True)
class Table:
    """A table and where its top is."""

    rows: list[list[str]]
    top: float
    page: int
    left: float
    right: float
    bottom: float


def find_ruled(page: Page) -> tuple[list[Table], list[Segment]]:
    """Return the tables whose grid is drawn, and the segments that are in none."""
    rest = page.segments
    tables: list[Table] = []
    for level, upright in _grids(page.level, page.upright):
        xs, ys = _places([rule.at for rule in upright]), _places([rule.at for rule in level])
        if len(xs) < 3 or len(ys) < 3:
            continue
        cells: dict[tuple[int, int], list[Segment]] = {}
        outside: list[Segment] = []
        for segment in rest:
            row, column = _slot(ys, segment.y + segment.size / 2), _slot(xs, segment.left + segment.size / 4)
            if row is None or column is None or segment.right > xs[-1] + 4 * TOUCH:
                outside.append(segment)
            else:
                cells.setdefault((len(ys) - 2 - row, column), []).append(segment)
        if len(cells) < MIN_FILL * (len(xs) - 1) * (len(ys) - 1) or len({c for _, c in cells}) < 2:
            continue
        rows = [
            [_cell_text(cells.get((row, column), [])) for column in range(len(xs) - 1)]
            for row in range(len(ys) - 1)
        ]
        tables.append(Table(rows=rows, top=ys[-1], bottom=ys[0], left=xs[0], right=xs[-1], page=page.number))
        rest = outside
    return tables, rest


def find_columned(rows: Sequence[Row]) -> list[tuple[int, int, list[list[str]]]]:
    """Return begin, end and cells of each run of lines that keep the same columns."""
    found: list[tuple[int, int, list[list[str]]]] = []
    begin = 0
    while begin < len(rows):
        end = begin
        while end < len(rows) and len(rows[end]) > 1 and _follows(rows, begin, end):
            end += 1
        cells = _columns(rows[begin:end]) if end - begin >= MIN_ROWS else None
        if cells is not None:
            found.append((begin, end, cells))
            begin = end
        else:
            begin += 1
    return found


def _follows(rows: Sequence[Row], begin: int, index: int) -> bool:
    if index == begin:
        return True
    above, here = rows[index - 1][0], rows[index][0]
    return above.page == here.page and 0 < above.y - here.y < 4 * max(above.size, here.size)


def _columns(rows: Sequence[Row]) -> list[list[str]] | None:
    size = max(segment.size for row in rows for segment in row)
    spans = sorted((segment.left, segment.right) for row in rows for segment in row)
    columns: list[list[float]] = []
    for left, right in spans:
        if columns and left < columns[-1][1] + 0.5 * size:
            columns[-1][1] = max(columns[-1][1], right)
        else:
            columns.append([left, right])
    if len(columns) < 2:
        return None
    grid: list[list[str]] = []
    for row in rows:
        cells = [""] * len(columns)
        for segment in row:
            place = next(n for n, (left, right) in enumerate(columns) if left <= segment.left <= right)
            cells[place] = f"{cells[place]} {segment.text}".strip()
        grid.append(cells)
    filled = sum(bool(cell) for row in grid for cell in row)
    return grid if filled >= 0.6 * len(columns) * len(grid) else None


def _grids(level: list[Rule], upright: list[Rule]) -> list[tuple[list[Rule], list[Rule]]]:
    """Return the level and upright lines of each connected grid, the larger grids first."""
    waiting = list(range(len(upright)))
    grids: list[tuple[list[Rule], list[Rule]]] = []
    free = set(range(len(level)))
    while waiting:
        group = [waiting.pop()]
        crossing: set[int] = set()
        reached = 0
        while reached < len(group):
            one = upright[group[reached]]
            reached += 1
            new = {number for number in free if _crosses(level[number], one)}
            free -= new
            crossing |= new
            joined = [
                number for number in waiting if any(_crosses(level[each], upright[number]) for each in new)
            ]
            group += joined
            waiting = [number for number in waiting if number not in set(joined)]
        grids.append(([level[number] for number in crossing], [upright[number] for number in group]))
    return sorted(grids, key=lambda grid: -len(grid[0]) * len(grid[1]))


def _crosses(level: Rule, upright: Rule) -> bool:
    return (
        level.begin - TOUCH <= upright.at <= level.end + TOUCH
        and upright.begin - TOUCH <= level.at <= upright.end + TOUCH
    )


def _places(values: list[float]) -> list[float]:
    """Return the places of lines, those that touch taken for one."""
    places: list[float] = []
    for value in sorted(values):
        if not places or value - places[-1] > TOUCH:
            places.append(value)
    return places


def _slot(places: list[float], value: float) -> int | None:
    """Return between which two places the value lies."""
    for number, (low, high) in enumerate(itertools.pairwise(places)):
        if low <= value < high:
            return number
    return None


def _cell_text(segments: list[Segment]) -> str:
    text = ""
    hyphen = False
    for segment in sorted(segments, key=lambda each: (-round(each.y), each.left)):
        text = f"{text}{segment.text}" if hyphen or not text else f"{text} {segment.text}"
        hyphen = segment.hyphen
    return text
