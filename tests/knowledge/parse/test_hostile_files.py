"""Files that were made to hurt are refused in our words, or read as far as they can be, in bounded time."""

import contextlib
import json
import re

import fpdf
import pytest

from penstock.knowledge.errors import DocumentTooLarge, UnreadableDocument
from penstock.knowledge.parse import archives, mail, parse_document, pdf
from tests.knowledge.parse.builders import add_part, make_docx, make_pdf, make_xlsx, make_zip, read
from tests.knowledge.parse.hostile import ENDLESS, LAUGHS, lying_zip, many_entries, zip_of_zips

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
KINDS = ["a.docx", "a.pptx", "a.xlsx", "a.odt", "a.epub"]
PARTS = {
    "a.docx": "word/document.xml",
    "a.pptx": "ppt/presentation.xml",
    "a.xlsx": "xl/workbook.xml",
    "a.odt": "content.xml",
    "a.epub": "META-INF/container.xml",
}


@pytest.mark.parametrize("name", KINDS)
def test_a_zip_bomb_is_refused_before_it_is_inflated(name: str) -> None:
    with pytest.raises(DocumentTooLarge, match="zip bomb"):
        parse_document(name, make_zip([(PARTS[name], b"0" * 30_000_000)]))


def test_a_bomb_of_many_small_parts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 1000)
    with pytest.raises(DocumentTooLarge, match=r"1,200 parts"):
        parse_document("a.docx", many_entries(1200))


def test_archives_in_archives_are_never_opened() -> None:
    with pytest.raises(UnreadableDocument):
        parse_document("a.docx", zip_of_zips())


@pytest.mark.parametrize("name", KINDS)
def test_a_part_that_is_longer_than_it_says_is_no_full_memory(name: str) -> None:
    with pytest.raises(UnreadableDocument, match="broken"):
        parse_document(name, lying_zip(PARTS[name], b"<a>" + b" " * 100_000 + b"</a>", says=50))


@pytest.mark.parametrize("name", KINDS)
def test_xml_bombs_are_refused(name: str) -> None:
    bomb = f"<?xml version='1.0'?><!DOCTYPE x [{LAUGHS}]><x>&l9;</x>"
    with pytest.raises(UnreadableDocument, match="broken"):
        parse_document(name, make_zip([(PARTS[name], bomb)]))


def test_files_of_this_machine_are_not_read_into_a_document() -> None:
    """XXE: an entity that names a file."""
    evil = (
        "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/hostname'>]>"
        f"<w:document xmlns:w='{WORD}'><w:body><w:p><w:r><w:t>&e;</w:t></w:r></w:p></w:body></w:document>"
    )
    with pytest.raises(UnreadableDocument, match="broken"):
        parse_document("a.docx", make_zip([(PARTS["a.docx"], evil)]))


def test_xml_nested_too_deep_is_refused() -> None:
    deep = f"<w:document xmlns:w='{WORD}'><w:body>{'<w:sdt>' * 5000}{'</w:sdt>' * 5000}</w:body></w:document>"
    with pytest.raises(UnreadableDocument, match="broken"):
        parse_document("a.docx", make_zip([(PARTS["a.docx"], deep)]))


def test_entities_in_the_rows_of_a_workbook_are_not_expanded() -> None:
    data = make_xlsx(lambda book: book.add_worksheet().write_row(0, 0, ["a", "b"]))
    bomb = (
        f"<!DOCTYPE x [{LAUGHS}]><worksheet><sheetData><row><c t='str'><v>&l9;</v></c><c t='str'><v>x</v></c></row>"
        "</sheetData></worksheet>"
    )
    text = ""
    try:
        text = read("a.xlsx", add_part(data, "xl/worksheets/sheet1.xml", bomb.encode())).text
    except UnreadableDocument:
        return
    assert len(text) < 1000


@pytest.mark.parametrize("depth", [1000, 30_000])
def test_a_page_nested_deep_is_read_flat_and_said_to_be(depth: int) -> None:
    document = read("a.html", b"<div>" * depth + b"inside" + b"</div>" * depth)
    assert document.text == "inside"
    assert "nested deeper" in document.problems[0]


@pytest.mark.parametrize("opener", ["[", '{"a":'])
def test_json_nested_deep_is_refused_or_read(opener: str) -> None:
    with pytest.raises(UnreadableDocument):
        parse_document("a.json", (opener * 200_000).encode())
    whole = '{"a":' * 400 + "1" + "}" * 400
    assert read("a.json", whole.encode()).text.endswith(": 1")


def test_tables_and_lists_nested_deep_are_read() -> None:
    page = b"<table><tr><td>x" * 3000 + b"<ul><li>y" * 3000
    assert read("a.html", page).text.count("x") == 3000


def test_cells_over_a_million_columns_are_bounded() -> None:
    page = b"<table><tr>" + b"<td colspan=1000000 rowspan=1000000>x" * 50 + b"<tr><td>y</table>"
    assert len(read("a.html", page).text) < 100_000


def test_markdown_quotes_nested_deep_lose_nothing_unsaid() -> None:
    document = read("a.md", b">" * 500 + b" deep words\n\nplain words\n")
    assert "plain words" in document.text
    assert "deep words" in document.text or any("nested" in each for each in document.problems)


