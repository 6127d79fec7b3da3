"""Forms that judges fill in: how they are asked for, and how a reply is read, whatever a model wraps around it.

A reply counts when it holds exactly one readable form. The surprise: a reply with two different forms is not read at all, since
one of them may be an echo of the text that was judged.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

FieldKind = Literal["choice", "text", "integer", "object", "list"]
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_LINE = re.compile(r"^[\s>*_#\-]*([\w ]{1,40}?)[*_`\"' ]*\s*[:=]\s*(.+?)\s*$")
_EDGES = " \t\r\n.,;:!\"'`*_()[]"
MAX_TEXT = 4_000
"""Characters of one text in a form; more is cut."""
MAX_ITEMS = 200
"""Entries of one list in a form."""
MAX_FORMS = 50
"""Objects that are looked at in one reply."""


class FormProblem(Exception):
    """A reply is no such form; the text says why, so that it can be told to the judge."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One place of a form."""

    name: str
    kind: FieldKind
    ask: str = ""
    """What belongs there."""
    choices: Sequence[str] = ()
    low: int = 0
    high: int = 0
    form: "Form | None" = None
    """Of an object, or of each entry of a list."""
    short: str = ""
    """The place within an object that a bare word stands for: `"item_1": "yes"`."""
    is_optional: bool = False
    """A text that may be left out."""

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the value."""
        if self.kind == "choice":
            return {"type": "string", "enum": list(self.choices)}
        if self.kind == "integer":
            return {"type": "integer", "minimum": self.low, "maximum": self.high}
        if self.kind == "text":
            return {"type": "string"}
        assert self.form is not None
        inner = self.form.schema()
        return inner if self.kind == "object" else {"type": "array", "items": inner}

    def read(self, value: Any, path: str) -> Any:
        """Return the value in order; raise `FormProblem`."""
        if self.kind == "choice":
            return _read_choice(value, self.choices, path)
        if self.kind == "integer":
            return _read_integer(value, self.low, self.high, path)
        if self.kind == "text":
            if value is None:
                value = ""
            if not isinstance(value, str):
                value = json.dumps(value, ensure_ascii=False)
            return str(value)[:MAX_TEXT]
        assert self.form is not None
        if self.kind == "object":
            if self.short and not isinstance(value, Mapping):
                value = {self.short: value}
            return self.form.read(value, path)
        if not isinstance(value, list):
            raise FormProblem(f"{path} must be a list")
        if len(value) > MAX_ITEMS:
            raise FormProblem(f"{path} has {len(value)} entries; at most {MAX_ITEMS} are read")
        return [self.form.read(entry, f"{path}[{number}]") for number, entry in enumerate(value)]


@dataclass(frozen=True)
class Form:
    """A JSON object with named places."""

    fields: tuple[Field, ...]

    def schema(self) -> dict[str, Any]:
        """Return the strict JSON schema: all places, no others."""
        return {
            "type": "object",
            "properties": {field.name: field.schema() for field in self.fields},
            "required": [field.name for field in self.fields],
            "additionalProperties": False,
        }

    def describe(self) -> str:
        """Return the form as a judge is shown it."""
        return _sketch(self, 0)

    def read(self, value: Any, path: str = "") -> dict[str, Any]:
        """Return the places in order, unknown ones left out; raise `FormProblem`."""
        if not isinstance(value, Mapping):
            raise FormProblem(f"{path or 'the reply'} must be a JSON object")
        given = {str(name).strip().casefold().replace(" ", "_"): each for name, each in value.items()}
        found = {}
        for field in self.fields:
            where = f"{path}.{field.name}" if path else field.name
            if field.name.casefold() not in given:
                if field.kind == "text" and field.is_optional:
                    found[field.name] = ""
                    continue
                raise FormProblem(f"{where} is missing")
            found[field.name] = field.read(given[field.name.casefold()], where)
        return found


def read_reply(text: str, form: Form) -> dict[str, Any]:
    """Return the one form that a reply holds; raise `FormProblem` for none, and for two that differ."""
    bare = _THOUGHT.sub("", text).strip()
    if not bare:
        raise FormProblem("the reply is empty")
    problem, found = None, []
    candidates = _find_objects(bare)
    for value in candidates:
        try:
            read = form.read(value)
        except FormProblem as error:
            problem = error
            continue
        if read not in found:
            found.append(read)
    if not found and not candidates:
        found = _read_lines(bare, form)
    if len(found) > 1:
        raise FormProblem("the reply holds several forms that differ")
    if not found:
        raise problem or FormProblem("the reply holds no JSON object")
    return found[0]


def _find_objects(text: str) -> list[Any]:
    """Return the JSON objects in a text, those within others left out."""
    decoder = json.JSONDecoder(object_pairs_hook=_read_pairs, parse_constant=_refuse)
    found: list[Any] = []
    start = text.find("{")
    for _ in range(MAX_FORMS):
        if start < 0:
            break
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            found.append(value)
        start = text.find("{", end)
    return found


def _read_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that says two things under one name."""
    read: dict[str, Any] = {}
    for name, value in pairs:
        if name in read and read[name] != value:
            raise ValueError(f"{name} stands there twice")
        read[name] = value
    return read


