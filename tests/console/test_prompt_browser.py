"""Prompts in a real browser: the editor from a mistake to a saved version, and variants that stream side by side."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.conftest import FakeGateway, make_app, serve
from tests.console.test_browser import CHROMIUM, browser, open_page
from tests.fixtures.furnished import ANSWER, TRACE_ID, Furnished
from tests.fixtures.prompted import NAME, furnish_prompts
from tests.fixtures.reviewed import NAME as ROWS
from tests.fixtures.reviewed import furnish_datasets

__all__ = ["browser"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def shown(browser: Browser, house: Furnished, gateway: tuple[FakeGateway, str]) -> Iterator[Page]:
    furnish_datasets(house.services)
    furnish_prompts(house.services)
    found = replace(house, services=replace(house.services, gateway_url=gateway[1]))
    with serve(make_app(found)) as url:
        page = open_page(browser, url, house.owner_key, viewport={"width": 1440, "height": 900})
        yield page
        page.context.close()


@pytest.fixture
def page(shown: Page) -> Iterator[Page]:
    trouble: list[str] = []
    note = lambda error: trouble.append(str(error))  # noqa: E731 - taken off again below
    leave = lambda dialog: dialog.accept()  # noqa: E731 - what is not saved may be left
    shown.on("pageerror", note)
    shown.on("dialog", leave)
    yield shown
    shown.remove_listener("pageerror", note)
    shown.remove_listener("dialog", leave)
    assert trouble == []


def open_editor(page: Page, path: str) -> None:
    page.goto(path)
    page.wait_for_selector("[data-editor][data-ready]")


def test_a_new_prompt_is_written_declared_reviewed_and_saved(page: Page, house: Furnished) -> None:
    open_editor(page, "/prompts/new")
    page.fill("#name", "reply-mail")
    text = page.locator("[data-text]")
    text.nth(1).fill("Answer {{ question }} as {{ who }")
    expect(page.locator("[data-problem]").nth(1)).to_contain_text("Line 1: unexpected '}'")
    text.nth(1).fill("Answer {{ question }} as {{ who }}")
    page.get_by_role("button", name="Declare who").click()
    expect(page.locator("[data-undeclared]")).to_be_hidden()
    expect(page.locator("[data-problem]").nth(1)).to_be_hidden()
    page.get_by_text("Tools and shape of the reply").click()
    page.fill("#tools", "[1")
    page.get_by_role("button", name="Review").click()
    expect(page.locator('[data-wrong="tools"]')).to_contain_text("No JSON")
    expect(page.get_by_role("button", name=re.compile("Save as version"))).to_be_hidden()
    page.fill("#tools", "")
    page.get_by_role("button", name="Review").click()
    expect(page.locator("[data-difference-body]")).to_contain_text("Answer {{ question }} as {{ who }}")
    expect(page.locator("#note")).to_be_focused()
    page.keyboard.type("By hand")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/prompts/reply-mail/1"))
    saved = house.services.prompts.get("reply-mail")
    assert saved.note == "By hand"
    assert set(saved.content.variables) == {"question", "who"}


def test_messages_move_with_the_keyboard_and_what_stays_the_same_is_no_version(page: Page) -> None:
    open_editor(page, f"/prompts/{NAME}/edit?version=3")
    page.get_by_role("button", name="Review").click()
    expect(page.locator("[data-said]")).to_have_text("Nothing was changed, so there is nothing to save.")
    page.locator("[data-text]").nth(3).focus()
    page.keyboard.press("Alt+ArrowUp")
    expect(page.locator("select[data-role]").nth(2)).to_have_value("user")
    expect(page.locator("[data-text]").nth(2)).to_be_focused()
    page.keyboard.press("Alt+ArrowDown")
    page.get_by_role("button", name="Review").click()
    expect(page.locator("[data-said]")).to_have_text("Nothing was changed, so there is nothing to save.")


def test_what_is_written_stays_when_saving_fails(page: Page, house: Furnished) -> None:
    open_editor(page, f"/prompts/{NAME}/edit?version=3")
    page.locator("[data-text]").first.fill("Sort {{ mail }} for {{ shop }} in a {{ tone }} tone: {{ boxes }}")
    page.get_by_role("button", name="Review").click()
    page.route("**/versions", lambda route: route.abort())
    page.get_by_role("button", name="Save as version 4").click()
    expect(page.locator("[data-said]")).to_contain_text("What you wrote is still here.")
    page.unroute("**/versions")
    page.get_by_role("button", name="Save as version 4").click()
    page.wait_for_url(re.compile(f"/prompts/{NAME}/4"))
    assert house.services.prompts.get(f"{NAME}@4").content.few_shot is not None


def test_variants_stream_side_by_side_stop_and_can_be_shared(
    page: Page, gateway: tuple[FakeGateway, str]
) -> None:
    fake = gateway[0]
    page.goto(f"/playground/compare?variant=prompt:{NAME}@2")
    page.wait_for_selector("[data-compare][data-ready]")
    page.get_by_role("button", name="Add a variant").click()
    second = page.locator("[data-one]").nth(1)
    second.locator("[data-source]").select_option("")
    expect(second.locator("[data-text]")).to_have_count(1)
    second.locator("[data-model]").select_option("handbook")
    second.locator("[data-text]").fill("Is it {{ input }}, {{ really }}?")
    page.locator('[data-value="mail"]').fill("Where is it?")
    page.locator('[data-value="really"]').fill("really")
    page.select_option("[data-dataset]", ROWS)
    expect(page.locator("[data-place]")).to_have_text("1 of 6")
    page.get_by_role("button", name="Next case").click()
    expect(page.locator('[data-value="input"]')).to_have_value("Is a short nap at noon a good idea?")
    expect(page.locator("[data-expected]")).to_contain_text("Yes, if it is kept short.")
    seen = len(fake.seen)
    fake.release.clear()
    page.keyboard.press("Control+Enter")
    said = page.locator("[data-one] [data-said]")
    for number in (0, 1):  # both wait for their second half at once
        expect(said.nth(number)).to_have_text(ANSWER[:30])
    second.get_by_role("button", name="Stop").click()
    expect(second.locator("[data-bad]")).to_have_text("Stopped.")
    fake.release.set()
    expect(said.nth(0)).to_have_text(ANSWER)
    meta = page.locator("[data-one]").first.locator("[data-meta]")
    expect(meta).to_contain_text("412 tokens in, 18 out")
    expect(meta).to_contain_text("$0")
    expect(meta.locator("a")).to_have_attribute("href", f"/traces/{TRACE_ID}")
    asked = {body["model"]: body for body in fake.seen[seen:]}
    assert asked[f"prompt:{NAME}@2"]["prompt_variables"] == {"mail": "Where is it?"}
    assert asked["handbook"]["messages"][0]["content"] == "Is it Is a short nap at noon a good idea?, really?"
    second.get_by_role("button", name="Run").click()
    expect(said.nth(1)).to_have_text(ANSWER)
    assert len(fake.seen) == seen + 3
    shared = page.url
    page.goto("/prompts")
    page.goto(shared)
    page.wait_for_selector("[data-compare][data-ready]")
    expect(page.locator("[data-one]")).to_have_count(2)
    expect(page.locator('[data-value="mail"]')).to_have_value("Where is it?")
    expect(page.locator("[data-case-id]")).to_have_value("q001")
    expect(page.locator("[data-text]:visible")).to_have_value("Is it {{ input }}, {{ really }}?")


def test_a_variant_that_was_changed_is_saved_in_the_editor_and_then_evaluated(page: Page) -> None:
    page.goto(f"/playground/compare?variant=prompt:{NAME}-summary@1")
    page.wait_for_selector("[data-compare][data-ready]")
    page.locator("[data-summary]").click()
    page.locator("[data-text]:visible").fill("One line, please:\n{{ text }}")
    expect(page.locator("[data-changed]")).to_be_visible()
    page.get_by_role("button", name="Start evaluations").click()
    expect(page.locator("[data-evaluate-said]")).to_contain_text("A is not a saved version")
    page.get_by_role("button", name="Save as a version").click()
    page.wait_for_selector("[data-editor][data-ready]")
    expect(page.locator("[data-text]").first).to_have_value("One line, please:\n{{ text }}")
    page.get_by_role("button", name="Review").click()
    page.get_by_role("button", name="Save as version 2").click()
    page.wait_for_url(re.compile(f"/prompts/{NAME}-summary/2"))
    page.get_by_role("link", name="Try", exact=True).click()
    page.wait_for_selector("[data-compare][data-ready]")
    page.get_by_role("button", name="Start evaluations").click()
    expect(page.locator("[data-evaluate-said] a")).to_have_attribute("href", re.compile("/evaluations/eval_"))


@pytest.mark.parametrize(
    "path",
    [
        "/prompts",
        f"/prompts/{NAME}/3",
        f"/prompts/{NAME}/3?tab=render&go=1&v.mail=x",
        f"/prompts/{NAME}/3?tab=use",
        f"/prompts/{NAME}/3?tab=history",
        f"/prompts/{NAME}/diff?base=1&other=3",
        f"/prompts/{NAME}/edit",
        f"/playground/compare?variant=prompt:{NAME}@3",
    ],
)
def test_pages_fit_a_phone(page: Page, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(path)
    if page.query_selector("[data-editor], [data-compare]"):
        page.wait_for_selector("[data-ready]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1440, "height": 900})
