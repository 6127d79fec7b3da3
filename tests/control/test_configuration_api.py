"""Configuration, secrets and keys over REST: what owners may do, what is refused, what no answer holds."""

import json
from typing import Any

import pytest

from tests.fixtures.asgi import AsgiClient, Reply
from tests.fixtures.furnished import Furnished

URL = "http://127.0.0.1:9/v1"
OBJECTS = "/api/v1/config/objects"
ROUTE = {"targets": [{"provider": "far", "model": "m"}]}


def send(client: AsgiClient, method: str, path: str, value: Any) -> Reply:
    return client.send(
        method, path, body=json.dumps(value).encode(), headers={"content-type": "application/json"}
    )


@pytest.fixture
def far(owner: AsgiClient) -> AsgiClient:
    """The owner, after a provider `far` was made."""
    reply = send(owner, "PUT", f"{OBJECTS}/provider/far", {"content": {"base_url": URL}, "note": "first"})
    assert reply.status == 201, reply.text
    return owner


def test_an_object_is_made_read_changed_and_deleted(far: AsgiClient) -> None:
    made = send(far, "PUT", f"{OBJECTS}/route/team/fast", {"content": ROUTE, "expected_version": 0})
    assert (made.status, made.json()["version"]) == (201, 1)
    content = {**ROUTE, "deadline_s": 9}
    changed = send(far, "PUT", f"{OBJECTS}/route/team/fast", {"content": content, "expected_version": 1})
    assert (changed.status, changed.json()["version"]) == (200, 2)
    found = far.get(f"{OBJECTS}/route/team/fast").json()
    assert (found["owner"], found["row"]["deadline_s"], found["content"]) == ("database", 9.0, content)
    stale = send(far, "PUT", f"{OBJECTS}/route/team/fast", {"content": ROUTE, "expected_version": 1})
    assert (stale.status, stale.json()["error"]["code"]) == (409, "PS-3687")
    assert stale.json()["error"]["fields"]["version"] == 2
    assert far.send("DELETE", f"{OBJECTS}/provider/far").status == 400  # the route points to it
    assert far.send("DELETE", f"{OBJECTS}/route/team/fast?expected_version=1").status == 409
    assert far.send("DELETE", f"{OBJECTS}/route/team/fast?expected_version=2").status == 200
    assert far.get(f"{OBJECTS}/route/team/fast").status == 404
    names = [row["name"] for row in far.get(f"{OBJECTS}/provider").json()["objects"]]
    assert names == ["apps", "engine", "far"]


def test_what_is_wrong_is_answered_with_the_key(far: AsgiClient) -> None:
    for kind, content, words in [
        ("provider", {"base_ulr": "x"}, "Did you mean 'base_url'"),
        ("route", {"targets": []}, "at least 1 item"),
        ("route", {"targets": [{"provider": "nobody", "model": "m"}]}, "nobody"),
        ("limit", {"scope": "all", "match": "x", "unit": "usd", "amount": 1, "window": "day"}, "match"),
    ]:
        reply = send(far, "PUT", f"{OBJECTS}/{kind}/x", {"content": content})
        assert (reply.status, words in reply.text) == (400, True), reply.text
    assert send(far, "PUT", f"{OBJECTS}/engine/x", {"content": {}}).status == 400
    assert send(far, "PUT", f"{OBJECTS}/route/x", {"content": ROUTE, "more": 1}).status == 400


def test_a_dry_run_history_diff_and_rollback(far: AsgiClient) -> None:
    draft = send(
        far, "POST", "/api/v1/config/validate", {"kind": "route", "name": "fast", "content": ROUTE}
    ).json()
    assert [(each["action"], each["name"]) for each in draft["changes"]] == [("added", "fast")]
    send(far, "PUT", f"{OBJECTS}/route/fast", {"content": ROUTE})
    versions = far.get("/api/v1/config/history").json()["versions"]
    assert [row["note"] for row in versions] == ["create route fast", "first"]
    assert versions[0]["actor"].startswith("admin (key_")
    number = versions[1]["number"]
    changes = far.get(f"/api/v1/config/diff?before={number}").json()["changes"]
    assert [(each["kind"], each["name"], each["action"]) for each in changes] == [("route", "fast", "added")]
    assert far.get("/api/v1/config/pending").json() == {"changes": [], "warnings": []}
    assert "providers" in far.get(f"/api/v1/config/versions/{number}").json()["content"]
    tried = far.get(f"/api/v1/config/rollback/{number}").json()["changes"]
    assert [(each["name"], each["action"]) for each in tried] == [("fast", "removed")]
    done = send(far, "POST", f"/api/v1/config/rollback/{number}", {}).json()
    assert [(each["name"], each["action"]) for each in done["restored"]] == [("fast", "removed")]
    assert far.get("/api/v1/config/versions/99").status == 404
    assert far.get("/api/v1/config/diff?before=0").status == 400


