"""JSON and JSON lines: a list of objects is a record each, anything else a section for each name at the top.

Values are written as `path: value`. Nesting is walked without recursion.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse.text import SectionBuilder, clean_line, decode_text
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe

_NAMES = ("title", "name", "heading", "subject", "question", "id")
MAX_NAMED_LINES = 20
_BLANK = re.compile(r"\n\s*\n")


def parse_json(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return the document's values under their names."""
    del recipe
    text, problems = decode_text(data)
    try:
        found = _load(text)
    except ValueError as error:
        raise UnreadableDocument(
            f"it is no JSON: {error}.", hint="One JSON value a line is .jsonl."
        ) from error
    builder = SectionBuilder()
    title: str | None = None
    if isinstance(found, list) and found and all(isinstance(each, dict) for each in found):
        for number, record in enumerate(found, start=1):
            _write_record(builder, record, f"record={number}", f"Record {number}")
    elif isinstance(found, dict):
        title = _name_of(found)
        _write_object(builder, found)
    else:
        _write_values(builder, found)
    return ParsedDocument(
        title=title, media_type="application/json", sections=builder.finish(), problems=problems
    )


def parse_json_lines(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return a section a line; lines that are no JSON are named and left out."""
    del recipe
    text, problems = decode_text(data)
    builder = SectionBuilder()
    broken: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = _load(line)
        except ValueError:
            broken.append(number)
            continue
        _write_record(builder, record, f"line={number}", f"Line {number}")
    problems += tuple(f"line {number} is no JSON and was left out" for number in broken[:MAX_NAMED_LINES])
    if len(broken) > MAX_NAMED_LINES:
        problems += (f"{len(broken) - MAX_NAMED_LINES} more lines are no JSON and were left out",)
    return ParsedDocument(
        title=None, media_type="application/jsonl", sections=builder.finish(), problems=problems
    )


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("values are nested too deep") from None


def _write_record(builder: SectionBuilder, record: Any, anchor: str, fallback: str) -> None:
    name = _name_of(record) if isinstance(record, dict) else None
    builder.start(name or fallback, anchor=anchor, level=1, kind="record")
    _write_values(builder, record)
    if not builder.paragraphs:
        builder.heading = None if name is None else builder.heading


def _write_object(builder: SectionBuilder, found: dict[str, Any]) -> None:
    plain = {key: value for key, value in found.items() if not isinstance(value, dict | list)}
    _write_values(builder, plain)
    for key, value in found.items():
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            builder.start(key, anchor=f"key={key}", level=1)
            for number, record in enumerate(value, start=1):
                name = _name_of(record) or f"{key} {number}"
                builder.start(name, anchor=f"key={key}&record={number}", level=2, kind="record")
                _write_values(builder, record)
        elif isinstance(value, dict | list) and value:
            builder.start(key, anchor=f"key={key}", level=1)
            _write_values(builder, value)


def _write_values(builder: SectionBuilder, value: Any) -> None:
    line: list[str] = []
    for path, text in _flatten(value):
        if "\n" in text and _BLANK.search(text.strip()):
            if line:
                builder.add("; ".join(line))
                line = []
            first, *rest = _BLANK.split(text.strip())
            builder.add(f"{path}: {first}" if path else first)
            for paragraph in rest:
                builder.add(paragraph)
        elif cleaned := clean_line(text):
            line.append(f"{path}: {cleaned}" if path else cleaned)
    if line:
        builder.add("; ".join(line))


def _flatten(value: Any) -> Iterator[tuple[str, str]]:
    """Yield path and text of every value, in the order of the document."""
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        path, each = waiting.pop()
        if isinstance(each, dict):
            waiting.extend(
                (f"{path}.{key}" if path else str(key), inner) for key, inner in reversed(each.items())
            )
        elif isinstance(each, list):
            if each and not any(isinstance(inner, dict | list) for inner in each):
                yield path, ", ".join(_show(inner) for inner in each)
            else:
                waiting.extend((path, inner) for inner in reversed(each))
        elif each is not None:
            yield path, _show(each)


def _show(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _name_of(record: dict[str, Any]) -> str | None:
    for key in _NAMES:
        value = record.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and (name := clean_line(str(value))):
            return name[:200]
    return None
