"""Every page, as a browser without JavaScript gets it."""

import re
from pathlib import Path

import pytest

from penstock.console import rendering
from penstock.console.pages.jobs import LOG_LIMIT
from penstock.console.rendering import NAVIGATION, asset_url, load_static
from penstock.jobs.queries import insert_log
from tests.console.conftest import make_app, sign_in
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import ANSWER, FAILED_TRACE_ID, QUESTION, TRACE_ID, Furnished

PAGES = [
    "/",
    "/?range=7d",
    "/traces",
    f"/traces/{TRACE_ID}",
    "/sessions?order=dearest",
    "/sessions/talk/0",
    "/users",
    "/users/ada",
    "/dashboards/overview?range=7d&compare=previous",
    "/dashboards/quality",
    "/dashboards/new?copy=latency",
    "/alerts",
    "/alerts/new",
    "/alerts/channels/new",
    "/record",
    "/privacy",
    "/playground",
    "/playground/compare",
    "/prompts",
    "/prompts/new",
    "/knowledge",
    "/knowledge/handbook",
    "/knowledge/handbook/search?q=sleep",
    "/knowledge/handbook/documents",
    "/knowledge/handbook/documents/sleep-basics.md",
    "/knowledge/handbook/sources",
    "/knowledge/handbook/quality",
    "/apps",
    "/app-new",
    "/assets",
    "/assets/model/pocket",
    "/assets/model/pocket/1",
    "/jobs",
    "/routes",
    "/cost",
    "/cost/advice",
    "/keys",
    "/limits",
    "/providers",
    "/secrets",
    "/prices",
    "/configuration",
    "/edit/route",
    "/edit/provider",
    "/edit/limit",
    "/-/patterns",
]
TEMPLATES = sorted((Path(__file__).parents[2] / "src/penstock/console/templates").glob("*.html"))
FOREIGN = re.compile(
    rb"""(?:src|href|action|url|import|from)\s*[=(]?\s*["'(]?\s*(?:https?:)?//(?!www\.w3\.org)"""
)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_whole_and_safe(visitor: AsgiClient, path: str) -> None:
    reply = visitor.get(path)
    assert reply.status == 200, reply.text
    assert reply.headers["content-type"].startswith("text/html")
    assert reply.headers["content-security-policy"].startswith("default-src 'self'")
    assert "<main" in reply.text
    assert reply.text.count("<h1") == 1
    assert re.search(r"<(?:script|style)(?![^>]*\bsrc=)[^>]*>", reply.text) is None
    assert re.search(r"\s(?:style|on[a-z]+)=[\"']", reply.text) is None
    assert FOREIGN.search(reply.body) is None


def test_browsers_keep_static_files_of_this_version_and_what_they_import(visitor: AsgiClient) -> None:
    page = visitor.get(f"/traces/{TRACE_ID}").text
    named = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert asset_url("trace-rows.js") in named
    folder = asset_url("trace.js").removesuffix("trace.js")
    assert {url.rpartition("/")[0] + "/" for url in named} == {folder}
    for name, body in load_static().items():
        imported = re.findall(rb'from "(\./|/)?([^"]+)"', body) if name.endswith(".js") else []
        assert all(place == b"./" for place, _ in imported), name  # so they come from the same folder
    assert "immutable" in visitor.get(asset_url("trace-rows.js")).headers["cache-control"]
    for other in ("/static/trace-rows.js", "/static/0123456789ab/trace-rows.js"):
        reply = visitor.get(other)
        assert (reply.status, reply.headers["cache-control"]) == (200, "no-cache")


def test_files_replaced_below_a_running_process_do_not_lend_their_name_to_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start() -> dict[str, bytes]:
        rendering.static_version.cache_clear()
        rendering.load_static.cache_clear()
        return rendering.load_static()

    (tmp_path / "static").mkdir()
    file = tmp_path / "static" / "trace.js"
    with monkeypatch.context() as patch:
        patch.setattr(rendering, "files", lambda _: tmp_path)
        file.write_text("old")
        kept = start()
        file.write_text("new")
        assert kept["trace.js"] == b"old"
        before = asset_url("trace.js")
        assert start()["trace.js"] == b"new"
        assert asset_url("trace.js") != before
    start()


def test_no_template_style_or_script_names_a_foreign_origin() -> None:
    assert len(TEMPLATES) > 12
    for path in TEMPLATES:
        assert FOREIGN.search(path.read_bytes()) is None, path.name
    for name, body in load_static().items():
        assert FOREIGN.search(body) is None, name
        assert b"eval(" not in body
        if name.endswith(".js"):
            assert len(body.splitlines()) <= 400, name


def test_colours_are_named_in_one_file_only() -> None:
    body = load_static()["console.css"].decode()
    assert re.search(r"#[0-9a-fA-F]{3,8}\b", body) is None


def test_every_navigation_entry_leads_to_a_page(visitor: AsgiClient) -> None:
    for _, items in NAVIGATION:
        for item in items:
            reply = visitor.get(item.href)
            assert reply.status == 200
            assert f'href="{item.href}" aria-current="page"' in reply.text


