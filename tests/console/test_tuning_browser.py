"""Runs of tuning in a real browser: curves grow by themselves, a chart is read with the keyboard, phones fit."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from penstock.base.clock import now_ns
from penstock.spec.tuning import RunEvent
from tests.console.conftest import make_app, serve
from tests.console.test_browser import CHROMIUM, browser, open_page
from tests.fixtures.adapted import DONE, RUNNING, Adapted, adapted

__all__ = ["adapted", "browser"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def url(adapted: Adapted) -> Iterator[str]:
    with serve(make_app(adapted.found)) as address:
        yield address


@pytest.fixture(scope="module")
def page(browser: Browser, adapted: Adapted, url: str) -> Iterator[Page]:
    shown = open_page(browser, url, adapted.found.owner_key, viewport={"width": 1440, "height": 900})
    yield shown
    shown.context.close()


def test_a_run_that_goes_on_is_drawn_anew_when_its_trainer_tells_more(page: Page, adapted: Adapted) -> None:
    page.goto(f"/tuning/{RUNNING}")
    page.locator("#sample-1 summary").click()
    runs = adapted.services.tuning
    assert runs is not None
    event = RunEvent(
        kind="sample",
        at_ns=now_ns(),
        step=80,
        text="A reply that came later.",
        detail={"prompt": "P", "reference": "R"},
    )
    path: Path = runs.folder(RUNNING).events
    with path.open("ab") as file:
        file.write(msgspec.json.encode(event) + b"\n")
    expect(page.get_by_text("A reply that came later.")).to_be_visible()
    expect(page.locator("#sample-1")).to_have_attribute("open", "")


def test_a_curve_is_read_with_the_arrow_keys(page: Page) -> None:
    page.goto(f"/tuning/{DONE}")
    page.locator(".plot-box").first.focus()
    page.keyboard.press("End")
    expect(page.locator(".plot-tip").first).to_contain_text("at step 200")


@pytest.mark.parametrize(
    "path",
    [
        "/tuning",
        f"/tuning/{DONE}",
        f"/tuning/compare?ids={DONE},{RUNNING}",
        "/tuning/new",
        "/models",
        "/models/small/3",
        "/deployments",
        "/deployments/pocket-candidate",
        "/deployments-new",
        "/load-tests",
        "/load-tests/new",
    ],
)
def test_pages_fit_a_phone(browser: Browser, adapted: Adapted, url: str, path: str) -> None:
    shown = open_page(browser, url, adapted.found.owner_key, viewport={"width": 390, "height": 800})
    shown.goto(path)
    assert shown.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    shown.context.close()
