"""The list of traces: one search in the URL, columns, orders, views, and what stands around it."""

import html
import re

import pytest

from penstock.base.clock import now_ns
from penstock.console.pages.traces import EXAMPLES, build_lines
from penstock.console.queries import build_chips, clause, read_search, toggle
from penstock.console.trace_columns import COLUMNS, DEFAULTS, choose_columns
from penstock.spec.search import Compare
from penstock.store.spans.types import TraceRow
from penstock.traces.search import parse
from penstock.traces.views import SPAN_COLUMNS, TRACE_COLUMNS
from tests.console.conftest import make_app, sign_in
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import FAILED_TRACE_ID, TRACE_ID, Furnished
from tests.fixtures.spans import make_span


def test_single_filters_of_links_become_part_of_the_search() -> None:
    found = read_search({"q": "duration>2s", "status": "error", "user_id": "ada lovelace"}, "trace")
    assert found.text == 'duration>2s status:error user:"ada lovelace"'
    assert read_search({"q": "duration>2s"}, "trace").text == "duration>2s"


def test_what_cannot_be_read_is_kept_and_its_fault_cut_out() -> None:
    found = read_search({"q": "status:error modle:gpt"}, "trace")
    assert found.text == "status:error modle:gpt"
    assert found.problem is not None
    problem = found.problem
    assert problem.before + problem.fault + problem.after == "status:error modle:gpt"
    assert problem.fault == "modle"


def test_each_part_has_a_chip_that_takes_it_away() -> None:
    condition = parse("status:error (model:a OR model:b) slow")
    chips = build_chips("/traces", {"q": "old", "range": "7d"}, condition)
    assert [chip.text for chip in chips] == ["status:error", "model:a OR model:b", "slow"]
    assert chips[0].href == "/traces?q=%28model%3Aa+OR+model%3Ab%29+slow&range=7d"


def test_a_value_is_added_once_and_taken_away_again() -> None:
    part = Compare(field="model", operator="=", value="gpt 4")
    once = toggle(parse("status:error"), part)
    assert once == 'status:error model:"gpt 4"'
    assert toggle(parse(once), part) == "status:error"
    assert toggle(parse(""), part) == clause("model", "gpt 4")


def test_columns_can_be_kept_in_views_and_come_as_they_are_named() -> None:
    for view, known in (("traces", TRACE_COLUMNS), ("spans", SPAN_COLUMNS)):
        names = [column.name for column in COLUMNS[view]]  # type: ignore[index]
        assert set(names) - {"asked"} <= set(known)
        assert set(DEFAULTS[view]) <= set(names)  # type: ignore[index]
    chosen = choose_columns("traces", ["start_ns", "nonsense", "model", "model"])
    assert [column.name for column in chosen] == ["asked", "start_ns", "model"]


def test_the_page_searches_and_points_at_faults(visitor: AsgiClient) -> None:
    page = visitor.get("/traces?range=24h&q=status%3Aerror")
    assert page.status == 200
    assert FAILED_TRACE_ID in page.text
    assert TRACE_ID not in page.text
    wrong = visitor.get("/traces?q=status%3Aerror%20modle%3Agpt")
    assert wrong.status == 400
    assert "status:error <mark>modle</mark>:gpt" in wrong.text
    assert 'value="status:error modle:gpt"' in wrong.text
    assert "Did you mean" in wrong.text


@pytest.mark.parametrize("path", ["/traces?view=spans", "/traces?view=spans&order=slowest&cols=kind,span_id"])
def test_spans_are_listed_and_lead_into_their_trace(visitor: AsgiClient, path: str) -> None:
    text = visitor.get(path).text
    assert re.search(r'href="/traces/[0-9a-f]{32}\?span=[0-9a-f]{16}"', text)
    assert "<h1>Spans</h1>" in text


def test_every_column_can_be_shown_and_orders_are_links(visitor: AsgiClient) -> None:
    for view, columns in COLUMNS.items():
        names = ",".join(column.name for column in columns)
        text = visitor.get(f"/traces?view={view}&cols={names}").text
        for column in columns:
            assert column.label in text
    text = visitor.get("/traces?order=dearest").text
    assert 'aria-sort="descending"><a href="/traces?order=dearest"' in text


def test_what_is_shown_now_is_kept_as_a_view_and_forgotten_again(furnished: Furnished) -> None:
    client = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key)
    page = client.get("/traces?q=status%3Aerror&cols=asked,model&order=slowest&range=7d").text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert token is not None
    fields = {"csrf_token": token[1], "name": "slow failures", "q": "status:error", "cols": "asked,model"}
    kept = client.post_form("/traces/views", {**fields, "order": "slowest", "next": "/traces?range=7d"})
    assert kept.status == 303
    assert kept.headers["location"].startswith("/traces?range=7d&notice=Saved")
    assert furnished.services.views.get("slow failures").columns == ("model",)
    shown = html.unescape(client.get("/traces?range=7d").text)
    assert 'href="/traces?q=status%3Aerror&cols=model&order=slowest&range=7d"' in shown
    gone = client.post_form("/traces/views/delete", {"csrf_token": token[1], "name": "slow failures"})
    assert gone.status == 303
    assert furnished.services.views.list() == []
    refused = client.post_form("/traces/views", {"name": "x", "q": "status:error"})
    assert refused.status == 403