def test_the_overview_shows_calls_failures_money_and_latency(visitor: AsgiClient) -> None:
    text = visitor.get("/?range=24h").text
    for word in ("Traces", "Failed", "Cost", "Tokens", "p95", "First token".lower(), "calls without a price"):
        assert word in text
    assert "<svg" in text
    assert "handbook" in text
    assert "knowledge.ingest" in text
    assert "model calls have no known price" in text[: text.index("Newest traces")]


def test_what_keeps_the_installation_from_being_well_stands_on_top(furnished: Furnished) -> None:
    furnished.problems["collector"] = "the disk is full"
    client = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key)
    text = client.get("/").text
    assert text.index("the disk is full") < text.index('class="figures"')


def test_the_first_day_says_what_to_run(unfurnished: Furnished) -> None:
    client = sign_in(AsgiClient(make_app(unfurnished)), unfurnished.owner_key)
    for path in ("/", "/traces", "/knowledge", "/assets", "/jobs", "/playground"):
        reply = client.get(path)
        assert reply.status == 200
        assert re.search(r"<code>penstock \w+", reply.text), path


def test_traces_are_filtered_by_the_url_and_paged_by_cursor(visitor: AsgiClient) -> None:
    page = visitor.get("/traces?range=24h").text
    assert page.count('<td><a class="open"') == 50
    older = re.search(r'href="([^"]+)" rel="next"', page)
    assert older is not None
    second = visitor.get(older[1].replace("&amp;", "&")).text
    first_ids, second_ids = (set(re.findall(r"/traces/([0-9a-f]{32})", text)) for text in (page, second))
    assert len(first_ids | second_ids) == 62
    assert not first_ids & second_ids
    failed = visitor.get("/traces?range=24h&status=error").text
    assert FAILED_TRACE_ID in failed
    assert TRACE_ID not in failed
    assert 'class="chip mono" href="/traces?range=24h"' in failed


def test_a_wrong_filter_is_explained_on_the_page(visitor: AsgiClient) -> None:
    reply = visitor.get("/traces?min_duration_ms=soon")
    assert reply.status == 400
    assert "min_duration_ms" in reply.text
    assert "<form" in reply.text


def test_a_time_that_no_store_can_hold_is_explained_on_the_page(visitor: AsgiClient) -> None:
    reply = visitor.get(f"/traces?until_ns={10**50}")
    assert (reply.status, "until_ns" in reply.text) == (400, True)


def test_what_users_wrote_is_text_and_never_markup(visitor: AsgiClient) -> None:
    reply = visitor.get(f"/traces/{FAILED_TRACE_ID}")
    assert "<script>alert" not in reply.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in reply.text
    assert "PS-4503" in reply.text


def test_a_trace_shows_its_tree_versions_messages_and_citations(visitor: AsgiClient) -> None:
    text = visitor.get(f"/traces/{TRACE_ID}").text
    assert text.count("data-span=") == 4
    assert QUESTION in text
    assert ANSWER in text
    assert "sleep-basics.md" in text
    assert 'href="/assets/app/handbook/1"' in text
    assert "gateway overhead" in text


def test_a_span_is_selected_by_the_url(visitor: AsgiClient) -> None:
    page = visitor.get(f"/traces/{TRACE_ID}").text
    span_ids = re.findall(r'data-span="(\w+)"', page)
    chosen = visitor.get(f"/traces/{TRACE_ID}?span={span_ids[2]}").text
    assert re.search(rf'data-span="{span_ids[2]}" aria-current="true"', chosen)
    assert "penstock.retrieval.k" in chosen
    fragment = visitor.get(f"/traces/{TRACE_ID}/spans/{span_ids[2]}").text
    assert "<html" not in fragment
    assert "penstock.retrieval.k" in fragment
    assert visitor.get(f"/traces/{TRACE_ID}?span=ffff").status == 404


def test_an_asset_shows_versions_history_evidence_lineage_and_card(visitor: AsgiClient) -> None:
    text = visitor.get("/assets/model/pocket").text
    for word in (
        "Better on distractors",
        "max_abs_diff",
        "dataset:handbook-questions@1",
        "app:handbook@1",
        "<h4>Pocket</h4>",
    ):
        assert word in text, word


def test_a_job_shows_steps_log_error_and_retry(visitor: AsgiClient, house: Furnished) -> None:
    done = visitor.get(f"/jobs/{house.job_id}").text
    assert "69 files found" in done
    assert "parse" in done
    failed = visitor.get(f"/jobs/{house.failed_job_id}").text
    assert "Retry" in failed
    assert "asking the hub" in failed


def test_a_long_log_is_shown_from_its_end(furnished: Furnished) -> None:
    with furnished.engine.begin() as connection:
        for number in range(LOG_LIMIT + 5):
            insert_log(connection, furnished.job_id, at_ns=number, attempt=1, text=f"line {number};")
    text = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key).get(f"/jobs/{furnished.job_id}").text
    assert f"line {LOG_LIMIT + 4};" in text
    assert "line 5;" in text and "line 4;" not in text
    assert "The newest 1,000 lines" in text


def test_what_is_not_there_is_a_page_with_a_way_out(visitor: AsgiClient) -> None:
    for path in ("/nothing", "/traces/" + "0" * 32, "/assets/model/none", "/jobs/none", "/knowledge/none"):
        reply = visitor.get(path)
        assert reply.status == 404, path
        assert reply.headers["content-type"].startswith("text/html")
        assert 'href="/"' in reply.text
