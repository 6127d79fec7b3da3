"""What can be typed next: fields, signs, values, relations. Pure but for the values, which are asked for."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import msgspec

from penstock.spec.search_fields import FIELDS, PREFIXES, VERSION, SearchField
from penstock.traces.search.errors import SearchInvalid
from penstock.traces.search.fields import ANYWHERE, COUNT, HAS, find_field
from penstock.traces.search.render import write_text
from penstock.traces.search.scanner import Scanner, quote

CompletionKind = Literal["field", "value", "relation", "keyword"]
ValueSource = Callable[[str, str], Sequence[tuple[str, int]]]
"""Values of a field that begin with a text, with how often each was seen; of `attr.` and its like, their names."""
MAX_COMPLETIONS = 80
_RELATIONS = {
    "any": "some span of the trace",
    "child": "a span right below",
    "descendant": "a span anywhere below",
    "parent": "the span right above",
    "ancestor": "a span anywhere above",
    "root": "the root of the trace",
    COUNT: "how many: count(kind:tool)>3",
}
_KEYWORDS = {
    f"{HAS}:": "the field is known",
    f"{ANYWHERE}:": "words in name, input or output",
    "OR": "either side",
    "NOT": "does not hold",
}


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """One way to go on: `text` replaces the characters from `start` to `end`."""

    text: str
    kind: CompletionKind
    detail: str
    start: int
    end: int


class _Place(NamedTuple):
    """What is replaced, and where values come from."""

    start: int
    end: int
    values: ValueSource | None

    def completion(self, text: str, kind: CompletionKind, detail: str) -> Completion:
        """Return a completion that stands here."""
        return Completion(text=text, kind=kind, detail=detail, start=self.start, end=self.end)


def complete(text: str, cursor: int, *, values: ValueSource | None = None) -> list[Completion]:
    """Return what can stand at `cursor`, the likeliest first; never raises for what is typed."""
    cursor = max(0, min(cursor, len(text)))
    start = _token_start(text, cursor)
    token = text[start:cursor]
    while token[:1] in {"-", "("}:
        start, token = start + 1, token[1:]
    if token.startswith('"'):
        return []
    scanner = Scanner(token)
    try:
        name = scanner.peek_name()
    except SearchInvalid:
        return []
    scanner.at = len(name)
    if token.startswith(HAS + ":"):
        place = _Place(start + len(HAS) + 1, cursor, values)
        return _names(token[len(HAS) + 1 :], place, after="")[:MAX_COMPLETIONS]
    sign = scanner.take_operator() if name else None
    if sign is None:
        return _names(token, _Place(start, cursor, values), after=":")[:MAX_COMPLETIONS]
    if sign == ":" and scanner.char in {"<", ">"}:
        scanner.take_operator()
    value_start = max(scanner.at, token.rfind(",") + 1)
    place = _Place(start + value_start, cursor, values)
    return _values(name, token[value_start:], place)[:MAX_COMPLETIONS]


def _token_start(text: str, cursor: int) -> int:
    """Return where the part begins in which the cursor stands: behind a blank or bracket outside of quotes."""
    start, at, is_quoted = 0, 0, False
    while at < cursor:
        char = text[at]
        if is_quoted and char == "\\":
            at += 1
        elif char == '"':
            is_quoted = not is_quoted
        elif not is_quoted and (char.isspace() or char in "()"):
            start = at + 1
        at += 1
    return min(start, cursor)


def _names(token: str, place: _Place, *, after: str) -> list[Completion]:
    typed = token.lower()
    for prefix, text, _ in PREFIXES:
        if typed.startswith(prefix):
            return _names_below(prefix, token, text, place, after)
    found = [place.completion(field.name + after, "field", field.help) for field in _ranked(typed)]
    found += [
        place.completion(prefix, "field", text) for prefix, text, _ in PREFIXES if prefix.startswith(typed)
    ]
    if after:
        found += [
            place.completion(f"{name}(", "relation", detail)
            for name, detail in _RELATIONS.items()
            if name.startswith(typed)
        ]
        found += [
            place.completion(word, "keyword", detail)
            for word, detail in _KEYWORDS.items()
            if typed and word.lower().startswith(typed)
        ]
    return found


def _ranked(typed: str) -> list[SearchField]:
    """Return fields that begin with what was typed, then those with an alias that does, then those that hold it."""
    ranks: list[tuple[int, int, SearchField]] = []
    for position, field in enumerate(FIELDS):
        if field.name.startswith(typed):
            ranks.append((0, position, field))
        elif any(alias.startswith(typed) for alias in field.aliases):
            ranks.append((1, position, field))
        elif typed and typed in field.name:
            ranks.append((2, position, field))
    return [field for _, _, field in sorted(ranks, key=lambda rank: rank[:2])]


def _names_below(prefix: str, token: str, detail: str, place: _Place, after: str) -> list[Completion]:
    found = [] if place.values is None else place.values(prefix, token[len(prefix) :].lstrip('"'))
    return [
        place.completion(
            prefix + (name if _is_plain_name(name, prefix) else quote(name)) + after,
            "field",
            f"{detail} Seen {count}×.",
        )
        for name, count in found
    ]


def _values(name: str, typed: str, place: _Place) -> list[Completion]:
    try:
        asked = find_field(name, name, 0)
    except SearchInvalid:
        return []
    known = asked.values or (("yes", "no") if asked.type == "flag" else ())
    if known:
        return [place.completion(value, "value", "") for value in known if value.startswith(typed.lower())]
    if asked.type not in {"text", "tag", None} or place.values is None:
        return []
    return [
        place.completion(write_text(value), "value", f"seen {count}×")
        for value, count in place.values(asked.name, typed.lstrip('"'))
    ]


def _is_plain_name(name: str, prefix: str) -> bool:
    plain = name.replace(":", "", 1) if prefix == VERSION else name
    return bool(plain) and all(char.isascii() and (char.isalnum() or char in "_.-/@") for char in plain)
