"""Filters as people write them: `language:de author:"Ada" modified:>2026-01-01 -tag:draft path:guides/*`.

    filter  = group { OR group }          terms side by side must all hold
    group   = term { [AND] term }
    term    = [ - | NOT ] ( "(" filter ")" | field ":" values )
    values  = value { "," value }         any of them; "*" alone: the field is there; "x*": begins with x
    value   = [ > | >= | < | <= | = ] text | "quoted text" | from..to

Every error points at the character. Values are texts here; what they are compared with says whether `7` is a number.
"""

import re
from typing import Literal, NoReturn

from penstock.knowledge.retrieval.conditions import TIMES, read_period
from penstock.knowledge.retrieval.errors import BadFilter
from penstock.spec.knowledge import Condition

MAX_CHARS = 4000
MAX_DEPTH = 16
MAX_TERMS = 200
_SPACE = re.compile(r"\s*")
_FIELD = re.compile(r"[\w.\-]+(?=\s*:)")
_WORD = re.compile(r"(AND|OR|NOT)(?=[\s(]|$)")
_BARE = re.compile(r'[^\s(),"]+')
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_OP = re.compile(r">=|<=|>|<|=")
_Order = Literal["lt", "lte", "gt", "gte"]
_ORDERS: dict[str, _Order] = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


def read_text_filter(text: str) -> Condition:
    """Return the condition. An empty text gives one without parts, which everything meets. Raises `BadFilter`."""
    if len(text) > MAX_CHARS:
        raise BadFilter(f"The filter has {len(text)} characters; the limit is {MAX_CHARS}.")
    if not text.strip():
        return Condition(op="all_of", parts=[])
    reader = _Reader(text)
    condition = reader.read_any(1)
    reader.skip()
    if reader.at < len(text):
        reader.fail("this closes nothing" if text[reader.at] == ")" else "nothing was expected here")
    return condition


