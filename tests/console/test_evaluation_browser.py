"""Evaluations and what is around them in a real browser: keyboard, panels, labels, no error, nothing wider than the screen."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.conftest import make_app, serve
from tests.console.test_browser import CHROMIUM, browser, open_page
from tests.fixtures.evaluated import EvaluatedHouse

__all__ = ["browser"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def shared_page(browser: Browser, evaluated: EvaluatedHouse) -> Iterator[Page]:
    with serve(make_app(evaluated.found)) as url:
        page = open_page(browser, url, evaluated.found.owner_key, viewport={"width": 1440, "height": 900})
        yield page
        page.context.close()


@pytest.fixture
def page(shared_page: Page) -> Page:
    shared_page.set_viewport_size({"width": 1440, "height": 900})
    return shared_page


def test_no_page_breaks_asks_elsewhere_or_is_wider_than_the_screen(
    page: Page, evaluated: EvaluatedHouse
) -> None:
    made = evaluated.made
    paths = (
        "/evaluations",
        "/evaluations?target=nobody",
        "/evaluations/new",
        f"/evaluations/{made.strong}?case=q004",
        f"/evaluations/{made.running}",
        f"/evaluations/compare?a={made.weak}&b={made.strong}",
        "/experiments",
        f"/experiments/{made.experiment}",
        "/gates",
        f"/gates/{made.undecided.id}",
        "/judges",
        f"/judges/calibrations/{made.calibration}",
        "/judges/labels?name=correct",
        "/judges/label",
        f"/judges/label?evaluation={made.weak}&name=correct",
    )
    trouble: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    for path in paths:
        page.goto(path)
        for width in (1440, 390):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
    assert trouble == []
    origin = page.url.partition("/judges")[0]
    assert [url for url in asked if not url.startswith(origin)] == []


def test_cases_are_read_beside_the_list_with_the_keyboard(page: Page, evaluated: EvaluatedHouse) -> None:
    page.goto(f"/evaluations/{evaluated.made.weak}")
    expect(page.locator(".histogram a").first).to_be_attached()  # counted after the page stood
    panel = page.locator("[data-case-panel]")
    expect(panel).to_be_hidden()
    page.locator("[data-cases] a.open").first.focus()
    page.keyboard.press("Enter")
    expect(panel).to_contain_text("q000")
    expect(page).to_have_url(re.compile(r"case=q000"))
    page.keyboard.press("j")
    expect(panel).to_contain_text("q001")
    panel.get_by_role("button", name="Next").click()
    expect(panel).to_contain_text("q002")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page).not_to_have_url(re.compile(r"case="))
    assert page.url.rpartition("/")[2].startswith(evaluated.made.weak)  # Escape closed the case, not the page


def test_on_a_phone_the_case_stands_above_the_list(page: Page, evaluated: EvaluatedHouse) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"/evaluations/{evaluated.made.weak}")
    page.locator("[data-cases] a.open").nth(3).click()
    panel = page.locator("[data-case-panel]")
    expect(panel).to_contain_text("q003")
    expect(panel).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_two_evaluations_are_chosen_and_compared_from_the_keyboard(
    page: Page, evaluated: EvaluatedHouse
) -> None:
    page.goto("/evaluations?dataset=questions&target=model:pocket@2")
    page.goto("/evaluations")
    for chosen in (evaluated.made.strong, evaluated.made.weak):
        page.locator(f"tr[data-id='{chosen}'] a.open").focus()
        page.keyboard.press("x")
    expect(page.locator("[data-compare-link]")).to_be_visible()
    page.keyboard.press("c")
    page.wait_for_url(f"**/evaluations/compare?a={evaluated.made.weak}&b={evaluated.made.strong}")
    expect(page.locator(".sentences li").first).to_contain_text("beats model:pocket@1")


def test_a_difference_is_followed_down_to_cases_and_traces(page: Page, evaluated: EvaluatedHouse) -> None:
    page.goto(f"/evaluations/compare?a={evaluated.made.weak}&b={evaluated.made.strong}")
    page.locator(".estimates tbody tr").first.locator("a[href*='change=improved']").click()
    page.wait_for_url(re.compile(r"change=improved"))
    expect(page.locator(".compared .change-improved").first).to_be_visible()
    expect(page.locator(".compared a[href^='/traces/']").first).to_be_visible()
    page.locator(".compared a.open").first.click()
    page.wait_for_url(re.compile(rf"/evaluations/{evaluated.made.strong}\?case="))


def test_outputs_are_labelled_with_one_key_each(page: Page, evaluated: EvaluatedHouse) -> None:
    page.goto(f"/judges/label?evaluation={evaluated.made.strong}&name=kind&answers=yes,no")
    items = page.locator("[data-label-item]")
    expect(items.nth(0)).to_be_visible()
    expect(items.nth(1)).to_be_hidden()
    page.keyboard.press("1")
    expect(items.nth(1)).to_be_visible()
    page.keyboard.press("j")
    expect(items.nth(2)).to_be_visible()
    page.keyboard.press("2")
    expect(page.locator("[data-label-status]")).to_have_text(re.compile(r"2 of \d+ labelled"))
    page.keyboard.press("k")
    page.keyboard.press("k")
    expect(items.nth(1)).to_be_visible()
    found = next(each for each in evaluated.found.services.judges.labels.sets() if each.name == "kind")
    assert found.values in ({"1": 1, "0": 1}, {"0": 1, "1": 1}, {"1.0": 1, "0.0": 1})
