"""Office files as other programs write them: nothing that a reader sees is missing or uncounted."""

import datetime as dt
import io
import re
import zipfile
from typing import Any

import pytest
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from penstock.knowledge.errors import LockedDocument, UnreadableDocument
from penstock.knowledge.parse.number_formats import show_number
from tests.knowledge.parse.builders import add_part, make_docx, make_pptx, make_xlsx, make_zip, outline, read

WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def change_document(data: bytes, old: str, new: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        content = archive.read("word/document.xml").decode()
    assert old in content
    return add_part(data, "word/document.xml", content.replace(old, new, 1).encode())


def test_headings_lists_and_tables_of_word_keep_their_form() -> None:
    def write(document: Any) -> None:
        document.add_heading("Keeping bread", 0)
        document.add_paragraph("An opening line.")
        document.add_heading("Storage", 1)
        document.add_paragraph("Bread keeps in:")
        document.add_paragraph("a box", style="List Bullet")
        document.add_paragraph("a bag", style="List Bullet")
        document.add_heading("In summer", 2)
        table = document.add_table(rows=2, cols=2)
        for row, cells in enumerate((("Day", "Mould"), ("3", "yes | no"))):
            for column, text in enumerate(cells):
                table.cell(row, column).text = text
        document.add_paragraph("first", style="List Number")
        document.add_paragraph("second", style="List Number")
        document.add_heading("Sources", 1)

    document = read("a.docx", make_docx(write))
    assert document.title == "Keeping bread"
    assert outline(document) == [
        ((), "An opening line."),
        (("Storage",), "Bread keeps in:\n\n- a box\n- a bag"),
        (
            ("Storage", "In summer"),
            "| Day | Mould |\n| --- | --- |\n| 3 | yes \\| no |\n\n1. first\n2. second",
        ),
        (("Sources",), "Sources"),
    ]


def test_a_document_of_many_first_level_headings_has_none_of_them_as_its_title() -> None:
    def write(document: Any) -> None:
        for name in ("One", "Two"):
            document.add_heading(name, 1)
            document.add_paragraph(f"Text of {name}.")

    document = read("a.docx", make_docx(write))
    assert document.title is None
    assert [each.heading for each in document.sections] == ["One", "Two"]


def test_inserted_text_is_read_and_deleted_text_is_counted() -> None:
    """Text of tracked insertions is no `w:r` of the paragraph: readers that list runs lose it."""
    data = make_docx(lambda document: document.add_paragraph("The price is TEN euros."))
    changed = change_document(
        data,
        "<w:t>The price is TEN euros.</w:t></w:r>",
        "<w:t xml:space='preserve'>The price is </w:t></w:r><w:del><w:r><w:delText>ten</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t>twelve</w:t></w:r></w:ins><w:r><w:t xml:space='preserve'> euros.</w:t></w:r>",
    )
    document = read("a.docx", changed)
    assert document.text == "The price is twelve euros."
    assert document.problems == ("1 words of deleted text were left out",)


def test_text_boxes_and_footnotes_are_read() -> None:
    data = make_docx(lambda document: document.add_paragraph("Body text here."))
    changed = change_document(
        data,
        "<w:t>Body text here.</w:t></w:r>",
        "<w:t>Body text here.</w:t></w:r><w:r><w:footnoteReference w:id='2'/></w:r>"
        "<w:r><w:pict><w:txbxContent><w:p><w:r><w:t>Inside a box.</w:t></w:r></w:p></w:txbxContent></w:pict></w:r>",
    )
    notes = (
        '<w:footnotes xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
        '<w:footnote w:id="2"><w:p><w:r><w:t>As measured in May.</w:t></w:r></w:p></w:footnote></w:footnotes>'
    )
    document = read("a.docx", add_part(changed, "word/footnotes.xml", notes.encode()))
    assert outline(document) == [
        ((), "Body text here.[1]\n\nInside a box."),
        (("Notes",), "[1] As measured in May."),
    ]
    assert document.problems == ()


def test_comments_running_heads_and_macros_of_word_are_counted() -> None:
    def write(document: Any) -> None:
        paragraph = document.add_paragraph("Some text.")
        document.add_comment(paragraph.runs, text="why?", author="A")
        document.sections[0].header.paragraphs[0].text = "Confidential draft"

    data = add_part(make_docx(write), "word/vbaProject.bin", b"x")
    assert read("a.docm", data).problems == (
        "1 comments were left out",
        "2 words of headers and footers were left out",
        "1 macro projects were left out",
    )


def test_merged_cells_of_word_count_for_each_cell_they_cover() -> None:
    def write(document: Any) -> None:
        table = document.add_table(rows=3, cols=2)
        table.cell(0, 0).merge(table.cell(0, 1)).text = "both"
        table.cell(1, 0).merge(table.cell(2, 0)).text = "tall"
        table.cell(1, 1).text, table.cell(2, 1).text = "one", "two"

    assert read("a.docx", make_docx(write)).text.splitlines() == [
        "| both | both |",
        "| --- | --- |",
        "| tall | one |",
        "| tall | two |",
    ]


def test_slides_keep_titles_levels_notes_and_tables() -> None:
    """Speaker's notes and the number of slides are what others lose (kreuzberg 4.10)."""

    def write(presentation: Any) -> None:
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = "Why sleep"
        frame = slide.placeholders[1].text_frame
        frame.text = "It rests the body"
        deeper = frame.add_paragraph()
        deeper.text, deeper.level = "And the mind", 1
        slide.notes_slide.notes_text_frame.text = "Tell the story of the cat."
        slide = presentation.slides.add_slide(presentation.slide_layouts[5])
        slide.shapes.title.text = "Numbers"
        table = slide.shapes.add_table(2, 2, 0, 0, Inches(4), Inches(1)).table
        for row in range(2):
            for column in range(2):
                table.cell(row, column).text = f"c{row}{column}"
        chart = CategoryChartData()
        chart.categories = ["a"]
        chart.add_series("S", (1,))
        slide.shapes.add_chart(XL_CHART_TYPE.PIE, 0, 0, Inches(1), Inches(1), chart)
        box = slide.shapes.add_textbox(0, 0, Inches(2), Inches(1))
        box.text_frame.text = "A loose remark."
        presentation.slides.add_slide(presentation.slide_layouts[6])

    document = read("a.pptx", make_pptx(write))
    assert outline(document) == [
        (("Why sleep",), "- It rests the body\n  - And the mind\n\nNotes: Tell the story of the cat."),
        (("Numbers",), "| c00 | c01 |\n| --- | --- |\n| c10 | c11 |\n\nA loose remark."),
    ]
    assert [(each.anchor, each.page) for each in document.sections] == [("slide=1", 1), ("slide=2", 2)]
    assert document.n_pages == 3
    assert document.problems == ("slide 3 holds no text", "1 charts were left out")


_COSTS = (
    "| Item | Share | Price | Day |\n| --- | --- | --- | --- |\n"
    "| bread | 25% | 1,234.50 EUR | 2026-03-31 |\n| both | both | -3.00 EUR |  |"
)


def test_a_workbook_shows_what_its_cells_show() -> None:
    def write(workbook: Any) -> None:
        sheet = workbook.add_worksheet("Costs")
        share, money = (
            workbook.add_format({"num_format": "0%"}),
            workbook.add_format({"num_format": '#,##0.00 "EUR"'}),
        )
        day = workbook.add_format({"num_format": "dd/mm/yyyy"})
        sheet.write(0, 0, "Costs of the quarter")
        sheet.write_row(2, 0, ["Item", "Share", "Price", "Day"])
        sheet.write(3, 0, "bread")
        sheet.write(3, 1, 0.25, share)
        sheet.write_formula(3, 2, "=A1*2", money, 1234.5)
        sheet.write_datetime(3, 3, dt.datetime(2026, 3, 31, tzinfo=dt.UTC).replace(tzinfo=None), day)
        sheet.merge_range("A5:B5", "both")
        sheet.write(4, 2, -3, money)
        sheet.write_comment("A1", "a note")

    document = read("a.xlsx", make_xlsx(write))
    assert [(each.text, each.anchor, each.kind) for each in document.sections] == [
        ("Costs of the quarter", "sheet=Costs", "text"),
        (
            _COSTS,
            "sheet=Costs&row=3",
            "table",
        ),
    ]
    assert document.problems == ("1 comments were left out",)


def test_a_long_sheet_is_a_record_a_row_and_hidden_sheets_are_told() -> None:
    def write(workbook: Any) -> None:
        sheet = workbook.add_worksheet("People")
        sheet.write_row(0, 0, ["name", "age"])
        for row in range(60):
            sheet.write_row(row + 1, 0, [f"person {row}", row])
        hidden = workbook.add_worksheet("Secret")
        hidden.hide()
        hidden.write_row(0, 0, ["k", "v"])
        hidden.write_row(1, 0, ["a", True])

    document = read("a.xlsx", make_xlsx(write))
    assert len(document.sections) == 61
    first = document.sections[0]
    assert (first.text, first.anchor, first.kind) == (
        "name: person 0; age: 0",
        "sheet=People&row=2",
        "record",
    )
    assert "| a | TRUE |" in document.sections[-1].text
    assert document.problems == ("sheet 'Secret' is hidden; it was read",)


@pytest.mark.parametrize(
    ("raw", "pattern", "shown"),
    [
        ("0.256", "0.0%", "25.6%"),
        ("1234567", "#,##0", "1,234,567"),
        ("-5", "0.00;(0.00)", "(5.00)"),
        ("1500000", '0.0,,"M"', "1.5M"),
        ("0", "General", "0"),
        ("0.1", "General", "0.1"),
        ("45000.75", "yyyy-mm-dd hh:mm", "2023-03-15 18:00"),
        ("0.5", "h:mm AM/PM", "12:00"),
        ("1.5", "[h]:mm:ss", "36:00:00"),
        ("12", '[$€-407] #,##0.00', "€ 12.00"),
        ("12", '"day "0', "day 12"),
        ("7", "# ?/?", "7"),
        ("x", "0.00", "x"),
        ("1e400", "0", "1e400"),
    ],
)  # fmt: skip
def test_numbers_show_as_their_cells_do(raw: str, pattern: str, shown: str) -> None:
    assert show_number(raw, pattern) == shown


def test_a_sheet_that_is_broken_costs_only_itself() -> None:
    def write(workbook: Any) -> None:
        for name in ("One", "Two"):
            sheet = workbook.add_worksheet(name)
            sheet.write_row(0, 0, ["k", "v"])
            sheet.write_row(1, 0, [name, 1])

    data = add_part(make_xlsx(write), "xl/worksheets/sheet1.xml", b"<worksheet><sheetData><row>")
    document = read("a.xlsx", data)
    assert "Two" in document.text
    assert "sheet 'One' is broken" in document.problems[0]


def make_odt(body: str) -> bytes:
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "text", "table")
    )
    content = f"<office:document-content {spaces}><office:body><office:text>{body}</office:text></office:body></office:document-content>"
    return make_zip([("mimetype", "application/vnd.oasis.opendocument.text"), ("content.xml", content)])


