"""Reading order of a PDF page: columns one after the other, tables in their place, running heads taken out.

The surprise: a PDF stores text in the order in which it was drawn. What a reader sees first is decided here by
position alone. Three columns are two, one of which is two.
"""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.knowledge.parse.pdf_page import Page, Segment
from penstock.knowledge.parse.pdf_tables import Row, Table, find_columned, find_ruled

MIN_COLUMN_LINES = 4
MIN_COLUMN_SIZES = 9.0
"""A column of prose is at least so many type sizes wide."""
MIN_LINE_FILL = 0.55
"""Lines of prose fill their column by at least so much, in the middle; cells of a table do not."""
MAX_DEPTH = 3
MAX_SEGMENTS = 3000
"""Of a page; more is no prose."""
MIN_PAGES = 3
HEAD_SHARE = 0.3
EDGE_LINES = 2
EDGE_SHARE = 0.12
"""Running heads stand in so much of the page's height at its top or bottom."""


@dataclass(slots=True, kw_only=True)
class Line:
    """A line of text in reading order."""

    text: str
    size: float
    bold: bool
    left: float
    right: float
    first_y: float
    last_y: float
    page: int
    hyphen: bool
    region: int
    """Counts columns over the whole document: lines of another region are in another column or page."""


Item = Line | Table


def order_page(page: Page, region: int) -> tuple[list[Item], int]:
    """Return lines and tables in reading order, and the next free number of a region."""
    ruled, segments = find_ruled(page)
    items: list[Item] = []
    for block in _split(segments, 0):
        items += _read_block(block, region)
        region += 1
    for table in sorted(ruled, key=lambda each: each.top):
        _insert(items, table)
    return items, region


def _insert(items: list[Item], table: Table) -> None:
    """Put a table before the first line of its column that stands below it."""
    for index, item in enumerate(items):
        low = item.first_y if isinstance(item, Line) else item.top
        beside = item.left < table.right and item.right > table.left
        if beside and low < table.top:
            items.insert(index, table)
            return
    items.append(table)


def _split(segments: list[Segment], depth: int) -> list[list[Segment]]:
    """Return blocks in reading order; each is one column."""
    gutter = _find_gutter(segments, depth)
    if gutter is None:
        return [segments] if segments else []
    left_edge, right_edge = gutter
    blocks: list[list[Segment]] = []
    left: list[Segment] = []
    right: list[Segment] = []
    for row in to_rows(segments):
        if any(each.left < left_edge and each.right > right_edge for each in row):  # over both columns
            blocks += [*_split(left, depth + 1), *_split(right, depth + 1), row]
            left, right = [], []
            continue
        for each in row:
            (left if each.right <= right_edge else right).append(each)
    return [block for block in (*blocks, *_split(left, depth + 1), *_split(right, depth + 1)) if block]


