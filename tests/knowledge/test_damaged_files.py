"""Damaged files: what is readable is read, what is lost is named, and every refusal is in our own words."""

import contextlib
import io
import random
import zipfile

import docx
import fpdf
import pytest

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse import parse_document


def read(name: str, data: bytes) -> tuple[str, tuple[str, ...]]:
    document = parse_document(name, data)
    return " ".join(section.text for section in document.sections), document.problems


def make_docx() -> bytes:
    document = docx.Document()
    for number in range(40):
        document.add_paragraph(f"Paragraph {number} says something.")
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def change_entries(data: bytes, offset_local: int, offset_central: int, value: bytes) -> bytes:
    """Overwrite two bytes of each entry's headers in a zip archive."""
    changed = bytearray(data)
    for mark, offset in ((b"PK\x03\x04", offset_local), (b"PK\x01\x02", offset_central)):
        place = data.find(mark)
        while place >= 0:
            changed[place + offset : place + offset + 2] = value
            place = data.find(mark, place + 4)
    return bytes(changed)


def replace_part(data: bytes, name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(buffer, "w") as after:
        for entry in before.infolist():
            after.writestr(entry.filename, content if entry.filename == name else before.read(entry))
    return buffer.getvalue()


def test_a_closing_tag_ends_what_was_left_open_inside_it() -> None:
    text, problems = read("a.html", b"<p>one</p><nav><aside>x</nav><p>two</p>")
    assert text == "one\n\ntwo"
    assert problems == ("1 words of menus, headers, footers and asides were left out",)


def test_text_lost_after_an_element_that_is_never_closed_is_named() -> None:
    text, problems = read("a.html", b"<p>one</p><nav>menu<p>two</p>")
    assert text == "one"
    assert "<nav> is never closed" in problems[0]


@pytest.mark.parametrize("oddity", [b"<![foo bar]>", b"<![if !IE]>", b"<![endif]-->", b"<![", b"<![ x"])
def test_an_unknown_declaration_in_a_page_is_a_comment(oddity: bytes) -> None:
    assert read("a.html", b"<p>one</p>" + oddity + b"<p>two</p>")[0].startswith("one")
    assert "two" in read("a.html", b"<p>one</p><![foo bar]><p>two</p>")[0]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8"])
def test_damage_in_a_marked_encoding_is_told(encoding: str) -> None:
    whole = "\ufeffAbove and below.".encode(encoding)
    assert read("a.txt", whole) == ("Above and below.", ())
    text, problems = read("a.txt", whole + b"\xd8")
    assert text.startswith("Above and below.")
    assert f"at byte {len(whole)}" in problems[0]


def test_one_broken_page_does_not_cost_the_others() -> None:
    pdf = fpdf.FPDF()
    pdf.set_compression(False)
    for word in ("first", "second", "third"):
        pdf.add_page()
        pdf.set_font("helvetica", size=12)
        pdf.cell(text=f"The {word} page.")
    data = bytes(pdf.output())
    pages = data[data.index(b"/Kids [") : data.index(b"]", data.index(b"/Kids ["))]
    second = pages.split(b"[")[1].split(b" 0 R")[1].strip()
    broken = data.replace(pages, pages.replace(second + b" 0 R", b"9" * len(second) + b" 0 R"))
    text, problems = read("a.pdf", broken)
    assert "first" in text and "third" in text and "second" not in text
    assert problems == ("page 2 is broken and was not read",)


def test_a_locked_word_document_is_called_locked() -> None:
    with pytest.raises(UnreadableDocument, match="locked by a password"):
        parse_document("a.docx", change_entries(make_docx(), 6, 8, b"\x01\x00"))


@pytest.mark.parametrize(
    "data",
    [
        change_entries(make_docx(), 8, 10, b"\x63\x00"),  # an unknown way to compress
        change_entries(make_docx(), 8, 10, b"\x0c\x00"),  # bzip2, which it is not
        replace_part(make_docx(), "word/document.xml", b"<document/>"),
        replace_part(make_docx(), "word/document.xml", b""),
    ],
)
def test_a_damaged_word_document_is_refused_in_our_words(data: bytes) -> None:
    with pytest.raises(UnreadableDocument, match="broken"):
        parse_document("a.docx", data)


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("[Content_Types].xml", b"<Types/>"),
        ("_rels/.rels", b"<Relationships/>"),
        ("docProps/core.xml", b"<x/>"),
        ("docProps/core.xml", b"<x"),
    ],
)
def test_damage_beside_the_text_costs_no_text(part: str, content: bytes) -> None:
    assert "Paragraph 39 says" in read("a.docx", replace_part(make_docx(), part, content))[0]


@pytest.mark.parametrize("seed", range(30))
def test_a_word_document_with_random_damage_parses_or_is_refused(seed: int) -> None:
    chance = random.Random(seed)
    changed = bytearray(make_docx())
    for _ in range(20):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    with contextlib.suppress(UnreadableDocument):
        parse_document("a.docx", bytes(changed))
