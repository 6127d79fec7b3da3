"""Which rows: `split:test tag:hard lang:de,fr -tag:draft expected:none "exact words"`, or the same as an object.

All terms must hold; `-` or the word `not` before one turns it round. A name that is no word of ours is a key of the metadata; `field.NAME` asks a field. Words without a name are
looked for in the row's texts, whatever their case.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.datasets.formats import pick
from penstock.spec.datasets import DatasetRow

Test = Callable[[DatasetRow], bool]
_NOT = "not"
_NONE = "none"
_ANY = "any"
_OBJECT_NAMES = {"splits": "split", "tags": "tag", "ids": "id", "groups": "group"}


def make_filter(where: str | Mapping[str, Any] | None) -> Test | None:
    """Return the test that rows must pass, or None when all do; raise `InvalidInput` for what cannot be read."""
    if not where:
        return None
    tests = _from_text(where) if isinstance(where, str) else _from_object(where)
    if not tests:
        return None
    return lambda row: all(test(row) for test in tests)


def find_text(value: Any, wanted: str) -> bool:
    """Return whether a value holds the text, which is in lower case, anywhere within."""
    if isinstance(value, str):
        return wanted in value.lower()
    if isinstance(value, Mapping):
        return any(find_text(each, wanted) for each in value.values())
    if isinstance(value, list | tuple):
        return any(find_text(each, wanted) for each in value)
    return isinstance(value, int | float) and wanted == str(value)


def _from_text(where: str) -> list[Test]:
    try:
        words = shlex.split(where, posix=True)
    except ValueError as error:
        raise InvalidInput(f"The filter {where!r} has a quote that does not end.", param="where") from error
    tests = []
    is_turned = False
    for number, word in enumerate(words):
        if word.lower() == _NOT and number + 1 < len(words):
            is_turned = not is_turned
            continue
        is_not, term = (word.startswith("-") and len(word) > 1) != is_turned, word.removeprefix("-")
        is_turned = False
        name, colon, value = term.partition(":")
        if colon and name and not name.strip().count(" "):
            test = _named(name, [each for each in value.split(",") if each])
        else:
            test = _text(term.lower())
        tests.append(_negated(test) if is_not else test)
    return tests


def _from_object(where: Mapping[str, Any]) -> list[Test]:
    tests = []
    for key, value in where.items():
        name = _OBJECT_NAMES.get(key, key)
        if value is None:
            values = [_NONE]
        elif isinstance(value, list | tuple):
            values = [str(each) for each in value]
        elif isinstance(value, str | int | float | bool):
            values = [_written(value)]
        else:
            raise InvalidInput(f"The filter {key!r} must be a text, a number or a list.", param="where")
        if key == "text":
            tests += [_text(each.lower()) for each in values]
        elif key == "tags":
            tests += [_named("tag", [each]) for each in values]  # all of them, as evaluations say
        else:
            tests.append(_named(name, values))
    return tests


def _named(name: str, values: Sequence[str]) -> Test:
    if not values:
        raise InvalidInput(
            f"The filter {name!r} asks for nothing.",
            hint=f"Write {name}:VALUE, {name}:none or {name}:any.",
            param="where",
        )
    wanted = frozenset(values)
    read = _reader(name)

    def test(row: DatasetRow) -> bool:
        found = read(row)
        if found is None or found in ([], "", {}):
            return _NONE in wanted
        if _ANY in wanted:
            return True
        items = found if isinstance(found, list) else [found]
        return any(_written(each) in wanted for each in items)

    return test


def _reader(name: str) -> Callable[[DatasetRow], Any]:
    if name == "split":
        return lambda row: row.split
    if name == "tag":
        return lambda row: row.tags
    if name == "id":
        return lambda row: row.id
    if name == "group":
        return lambda row: row.group
    if name == "source":
        return lambda row: None if row.provenance is None else row.provenance.kind
    if name == "expected":
        return lambda row: row.fields.get("expected")
    if name.startswith("field."):
        return lambda row: pick(row.fields, name.removeprefix("field."))
    key = name.removeprefix("metadata.")
    return lambda row: pick(row.metadata, key)


def _text(wanted: str) -> Test:
    return lambda row: (
        find_text(row.fields, wanted) or find_text(row.metadata, wanted) or wanted in row.id.lower()
    )


def _negated(test: Test) -> Test:
    return lambda row: not test(row)


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return msgspec.json.encode(value).decode()
