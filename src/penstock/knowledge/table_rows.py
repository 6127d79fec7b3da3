"""Rows of Markdown tables as sentences: each whole row with the names of its columns, so that one can be quoted alone."""

import itertools
import re
from collections.abc import Iterator

from penstock.knowledge.sentences import find_sentences

_RULE = re.compile(r"\|(?:\s*:?-{3,}:?\s*\|)+")
_BAR = re.compile(r"(?<!\\)\|")


def split_passage(text: str, lead: str | None = None) -> tuple[str, ...]:
    """Return the sentences of a passage, each on one line; of a table its rows: `Team: Platform; Budget: 900`.

    `lead` is what stands above the passage: the header, where it begins in the middle of a table.
    """
    header = _find_header(lead or "")
    found: list[str] = []
    for start, end in find_sentences(text):
        lines = [line.strip() for line in text[start:end].splitlines()]
        if any(map(_RULE.fullmatch, lines)) or (header and all(map(_is_row, lines))):
            found += _read_lines(lines, header)
        else:
            found.append(" ".join(text[start:end].split()))
        header = []  # it belongs to what stands at the beginning
    return tuple(found)


def find_row(text: str, sentence: str) -> tuple[int, int] | None:
    """Return where the row stands that `sentence` writes out, as `split_passage` does; None for none."""
    for match in re.finditer(r"^[^\S\n]*(\|[^\n]*\|)[^\S\n]*$", text, re.MULTILINE):
        values = [cell for cell in read_cells(match[1]) if cell]
        named = "; ".join(rf"(?:[^;:]{{1,200}}: )?{re.escape(value)}" for value in values)
        if values and not _RULE.fullmatch(match[1]) and re.fullmatch(named, sentence.strip()):
            return match.span(1)
    return None


def read_cells(line: str) -> list[str]:
    """Return the cells of a row of a Markdown table."""
    return [" ".join(cell.replace("\\|", "|").split()) for cell in _BAR.split(line.strip())[1:-1]]


def _read_lines(lines: list[str], header: list[str]) -> Iterator[str]:
    prose: list[str] = []
    for number, line in enumerate(lines):
        if _RULE.fullmatch(line):
            continue
        if not _is_row(line):
            prose.append(line)
            continue
        if prose:
            yield " ".join(" ".join(prose).split())
            prose = []
        if number + 1 < len(lines) and _RULE.fullmatch(lines[number + 1]):
            header = read_cells(line)
            if number + 2 == len(lines):
                yield "; ".join(filter(None, header))
            continue
        yield _write_row(read_cells(line), header)
    if prose:
        yield " ".join(" ".join(prose).split())


def _write_row(cells: list[str], header: list[str]) -> str:
    names = header + [""] * (len(cells) - len(header))
    return "; ".join(
        f"{name}: {cell}" if name else cell for name, cell in zip(names, cells, strict=False) if cell
    )


def _find_header(lead: str) -> list[str]:
    lines = [line.strip() for line in lead.splitlines()]
    for above, line in reversed(list(itertools.pairwise(lines))):
        if _RULE.fullmatch(line) and _is_row(above):
            return read_cells(above)
    return read_cells(lines[-1]) if lines and _is_row(lines[-1]) else []


def _is_row(line: str) -> bool:
    return len(line) > 2 and line.startswith("|") and line.endswith("|")
