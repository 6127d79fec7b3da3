"""Which columns of a source are which fields of a row: known names, detection by the first rows, and what a person maps.

A plan is made once from the first rows and then holds for all of them, so that a column does not mean one thing in one row and
another in the next.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import msgspec

from penstock.base.errors import InvalidInput, suggest
from penstock.datasets.errors import UnknownFormat
from penstock.spec.datasets import DatasetFormat

FORMATS: tuple[DatasetFormat, ...] = get_args(DatasetFormat)
N_LOOKED_AT = 200
"""Rows by which a format is told."""
_EXPECTED = (
    "expected",
    "expected_output",
    "answer",
    "reference",
    "ideal",
    "ground_truth",
    "reference_answer",
)
_PASSAGES = ("passages", "reference_contexts", "contexts", "context")
_RELEVANT = ("relevant", "relevant_ids", "relevant_documents", "doc_ids")
_NAMES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "cases": {
        "inputs": ("inputs", "variables", "vars"),
        "input": ("input", "question", "query", "prompt"),
        "messages": ("messages",),
        "expected": _EXPECTED,
        "passages": _PASSAGES,
        "relevant": _RELEVANT,
    },
    "instruct": {
        "instruction": ("instruction", "prompt"),
        "input": ("input", "context"),
        "output": ("output", "response", "completion"),
    },
    "chat": {"messages": ("messages", "conversations", "conversation"), "tools": ("tools", "functions")},
    "preference": {
        "prompt": ("prompt", "question", "instruction"),
        "messages": ("messages",),
        "chosen": ("chosen",),
        "rejected": ("rejected",),
        "tools": ("tools",),
    },
    "label": {"text": ("text", "sentence", "input"), "label": ("label", "category", "class", "labels")},
    "retrieval": {
        "query": ("query", "question"),
        "relevant": _RELEVANT,
        "passages": _PASSAGES,
        "answer": ("answer", "expected"),
    },
}
"""Format to field to the names that columns have for it, the likeliest first."""
_OF_EVERY_ROW: Mapping[str, Sequence[str]] = {
    "id": ("id", "_id", "uid"),
    "split": ("split",),
    "group": ("group",),
    "tags": ("tags",),
    "metadata": ("metadata",),
    "provenance": ("provenance",),
}
_PAIR = ("preferred_output", "non_preferred_output")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How the rows of one source become rows of a format."""

    form: DatasetFormat
    columns: dict[str, str]
    """Field (`input`, `group`, `metadata.lang`) to column; a dotted column is looked for inside objects."""
    is_pair: bool = False
    """Whether rows have the shape of OpenAI's preference files."""

    @property
    def renamed(self) -> dict[str, str]:
        """The columns that are called otherwise than their fields."""
        return {field: column for field, column in self.columns.items() if field != column}


def fields_of(form: DatasetFormat) -> tuple[str, ...]:
    """Return the names of fields that rows of a format may have."""
    return tuple(_NAMES[form])


def make_plan(
    first: Sequence[Mapping[str, Any]], form: DatasetFormat | None, mapping: Mapping[str, str], source: str
) -> Plan:
    """Return how rows like `first` are read; raise `UnknownFormat`, or `InvalidInput` for a mapping that cannot be."""
    columns = _columns_of(first)
    _check_mapping(first, form, mapping, columns)
    chosen = form or detect_format(first, mapping, source)
    is_pair = chosen == "preference" and set(_PAIR) <= columns
    taken = set(mapping.values())
    found = dict(mapping)
    for field, names in {**_NAMES[chosen], **_OF_EVERY_ROW}.items():
        if field in found or (is_pair and field in _NAMES["preference"]):
            continue
        is_beside = field == "input" and chosen == "cases" and bool(columns & {"inputs", "messages"})
        likely = (
            ("input",) if is_beside else names
        )  # `question` beside a conversation says something about it
        name = next((each for each in likely if each in columns and each not in taken), None)
        if name is None and field not in taken:
            name = field  # a later row may have it
        if name is not None:
            found[field] = name
            taken.add(name)
    return Plan(form=chosen, columns=found, is_pair=is_pair)


def detect_format(
    first: Sequence[Mapping[str, Any]], mapping: Mapping[str, str], source: str
) -> DatasetFormat:
    """Return the format that rows with these columns have; raise `UnknownFormat` that says what was seen."""
    columns = _columns_of(first) | {field.partition(".")[0] for field in mapping}
    has = columns.__contains__
    if set(_PAIR) <= columns or {"chosen", "rejected"} <= columns:
        return "preference"
    if has("messages") or has("conversations"):
        if any(map(has, _EXPECTED)):
            return "cases"
        return "chat" if _ends_with_reply(first, mapping) else "cases"
    if has("ideal") or has("inputs") or has("expected"):
        return "cases"
    if has("instruction") and (has("output") or has("response")):
        return "instruct"
    if has("prompt") and (has("completion") or has("response")):
        return "instruct"
    if has("query") and any(map(has, (*_RELEVANT, "passages"))):
        return "retrieval"
    if any(map(has, ("text", "sentence"))) and any(map(has, ("label", "category", "class"))):
        return "label"
    if any(map(has, ("input", "question", "query", "prompt"))):
        return "cases"
    shown = ", ".join(sorted(columns)[:20]) or "none"
    raise UnknownFormat(
        f"Nobody can tell what the rows of {source} are; their columns: {shown}.",
        hint=f"Say --format ({', '.join(FORMATS)}) and, where a column is called otherwise, --map FIELD=COLUMN,"
        " such as --format cases --map input=Question --map expected=Answer.",
        columns=sorted(columns)[:100],
    )


def pick(value: Mapping[str, Any], column: str) -> Any:
    """Return what stands under a column, or under a dotted path of one; None where nothing does."""
    if column in value:
        return value[column]
    found: Any = value
    for part in column.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def _check_mapping(
    first: Sequence[Mapping[str, Any]],
    form: DatasetFormat | None,
    mapping: Mapping[str, str],
    columns: Iterable[str],
) -> None:
    fields = {name for each in ([form] if form else FORMATS) for name in _NAMES[each]} | set(_OF_EVERY_ROW)
    for field, column in mapping.items():
        if field not in fields and not (field.startswith("metadata.") and len(field) > len("metadata.")):
            raise InvalidInput(
                f"There is no field {field!r} to map a column to.",
                hint=suggest(field, fields) or f"Use {', '.join(sorted(fields))} or metadata.NAME.",
                param="map",
            )
        if first and all(pick(row, column) is None for row in first):
            raise InvalidInput(
                f"No row has a column {column!r} for {field}.",
                hint=suggest(column, columns) or f"Columns: {', '.join(sorted(columns)[:20])}.",
                param="map",
            )


def _columns_of(first: Sequence[Mapping[str, Any]]) -> set[str]:
    return {name for row in first for name, value in row.items() if value is not None}


def _ends_with_reply(first: Sequence[Mapping[str, Any]], mapping: Mapping[str, str]) -> bool:
    for row in first:
        talk = pick(row, mapping.get("messages", "messages")) or row.get("conversations")
        if isinstance(talk, str):  # of a table; whoever has whole conversations in cells trains with them
            return True
        last = talk[-1] if isinstance(talk, list) and talk else None
        if isinstance(last, Mapping) and (last.get("role") or last.get("from")) in {
            "assistant",
            "gpt",
            "model",
        }:
            return True
    return False
