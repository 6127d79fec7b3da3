"""The guide to searching says what the code does."""

import re
from pathlib import Path

import pytest

from penstock.spec.search_fields import FIELDS, PREFIXES
from penstock.traces.search import parse
from penstock.traces.search.parser import MAX_CHARS, MAX_DEPTH, MAX_PARTS

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "search.md").read_text()
OF_TRACE = {"root": "root", "sum": "sum over its calls", "any": "any span", "trace": "the trace"}


def test_the_table_of_fields_is_the_one_of_the_code() -> None:
    listed = [line for line in GUIDE.split("## Fields")[1].splitlines() if line.startswith("| `")]
    expected = []
    for field in FIELDS:
        names = ", ".join(f"`{name}`" for name in (field.name, *field.aliases))
        expected.append(f"| {names} | {field.help} | {OF_TRACE[field.of_trace]} | `{field.example}` |")
    for start, text, example in PREFIXES:
        expected.append(f"| `{start}…` | {text} | any span | `{example}` |")
    assert listed[: len(expected)] == expected


@pytest.mark.parametrize("section", ["What can be written", "How spans stand to each other"])
def test_every_search_of_the_guide_can_be_read(section: str) -> None:
    table = GUIDE.split(f"## {section}")[1].split("\n## ")[0]
    searches = [
        text
        for line in table.splitlines()
        if line.startswith("| `")
        for text in re.findall(r"`([^`]+)`", line.split(" | ")[0])
    ]
    assert len(searches) > 7
    for text in searches:
        parse(text, subject="span")


def test_the_bounds_of_the_guide_are_those_of_the_code() -> None:
    assert f"{MAX_CHARS:,} characters, {MAX_PARTS} parts and {MAX_DEPTH} levels" in GUIDE
