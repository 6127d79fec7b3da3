"""Knowledge in a real browser: a judgement is kept without leaving the page, links open what they lead to, phones fit."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.conftest import make_app, serve
from tests.console.test_browser import CHROMIUM, browser, open_page
from tests.fixtures.furnished import Furnished

__all__ = ["browser"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
BASE = "/knowledge/handbook"


@pytest.fixture(scope="module")
def page(browser: Browser, house: Furnished) -> Iterator[Page]:
    with serve(make_app(house)) as url:
        shown = open_page(browser, url, house.owner_key, viewport={"width": 1440, "height": 900})
        yield shown
        shown.context.close()


def test_a_passage_is_judged_without_leaving_the_page(page: Page, house: Furnished) -> None:
    page.goto(f"{BASE}/search?q=how+much+sleep")
    row = page.locator("article.hit-row").first
    row.get_by_role("button", name="Relevant", exact=True).click()
    expect(row.locator("[data-said]")).to_have_text("kept")
    expect(row.get_by_role("button", name="Relevant", exact=True)).to_have_attribute("aria-pressed", "true")
    assert page.url.endswith("?q=how+much+sleep")
    assert house.services.retrieval_quality is not None
    (kept,) = house.services.retrieval_quality.feedback.list_feedback("handbook").rows
    assert (kept.kind, kept.question, kept.rank) == ("label", "how much sleep", 1)


def test_keys_move_over_passages_and_open_them(page: Page) -> None:
    page.goto(f"{BASE}/search?q=sleep")
    page.keyboard.press("j")
    expect(page.locator("article.hit-row a.open").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("section.passage:target")).to_be_visible()
    page.keyboard.press("/")
    page.goto(f"{BASE}/search")
    box = page.get_by_role("searchbox", name="Question")
    expect(box).to_be_focused()  # by itself: before that, Escape goes to the page above
    page.keyboard.press("Escape")
    expect(box).not_to_be_focused()
    page.keyboard.press("/")
    expect(box).to_be_focused()


def test_a_link_to_a_closed_part_opens_it_and_health_comes_by_itself(page: Page) -> None:
    page.goto(f"{BASE}#build")
    expect(page.get_by_label("Name of the candidate")).to_be_visible()
    expect(page.locator("[data-fetch]")).to_contain_text("stale")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/sources",
        "/sources/new?kind=web",
        "/documents",
        "/documents/sleep-basics.md",
        "/quality",
        "/search?q=sleep&settings=fusion%3Dlexical&expect=hydration.md",
        "?verify=1",
        "/quality/unused",
    ],
)
def test_pages_fit_a_phone(page: Page, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    try:
        page.goto(f"{BASE}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    finally:
        page.set_viewport_size({"width": 1440, "height": 900})
