"""Recipes from TOML or JSON, with every mistake told at once: line, key, what is wrong, and the nearest right word."""

import tomllib
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.base.errors import suggest
from penstock.base.toml_lines import KeyPath, locate_lines, nearest_line
from penstock.spec.tuning import LATER_METHODS, Recipe, TuneMethod
from penstock.tuning.recipes.checks import check_recipe
from penstock.tuning.runs.errors import RecipeInvalid

MAX_BYTES = 256 * 1024
_METHODS: tuple[str, ...] = typing.get_args(TuneMethod)


@dataclass(frozen=True, kw_only=True)
class RecipeProblem:
    """One thing that is wrong with a recipe."""

    path: KeyPath
    message: str
    hint: str | None = None


def read_recipe_text(text: str, *, name: str = "the recipe") -> Recipe:
    """Return the recipe that a TOML text holds; `name` is only used in errors. Raises `RecipeInvalid`."""
    if len(text.encode()) > MAX_BYTES:
        raise RecipeInvalid(f"{name} is larger than {MAX_BYTES} bytes; that is no recipe.")
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeInvalid(
            f"{name} is no TOML: {error}.", hint="`penstock tune init` writes one."
        ) from error
    return _read(values, name, locate_lines(text))


def read_recipe(values: Mapping[str, Any], *, name: str = "the recipe") -> Recipe:
    """Return the recipe that JSON values hold. Raises `RecipeInvalid`."""
    return _read(values, name, {})


def invalid_recipe(name: str, problems: list[RecipeProblem], lines: dict[KeyPath, int]) -> RecipeInvalid:
    """Return one error that lists all problems in the order of their lines."""
    placed = [(nearest_line(lines, problem.path), problem) for problem in problems]
    placed.sort(key=lambda pair: pair[0] or 0)
    head = f"{name} has {len(problems)} problem{'s' if len(problems) > 1 else ''}:"
    texts = [_written(line, problem) for line, problem in placed]
    return RecipeInvalid(
        "\n  ".join([head, *texts]),
        problems=[
            {"line": line, "where": write_key(each.path), "message": each.message, "hint": each.hint}
            for line, each in placed
        ],
    )


_OF_ANY_METHOD = frozenset(
    {("name",), ("seed",), ("train", "epochs"), ("output", "alias"), ("output", "name")}
)
"""Keys whose rules ask for no method: told even where the method is misspelt."""


def write_key(path: KeyPath) -> str:
    """Return `train.lr`."""
    return ".".join(str(part) for part in path) or "recipe"


def _read(values: Mapping[str, Any], name: str, lines: dict[KeyPath, int]) -> Recipe:
    problems = [*_method_problems(values), *_find_problems(values, Recipe, ())]
    if problems:
        raise invalid_recipe(name, [*problems, *_problems_beside(values, problems)], lines)
    try:
        recipe = msgspec.convert(values, Recipe)
    except msgspec.ValidationError as error:  # what the walk over the keys does not know
        raise RecipeInvalid(f"{name}: {error}.") from error
    from_rules = list(_check(recipe))
    if from_rules:
        raise invalid_recipe(name, from_rules, lines)
    return recipe


def _problems_beside(values: Mapping[str, Any], problems: Sequence[RecipeProblem]) -> Iterator[RecipeProblem]:
    """Yield what is wrong with the keys that can be read, when others cannot: all mistakes are told at once."""
    told = {problem.path for problem in problems}
    rest = _without(values, (), told)
    for key, needed in (("name", "x"), ("data", {}), ("output", {})):
        rest.setdefault(key, needed)
    is_method_known = "method" in rest
    rest.setdefault("method", "full")
    try:
        rest["data"].setdefault("train", "dataset:x")
        rest["output"].setdefault("name", "x")
        recipe = msgspec.convert(rest, Recipe)
    except (msgspec.ValidationError, AttributeError):
        return
    for problem in _check(recipe):
        if problem.path not in told and (is_method_known or problem.path in _OF_ANY_METHOD):
            yield problem


def _without(values: Mapping[str, Any], path: KeyPath, told: Collection[KeyPath]) -> dict[str, Any]:
    return {
        key: _without(value, (*path, key), told) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if (*path, key) not in told
    }


def _check(recipe: Recipe) -> Iterator[RecipeProblem]:
    for path, message, hint in check_recipe(recipe):
        yield RecipeProblem(path=path, message=message, hint=hint)


def _written(line: int | None, problem: RecipeProblem) -> str:
    place = f"line {line}: " if line is not None else ""
    hint = f" {problem.hint}" if problem.hint else ""
    return f"{place}{write_key(problem.path)}: {problem.message}.{hint}"


def _method_problems(values: Mapping[str, Any]) -> Iterator[RecipeProblem]:
    method = values.get("method")
    if isinstance(method, str) and method in LATER_METHODS:
        hint = f"Known today: {', '.join(_METHODS)}."
        yield RecipeProblem(
            path=("method",), message=f"{method!r} is kept for a later version and not there yet", hint=hint
        )


def _find_problems(values: Any, struct: type[msgspec.Struct], path: KeyPath) -> Iterator[RecipeProblem]:
    """Yield what is wrong with each key alone; values that a key refuses are told with what it takes."""
    if not isinstance(values, Mapping):
        yield RecipeProblem(path=path, message="this is a table of keys, such as [data]")
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for key, value in values.items():
        field = fields.get(key)
        if field is None:
            yield RecipeProblem(
                path=(*path, key),
                message="there is no such key",
                hint=suggest(key, fields) or f"Known here: {', '.join(fields)}.",
            )
            continue
        nested = _struct_of(field.type)
        if nested is not None:
            yield from _find_problems(value, nested, (*path, key))
        elif not (path == () and key == "method" and value in LATER_METHODS):
            yield from _value_problem(value, field.type, (*path, key))
    for key, field in fields.items():
        if field.required and key not in values:
            yield RecipeProblem(path=(*path, key), message="this key is needed")


def _struct_of(kind: Any) -> type[msgspec.Struct] | None:
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for option in options:
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            return option
    return None


def _value_problem(value: Any, kind: Any, path: KeyPath) -> Iterator[RecipeProblem]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        known = _words(kind)
        hint = suggest(str(value), known) if known and isinstance(value, str) else None
        yield RecipeProblem(path=path, message=f"{value!r} is not {_expected(kind)}", hint=hint)


def _words(kind: Any) -> list[str]:
    found: list[str] = []
    for option in typing.get_args(kind) or ():
        if isinstance(option, str):
            found.append(option)
        else:
            found.extend(_words(option))
    return found


def _expected(kind: Any) -> str:
    if known := _words(kind):
        return f"one of {', '.join(known)}"
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    options = [option for option in (typing.get_args(kind) or (kind,)) if option is not type(None)]
    return names.get(options[0], "a list of texts") if options else "known"
