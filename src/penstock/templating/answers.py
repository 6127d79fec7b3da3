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
    """Holds text back until the marker has passed, then lets it through. One per choice of a stream."""

    def __init__(self, cot: ChainOfThought) -> None:
        self._cot = cot
        self._pattern = _at_line(cot.answer_marker)
        self._held = ""
        self._is_open = False
        self._strips = _SPACE
        self.reasoning: str | None = None
        """What stood before the answer, once that has begun."""

    def feed(self, text: str) -> str:
        """Return what of `text` the caller may see."""
        if self._is_open:
            return self._shown(text)
        self._held += text
        found = self._pattern.search(self._held)
        if found is None:
            return ""
        self._is_open = True
        self._strips = _SPACE + found.group(1)
        self.reasoning, rest = self._held[: found.start()].rstrip(), self._held[found.end() :]
        self._held = ""
        return self._shown(rest)

    def finish(self) -> str:
        """Return what was held back where no line began with the marker: what follows it within a line, or all."""
        if self._is_open:
            return ""
        self._is_open = True
        whole = split_reply(self._held, self._cot)
        self._held, self.reasoning = "", whole.reasoning
        return whole.answer

    def _shown(self, text: str) -> str:
        if self._strips:
            text = text.lstrip(self._strips)
            if text:
                self._strips = ""
        return text


_SPACE = " \t\r\n"


def _at_line(marker: str) -> re.Pattern[str]:
    """Models like to write the marker in bold or as a heading."""
    return re.compile(rf"^[ \t>#]*([*_`]{{0,3}}){re.escape(marker.strip())}", re.MULTILINE)


def _within(marker: str) -> re.Pattern[str]:
    return re.compile(rf"([*_`]{{0,3}}){re.escape(marker.strip())}")
