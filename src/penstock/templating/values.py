"""How values stand in a prompt, and what templates may do with them: text, arithmetic, filters. All of it is bounded.

A list or an object is written as JSON, and what is not there (null) as nothing.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from itertools import islice
from types import GeneratorType
from typing import Any

from jinja2 import Undefined, pass_environment
from jinja2.environment import Environment
from jinja2.exceptions import FilterArgumentError
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.tests import TESTS

from penstock.templating.errors import TooMuchWork
from penstock.templating.work import (
    MAX_BITS,
    MAX_ITEMS,
    bounded_items,
    bounded_list,
    bounded_size,
    look,
    made,
    weigh,
)

_PLAIN_FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "groupby", "int", "items", "last",
    "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "sort",
    "title", "trim", "truncate", "unique", "upper", "wordcount",
)  # fmt: skip
_TESTS = (
    "!=", "<", "<=", "==", ">", ">=", "boolean", "defined", "divisibleby", "eq", "equalto", "even", "false", "float",
    "ge", "greaterthan", "gt", "in", "integer", "iterable", "le", "lessthan", "lower", "lt", "mapping", "ne", "none",
    "number", "odd", "sequence", "string", "true", "undefined", "upper",
)  # fmt: skip
MAX_INDENT = 200
_MAX_DIGITS = 30
_ITERATING = frozenset(
    {"dictsort", "groupby", "join", "list", "map", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr",
     "sort", "sum", "unique"}
)  # fmt: skip
"""Filters that go through what they are given, a text letter by letter."""
_WORD = re.compile(r"\w+")
_PIECES = re.compile(r"\S+")
_LINE_ENDS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_MAX_TITLE = 1_000_000


def text_of(value: Any) -> str:
    """Return how a value stands in a prompt."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, GeneratorType | range | type({}.keys()) | type({}.values()) | type({}.items())):
        value = list(value)
    if isinstance(value, list | tuple | dict):
        return json_of(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is infinite, or none")
    return str(value)  # raises for what is undefined, with its name


def json_of(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON, letters of all languages as they are."""
    weigh(value)
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=_plain, allow_nan=False)
    bounded_size(len(text))
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, Undefined):
        return str(value)  # raises
    if isinstance(value, Iterable):
        return list(value)
    return str(value)


def joined(parts: Iterable[Any]) -> str:
    """Return texts one after the other: what `~` does."""
    return str(made(join(parts)))


def join(values: Iterable[Any], separator: Any = "", attribute: str | int | None = None) -> str:
    """Return texts with `separator` between them."""
    assert attribute is None
    texts = [text_of(value) for value in bounded_list(values)]
    between = text_of(separator)
    bounded_size(sum(map(len, texts)) + len(between) * len(texts))
    return between.join(texts)


@pass_environment
def _join(
    environment: Environment, values: Iterable[Any], d: Any = "", attribute: str | int | None = None
) -> str:
    if attribute is not None:
        values = map(make_attrgetter(environment, attribute), values)
    return join(values, d)


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = text_of(value), text_of(old), text_of(new)
    n_found = text.count(old) if count is None else min(count, text.count(old))
    bounded_size(len(text) + n_found * max(len(new) - len(old), 0))
    return text.replace(old, new, -1 if count is None else count)


def _indent(value: Any, width: int = 4, first: bool = False, blank: bool = False) -> str:
    if not isinstance(width, int) or not 0 <= width <= MAX_INDENT:
        raise FilterArgumentError(f"indent takes a width from 0 to {MAX_INDENT}")
    text, space = text_of(value), " " * width
    bounded_items(text.count("\n"))
    lines = text.split("\n")
    bounded_size(len(text) + width * len(lines))
    shown = [line if not (line or blank) or (not number and not first) else space + line
             for number, line in enumerate(lines)]  # fmt: skip
    return "\n".join(shown)


def _round(value: Any, precision: int = 0) -> float:
    if not isinstance(precision, int) or abs(precision) > _MAX_DIGITS:
        raise FilterArgumentError(f"round takes at most {_MAX_DIGITS} digits")
    return float(round(value, precision))


@pass_environment
def _sum(environment: Environment, values: Iterable[Any], attribute: str | int | None = None) -> Any:
    if attribute is not None:
        values = map(make_attrgetter(environment, attribute), values)
    total: Any = 0
    for value in values:
        total = calculate("+", total, _number(value))
    return total


def _tojson(value: Any, indent: int | None = None) -> str:
    if indent is not None and not (isinstance(indent, int) and 0 <= indent <= 16):
        raise FilterArgumentError("tojson takes an indent from 0 to 16")
    return json_of(value, indent)


def weighed(value: Any) -> Any:
    """Return a list or object that the template wrote, once it is known not to be too large."""
    weigh(value)
    return made(value)


def pieces_of(text: str, method: str, args: Sequence[Any]) -> int:
    """Return into how many pieces a method splits a text at most, without splitting it; stops counting at too many."""
    if method == "splitlines":
        return sum(1 for _ in islice(_LINE_ENDS.finditer(text), MAX_ITEMS + 1))
    separator = args[0] if args else None
    if isinstance(separator, str) and separator:
        return text.count(separator) + 1
    return sum(1 for _ in islice(_PIECES.finditer(text), MAX_ITEMS + 1))


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{type(value).__name__} is no number")
    return value


def calculate(operator: str, left: Any, right: Any) -> Any:
    """Return `left operator right`: numbers, and texts or lists put together; raise for results that are too large."""
    return made(_calculate(operator, left, right))


def _calculate(operator: str, left: Any, right: Any) -> Any:
    if operator == "+" and type(left) is type(right) and isinstance(left, str | list | tuple):
        bounded_size(len(left) + len(right))
        return left + right if isinstance(left, str) else weighed(left + right)
    if operator == "*" and isinstance(left, str | list | tuple) and isinstance(right, int):
        bounded_size(weigh(left) * max(int(right), 0))
        if not isinstance(left, str):
            bounded_items(len(left) * max(int(right), 0))
        return left * right
    left, right = _number(left), _number(right)
    if isinstance(left, int) and isinstance(right, int):
        _refuse_long(operator, left, right)
    return _ARITHMETIC[operator](left, right)


_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
    "//": lambda left, right: left // right,
    "%": lambda left, right: left % right,
    "**": lambda left, right: left**right,
}


def _refuse_long(operator: str, left: int, right: int) -> None:
    bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
    if bits > MAX_BITS:
        raise TooMuchWork(f"The template calculates a number of more than {MAX_BITS} bits.")


def _title(value: Any) -> str:
    text = text_of(value)
    if len(text) > _MAX_TITLE:
        raise TooMuchWork(f"title takes a text of at most {_MAX_TITLE:,} characters.")
    return str(FILTERS["title"](text))


def _wordcount(value: Any) -> int:
    return sum(1 for _ in _WORD.finditer(text_of(value)))


def _watched(name: str, filter_of: Any) -> Callable[..., Any]:
    iterates = name in _ITERATING

    @wraps(filter_of)
    def watch(*args: Any, **kwargs: Any) -> Any:
        look()
        if iterates:
            for each in args:
                if isinstance(each, str | list | tuple | dict):
                    bounded_items(len(each))
        value = filter_of(*args, **kwargs)
        if isinstance(value, GeneratorType):
            value = bounded_list(value)
        return value if any(value is each for each in args) else made(value)

    return watch


_TAKEN_FILTERS: Mapping[str, Any] = {name: FILTERS[name] for name in _PLAIN_FILTERS}
_OWN_FILTERS: Mapping[str, Any] = {
    "indent": _indent,
    "join": _join,
    "replace": _replace,
    "round": _round,
    "string": text_of,
    "sum": _sum,
    "title": _title,
    "tojson": _tojson,
    "wordcount": _wordcount,
}
TEMPLATE_FILTERS: Mapping[str, Callable[..., Any]] = {
    name: _watched(name, each) for name, each in {**_TAKEN_FILTERS, **_OWN_FILTERS}.items()
}
"""What templates may write behind `|`."""
TEMPLATE_TESTS: Mapping[str, Any] = {name: TESTS[name] for name in _TESTS}
"""What templates may write behind `is`."""
