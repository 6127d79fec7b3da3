"""Measures, dashboards, alerts, channels and metrics over REST: what is asked is answered, by whoever may ask."""

import json
from typing import Any

import pytest

from penstock.spec.measures import MEASURES
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished

PANELS = [{"title": "Calls", "measures": ["calls"]}]
RULE: dict[str, Any] = {"measure": "error_share", "window_s": 300, "alert": {"above": 0.1}}
HOOK = {"kind": "webhook", "url": "https://hooks.example.com/x"}


def put(client: AsgiClient, url: str, content: Any, **fields: Any) -> Any:
    """Return the reply to a PUT of `content`."""
    body = json.dumps({"content": content, **fields}).encode()
    return client.send("PUT", url, body=body, headers={"content-type": "application/json"})


def test_the_catalogue_names_every_measure_and_dimension(owner: AsgiClient) -> None:
    found = owner.get("/api/v1/measures").json()
    assert [one["name"] for one in found["measures"]] == [*MEASURES]
    assert {"unit", "title", "text"} <= set(found["measures"][0])
    assert "model" in found["dimensions"]


def test_measures_are_asked_by_search_dimension_slice_and_comparison(owner: AsgiClient) -> None:
    url = (
        "/api/v1/measure?measure=cost&measure=calls&by=model&subject=call&q=kind:llm&compare=day&sliced=true"
    )
    reply = owner.get(url)
    assert reply.status == 200
    report = reply.json()
    assert report["bucket_ns"] == 900_000_000_000 and len(report["slices"]) in {96, 97}
    row = report["rows"][0]
    assert set(row["cells"]) == {"cost", "calls"} and row["group"]["model"]
    assert row["zoom"]["search"].startswith("kind:llm") and row["zoom"]["spans"]
    assert isinstance(row["cells"]["cost"]["exact"], str), "money stays exact"
    values = owner.get("/api/v1/measures/values/model").json()["values"]
    assert row["group"]["model"] in values


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("measure=nope", "PS-1001"),
        ("measure=calls&by=nope", "PS-1001"),
        ("measure=calls&q=kind:", "PS-1961"),
        ("measure=calls&since_ns=5&until_ns=5", "PS-1001"),
        ("measure=calls&compare=month", "PS-1001"),
        ("by=model", "PS-1001"),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(owner: AsgiClient, query: str, code: str) -> None:
    reply = owner.get(f"/api/v1/measure?{query}")
    assert (reply.status, reply.json()["error"]["code"]) == (400, code)


def test_dashboards_are_made_shown_filled_and_deleted(owner: AsgiClient) -> None:
    content = {"title": "Mine", "panels": PANELS, "window_s": 3600}
    assert put(owner, "/api/v1/dashboards/mine", content, expected_version=0).status == 201
    assert put(owner, "/api/v1/dashboards/mine", content, expected_version=0).status == 409
    shown = owner.get("/api/v1/dashboards/mine").json()
    assert (shown["version"], shown["panels"][0]["title"]) == (1, "Calls") and shown["actor"].startswith(
        "admin"
    )
    view = owner.get("/api/v1/dashboards/mine/view?compare=previous&q=kind:llm").json()
    assert view["until_ns"] - view["since_ns"] == 3600 * 10**9
    assert view["panels"][0]["report"]["compared"] == "previous"
    names = [one["name"] for one in owner.get("/api/v1/dashboards").json()["dashboards"]]
    assert names[0] == "overview" and names[-1] == "mine"
    assert owner.send("DELETE", "/api/v1/dashboards/mine").status == 200
    assert owner.get("/api/v1/dashboards/mine").status == 404
    assert put(owner, "/api/v1/dashboards/overview", content).status == 409
    assert put(owner, "/api/v1/dashboards/mine", {"title": "x"}).json()["error"]["code"] == "PS-1972"


