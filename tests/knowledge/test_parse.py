"""Parsers: the same article in five formats gives the same text; broken files say what is wrong with them."""

import contextlib
import importlib.util
import io
import sys
import zipfile
from pathlib import Path

import fpdf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.knowledge.errors import DocumentTooLarge, UnreadableDocument, UnsupportedFormat
from penstock.knowledge.parse import parse_document
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe

ROOT = Path(__file__).resolve().parents[2]
ARTICLES = ROOT / "src" / "penstock" / "data" / "handbook" / "articles"
_spec = importlib.util.spec_from_file_location("handbook_source", ROOT / "recipes" / "handbook" / "build.py")
assert _spec is not None
assert _spec.loader is not None
source = importlib.util.module_from_spec(_spec)
sys.modules["handbook_source"] = source
_spec.loader.exec_module(source)


def flat(document: ParsedDocument) -> list[tuple[str | None, str]]:
    return [(section.heading, " ".join(section.text.split())) for section in document.sections]


@pytest.mark.parametrize("path", sorted(ARTICLES.iterdir()), ids=lambda path: path.name)
def test_every_shipped_article_parses_to_exactly_its_source_text(path: Path) -> None:
    article = source.read_article(ROOT / "recipes" / "handbook" / "articles" / f"{path.stem}.md")
    document = parse_document(path.name, path.read_bytes())
    wanted = [
        (section.heading, " ".join(section.paragraphs)) for section in article.sections if section.paragraphs
    ]
    if path.suffix == ".csv":
        wanted = [(heading or article.title, text) for heading, text in wanted]
    else:
        assert document.title == article.title
    assert flat(document) == wanted
    # Each page's menu and footer are left out, and said to be.
    assert len(document.problems) == (path.suffix == ".html")
    assert document.language == "en"


def test_lines_of_a_pdf_are_joined_to_the_paragraphs_of_their_source() -> None:
    paths = sorted(ARTICLES.glob("*.pdf"))
    for path in paths:
        article = source.read_article(ROOT / "recipes" / "handbook" / "articles" / f"{path.stem}.md")
        wanted = [paragraph for section in article.sections for paragraph in section.paragraphs]
        document = parse_document(path.name, path.read_bytes())
        assert [text for section in document.sections for text in section.text.split("\n\n")] == wanted
    assert paths


def test_a_word_cut_at_a_line_end_is_whole_again() -> None:
    page = fpdf.FPDF()
    page.add_page()
    page.set_font("helvetica", "", 11)
    for line in ("The ship sails over the wa-", "ter and comes home.", "It rests."):
        page.cell(0, 6, line, new_x="LMARGIN", new_y="NEXT")
    (section,) = parse_document("a.pdf", bytes(page.output())).sections
    assert section.text == "The ship sails over the water and comes home. It rests."


def test_boilerplate_of_a_page_is_left_out() -> None:
    page = b"<title>T</title><body><nav>Menu</nav><h2>One</h2><p>First<br>line.</p><footer>Foot</footer><script>x</script>"
    assert flat(parse_document("a.html", page)) == [("One", "First line.")]


def test_tables_and_code_stay_whole() -> None:
    text = b"# T\n\n```\na  b\n\nc\n```\n\n| x | y |\n| 1 | 2 |\n"
    (section,) = parse_document("a.md", text).sections
    assert "a  b\n\nc" in section.text
    assert "| x | y |\n| 1 | 2 |" in section.text


def test_a_table_of_facts_names_its_columns() -> None:
    document = parse_document("a.csv", b"food,salt\nbread,1.1\ncheese,1.8\n")
    assert flat(document) == [("Row 2", "food: bread; salt: 1.1"), ("Row 3", "food: cheese; salt: 1.8")]


def test_an_unknown_suffix_names_the_known_ones() -> None:
    with pytest.raises(UnsupportedFormat, match=r"\.docx"):
        parse_document("a.xyz", b"x")


@pytest.mark.parametrize("name", ["a.pdf", "a.docx"])
def test_broken_files_are_refused_by_name(name: str) -> None:
    with pytest.raises(UnreadableDocument, match=name):
        parse_document(name, b"this is not such a file")


def test_an_empty_document_is_an_error_and_not_a_silent_loss() -> None:
    with pytest.raises(UnreadableDocument, match="no text"):
        parse_document("a.html", b"<html><body><script>render()</script></body></html>")


def test_a_zip_bomb_is_refused_before_it_is_unpacked() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"0" * 60_000_000)
    with pytest.raises(DocumentTooLarge, match="unpack"):
        parse_document("a.docx", buffer.getvalue())


def test_a_file_over_the_limit_is_refused() -> None:
    with pytest.raises(DocumentTooLarge):
        parse_document("a.txt", b"x" * 11, ParseRecipe(max_bytes=10))


def test_other_encodings_are_read_and_reported() -> None:
    document = parse_document("a.txt", "Café crème".encode("cp1252"))
    assert flat(document) == [(None, "Café crème")]
    assert "UTF-8" in document.problems[0]


@given(st.binary(max_size=400), st.sampled_from(["a.md", "a.txt", "a.html", "a.csv", "a.pdf", "a.docx"]))
def test_any_bytes_parse_or_are_refused_clearly(data: bytes, name: str) -> None:
    with contextlib.suppress(UnreadableDocument):
        parse_document(name, data)