def negate(condition: Condition) -> Condition:
    """Return what holds exactly when `condition` does not: also for documents without the field."""
    match condition.op:
        case "is":
            return Condition(op="not", field=condition.field, value=condition.value)
        case "any":
            return Condition(op="none", field=condition.field, value=condition.value)
        case "exists":
            return Condition(op="exists", field=condition.field, value=condition.value is False)
        case "any_of":
            return Condition(op="none_of", parts=condition.parts)
    return Condition(op="none_of", parts=[condition])


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._n_terms = 0

    def fail(self, what: str, at: int | None = None, hint: str | None = None) -> NoReturn:
        place = self.at if at is None else at
        start = max(0, place - 40)
        shown = self.text[start : place + 40].replace("\n", " ").replace("\t", " ")
        raise BadFilter(
            f"The filter cannot be read at character {place + 1}: {what}.\n  {shown}\n  {' ' * (place - start)}^",
            hint=hint,
            position=place,
        )

    def skip(self) -> None:
        match = _SPACE.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def read_any(self, depth: int) -> Condition:
        if depth > MAX_DEPTH:
            self.fail(f"parentheses are nested more than {MAX_DEPTH} deep")
        groups = [self._read_all(depth)]
        while self._take_word("OR"):
            groups.append(self._read_all(depth))
        return groups[0] if len(groups) == 1 else Condition(op="any_of", parts=groups)

    def _read_all(self, depth: int) -> Condition:
        terms = [self._read_term(depth)]
        while True:
            is_joined = self._take_word("AND")
            self.skip()
            ends = self.at >= len(self.text) or self.text[self.at] == ")" or self._sees_word("OR")
            if ends and is_joined:
                self.fail("a term is missing behind AND")
            if ends:
                return terms[0] if len(terms) == 1 else Condition(op="all_of", parts=terms)
            terms.append(self._read_term(depth))

    def _read_term(self, depth: int) -> Condition:
        self.skip()
        self._n_terms += 1
        if self._n_terms > MAX_TERMS:
            self.fail(f"more than {MAX_TERMS} terms")
        begun = self.at
        is_negated = False
        while self._take_word("NOT") or self.text.startswith("-", self.at):
            if self.text.startswith("-", self.at):
                self.at += 1
            is_negated = not is_negated
            self.skip()
        if self.text.startswith("(", self.at):
            self.at += 1
            condition = self.read_any(depth + 1)
            self.skip()
            if not self.text.startswith(")", self.at):
                self.fail("`)` is missing", hint=f"The parenthesis at character {begun + 1} is open.")
            self.at += 1
        else:
            condition = self._read_field()
        return negate(condition) if is_negated else condition

    def _read_field(self) -> Condition:
        match = _FIELD.match(self.text, self.at)
        if match is None:
            if self.at >= len(self.text):
                self.fail("a term is missing")
            self.fail(
                "a filter is written field:value",
                hint="Words to search for belong in the question.",
            )
        field = match.group()
        self.at = match.end()
        self.skip()
        self.at += 1  # the colon
        self.skip()
        parts = [self._read_value(field)]
        while self.text.startswith(",", self.at):
            self.at += 1
            self.skip()
            parts.append(self._read_value(field))
        if len(parts) == 1:
            return parts[0]
        if all(part.op == "is" for part in parts):
            return Condition(op="any", field=field, value=[part.value for part in parts])
        return Condition(op="any_of", parts=parts)

    def _read_value(self, field: str) -> Condition:
        begun = self.at
        match = _OP.match(self.text, self.at)
        sign = match.group() if match else "="
        if match:
            self.at = match.end()
            self.skip()
        at = self.at
        value, is_quoted = self._read_text()
        if sign in _ORDERS:
            self._check_time(field, value, at)
            return Condition(op=_ORDERS[sign], field=field, value=value)
        if not is_quoted:
            if value == "*":
                return Condition(op="exists", field=field, value=True)
            low, dots, high = value.partition("..")
            if dots and (low or high) and all(map(_is_bound, filter(None, (low, high)))):
                return self._range(field, low, high, begun)
            head, star, tail = value.partition("*")
            if star and tail:
                self.fail(
                    "`*` may stand at the end alone", at + len(head), 'Put the value in "…" to mean the star.'
                )
            if star:
                return Condition(op="prefix", field=field, value=head)
        self._check_time(field, value, at)
        return Condition(op="is", field=field, value=value)

    def _range(self, field: str, low: str, high: str, at: int) -> Condition:
        parts = []
        if low:
            self._check_time(field, low, at)
            parts.append(Condition(op="gte", field=field, value=low))
        if high:
            self._check_time(field, high, at + len(low) + 2)
            parts.append(Condition(op="lte", field=field, value=high))
        return parts[0] if len(parts) == 1 else Condition(op="all_of", parts=parts)

    def _check_time(self, field: str, value: str, at: int) -> None:
        if field in TIMES and read_period(value) is None:
            self.fail(f"{value!r} is no date", at, "Write 2026, 2026-01, 2026-01-31 or 2026-01-31T10:00.")

    def _read_text(self) -> tuple[str, bool]:
        if self.text.startswith('"', self.at):
            return self._read_quoted(), True
        match = _BARE.match(self.text, self.at)
        if match is None:
            self.fail("a value is missing")
        self.at = match.end()
        if self.text.startswith('"', self.at):
            self.fail("a quotation mark stands inside a value", hint='Quote the whole value: author:"Ada L."')
        return match.group(), False

    def _read_quoted(self) -> str:
        begun = self.at
        self.at += 1
        found: list[str] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char == '"':
                return "".join(found)
            if char == "\\" and self.at < len(self.text) and self.text[self.at] in '"\\':
                char = self.text[self.at]
                self.at += 1
            found.append(char)
        return self.fail("this quotation mark is never closed", begun)

    def _sees_word(self, word: str) -> bool:
        self.skip()
        match = _WORD.match(self.text, self.at)
        return match is not None and match.group(1) == word

    def _take_word(self, word: str) -> bool:
        if not self._sees_word(word):
            return False
        self.at += len(word)
        self.skip()
        return True


def _is_bound(text: str) -> bool:
    return read_period(text) is not None or _NUMBER.fullmatch(text) is not None
