"""Writes a condition as a search that reads back as it."""

import re

from penstock.spec.search import All, Compare, Condition, Either, Negated, Related, Scalar, Words
from penstock.spec.search_fields import ATTRIBUTE, BY_NAME, METADATA, PREFIXES, SCORE
from penstock.traces.search.fields import NONE, WORDS_OF_THE_LANGUAGE
from penstock.traces.search.scanner import quote
from penstock.traces.search.values import read_number, write_duration, write_moment, write_number

_BARE = re.compile(r"[\w./@+#-][\w./@+#:-]*")
_BARE_WORD = re.compile(r"\w+")
_BARE_NAME = re.compile(r"[A-Za-z0-9_.@/-]+")
_KEYWORDS = frozenset({"and", "or", "not", NONE, *WORDS_OF_THE_LANGUAGE})


def render(condition: Condition) -> str:
    """Return the search that means this condition; empty for the one that always holds."""
    if condition == All():
        return ""
    return _write(condition, is_inner=False)


def _write(condition: Condition, *, is_inner: bool) -> str:
    """Return the text; `is_inner` puts brackets around what has several parts."""
    if isinstance(condition, All | Either):
        if not condition.parts:
            return "()" if isinstance(condition, All) else "-()"
        if len(condition.parts) == 1:
            return _write(condition.parts[0], is_inner=is_inner)
        word = " " if isinstance(condition, All) else " OR "
        text = word.join(_write(part, is_inner=True) for part in condition.parts)
        return f"({text})" if is_inner else text
    if isinstance(condition, Negated):
        text = _write(condition.condition, is_inner=True)
        return f"-{text}"
    if isinstance(condition, Related):
        inner = "" if condition.condition == All() else _write(condition.condition, is_inner=False)
        text = f"{condition.relation}({inner})"
        if (condition.operator, condition.count) == (">=", 1):
            return text
        return f"count({text}){condition.operator}{condition.count}"
    if isinstance(condition, Words):
        return _write_words(condition)
    return _write_comparison(condition)


def _write_words(words: Words) -> str:
    text = (
        words.text
        if _BARE_WORD.fullmatch(words.text) and words.text.lower() not in _KEYWORDS
        else quote(words.text)
    )
    if words.where == "anywhere":
        return text
    return f"name:*{text}*" if words.where == "name" else f"{words.where}:{text}"


def _write_comparison(part: Compare) -> str:
    name = _write_name(part.field)
    if part.operator == "exists":
        return f"has:{'score' if part.field == SCORE else name}"
    value = "" if part.value is None else part.value
    if part.operator == "contains":
        return f"{name}:*{write_text(str(value))}*"
    if part.operator == "starts":
        return f"{name}:{write_text(str(value))}*"
    if part.operator == "matches":
        return f"{name}~{quote(str(value))}"
    sign = ":" if part.operator == "=" else part.operator
    return f"{name}{sign}{_write_value(part.field, value)}"


def _write_name(field: str) -> str:
    for prefix, _, _ in PREFIXES:
        if field.startswith(prefix):
            rest = field.removeprefix(prefix)
            is_bare = _BARE_NAME.fullmatch(rest.replace(":", "", 1) if prefix == "version." else rest)
            return prefix + (rest if is_bare else quote(rest))
    return field


def _write_value(field: str, value: Scalar) -> str:
    known = BY_NAME.get(field)
    kind = known.type if known else None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if kind in {"duration", "age"}:
            return write_duration(value)
        if kind == "time":
            return write_moment(int(value))
        return write_number(value)
    is_untyped = field.startswith((ATTRIBUTE, METADATA, SCORE))
    return quote(value) if is_untyped and _reads_otherwise(value) else write_text(value)


def write_text(value: str) -> str:
    """Return a value that is text, in quotes where it needs them."""
    return value if _BARE.fullmatch(value) and value != NONE else quote(value)


def _reads_otherwise(value: str) -> bool:
    return ".." in value or read_number(value) is not None
