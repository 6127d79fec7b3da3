"""Tables as Markdown: one line a row, the first row the header, no cell able to break the grid."""

from collections import deque
from collections.abc import Sequence


def write_table(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as a Markdown table, "" for none. Rows and columns without any text are left out."""
    kept = [list(row) for row in rows if any(cell.strip() for cell in row)]
    if not kept:
        return ""
    width = max(len(row) for row in kept)
    grid = [row + [""] * (width - len(row)) for row in kept]
    columns = [number for number in range(width) if any(row[number].strip() for row in grid)]
    lines = [_line([row[number] for number in columns]) for row in grid]
    lines.insert(1, _line(["---"] * len(columns)))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ").strip() for cell in cells) + " |"


def spread(cells: Sequence[tuple[str, int, int]], above: dict[int, tuple[str, int]]) -> list[str]:
    """Return one row as plain columns: a cell over several columns or rows is repeated in each.

    `cells` are text, columns and rows covered; `above` keeps what reaches down from rows before (changed).
    """
    row: list[str] = []
    waiting = deque(cells)
    while waiting or len(row) in above:
        column = len(row)
        if column in above:
            text, left = above.pop(column)
            row.append(text)
            if left > 1:
                above[column] = (text, left - 1)
            continue
        text, wide, high = waiting.popleft()
        for _ in range(max(1, wide)):
            if high > 1:
                above[len(row)] = (text, high - 1)
            row.append(text)
    return row
