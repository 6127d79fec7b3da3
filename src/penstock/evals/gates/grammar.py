"""Reads one-line rules. Errors say the character, and carry `query`, `position` and `length` for whoever points at it.

    rule    := measure [statistic] ["by" KEY] operator bound ["at" NUMBER "%"]
             | "no" ["new"] measure
    statistic := "mean" | "median" | "pNN" | "total" | "max" | "min"
    operator := ">=" "≥" | ">" | "<=" "≤" | "<" | "==" "="
    bound   := NUMBER [unit] | "baseline" [("+" | "-" | "−") NUMBER [unit]]
    unit    := "point" "points" | "%" | "usd" "$" | "ms" | "s" | "tokens"

`==` asks each case, every other operator a figure over all of them; `no pii` is `pii == 0`.
"""

import math
import re
from dataclasses import dataclass
from typing import NoReturn

from penstock.base.errors import suggest
from penstock.evals.gates.errors import RuleInvalid
from penstock.evals.gates.types import Bound, Operator, Rule, Statistic, Unit

SHORT_NAMES = {
    "latency": "latency_ms",
    "ttft": "ttft_ms",
    "cost": "cost_usd",
    "tokens": "output_tokens",
    "error": "errors",
}
"""What people call figures of outputs."""
_OPERATORS: dict[str, Operator] = {
    ">=": ">=",
    "≥": ">=",
    "=>": ">=",
    ">": ">",
    "<=": "<=",
    "≤": "<=",
    "=<": "<=",
    "<": "<",
    "==": "==",
    "=": "==",
}
_UNITS: dict[str, Unit] = {
    "point": "point",
    "points": "point",
    "pp": "point",
    "%": "%",
    "percent": "%",
    "usd": "usd",
    "$": "usd",
    "ms": "ms",
    "s": "s",
    "seconds": "s",
    "tokens": "tokens",
}
_STATISTICS: dict[str, tuple[Statistic, float | None]] = {
    "mean": ("mean", None),
    "average": ("mean", None),
    "median": ("quantile", 0.5),
    "total": ("total", None),
    "sum": ("total", None),
    "max": ("max", None),
    "min": ("min", None),
}
_TOKEN = re.compile(
    r"(?P<number>(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<operator>>=|=>|<=|=<|==|[≥≤><=])"
    r"|(?P<name>[^\W\d][\w.\-/@]*)"
    r"|(?P<quoted>\"[^\"]*\"|'[^']*')"
    r"|(?P<sign>[+\-−–])"
    r"|(?P<unit>[%$])"
)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def parse_rule(text: str) -> Rule:
    """Return the rule. Raises `RuleInvalid`, which names the character."""
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._next = self._at_operator = self._at_bound = 0
        self._tokens = self._split(text)

    def read(self) -> Rule:
        if not self._tokens:
            self._fail(0, "the rule is empty", "Write, for example, `token_f1 >= baseline - 1 point`.")
        if self._peek_word("no"):
            return self._read_none()
        measure = self._read_measure()
        statistic, quantile = self._read_statistic()
        by = self._read_key() if self._take_word("by") else None
        operator = self._read_operator()
        bound = self._read_bound(measure)
        level = self._read_level() if self._take_word("at") else None
        self._end()
        self._check(statistic, by, operator, bound)
        return Rule(
            text=self._text.strip(),
            measure=measure,
            statistic="every" if operator == "==" else statistic,
            quantile=quantile,
            by=by,
            operator=operator,
            bound=bound,
            level=level,
        )

    def _read_none(self) -> Rule:
        self._next += 1
        is_new = self._take_word("new")
        measure = self._read_measure()
        by = self._read_key() if self._take_word("by") else None
        self._end()
        bound = Bound(is_baseline=is_new)
        statistic: Statistic = "new" if is_new else "every"
        return Rule(
            text=self._text.strip(),
            measure=measure,
            statistic=statistic,
            by=by,
            operator="==",
            bound=bound,
        )

    def _check(self, statistic: Statistic, by: str | None, operator: Operator, bound: Bound) -> None:
        if operator == "==" and bound.is_baseline:
            self._fail(
                self._at_bound,
                "`==` asks each case for a number, not for the baseline",
                "Use `>=` or `<=` with a margin, or `no new NAME`.",
            )
        if operator == "==" and statistic != "mean":
            self._fail(self._at_operator, "`==` asks each case, so it takes no statistic", None)
        if statistic == "total" and by is not None:
            self._fail(self._at_operator, "a total is over everything, not by slice", "Leave out `by`.")
        if statistic in {"total", "max", "min"} and bound.is_baseline:
            self._fail(
                self._at_bound,
                f"a {statistic} is held against a number, not against the baseline",
                "Compare means or quantiles with the baseline.",
            )

    # parts

    def _read_measure(self) -> str:
        token = self._take("name", "quoted")
        if token is None:
            self._fail(
                self._place, "a rule begins with the name of a score", "Such as `token_f1` or `latency`."
            )
        name = token.text.strip("\"'")
        return SHORT_NAMES.get(name, name)

    def _read_statistic(self) -> tuple[Statistic, float | None]:
        token = self._peek()
        if token is None or token.kind != "name" or token.text == "by":
            return "mean", None
        self._next += 1
        if token.text in _STATISTICS:
            return _STATISTICS[token.text]
        found = re.fullmatch(r"p(\d{1,2}(?:\.\d+)?)", token.text)
        if not found or not 0 < float(found[1]) < 100:
            known = [*_STATISTICS, "p50", "p95", "p99", "by"]
            self._fail(
                token.at,
                f"{token.text!r} is no statistic; known: mean, median, p95 and so on, total, max, min",
                suggest(token.text, known),
            )
        return "quantile", float(found[1]) / 100

    def _read_key(self) -> str:
        token = self._take("name", "quoted")
        if token is None:
            self._fail(self._place, "`by` needs the name of a slice key", "Such as `by split`.")
        return token.text.strip("\"'")

    def _read_operator(self) -> Operator:
        self._at_operator = self._place
        token = self._take("operator")
        if token is None:
            self._fail(self._place, "here a comparison should stand", "Use >=, >, <=, < or ==.")
        return _OPERATORS[token.text]

    def _read_bound(self, measure: str) -> Bound:
        self._at_bound = self._place
        if not self._take_word("baseline"):
            return self._read_number_bound()
        sign = self._take("sign")
        if sign is None:
            return Bound(is_baseline=True)
        amount, unit = self._read_amount()
        if unit == "":
            self._bare_margin(measure, amount)
        return Bound(is_baseline=True, amount=amount if sign.text == "+" else -amount, unit=unit)

    def _bare_margin(self, measure: str, amount: float) -> None:
        if measure.endswith(("_ms", "_usd", "_tokens")) or amount < 1.0:
            return
        self._fail(
            self._tokens[self._next - 1].at,
            f"a margin of {amount:g} of what?",
            "Write `1 point` (a hundredth of the range), `10 %` (of the baseline's figure), or a unit such as `ms`.",
        )

    def _read_number_bound(self) -> Bound:
        sign = self._take("sign")
        amount, unit = self._read_amount()
        if sign is not None and sign.text != "+":
            amount = -amount
        return Bound(amount=amount, unit=unit)

    def _read_amount(self) -> tuple[float, Unit]:
        before = self._take("unit")
        if before is not None and before.text != "$":
            self._fail(before.at, "the number stands before `%`", None)
        number = self._take("number")
        if number is None:
            token = self._peek()
            word = token.text if token else ""
            self._fail(
                self._place,
                "here a number or `baseline` should stand",
                suggest(word, ["baseline"]) if word else "Such as `0.8` or `baseline - 1 point`.",
            )
        amount = float(number.text.replace("_", "").replace(",", ""))
        if math.isinf(amount):
            self._fail(number.at, "this number is too large to be one", None)
        token = self._peek()
        if before is not None:
            return amount, "usd"
        if token is None or token.text == "at" or token.kind not in {"name", "unit"}:
            return amount, ""
        if token.text.lower() not in _UNITS:
            self._fail(
                token.at,
                f"{token.text!r} is no unit; known: point, %, usd, ms, s, tokens",
                suggest(token.text, list(_UNITS)),
            )
        self._next += 1
        return amount, _UNITS[token.text.lower()]

    def _read_level(self) -> float:
        number = self._take("number")
        if number is None:
            self._fail(self._place, "`at` needs a level", "Such as `at 95 %`.")
        unit = self._take("unit")
        level = float(number.text) / (100.0 if unit is not None else 1.0)
        if not 0.5 <= level < 1.0:
            self._fail(number.at, "a level lies between 50 % and 100 %", "Such as `at 95 %`.")
        return level

    # reading

    @property
    def _place(self) -> int:
        token = self._peek()
        return token.at if token else len(self._text.rstrip())

    def _peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _peek_word(self, word: str) -> bool:
        token = self._peek()
        following = self._tokens[self._next + 1] if self._next + 1 < len(self._tokens) else None
        return (
            token is not None
            and token.kind == "name"
            and token.text == word
            and following is not None
            and following.kind in {"name", "quoted"}
        )

    def _take(self, *kinds: str) -> _Token | None:
        token = self._peek()
        if token is None or token.kind not in kinds:
            return None
        self._next += 1
        return token

    def _take_word(self, word: str) -> bool:
        token = self._peek()
        if token is None or token.kind != "name" or token.text != word:
            return False
        self._next += 1
        return True

    def _end(self) -> None:
        token = self._peek()
        if token is not None:
            self._fail(token.at, f"{token.text!r} is more than a rule has", "One rule stands in one line.")

    def _split(self, text: str) -> list[_Token]:
        tokens, at = [], 0
        while at < len(text):
            if text[at].isspace():
                at += 1
                continue
            found = _TOKEN.match(text, at)
            if found is None:
                self._fail(at, f"{text[at]!r} has no meaning here", None)
            tokens.append(_Token(str(found.lastgroup), found[0], at))
            at = found.end()
        return tokens

    def _fail(self, at: int, what: str, hint: str | None) -> NoReturn:
        line = " ".join(self._text.split("\n")).replace("\t", " ")
        raise RuleInvalid(
            f"rule `{line.strip()}`, character {at + 1}: {what}.",
            hint=hint,
            query=line or " ",
            position=at,
            length=1,
        )