@pytest.mark.parametrize("kind", ENDLESS)
def test_work_on_what_never_ends_grows_with_the_page_and_no_faster(kind: str) -> None:
    """CVE-2025-6069: an end that is nowhere was looked for again at each beginning, through the rest of the page.

    Half a megabyte took minutes.
    """
    page = b"<p>one two</p>" + ENDLESS[kind] * (600_000 // len(ENDLESS[kind]))
    assert read("a.html", page).text.startswith("one two")


def test_comments_of_markdown_that_never_end_are_read_in_time() -> None:
    assert read("a.md", b"one two\n\n" + b"<!--" * 100_000).text.startswith("one two")


def test_numbers_of_characters_that_there_are_none_of_are_no_characters() -> None:
    """Python refuses to read a number of more than 4,300 digits."""
    page = f"<p title='&#{'1' * 5000};'>a&#{'1' * 5000};b&#x{'f' * 50};c&#0000000000065;d&#x1F370;</p>"
    assert read("a.html", page.encode()).text == "a\ufffdb\ufffdcAd\U0001f370"


def test_merged_cells_over_a_whole_sheet_are_bounded() -> None:
    data = make_xlsx(lambda book: book.add_worksheet().write_row(0, 0, ["a", "b"]))
    sheet = (
        "<worksheet><sheetData><row r='1'><c r='A1' t='str'><v>x</v></c><c r='B1' t='str'><v>y</v></c></row></sheetData>"
        '<mergeCells><mergeCell ref="A2:XFD1048576"/></mergeCells></worksheet>'
    )
    document = read("a.xlsx", add_part(data, "xl/worksheets/sheet1.xml", sheet.encode()))
    assert "merged" in document.problems[0]


def test_a_word_table_of_a_billion_columns_is_bounded() -> None:
    cell = "<w:tc><w:tcPr><w:gridSpan w:val='1000000000'/></w:tcPr><w:p><w:r><w:t>x</w:t></w:r></w:p></w:tc>"
    body = f"<w:tbl><w:tr>{cell}{cell}</w:tr></w:tbl>"
    data = make_zip(
        [("word/document.xml", f"<w:document xmlns:w='{WORD}'><w:body>{body}</w:body></w:document>")]
    )
    assert read("a.docx", data).text.count("x") == 200


def test_styles_based_on_each_other_end_somewhere() -> None:
    styles = (
        f"<w:styles xmlns:w='{WORD}'><w:style w:styleId='A'><w:basedOn w:val='B'/></w:style>"
        "<w:style w:styleId='B'><w:basedOn w:val='A'/></w:style></w:styles>"
    )
    body = "<w:p><w:pPr><w:pStyle w:val='A'/></w:pPr><w:r><w:t>text</w:t></w:r></w:p>"
    document = f"<w:document xmlns:w='{WORD}'><w:body>{body}</w:body></w:document>"
    assert (
        read("a.docx", make_zip([("word/document.xml", document), ("word/styles.xml", styles)])).text
        == "text"
    )


def test_a_pdf_of_more_pages_than_the_bound_is_read_to_it_and_said_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pdf, "MAX_PAGES", 5)

    def write(file: fpdf.FPDF) -> None:
        for number in range(8):
            file.cell(text=f"Page number {number}.")
            file.add_page()

    document = read("a.pdf", make_pdf(write))
    assert document.n_pages == 9
    assert document.problems[0] == "pages after 5 were not read"
    assert "number 4" in document.text and "number 5" not in document.text


def test_a_pdf_whose_pages_are_all_one_page_is_bounded() -> None:
    first = make_pdf(lambda file: file.cell(text="Only page."))
    match = re.search(rb"/Kids \[(\d+ 0 R)\]", first)
    assert match is not None
    kids = b" ".join([match[1]] * 3000)
    changed = first.replace(match[0], b"/Kids [" + kids + b"]").replace(b"/Count 1", b"/Count 3000")
    with contextlib.suppress(UnreadableDocument):
        assert len(read("a.pdf", changed).problems) < 200


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_pdf_is_refused_or_read_as_far_as_it_goes(share: float) -> None:
    data = make_pdf(lambda file: file.cell(text="Some words."))
    with contextlib.suppress(UnreadableDocument):
        assert read("a.pdf", data[: int(len(data) * share)]).text == "Some words."


def test_a_front_matter_bomb_is_not_opened() -> None:
    lines = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10) if n else 'x'}]" for n in range(10))
    document = read("a.md", f"---\n{lines}\n---\nText.".encode())
    assert document.text == "Text."
    assert "front matter" in document.problems[0]


def test_a_mail_of_very_many_parts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "MAX_PARTS", 20)
    part = b"--x\nContent-Type: text/csv\nContent-Disposition: attachment; filename=a.csv\n\na,b\n1,2\n"
    data = (
        b"From: a@b.c\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\nHello.\n" + part * 40 + b"--x--\n"
    )
    document = read("a.eml", data)
    assert any("after 20" in each for each in document.problems)


def test_lone_surrogates_never_leave_a_parser() -> None:
    data = json.dumps([{"title": "a\ud800b", "x": "c\udc00"}]).encode()
    read("a.json", data).text.encode("utf-8")
    read("a.html", b"<p>a&#xD800;b</p>").text.encode("utf-8")


def test_a_word_file_whose_macros_and_objects_run_is_only_read() -> None:
    data = make_docx(lambda document: document.add_paragraph("text"))
    document = read("a.docm", add_part(data, "word/vbaProject.bin", b"\x00" * 100))
    assert document.problems == ("1 macro projects were left out",)
