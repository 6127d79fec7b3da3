"""PDF files: what a reader sees, in the order in which it is read."""

import fpdf
import pytest

from penstock.knowledge.errors import LockedDocument, UnreadableDocument
from penstock.knowledge.parse import parse_document
from penstock.knowledge.parse.pdf_page import _clean
from penstock.spec.knowledge import ParseRecipe
from tests.knowledge.parse.builders import make_pdf, read, words_of

PROSE = (
    "Sleep is a state of rest that every animal needs. It comes in cycles of light and deep phases, and the body "
    "repairs itself while the mind sorts what it saw. A night has about five of such cycles. "
)


def test_two_columns_are_read_one_after_the_other() -> None:
    """The commonest complaint about text from PDF: lines of both columns mixed (markitdown #2214, #1419)."""

    def write(pdf: fpdf.FPDF) -> None:
        pdf.set_font("helvetica", "B", 20)
        pdf.set_xy(10, 15)
        pdf.cell(text="On sleeping well, by day and by night")
        pdf.set_font("helvetica", size=10)
        pdf.set_xy(110, 35)  # drawn first, read last
        pdf.multi_cell(90, 5, "RIGHT. " + PROSE)
        pdf.set_xy(10, 35)
        pdf.multi_cell(90, 5, "LEFT. " + PROSE)

    document = read("a.pdf", make_pdf(write))
    assert document.title == "On sleeping well, by day and by night"
    text = document.text
    assert text.index("LEFT.") < text.index("five of such cycles.") < text.index("RIGHT.")
    assert text.replace("\n\n", " ").split() == ("LEFT. " + PROSE + "RIGHT. " + PROSE).split()


_SALT = """| Food | Salt | Note |
| --- | --- | --- |
| Bread | 1.1 | in 100 grams of it, in most of the bakeries that anybody has measured so far |
| Cheese | 1.8 | hard |"""


def test_a_drawn_table_is_a_markdown_table_with_whole_cells() -> None:
    """PDF structure is absent in plain text converters (markitdown #296, #293)."""

    def write(pdf: fpdf.FPDF) -> None:
        pdf.multi_cell(0, 6, "The table lists salt in foods. It is measured in grams.")
        with pdf.table() as table:
            for cells in (
                ("Food", "Salt", "Note"),
                (
                    "Bread",
                    "1.1",
                    "in 100 grams of it, in most of the bakeries that anybody has measured so far",
                ),
                ("Cheese", "1.8", "hard"),
            ):
                row = table.row()
                for cell in cells:
                    row.cell(cell)
        pdf.ln(5)
        pdf.multi_cell(0, 6, "After the table there is text.")

    (section,) = read("a.pdf", make_pdf(write)).sections
    assert section.text.split("\n\n") == [
        "The table lists salt in foods. It is measured in grams.",
        _SALT,
        "After the table there is text.",
    ]


def test_columns_that_several_lines_keep_are_a_table_without_a_grid() -> None:
    def write(pdf: fpdf.FPDF) -> None:
        for row in (("Name", "Age", "City"), ("Ada", "36", "London"), ("Alan", "41", "Wilmslow")):
            for x, cell in zip((10, 60, 110), row, strict=True):
                pdf.set_x(x)
                pdf.cell(text=cell)
            pdf.ln(7)

    assert read("a.pdf", make_pdf(write)).text.splitlines()[2:] == [
        "| Ada | 36 | London |",
        "| Alan | 41 | Wilmslow |",
    ]


def test_running_heads_and_page_numbers_are_taken_out_and_counted() -> None:
    def write(pdf: fpdf.FPDF) -> None:
        for number, animal in enumerate(("cat", "dog", "owl", "bee"), start=1):
            if number > 1:
                pdf.add_page()
            pdf.set_xy(10, 6)
            pdf.cell(text=f"The Book of Animals - {number}")
            pdf.set_xy(10, 40)
            pdf.multi_cell(0, 6, f"The {animal} sleeps at night. It does so every day.")

    data = make_pdf(write)
    document = read("a.pdf", data)
    assert "Book of Animals" not in document.text
    assert [each for each in document.problems if "of 4 pages" in each]
    assert "Book of Animals" in read("a.pdf", data, ParseRecipe(boilerplate=False)).text


def test_pages_of_nothing_but_a_running_line_keep_it() -> None:
    def write(pdf: fpdf.FPDF) -> None:
        for number in range(5):
            if number:
                pdf.add_page()
            pdf.cell(text=f"Plate {number}")

    assert read("a.pdf", make_pdf(write)).text.split() == [
        "Plate",
        "0",
        "Plate",
        "1",
        "Plate",
        "2",
        "Plate",
        "3",
        "Plate",
        "4",
    ]


def test_the_same_line_on_many_pages_is_no_running_head_in_the_middle_of_them() -> None:
    def write(pdf: fpdf.FPDF) -> None:
        for number in range(4):
            if number:
                pdf.add_page()
            pdf.set_xy(10, 100)
            pdf.cell(text="Signed in the presence of two witnesses.")

    assert read("a.pdf", make_pdf(write)).text.count("two witnesses") == 4


