"""Reads what scorers look at: the text of an output or a part of it, its JSON, and the acceptable answers of a case.

Patterns run on RE2, whose time grows with the text and with nothing else. The surprise: a part that is not there (no match, no
such member) reads as an empty text, because a target that leaves it out has answered wrongly; only what the *case* lacks makes
a score undefined.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import re2

from penstock.spec.cases import Case, Output

_FENCE = "```"
_LANGUAGE = re.compile(r"[\w-]*[ \t\r]*\Z")
_QUIET = {True: re2.Options(), False: re2.Options()}
for _ignores, _options in _QUIET.items():
    _options.log_errors = False
    _options.case_sensitive = not _ignores
MAX_PATTERN = 10_000
_SURROGATE = re.compile("[\ud800-\udfff]")
NOT_JSON = object()
"""What `read_json` returns for a text that is no JSON; None is a JSON value."""


class NoScore(Exception):
    """The score is undefined; the text says why."""


class Reading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of an output is judged, and against what; all text scorers share these parameters."""

    pointer: str | None = None
    """JSON pointer (RFC 6901) into the output's JSON, such as `/answer`; None: the text as a whole."""
    extract: str | None = None
    """RE2 pattern; the text judged is the first group (or all) of its last match, such as `Answer: (.*)`."""
    expected: Any = None
    """Takes the place of what the case expects."""


def compile_pattern(pattern: str, *, ignore_case: bool = False) -> Any:
    """Return the compiled RE2 pattern; raise `ValueError` that says what is wrong with it."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"a pattern has at most {MAX_PATTERN} characters")
    try:
        return re2.compile(pattern, _QUIET[ignore_case])
    except re2.error as error:
        reason = error.args[0] if error.args else error
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(
            f"pattern {pattern!r} is not RE2 syntax ({text}); look-around and back-references do not exist there"
        ) from error


def read_text(output: Output, reading: Reading, extractor: Any = None) -> str:
    """Return the text to judge; `extractor` is the compiled `extract`."""
    text = whole_text(output)
    if reading.pointer is not None:
        found = read_json(output, fenced=True)
        text = "" if found is NOT_JSON else _as_text(follow_pointer(found, reading.pointer))
    if extractor is not None:
        last = None
        for last in extractor.finditer(text):  # noqa: B007 - the last match is what is wanted
            pass
        text = "" if last is None else ((last.group(1) or "") if extractor.groups else last.group(0))
    return text


def whole_text(output: Output) -> str:
    """Return the output's text, or the JSON text of its data; empty where it has neither."""
    return _as_text(output.data if output.text is None else output.text)


def read_json(output: Output, *, fenced: bool = False) -> Any:
    """Return the output's data or the JSON that its text is, or `NOT_JSON`; `fenced` also takes one block in a fence."""
    if output.data is not None and output.text is None:
        return output.data
    return parse_json(output.text or "", fenced=fenced)


def parse_json(text: str, *, fenced: bool = False) -> Any:
    """Return the JSON value that `text` is, or `NOT_JSON`. NaN and infinities are none."""
    if fenced:
        text = unfence(text)
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return NOT_JSON


def unfence(text: str) -> str:
    """Return what stands within the one Markdown fence that `text` is, else `text`; takes a time that grows with its length."""
    trimmed = text.strip()
    if len(trimmed) < 2 * len(_FENCE) or not (trimmed.startswith(_FENCE) and trimmed.endswith(_FENCE)):
        return text
    head, newline, body = trimmed[len(_FENCE) : -len(_FENCE)].partition("\n")
    return body.removesuffix("\n") if newline and _LANGUAGE.match(head) else text


def _refuse(word: str) -> Any:
    raise ValueError(word)


def follow_pointer(value: Any, pointer: str) -> Any:
    """Return what an RFC 6901 pointer leads to, or None where it leads nowhere."""
    if pointer in {"", "/"}:
        return value
    for step in pointer.removeprefix("/").split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


def read_expected(case: Case, reading: Reading) -> Any:
    """Return what is expected; raise `NoScore` where nobody knows."""
    expected = case.expected if reading.expected is None else reading.expected
    if expected is None:
        raise NoScore("the case has no expected answer")
    return expected


def read_references(case: Case, reading: Reading) -> list[str]:
    """Return the acceptable answers as texts, at least one; raise `NoScore` where there is none."""
    expected = read_expected(case, reading)
    listed = expected if isinstance(expected, list | tuple) else [expected]
    if not listed:
        raise NoScore("the case's list of acceptable answers is empty")
    if any(isinstance(each, Mapping | list | tuple) or each is None for each in listed):
        raise NoScore("the case expects an object, not a text; use json_equal, or name a text in `expected`")
    return [_as_text(each) for each in listed]


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)  # half a character, which no pattern and no store takes
    try:
        return _SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError):
        return str(value)
