"""What a document shows and its sections do not hold is counted in its problems, whatever stands in the file."""

import pytest

from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse import parse_document
from tests.knowledge.parse.builders import outline, read, words_of


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_all_values_of_a_repeated_name_are_kept(name: str) -> None:
    document = read(name, b'{"a":"alpha","b":1,"a":["beta",{"c":"gamma","c":"delta"}]}')
    assert document.text == "a: alpha; a: beta; a.c: gamma; a.c: delta; b: 1"
    assert document.problems == ("2 names stand more than once in an object; all their values were kept",)


def test_names_without_a_value_are_counted() -> None:
    document = read(
        "a.json", b'{"alpha":null,"beta":{},"gamma":[],"delta":"","e":{"f":null,"g":0},"h":false}'
    )
    assert outline(document) == [((), "h: false"), (("e",), "g: 0")]
    assert document.problems == ("5 names without a value were left out",)
    records = read("a.jsonl", b'{"id":1,"x":null}\n{"id":2,"x":[{"y":null}]}\n')
    assert records.problems == ("2 names without a value were left out",)
    with pytest.raises(UnreadableDocument, match="1 names without a value"):
        parse_document("a.json", b'{"alpha":null}')


def test_cells_beyond_the_header_of_a_markdown_table_are_kept() -> None:
    table = "| a | b |\n|---|---|\n| c | d | *extra* | more \\| x |\n| e | f |\n"
    wanted = "| a | b |  |  |\n| --- | --- | --- | --- |\n| c | d | extra | more \\| x |\n| e | f |  |  |"
    assert read("a.md", table.encode()).text == wanted
    quoted = "".join(f"> {line}\n" for line in table.splitlines())
    assert read("a.md", quoted.encode()).text == wanted
    listed = "- item\n\n" + "".join(f"  {line}\n" for line in table.splitlines())
    assert wanted in read("a.md", listed.encode()).text


@pytest.mark.parametrize(
    "line",
    ["[^1]: footword", "[^1]: <footword>", "[Warning]: dangerword", "[Note]: stop.", "[a]:\ndangerword"],
)
def test_a_footnote_or_a_warning_of_one_word_defines_no_link(line: str) -> None:
    document = read("a.md", f"# T\n\nText[^1].\n\n{line}\n\nMore.\n".encode())
    assert line.rsplit(maxsplit=1)[-1] in document.text
    assert document.problems == ()


def test_definitions_of_links_are_read_and_those_that_nothing_refers_to_are_counted() -> None:
    text = (
        "See [the guide][g], [home] and [wiki].\n\n[g]: guide.md#top 'Guide'\n[Home]: /home\n[wiki]: <wiki>\n"
        "[g]: other.md\n[unused]: https://example.org\n[//]: # (a comment)\n"
    )
    document = read("a.md", text.encode())
    assert document.text == "See the guide, home and wiki."
    assert document.problems == ("3 link definitions that nothing refers to were left out",)


def test_what_only_looks_like_a_tag_is_text() -> None:
    text = (
        "Run `x` as <user> with <your-name>, List<String>.\n\n<placeholder>\n\n<Note>\n\nA *note*<br>here.\n\n</Note>\n\n"
        "<Icon name='x'/> <b>bold</b> <span title='a'>in</span> a<sub>2</sub>\n\n<div><group-id></div>\n"
    )
    assert words_of(read("a.md", text.encode())) == (
        [
            "Run",
            "x",
            "as",
            "<user>",
            "with",
            "<your-name>,",
            "List<String>.",
            "<placeholder>",
            "A",
            "note",
            "here.",
            "bold",
            "in",
            "a2",
            "<group-id>",
        ]
    )


def test_a_comment_of_markdown_that_never_ends_is_counted() -> None:
    document = read("a.md", b"Text.\n\n<!-- three words here\n")
    assert (document.text, document.problems) == (
        "Text.",
        ("3 words of HTML comments were left out",),
    )


def test_labels_of_drawings_in_a_page_are_read() -> None:
    body = (
        "<h1>Press <svg><title>Arrow</title><path d='M0'/></svg> go</h1><p>Be<script>x</script>fore.</p>"
        "<svg><defs><text>Template words</text></defs><text>Valve <tspan x='0'>one</tspan></text>"
        "<text>Pu<tspan>mp</tspan></text></svg><p>After.</p>"
    )
    document = read("a.html", f"<html><head><title>T</title></head><body>{body}</body></html>".encode())
    assert (document.title, document.text) == (
        "Press go",
        "Before.\n\nValve one\n\nPump\n\nAfter.",
    )
    assert document.problems == ("3 words of hidden elements were left out",)


def test_an_article_among_other_text_does_not_hide_it() -> None:
    around = "<p>top" + " word" * 200 + "</p><article>inside" + " word" * 300 + "</article>"
    document = read("a.html", f"<body>{around}<p>end</p></body>".encode())
    assert document.problems == ()
    assert {"top", "inside", "end"} <= set(words_of(document))


@pytest.mark.parametrize(
    ("element", "name"),
    [("main", "<main>"), ("div role=main", "the element of role main"), ("article", "<article>")],
)
def test_words_outside_of_the_marked_content_are_told_from_menus(element: str, name: str) -> None:
    tag = element.split(maxsplit=1)[0]
    page = (
        f"<nav>Home</nav><p>not taken</p><{element}>inside{' word' * 90}</{tag}><footer>Contact us</footer>"
    )
    assert read("a.html", page.encode()).problems == (
        "3 words of menus, headers, footers and asides were left out",
        f"2 words outside of {name} were left out",
    )


@pytest.mark.parametrize(
    "names",
    ["class=cookie-policy-content", "id=cookies", "id=gdpr", "class='section consent'", "id=gdpr-guide"],
)
def test_a_page_about_cookies_or_consent_is_read(names: str) -> None:
    document = read("a.html", f"<p>Intro.</p><div {names}>Bake the cookies.</div>".encode())
    assert (document.text, document.problems) == ("Intro.\n\nBake the cookies.", ())


@pytest.mark.parametrize(
    "names",
    [
        "id=cookie-banner",
        "class='site cookie_consent_bar'",
        "class=consent-modal",
        "id=onetrust-consent-sdk",
        "class='cc-window cc-bottom'",
        "id=CybotCookiebotDialog",
        "class=cookieBanner",
        "id=gdpr-popup",
    ],
)
def test_banners_that_ask_for_consent_are_left_out_and_counted(names: str) -> None:
    document = read("a.html", f"<p>Text.</p><div {names}>We use cookies.</div>".encode())
    assert document.text == "Text."
    assert document.problems == ("3 words of banners that ask for consent were left out",)