def test_headings_make_a_path_and_pages_are_anchors() -> None:
    def write(pdf: fpdf.FPDF) -> None:
        for size, text in ((24, "The book"), (18, "Part one"), (14, "Chapter one")):
            pdf.set_font("helvetica", size=size)
            pdf.multi_cell(0, 12, text, new_x="LMARGIN", new_y="NEXT")
        pdf.set_font("helvetica", size=10)
        pdf.multi_cell(0, 5, PROSE, new_x="LMARGIN", new_y="NEXT")
        pdf.add_page()
        pdf.set_font("helvetica", size=14)
        pdf.multi_cell(0, 12, "Chapter two", new_x="LMARGIN", new_y="NEXT")
        pdf.set_font("helvetica", size=10)
        pdf.multi_cell(0, 5, PROSE)

    document = read("a.pdf", make_pdf(write))
    assert document.title == "The book"
    assert [(each.headings, each.anchor, each.page) for each in document.sections] == [
        (("Part one", "Chapter one"), "page=1", 1),
        (("Part one", "Chapter two"), "page=2", 2),
    ]
    assert document.n_pages == 2


def test_a_bold_line_that_stands_apart_is_a_heading() -> None:
    def write(pdf: fpdf.FPDF) -> None:
        for heading in ("How to rest", "How to rise"):
            pdf.set_font("helvetica", "B", 10)
            pdf.ln(6)
            pdf.multi_cell(0, 5, heading, new_x="LMARGIN", new_y="NEXT")
            pdf.set_font("helvetica", size=10)
            pdf.multi_cell(0, 5, PROSE * 2, new_x="LMARGIN", new_y="NEXT")

    document = read("a.pdf", make_pdf(write))
    assert [each.heading for each in document.sections] == ["How to rest", "How to rise"]


def test_a_long_text_without_headings_opens_at_the_page_of_its_words() -> None:
    def write(pdf: fpdf.FPDF) -> None:
        for number in range(4):
            if number:
                pdf.add_page()
            pdf.multi_cell(0, 5, f"Page {number + 1}. " + PROSE * 8)

    document = read("a.pdf", make_pdf(write))
    for section in document.sections:
        for number in range(1, 5):
            if f"Page {number}." in section.text:
                assert section.anchor == f"page={number}"


def test_every_page_of_a_slide_show_is_a_section() -> None:
    def write(pdf: fpdf.FPDF) -> None:
        pdf.cell(text="Rest is good.")
        pdf.add_page()
        pdf.cell(text="Sleep is better.")

    document = read("a.pdf", make_pdf(write, paper=(400, 225)))
    assert [(each.anchor, each.text) for each in document.sections] == [
        ("page=1", "Rest is good."),
        ("page=2", "Sleep is better."),
    ]


def test_a_word_that_is_written_with_a_hyphen_keeps_it_at_a_line_end() -> None:
    def write(pdf: fpdf.FPDF) -> None:
        for line in ("A well-known cure is a well-", "known drink, and a heal-", "thy one."):
            pdf.cell(0, 6, line, new_x="LMARGIN", new_y="NEXT")

    assert (
        read("a.pdf", make_pdf(write)).text == "A well-known cure is a well-known drink, and a healthy one."
    )


def test_ligatures_are_letters_again() -> None:
    assert _clean("e\ufb03cient \ufb02ow so\u00adft") == "efficient flow soft"


def test_pages_without_text_are_named_one_by_one() -> None:
    def write(pdf: fpdf.FPDF) -> None:
        pdf.cell(text="One page has words.")
        pdf.add_page()
        pdf.rect(20, 20, 100, 100)
        pdf.add_page()

    document = read("a.pdf", make_pdf(write))
    assert document.problems == ("page 2 holds no text (scanned?)", "page 3 is empty")


def test_a_scan_alone_is_an_error_that_names_the_cure() -> None:
    with pytest.raises(UnreadableDocument, match=r"page 1 holds no text \(scanned\?\)") as caught:
        parse_document("a.pdf", make_pdf(lambda pdf: pdf.rect(20, 20, 100, 100)))
    assert "parse.ocr" in str(caught.value)


def test_a_locked_pdf_is_called_locked() -> None:
    pdf = fpdf.FPDF()
    pdf.set_encryption(owner_password="boss", user_password="guest")
    pdf.add_page()
    pdf.set_font("helvetica", size=11)
    pdf.cell(text="secret")
    with pytest.raises(LockedDocument, match="password"):
        parse_document("a.pdf", bytes(pdf.output()))


def test_what_a_pdf_says_of_itself_are_properties_and_a_file_name_is_no_title() -> None:
    def write(pdf: fpdf.FPDF) -> None:
        pdf.set_title("Microsoft Word - draft 7.docx")
        pdf.set_author("Ada Lovelace")
        pdf.set_keywords("rest, sleep")
        pdf.cell(text="Some words.")

    document = read("a.pdf", make_pdf(write))
    assert document.title is None
    assert document.properties.values == {"author": "Ada Lovelace", "tags": ["rest", "sleep"]}


def test_no_word_of_a_page_is_lost_whatever_its_columns() -> None:
    words = [f"word{number}" for number in range(300)]

    def write(pdf: fpdf.FPDF) -> None:
        pdf.set_xy(10, 20)
        pdf.multi_cell(60, 5, " ".join(words[:100]), align="L")
        pdf.set_xy(75, 30)
        pdf.multi_cell(60, 5, " ".join(words[100:200]), align="L")
        pdf.set_xy(140, 25)
        pdf.multi_cell(60, 5, " ".join(words[200:]), align="L")

    assert words_of(read("a.pdf", make_pdf(write))) == words


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_turned_text_is_read_as_it_is_seen_once_the_page_is_turned(angle: int) -> None:
    def write(pdf: fpdf.FPDF) -> None:
        with pdf.rotation(angle, 105, 148):
            pdf.set_xy(60, 120)
            for line in ("The first line is here.", "The second line is here.", "The third line is here."):
                pdf.cell(0, 6, line, new_x="LMARGIN", new_y="NEXT")
                pdf.set_x(60)

    document = read("a.pdf", make_pdf(write))
    assert document.text == "The first line is here. The second line is here. The third line is here."
