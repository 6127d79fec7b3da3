"""Searching, completing, exporting and saved views over REST."""

from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished
from tests.fixtures.spans import make_call_trace, make_span


def test_traces_and_spans_are_found_by_search_in_any_order(owner: AsgiClient, furnished: Furnished) -> None:
    furnished.spans.append(make_call_trace(77))
    asked = quote("any(kind:retrieval) route:handbook -status:error")
    rows = owner.get(f"/api/v1/traces?q={asked}&limit=500").json()["rows"]
    assert f"{77:032x}" in [row["trace_id"] for row in rows]
    spans = owner.get(f"/api/v1/spans?q={quote('kind:embedding trace:' + f'{77:032x}')}").json()["rows"]
    assert [row["span_id"] for row in spans] == [f"{4:016x}"]
    slow = owner.get("/api/v1/traces?order=slowest&limit=5").json()["rows"]
    times = [row["duration_ms"] for row in slow]
    assert times == sorted(times, reverse=True)
    count = owner.get(f"/api/v1/search/count?subject=span&q={quote('kind:llm')}").json()
    assert count["n"] > 0


def test_a_wrong_search_is_told_with_its_place(owner: AsgiClient) -> None:
    for path in ("traces", "spans", "search/count", "export"):
        reply = owner.get(f"/api/v1/{path}?q={quote('status:ok kidn:llm')}")
        error = reply.json()["error"]
        assert (reply.status, error["code"]) == (400, "PS-1961")
        assert (error["fields"]["position"], error["fields"]["length"]) == (10, 4)
        assert "kind" in error["hint"]


def test_completion_knows_fields_and_stored_values(owner: AsgiClient, furnished: Furnished) -> None:
    furnished.spans.append(
        [make_span(1, trace=78, kind="llm", model="gpt-4o mini", attributes={"my.own": 1})]
    )

    def texts(text: str, cursor: int | None = None) -> list[str]:
        place = "" if cursor is None else f"&cursor={cursor}"
        found = owner.get(f"/api/v1/search/complete?text={quote(text)}{place}").json()["completions"]
        assert all(0 <= each["start"] <= each["end"] <= len(text) for each in found)
        return [each["text"] for each in found]

    assert texts("dur")[0] == "duration:"
    assert '"gpt-4o mini"' in texts("status:ok model:gpt")
    assert texts("any(kind:re") == ["retrieval", "rerank"]
    assert "attr.my.own:" in texts("attr.my")
    assert texts("-streamed:") == ["yes", "no"]
    assert texts('"qu') == []
    assert texts("kind:llm,emb") == ["embedding"]
    assert texts("kind:xx status:ok", 6) == []
    assert "any(" in texts("")
    fields = owner.get("/api/v1/search/fields").json()["fields"]
    assert {"kind", "duration", "attr.…"} <= {field["name"] for field in fields}


@pytest.mark.parametrize("subject", ["trace", "span"])
def test_an_export_streams_what_was_found(owner: AsgiClient, furnished: Furnished, subject: str) -> None:
    furnished.spans.append(make_call_trace(79))
    asked = quote(f"trace:{79:032x}")
    reply = owner.get(f"/api/v1/export?subject={subject}&q={asked}")
    spans = [msgspec.json.decode(line) for line in reply.body.splitlines()]
    assert len(spans) == 5
    assert "attachment" in reply.headers["content-disposition"]
    parquet = owner.get(f"/api/v1/export?format=parquet&q={asked}").body
    assert parquet[:4] == parquet[-4:] == b"PAR1"
    assert owner.get("/api/v1/export?format=csv").status == 400


def test_views_are_kept_replaced_and_forgotten(owner: AsgiClient) -> None:
    body: dict[str, Any] = {
        "name": "Slow / dear",
        "query": "duration>2s",
        "columns": ["name", "cost_usd"],
        "order": "dearest",
    }
    assert owner.post_json("/api/v1/views", body).status == 201
    assert owner.post_json("/api/v1/views", {**body, "query": "duration>5s"}).status == 201
    [view] = owner.get("/api/v1/views").json()["views"]
    assert (view["name"], view["query"], view["columns"]) == (
        "Slow / dear",
        "duration>5s",
        ["name", "cost_usd"],
    )
    assert owner.get("/api/v1/views/Slow%20/%20dear").json()["order"] == "dearest"
    for wrong in ({"query": "kidn:x"}, {"columns": ["nmae"]}, {"name": " "}, {"order": "best"}, {"more": 1}):
        assert owner.post_json("/api/v1/views", {**body, **wrong}).status == 400
    assert owner.send("DELETE", "/api/v1/views/Slow%20/%20dear").status == 200
    gone = owner.get("/api/v1/views/Slow%20/%20dear")
    assert (gone.status, gone.json()["error"]["code"]) == (404, "PS-1962")
