"""JSON and JSON lines: a list of objects is a record each, anything else a section for each name at the top.

Values are written as `path: value`; a name that stands twice in an object has all its values, and names without a
value are counted. Nesting is walked without recursion.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse.text import SectionBuilder, clean_line, decode_text
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe

_NAMES = ("title", "name", "heading", "subject", "question", "id")
MAX_NAMED_LINES = 20
_BLANK = re.compile(r"\n\s*\n")


@dataclass
class _Tally:
    """What a reader of the sections would not see."""

    n_repeated: int = 0
    n_empty: int = 0

    def tell(self) -> tuple[str, ...]:
        """Return the problem lines."""
        repeated = f"{self.n_repeated} names stand more than once in an object; all their values were kept"
        empty = f"{self.n_empty} names without a value were left out"
        return (*((repeated,) if self.n_repeated else ()), *((empty,) if self.n_empty else ()))


class _Values(list[Any]):
    """The values of a name that stands more than once in an object."""


def parse_json(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return the document's values under their names."""
    del recipe
    text, problems = decode_text(data)
    tally = _Tally()
    try:
        found = _load(text, tally)
    except ValueError as error:
        raise UnreadableDocument(
            f"it is no JSON: {error}.", hint="One JSON value a line is .jsonl."
        ) from error
    builder = SectionBuilder()
    title: str | None = None
    if isinstance(found, list) and found and all(isinstance(each, dict) for each in found):
        for number, record in enumerate(found, start=1):
            _write_record(builder, record, f"record={number}", f"Record {number}", tally)
    elif isinstance(found, dict):
        title = _name_of(found)
        _write_object(builder, found, tally)
    else:
        _write_values(builder, found, tally)
    return ParsedDocument(
        title=title,
        media_type="application/json",
        sections=builder.finish(),
        problems=(*problems, *tally.tell()),
    )


def parse_json_lines(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return a section a line; lines that are no JSON are named and left out."""
    del recipe
    text, problems = decode_text(data)
    builder = SectionBuilder()
    broken: list[int] = []
    tally = _Tally()
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = _load(line, tally)
        except ValueError:
            broken.append(number)
            continue
        _write_record(builder, record, f"line={number}", f"Line {number}", tally)
    problems += tuple(f"line {number} is no JSON and was left out" for number in broken[:MAX_NAMED_LINES])
    if len(broken) > MAX_NAMED_LINES:
        problems += (f"{len(broken) - MAX_NAMED_LINES} more lines are no JSON and were left out",)
    return ParsedDocument(
        title=None,
        media_type="application/jsonl",
        sections=builder.finish(),
        problems=(*problems, *tally.tell()),
    )


def _load(text: str, tally: _Tally) -> Any:
    def join(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        gathered: dict[str, list[Any]] = {}
        for key, value in pairs:
            gathered.setdefault(key, []).append(value)
        repeated = {key: _Values(values) for key, values in gathered.items() if len(values) > 1}
        tally.n_repeated += len(repeated)
        return {**found, **repeated}

    try:
        return json.loads(text, object_pairs_hook=join)
    except RecursionError:
        raise ValueError("values are nested too deep") from None


def _write_record(builder: SectionBuilder, record: Any, anchor: str, fallback: str, tally: _Tally) -> None:
    name = _name_of(record) if isinstance(record, dict) else None
    builder.start(name or fallback, anchor=anchor, level=1, kind="record")
    _write_values(builder, record, tally)
    if not builder.paragraphs:
        builder.heading = None if name is None else builder.heading


def _write_object(builder: SectionBuilder, found: dict[str, Any], tally: _Tally) -> None:
    plain = {key: value for key, value in found.items() if not _has_section(value)}
    _write_values(builder, plain, tally)
    for key, value in found.items():
        if not _has_section(value):
            continue
        builder.start(key, anchor=f"key={key}", level=1)
        if isinstance(value, list) and all(isinstance(each, dict) for each in value):
            for number, record in enumerate(value, start=1):
                name = _name_of(record) or f"{key} {number}"
                builder.start(name, anchor=f"key={key}&record={number}", level=2, kind="record")
                _write_values(builder, record, tally)
        else:
            _write_values(builder, value, tally)


def _has_section(value: Any) -> bool:
    """Whether a value at the top has a section of its own."""
    return isinstance(value, dict | list) and bool(value) and not isinstance(value, _Values)


def _write_values(builder: SectionBuilder, value: Any, tally: _Tally) -> None:
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
        elif path:
            tally.n_empty += 1
    if line:
        builder.add("; ".join(line))


def _flatten(value: Any) -> Iterator[tuple[str, str]]:
    """Yield path and text of every value, in the order of the document; what is empty has the text ""."""
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        path, each = waiting.pop()
        if isinstance(each, dict) and each:
            waiting.extend(
                (f"{path}.{key}" if path else str(key), inner) for key, inner in reversed(each.items())
            )
        elif isinstance(each, list) and each:
            if isinstance(each, _Values) or any(isinstance(inner, dict | list) for inner in each):
                waiting.extend((path, inner) for inner in reversed(each))
            else:
                yield path, ", ".join(_show(inner) for inner in each)
        else:
            yield path, "" if each is None or isinstance(each, dict | list) else _show(each)


def _show(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _name_of(record: dict[str, Any]) -> str | None:
    for key in _NAMES:
        value = record.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and (name := clean_line(str(value))):
            return name[:200]
    return None
