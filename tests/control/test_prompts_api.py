"""Prompts over REST: versions, previews, differences, aliases and imports, each behind its permission."""

from typing import Any

import pytest

from penstock.access.permissions import Permission, permissions_of
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished

BASE = "/api/v1/prompts"
CONTENT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Sort {{ mail }}"}],
    "variables": {"mail": {}},
    "model": "pocket",
}


@pytest.fixture
def sort(owner: AsgiClient) -> AsgiClient:
    """A client beside a prompt of two versions."""
    assert owner.post_json(f"{BASE}/sort/versions", {"content": CONTENT, "note": "one"}).status == 201
    other = {**CONTENT, "messages": [{"role": "user", "content": "Please sort {{ mail }}"}]}
    assert owner.post_json(f"{BASE}/sort/versions", {"content": other}).status == 201
    return owner


def test_versions_are_made_once_and_found_by_number_alias_and_digest(sort: AsgiClient) -> None:
    again = sort.post_json(f"{BASE}/sort/versions", {"content": CONTENT})
    assert (again.status, again.json()["number"], again.json()["is_new"]) == (200, 1, False)
    assert sort.get(f"{BASE}/sort").json()["label"] == "prompt:sort@2"
    first = sort.get(f"{BASE}/sort?version=1").json()
    assert (first["note"], first["content"]) == ("one", CONTENT)
    assert sort.get(f"{BASE}/sort?version={first['digest']}&with_examples=true").json()["examples"] == []
    assert [each["number"] for each in sort.get(f"{BASE}/sort/versions").json()["versions"]] == [2, 1]
    assert sort.get(f"{BASE}/sort/file?version=1").text.endswith("--- user\nSort {{ mail }}\n")
    (listed,) = sort.get(BASE).json()["prompts"]
    assert (listed["name"], listed["variables"], listed["latest"]) == ("sort", ["mail"], 2)


def test_what_is_wrong_is_told_whole(sort: AsgiClient) -> None:
    told = sort.post_json(
        f"{BASE}/check", {"content": {"messages": [{"role": "user", "content": "{{ a }} {{ b"}]}}
    ).json()
    assert len(told["problems"]) == 1
    refused = sort.post_json(f"{BASE}/bad/versions", {"content": {"massages": []}})
    assert (refused.status, refused.json()["error"]["code"]) == (400, "PS-1241")
    missing = sort.get(f"{BASE}/srot")
    assert (missing.status, missing.json()["error"]["hint"]) == (404, "Did you mean 'sort'?")


def test_previews_are_of_saved_prompts_and_of_others(sort: AsgiClient) -> None:
    saved = sort.post_json(f"{BASE}/render", {"prompt": "sort@1", "variables": {"mail": "x"}}).json()
    assert saved["rendered"]["messages"] == [{"role": "user", "content": "Sort x"}]
    assert (saved["version"], saved["tokens"]["is_estimate"]) == ("prompt:sort@1", True)
    free = sort.post_json(f"{BASE}/render", {"content": CONTENT, "variables": {"mail": "x"}}).json()
    assert free["version"] is None
    wrong = sort.post_json(f"{BASE}/render", {"prompt": "sort", "variables": {}})
    assert (wrong.status, wrong.json()["error"]["code"]) == (400, "PS-1242")
    assert sort.post_json(f"{BASE}/render", {"variables": {}}).status == 400


def test_aliases_move_and_come_back_and_those_who_serve_are_told(
    sort: AsgiClient, furnished: Furnished
) -> None:
    refused = sort.post_json(f"{BASE}/sort/aliases/prod/move", {"version": "1"})
    assert refused.status == 403
    for version in ("1", "2"):
        moved = sort.post_json(
            f"{BASE}/sort/aliases/prod/move", {"version": version, "override_reason": "so"}
        )
        assert moved.status == 200
    back = sort.post_json(f"{BASE}/sort/aliases/prod/rollback", {})
    assert (back.json()["from_number"], back.json()["to_number"]) == (2, 1)
    assert furnished.moved == [("prompt", "sort", "prod", number) for number in (1, 2, 1)]
    assert len(sort.get(f"{BASE}/sort/history").json()["moves"]) == 3


def test_differences_are_by_word(sort: AsgiClient) -> None:
    (row,) = sort.get(f"{BASE}/sort/diff?before=1&after=2").json()["rows"]
    assert [(piece["kind"], piece["text"]) for piece in row["pieces"]] == [
        ("removed", "Sort"),
        ("added", "Please sort"),
        ("same", " {{ mail }}"),
    ]


def test_imports_say_what_they_did(sort: AsgiClient) -> None:
    files = [
        {"name": "sort", "file": "sort.prompt", "content": CONTENT},
        {"name": "new", "file": "new.prompt", "content": CONTENT},
    ]
    checked = sort.post_json(f"{BASE}/import", {"prompts": files, "only_check": True}).json()["prompts"]
    assert [(each["state"], each["number"]) for each in checked] == [("older", 1), ("new", None)]
    done = sort.post_json(f"{BASE}/import", {"prompts": files}).json()["prompts"]
    assert [each["number"] for each in done] == [1, 1]
    assert sort.get(f"{BASE}/new").status == 200


def test_a_key_for_prompts_may_read_them_and_nothing_else(
    app: Any, sort: AsgiClient, furnished: Furnished
) -> None:
    key = furnished.services.keys.create("program", ("prompts",)).key
    program = AsgiClient(app, bearer=key)
    assert program.get(f"{BASE}/sort").status == 200
    assert program.post_json(f"{BASE}/sort/versions", {"content": CONTENT}).status == 403
    assert program.get("/api/v1/assets").status == 403
    assert AsgiClient(app, bearer=furnished.call_key).get(f"{BASE}/sort").status == 403
    assert permissions_of(("prompts",)) == {Permission.PROMPTS_READ}


def test_a_key_that_fetches_prompts_reads_no_dataset_through_examples_of_its_own(
    sort: AsgiClient, furnished: Furnished
) -> None:
    rows = b'{"input": "patient Jane", "expected": "ill"}\n'
    uploaded = sort.send("POST", "/api/v1/datasets/secret/upload?file=rows.jsonl", body=rows)
    assert uploaded.status == 201, uploaded.text
    content = {
        "messages": [{"role": "slot", "content": "examples"}, {"role": "user", "content": "hi"}],
        "few_shot": {"dataset": "dataset:secret@1", "count": 5},
    }
    program = AsgiClient(sort._app, bearer=furnished.services.keys.create("app", ("prompts",)).key)
    refused = program.post_json(f"{BASE}/render", {"content": content})
    assert (refused.status, "datasets.read" in refused.text, "Jane" in refused.text) == (403, True, False)
    assert "Jane" in sort.post_json(f"{BASE}/render", {"content": content}).text