def test_a_saved_form_never_leads_elsewhere(furnished: Furnished) -> None:
    client = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key)
    token = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/traces").text)
    assert token is not None
    kept = client.post_form(
        "/traces/views", {"csrf_token": token[1], "name": "x", "next": "https://evil.example/traces?a=1"}
    )
    assert kept.headers["location"].startswith("/traces?a=1&notice=")


def test_the_strip_and_the_values_follow_search_and_window(visitor: AsgiClient) -> None:
    strip = visitor.get("/traces/strip?range=24h")
    assert strip.status == 200
    assert "62 traces, 5 failed" in strip.text
    assert "data-plot=" in strip.text
    only = visitor.get("/traces/strip?range=all&q=status%3Aerror").text
    assert "5 traces, 5 failed" in only
    facets = html.unescape(visitor.get("/traces/facets?range=24h&q=status%3Aok").text)
    assert 'href="/traces?range=24h" aria-current="true"' in facets
    assert 'href="/traces?q=status%3Aok+route%3Ahandbook&range=24h"' in facets
    assert visitor.get("/traces/strip?q=modle%3Ax").status == 400


def test_models_below_the_root_are_shown_and_can_be_narrowed_to(furnished: Furnished) -> None:
    start_ns = now_ns() - 60_000_000_000
    root = make_span(1, trace=77, name="request", kind="chain", start_ns=start_ns, end_ns=start_ns + 9)
    calls = [
        make_span(
            number,
            trace=77,
            parent_id=root.span_id,
            kind="llm",
            model=model,
            status="error",
            start_ns=start_ns,
            end_ns=start_ns,
        )
        for number, model in ((2, "gpt-4o"), (3, "gpt-4o-mini"))
    ]
    furnished.spans.append([root, *calls])
    client = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key)
    facets = client.get("/traces/facets?range=24h").text
    assert '<span class="facet-name">gpt-4o</span>' in facets
    assert '<span class="facet-name">gpt-4o-mini</span>' in facets
    row = client.get("/traces?range=24h&q=name%3Arequest&cols=name,route,model").text.partition("data-rows>")[
        2
    ]
    assert '<td class="mid">request</td>' in row
    strip = client.get("/traces/strip?range=24h&q=name%3Arequest").text
    assert "1 traces, none failed as a whole, 1 with failed steps" in strip
    assert '<td class="wide mid">–</td>' in row  # it came through no route
    assert 'gpt-4o <span class="faint" title="gpt-4o, gpt-4o-mini">+1</span>' in row


def test_one_very_long_trace_does_not_make_specks_of_all_other_bars() -> None:
    def bars(*durations: float | None) -> list[float]:
        rows = [
            TraceRow(
                trace_id="a", name="x", kind="llm", status="ok", start_ns=0, n_spans=1, duration_ms=duration
            )
            for duration in durations
        ]
        return [line.bar_pct for line in build_lines(rows)]

    assert bars(10.0, 20.0, 30.0, 40.0) == [25.0, 50.0, 75.0, 100.0]
    assert min(bars(10.0, 10.0, 10.0, 10.0, 5000.0)) > 30
    assert bars(None, 0.0) == [0.0, 0.0]


def test_a_search_is_checked_while_it_is_typed(visitor: AsgiClient) -> None:
    assert visitor.get("/traces/check?q=status%3Aerror").json() == {"problem": None}
    problem = visitor.get("/traces/check?q=duration%3Esoon").json()["problem"]
    assert problem["before"] == "duration>"
    assert problem["message"]


def test_new_rows_come_as_rows_alone(visitor: AsgiClient) -> None:
    text = visitor.get("/traces/rows?range=24h&q=status%3Aerror").text
    assert len(re.findall(r'<tr data-id="[0-9a-f]{32}"', text)) == 5
    assert "<main" not in text
    page = visitor.get("/traces?order=dearest").text
    assert "data-live-rows" not in page


def test_the_examples_can_be_read_and_stand_where_nothing_was_found(visitor: AsgiClient) -> None:
    for view, examples in EXAMPLES.items():
        for text, _ in examples:
            assert read_search({"q": text}, "span" if view == "spans" else "trace").problem is None, text
    page = visitor.get("/traces?q=status%3Aerror%20model%3Anobody").text
    assert "Nothing matches" in page
    assert "Searches like these work" in page


BIG = 2**63 - 1
ODD = [
    "/traces?since_ns=9&until_ns=3",
    "/traces/strip?since_ns=9&until_ns=3",
    f"/traces/strip?since_ns=0&until_ns={BIG}",
    "/traces/facets?since_ns=5&until_ns=5",
    "/traces?order=slowest&cursor=WyJuZXdlc3QiLCIxIiwiMiJd",
    "/traces?q=%00",
    "/traces?q=" + "(" * 100,
    "/traces?cols=" + "x," * 500,
    "/traces?from=junk&to=2026-99-99",
    "/traces/rows?q=%22",
    "/sessions?cursor=%FF",
    "/users?cursor=bm8",
    "/users/ada?since_ns=9&until_ns=3",
    f"/dashboards/overview?since_ns=0&until_ns={BIG}",
    "/dashboards/cost?since_ns=9&until_ns=3&compare=week",
    "/alerts/new?measure=%3Cb%3E&where=%22",
]


@pytest.mark.parametrize("path", ODD)
def test_nothing_that_a_url_can_hold_breaks_a_page(visitor: AsgiClient, path: str) -> None:
    reply = visitor.get(path)
    assert reply.status in {200, 400}, (reply.status, path)
    assert "Something broke here" not in reply.text
