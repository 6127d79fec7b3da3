"""Other tools' templates: plain variables are filled in here or kept for the prompt; whatever computes is reported, never run."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_PLAIN = re.compile(r"\{\{-?\s*([A-Za-z_][\w.]*(?:\[\d+\])?)\s*(?:\|\s*(?:safe|string|trim)\s*)?-?\}\}")
_OPENS = re.compile(r"\{\{|\{%")
_CLOSES = {"{{": "}}", "{%": "%}"}
MAX_INDEX_DIGITS = 9
_JINJA_FILTERS = frozenset(
    {"capitalize", "default", "first", "join", "last", "length", "list", "lower", "replace", "round", "safe", "sort", "string", "title", "tojson", "trim", "truncate", "upper", "urlencode", "unique", "wordcount", "abs", "batch", "int", "float", "indent", "sum", "striptags"}
)  # fmt: skip
_FILTER = re.compile(r"\|\s*([A-Za-z_]\w*)")
_NAMES = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)|\{%-?\s*(?:if|elif|for\s+\w+\s+in)\s+(?:not\s+)?([A-Za-z_]\w*)")


def fill(text: str, values: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return `text` with plain variables filled in, and what is left of templates in it."""

    def replace(match: re.Match[str]) -> str:
        found = look_up(values, match[1])
        if found is None:
            return match[0]
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

    filled = _PLAIN.sub(replace, text)
    left = []
    for part in _parts(text):
        plain = _PLAIN.fullmatch(part)
        if plain is None or look_up(values, plain[1]) is None:
            left.append(part)
    return filled, left


def _parts(text: str) -> Iterator[str]:
    """Yield what stands within braces; braces that nothing closes are looked for once, not at each opening."""
    at = 0
    unclosed: set[str] = set()
    while (opening := _OPENS.search(text, at)) is not None:
        sign = opening[0]
        end = -1 if sign in unclosed else text.find(_CLOSES[sign], opening.end())
        if end < 0:
            unclosed.add(sign)
            if len(unclosed) == len(_CLOSES):
                return
            at = opening.start() + 1
        else:
            at = end + 2
            yield text[opening.start() : at]


def fill_all(value: Any, values: Mapping[str, Any], left: list[str]) -> Any:
    """Return `value` with every text in it filled in; what is left of templates is added to `left`."""
    if isinstance(value, str):
        filled, rest = fill(value, values)
        left += rest
        return filled
    if isinstance(value, Mapping):
        return {key: fill_all(each, values, left) for key, each in value.items()}
    if isinstance(value, list):
        return [fill_all(each, values, left) for each in value]
    return value


def look_up(values: Mapping[str, Any], path: str) -> Any:
    """Return what `a.b` or `a[0]` names, or None."""
    found: Any = values
    for step in re.split(r"[.\[]", path):
        if isinstance(found, Mapping):
            found = found.get(step)
        elif isinstance(found, list) and (index := _index(step)) is not None and index < len(found):
            found = found[index]
        else:
            return None
    return found


def _index(step: str) -> int | None:
    digits = step.rstrip("]")
    return int(digits) if digits.isdecimal() and len(digits) <= MAX_INDEX_DIGITS else None


def to_jinja(text: str) -> tuple[str, list[str]]:
    """Return a Nunjucks template as Jinja, and what in it Jinja does not know."""
    changed = re.sub(r"\|\s*dump\b(?:\(\d*\))?", "| tojson", text)
    unknown = [
        f"filter {name!r}"
        for part in _parts(changed)
        for name in _FILTER.findall(part)
        if name not in _JINJA_FILTERS
    ]
    if "{% import" in changed or "{% include" in changed or "{% extends" in changed:
        unknown.append("templates of other files")
    if re.search(r"\{\{\s*env\.", changed):
        unknown.append("variables of the environment")
    return changed, unknown


def variable_names(text: str) -> list[str]:
    """Return the names of variables that a template asks for, in order."""
    loops = set(re.findall(r"\{%-?\s*for\s+(\w+)", text)) | set(re.findall(r"\{%-?\s*set\s+(\w+)", text))
    names = [first or second for first, second in _NAMES.findall(text)]
    return [name for name in dict.fromkeys(names) if name not in {*loops, "loop", "env", "true", "false"}]
