"""Pictures of a running console: every page in light at 1440 pixels, and samples in dark and at 390 pixels.

    python docs/screenshot.py --url http://127.0.0.1:4601 --key "$(cat HOME/admin.key)" --out docs/images

Needs playwright, Pillow and a Chromium on the machine (`--browser`). Pages without content are skipped and named.
"""

import argparse
import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

MAX_BYTES = 200_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-sync",
    "--disable-component-update",
    "--no-first-run",
]
WIDE, NARROW = 1440, 390
DARK = (
    "overview",
    "traces",
    "trace",
    "dashboard",
    "playground",
    "route",
    "evaluation",
    "compare",
    "gate",
    "dataset",
    "knowledge-two",
    "quality",
    "run",
    "model",
    "deployment",
    "load-test",
)
SMALL = (
    *("overview", "traces", "trace", "session", "dashboard", "alert", "playground", "asset", "cost"),
    *("evaluation", "compare", "gate", "dataset", "prompt"),
    *("base", "document", "knowledge", "quality"),
    *("runs", "run", "models", "model", "deployments", "deployment", "load-tests", "load-test"),
)


@contextmanager
def open_browser(path: str) -> Iterator[Any]:
    """Yield a Chromium without window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def sign_in(page: Page, url: str, key: str) -> None:
    """Sign in with the owner's key."""
    page.goto(f"{url}/signin")
    page.fill('input[name="key"]', key)
    page.click("main button")
    page.wait_for_selector("h1")


def first_link(page: Page, url: str, path: str, pattern: str) -> str | None:
    """Return the first row's link on a list page, None when the list is empty."""
    page.goto(url + path)
    links = [link.get_attribute("href") or "" for link in page.query_selector_all("main a.open")]
    return next((link for link in links if re.search(pattern, link)), None)


def edit_of(version: str | None) -> str | None:
    """Return the editor of the prompt whose version a link leads to."""
    return version and re.sub(r"/(\d+)$", r"/edit?version=\1", version)


def find_trace(page: Page, url: str) -> str | None:
    """Return a trace worth a picture: the newest grounded one, else any."""
    return first_link(page, url, "/traces?range=all&route=handbook&status=ok", r"^/traces/") or first_link(
        page, url, "/traces?range=all", r"^/traces/"
    )


def find_compared(page: Page, url: str) -> tuple[str, str] | None:
    """Return the evaluations of baseline and candidate that the newest verdict rests on, None without one."""
    gate = first_link(page, url, "/gates", r"^/gates/")
    if gate is None:
        return None
    page.goto(url + gate)
    links = [link.get_attribute("href") or "" for link in page.query_selector_all("main a[href]")]
    found = [re.fullmatch(r"/evaluations/(eval_\w+)", link) for link in links]
    ids = list(dict.fromkeys(each[1] for each in found if each))
    return (ids[1], ids[0]) if len(ids) > 1 else None


def find_tuned(page: Page, url: str) -> str | None:
    """Return the page of the version that the newest run has registered, None without one."""
    run = first_link(page, url, "/tuning", r"^/tuning/run_")
    if run is None:
        return None
    page.goto(url + run)
    link = page.query_selector("main a.button[href^='/models/']")
    return link.get_attribute("href") if link else None


