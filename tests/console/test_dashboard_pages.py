"""Dashboards as pages: filled, narrowed, compared, zoomed into, and made by people."""

import html
import json
import re

from tests.console.conftest import make_app, sign_in
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished


def form_token(client: AsgiClient, path: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(path).text)
    assert found is not None
    return found[1]


PANEL = {
    "panel-0-title": "Slow models",
    "panel-0-chart": "bar",
    "panel-0-measures": "latency_p95",
    "panel-0-by": "model",
    "panel-0-subject": "call",
    "panel-0-where": "",
    "panel-0-limit": "5",
    "panel-0-width": "2",
    "panel-0-text": "",
}
DRAFT = {
    "name": "mine",
    "title": "Mine",
    "window_s": "86400",
    "where": "",
    "text": "",
    "version": "0",
    **PANEL,
}


def test_a_dashboard_shows_its_panels_with_headlines_and_the_way_to_the_traces(visitor: AsgiClient) -> None:
    text = html.unescape(visitor.get("/dashboards/overview?range=24h").text)
    for part in ("Requests", "Error share", "62", "Routes", 'href="/traces?since_ns='):
        assert part in text
    plots = [json.loads(each) for each in re.findall(r"data-plot=\"(\{.*?\})\" data-zoom", text)]
    assert len(plots) >= 5
    assert sum(value for value in plots[0]["lines"][0]["values"] if value) == 62


def test_a_search_narrows_all_panels_and_a_wrong_one_is_pointed_at(visitor: AsgiClient) -> None:
    text = html.unescape(visitor.get("/dashboards/overview?range=24h&where=status%3Aerror").text)
    assert "status:error" in text
    wrong = visitor.get("/dashboards/overview?where=modle%3Ax")
    assert (wrong.status, "<mark>modle</mark>" in wrong.text) == (400, True)
    assert visitor.get("/dashboards/nothing-such").status == 404


def test_the_period_before_is_told_beside_the_values(visitor: AsgiClient) -> None:
    text = visitor.get("/dashboards/overview?range=1h&compare=previous").text
    assert "Dashed: the period before" in text
    assert "before" in text


def test_a_copy_is_previewed_saved_changed_and_deleted(furnished: Furnished) -> None:
    client = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key)
    token = form_token(client, "/dashboards/new?copy=overview")
    preview = client.post_form("/dashboards/edit", {**DRAFT, "csrf_token": token, "step": "preview"})
    assert preview.status == 200
    assert "bar-list" in preview.text
    assert [each.name for each in furnished.services.dashboards.list() if each.origin == "stored"] == []
    saved = client.post_form("/dashboards/edit", {**DRAFT, "csrf_token": token, "step": "save"})
    assert (saved.status, saved.headers["location"].partition("?")[0]) == (303, "/dashboards/mine")
    assert "Slow models" in client.get("/dashboards/mine").text
    changed = {**DRAFT, "csrf_token": token, "version": "1", "title": "Ours", "step": "save"}
    assert client.post_form("/dashboards/edit", changed).status == 303
    stale = client.post_form("/dashboards/edit", changed)
    assert (stale.status, "Nothing was changed" in stale.text) == (409, True)
    gone = client.post_form("/dashboards/edit", {**changed, "version": "2", "step": "delete"})
    assert gone.status == 303
    assert client.get("/dashboards/mine").status == 404


def test_panels_are_added_moved_and_taken_away_without_losing_a_word(visitor: AsgiClient) -> None:
    token = form_token(visitor, "/dashboards/new")
    second = {key.replace("-0-", "-1-"): value for key, value in PANEL.items()} | {
        "panel-1-title": "Second <b>"
    }
    draft = {**DRAFT, **second, "csrf_token": token, "panel-0-limit": "many"}
    moved = visitor.post_form("/dashboards/edit", {**draft, "step": "up-1"}).text
    assert moved.index("Second &lt;b&gt;") < moved.index("Slow models")
    assert 'value="many"' in moved
    fewer = visitor.post_form("/dashboards/edit", {**draft, "step": "remove-0"}).text
    assert "Slow models" not in fewer
    more = visitor.post_form("/dashboards/edit", {**draft, "step": "add"}).text
    assert "panel-2-title" in more
    wrong = visitor.post_form("/dashboards/edit", {**draft, "step": "save"})
    assert (wrong.status, "whole number" in wrong.text) == (400, True)


def test_a_wrong_search_in_a_panel_is_pointed_at(visitor: AsgiClient) -> None:
    token = form_token(visitor, "/dashboards/new")
    draft = {**DRAFT, "csrf_token": token, "panel-0-where": "kind:llm modle:x", "step": "preview"}
    reply = visitor.post_form("/dashboards/edit", draft)
    assert (reply.status, "<mark>modle</mark>" in reply.text) == (400, True)
