"""Reads a search: from text to a condition. By recursive descent; every error says where it is.

either      = all { "OR" all }
all         = part { [ "AND" ] part }
part        = [ "-" | "NOT" ] ( "(" either ")" | relation | "has:" field | field sign values | words )
relation    = ( "any" | "child" | … | "count" ) "(" either ")" [ sign number ]
"""

from typing import Literal

from penstock.base.errors import suggest
from penstock.spec.search import All, Compare, Condition, Either, Related, Words
from penstock.spec.search_fields import SCORE
from penstock.traces.search.comparisons import Comparison, bare_words, negated
from penstock.traces.search.errors import SearchInvalid
from penstock.traces.search.fields import ANYWHERE, COUNT, HAS, RELATIONS, find_field
from penstock.traces.search.scanner import Scanner
from penstock.traces.search.values import read_number

Subject = Literal["trace", "span"]
MAX_CHARS = 4000
MAX_PARTS = 64
MAX_DEPTH = 12
MAX_WALKS = 2
"""`descendant` and `ancestor` of spans follow the tree step by step, which costs the most."""
_WALKS = frozenset({"descendant", "ancestor"})
_UPWARDS = frozenset({"parent", "ancestor"})
_COUNTING = {":": "=", "=": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


def parse(text: str, *, subject: Subject = "trace") -> Condition:
    """Return what `text` asks of a trace (its root) or of a span; nothing at all asks for everything.

    Raises `SearchInvalid`, which says where the fault is.
    """
    if len(text) > MAX_CHARS:
        raise SearchInvalid.at(text[:MAX_CHARS], 0, 1, f"A search has at most {MAX_CHARS} characters.")
    if "\0" in text:
        raise SearchInvalid.at(
            text, text.index("\0"), text.index("\0") + 1, "A search has no NUL characters."
        )
    return _Parser(text, subject).parse()


class _Parser:
    def __init__(self, text: str, subject: Subject) -> None:
        self._text = text
        self._subject = subject
        self._scanner = Scanner(text)
        self._depth = 0
        self._n_parts = 0
        self._n_walks = 0

    def parse(self) -> Condition:
        self._scanner.skip_blanks()
        if self._scanner.is_done:
            return All()
        found = self._either()
        if self._scanner.char:
            raise self._error("This ) closes nothing.")
        return found

    def _either(self) -> Condition:
        options = [self._all()]
        while self._scanner.take_keyword("OR"):
            options.append(self._all())
        if len(options) == 1:
            return options[0]
        return Either(tuple(part for option in options for part in _flat(option, Either)))

    def _all(self) -> Condition:
        parts: list[Condition] = []
        scanner = self._scanner
        is_open = True  # a part must follow: at the beginning, after OR, after AND
        while True:
            scanner.skip_blanks()
            if scanner.is_done or scanner.char == ")" or self._is_next("OR"):
                break
            if self._is_next("AND"):
                if is_open:
                    break
                scanner.take_keyword("AND")
                is_open = True
                continue
            parts.append(self._part())
            is_open = False
        if is_open:
            raise self._error(
                "Something to look for must stand here.", length=3 if scanner.char in {"A", "O"} else 1
            )
        return (
            parts[0] if len(parts) == 1 else All(tuple(part for each in parts for part in _flat(each, All)))
        )

    def _is_next(self, keyword: str) -> bool:
        at = self._scanner.at
        found = self._scanner.take_keyword(keyword)
        self._scanner.at = at
        return found

    def _part(self) -> Condition:
        scanner = self._scanner
        start = scanner.at
        if scanner.take_keyword("NOT"):
            scanner.skip_blanks()
            return negated(self._deeper(start))
        if scanner.char == "-":
            scanner.at += 1
            if scanner.is_done or scanner.char.isspace():
                raise self._error("What does not hold must follow the - at once.", at=start)
            return negated(self._deeper(start))
        self._n_parts += 1
        if self._n_parts > MAX_PARTS:
            raise self._error(f"A search has at most {MAX_PARTS} parts.")
        if scanner.char == "(":
            return self._group()
        name = scanner.peek_name()
        after = scanner.at + len(name)
        if name and self._text[after : after + 1] == "(":
            return self._relation(name)
        if name == HAS and self._text[after : after + 1] == ":":
            return self._has(after + 1)
        found = self._comparison(name, after) if name else None
        return found or self._words()

    def _deeper(self, start: int) -> Condition:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"A search is nested at most {MAX_DEPTH} deep.", at=start)
        if self._scanner.is_done or self._scanner.char == ")":
            raise self._error("Something to look for must stand here.")
        found = self._part()
        self._depth -= 1
        return found

    def _group(self) -> Condition:
        scanner, start = self._scanner, self._scanner.at
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"A search is nested at most {MAX_DEPTH} deep.")
        scanner.at += 1
        scanner.skip_blanks()
        found: Condition = All() if scanner.char == ")" else self._either()
        if not scanner.take(")"):
            raise self._error("This ( is not closed.", at=start)
        self._depth -= 1
        return found

    def _relation(self, name: str) -> Condition:
        scanner, start = self._scanner, self._scanner.at
        end = start + len(name)
        if name not in {COUNT, *RELATIONS}:
            hint = suggest(name, (COUNT, *RELATIONS)) or f"There are {', '.join(RELATIONS)} and {COUNT}."
            raise SearchInvalid.at(
                self._text,
                start,
                end,
                f"There is no relation {name!r}.",
                hint=f'{hint} Put text to look for in "quotes".',
            )
        if self._subject == "trace" and name in _UPWARDS:
            raise SearchInvalid.at(
                self._text,
                start,
                end,
                f"In a list of traces {name} asks for the {name} of the root, which has none.",
                hint=f"Write any({name}(…)) for any span of the trace.",
            )
        if name in _WALKS and self._subject == "span":
            self._n_walks += 1
            if self._n_walks > MAX_WALKS:
                raise SearchInvalid.at(
                    self._text, start, end, f"A search follows the tree at most {MAX_WALKS} times."
                )
        scanner.at = end
        outside = self._subject
        self._subject = outside if name == COUNT and self._is_relation_next(end + 1) else "span"
        inner = self._group()
        self._subject = outside
        if name != COUNT:
            found = Related(relation=name, condition=inner)  # type: ignore[arg-type]  # checked above
        elif isinstance(inner, Related) and (inner.operator, inner.count) == (">=", 1):
            found = inner
        else:
            found = Related(relation="any", condition=inner)
        return self._counted(found, must=name == COUNT)

    def _is_relation_next(self, at: int) -> bool:
        ahead = Scanner(self._text)
        ahead.at = at
        ahead.skip_blanks()
        name = ahead.peek_name()
        return name in RELATIONS and self._text[ahead.at + len(name) :].startswith("(")

    def _counted(self, found: Related, *, must: bool) -> Related:
        """Return the relation with the number that is asked of it, if any is."""
        scanner = self._scanner
        before = scanner.at
        scanner.skip_blanks()
        sign_at = scanner.at
        sign = scanner.take_operator()
        if sign is None:
            if must:
                raise self._error(
                    "A number must be asked of a count.",
                    at=before - 1,
                    hint="Write it like count(kind:tool)>3.",
                )
            scanner.at = before
            return found
        if sign not in _COUNTING:
            raise self._error(f"{sign} cannot be asked of a number.", at=sign_at, length=len(sign))
        scanner.skip_blanks()
        value = scanner.take_value()
        number = read_number(value.text)
        if not isinstance(number, int) or not 0 <= number <= 10**9:
            raise SearchInvalid.at(
                self._text, value.start, value.end, f"How many is a whole number, not {value.text!r}."
            )
        return Related(
            relation=found.relation,
            condition=found.condition,
            operator=_COUNTING[sign],  # type: ignore[arg-type]  # its values are operators
            count=number,
        )

    def _has(self, start: int) -> Condition:
        scanner = self._scanner
        scanner.at = start
        name = scanner.peek_name()
        scanner.at += len(name)
        if not name:
            raise self._error("A field must follow has: at once.", hint="Write it like has:user.")
        if scanner.char and not scanner.char.isspace() and scanner.char not in "()":
            raise self._error(f"has: takes one field and no value: {scanner.char!r} cannot follow.")
        if name.lower() == "score":
            return Compare(field=SCORE, operator="exists")
        return Compare(field=find_field(self._text, name, start).name, operator="exists")

    def _comparison(self, name: str, after: int) -> Condition | None:
        scanner, start = self._scanner, self._scanner.at
        scanner.at = after
        scanner.skip_blanks()
        sign_at = scanner.at
        sign = scanner.take_operator()
        if sign is None or (sign == ":" and sign_at != after):
            scanner.at = start
            if name.startswith(("version.", "attr.", "metadata.", "score.")):
                find_field(self._text, name, start)
                raise SearchInvalid.at(
                    self._text,
                    start,
                    after,
                    f"What is asked of {name}?",
                    hint=f"Add a value, or write has:{name}.",
                )
            return None
        if name == ANYWHERE:
            if sign not in {":", "="}:
                raise self._error("Text is searched with text:", at=sign_at, length=len(sign))
            scanner.skip_blanks()
            value = scanner.take_value()
            if value.start == value.end:
                raise self._error("Words must follow text: at once.", at=start)
            return Words(text=bare_words(self._text, value))
        asked = find_field(self._text, name, start)
        self._n_parts += self._text.count(
            ",", sign_at, min(len(self._text), sign_at + 500)
        )  # alternatives are parts
        return Comparison(scanner, asked).read(sign, sign_at)

    def _words(self) -> Condition:
        scanner, start = self._scanner, self._scanner.at
        sign = scanner.take_operator()
        if sign is not None:
            raise self._error(
                f"The name of a field must stand before {sign}",
                at=start,
                length=len(sign),
                hint='Put text in "quotes".',
            )
        value = scanner.take_value()
        if not value.is_quoted:
            word = value.text
            if word in {"and", "or", "not"}:
                raise SearchInvalid.at(
                    self._text,
                    value.start,
                    value.end,
                    f"{word} could be a word to look for, or {word.upper()}.",
                    hint=f'Write {word.upper()}, or "{word}" in quotes.',
                )
            if word in {COUNT, *RELATIONS} and self._text[value.end :].lstrip().startswith("("):
                raise SearchInvalid.at(
                    self._text,
                    value.start,
                    value.end,
                    f"The ( must follow {word} at once.",
                    hint='Put text in "quotes".',
                )
        return Words(text=bare_words(self._text, value))

    def _error(
        self, message: str, *, at: int | None = None, length: int = 1, hint: str | None = None
    ) -> SearchInvalid:
        start = self._scanner.at if at is None else at
        return SearchInvalid.at(self._text, start, start + length, message, hint=hint)


def _flat(condition: Condition, kind: type[All] | type[Either]) -> tuple[Condition, ...]:
    return condition.parts if isinstance(condition, kind) and condition.parts else (condition,)
