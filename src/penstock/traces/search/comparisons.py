"""One comparison, such as `duration:1s..5s` or `model:gpt-4*,claude-*`: from the sign after its field to its condition."""

import re
from collections.abc import Callable

import re2

from penstock.base.errors import suggest
from penstock.spec.search import All, Compare, Condition, Either, Negated, Operator, Scalar, Words
from penstock.spec.search_fields import VERSION
from penstock.traces.search.errors import SearchInvalid
from penstock.traces.search.fields import NONE, Asked
from penstock.traces.search.scanner import Scanner, Value
from penstock.traces.search.values import (
    read_count,
    read_duration,
    read_flag,
    read_moments,
    read_money,
    read_number,
)

MAX_PATTERN = 200
_ORDER: dict[str, Operator] = {"<": "<", "<=": "<=", ">": ">", ">=": ">="}
_READERS: dict[str, tuple[Callable[[str], int | float | None], str]] = {
    "number": (read_count, "a number, such as 10, 2.5 or 10k"),
    "money": (read_money, "an amount in dollars, such as 0.01"),
    "duration": (read_duration, "a length of time with its unit, such as 300ms, 2s or 5m"),
    "age": (read_duration, "a length of time with its unit, such as 15m, 2h or 7d"),
}
_MOMENT = "a date or a time, such as 2026-11-20 or 2026-11-20T08:30, in UTC unless it names its zone"
_ID_DIGITS = {"trace": 32, "span": 16}
_QUIET = re2.Options()
_QUIET.log_errors = False


def negated(condition: Condition) -> Condition:
    """Return the opposite, without piling up negations."""
    if isinstance(condition, Negated):
        return condition.condition
    if isinstance(condition, Compare) and condition.operator == "=":
        return Compare(field=condition.field, operator="!=", value=condition.value)
    if isinstance(condition, Compare) and condition.operator == "!=":
        return Compare(field=condition.field, operator="=", value=condition.value)
    return Negated(condition)


