"""The standard library's tolerant tokenizer of HTML, with time that grows with the page and no faster.

It looks for the end of every comment, declaration and tag anew, through the rest of the page. Here an end that was
looked for in vain is not looked for again, and what follows the last `>` of a page, where nothing can end, is text.
"""

import re
from html import unescape
from html.parser import HTMLParser

_OFFICE = re.compile(r"<!\[(?:if|else|endif)\b", re.IGNORECASE)
_LONG_NUMBER = re.compile(r"&#(?:0*[1-9][0-9]{7,}|[xX]0*[1-9a-fA-F][0-9a-fA-F]{6,});?")
"""Numbers of characters that there are none of; Python refuses to read the longest ones."""


class Tokenizer(HTMLParser):
    """Reads one whole page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._endless: set[str] = set()

    def read(self, text: str) -> None:
        """Hand everything in the page to the handlers."""
        text = _LONG_NUMBER.sub("\ufffd", text)
        end = text.rfind(">") + 1
        self.feed(text[:end])
        self.close()
        if end < len(text):
            self.handle_data(unescape(text[end:]))

    def parse_comment(self, i: int, report: bool = True) -> int:
        """Read a comment; -1 where it never ends."""
        if "comment" in self._endless:
            return -1
        end = super().parse_comment(i, report)
        if end < 0:
            self._endless.add("comment")
        return end

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """Read `<![anything]>` as browsers do: an unknown one is a comment, where the base class gives up."""
        kind = "office" if _OFFICE.match(self.rawdata, i) else "section"
        if kind in self._endless:
            return -1
        try:
            end = super().parse_marked_section(i, report)
        except AssertionError:
            return self.parse_bogus_comment(i)
        if end < 0:
            self._endless.add(kind)
        return end