def test_an_open_document_text_keeps_headings_lists_and_tables() -> None:
    data = make_odt(
        "<text:h text:outline-level='1'>Bread</text:h><text:p>It is <text:span>baked</text:span><text:s/>daily.</text:p>"
        "<text:list><text:list-item><text:p>rye</text:p></text:list-item><text:list-item><text:p>oat</text:p>"
        "</text:list-item></text:list><table:table><table:table-row><table:table-cell><text:p>a</text:p>"
        "</table:table-cell><table:table-cell><text:p>b</text:p></table:table-cell></table:table-row></table:table>"
    )
    assert outline(read("a.odt", data)) == [
        (("Bread",), "It is baked daily.\n\n- rye\n- oat\n\n| a | b |\n| --- | --- |"),
    ]


_PACKAGE = (
    "<package><metadata><title>The Book</title><language>de-AT</language></metadata><manifest>"
    "<item id='x' href='two.xhtml'/><item id='y' href='one.xhtml'/></manifest>"
    "<spine><itemref idref='y'/><itemref idref='x'/><itemref idref='z'/></spine></package>"
)


def test_a_book_is_its_chapters_in_the_order_of_the_spine() -> None:
    parts = [
        ("mimetype", "application/epub+zip"),
        (
            "META-INF/container.xml",
            "<container><rootfiles><rootfile full-path='O/b.opf'/></rootfiles></container>",
        ),
        (
            "O/b.opf",
            _PACKAGE,
        ),
        ("O/one.xhtml", "<html><body><h1>First</h1><p>Alpha.</p></body></html>"),
        ("O/two.xhtml", "<html><body><h1>Second</h1><h2>Part</h2><p>Beta.</p></body></html>"),
    ]
    document = read("a.epub", make_zip(parts))
    assert (document.title, document.language) == ("The Book", "de")
    assert outline(document) == [(("First",), "Alpha."), (("Second", "Part"), "Beta.")]
    assert [each.anchor for each in document.sections] == ["chapter=1", "chapter=2&part"]
    assert document.problems == ("chapter 3 is not in the file",)


