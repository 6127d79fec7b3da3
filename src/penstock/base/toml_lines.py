"""Finds the line of each key in a TOML text that `tomllib` has already accepted.

`tomllib` gives values without positions, and people need "line 12". This walks the same text once and
records a line for each key path, array item and inline-table key. It checks nothing: on text that is not
valid TOML its answers are worthless, so callers parse first.
"""

import re

KeyPath = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^\s,\]}#]+(?:[ ][0-9:.Z+-]+)?")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def locate_lines(text: str) -> dict[KeyPath, int]:
    """Return the 1-based line of every key path in `text`, such as `("routes", "a", "targets", 0, "model")`."""
    return _Walk(text).run()


def nearest_line(lines: dict[KeyPath, int], path: KeyPath) -> int | None:
    """Return the line of `path`, or of the nearest key around it that the text spells out."""
    for length in range(len(path), 0, -1):
        if (line := lines.get(path[:length])) is not None:
            return line
    return None


class _Walk:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.lines: dict[KeyPath, int] = {}
        self.n_items: dict[KeyPath, int] = {}

    def run(self) -> dict[KeyPath, int]:
        prefix: KeyPath = ()
        while self._skip_blank(newlines=True):
            if self.text.startswith("[[", self.at):
                prefix = self._header(2)
                number = self.n_items.get(prefix, 0)
                self.n_items[prefix] = number + 1
                prefix = (*prefix, number)
                self.lines[prefix] = self.line
            elif self.text[self.at] == "[":
                prefix = self._header(1)
            else:
                self._pair(prefix)
        return self.lines

    def _header(self, width: int) -> KeyPath:
        self._move(width)
        path = self._resolve(self._key())
        self._record(path)
        self._skip_blank()
        self._move(width)
        return path

    def _resolve(self, key: KeyPath) -> KeyPath:
        """Return `key` with the current item number put behind each array of tables it passes through."""
        path: KeyPath = ()
        for index, part in enumerate(key):
            path = (*path, part)
            if index < len(key) - 1 and path in self.n_items:
                path = (*path, self.n_items[path] - 1)
        return path

    def _record(self, path: KeyPath) -> None:
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], self.line)

    def _pair(self, prefix: KeyPath) -> None:
        path = (*prefix, *self._key())
        self._record(path)
        self._skip_blank()
        self._move(1)  # the equals sign
        self._skip_blank()
        self._value(path)

    def _key(self) -> KeyPath:
        parts: list[str] = []
        while True:
            self._skip_blank()
            if self.text[self.at] in "\"'":
                parts.append(self._string())
            else:
                found = _BARE.match(self.text, self.at)
                assert found is not None, "the text was parsed before"
                parts.append(found.group())
                self._move(len(found.group()))
            self._skip_blank()
            if not self.text.startswith(".", self.at):
                return tuple(parts)
            self._move(1)

    def _value(self, path: KeyPath) -> None:
        mark = self.text[self.at]
        if mark in "\"'":
            self._string()
        elif mark == "[":
            self._array(path)
        elif mark == "{":
            self._inline_table(path)
        else:
            found = _SCALAR.match(self.text, self.at)
            assert found is not None, "the text was parsed before"
            self._move(len(found.group()))

    def _array(self, path: KeyPath) -> None:
        self._move(1)
        number = 0
        while self._skip_blank(newlines=True) and self.text[self.at] != "]":
            if self.text[self.at] == ",":
                self._move(1)
                continue
            self.lines[(*path, number)] = self.line
            self._value((*path, number))
            number += 1
        self._move(1)

    def _inline_table(self, path: KeyPath) -> None:
        self._move(1)
        while self._skip_blank(newlines=True) and self.text[self.at] != "}":
            if self.text[self.at] == ",":
                self._move(1)
            else:
                self._pair(path)
        self._move(1)

    def _string(self) -> str:
        quote = self.text[self.at]
        width = 3 if self.text.startswith(quote * 3, self.at) else 1
        start = self.at + width
        end = start
        while not self.text.startswith(quote * width, end):
            end += 2 if self.text[end] == "\\" and quote == '"' else 1
        while width == 3 and self.text.startswith(quote, end + 3):  # up to two quotes may end the content
            end += 1
        self._move(end + width - self.at)
        content = self.text[start:end]
        return _ESCAPE.sub(r"\1", content) if quote == '"' else content

    def _skip_blank(self, *, newlines: bool = False) -> bool:
        """Move over blanks and comments; return whether anything is left."""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "#":
                end = self.text.find("\n", self.at)
                self._move((end if end >= 0 else len(self.text)) - self.at)
            elif char in " \t" or (newlines and char in "\r\n"):
                self._move(1)
            else:
                return True
        return False

    def _move(self, count: int) -> None:
        self.line += self.text.count("\n", self.at, self.at + count)
        self.at += count