def _refuse(word: str) -> Any:
    raise ValueError(word)


def _read_lines(text: str, form: Form) -> list[dict[str, Any]]:
    """Read `name: value` lines of a flat form, or the bare value of a form with one place that matters."""
    needed = [field for field in form.fields if not (field.kind == "text" and field.is_optional)]
    flat = all(field.kind in {"choice", "integer", "text"} or field.short for field in form.fields)
    if not flat:
        return []
    given: dict[str, str] = {}
    names = {field.name.casefold() for field in form.fields}
    for line in text.splitlines():
        match = _LINE.match(line)
        name = match[1].strip().casefold().replace(" ", "_") if match else ""
        if match is None or name not in names:
            continue
        if given.get(name, match[2]) != match[2]:
            return []  # said twice, differently
        given[name] = match[2]
    if not given and len(needed) == 1:
        given[needed[0].name.casefold()] = text
    try:
        return [form.read(given)]
    except FormProblem:
        return []


def _read_choice(value: Any, choices: Sequence[str], path: str) -> str:
    if isinstance(value, bool):
        value = "yes" if value else "no"
    word = _plain(value) if isinstance(value, str | int) else ""
    for choice in choices:
        if _plain(choice) == word:
            return choice
    raise FormProblem(f"{path} must be one of {', '.join(choices)}")


def _plain(value: str | int) -> str:
    return str(value).strip(_EDGES).casefold().replace("_", " ").replace("-", " ")


def _read_integer(value: Any, low: int, high: int, path: str) -> int:
    number: float | None = None
    if isinstance(value, str):
        text = value.strip(_EDGES)
        number = float(text) if re.fullmatch(r"-?\d{1,9}(\.0+)?", text) else None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    if number is None or not number.is_integer() or not low <= number <= high:
        raise FormProblem(f"{path} must be a whole number from {low} to {high}")
    return int(number)


def _sketch(form: Form, depth: int) -> str:
    pad = "  " * (depth + 1)
    lines = []
    for field in form.fields:
        if field.kind == "choice":
            shown = json.dumps(" | ".join(field.choices), ensure_ascii=False)
        elif field.kind == "integer":
            shown = f"<whole number from {field.low} to {field.high}>"
        elif field.kind == "text":
            shown = json.dumps(f"<{field.ask or 'text'}>", ensure_ascii=False)
        else:
            assert field.form is not None
            inner = _sketch(field.form, depth + 1)
            shown = inner if field.kind == "object" else f"[{inner}, ...]"
        lines.append(f'{pad}"{field.name}": {shown}')
    return "{\n" + ",\n".join(lines) + "\n" + "  " * depth + "}"
