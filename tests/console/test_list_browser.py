"""The list of traces and charts in a real browser: completion, faults, live rows, zoom, comparison, keyboard."""

import re
from collections.abc import Iterator

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from penstock.base.clock import now_ns
from tests.console.conftest import make_app, serve
from tests.console.test_browser import CHROMIUM, browser, open_page
from tests.fixtures.furnished import TRACE_ID, Furnished, make_failure

__all__ = ["browser"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def shared_page(browser: Browser, house: Furnished) -> Iterator[Page]:
    with serve(make_app(house)) as url:
        page = open_page(browser, url, house.owner_key, viewport={"width": 1440, "height": 900})
        yield page
        page.context.close()


@pytest.fixture
def page(shared_page: Page) -> Page:
    shared_page.goto("/traces?range=24h")
    shared_page.wait_for_selector("[data-strip] .plot-field")
    return shared_page


def test_fields_and_values_are_offered_and_taken_with_the_keyboard(page: Page) -> None:
    bar = page.locator("[data-search-bar]")
    page.keyboard.press("/")
    expect(bar).to_be_focused()
    page.keyboard.type("stat")
    expect(page.get_by_role("option").first).to_contain_text("status:")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    expect(bar).to_have_value("status:")
    page.get_by_role("option", name="error").wait_for()
    while page.locator('[aria-selected="true"]').all_inner_texts() != ["error"]:
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(bar).to_have_value("status:error ")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"q=status%3Aerror"))
    expect(page.locator("tr[data-id]")).to_have_count(5)
    page.goto("/traces")
    page.locator("[data-search-bar]").click()
    expect(page.get_by_role("option").first).to_contain_text("status:error")


def test_tab_leaves_the_search_as_it_is_where_nothing_was_picked(page: Page) -> None:
    bar = page.locator("[data-search-bar]")
    bar.focus()
    page.keyboard.type("status:error")
    page.get_by_role("option").first.wait_for()
    page.keyboard.press("Tab")
    expect(bar).not_to_be_focused()
    expect(bar).to_have_value("status:error")
    expect(page.get_by_role("option")).to_have_count(0)


def test_what_cannot_be_read_is_marked_while_it_is_typed(page: Page) -> None:
    page.fill("[data-search-bar]", "status:error modle:x")
    expect(page.locator("[data-search-problem] mark")).to_have_text("modle")
    page.fill("[data-search-bar]", "status:error")
    expect(page.locator("[data-search-problem]")).to_be_hidden()


def test_what_is_still_being_completed_is_not_called_wrong(page: Page) -> None:
    page.locator("[data-search-bar]").click()
    with page.expect_response("**/traces/check?**"):
        page.keyboard.type("status:")
    expect(page.get_by_role("option").first).to_be_visible()
    expect(page.locator("[data-search-problem]")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator("[data-search-problem]")).to_be_visible()


def test_a_drag_over_the_strip_narrows_the_window_and_a_click_looks_into_a_slice(page: Page) -> None:
    place = page.locator(".plot-field").bounding_box()
    assert place is not None
    middle = place["y"] + 20
    page.mouse.move(place["x"] + place["width"] * 0.5, middle)
    expect(page.locator("[data-tip]")).to_contain_text("UTC")
    page.mouse.down()
    page.mouse.move(place["x"] + place["width"] * 0.9, middle, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile(r"since_ns=\d+&until_ns=\d+"))
    assert "range=" not in page.url
    page.wait_for_selector(".plot-box")
    page.locator(".plot-box").focus()
    page.keyboard.press("End")
    expect(page.locator("[data-tip]")).to_be_visible()
    before = page.url
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: url != before)


def test_new_rows_come_on_top_and_leave_what_is_read_where_it_is(page: Page, house: Furnished) -> None:
    page.keyboard.press("l")
    expect(page.locator("[data-live-toggle]")).to_have_attribute("aria-pressed", "true")
    rows = page.locator("[data-list]")
    rows.evaluate("list => { list.scrollTop = 300; }")
    top = page.evaluate(
        "() => [...document.querySelectorAll('tr[data-id]')].find(row => row.getBoundingClientRect().top > 300).dataset.id"
    )
    height = "id => document.querySelector(`tr[data-id='${id}']`).getBoundingClientRect().top"
    before = page.evaluate(height, top)
    span = make_failure(now_ns() - 1_000_000_000, trace_id="be" * 16)[0]
    house.spans.append(
        [msgspec.structs.replace(span, input={"messages": [{"role": "user", "content": "new"}]})]
    )
    jump = page.locator(".jump")
    expect(jump).to_have_text("1 new above")
    assert abs(page.evaluate(height, top) - before) < 2
    jump.click()
    expect(page.locator("tr[data-id]").first).to_have_attribute("data-id", "be" * 16)
    expect(jump).to_be_hidden()
    page.keyboard.press("l")


def test_two_rows_are_chosen_and_compared_from_the_keyboard(page: Page) -> None:
    page.locator(f"tr[data-id='{TRACE_ID}'] a.open").focus()
    page.keyboard.press("x")
    expect(page.locator("[data-compare-words]")).to_have_text("Choose one more to compare")
    page.keyboard.press("j")
    page.keyboard.press("x")
    link = page.locator("[data-compare-link]")
    expect(link).to_be_visible()
    assert f"a={TRACE_ID}" in (link.get_attribute("href") or "")


def test_values_are_counted_when_somebody_looks_and_columns_chosen_in_the_url(page: Page) -> None:
    page.click("summary:has-text('Narrow')")
    page.click(".facet a:has-text('error')")
    page.wait_for_url(re.compile(r"q=status%3Aerror"))
    page.click("summary:has-text('Columns')")
    page.check(".column-choice input[value='user_id']")
    page.click("text=Show these")
    page.wait_for_url(re.compile(r"cols=asked%2C.*user_id"))
    expect(page.locator("th:has-text('User')")).to_be_visible()


def test_a_chart_of_a_dashboard_is_read_with_the_keyboard_and_narrowed(page: Page) -> None:
    page.goto("/dashboards/overview?range=24h")
    box = page.locator(".plot-box").first
    box.focus()
    page.keyboard.press("End")
    expect(page.locator("[data-tip]").first).to_contain_text("so far")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/dashboards/overview\?since_ns="))


def test_an_empty_list_waits_for_its_first_row(page: Page, house: Furnished) -> None:
    page.goto("/traces?range=1h&q=model%3Anot-yet")
    page.click("[data-live-toggle]")
    span = make_failure(now_ns() - 1_000_000_000, trace_id="bf" * 16)[0]
    house.spans.append([msgspec.structs.replace(span, model="not-yet")])
    expect(page.locator("tr[data-id]")).to_have_count(1)
    expect(page.locator("[data-live-toggle]")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("l")