def test_rich_text_is_read_in_its_code_page_and_unicode() -> None:
    data = (
        rb"{\rtf1\ansi\ansicpg1251{\fonttbl{\f0 Arial;}}{\*\generator Writer;}\pard \'cf\'f0\'e8\'e2\'e5\'f2\par "
        rb"Caf\u233? and \{braces\}{\pict 89504e47}.\par}"
    )
    document = read("a.rtf", data)
    assert document.text == "Привет\n\nCafé and {braces}."
    assert document.problems == ("1 images were left out",)


@pytest.mark.parametrize("suffix", ["docx", "pptx", "xlsx"])
def test_an_old_or_locked_office_file_is_called_so(suffix: str) -> None:
    with pytest.raises(LockedDocument, match="password"):
        read(f"a.{suffix}", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.docx", lambda: make_docx(lambda document: document.add_paragraph("x"))),
        ("a.pptx", lambda: make_pptx(lambda show: show.slides.add_slide(show.slide_layouts[0]))),
        ("a.xlsx", lambda: make_xlsx(lambda book: book.add_worksheet().write(0, 0, "x"))),
    ],
)
def test_a_truncated_office_file_is_refused(name: str, make: Any) -> None:
    data = make()
    with pytest.raises(UnreadableDocument, match=re.escape(name)):
        read(name, data[: len(data) // 2])
