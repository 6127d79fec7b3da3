"""Load tests as pages: the list, a report with its charts, two side by side, and the form that plans before it starts."""

import pytest

from penstock.console.load_charts import draw_calls, draw_counts, draw_seconds
from penstock.console.pages.load_tests import read_form
from tests.console.conftest import make_app, sign_in
from tests.console.test_dashboard_pages import form_token
from tests.console.test_evaluation_pages import text_of
from tests.fixtures.adapted import Adapted, adapted
from tests.fixtures.asgi import AsgiClient

__all__ = ["adapted"]


@pytest.fixture(scope="module")
def client(adapted: Adapted) -> AsgiClient:
    return sign_in(AsgiClient(make_app(adapted.found)), adapted.found.owner_key)


def test_the_list_says_verdict_and_figures_and_is_narrowed(client: AsgiClient) -> None:
    reply = client.get("/load-tests")
    assert reply.status == 200
    assert text_of(reply.text).count("poisson at 6/s") >= 2
    assert reply.text.count('name="ids"') == 2
    assert "Nothing matches" in client.get("/load-tests?route=nobody").text
    assert "style=" not in reply.text


def test_a_report_tells_limits_figures_charts_and_how_it_was_measured(
    client: AsgiClient, adapted: Adapted
) -> None:
    reply = client.get(f"/load-tests/{adapted.load_id}")
    text = text_of(reply.text)
    for part in (
        "ttft.p95 &lt;= 300ms",
        "What pocket came to",
        "time to first token",
        "calls in the highest bar",
        "Median time of calls",
        "Whole reply by its tokens",
        "Open loop: calls were sent when they were due",
    ):
        assert part in text, part
    assert f"/sessions/loadtest:{adapted.load_id}" in reply.text
    assert "style=" not in reply.text
    assert client.get("/load-tests/nothing").status == 404


def test_two_tests_lie_side_by_side_and_are_told_to_be_two_runs(client: AsgiClient, adapted: Adapted) -> None:
    reply = client.get(f"/load-tests/compare?ids={adapted.slow_load_id}&ids={adapted.load_id}")
    text = text_of(reply.text)
    assert "These are two runs" in text
    assert "time to first token, p95" in text
    assert client.get(f"/load-tests/compare?ids={adapted.load_id}").status == 400


def test_a_test_is_planned_first_and_started_with_the_token(client: AsgiClient, adapted: Adapted) -> None:
    form = {"route": "pocket", "shape": "constant", "rate": "2", "seconds": "5", "completion": "8-16"}
    assert client.post_form("/load-tests/new", form).status == 403
    form["csrf_token"] = form_token(client, "/load-tests/new")
    planned = client.post_form("/load-tests/new", form | {"step": "plan"})
    assert "What it would do" in planned.text
    assert 'value="8-16"' in planned.text
    reply = client.post_form("/load-tests/new", form | {"step": "start"})
    test_id = reply.headers["location"].removeprefix("/load-tests/")
    assert adapted.work.tests[-1] == test_id
    assert "It waits for its turn" in client.get(f"/load-tests/{test_id}").text
    client.post_form(f"/load-tests/{test_id}/stop", {"csrf_token": form["csrf_token"]})
    reply = client.post_form(f"/load-tests/{test_id}/delete", {"csrf_token": form["csrf_token"]})
    assert reply.headers["location"].startswith("/load-tests?notice=Deleted")


def test_an_unknown_route_is_told_beside_what_was_typed(client: AsgiClient) -> None:
    token = {"csrf_token": form_token(client, "/load-tests/new")}
    reply = client.post_form("/load-tests/new", token | {"route": "pockett", "step": "plan"})
    assert reply.status == 400
    assert "Did you mean" in reply.text
    assert 'value="pockett"' in reply.text


def test_a_form_reads_like_a_file() -> None:
    form = {
        "route": "a",
        "shape": "closed",
        "concurrency": "4",
        "prompt": "50-100",
        "limits": "e2e <= 1s\r\n\n",
    }
    assert read_form(form) == {
        "route": "a",
        "shape": {"kind": "closed", "concurrency": "4"},
        "mix": [{"prompt_tokens": ["50", "100"]}],
        "limits": ["e2e <= 1s"],
    }


def test_targets_share_each_place_of_a_histogram() -> None:
    chart = draw_counts({"edges_ms": [1, 10, 100], "counts": {"a": [1, 3], "b": [2, 0]}}, title="First token")
    assert chart is not None
    assert [(bar.x, bar.tone) for bar in chart.bars] == [(0.0, "1"), (50.0, "1"), (25.0, "2")]
    assert chart.bars[1].height == 100
    assert draw_counts({"edges_ms": [], "counts": {}}, title="") is None


def test_nothing_is_drawn_of_nothing_and_gaps_stay_gaps() -> None:
    assert draw_calls([]) is None
    assert draw_seconds({}, (("ended", "ended", "1"),), title="", unit="ms") is None
    series = {"second": [0, 1, 2, 3], "ended": [1, 2, None, 4]}
    plot = draw_seconds(series, (("ended", "ended", "1"),), title="Calls", unit="count")
    assert plot is not None
    assert plot.lines[0].path.count("M") == 2
