"""A trace of 50,000 spans in a real browser: drawn, scrolled, filtered, walked by keys, and found again by its URL."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from penstock.base.clock import now_ns
from penstock.spec.spans import Span
from tests.console.conftest import make_app, serve
from tests.console.test_browser import CHROMIUM, FLAGS, open_page
from tests.fixtures.furnished import TRACE_ID, Furnished
from tests.fixtures.large_trace import LARGE_TRACE_ID, make_large_trace

N_SPANS = 50_000
LARGE = f"/traces/{LARGE_TRACE_ID}"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def n_rows(house: Furnished) -> int:
    spans = make_large_trace(N_SPANS, now_ns() - 3_600_000_000_000)
    house.spans.append(spans)
    return len(spans)


@pytest.fixture(scope="module")
def shared_page(browser: Browser, house: Furnished, n_rows: int) -> Iterator[Page]:
    found = replace(house, services=replace(house.services, gateway_url="http://127.0.0.1:9"))
    with serve(make_app(found)) as url:
        page = open_page(browser, url, house.owner_key, viewport={"width": 1440, "height": 900})
        yield page
        page.context.close()


@pytest.fixture
def trouble(shared_page: Page) -> Iterator[list[str]]:
    """What the browser complained about while the test ran."""
    seen: list[str] = []

    def on_message(message: Any) -> None:
        if message.type == "error":
            seen.append(message.text)

    def on_error(error: Any) -> None:
        seen.append(str(error))

    shared_page.on("console", on_message)
    shared_page.on("pageerror", on_error)
    yield seen
    shared_page.remove_listener("console", on_message)
    shared_page.remove_listener("pageerror", on_error)


def visit(page: Page, path: str) -> Page:
    page.goto(path)
    page.wait_for_selector("[data-ready]", state="attached")
    return page


def chosen(page: Page) -> str:
    expect(page.locator("[data-panel] [data-span-id]")).to_be_visible()
    return str(page.locator(".fall-sheet [aria-current]").get_attribute("data-span"))


def test_every_span_can_be_reached_while_few_rows_are_in_the_document(
    shared_page: Page, n_rows: int, trouble: list[str]
) -> None:
    page = visit(shared_page, LARGE)
    assert page.locator(".fall-sheet .fall-row").count() < 80
    expect(page.locator("[data-shown]")).to_have_text(
        f"51 of {n_rows:,} rows shown"
    )  # repeated steps are folded
    page.keyboard.press("x")
    expect(page.locator("[data-shown]")).to_have_text(f"{n_rows:,} rows")
    assert page.locator(".fall-sheet .fall-row").count() < 80
    page.keyboard.press("End")
    expect(page.locator(".fall-sheet [aria-current]")).to_be_in_viewport()
    expect(page.locator("[data-panel] [data-span-id]")).to_have_attribute("data-span-id", f"{n_rows:016x}")
    page.evaluate("document.querySelector('[data-rows]').scrollTop = 600000")
    expect(page.locator(".fall-sheet .fall-row").first).to_be_visible()
    expect(page.locator('.fall-sheet [data-place="23080"]')).to_be_visible()  # 600,000 pixels down
    assert page.locator(".fall-sheet .fall-row").count() < 80
    assert trouble == []


def test_keys_walk_close_open_and_find_what_failed(shared_page: Page, trouble: list[str]) -> None:
    page = visit(shared_page, LARGE)
    root = chosen(page)
    page.keyboard.press("j")
    fold = page.locator(".fall-sheet [aria-current]")
    expect(fold).to_contain_text("×50")
    page.keyboard.press("ArrowRight")  # the fold opens
    expect(fold).not_to_contain_text("×50")
    first = chosen(page)
    page.keyboard.press("]")
    assert chosen(page) not in {root, first}
    page.keyboard.press("[")
    assert chosen(page) == first
    page.keyboard.press("ArrowLeft")
    expect(fold).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("ArrowLeft")
    assert chosen(page) == root
    page.keyboard.press("e")
    expect(page.locator("[data-panel] .state-error")).to_be_visible()
    expect(fold).to_contain_text("tool")
    expect(fold).to_be_in_viewport()
    assert trouble == []


def test_a_filter_narrows_as_it_is_typed_and_stands_in_the_url(shared_page: Page, trouble: list[str]) -> None:
    page = visit(shared_page, LARGE)
    page.keyboard.press("/")
    page.keyboard.type("fetch error")
    expect(page.locator("[data-shown]")).to_have_text("13 of 49,981 match")
    page.keyboard.press("Enter")
    expect(page.locator("[data-panel] h2")).to_have_text("fetch")
    url = page.url
    assert "q=fetch+error" in url
    assert "span=" in url
    span_id = chosen(page)
    visit(page, url)
    expect(page.locator("[data-shown]")).to_have_text("13 of 49,981 match")
    assert chosen(page) == span_id
    assert trouble == []


def test_views_share_one_selection_and_one_url(shared_page: Page, trouble: list[str]) -> None:
    page = visit(shared_page, f"{LARGE}?span={3:016x}")
    assert chosen(page) == f"{3:016x}"
    page.keyboard.press("3")
    call = page.locator(f'[data-call="{3:016x}"]')
    expect(call).to_have_attribute("aria-current", "true")
    expect(call).to_contain_text("And now **0**?")
    other = page.locator("[data-call]").nth(2)
    expect(other).to_contain_text("sent again")
    wanted = str(other.get_attribute("data-call"))
    other.locator(".call-head").click()
    expect(page.locator("[data-panel] [data-span-id]")).to_have_attribute("data-span-id", wanted)
    page.keyboard.press("2")
    expect(page.locator("[data-timeline] canvas")).to_be_visible()
    page.keyboard.press("z")
    expect(page.locator("[data-unzoom]")).to_be_visible()
    assert "view=timeline" in page.url
    page.keyboard.press("4")
    assert chosen(page) == wanted
    visit(page, page.url)
    expect(page.locator('[data-tab="list"]')).to_have_attribute("aria-current", "true")
    assert chosen(page) == wanted
    assert trouble == []


def test_a_payload_opens_as_a_tree_and_the_page_leads_on_through_the_list(
    shared_page: Page, trouble: list[str]
) -> None:
    page = shared_page
    page.goto("/traces?range=24h")
    page.locator('main a.open[href^="/traces/"]').nth(1).click()
    page.wait_for_selector("[data-ready]", state="attached")
    before = page.url
    expect(page.locator("[data-place-in-list]")).to_contain_text("2 of ")
    page.keyboard.press("n")
    page.wait_for_url(lambda url: url != before)
    page.wait_for_selector("[data-ready]", state="attached")
    expect(page.locator("[data-place-in-list]")).to_contain_text("3 of ")
    visit(page, f"/traces/{TRACE_ID}")
    page.locator("summary", has_text="Input as JSON").click()
    expect(page.locator('[data-json="input"] .json-name', has_text="messages")).to_be_visible()
    assert trouble == []


def test_a_trace_that_is_going_on_fills_up_and_says_when_it_is_whole(
    shared_page: Page, house: Furnished, trouble: list[str]
) -> None:
    now = now_ns()
    trace_id = "77" * 16
    spans = [
        replace_times(span, now - 3_000_000_000 + number * 1_000_000)
        for number, span in enumerate(make_large_trace(41, now, trace_id=trace_id))
    ]
    house.spans.append(spans[5:10])
    page = visit(shared_page, f"/traces/{trace_id}")
    expect(page.locator("[data-going-on]")).to_be_visible()
    expect(page.locator("[data-rows]")).to_contain_text("parent to come")
    house.spans.append(spans)
    expect(page.locator("[data-going-on]")).to_be_hidden()
    expect(page.locator("[data-rows]")).to_contain_text("research agent")
    expect(page.locator(".strip div", has_text="Spans")).to_contain_text(str(len(spans)))
    assert trouble == []


def test_numbers_are_shown_and_copied_as_they_were_written(
    shared_page: Page, house: Furnished, trouble: list[str]
) -> None:
    trace_id, now = "88" * 16, now_ns()
    order = {"order": 12345678901234567890, "share": 1.0, "few": 3, "exact": [9007199254740993]}
    house.spans.append(
        [
            Span(
                trace_id=trace_id,
                span_id=f"{1:016x}",
                name="look up",
                kind="tool",
                start_ns=now - 9_000_000,
                end_ns=now - 1_000_000,
                input=order,
            )
        ]
    )
    page = visit(shared_page, f"/traces/{trace_id}?span={1:016x}")
    place = page.locator('[data-json="input"]')
    expect(place.locator(".json-leaf", has_text="order")).to_contain_text("12345678901234567890")
    expect(place.locator(".json-leaf", has_text="share")).to_contain_text("1.0")
    expect(place).to_contain_text("9007199254740993")
    copied = page.evaluate(
        "async text => JSON.stringify((await import('/static/trace-words.js')).parseExact(text))",
        msgspec.json.encode(order).decode(),
    )
    assert copied == msgspec.json.encode(order).decode()
    assert trouble == []


def replace_times(span: Span, start_ns: int) -> Span:
    return msgspec.structs.replace(span, start_ns=start_ns, end_ns=start_ns + 500_000)


def test_the_trace_page_fits_a_phone_and_stays_readable_in_the_dark(
    shared_page: Page, trouble: list[str]
) -> None:
    page = shared_page
    page.set_viewport_size({"width": 390, "height": 844})
    try:
        for view in ("tree", "timeline", "messages", "list"):
            visit(page, f"/traces/{TRACE_ID}?view={view}")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, view
        page.goto(f"/traces/diff?a={TRACE_ID}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    finally:
        page.set_viewport_size({"width": 1440, "height": 900})
    assert trouble == []
