"""Web pages, Markdown, tables, JSON and mail: what is text is read, what is not is counted."""

from email.message import EmailMessage

import pytest

from penstock.knowledge.errors import UnreadableDocument, UnsupportedFormat
from penstock.knowledge.parse import parse_document
from penstock.spec.knowledge import ParseRecipe
from tests.knowledge.parse.builders import make_pdf, outline, read


def page(body: str, head: str = "") -> bytes:
    return f"<!doctype html><html lang='de-CH'><head>{head}</head><body>{body}</body></html>".encode()


def test_lists_keep_their_marks_and_levels() -> None:
    body = (
        "<p>Take:</p><ul><li>flour<ul><li>rye</li><li>oat</li></ul></li><li>salt</ul><ol><li>mix<li>bake</ol>"
    )
    assert read("a.html", page(body)).text == "Take:\n\n- flour\n  - rye\n  - oat\n- salt\n\n1. mix\n2. bake"


def test_tables_are_whole_with_cells_over_rows_and_columns() -> None:
    body = (
        "<table><caption>Salt</caption><tr><th colspan=2>Food<th>Salt<tr><td rowspan=2>Bread<td>rye<td>1 | 2"
        "<tr><td>oat<td><p>1</p><p>3</p></table><p>After."
    )
    assert read("a.html", page(body)).text == (
        "Salt\n\n| Food | Food | Salt |\n| --- | --- | --- |\n| Bread | rye | 1 \\| 2 |\n| Bread | oat | 1 3 |\n\nAfter."
    )


def test_a_table_that_lays_a_page_out_is_no_table_of_data() -> None:
    body = "<table><tr><td><h2>News</h2><p>All is well.</p></td><td><table><tr><td>a<td>b</table></td></tr></table>"
    assert outline(read("a.html", page(body))) == [(("News",), "All is well.\n\n| a | b |\n| --- | --- |")]


def test_code_is_fenced_and_keeps_its_lines() -> None:
    body = "<pre><code class='language-python'>def f():\n    return '```'\n</code></pre>"
    assert read("a.html", page(body)).text == "````python\ndef f():\n    return '```'\n````"


def test_headings_make_a_path_and_open_at_their_own_anchor() -> None:
    body = "<h1>Sleep</h1><h2 id='why'>Why</h2><h3>For the body</h3><p>Rest.</p><h2>How</h2><p>Dark.</p><h2>Sources</h2>"
    document = read("a.html", page(body))
    assert document.title == "Sleep"
    assert [(each.headings, each.anchor, each.text) for each in document.sections] == [
        (("Why", "For the body"), "for-the-body", "Rest."),
        (("How",), "how", "Dark."),
        (("Sources",), "sources", "Sources"),
    ]


def test_what_is_left_out_of_a_page_is_counted_by_kind() -> None:
    body = (
        "<nav>Home Topics</nav><div role=navigation>More</div><div id=cookie-banner>We use cookies</div>"
        "<p>The text.</p><p hidden>not seen</p><img src=x><button>Send it</button><footer>Contact us now</footer>"
    )
    document = read("a.html", page(body))
    assert document.text == "The text."
    assert document.problems == (
        "6 words of menus, headers, footers and asides were left out",
        "3 words of banners that ask for consent were left out",
        "2 words of hidden elements were left out",
        "2 words of buttons and fields were left out",
        "1 images were not read",
    )
    assert "Contact us now" in read("a.html", page(body), ParseRecipe(main_content=False)).text


def test_a_marked_content_that_is_a_teaser_does_not_hide_the_page() -> None:
    body = "<article>Read also this.</article>" + "<p>The real text of the page is long. </p>" * 10
    assert "real text" in read("a.html", page(body)).text


def test_a_page_in_a_form_is_read() -> None:
    """Pages of some servers stand in one `<form>`; it was left out with everything in it."""
    assert read("a.html", page("<form><p>All of it.</p></form>")).text == "All of it."


def test_language_address_and_dates_of_a_page_are_properties() -> None:
    head = (
        "<link rel=canonical href='https://example.org/a'><meta name=author content='Ada'>"
        "<meta property='article:modified_time' content='2026-03-31T10:00:00Z'><meta name=keywords content='x, y'>"
    )
    document = read("a.html", page("<p>Kurz.", head))
    assert document.language == "de"
    assert document.properties.url == "https://example.org/a"
    assert document.properties.values == {"author": "Ada", "tags": ["x", "y"]}
    assert document.properties.modified_ns == 1774951200 * 10**9


