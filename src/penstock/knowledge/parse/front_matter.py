"""Front matter: what the first lines of a Markdown file say of it, between `---` (YAML) or `+++` (TOML).

The surprise: `readers` fails closed. Where they cannot be read, nobody may find the document by them.
"""

import math
import tomllib
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

from penstock.base.web_addresses import web_address
from penstock.knowledge.parse.dates import read_date
from penstock.knowledge.parse.text import clean_line
from penstock.spec.knowledge import Properties, PropertyValue

MAX_CHARS = 64 * 1024
_ADDRESSES = ("url", "canonical_url", "canonical")
_NAMED = frozenset({"title", "readers", "subjects", "lang", "language", "url", "canonical", "canonical_url"})
_MODIFIED = ("modified", "updated", "lastmod", "last_modified", "date")


def split_front_matter(text: str) -> tuple[str, str | None, str]:
    """Return the text below the front matter, the front matter (None where there is none) and its fence."""
    for fence in ("---", "+++"):
        if text.startswith((f"{fence}\n", f"{fence}\r\n")):
            lines = text[: MAX_CHARS + 10].splitlines(keepends=True)
            length = len(lines[0])
            for line in lines[1:]:
                length += len(line)
                if line.rstrip() == fence:
                    inner = text[len(lines[0]) : length - len(line)]
                    return text[length:], inner, fence
    return text, None, ""


def read_front_matter(inner: str, fence: str) -> tuple[Properties, str | None, tuple[str, ...]]:
    """Return properties, title and problems. Never raises."""
    try:
        found: Any = tomllib.loads(inner) if fence == "+++" else _load_yaml(inner)
    except (ValueError, RecursionError) as error:
        problem = f"the front matter cannot be read: {clean_line(str(error))[:200]}"
        return Properties(readers=[] if "readers" in inner else None), None, (problem,)
    if not isinstance(found, dict):
        return Properties(), None, () if found is None else ("the front matter holds no names with values",)
    return read_properties(found)


def read_properties(found: Mapping[Any, Any]) -> tuple[Properties, str | None, tuple[str, ...]]:
    """Return a mapping's properties, its title, and a problem for each value that cannot be one."""
    problems: list[str] = []
    values: dict[str, PropertyValue] = {}
    for key, given in found.items():
        if str(key) in _NAMED or given is None:
            continue
        value = _value(given)
        if value is None:
            problems.append(f"the front matter's {str(key)!r} is no value or list of values and was left out")
        else:
            values[str(key)] = value
    readers = _names(found.get("readers")) if "readers" in found else None
    if "readers" in found and readers is None:
        problems.append("the front matter's readers cannot be read; nobody may find the document by them")
        readers = []
    told = next(filter(None, (_text(found.get(name)) for name in _ADDRESSES)), None)
    if told and web_address(told) is None:
        problems.append(f"the front matter's address {told[:100]!r} is none of a page and was left out")
    moments = (read_date(found.get(name)) for name in _MODIFIED)
    language = _text(found.get("language")) or _text(found.get("lang"))
    return (
        Properties(
            values=values,
            readers=readers,
            subjects=_names(found.get("subjects")) or [],
            language=language.replace("_", "-").partition("-")[0].lower() if language else None,
            modified_ns=next((each for each in moments if each is not None), None),
            url=web_address(told),
        ),
        _text(found.get("title")),
        tuple(problems),
    )


def _load_yaml(text: str) -> Any:
    import yaml

    if any(isinstance(event, yaml.events.AliasEvent) for event in _events(text)):
        raise ValueError("anchors and aliases are not read")  # a few lines of them can stand for gigabytes
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(_say(error)) from error


def _events(text: str) -> list[Any]:
    import yaml

    try:
        return list(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(_say(error)) from error


def _say(error: Any) -> str:
    """Return what is wrong and in which line of the file, without the lines around it."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    return f"{problem} in line {mark.line + 2}" if problem and mark is not None else str(error)


def _value(given: Any) -> PropertyValue | None:
    if isinstance(given, str | bool | int):
        return given
    if isinstance(given, float):
        return given if math.isfinite(given) else None
    if isinstance(given, date | datetime | time):
        return given.isoformat()
    if isinstance(given, list) and all(isinstance(each, str | int | float | date) for each in given):
        return [str(each) for each in given]
    return None


def _names(given: Any) -> list[str] | None:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(each, str) and each.strip() for each in names):
        return None
    return [each.strip() for each in names]


def _text(given: Any) -> str | None:
    return clean_line(given) or None if isinstance(given, str) else None
