"""How results are printed: tables on a terminal, tab-separated values in a pipe, JSON when asked."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from decimal import Decimal
from typing import Any

import msgspec

from penstock.base.clock import iso_from_ns

MIN_SHORTENED = 20
"""Narrowest cut text before other columns give way, in cells."""
MAX_NUMBERS = 8
"""A longer list of numbers is a vector: shown by its length."""


def print_json(value: Any) -> None:
    """Print `value` as one indented JSON document; money keeps every digit, as a number."""
    print(json.dumps(to_plain(value), indent=2, ensure_ascii=False, default=str))


def to_plain(value: Any) -> Any:
    """Return `value` as JSON types: records become objects, decimals numbers."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, msgspec.Struct):
        return to_plain(msgspec.to_builtins(value, builtin_types=(Decimal,)))
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in value]
    return value


def print_rows(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str = ""
) -> None:
    """Print rows with `columns`; in JSON each row whole. `empty` tells a person what to do when there is none."""
    listed = [dict(row) for row in rows]
    if as_json:
        print_json(listed)
    elif not sys.stdout.isatty():
        print("\t".join(columns))
        for row in listed:
            print("\t".join(_cell(row.get(column)) for column in columns))
    elif listed:
        _print_table(listed, columns)
    elif empty:
        print(empty)


def print_lines(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    give_up: Sequence[str] = (),
    shorten: str = "",
    empty: str = "",
) -> None:
    """Print one line a row, never wrapped. On a terminal that is too narrow the columns of `give_up` go, in
    that order, and the text of `shorten` is cut; all other cells stay whole, so that ids can be copied.
    """
    listed = [dict(row) for row in rows]
    if not listed or not sys.stdout.isatty():
        print_rows(listed, columns, as_json=False, empty=empty)
        return
    from rich.cells import cell_len, set_cell_size
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    texts = {name: [name, *(_cell(row.get(name)) for row in listed)] for name in columns}
    widths = {name: max(map(cell_len, cells)) for name, cells in texts.items()}
    least = dict(widths)
    if shorten in least:
        least[shorten] = min(least[shorten], MIN_SHORTENED)
    for name in give_up:
        if sum(least.values()) + 2 * (len(least) - 1) > console.width:
            least.pop(name, None)
    if shorten in least:
        spare = console.width - sum(least.values()) - 2 * (len(least) - 1)
        least[shorten] = min(widths[shorten], max(least[shorten], least[shorten] + spare))
    for number in range(len(listed) + 1):
        cells = []
        for name, width in least.items():
            text = texts[name][number]
            if cell_len(text) > width:
                text = set_cell_size(text, width - 1) + "…"
            cells.append(set_cell_size(text, width))
        style = "bold" if number == 0 else None
        console.print("  ".join(cells).rstrip(), style=style, soft_wrap=True)


def readable_lines(value: Any) -> list[str]:
    """Return a payload as lines for a person: chat messages as `role: text`, vectors as their length."""
    if isinstance(value, Mapping):
        if isinstance(value.get("role"), str) and "content" in value:
            rest = {key: item for key, item in value.items() if key not in {"role", "content"} and item}
            return [*_labelled(value["role"], value["content"]), *readable_lines(rest)]
        return [line for key, item in value.items() for line in _labelled(str(key), item)]
    if isinstance(value, list | tuple):
        if len(value) > MAX_NUMBERS and all(isinstance(item, int | float) for item in value):
            return [f"({len(value)} numbers)"]
        if all(isinstance(item, Mapping) and "role" in item for item in value):
            return [line for item in value for line in readable_lines(item)]
        return [line for item in value for line in _hung("- ", readable_lines(item))]
    if isinstance(value, str):
        return [printable(line) for line in value.splitlines()] or [""]
    return [_cell(value)]


def _labelled(name: str, value: Any) -> list[str]:
    lines = readable_lines(value)
    if len(lines) == 1 and not isinstance(value, Mapping) and not lines[0].startswith("- "):
        return [f"{printable(name)}: {lines[0]}"]
    return [f"{printable(name)}:", *(f"  {line}" for line in lines)] if lines else []


def _hung(mark: str, lines: Sequence[str]) -> list[str]:
    return [(mark if number == 0 else " " * len(mark)) + line for number, line in enumerate(lines)]


def print_record(record: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one thing: `name  value` lines, or JSON."""
    if as_json:
        print_json(record)
        return
    width = max((len(name) for name in record), default=0)
    for name, value in record.items():
        print(f"{name:<{width}}  {_cell(value)}" if sys.stdout.isatty() else f"{name}\t{_cell(value)}")


def time_text(stamp_ns: int | None) -> str | None:
    """Return a moment for people: UTC, to the second."""
    return None if stamp_ns is None else iso_from_ns(stamp_ns)[:19] + "Z"


def printable(text: str) -> str:
    """Return `text` on one line without characters that could steer a terminal."""
    return "".join(char if char.isprintable() else "�" for char in " ".join(text.split()))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    if isinstance(value, Mapping | list | tuple) or is_dataclass(value) or isinstance(value, msgspec.Struct):
        return json.dumps(to_plain(value), ensure_ascii=False, default=str)
    return printable(str(value))


def _print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        values = [row.get(column) for row in rows]
        is_number = any(isinstance(value, int | float | Decimal) for value in values)
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns), style=None)
    Console(markup=False, highlight=False).print(table)
