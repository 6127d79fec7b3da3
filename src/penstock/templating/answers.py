"""Takes a reply apart into reasoning and answer: after it is whole, or while it streams.

The answer is what follows the last line that begins with the marker. A stream cannot know which will be the last, so it
goes by the first.
"""

import re
from dataclasses import dataclass

from penstock.spec.prompts import ChainOfThought


@dataclass(frozen=True, kw_only=True)
class SplitReply:
    """A reply taken apart."""

    reasoning: str | None
    """None when there was no marker: then all of it is the answer."""
    answer: str


def split_reply(text: str, cot: ChainOfThought) -> SplitReply:
    """Return reasoning and answer of a whole reply."""
    found = list(_at_line(cot.answer_marker).finditer(text)) or list(
        _within(cot.answer_marker).finditer(text)
    )
    if not found:
        return SplitReply(reasoning=None, answer=text)
    last = found[-1]
    answer = text[last.end() :].lstrip(_SPACE + last.group(1)).rstrip()
    return SplitReply(reasoning=text[: last.start()].rstrip(), answer=answer)


class AnswerStream:
    """Holds text back until the marker has passed, then lets it through. One per choice of a stream.

    Only the line that is not over yet is looked at again when more of it comes: a stream of any length takes a time that
    grows with it.
    """

    def __init__(self, cot: ChainOfThought) -> None:
        self._cot = cot
        self._pattern = _at_line(cot.answer_marker)
        marker = cot.answer_marker.strip()
        self._n_begin = len(marker) + _MAX_BOLD
        self._n_more_lines = marker.count("\n")
        self._passed: list[str] = []
        """Text in which the marker does not begin."""
        self._line = ""
        """What has come of the line that may begin with it, and of those after it that belong to a marker of several."""
        self._is_passing = False
        """Whether the line cannot begin with the marker any more."""
        self._is_open = False
        self._strips = _SPACE
        self.reasoning: str | None = None
        """What stood before the answer, once that has begun."""

    def feed(self, text: str) -> str:
        """Return what of `text` the caller may see."""
        if self._is_open:
            return self._shown(text)
        if self._is_passing:
            end = text.find("\n") + 1
            self._passed.append(text[:end] if end else text)
            if not end:
                return ""
            self._is_passing, text = False, text[end:]
        self._line += text
        found = self._search()
        if found is None:
            return ""
        self._is_open = True
        self._strips = _SPACE + found.group(1)
        self.reasoning = "".join([*self._passed, self._line[: found.start()]]).rstrip()
        rest = self._line[found.end() :]
        self._line = ""
        self._passed.clear()
        return self._shown(rest)

    def _search(self) -> re.Match[str] | None:
        at = 0
        n_ends = self._line.count("\n")
        while True:
            found = self._pattern.match(self._line, at)
            if found is not None:
                return found
            if n_ends <= self._n_more_lines:
                break
            at = self._line.index("\n", at) + 1
            n_ends -= 1
        self._passed.append(self._line[:at])
        self._line = self._line[at:]
        if not self._n_more_lines and len(self._line.lstrip(_BEGINS)) > self._n_begin:
            self._passed.append(self._line)
            self._line, self._is_passing = "", True
        return None

    def finish(self) -> str:
        """Return what was held back where no line began with the marker: what follows it within a line, or all."""
        if self._is_open:
            return ""
        self._is_open = True
        whole = split_reply("".join([*self._passed, self._line]), self._cot)
        self._line, self.reasoning = "", whole.reasoning
        self._passed.clear()
        return whole.answer

    def _shown(self, text: str) -> str:
        if self._strips:
            text = text.lstrip(self._strips)
            if text:
                self._strips = ""
        return text


_SPACE = " \t\r\n"
_BEGINS = " \t>#"
_MAX_BOLD = 3


def _at_line(marker: str) -> re.Pattern[str]:
    """Models like to write the marker in bold or as a heading."""
    return re.compile(rf"^[{_BEGINS}]*([*_`]{{0,{_MAX_BOLD}}}){re.escape(marker.strip())}", re.MULTILINE)


def _within(marker: str) -> re.Pattern[str]:
    return re.compile(rf"([*_`]{{0,3}}){re.escape(marker.strip())}")
