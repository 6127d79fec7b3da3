"""What every parser does to text: decode honestly, normalise whitespace and Unicode, build sections."""

import re
import unicodedata
from dataclasses import dataclass, field

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse.tables import write_table
from penstock.knowledge.types import Section, SectionKind

_SPACES = re.compile(r"[^\S\n]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\u2060\ufeff\ud800-\udfff]")
_FENCE_RUN = re.compile(r"`{3,}")
_CODE_NAME = re.compile(r"[\w+#.-]{1,30}")

BINARY_SHARE = 0.05
"""Text has no control characters but for a stray one."""
_MARKS = ((b"\xef\xbb\xbf", "UTF-8"), (b"\xff\xfe", "UTF-16-LE"), (b"\xfe\xff", "UTF-16-BE"))


def decode_text(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the text, and a problem line if some bytes were not valid in the encoding found."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode_marked(data, len(mark), encoding)
    if guessed := _guess_utf16(data):
        return _decode_marked(data, 0, guessed)
    if _is_binary(data[:4096]):
        raise UnreadableDocument("the file is binary and no text.", hint="Give it the suffix of its format.")
    try:
        return data.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        text = data.decode("cp1252", errors="replace")
        return text, (f"not valid UTF-8 at byte {error.start}; read as Windows-1252",)


def _is_binary(sample: bytes) -> bool:
    controls = sum(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in sample)
    return len(sample) >= 64 and controls > BINARY_SHARE * len(sample)


def _decode_marked(data: bytes, start: int, encoding: str) -> tuple[str, tuple[str, ...]]:
    try:
        return data[start:].decode(encoding), ()
    except UnicodeDecodeError as error:
        text = data[start:].decode(encoding, errors="replace")
        return text, (f"not valid {encoding} at byte {start + error.start}; what is damaged was replaced",)


def _guess_utf16(data: bytes) -> str | None:
    """Return the encoding of text that has a zero in every other byte: UTF-16 without a mark."""
    sample = data[:2000]
    if len(sample) < 16:
        return None
    half = len(sample) // 2
    if sample[1::2].count(0) > 0.7 * half and sample[::2].count(0) < 0.1 * half:
        return "UTF-16-LE"
    if sample[::2].count(0) > 0.7 * half and sample[1::2].count(0) < 0.1 * half:
        return "UTF-16-BE"
    return None


def clean_line(text: str) -> str:
    """Return one line: NFC, no control characters, single spaces."""
    if text.isascii() and text.isprintable():  # most text, ten times as fast
        return text.strip() if "  " not in text else _SPACES.sub(" ", text).strip()
    return _SPACES.sub(" ", _CONTROL.sub("", unicodedata.normalize("NFC", text)).replace("\n", " ")).strip()


def clean_block(text: str) -> str:
    """Return text whose line breaks and indents matter without control characters."""
    return _CONTROL.sub("", unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n"))


def slug_of(heading: str) -> str:
    """Return the fragment that Markdown viewers give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def count_words(text: str) -> int:
    """Return the number of words."""
    return len(text.split())


@dataclass(kw_only=True)
class SectionBuilder:
    """Collects paragraphs under headings; parsers feed it in reading order.

    A heading is never lost: it stands in the path of the sections below it, or, with nothing below it, is
    the text of a section of its own.
    """

    sections: list[Section] = field(default_factory=list)
    heading: str | None = None
    anchor: str | None = None
    page: int | None = None
    kind: SectionKind = "text"
    paragraphs: list[str] = field(default_factory=list)
    _path: list[tuple[int, str]] = field(default_factory=list)
    _level: int = 0

    def start(
        self,
        heading: str | None,
        *,
        anchor: str | None = None,
        level: int = 2,
        page: int | None = None,
        kind: SectionKind = "text",
    ) -> None:
        """Close the current section and open one under `heading`; smaller levels enclose greater ones."""
        self._close(next_level=level)
        name = clean_line(heading or "") or None
        self._path = [each for each in self._path if each[0] < level]
        if name is not None:
            self._path.append((level, name))
        self.heading, self._level = name, level
        self.anchor = clean_line(anchor) or None if anchor else None
        self.page, self.kind = page, kind

    def go_on(self, *, anchor: str | None, page: int | None) -> None:
        """Go on under the same heading in a section of its own, which opens at another place."""
        if self.paragraphs:
            self._close(next_level=self._level)
            self.anchor, self.page = anchor, page

    def rename(self, heading: str) -> None:
        """Give the open section another heading, at the same level."""
        self.heading = clean_line(heading) or None
        if self._path and self.heading is not None:
            self._path[-1] = (self._path[-1][0], self.heading)

    def add(self, paragraph: str) -> None:
        """Add a paragraph; empty ones are left out."""
        if cleaned := clean_line(paragraph):
            self.paragraphs.append(cleaned)

    def add_verbatim(self, block: str) -> None:
        """Add a block whose line breaks matter (lists, code and tables that are marked already)."""
        if block.strip():
            self.paragraphs.append(clean_block(block.rstrip()).strip("\n"))

    def add_code(self, code: str, language: str = "") -> None:
        """Add code, fenced."""
        if code.strip():
            longest = max((len(run) for run in _FENCE_RUN.findall(code)), default=2)
            fence = "`" * (longest + 1)
            name = language if _CODE_NAME.fullmatch(language) else ""
            body = clean_block(code).strip("\n").rstrip()
            self.paragraphs.append(f"{fence}{name}\n{body}\n{fence}")

    def add_table(self, rows: list[list[str]]) -> None:
        """Add a table whose first row names the columns, in Markdown."""
        if table := write_table([[clean_line(cell) for cell in row] for row in rows]):
            self.paragraphs.append(table)

    def finish(self) -> tuple[Section, ...]:
        """Close the current section and return all of them."""
        self._close(next_level=0)
        self.heading = None
        return tuple(self.sections)

    def _close(self, *, next_level: int) -> None:
        text = "\n\n".join(self.paragraphs)
        if not text and self.heading is not None and next_level <= self._level:
            text = self.heading
        if text:
            self.sections.append(
                Section(
                    heading=self.heading,
                    text=text,
                    anchor=self.anchor,
                    headings=tuple(name for _, name in self._path),
                    page=self.page,
                    kind=self.kind,
                )
            )
        self.paragraphs = []