def _find_gutter(segments: Sequence[Segment], depth: int) -> tuple[float, float] | None:
    """Return the widest upright strip that hardly any line crosses, with columns of prose on both sides of it."""
    if depth >= MAX_DEPTH or not 2 * MIN_COLUMN_LINES <= len(segments) <= MAX_SEGMENTS:
        return None
    size = sorted(each.size for each in segments)[len(segments) // 2]
    allowed = max(2, len(segments) // 10)
    edges = sorted(
        [(each.left, 1) for each in segments] + [(each.right, -1) for each in segments],
        key=lambda edge: (edge[0], edge[1]),
    )
    best: tuple[float, tuple[float, float]] | None = None
    covering = 0
    for (place, change), (following, _) in itertools.pairwise(edges):
        covering += change
        width = following - place
        if covering <= allowed and width > 0.4 * size:
            strip = _widen(segments, place, following, allowed)
            if (best is None or strip[1] - strip[0] > best[0]) and _has_prose(segments, strip, size, depth):
                best = (strip[1] - strip[0], strip)
    return best[1] if best is not None else None


def _widen(segments: Sequence[Segment], begin: float, end: float, allowed: int) -> tuple[float, float]:
    """Return the strip widened to what the lines beside it leave free, but for those that cross it."""
    middle = (begin + end) / 2
    crossing = sum(each.left < middle < each.right for each in segments)
    if crossing > allowed:
        return begin, end
    rights = [each.right for each in segments if each.right <= middle]
    lefts = [each.left for each in segments if each.left >= middle]
    return (max(rights, default=begin), min(lefts, default=end))


def _has_prose(segments: Sequence[Segment], strip: tuple[float, float], size: float, depth: int) -> bool:
    sides = (
        [each for each in segments if each.right <= strip[0] + 0.1],
        [each for each in segments if each.left >= strip[1] - 0.1],
    )
    for side in sides:
        if len(side) < MIN_COLUMN_LINES:
            return False
        width = max(each.right for each in side) - min(each.left for each in side)
        lengths = sorted(each.right - each.left for each in side)
        if width < MIN_COLUMN_SIZES * size:
            return False
        is_filled = lengths[len(lengths) // 2] >= MIN_LINE_FILL * width
        if not is_filled and _find_gutter(side, depth + 1) is None:
            return False
    return True


def to_rows(segments: Sequence[Segment]) -> list[Row]:
    """Return the segments by line, from the top; within a line from the left."""
    rows: list[Row] = []
    for segment in sorted(segments, key=lambda each: -each.y):
        last = rows[-1][0] if rows else None
        if last is not None and abs(last.y - segment.y) < 0.5 * max(min(last.size, segment.size), 1.0):
            rows[-1].append(segment)
        else:
            rows.append([segment])
    return [sorted(row, key=lambda each: each.left) for row in rows]


def _read_block(block: list[Segment], region: int) -> list[Item]:
    rows = to_rows(block)
    items: list[Item] = []
    done = 0
    for begin, end, cells in find_columned(rows):
        items += [_line(row, region) for row in rows[done:begin]]
        inside = [each for row in rows[begin:end] for each in row]
        items.append(
            Table(
                rows=cells,
                top=rows[begin][0].y + rows[begin][0].size,
                bottom=rows[end - 1][0].y,
                left=min(each.left for each in inside),
                right=max(each.right for each in inside),
                page=inside[0].page,
            )
        )
        done = end
    return [*items, *(_line(row, region) for row in rows[done:])]


def _line(row: Row, region: int) -> Line:
    main = max(row, key=lambda each: len(each.text))
    return Line(
        text=" ".join(each.text for each in row),
        size=main.size,
        bold=all(each.bold for each in row),
        left=row[0].left,
        right=row[-1].right,
        first_y=main.y,
        last_y=main.y,
        page=main.page,
        hyphen=row[-1].hyphen,
        region=region,
    )


def remove_running_heads(pages: Sequence[Page]) -> list[str]:
    """Take lines out that stand at the same edge of many pages; return a problem line for each kind of them."""
    seen: defaultdict[tuple[str, int], list[tuple[Page, Row]]] = defaultdict(list)
    for page in pages:
        rows = to_rows(page.segments)
        edges = rows[:EDGE_LINES] + rows[max(EDGE_LINES, len(rows) - EDGE_LINES) :]
        for row in edges:
            if EDGE_SHARE * page.height < row[0].y < (1 - EDGE_SHARE) * page.height:
                continue
            text = re.sub(r"\d+", "#", " ".join(each.text for each in row))
            seen[text, round(row[0].y / 8)].append((page, row))
    gone: defaultdict[int, set[int]] = defaultdict(set)
    found: list[tuple[str, int]] = []
    for (text, _), places in seen.items():
        if len(places) >= max(MIN_PAGES, HEAD_SHARE * len(pages)):
            for page, row in places:
                gone[page.number].update(id(each) for each in row)
                found.append((text, page.number))
    changed: set[int] = set()
    for page in pages:
        # A page of nothing else says what it has to say in these lines.
        if kept := [each for each in page.segments if id(each) not in gone[page.number]]:
            page.segments = kept
            changed.add(page.number)
    problems = Counter(text for text, number in found if number in changed)
    return [
        f"the running head {text[:80]!r} of {count} pages was left out" for text, count in problems.items()
    ]