def test_a_secret_goes_in_and_never_comes_out(far: AsgiClient, furnished: Furnished) -> None:
    text = "sk-upstream-secret"
    replies = [
        send(far, "PUT", "/api/v1/secrets/mine", {"value": text, "url": URL}),
        send(far, "PUT", f"{OBJECTS}/provider/far", {"content": {"base_url": URL, "secret": "mine"}}),
        send(far, "POST", "/api/v1/secrets/mine/rotate", {"value": f"{text}-2"}),
        far.get("/api/v1/secrets"),
        far.get(f"{OBJECTS}/provider/far"),
        far.get("/api/v1/config/diff?before=1"),
        far.get("/api/v1/routes"),
        send(far, "PUT", "/api/v1/secrets/Bad Name", {"value": text, "url": URL}),
        send(far, "PUT", "/api/v1/secrets/mine", {"value": text, "url": "nowhere"}),
        send(far, "PUT", "/api/v1/secrets/mine", {"value": text, "url": "https://evil.example"}),
        send(far, "PUT", "/api/v1/secrets/mine", {"value": [text], "url": URL}),
        send(far, "PUT", "/api/v1/secrets/mine", {"value": text, "url": URL, "more": text}),
        far.send("DELETE", "/api/v1/secrets/mine"),
    ]
    assert [reply.status for reply in replies] == [*[200] * 7, 400, 400, 409, 400, 400, 409]
    assert all(text not in reply.text for reply in replies)
    assert replies[3].json()["secrets"][0]["origin"] == "http://127.0.0.1:9"
    assert len(furnished.published) == 2
    send(far, "PUT", f"{OBJECTS}/provider/far", {"content": {"base_url": URL}})
    assert far.send("DELETE", "/api/v1/secrets/mine").status == 200


def test_a_key_is_changed_and_rotated(owner: AsgiClient, app: Any) -> None:
    made = owner.post_json("/api/v1/keys", {"name": "ci", "scopes": ["owner"], "user": "ada"}).json()
    other = AsgiClient(app, bearer=made["key"])
    shown = owner.get(f"/api/v1/keys/{made['id']}").json()
    assert (shown["user"], shown["project"]) == ("ada", "default")
    changed = send(owner, "PATCH", f"/api/v1/keys/{made['id']}", {"requests_per_minute": 5, "user": None})
    assert (changed.json()["requests_per_minute"], changed.json()["user"]) == (5, None)
    assert changed.json()["name"] == "ci"
    fresh = owner.post_json(f"/api/v1/keys/{made['id']}/rotate", {"overlap_s": 3600}).json()
    assert other.get("/api/v1/keys").status == 200
    assert AsgiClient(app, bearer=fresh["key"]).get("/api/v1/keys").status == 200
    owner.post_json(f"/api/v1/keys/{made['id']}/rotate", {})
    assert other.get("/api/v1/keys").status == 401
    assert send(owner, "PATCH", f"/api/v1/keys/{made['id']}", {"name": None}).status == 400
    assert send(owner, "PATCH", "/api/v1/keys/key_none", {"name": "x"}).status == 404
    assert owner.post_json("/api/v1/keys", {"name": "x", "expires_ns": 1}).status == 400
    assert made["key"] not in owner.get("/api/v1/keys").text


def test_a_call_key_sees_and_changes_no_configuration(app: Any, furnished: Furnished) -> None:
    client = AsgiClient(app, bearer=furnished.call_key)
    for method, path, permission in [
        ("GET", f"{OBJECTS}/provider", "config.read"),
        ("PUT", f"{OBJECTS}/provider/far", "config.write"),
        ("POST", "/api/v1/config/rollback/1", "config.write"),
        ("GET", "/api/v1/config/rollback/1", "config.read"),
        ("GET", "/api/v1/secrets", "secrets.read"),
        ("PUT", "/api/v1/secrets/mine", "secrets.write"),
        ("POST", "/api/v1/keys/x/rotate", "keys.write"),
    ]:
        reply = send(client, method, path, {})
        assert (reply.status, reply.json()["error"]["fields"]["permission"]) == (403, permission), path


def test_a_metrics_key_opens_nothing_here(app: Any, furnished: Furnished) -> None:
    key = furnished.services.keys.create("prometheus", ("metrics",)).key
    assert AsgiClient(app, bearer=key).get("/api/v1/keys").status == 403