class Comparison:
    """Reads what follows the name of a field."""

    def __init__(self, scanner: Scanner, asked: Asked) -> None:
        self._scanner = scanner
        self._query = scanner.text
        self._asked = asked

    def read(self, sign: str, sign_at: int) -> Condition:
        """Return the condition of the field, the sign that was taken, and the values that follow."""
        scanner = self._scanner
        if sign != ":":
            scanner.skip_blanks()
        elif scanner.char in {"<", ">", "~"}:
            sign_at = scanner.at
            sign = scanner.take_operator() or sign
            scanner.skip_blanks()
        if sign in {"~", "!~"}:
            found = self._read_pattern(sign_at)
            return negated(found) if sign == "!~" else found
        if sign in _ORDER:
            if not self._asked.has_order:
                raise self._error(
                    sign_at,
                    sign_at + len(sign),
                    f"{self._asked.name} has no order: {sign} cannot be asked of it.",
                )
            return self._order(_ORDER[sign], self._take())
        options = [self._equal(self._take(stop=","))]
        while scanner.take(","):
            options.append(self._equal(self._take(stop=",")))
        found = options[0] if len(options) == 1 else Either(tuple(options))
        return negated(found) if sign == "!=" else found

    def _take(self, stop: str = "") -> Value:
        start = self._scanner.at
        value = self._scanner.take_value(stop=stop)
        if value.start == value.end:
            raise self._error(
                start,
                start + 1,
                f"A value must follow {self._asked.name}.",
                hint='Put "quotes" around blanks and brackets.',
            )
        return value

    def _equal(self, value: Value) -> Condition:
        name, kind = self._asked.name, self._asked.type
        if not value.is_quoted:
            if value.text == NONE:
                return Negated(Compare(field=name, operator="exists"))
            if value.text == "*":
                return Compare(field=name, operator="exists")
            if ".." in value.text and self._asked.has_order:
                return self._range(value)
        if kind == "payload":
            return self._words(value, name)
        if kind == "time":
            first, after = self._moments(value)
            return All(
                (
                    Compare(field=name, operator=">=", value=first),
                    Compare(field=name, operator="<", value=after),
                )
            )
        if kind == "age":
            raise self._error(
                value.start, value.end, "An age is asked with < or >.", hint="Write it like age<2h."
            )
        if kind == "id":
            return self._id(value)
        if value.has_star:
            return self._wildcard(value)
        return Compare(field=name, operator="=", value=self._scalar(value))

    def _order(self, operator: Operator, value: Value) -> Condition:
        name = self._asked.name
        if value.has_star:
            raise self._error(value.start, value.end, f"A * cannot be compared with {operator}.")
        if self._asked.type == "time":
            first, after = self._moments(value)
            bound = first if operator in {"<", ">="} else after
            # later than a day means from the next day on; until a day means to its end
            shifted: Operator = {"<": "<", ">=": ">=", ">": ">=", "<=": "<"}[operator]  # type: ignore[assignment]
            return Compare(field=name, operator=shifted, value=bound)
        return Compare(field=name, operator=operator, value=self._number(value))

    def _range(self, value: Value) -> Condition:
        low, _, high = value.text.partition("..")
        bounds: list[Condition] = []
        for operator, text, start in ((">=", low, value.start), ("<=", high, value.end - len(high))):
            if text:
                bounds.append(self._order(operator, Value((text,), False, start, start + len(text))))  # type: ignore[arg-type]
        if not bounds:
            raise self._error(
                value.start, value.end, "A range needs a bound.", hint="Write it like duration:1s..5s."
            )
        return bounds[0] if len(bounds) == 1 else All(tuple(bounds))

    def _words(self, value: Value, where: str) -> Condition:
        return Words(text=bare_words(self._query, value), where=where)  # type: ignore[arg-type]  # input or output

    def _scalar(self, value: Value) -> Scalar:
        asked, text = self._asked, value.text
        if asked.type in {"text", "tag"} or asked.name.startswith(VERSION):
            return text
        if asked.type is None:
            number = None if value.is_quoted else read_number(text)
            return text if number is None else number
        if asked.type == "choice":
            if text.lower() not in asked.values:
                hint = suggest(text.lower(), asked.values) or f"It is one of {', '.join(asked.values)}."
                raise self._error(value.start, value.end, f"{asked.name} is never {text!r}.", hint=hint)
            return text.lower()
        if asked.type == "flag":
            flag = read_flag(text)
            if flag is None:
                raise self._error(value.start, value.end, f"{asked.name} is yes or no, not {text!r}.")
            return flag
        return self._number(value)

    def _number(self, value: Value) -> int | float:
        asked = self._asked
        reader, form = _READERS.get(asked.type or "", (read_number, "a number"))
        number = reader(value.text)
        if number is None:
            raise self._error(value.start, value.end, f"{asked.name} is {form}, not {value.text!r}.")
        return number

    def _moments(self, value: Value) -> tuple[int, int]:
        moments = read_moments(value.text)
        if moments is None:
            raise self._error(value.start, value.end, f"{self._asked.name} is {_MOMENT}, not {value.text!r}.")
        return moments

    def _id(self, value: Value) -> Condition:
        digits = _ID_DIGITS[self._asked.name]
        is_start = value.pieces[-1] is None
        text = value.text.removesuffix("*").lower().replace("-", "")
        if not text or len(text) > digits or text.strip("0123456789abcdef"):
            raise self._error(
                value.start,
                value.end,
                f"The id of a {self._asked.name} has {digits} digits from 0 to f, or is the beginning of one.",
            )
        operator: Operator = "starts" if is_start or len(text) < digits else "="
        return Compare(field=self._asked.name, operator=operator, value=text)

    def _wildcard(self, value: Value) -> Condition:
        name, pieces = self._asked.name, value.pieces
        if not self._asked.has_text:
            raise self._error(value.start, value.end, f"{name} takes no *.")
        literal = [piece for piece in pieces if piece is not None]
        if len(literal) == 1 and pieces[-1] is None and len(pieces) <= 3:
            operator: Operator = "contains" if pieces[0] is None else "starts"
            return Compare(field=name, operator=operator, value=literal[0])
        pattern = "".join(".*" if piece is None else _escape(piece) for piece in pieces)
        return Compare(field=name, operator="matches", value=f"(?is)^{pattern}$")

    def _read_pattern(self, sign_at: int) -> Condition:
        scanner, asked = self._scanner, self._asked
        if not asked.has_text:
            raise self._error(
                sign_at,
                sign_at + 1,
                f"{asked.name} cannot be searched with a regular expression.",
                hint="Words are found without one." if asked.type == "payload" else None,
            )
        value = scanner.take_pattern()
        text = value.text
        if not text:
            raise self._error(value.start, value.start + 1, "A regular expression must follow ~.")
        if len(text) > MAX_PATTERN:
            raise self._error(
                value.start, value.end, f"A regular expression has at most {MAX_PATTERN} characters."
            )
        try:
            re2.compile(text, _QUIET)
        except re2.error as error:
            told = str(error).removeprefix("b").strip("'")
            raise self._error(
                value.start,
                value.end,
                f"The regular expression cannot be read: {told}.",
                hint="Looking around and referring back are not possible.",
            ) from error
        return Compare(field=asked.name, operator="matches", value=text)

    def _error(self, start: int, end: int, message: str, hint: str | None = None) -> SearchInvalid:
        return SearchInvalid.at(self._query, start, end, message, hint=hint)


def bare_words(query: str, value: Value) -> str:
    """Return the text of words: stars at the ends say nothing, for words are found anywhere; others are refused."""
    pieces = list(value.pieces)
    while pieces and pieces[0] is None:
        pieces.pop(0)
    while pieces and pieces[-1] is None:
        pieces.pop()
    if None in pieces:
        raise SearchInvalid.at(
            query,
            value.start,
            value.end,
            "A * cannot stand within words.",
            hint='Put it in "quotes" to find the star itself.',
        )
    text = "".join(piece for piece in pieces if piece is not None)
    if not text.strip():
        raise SearchInvalid.at(query, value.start, value.end, "There is nothing to look for in this.")
    return text


def _escape(text: str) -> str:
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)
