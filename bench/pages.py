"""How soon pages of traces stand in a browser, over a million spans.

    python bench/pages.py [--spans 1000000] [--only NAME ...] [--pictures FOLDER]

A home is filled as `bench/fill.py` does (four minutes a million; PAGES_HOME names one that is filled and does not run, which
is used as it is), `penstock control` serves it, and Chromium opens each page once to warm up and `ROUNDS` times more,
on a machine with nothing pinned: server and browser share its cores, as on a laptop. Milliseconds from the click: `server` until
the first byte of the page, `paint` until something is drawn, `there` until the rows (or curves) that the page is for are in
the document, all of which was read, and a frame was drawn with them; `later` until what the page asks for by itself afterwards is, too. `processor`
is what the control process spent on one opening, all threads together: what other work on the machine does not change. The
floor is the same with a page that asks the store nothing (`floor`). Median of the rounds, and the slowest `there`.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Page, sync_playwright

from fill import S, fill
from penstock.spec.home import Home
from penstock.store.spans.duckdb import DuckDBSpanStore
from record import record_result
from stage import children, free_port, wait_for

ROUNDS = 5
PATIENCE_MS = 30_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-sync",
    "--no-first-run",
]
WATCH = """([there, later]) => {
  const look = () => {
    for (const [name, found] of [["there", there], ["later", later]]) {
      if (!found || name in seen || document.readyState === "loading" || !document.querySelector(found)) continue;
      seen[name] = 0;
      requestAnimationFrame(() => { const told = new MessageChannel(); told.port1.onmessage = () => { seen[name] = performance.now(); }; told.port2.postMessage(0); });
    }
  };
  const seen = (window.benchSeen = {});
  document.addEventListener("readystatechange", look);
  new MutationObserver(look).observe(document, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-ready", "data-is-filled"] });
}"""
"""Run before the page's own scripts. A task behind a frame's callbacks runs when the frame is drawn."""
READ = """() => {
  const [page] = performance.getEntriesByType("navigation");
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  return { server: page.responseStart - page.requestStart, paint: paint ? paint.startTime : null, ...window.benchSeen };
}"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One page: its path, what must be in the document when it stands, and what comes afterwards by itself."""

    path: str
    there: str
    later: str = ""


def describe_store(path: Path) -> dict[str, Any]:
    """Return how many spans there are, and in the two traces that pages call 50,000 and 10,000."""
    store = DuckDBSpanStore(path, read_only=True)
    with store.file.cursor() as cursor:
        n_spans = cursor.execute("SELECT count(*) FROM spans").fetchall()[0][0]
        largest = cursor.execute("SELECT n_spans FROM traces ORDER BY n_spans DESC LIMIT 2").fetchall()
    store.close()
    return {"n_spans": n_spans, "largest_traces": [row[0] for row in largest]}


def name_places(path: Path) -> dict[str, Place]:
    """Return the pages to open, by name; the store at `path` says which traces are large."""
    store = DuckDBSpanStore(path)
    with store.file.cursor() as cursor:
        rows = cursor.execute("SELECT trace_id FROM traces ORDER BY n_spans DESC LIMIT 2").fetchall()
        small = cursor.execute("SELECT trace_id FROM traces WHERE n_spans = 5 ORDER BY start_ns DESC LIMIT 2")
        twins = [str(row[0]).replace("-", "") for row in small.fetchall()]
        talk = cursor.execute(
            "SELECT session_id FROM traces WHERE session_id IS NOT NULL AND project = 'default' GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"
        ).fetchall()[0][0]
        user = cursor.execute(
            "SELECT user_id FROM traces WHERE user_id IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"
        ).fetchall()[0][0]
    store.close()
    big = [str(row[0]).replace("-", "") for row in rows]
    rows_of, strip = "[data-list] tbody tr", "[data-strip] figure"
    searches = {
        "search_fields": "model:gpt-4o status:error duration>2s",
        "search_structure": "any(kind:retrieval passages=0)",
        "search_common_word": "refund",
        "search_rare_word": "zanzibar",
        "search_absent_word": "zqxj",
    }
    return {
        "floor": Place(path="/-/patterns", there="main section"),
        "list": Place(path="/traces?range=all", there=rows_of, later=strip),
        "list_slowest": Place(path="/traces?range=all&order=slowest", there=rows_of, later=strip),
        "list_of_spans": Place(path="/traces?range=all&view=spans", there=rows_of, later=strip),
        **{
            name: Place(
                path=f"/traces?range=all&q={quote(text)}",
                there="section.empty" if text == "zqxj" else rows_of,
                later=strip,
            )
            for name, text in searches.items()
        },
        "trace_5_spans": Place(path=f"/traces/{twins[0]}", there="[data-ready]"),
        "trace_10000_spans": Place(path=f"/traces/{big[1]}", there="[data-ready]", later="[data-span-id]"),
        "trace_50000_spans": Place(path=f"/traces/{big[0]}", there="[data-ready]", later="[data-span-id]"),
        "trace_10000_timeline": Place(path=f"/traces/{big[1]}?view=timeline", there="[data-ready]"),
        "trace_10000_messages": Place(path=f"/traces/{big[1]}?view=messages", there="[data-messages] .call"),
        "trace_diff": Place(path=f"/traces/diff?a={twins[0]}&b={twins[1]}", there="main table tbody tr"),
        "sessions": Place(path="/sessions?range=all", there="main table tbody tr"),
        "session": Place(path=f"/sessions/{talk}", there=".exchange"),
        "users": Place(path="/users?range=all", there="main table tbody tr"),
        "user": Place(path=f"/users/{user}?range=all", there="main table tbody tr"),
        "overview_month": Place(path="/?range=30d", there="main figure.plot-panel"),
        **{
            f"dashboard_{name}": Place(path=f"/dashboards/{name}?range=30d", there=".panel-card")
            for name in ("overview", "latency", "cost", "quality", "errors", "cache")
        },
        "dashboard_before": Place(
            path="/dashboards/overview?range=30d&compare=previous", there=".panel-card"
        ),
        "alerts": Place(path="/alerts", there="main section"),
        "record": Place(path="/record", there="main .record"),
        "cost": Place(path="/cost?range=30d", there="main table tbody tr"),
    }


@contextmanager
def serve(home: Path, log: Path) -> Iterator[tuple[str, int]]:
    """Yield address and process id of a control process on `home`."""
    port = free_port()
    command = [sys.executable, "-m", "penstock.cli", "control", "--home", str(home), "--port", str(port)]
    with children({"control": (0, command, {})}, log) as running:
        os.sched_setaffinity(running["control"].pid, os.sched_getaffinity(0))
        wait_for(port, 60)
        yield f"http://127.0.0.1:{port}", running["control"].pid


def processor_ms(pid: int) -> float:
    """Return what a process has spent so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def open_place(page: Page, url: str, place: Place) -> dict[str, float | None]:
    """Open a page once; return its times in milliseconds."""
    page.goto(url + place.path, wait_until="commit", timeout=PATIENCE_MS)
    wanted = "later" if place.later else "there"
    page.wait_for_function(f"() => window.benchSeen?.{wanted} > 0", timeout=PATIENCE_MS)
    page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length")
    found: dict[str, float | None] = page.evaluate(READ)
    return found


def measure(page: Page, url: str, pid: int, place: Place) -> dict[str, float | None]:
    """Open a page `ROUNDS` times after once; return medians and the slowest."""
    open_place(page, url, place)
    spent = processor_ms(pid)
    rounds = [open_place(page, url, place) for _ in range(ROUNDS)]
    told: dict[str, float | None] = {}
    for name in ("server", "paint", "there", "later"):
        known = [each[name] for each in rounds if each.get(name) is not None]
        if known:
            told[f"{name}_ms"] = round(statistics.median(known), 1)
    told["processor_ms"] = round((processor_ms(pid) - spent) / ROUNDS, 1)
    told["slowest_there_ms"] = round(max(each["there"] or 0 for each in rounds), 1)
    return told


def measure_all(
    url: str, pid: int, key: str, places: Mapping[str, Place], browser: str, pictures: Path | None
) -> dict[str, dict[str, float | None]]:
    """Return, and print, what each page takes; take a picture of each where a folder is given."""
    results = {}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=FLAGS)
        context = chromium.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.goto(f"{url}/signin")
        page.fill('input[name="key"]', key)
        page.click("main button")
        page.wait_for_selector("h1")
        print(f"{'':24}{'server':>9}{'paint':>9}{'there':>9}{'slowest':>9}{'later':>9}{'processor':>11}")
        for name, place in places.items():
            own = context.new_page()
            own.add_init_script(f"({WATCH})({[place.there, place.later]!r})")
            results[name] = told = measure(own, url, pid, place)
            if pictures is not None:
                own.screenshot(path=str(pictures / f"{name}.png"))
            own.close()
            columns = ("server_ms", "paint_ms", "there_ms", "slowest_there_ms", "later_ms", "processor_ms")
            print(f"{name:24}" + "".join(f"{told.get(column) or '':>9}" for column in columns), flush=True)
        chromium.close()
    return results


def main() -> None:
    """Fill or take a home, serve it, measure and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--pictures", type=Path, default=None)
    parser.add_argument("--browser", default=shutil.which("chromium") or "/usr/bin/chromium")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        home = Home(root=Path(os.environ.get("PAGES_HOME") or Path(name) / "home"))
        home.root.mkdir(parents=True, exist_ok=True)
        if not home.span_db.is_file():
            fill(home.span_db, options.spans, until_ns=int(time.time()) * S, says=True)
        stored = describe_store(home.span_db)
        places = name_places(home.span_db)
        chosen = {key: place for key, place in places.items() if not options.only or key in options.only}
        with serve(home.root, Path(name) / "control.log") as (url, pid):
            for _ in range(200):
                if home.admin_key.is_file():
                    break
                time.sleep(0.1)
            if options.pictures is not None:
                options.pictures.mkdir(parents=True, exist_ok=True)
            pages: dict[str, Any] = measure_all(
                url, pid, home.admin_key.read_text().strip(), chosen, options.browser, options.pictures
            )
        size = home.span_db.stat().st_size
    record_result(
        "pages",
        {**stored, "stored_mb": round(size / 1e6), "rounds": ROUNDS, "pages": pages},
        packages=("duckdb", "starlette", "jinja2", "playwright"),
    )


if __name__ == "__main__":
    main()