def test_alerts_are_made_looked_at_silenced_tested_and_deleted(owner: AsgiClient) -> None:
    assert put(owner, "/api/v1/channels/ops", HOOK).status == 201
    reply = put(owner, "/api/v1/alerts/errors", {**RULE, "notify": ["ops"]}, expected_version=0)
    assert reply.status == 201
    view = reply.json()
    assert (view["status"]["state"], view["every_s"], view["unit"]) == ("unknown", 30, "share")
    assert put(owner, "/api/v1/alerts/errors", RULE, expected_version=0).status == 409
    silenced = owner.post_json("/api/v1/alerts/errors/silence", {"for_s": 60}).json()
    assert silenced["is_silenced"]
    assert not owner.post_json("/api/v1/alerts/errors/silence", {}).json()["is_silenced"]
    assert owner.post_json("/api/v1/alerts/errors/silence", {"for_s": 1, "until_ns": 1}).status == 400
    messages = owner.post_json("/api/v1/alerts/errors/test", {})
    assert messages.status == 202
    identity = messages.json()["messages"][0]
    assert owner.get(f"/api/v1/messages/{identity}").json()["state"] == "pending"
    assert owner.get("/api/v1/messages?state=dead").json()["messages"] == []
    assert owner.post_json(f"/api/v1/messages/{identity}/retry", {}).status == 200
    assert owner.get("/api/v1/alerts/errors/history").json() == {"transitions": []}
    assert owner.get("/api/v1/alert-history").json() == {"transitions": []}
    assert [one["rule"]["name"] for one in owner.get("/api/v1/alerts").json()["alerts"]] == ["errors"]
    assert owner.send("DELETE", "/api/v1/channels/ops").status == 409
    assert owner.send("DELETE", "/api/v1/alerts/errors").status == 200
    assert owner.send("DELETE", "/api/v1/channels/ops").status == 200
    assert owner.get("/api/v1/alerts/errors").status == 404


def test_a_preview_looks_back_and_keeps_nothing(owner: AsgiClient) -> None:
    found = owner.post_json(
        "/api/v1/alert-preview", {"content": {**RULE, "subject": "trace", "window_s": 86_400}}
    ).json()
    assert found["unit"] == "share" and len(found["series"]) == 24
    assert owner.get("/api/v1/alerts").json() == {"alerts": []}


def test_channels_refuse_what_they_must_not_say(owner: AsgiClient) -> None:
    for content in (
        {**HOOK, "url": "http://169.254.169.254/"},
        {**HOOK, "url_env": "HOME"},
        {"kind": "pigeon"},
    ):
        assert put(owner, "/api/v1/channels/ops", content).json()["error"]["code"] == "PS-1977"
    assert put(owner, "/api/v1/channels/ops", HOOK).status == 201
    assert owner.get("/api/v1/channels/ops").json()["content"]["url"] == HOOK["url"]
    assert owner.post_json("/api/v1/channels/ops/test", {}).status == 202


def test_metrics_are_for_those_who_may_read_them(app: Any, owner: AsgiClient, furnished: Furnished) -> None:
    put(owner, "/api/v1/alerts/errors", RULE)
    key = furnished.services.keys.create("prometheus", ("metrics",)).key
    reply = AsgiClient(app, bearer=key).get("/metrics", accept="text/plain")
    assert reply.status == 200 and reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = reply.text.splitlines()
    assert 'penstock_alert_state{rule="errors",state="unknown",severity="warning"} 1' in lines
    assert "# TYPE penstock_store_bytes gauge" in lines
    assert 'penstock_spool_dropped_total{what="payload"} 0' in lines
    assert AsgiClient(app, bearer=furnished.call_key).get("/metrics").status == 403
    opened = AsgiClient(app, bearer=key).get("/metrics", accept="application/openmetrics-text")
    assert opened.text.endswith("# EOF\n") and "# TYPE penstock_collector_stored counter" in opened.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/measure?measure=calls"),
        ("GET", "/api/v1/dashboards"),
        ("PUT", "/api/v1/dashboards/x"),
        ("GET", "/api/v1/alerts"),
        ("PUT", "/api/v1/alerts/x"),
        ("POST", "/api/v1/alerts/x/silence"),
        ("PUT", "/api/v1/channels/x"),
    ],
)
def test_a_key_for_calls_may_do_none_of_it(app: Any, furnished: Furnished, method: str, path: str) -> None:
    client = AsgiClient(app, bearer=furnished.call_key)
    assert client.send(method, path, body=b"{}", headers={"content-type": "application/json"}).status == 403
