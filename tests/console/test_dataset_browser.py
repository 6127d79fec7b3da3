"""Datasets in a real browser: review with the keyboard alone, and a file that is checked before it is stored."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from penstock.base.clock import now_ns
from tests.console.conftest import make_app, serve
from tests.console.test_browser import CHROMIUM, browser, open_page
from tests.fixtures.furnished import Furnished
from tests.fixtures.reviewed import NAME, furnish_datasets, furnish_proposals

__all__ = ["browser"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def page(browser: Browser, house: Furnished) -> Iterator[Page]:
    furnish_datasets(house.services)
    furnish_proposals(house.engine, now_ns=now_ns())
    with serve(make_app(house)) as url:
        shown = open_page(browser, url, house.owner_key, viewport={"width": 1440, "height": 900})
        yield shown
        shown.context.close()


def test_proposals_are_reviewed_with_the_keyboard_alone(page: Page, house: Furnished) -> None:
    page.goto(f"/dataset-proposals?dataset={NAME}")
    cards = page.locator("[data-proposal]")
    expect(cards.first).to_be_focused()
    page.keyboard.press("a")
    expect(cards.nth(1)).to_be_focused()
    page.keyboard.press("e")
    field = cards.nth(1).locator("textarea")
    expect(field).to_be_focused()
    field.fill("no JSON")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    expect(cards.nth(1).locator("[data-wrong]")).to_contain_text("no JSON")
    field.fill('{"input": "Better asked?", "expected": "Seven to nine."}')
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    expect(cards.nth(2)).to_be_focused()
    page.keyboard.press("k")
    expect(cards.nth(1)).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator("[data-said]")).to_have_text("Rejected.")
    expect(page.locator('[data-count="accepted"]')).to_have_text("2")
    page.goto(f"/dataset-proposals?dataset={NAME}&state=accepted")
    page.get_by_role("button", name=f"Add 2 accepted to {NAME}").click()
    page.wait_for_url(re.compile(rf"/datasets/{NAME}/4"))
    assert house.services.datasets.row(f"{NAME}@4", "prop_1").fields["input"] == "Better asked?"


def test_a_file_is_checked_and_stored_only_when_it_is_well(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "Field Notes.jsonl"
    file.write_text('{"input": "Why?", "expected": "So."}\n{"input"\n')
    page.goto("/dataset-import")
    page.set_input_files("#file", str(file))
    expect(page.locator("#name")).to_have_value("field-notes")
    page.get_by_role("button", name="Check").click()
    expect(page.locator("[data-problems] tbody")).to_contain_text("Field Notes.jsonl:2")
    expect(page.get_by_role("button", name="Store")).to_be_disabled()
    page.get_by_label("Leave bad rows out").check()
    page.get_by_role("button", name="Check").click()
    expect(page.locator("[data-verdict]")).to_have_text("1 rows can be stored")
    page.get_by_role("button", name="Store").click()
    page.wait_for_url(re.compile("/datasets/field-notes/1"))
    expect(page.get_by_role("link", name="Why?")).to_be_visible()


@pytest.mark.parametrize("path", ["", "/row?id=q001", "?tab=sheet", "?tab=profile"])
def test_pages_fit_a_phone(page: Page, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"/datasets/{NAME}/3{path}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.goto(f"/datasets/{NAME}/diff?base=1&other=3")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1440, "height": 900})
