"""The characters of a search: where words, quoted text, values and names begin and end. Knows no fields."""

from typing import NamedTuple

from penstock.traces.search.errors import SearchInvalid

MAX_TEXT = 500
"""Longest single value, in characters."""
_NAME_START = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_NAME = _NAME_START | frozenset("0123456789.-/@")
_PREFIXES = frozenset({"attr.", "metadata.", "score.", "version."})
_OPERATORS = ("!=", "<=", ">=", "!~", ":", "=", "<", ">", "~")
STAR = "*"


class Value(NamedTuple):
    """One value as it was written: literal pieces, with a None where a `*` stood."""

    pieces: tuple[str | None, ...]
    is_quoted: bool
    start: int
    end: int

    @property
    def text(self) -> str:
        """The text with its stars."""
        return "".join(STAR if piece is None else piece for piece in self.pieces)

    @property
    def has_star(self) -> bool:
        """Whether a `*` outside of quotes stands for anything."""
        return None in self.pieces


class Scanner:
    """A position in a search, and what can be taken from there."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return self.at >= len(self.text)

    @property
    def char(self) -> str:
        """The next character; empty at the end."""
        return self.text[self.at : self.at + 1]

    def skip_blanks(self) -> None:
        """Go to the next character that is not blank."""
        while self.char.isspace():
            self.at += 1

    def take(self, mark: str) -> bool:
        """Take `mark` if it comes next."""
        if self.text.startswith(mark, self.at):
            self.at += len(mark)
            return True
        return False

    def take_keyword(self, word: str) -> bool:
        """Take a word of the language if it comes next and stands alone."""
        end = self.at + len(word)
        follower = self.text[end : end + 1]
        if self.text[self.at : end] == word and (not follower or follower.isspace() or follower in "()"):
            self.at = end
            return True
        return False

    def take_operator(self) -> str | None:
        """Take a comparison sign if one comes next."""
        for sign in _OPERATORS:
            if self.take(sign):
                return sign
        return None

    def peek_name(self) -> str:
        """Return the name that comes next, `attr."any text"` included; empty when none does."""
        if self.char not in _NAME_START:
            return ""
        end = self.at
        while self.text[end : end + 1] in _NAME and end < len(self.text):
            end += 1
        if self.text[self.at : end] in _PREFIXES and self.text[end : end + 1] == '"':
            end = self._end_of_quote(end)
        elif self.text.startswith("version.", self.at) and self.text[end : end + 1] == ":":
            further = end + 1
            while self.text[further : further + 1] in _NAME and further < len(self.text):
                further += 1
            end = further if further > end + 1 else end
        return self.text[self.at : end]

    def take_value(self, *, stop: str = "") -> Value:
        """Take a value: bare characters, `*` and quoted pieces without a blank between them."""
        start = self.at
        pieces: list[str | None] = []
        bare: list[str] = []
        is_quoted = False

        def end_piece() -> None:
            if bare:
                pieces.append("".join(bare))
                bare.clear()

        while not self.is_done and not self.char.isspace() and self.char not in "()" + stop:
            if self.char == '"':
                end_piece()
                pieces.append(self.take_quoted())
                is_quoted = True
            elif self.char == STAR:
                end_piece()
                pieces.append(None)
                self.at += 1
            else:
                bare.append(self.char)
                self.at += 1
        end_piece()
        self._check_length(start)
        return Value(tuple(pieces), is_quoted, start, self.at)

    def take_pattern(self) -> Value:
        """Take a regular expression: quoted, or bare up to a blank or a bracket that it did not open."""
        start, depth = self.at, 0
        if self.char == '"':
            text = self.take_quoted()
            return Value((text,), True, start, self.at)
        while not self.is_done and not self.char.isspace():
            depth += (self.char == "(") - (self.char == ")")
            if depth < 0:
                break
            self.at += 1
        self._check_length(start)
        return Value((self.text[start : self.at],), False, start, self.at)

    def take_quoted(self) -> str:
        """Take text in double quotes; `\\"` and `\\\\` stand for the characters themselves."""
        start = self.at
        end = self._end_of_quote(start)
        self.at = end
        return unquote(self.text[start:end])

    def _end_of_quote(self, start: int) -> int:
        end = start + 1
        while end < len(self.text):
            if self.text[end] == "\\":
                end += 2
                continue
            if self.text[end] == '"':
                return end + 1
            end += 1
        raise SearchInvalid.at(self.text, start, len(self.text), 'The quote is not closed: a " is missing.')

    def _check_length(self, start: int) -> None:
        if self.at - start > MAX_TEXT:
            raise SearchInvalid.at(
                self.text, start, self.at, f"A value may have at most {MAX_TEXT} characters."
            )


def unquote(text: str) -> str:
    """Return what a quoted text says."""
    inner, pieces, at = text[1:-1], [], 0
    while at < len(inner):
        if inner[at] == "\\" and inner[at + 1 : at + 2] in {'"', "\\"}:
            at += 1
        pieces.append(inner[at])
        at += 1
    return "".join(pieces)


def quote(text: str) -> str:
    """Return `text` as a quoted text."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
