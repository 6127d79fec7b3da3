"""The values a prompt is given, held against what it declares. Everything that is wrong is told at once."""

from collections.abc import Mapping
from typing import Any

from penstock.base.errors import suggest
from penstock.spec.prompts import PromptVariable, VariableType
from penstock.templating.errors import WrongVariables

_MAX_SHOWN = 60
_WORDS: Mapping[VariableType, str] = {
    "text": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "list": "a list",
    "object": "an object",
    "messages": "a list of messages with `role` and `content`",
}


def check_variables(declared: Mapping[str, PromptVariable], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for every declared variable.

    A number given for a text stands there as JSON writes it. Raises `WrongVariables` that names each missing, unknown
    or mistyped one.
    """
    problems: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, variable in declared.items():
        if name not in given or (given[name] is None and not variable.required):
            if variable.required:
                problems[name] = f"{name!r} is missing ({_WORDS[variable.type]})."
            values[name] = variable.default
            continue
        value = given[name]
        if variable.type == "text" and isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if wrong := find_mistake(variable, value):
            problems[name] = f"{name!r} {wrong}."
        values[name] = value
    missing = [name for name in declared if name not in given]
    for name in given:
        if name not in declared:
            near = suggest(name, missing) or suggest(name, declared) or ""
            problems[name] = f"There is no variable {name!r}.{' ' if near else ''}{near}"
    if problems:
        known = ", ".join(repr(name) for name in declared)
        raise WrongVariables(problems, hint=f"It takes {known}." if known else "It takes none.")
    return values


def find_mistake(variable: PromptVariable, value: Any) -> str | None:
    """Return what is wrong with a value, as the rest of a sentence; None when it fits."""
    if not _fits(variable.type, value):
        return f"must be {_WORDS[variable.type]}, not {_shown(value)}"
    if variable.choices and value not in variable.choices:
        return f"must be one of {', '.join(map(_shown, variable.choices))}, not {_shown(value)}"
    if variable.max_chars is not None and isinstance(value, str) and len(value) > variable.max_chars:
        return f"has {len(value):,} characters; at most {variable.max_chars:,} are taken"
    return None


def _fits(kind: VariableType, value: Any) -> bool:
    if kind == "text":
        return isinstance(value, str)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "object":
        return isinstance(value, dict)
    if not isinstance(value, list):
        return False
    return kind == "list" or all(is_message(each) for each in value)


def is_message(value: Any) -> bool:
    """Return whether a value is a chat message in OpenAI's shape."""
    return isinstance(value, dict) and isinstance(value.get("role"), str)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
