"""The console in a real browser: streaming, keyboard, themes, no error and no foreign request on any page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.console.conftest import FakeGateway
from tests.console.test_pages import PAGES
from tests.fixtures.furnished import ANSWER, QUESTION, TRACE_ID, Furnished

CHROMIUM = next(
    (
        path
        for path in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"))
        if path.exists()
    ),
    None,
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-sync",
    "--disable-component-update",
    "--no-first-run",
]
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


def open_page(browser: Browser, url: str, key: str, **options: Any) -> Page:
    context = browser.new_context(base_url=url, **options)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto("/signin")
    page.fill('input[name="key"]', key)
    page.click("main button")
    page.wait_for_selector(".figures")
    return page


@pytest.fixture(scope="module")
def shared_page(browser: Browser, console_url: str, house: Furnished) -> Iterator[Page]:
    page = open_page(browser, console_url, house.owner_key)
    yield page
    page.context.close()


@pytest.fixture
def page(shared_page: Page) -> Page:
    shared_page.set_viewport_size({"width": 1440, "height": 900})
    return shared_page


def test_no_page_breaks_asks_elsewhere_or_is_wider_than_the_screen(page: Page, console_url: str) -> None:
    trouble: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    for path in PAGES:
        page.goto(path)
        for width in (1440, 390):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
    assert trouble == []
    assert [url for url in asked if not url.startswith(console_url)] == []


def test_the_playground_streams_and_shows_citations_tokens_cost_and_trace(
    page: Page, gateway: tuple[FakeGateway, str]
) -> None:
    fake = gateway[0]
    fake.release.clear()
    page.goto("/playground")
    page.fill('textarea[name="user"]', QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator(".turn-assistant .said")).to_have_text(ANSWER[:30])  # the rest is still held back
    expect(page.locator("[data-stop]")).to_be_visible()
    fake.release.set()
    expect(page.locator(".turn-assistant .said")).to_have_text(ANSWER)
    expect(page.locator(".turn-assistant .citations")).to_contain_text("sleep-basics.md")
    expect(page.locator(".meta")).to_contain_text("412 tokens in, 18 out")
    expect(page.locator(".meta")).to_contain_text("$0")
    expect(page.locator(".meta a")).to_have_attribute("href", f"/traces/{TRACE_ID}")
    assert fake.seen[-1]["messages"] == [{"role": "user", "content": QUESTION}]
    assert fake.headers[-1]["authorization"] == "Bearer ps-internal-for-tests"
    assert fake.headers[-1]["x-penstock-user"] == "admin"
    page.fill('textarea[name="user"]', "And teenagers?")
    page.click("[data-send]")
    expect(page.locator(".turn-assistant .said").nth(1)).to_have_text(ANSWER)
    assert [each["role"] for each in fake.seen[-1]["messages"]] == ["user", "assistant", "user"]


def test_the_playground_stops_a_call_when_asked(page: Page, gateway: tuple[FakeGateway, str]) -> None:
    fake = gateway[0]
    fake.release.clear()
    page.goto("/playground")
    page.fill('textarea[name="user"]', QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator(".turn-assistant .said")).to_have_text(ANSWER[:30])
    page.click("[data-stop]")
    expect(page.locator(".turn-error")).to_contain_text("Stopped.")
    fake.release.set()


def test_the_playground_says_what_failed(page: Page) -> None:
    page.goto("/playground?model=pocket")
    page.fill('textarea[name="user"]', QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator(".turn-error")).to_contain_text("The engine is starting.")


def test_lists_are_walked_with_the_keyboard(page: Page) -> None:
    page.goto("/traces?range=24h")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    first = page.locator("table.grid a.open").first
    expect(first).to_be_focused()
    target = first.get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{target}")
    page.keyboard.press("Escape")
    page.wait_for_url("**/traces?range=24h")
    page.keyboard.press("/")
    expect(page.locator("[data-search]")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("dialog#keys")).to_be_visible()


def test_the_palette_finds_pages_and_traces(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("Control+k")
    page.keyboard.type("keys")
    page.keyboard.press("Enter")
    page.wait_for_url("**/keys")
    page.keyboard.press("Control+k")
    page.keyboard.type(TRACE_ID)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/traces/{TRACE_ID}")


def test_choosing_a_span_swaps_the_panel_and_keeps_the_url(page: Page) -> None:
    page.goto(f"/traces/{TRACE_ID}")
    row = page.locator("[data-span]").nth(2)
    row.click()
    expect(page.locator("[data-panel] h2").first).to_have_text("retrieve")
    expect(row).to_have_attribute("aria-current", "true")
    assert page.url.endswith(f"?span={row.get_attribute('data-span')}")
    page.reload()
    expect(page.locator("[data-panel] h2").first).to_have_text("retrieve")


def test_a_route_is_edited_reviewed_applied_and_rolled_back(page: Page, house: Furnished) -> None:
    configuration = house.services.configuration
    configuration.put("provider", "cloud", {"base_url": "http://127.0.0.1:9/v1"}, actor="ada")
    configuration.put(
        "route", "team/chat", {"targets": [{"provider": "cloud", "model": "small"}]}, actor="ada"
    )
    good = configuration.history(limit=1)[0].number
    page.goto("/routes")
    page.click("text=team/chat")
    page.click("main >> text=Edit")
    page.fill('input[name="deadline_s"]', "soon")
    page.press('input[name="deadline_s"]', "Enter")  # the first button of the form is the review
    expect(page.locator(".wrong")).to_contain_text("valid number")
    page.fill('input[name="deadline_s"]', "30")
    page.fill('input[name="targets.1.provider"]', "cloud")
    page.fill('input[name="targets.1.model"]', "big")
    page.click("text=Review changes")
    expect(page.locator(".diff")).to_contain_text("deadline_s")
    page.fill('input[name="_note"]', "Try the big one")
    page.click("button >> text=Apply")
    expect(page.locator(".notice")).to_contain_text("The route team/chat is changed.")
    expect(page.locator("[data-live]")).to_contain_text("cloud/big")
    assert len(configuration.get_stored("route", "team/chat").content["targets"]) == 2
    page.goto("/configuration")
    page.locator("tr", has=page.locator(f'a[href="/configuration/{good}"]')).get_by_text("Roll back").click()
    expect(page.locator(".diff")).to_contain_text("deadline_s")
    page.click("button.stop")
    expect(page.locator(".notice")).to_contain_text(f"Rolled back to configuration {good}")
    assert len(configuration.get_stored("route", "team/chat").content["targets"]) == 1


def test_deleting_asks_first(page: Page, house: Furnished) -> None:
    configuration = house.services.configuration
    configuration.put(
        "limit", "hourly", {"scope": "all", "unit": "tokens", "amount": 9, "window": "hour"}, actor="ada"
    )
    page.goto("/limits")
    page.locator(".rule", has_text="hourly").get_by_text("Delete").click()
    expect(page.locator(".change")).to_contain_text("limit hourly")
    assert configuration.get("limit", "hourly")
    page.click("button.stop")
    expect(page.locator(".notice[role=status]")).to_contain_text("The limit hourly is deleted.")


def ground(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))


def test_the_theme_follows_the_system_until_it_is_chosen(
    browser: Browser, console_url: str, house: Furnished
) -> None:
    page = open_page(browser, console_url, house.owner_key, color_scheme="dark")
    dark = ground(page)
    page.emulate_media(color_scheme="light")
    light = ground(page)
    assert dark != light
    with page.expect_response("**/theme"):
        page.click("[data-theme-form] button")  # auto, then light
    with page.expect_response("**/theme"):
        page.click("[data-theme-form] button")  # light, then dark
    assert ground(page) == dark
    page.reload()
    assert ground(page) == dark
    page.context.close()


_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d");
  const rgb = (text) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = (c) => { const [r, g, b] = c.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (node) => { for (; node; node = node.parentElement) { const c = rgb(getComputedStyle(node).backgroundColor); if (c[3] > 250) return c; } return [255, 255, 255]; };
  const poor = [];
  for (const node of document.querySelectorAll("main *, .rail *")) {
    const said = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
    if (!said || !node.offsetParent || node.disabled || node.closest(".hidden")) continue;
    const [a, b] = [light(rgb(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${node.tagName}.${node.className} ${ratio.toFixed(2)} ${node.textContent.trim().slice(0, 30)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    for path in (
        "/-/patterns",
        "/",
        f"/traces/{TRACE_ID}",
        "/assets/model/pocket",
        "/keys",
        "/edit/route",
        "/cost",
        "/routes",
    ):
        page.goto(path)
        assert page.evaluate(_CONTRAST) == [], path
