"""Only addresses of pages may become links: documents say of themselves what they like."""

import pytest

from penstock.base.web_addresses import web_address


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/a?b=c#d",
        "HTTP://intranet/handbook",
        "http://127.0.0.1:8080",
        "https://example.org/a_(b)/ü?x=[1]",
        "https://[2001:db8::1]/",
    ],
)
def test_an_address_of_a_page_stays(text: str) -> None:
    assert web_address(text) == text


def test_blanks_within_an_address_are_encoded() -> None:
    assert web_address(" https://intranet/My Files/a.md ") == "https://intranet/My%20Files/a.md"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "javascript:alert(document.cookie)",
        "JaVaScRiPt:alert(1)",
        "java\tscript:alert(1)",
        "\x01javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "file:///etc/passwd",
        "//example.org",
        "/a",
        "https://",
        "https:///a",
        "https:/example.org",
        "https://example.org/\nx",
        'https://example.org/"onload=alert(1)',
        "https://example.org/<script>",
        "https://example.org/" + "a" * 2000,
    ],
)
def test_any_other_is_none(text: str | None) -> None:
    assert web_address(text) is None
