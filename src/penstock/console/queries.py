"""The search of a list as a page shows it: the text in the bar, its parts as chips, and where it is wrong.

Links of other pages set single filters (`?route=…&status=…`); they become part of the text, so that what holds is always
there to be read and changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from penstock.base.errors import InvalidInput, PenstockError
from penstock.console.links import link
from penstock.spec.search import All, Compare, Condition
from penstock.traces.filters import build_query
from penstock.traces.search import parse, render

Subject = Literal["trace", "span"]
NAMED = (
    "route",
    "model",
    "provider",
    "status",
    "kind",
    "key_id",
    "session_id",
    "user_id",
    "text",
    "min_duration_ms",
)
"""Filters that stand in the URL by themselves."""


@dataclass(frozen=True, kw_only=True)
class SearchProblem:
    """What is wrong with a search: its text in three pieces, of which the middle one is at fault."""

    message: str
    hint: str | None
    before: str
    fault: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One part of a search, with the page without it."""

    text: str
    href: str


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a list is asked for."""

    text: str
    condition: Condition
    """Everything, where the text cannot be read."""
    problem: SearchProblem | None = None


def read_search(params: Mapping[str, str], subject: Subject) -> Search:
    """Return the search that a URL asks for: `q`, and the named filters beside it."""
    text = params.get("q", "").strip()
    named = {name: params[name].strip() for name in NAMED if params.get(name, "").strip()}
    try:
        condition = parse(text, subject=subject)
        if named:
            condition = join(condition, build_query(named).where)
            text = render(condition)
    except InvalidInput as error:
        return Search(text=text, condition=All(), problem=tell_problem(error))
    return Search(text=text, condition=condition)


def tell_problem(error: PenstockError) -> SearchProblem:
    """Return any error as pages show it; where it is about a search that has a place, with the place."""
    if "position" in error.fields and "query" in error.fields:
        return point_at(error)
    return SearchProblem(message=error.message, hint=error.hint, before="", fault="", after="")


def point_at(error: PenstockError) -> SearchProblem:
    """Return an error with the text that it is about, cut where the fault is."""
    query = str(error.fields.get("query", ""))
    start = int(str(error.fields.get("position", 0)))
    end = start + int(str(error.fields.get("length", 1)))
    return SearchProblem(
        message=error.message,
        hint=error.hint,
        before=query[:start],
        fault=query[start:end] or "·",
        after=query[end:],
    )


def parts_of(condition: Condition) -> tuple[Condition, ...]:
    """Return what must hold, each part by itself."""
    return condition.parts if isinstance(condition, All) else (condition,)


def join(*conditions: Condition) -> Condition:
    """Return the condition that all of them hold."""
    parts = tuple(part for each in conditions for part in parts_of(each))
    return parts[0] if len(parts) == 1 else All(parts=parts)


def toggle(condition: Condition, part: Condition) -> str:
    """Return the search with this part, or without it where it was there already."""
    parts = parts_of(condition)
    kept = tuple(each for each in parts if each != part)
    return render(join(*kept) if len(kept) < len(parts) else join(condition, part))


def build_chips(path: str, base: Mapping[str, str], condition: Condition) -> tuple[Chip, ...]:
    """Return the parts of a search, each with the URL of the list without it."""
    parts = parts_of(condition)
    return tuple(
        Chip(
            text=render(part),
            href=link(path, base, q=render(join(*(each for each in parts if each is not part)))),
        )
        for part in parts
    )


def clause(field: str, value: str) -> str:
    """Return the search for what has this value in a field."""
    return render(Compare(field=field, operator="=", value=value))
