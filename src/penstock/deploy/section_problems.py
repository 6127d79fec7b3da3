"""How mistakes in what people wrote are told: the place, what is wrong, and the cure. For files, bodies and options."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from penstock.base.errors import suggest
from penstock.deploy.section_types import PROVIDER_NAME, SECRET_NAME, VARIABLE_NAME

KeyPath = tuple[str | int, ...]
_SHAPES = {
    PROVIDER_NAME: (
        "is not a provider's name",
        "Use lower-case letters, digits, dot, dash and underscore.",
    ),
    SECRET_NAME: (
        "is not a secret's name",
        "Give the name that `penstock secret set` was given, never the secret itself.",
    ),
    VARIABLE_NAME: (
        "is not a variable's name",
        "Give the name of an environment variable, never the key itself.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class SectionProblem:
    """One thing that is wrong."""

    path: KeyPath
    """The key that is meant."""
    where: KeyPath
    """The key a person is pointed to: the table, when the key itself is missing or unknown."""
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        hint = f" {self.hint}" if self.hint else ""
        where = f"{write_path(self.where)}: " if self.where else ""
        return f"{where}{self.message}.{hint}"


def describe_problem(model: type[BaseModel], item: Mapping[str, Any]) -> SectionProblem:
    """Return one error of pydantic as a person should read it."""
    path: KeyPath = tuple(part for part in item["loc"] if part != "[key]")
    kind, value, context = item["type"], item.get("input"), item.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(model, path)
    if kind == "missing":
        return SectionProblem(path=path, where=path[:-1], message=f"the key {path[-1]!r} is missing")
    if kind == "string_pattern_mismatch":
        message, advice = _SHAPES.get(
            str(context.get("pattern")), ("has characters that do not belong there", _shown(value))
        )
        return SectionProblem(path=path, where=path, message=message, hint=advice)
    if kind == "value_error":
        return SectionProblem(path=path, where=path, message=str(item["msg"]).removeprefix("Value error, "))
    message = str(item["msg"])
    message = message.removeprefix("Input ").replace("Input ", "")
    message = message.replace("should be", "must be").replace("valid dictionary", "table")
    hint: str | None = f"Found {_shown(value)}." if value is not None else None
    if isinstance(value, str) and kind == "literal_error":
        known = re.findall(r"'([^']+)'", str(context.get("expected", "")))
        hint = suggest(value, known) or hint
    return SectionProblem(path=path, where=path, message=message, hint=hint)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else f"{str(value)[:40]!r}"


def _unknown_key(model: type[BaseModel], path: KeyPath) -> SectionProblem:
    known = known_keys(model, path[:-1])
    near = suggest(str(path[-1]), known)
    hint = f"{near} Known here: {', '.join(known)}." if near else f"Known here: {', '.join(known)}."
    return SectionProblem(path=path, where=path[:-1], message=f"unknown key {str(path[-1])!r}", hint=hint)


def known_keys(model: type[BaseModel], path: KeyPath) -> list[str]:
    """Return the keys that may stand in the table at `path`, in the order of the documentation."""
    annotation: Any = model
    for part in path:
        inner = model_in(annotation)
        if inner is not None and _is_model(annotation) and part in inner.model_fields:
            annotation = inner.model_fields[str(part)].annotation
        else:  # the key of a table of tables, or the number of an item
            annotation = inner
    found = model_in(annotation)
    return list(found.model_fields) if found is not None else []


def model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section that values of this type are made of, or None."""
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    for argument in get_args(annotation):
        if (found := model_in(argument)) is not None:
            return found
    return None


def _is_model(annotation: Any) -> bool:
    """Return whether values of this type are one section, not a table or list of sections."""
    if isinstance(annotation, type):
        return issubclass(annotation, BaseModel)
    return get_origin(annotation) not in {dict, list} and any(map(_is_model, get_args(annotation)))


def write_path(path: KeyPath) -> str:
    """Return `path` as TOML writes it: `routes."gpt-4o-mini".targets[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            word = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"'
            text += f".{word}" if text else word
    return text or "the file"
