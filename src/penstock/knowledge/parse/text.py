"""What every parser does to text: decode honestly, normalise whitespace and Unicode, build sections."""

import re
import unicodedata
from dataclasses import dataclass, field

from penstock.knowledge.types import Section

_SPACES = re.compile(r"[^\S\n]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\u2060\ufeff]")

_MARKS = ((b"\xef\xbb\xbf", "UTF-8"), (b"\xff\xfe", "UTF-16-LE"), (b"\xfe\xff", "UTF-16-BE"))


def decode_text(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the text, and a problem line if some bytes were not valid in the encoding found."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode_marked(data, len(mark), encoding)
    try:
        return data.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        text = data.decode("cp1252", errors="replace")
        return text, (f"not valid UTF-8 at byte {error.start}; read as Windows-1252",)


def _decode_marked(data: bytes, start: int, encoding: str) -> tuple[str, tuple[str, ...]]:
    try:
        return data[start:].decode(encoding), ()
    except UnicodeDecodeError as error:
        text = data[start:].decode(encoding, errors="replace")
        return text, (f"not valid {encoding} at byte {start + error.start}; what is damaged was replaced",)


def clean_line(text: str) -> str:
    """Return one line: NFC, no control characters, single spaces."""
    return _SPACES.sub(" ", _CONTROL.sub("", unicodedata.normalize("NFC", text)).replace("\n", " ")).strip()


def slug_of(heading: str) -> str:
    """Return the fragment that Markdown viewers give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@dataclass(kw_only=True)
class SectionBuilder:
    """Collects paragraphs under headings; parsers feed it in reading order."""

    sections: list[Section] = field(default_factory=list)
    heading: str | None = None
    anchor: str | None = None
    paragraphs: list[str] = field(default_factory=list)

    def start(self, heading: str, *, anchor: str | None = None) -> None:
        """Close the current section and open one under `heading`."""
        self.finish()
        self.heading = clean_line(heading) or None
        self.anchor = clean_line(anchor) or None if anchor else None

    def add(self, paragraph: str) -> None:
        """Add a paragraph; empty ones are left out."""
        if cleaned := clean_line(paragraph):
            self.paragraphs.append(cleaned)

    def add_verbatim(self, block: str) -> None:
        """Add a block whose line breaks matter (code, tables)."""
        if block.strip():
            self.paragraphs.append(_CONTROL.sub("", block.rstrip()))

    def finish(self) -> tuple[Section, ...]:
        """Close the current section and return all of them."""
        if self.paragraphs:
            self.sections.append(
                Section(heading=self.heading, text="\n\n".join(self.paragraphs), anchor=self.anchor)
            )
        self.paragraphs = []
        return tuple(self.sections)
