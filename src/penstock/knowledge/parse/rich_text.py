"""Rich text (.rtf): its words in paragraphs. Marks are skipped without recursion; images are counted."""

import re
from collections import Counter

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse.text import SectionBuilder
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe

_TOKEN = re.compile(
    r"\\(?P<word>[a-zA-Z]{1,32})(?P<number>-?\d{1,10})? ?|\\'(?P<code>[0-9a-fA-F]{2})|\\(?P<symbol>[^a-zA-Z])"
    r"|(?P<brace>[{}])|[\r\n]+|(?P<text>[^\\{}\r\n]+)"
)
_CODE_PAGE = re.compile(r"\\ansicpg(\d{3,5})")
_UNSEEN = frozenset(
    {"fonttbl", "colortbl", "stylesheet", "info", "pict", "object", "themedata", "colorschememapping", "datastore",
     "latentstyles", "listtable", "listoverridetable", "rsidtbl", "generator", "xmlnstbl", "header", "footer",
     "headerl", "headerr", "footerl", "footerr", "fldinst", "filetbl", "revtbl", "annotation", "bkmkstart",
     "bkmkend", "pgdsctbl", "mmathPr", "wgrffmtfilter"}
)  # fmt: skip
_CHARS = {
    "tab": " ", "line": " ", "emdash": "—", "endash": "–", "bullet": "•", "lquote": "‘", "rquote": "’",
    "ldblquote": "“", "rdblquote": "”", "emspace": " ", "enspace": " ", "cell": " | ",
}  # fmt: skip
_SYMBOLS = {"~": " ", "_": "-", "\\": "\\", "{": "{", "}": "}"}
_COUNTED = {
    "pict": "images", "object": "embedded objects", "annotation": "comments", "header": "page headers",
    "footer": "page footers",
}  # fmt: skip
_ENDS = frozenset({"par", "row", "sect", "page"})


def parse_rtf(data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
    """Return the paragraphs of a rich text as one section."""
    del recipe
    if not data.lstrip().startswith(b"{\\rtf"):
        raise UnreadableDocument("the file is no rich text.", hint="Save it as .rtf or .docx.")
    source = data.decode("latin-1")
    found = _CODE_PAGE.search(source[:2000])
    reader = _Reader(f"cp{found[1]}" if found else "cp1252")
    for token in _TOKEN.finditer(source):
        reader.read(token)
    reader.end_paragraph()
    return ParsedDocument(
        title=None,
        media_type="application/rtf",
        sections=reader.builder.finish(),
        problems=tuple(f"{count} {what} were left out" for what, count in reader.counts.items()),
    )


class _Reader:
    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.builder = SectionBuilder()
        self.counts: Counter[str] = Counter()
        self._pieces: list[str] = []
        self._bytes = bytearray()
        self._groups: list[tuple[bool, int]] = []
        self._unseen = False
        self._starred = False
        self._follow = 1
        """How many characters stand after each Unicode one for programs that know none."""
        self._to_skip = 0

    def read(self, token: re.Match[str]) -> None:
        """Take one token."""
        word, brace = token["word"], token["brace"]
        starred, self._starred = self._starred, token["symbol"] == "*"
        if brace == "{":
            self._groups.append((self._unseen, self._follow))
        elif brace == "}":
            self._unseen, self._follow = self._groups.pop() if self._groups else (False, 1)
        elif word:
            if word in _COUNTED and not self._unseen:
                self.counts[_COUNTED[word]] += 1
            if word in _UNSEEN or (starred and word not in {"shptxt", "pn"}):
                self._unseen = True
            elif not self._unseen:
                self._read_word(word, token["number"])
        elif not self._unseen:
            self._read_text(token)

    def end_paragraph(self) -> None:
        """Write the paragraph so far."""
        self._end_bytes()
        # Characters beyond the basic plane come as two halves.
        text = "".join(self._pieces).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        self.builder.add(text)
        self._pieces.clear()

    def _read_word(self, word: str, number: str | None) -> None:
        if word in _ENDS:
            self.end_paragraph()
        elif word in _CHARS:
            self._add(_CHARS[word])
        elif word == "uc":
            self._follow = int(number or 1)
        elif word == "u" and number:
            self._add(chr(int(number) % 65536))
            self._to_skip = self._follow

    def _read_text(self, token: re.Match[str]) -> None:
        code, text = token["code"], token["text"]
        if code and self._to_skip:
            self._to_skip -= 1
        elif code:
            self._bytes.append(int(code, 16))
        elif text:
            self._add(text[self._to_skip :])
            self._to_skip = 0
        elif token["symbol"]:
            self._add(_SYMBOLS.get(token["symbol"], ""))

    def _add(self, text: str) -> None:
        self._end_bytes()
        self._pieces.append(text)

    def _end_bytes(self) -> None:
        if self._bytes:
            try:
                self._pieces.append(self._bytes.decode(self.encoding, errors="replace"))
            except LookupError:
                self._pieces.append(self._bytes.decode("cp1252", errors="replace"))
            self._bytes.clear()
