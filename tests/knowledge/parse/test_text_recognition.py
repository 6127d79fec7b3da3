"""Scans: read by the tesseract program where the recipe asks for it, told where they are not."""

import io

import fpdf
import pypdfium2
import pytest
from PIL import Image

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse import ParserPool, ocr, parse_document
from penstock.knowledge.parse.ocr import as_picture, join_lines
from penstock.spec.knowledge import ParseRecipe
from tests.knowledge.parse.builders import make_pdf, read
from tests.knowledge.parse.hostile import nameless_pdf

AUTO = ParseRecipe(ocr="auto")


def picture_of(text: str) -> Image.Image:
    file = pypdfium2.PdfDocument(make_pdf(lambda pdf: pdf.multi_cell(0, 12, text), size=22, paper=(160, 80)))
    return file[0].render(scale=2).to_pil()


def encode(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def scan() -> bytes:
    image = io.BytesIO(encode(picture_of("Bread keeps best in a box."), "PNG"))

    def write(pdf: fpdf.FPDF) -> None:
        pdf.image(image, 0, 0, 160)
        pdf.add_page()
        pdf.set_font("helvetica", size=11)
        pdf.cell(text="The second page has words of its own.")

    return make_pdf(write)


@pytest.fixture
def no_tesseract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "PROGRAM", "tesseract-that-is-not-there")


def test_a_scanned_page_is_read_and_said_to_be(scan: bytes) -> None:
    document = read("a.pdf", scan, AUTO)
    assert "Bread keeps best in a box." in document.text
    assert "words of its own" in document.text
    assert document.problems == ("page 1 was read by text recognition",)


def test_a_scanned_page_is_read_in_the_pool_as_well(scan: bytes) -> None:
    with ParserPool(1) as pool:
        assert pool.parse("a.pdf", scan, AUTO) == read("a.pdf", scan, AUTO)


def test_a_scanned_page_is_named_where_nobody_asked_to_read_it(scan: bytes) -> None:
    document = read("a.pdf", scan)
    assert "Bread" not in document.text
    assert document.problems == ("page 1 holds no text (scanned?)",)


def test_letters_without_names_are_garbled_and_recognised_by_their_shape() -> None:
    data = nameless_pdf(b"ABC CAB BAC ABC CAB BAC ABC")
    with pytest.raises(UnreadableDocument, match="page 1 is garbled"):
        parse_document("a.pdf", data)
    document = read("a.pdf", data, AUTO)
    assert document.text == "ABC CAB BAC ABC CAB BAC ABC"
    assert document.problems == ("page 1 was read by text recognition",)


@pytest.mark.usefixtures("no_tesseract")
def test_a_missing_program_says_what_to_install(scan: bytes) -> None:
    problems = read("a.pdf", scan, AUTO).problems
    assert "apt install tesseract-ocr" in problems[0]
    assert problems[1] == "page 1 holds no text (scanned?)"
    with pytest.raises(UnreadableDocument, match="apt install tesseract-ocr"):
        parse_document("a.png", encode(picture_of("x"), "PNG"), AUTO)


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.tif", "TIFF")])
def test_pictures_are_read(name: str, kind: str) -> None:
    document = read(name, encode(picture_of("Salt the water well."), kind), AUTO)
    assert document.text == "Salt the water well."
    assert (document.n_pages, document.sections[0].anchor) == (1, "page=1")


def test_a_picture_is_refused_where_nobody_asked_to_read_it() -> None:
    with pytest.raises(UnreadableDocument, match=r"picture.*parse.ocr"):
        parse_document("a.png", encode(picture_of("x"), "PNG"))


def test_a_language_that_is_not_installed_is_a_problem_and_no_crash(scan: bytes) -> None:
    document = read("a.pdf", scan, ParseRecipe(ocr="auto", languages=["qqq"]))
    assert document.problems[0].startswith("page 1: text recognition failed")
    odd = read("a.pdf", scan, ParseRecipe(ocr="auto", languages=["-x; rm"]))
    assert "is no language" in odd.problems[0]


def test_rows_of_a_picture_may_be_longer_than_they_show() -> None:
    assert as_picture(2, 2, 3, b"abXcdX") == b"P5\n2 2\n255\nabcd"


def test_words_cut_at_line_ends_are_whole() -> None:
    assert join_lines("a heal-\nthy loaf - of\nbread") == "a healthy loaf - of bread"
