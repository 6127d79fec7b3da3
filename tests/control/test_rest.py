"""What REST answers, over the real services."""

from typing import Any

import pytest

from penstock.control.api.health import WITHHELD
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import ANSWER, QUESTION, TRACE_ID, Furnished


def test_traces_are_listed_shown_and_paged_without_repeats(owner: AsgiClient) -> None:
    seen: list[str] = []
    cursor = ""
    while True:
        page = owner.get(f"/api/v1/traces?limit=25&cursor={cursor}").json()
        seen += [row["trace_id"] for row in page["rows"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 62
    shown = owner.get(f"/api/v1/traces/{TRACE_ID}").json()
    assert shown["summary"]["n_spans"] == 4
    assert [row["depth"] for row in shown["waterfall"]["rows"]] == [0, 1, 2, 2]
    span_id = shown["waterfall"]["rows"][0]["span_id"]
    payload = owner.get(f"/api/v1/traces/{TRACE_ID}/spans/{span_id}/payload").json()
    assert payload["input"]["messages"][0]["content"] == QUESTION
    assert payload["output"]["choices"][0]["message"]["content"] == ANSWER


def test_a_wrong_filter_is_named(owner: AsgiClient) -> None:
    reply = owner.get("/api/v1/traces?status=broken")
    assert reply.status == 400
    assert "status" in reply.json()["error"]["message"]
    assert owner.get("/api/v1/traces?limit=9999").json()["error"]["fields"]["where"] == "query.limit"


def test_the_overview_counts_calls_errors_and_money(owner: AsgiClient) -> None:
    found = owner.get("/api/v1/overview").json()
    assert found["n_calls"] == 62
    assert found["n_errors"] == 5
    assert isinstance(found["cost_usd"], str)


def test_an_alias_moves_with_evidence_and_back(owner: AsgiClient, furnished: Furnished) -> None:
    base = "/api/v1/assets/model/pocket"
    assert owner.get(base).json()["aliases"] == {"canary": 1, "prod": 2}
    bare = owner.post_json(f"{base}/aliases/prod/move", {"number": 1})
    assert bare.status == 403
    assert "evidence" in (bare.json()["error"]["message"] + bare.json()["error"].get("hint", ""))
    forged = owner.post_json(f"{base}/aliases/prod/move", {"number": 1, "evidence": {"verdict": "pass"}})
    assert (forged.status, forged.json()["error"]["code"]) == (403, "PS-2360")
    why = {"override_reason": "incident 7"}
    moved = owner.post_json(f"{base}/aliases/prod/move", {"number": 1, **why})
    assert (moved.status, moved.json()["actor"], moved.json()["is_override"]) == (200, "admin", True)
    stale = owner.post_json(f"{base}/aliases/prod/move", {"number": 2, **why, "expected_number": 2})
    assert stale.status == 409
    assert owner.post_json(f"{base}/aliases/prod/rollback", {}).json()["to_number"] == 2
    assert furnished.moved == [("model", "pocket", "prod", 1), ("model", "pocket", "prod", 2)]
    assert [each["number"] for each in owner.get("/api/v1/lineage?ref=model:pocket@2").json()["up"]] == [1, 1]


def test_versions_are_registered_once(owner: AsgiClient) -> None:
    body = {"content": {"template": "Hello {name}"}, "note": "first"}
    first = owner.post_json("/api/v1/assets/prompt/greeting/versions", body)
    again = owner.post_json("/api/v1/assets/prompt/greeting/versions", body)
    assert first.status == again.status == 201
    assert first.json()["digest"] == again.json()["digest"]
    assert owner.post_json("/api/v1/assets/prompt/greeting/versions", {"contents": {}}).status == 400


def test_no_version_of_a_model_is_registered_without_what_proves_it(owner: AsgiClient) -> None:
    body = {"content": {"kind": "chat", "parity": {"passed": True}}}
    refused = owner.post_json("/api/v1/assets/model/pocket/versions", body)
    assert refused.status == 400 and "penstock model pull" in refused.json()["error"]["hint"]


def test_jobs_are_shown_with_steps_and_logs(owner: AsgiClient, furnished: Furnished) -> None:
    shown = owner.get(f"/api/v1/jobs/{furnished.job_id}").json()
    assert shown["job"]["state"] == "done"
    assert [step["name"] for step in shown["steps"]] == ["parse"]
    lines = owner.get(f"/api/v1/jobs/{furnished.job_id}/logs").json()["lines"]
    assert "69 files found" in [line["text"] for line in lines]
    assert owner.post_json(f"/api/v1/jobs/{furnished.failed_job_id}/retry", {}).json()["state"] == "queued"
    assert (
        owner.post_json(f"/api/v1/jobs/{furnished.failed_job_id}/cancel", {}).json()["state"] == "cancelled"
    )
    assert owner.get("/api/v1/jobs/job_none").status == 404


@pytest.mark.parametrize("number", [-1, 2**63, 10**30, 10**50, 10**400])
def test_a_number_that_no_store_can_hold_is_a_mistake_of_the_caller(
    owner: AsgiClient, furnished: Furnished, number: int
) -> None:
    logs = f"jobs/{furnished.job_id}/logs?after"
    for path in (logs, "overview?since_ns", "overview?until_ns", "traces?since_ns", "traces?until_ns"):
        assert owner.get(f"/api/v1/{path}={number}").status == 400


def test_a_key_is_told_once_and_works_until_it_is_revoked(
    app: Any, owner: AsgiClient, furnished: Furnished
) -> None:
    made = owner.post_json("/api/v1/keys", {"name": "second owner", "scopes": ["owner"]}).json()
    assert made["key"].startswith("ps-")
    assert made["key"] not in owner.get("/api/v1/keys").text
    other = AsgiClient(app, bearer=made["key"])
    assert other.get("/api/v1/keys").status == 200
    assert owner.post_json(f"/api/v1/keys/{made['id']}/revoke", {}).status == 200
    assert other.get("/api/v1/keys").status == 401


def test_a_key_is_not_made_with_the_installations_own_scope_or_for_a_route_that_is_not_there(
    owner: AsgiClient, furnished: Furnished
) -> None:
    before = furnished.services.keys.list()
    for body, told in (
        ({"scopes": ["internal"]}, "known: owner, call"),
        ({"routes": ["pocket", "handbok"]}, "Did you mean 'handbook'?"),
    ):
        reply = owner.post_json("/api/v1/keys", {"name": "x", **body})
        assert (reply.status, told in reply.text) == (400, True), reply.text
    assert furnished.services.keys.list() == before
    assert owner.post_json("/api/v1/keys", {"name": "x", "routes": ["pocket"]}).status == 201


def test_knowledge_is_listed_and_searched(owner: AsgiClient) -> None:
    assert owner.get("/api/v1/knowledge").json()["bases"][0]["name"] == "handbook"
    found = owner.get("/api/v1/knowledge/handbook/search?q=hours+of+sleep&k=2").json()
    assert found["hits"][0]["document"] == "sleep-basics.md"
    documents = owner.get("/api/v1/knowledge/handbook/documents").json()["documents"]
    assert [each["path"] for each in documents if each["error"] or each["problems"]] == ["broken.pdf"]


def test_routes_and_models_come_from_the_snapshot(owner: AsgiClient) -> None:
    assert [each["id"] for each in owner.get("/api/v1/models").json()["models"]] == [
        "handbook",
        "pocket",
        "minilm",
    ]
    assert owner.get("/api/v1/routes").json()["snapshot"]["digest"].startswith("sha256:")


def test_health_and_readiness_say_why_to_the_owner_only(
    app: Any, owner: AsgiClient, furnished: Furnished
) -> None:
    client = AsgiClient(app)
    assert client.get("/healthz").status == 200
    assert client.get("/readyz").status == 200
    furnished.problems["collector"] = "the disk is full"
    assert client.get("/readyz").status == 503
    assert owner.get("/readyz").json()["problems"] == {"collector": "the disk is full"}
    for stranger in (client, AsgiClient(app, bearer=furnished.call_key)):
        assert stranger.get("/readyz").json()["problems"] == {"collector": WITHHELD}


def test_errors_have_one_form_and_headers_are_safe(owner: AsgiClient) -> None:
    for path, status in (("/api/v1/nothing", 404), ("/api/v1/traces/ffff", 404)):
        reply = owner.get(path)
        assert reply.status == status
        assert set(reply.json()["error"]) >= {"code", "message"}
        assert reply.headers["content-security-policy"].startswith("default-src 'self'")
        assert "unsafe" not in reply.headers["content-security-policy"]
    assert owner.send("DELETE", "/api/v1/traces").status == 405
    assert owner.send("POST", "/api/v1/keys", headers={"content-length": str(10**9)}).status == 413


def test_the_openapi_document_is_served_and_pages_with_foreign_scripts_are_not(owner: AsgiClient) -> None:
    assert "/api/v1/traces" in owner.get("/api/openapi.json").json()["paths"]
    assert owner.get("/docs").status == 404
    assert owner.get("/redoc").status == 404