@pytest.mark.parametrize(
    ("charset", "text"), [("iso-8859-2", "Łódź"), ("shift_jis", "日本語の文"), ("iso-2022-jp", "日本語の文")]
)
def test_a_page_is_read_in_the_encoding_that_it_names(charset: str, text: str) -> None:
    data = f"<meta charset={charset}><p>{text}</p>".encode(charset)
    document = read("a.html", data)
    assert (document.text, document.problems) == (text, ())


def test_markdown_follows_its_standard() -> None:
    text = (
        "---\ntitle: From above\ntags: [a, b]\nreaders: [group:staff]\nupdated: 2026-03-31\nlang: en-GB\n---\n"
        "Intro with `__init__` and *stress*, 5 * 3 and snake_case.\n\nSetext\n------\n\n- one\n  1. two\n- three\n\nThen:\n\n"
        "    indented code\n\n> quoted\n\n### Deep <b>x</b>\n\n[link](http://x) ![alt](y)\n<!-- note to self -->\n\n"
        "| a | b |\n|---|---|\n| 1 \\| 2 | `c` |\n"
    )
    document = read("a.md", text.encode())
    assert document.title == "From above"
    assert outline(document) == [
        ((), "Intro with __init__ and stress, 5 * 3 and snake_case."),
        (("Setext",), "- one\n  1. two\n- three\n\nThen:\n\n```\nindented code\n```\n\nquoted"),
        (("Setext", "Deep x"), "link alt\n\n| a | b |\n| --- | --- |\n| 1 \\| 2 | c |"),
    ]
    assert document.problems == ("1 images were not read", "3 words of HTML comments were left out")
    assert document.properties.readers == ["group:staff"]
    assert document.properties.values == {"tags": ["a", "b"], "updated": "2026-03-31"}
    assert document.language == "en"


@pytest.mark.parametrize("matter", ["readers: {a: 1}", "readers: [", "readers: &x [a]\nb: *x"])
def test_readers_that_cannot_be_read_let_nobody_in(matter: str) -> None:
    document = read("a.md", f"---\n{matter}\n---\nText.".encode())
    assert document.properties.readers == []
    assert document.problems


def test_a_semicolon_table_in_utf16_is_read() -> None:
    document = read("a.csv", 'name;price\n"Brot; dunkel";1,20\nKäse;3,40\n'.encode("utf-16"))
    assert [each.text for each in document.sections] == [
        "name: Brot; dunkel; price: 1,20",
        "name: Käse; price: 3,40",
    ]
    assert document.sections[0].kind == "record"


def test_the_separator_that_excel_names_is_taken() -> None:
    document = read("a.csv", b"sep=|\na|b,c\n1|2\n")
    assert [(each.text, each.anchor) for each in document.sections] == [("a: 1; b,c: 2", "row=3")]


def test_tabs_separate_a_tsv() -> None:
    assert read("a.tsv", b"a\tb\n1, 2\t3\n").text == "a: 1, 2; b: 3"


def test_json_records_and_objects_have_their_own_sections() -> None:
    records = read(
        "a.json", b'[{"title":"T","a":{"b":[1,2]},"text":"One.\\n\\nTwo."},{"id":7,"c":null,"d":true}]'
    )
    assert [(each.headings, each.text, each.anchor) for each in records.sections] == [
        (("T",), "title: T; a.b: 1, 2\n\ntext: One.\n\nTwo.", "record=1"),
        (("7",), "id: 7; d: true", "record=2"),
    ]
    single = read("a.json", b'{"name":"Base","list":[{"x":1},{"x":2}],"deep":{"y":"z"}}')
    assert single.title == "Base"
    assert outline(single) == [
        ((), "name: Base"),
        (("list", "list 1"), "x: 1"),
        (("list", "list 2"), "x: 2"),
        (("deep",), "y: z"),
    ]


def test_broken_lines_of_json_lines_are_named() -> None:
    document = read("a.jsonl", b'{"title":"A","x":1}\n{broken\n\n{"x":2}\n')
    assert outline(document) == [(("A",), "title: A; x: 1"), (("Line 4",), "x: 2")]
    assert document.problems == ("line 2 is no JSON and was left out",)