def find_pages(page: Page, url: str, question: str) -> dict[str, str | None]:
    """Return name and path of every page; None where there is nothing to show."""
    base = first_link(page, url, "/knowledge", r"^/knowledge/")
    trace = find_trace(page, url)
    evaluations = find_compared(page, url)
    return {
        "overview": "/?range=24h",
        "traces": "/traces?range=all",
        "sessions": "/sessions?range=all",
        "session": first_link(page, url, "/sessions?range=all&order=longest", r"^/sessions/"),
        "users": "/users?range=all",
        "dashboard": "/dashboards/overview?range=24h&compare=previous",
        "alerts": "/alerts",
        "alert": first_link(page, url, "/alerts", r"^/alerts/"),
        "record": "/record",
        "trace": trace,
        "trace-timeline": f"{trace}?view=timeline" if trace else None,
        "trace-messages": f"{trace}?view=messages" if trace else None,
        "trace-diff": f"/traces/diff?a={trace.removeprefix('/traces/')}" if trace else None,
        "playground": "/playground",
        "prompt-edit": edit_of(first_link(page, url, "/prompts", r"^/prompts/")),
        "playground-compare": "/playground/compare",
        "prompts": "/prompts",
        "prompt": first_link(page, url, "/prompts", r"^/prompts/"),
        "datasets": "/datasets",
        "dataset": first_link(page, url, "/datasets", r"^/datasets/"),
        "evaluations": "/evaluations",
        "evaluation": f"/evaluations/{evaluations[1]}" if evaluations else None,
        "compare": f"/evaluations/compare?a={evaluations[0]}&b={evaluations[1]}" if evaluations else None,
        "experiments": "/experiments",
        "experiment": first_link(page, url, "/experiments", r"^/experiments/"),
        "gates": "/gates",
        "gate": first_link(page, url, "/gates", r"^/gates/"),
        "judges": "/judges",
        "bases": "/knowledge",
        "base": base,
        "documents": f"{base}/documents" if base else None,
        "document": base and first_link(page, url, f"{base}/documents?text=sleep", r"/documents/"),
        "sources": f"{base}/sources" if base else None,
        "knowledge": f"{base}/search?q={question.replace(' ', '+')}" if base else None,
        "knowledge-two": f"{base}/search?q={question.replace(' ', '+')}&settings=fusion%3Dlexical"
        if base
        else None,
        "quality": f"{base}/quality" if base else None,
        "apps": "/apps",
        "app": first_link(page, url, "/apps", r"^/apps/"),
        "assets": "/assets",
        "asset": first_link(page, url, "/assets", r"^/assets/model/pocket")
        or first_link(page, url, "/assets", r"^/assets/"),
        "runs": "/tuning",
        "run": first_link(page, url, "/tuning", r"^/tuning/"),
        "run-new": "/tuning/new",
        "models": "/models",
        "model": find_tuned(page, url) or first_link(page, url, "/models", r"^/models/"),
        "deployments": "/deployments",
        "deployment": first_link(page, url, "/deployments", r"^/deployments/"),
        "deployment-new": "/deployments-new",
        "load-tests": "/load-tests",
        "load-test": first_link(page, url, "/load-tests", r"^/load-tests/"),
        "load-test-new": "/load-tests/new",
        "jobs": "/jobs",
        "routes": "/routes",
        "route": first_link(page, url, "/routes", r"^/routes/"),
        "providers": "/providers",
        "edit": "/edit/route",
        "configuration": "/configuration",
        "cost": "/cost?range=30d",
        "keys": "/keys",
        "limits": "/limits",
        "patterns": "/-/patterns",
    }


def ask(page: Page, question: str) -> None:
    """Ask in the playground and wait for the answer with its cost."""
    if not page.query_selector("[data-ask]"):
        return
    page.fill('textarea[name="user"]', question)
    page.click("[data-send]")
    page.wait_for_selector(".meta", timeout=60_000)
    page.wait_for_function(
        "() => !document.querySelector('.meta').textContent.includes('cost …')", timeout=15_000
    )


def take(page: Page, path: Path) -> None:
    """Save one picture, of one screen, in 200 colours, within the size limit."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(200, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path} {size / 1000:.0f} KB")
    if size > MAX_BYTES:
        sys.exit(f"{path} is over {MAX_BYTES / 1000:.0f} KB")


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:4601")
    parser.add_argument("--key", required=True, help="the owner's key")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--question", default="How many hours of sleep do most adults need?")
    parser.add_argument("--only", nargs="*", default=[], help="names of pages; all of them unless told")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with open_browser(options.browser) as browser:
        for theme, width in (("light", WIDE), ("dark", WIDE), ("light", NARROW)):
            height = 900 if width == WIDE else 844
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
            page = context.new_page()
            sign_in(page, options.url, options.key)
            pages = find_pages(page, options.url, options.question)
            wanted = DARK if theme == "dark" else (SMALL if width == NARROW else tuple(pages))
            for name in (each for each in wanted if each in options.only or not options.only):
                where = pages[name]
                if where is None:
                    print(f"{name}: nothing to show yet", file=sys.stderr)
                    continue
                page.goto(options.url + where)
                if page.query_selector("[data-trace]"):
                    page.wait_for_selector("[data-ready]", state="attached")
                if name == "playground":
                    ask(page, options.question)
                suffix = "-dark" if theme == "dark" else ("-narrow" if width == NARROW else "")
                take(page, options.out / f"{name}{suffix}.png")
            context.close()


if __name__ == "__main__":
    main()
