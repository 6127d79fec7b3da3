"""Values that people write, as flat fields of a form, and back.

The field `targets.0.model` is the key `model` of the first of `targets`. What is left empty is not written, so that its
default goes on being the default. The fields `on:connect` and `on:` are the options of a list that are chosen, and the
mark that the list was asked for.
"""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from penstock.deploy.section_problems import KeyPath, describe_problem

Widget = Literal["text", "number", "choice", "several", "lines"]
Fields = Mapping[str, str]


@dataclass(kw_only=True)
class Gathered:
    """What a posted form says."""

    content: dict[str, Any]
    errors: dict[str, str] = field(default_factory=dict)
    """What is wrong, by the name of the field."""


def flatten(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a form that says `content`."""
    return dict(_flatten("", content))


# --- Kinds of values ---------------------------------------------------------------------------------------------


def bare_type(annotation: Any) -> Any:
    """Return a type without `Annotated` and `| None`."""
    if get_origin(annotation) is Annotated:
        return bare_type(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return bare_type(next(each for each in get_args(annotation) if each is not type(None)))
    return annotation


def section_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a value is, or None."""
    bare = bare_type(annotation)
    return bare if isinstance(bare, type) and issubclass(bare, BaseModel) else None


def rows_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section that each item of a list is, or None."""
    bare = bare_type(annotation)
    return section_in(get_args(bare)[0]) if get_origin(bare) is list else None


def widget_of(annotation: Any) -> tuple[Widget, tuple[str, ...]]:
    """Return how a value is asked for, with the options there are."""
    bare = bare_type(annotation)
    if bare is bool:
        return "choice", ("yes", "no")
    if get_origin(bare) is Literal:
        return "choice", tuple(str(each) for each in get_args(bare))
    if get_origin(bare) is list:
        inner = bare_type(get_args(bare)[0])
        options = get_args(inner) if get_origin(inner) is Literal else ()
        return ("several", tuple(str(each) for each in options)) if options else ("text", ())
    if get_origin(bare) is dict:
        return "lines", ()
    return ("number", ()) if bare in {int, float, Decimal} else ("text", ())


def default_of(info: FieldInfo) -> Any:
    """Return the default, None when there is none."""
    found = info.get_default(call_default_factory=True, validated_data={})
    return None if found is PydanticUndefined else found


# --- Content to fields ---------------------------------------------------------------------------------------------


def _flatten(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        if path.rpartition(".")[2] in {"query", "headers"}:
            yield path, "\n".join(f"{name} = {text}" for name, text in value.items())
            return
        for name, item in value.items():
            yield from _flatten(f"{path}.{name}" if path else name, item)
    elif isinstance(value, list | tuple):
        if value and isinstance(value[0], Mapping):
            for number, item in enumerate(value):
                yield from _flatten(f"{path}.{number}", item)
        else:
            yield path, ", ".join(str(item) for item in value)
            for item in value:
                yield f"{path}:{item}", "on"
            yield f"{path}:", "said"
    elif isinstance(value, bool):
        yield path, "yes" if value else "no"
    elif value is not None:
        yield path, f"{value:g}" if isinstance(value, float) and value < 1e6 else str(value)


# --- Fields to content ---------------------------------------------------------------------------------------------


def gather(model: type[BaseModel], fields: Fields) -> Gathered:
    """Return the content that the fields say, and what is wrong with it."""
    reader = _Reader(fields)
    content = reader.read(model, "", ())
    errors = reader.errors
    try:
        model.model_validate(content)
    except ValidationError as error:
        for item in error.errors():
            problem = describe_problem(model, dict(item))
            hint = f" {problem.hint}" if problem.hint else ""
            text = f"{problem.message[:1].upper()}{problem.message[1:]}.{hint}"
            if item["type"] == "missing":
                text = "This is needed."
            errors.setdefault(reader.name_field(problem.path), text)
    return Gathered(content=content, errors=errors)


def is_filled(fields: Fields, path: str) -> bool:
    """Return whether something was written below `path`; marks of lists are there even when nothing was."""
    return any(
        value.strip() and ":" not in name for name, value in fields.items() if name.startswith(f"{path}.")
    )


def row_numbers(fields: Fields, name: str) -> list[int]:
    """Return the numbers of a list's rows that are filled in."""
    heads = {each[len(name) + 1 :].partition(".")[0] for each in fields if each.startswith(f"{name}.")}
    numbers = {int(head) for head in heads if head.isascii() and head.isdigit() and len(head) < 4}
    return [each for each in sorted(numbers) if is_filled(fields, f"{name}.{each}")]


class _Reader:
    """Reads one posted form; remembers which row each item came from, so that errors find their field."""

    def __init__(self, fields: Fields) -> None:
        self.errors: dict[str, str] = {}
        self._fields = fields
        self._rows: dict[KeyPath, list[int]] = {}

    def read(self, model: type[BaseModel], path: str, place: KeyPath) -> dict[str, Any]:
        """Return what stands below `path`, which is at `place` in the content."""
        content: dict[str, Any] = {}
        for key, info in model.model_fields.items():
            value = self._read_key(key, info, f"{path}.{key}" if path else key, place)
            if value is not None:
                content[key] = value
        return content

    def name_field(self, path: KeyPath) -> str:
        """Return the field that holds what stands at `path` in the content."""
        parts: list[str] = []
        for at, part in enumerate(path):
            if isinstance(part, int):
                numbers = self._rows.get(path[:at])
                if numbers is None or part >= len(numbers):
                    break  # an item of a plain list: the field holds all of them
                parts.append(str(numbers[part]))
            else:
                parts.append(part)
        return ".".join(parts)

    def _read_key(self, key: str, info: FieldInfo, name: str, place: KeyPath) -> Any:
        here = (*place, key)
        if (rows := rows_in(info.annotation)) is not None:
            numbers = self._rows[here] = row_numbers(self._fields, name)
            items = [self.read(rows, f"{name}.{each}", (*here, at)) for at, each in enumerate(numbers)]
            return items or None
        if (section := section_in(info.annotation)) is not None:
            return self.read(section, name, here) or None
        return _read_value(info, self._fields, name, self.errors)


def _read_value(info: FieldInfo, fields: Fields, name: str, errors: dict[str, str]) -> Any:
    widget, options = widget_of(info.annotation)
    text = fields.get(name, "").strip()
    if widget == "several":
        chosen = [option for option in options if f"{name}:{option}" in fields]
        default = default_of(info)
        return None if chosen == (default or []) or f"{name}:" not in fields else chosen
    if not text:
        return None
    if widget == "lines":
        return _read_lines(text, name, errors)
    bare = bare_type(info.annotation)
    if bare is bool:
        return {"yes": True, "no": False}.get(text, text)
    if get_origin(bare) is list:
        return [each for each in text.replace(",", " ").split() if each]
    if bare in {int, float}:
        try:
            return bare(text.replace(",", "").replace(" ", ""))
        except ValueError:
            return text
    return text.replace(",", "") if bare is Decimal else text


def _read_lines(text: str, name: str, errors: dict[str, str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            key, sign, value = line.partition("=")
            if not sign or not key.strip():
                errors[name] = f"Line {number} is not NAME = VALUE."
            pairs[key.strip()] = value.strip()
    return pairs