def make_mail(text: str, *, html: str | None = None, **headers: str) -> EmailMessage:
    mail = EmailMessage()
    for name, value in {"From": "Ada <ada@example.org>", "To": "bob@example.org", **headers}.items():
        mail[name] = value
    mail.set_content(text)
    if html is not None:
        mail.add_alternative(html, subtype="html")
    return mail


def test_a_mail_is_its_text_with_its_attachments_below() -> None:
    mail = make_mail(
        "The plan is attached.\n\nOn Monday, 2 March 2026, Bob wrote:\n> Where is\n>\n> the plan?\n",
        Subject="The plan",
        Date="Tue, 31 Mar 2026 12:00:00 +0200",
    )
    mail.add_attachment(
        make_pdf(lambda pdf: pdf.cell(text="Step one.")),
        maintype="application",
        subtype="pdf",
        filename="plan.pdf",
    )
    mail.add_attachment(b"MZ\x90\x00", maintype="application", subtype="octet-stream", filename="tool.exe")
    inner = make_mail("An older one.", Subject="Old")
    mail.add_attachment(inner)
    document = read("a.eml", bytes(mail))
    assert document.title == "The plan"
    assert [(each.headings, each.text) for each in document.sections] == [
        ((), "The plan is attached."),
        (("plan.pdf",), "Step one."),
        (("mail.eml",), "An older one."),
    ]
    assert document.sections[1].anchor == "attachment=plan.pdf&page=1"
    assert document.properties.values["from"] == "Ada <ada@example.org>"
    assert document.properties.modified_ns == 1774951200 * 10**9
    assert document.problems == (
        "attachment was left out: 'tool.exe': no parser for .exe.",
        "3 lines of quoted replies were folded",
    )


def test_html_is_read_where_the_plain_part_only_points_to_it() -> None:
    mail = make_mail(
        "See the HTML.", html="<h1>News</h1>" + "<p>Bread is cheaper this week.</p>" * 6, Subject="S"
    )
    assert "Bread is cheaper" in read("a.eml", bytes(mail)).text
    both = make_mail("Bread is cheaper, all of you.", html="<p>Bread is <b>cheaper</b>, all of you.</p>")
    assert read("a.eml", bytes(both)).text == "Bread is cheaper, all of you."


def test_mails_in_mails_end_somewhere() -> None:
    mail = make_mail("Level 0.")
    for level in range(1, 8):
        outer = make_mail(f"Level {level}.")
        outer.add_attachment(mail)
        mail = outer
    document = read("a.eml", bytes(mail))
    assert "Level 7." in document.text and "Level 0." not in document.text
    assert "nested deeper" in document.problems[0]


def test_a_mailbox_is_its_mails() -> None:
    box = b"".join(
        b"From ada@example.org Tue Mar 31 12:00:00 2026\n"
        + bytes(make_mail(f"Text {n}.\n>From here on.", Subject=f"S{n}"))
        + b"\n"
        for n in (1, 2)
    )
    document = read("a.mbox", box)
    assert [each.headings for each in document.sections if each.kind == "text"] == [("S1",), ("S2",)]
    assert document.n_pages == 2
    assert document.sections[0].anchor == "message=1"


def test_content_decides_where_the_name_is_wrong() -> None:
    document = read("report.txt", make_pdf(lambda pdf: pdf.cell(text="Some words.")))
    assert document.media_type == "application/pdf"
    assert document.problems == ("is a PDF file though its name ends in .txt",)
    assert read("download", b"<!DOCTYPE html><p>A page.").media_type == "text/html"
    assert read("README", b"Plain words.").media_type == "text/plain"


def test_a_binary_file_is_no_text() -> None:
    with pytest.raises(UnreadableDocument, match="binary"):
        parse_document("a.txt", bytes(range(256)) * 20)
    with pytest.raises(UnsupportedFormat):
        parse_document("a", bytes(range(256)) * 20)


@pytest.mark.parametrize("address", ["javascript:alert(document.cookie)", "data:text/html,x", "/relative"])
def test_an_address_that_leads_to_no_page_is_left_out(address: str) -> None:
    """It would become a citation, and a link in whatever shows it."""
    told = parse_document("a.md", f"---\nurl: {address!r}\n---\n# A\n\nText.\n".encode())
    assert told.properties.url is None
    assert any(address in problem for problem in told.problems)
    page = f"<html><head><link rel=canonical href='{address}'></head><body><main><p>Text.</p></main></body></html>"
    assert parse_document("a.html", page.encode()).properties.url is None
