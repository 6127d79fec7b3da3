"""Sources over REST: added, changed, tried, run and removed; what they hold is paged; who may do what."""

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.knowledge.types import InlineContext
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished

ROOT = "/api/v1/knowledge"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.md").write_text(f"# {name}\n\nText of {name}.\n")
    (folder / "left.bin").write_bytes(b"x")
    return folder


def add(client: AsgiClient, docs: Path, **more: Any) -> Any:
    body = {"name": "notes", "kind": "folder", "settings": {"location": str(docs)}, **more}
    return client.post_json(f"{ROOT}/wiki/sources", body)


def patch(client: AsgiClient, url: str, value: Any) -> Any:
    headers = {"content-type": "application/json"}
    return client.send("PATCH", url, body=json.dumps(value).encode(), headers=headers)


def test_a_source_is_added_changed_paused_and_removed(owner: AsgiClient, docs: Path) -> None:
    made = add(owner, docs, schedule="1h")
    assert made.status == 201, made.text
    assert (made.json()["state"], made.json()["schedule"]) == ("new", {"every": "1h"})
    assert add(owner, docs).json()["error"]["code"] == "PS-3414"
    where = f"{ROOT}/wiki/sources/notes"
    edited = patch(owner, where, {"settings": {"exclude": ["b.md"]}, "schedule": None}).json()
    assert (edited["settings"]["exclude"], edited["schedule"], edited["due_ns"]) == (["b.md"], None, None)
    assert patch(owner, where, {"settings": {"exclude": None}}).json()["settings"] == {
        "prefix": "",
        "location": str(docs),
    }
    assert owner.send("POST", f"{where}/pause").json()["is_paused"] is True
    assert owner.send("POST", f"{where}/resume").json()["is_paused"] is False
    assert [each["name"] for each in owner.get(f"{ROOT}/wiki/sources").json()["sources"]] == ["notes"]
    assert owner.send("DELETE", where).status == 200
    assert owner.get(where).json()["error"]["code"] == "PS-1415"


def test_settings_can_be_tried_before_and_after_and_nothing_is_written(owner: AsgiClient, docs: Path) -> None:
    body = {"kind": "folder", "settings": {"location": str(docs)}, "limit": 2}
    tried = owner.post_json(f"{ROOT}/source-trials", body).json()
    assert ([each["path"] for each in tried["first"]], tried["is_cut"]) == (["a.md", "b.md"], True)
    add(owner, docs)
    tried = owner.send("POST", f"{ROOT}/wiki/sources/notes/test").json()
    assert (tried["seen"], tried["left_out"], tried["complete"]) == (3, 1, True)
    assert tried["errors"] == [{"path": "left.bin", "reason": "no parser for .bin", "what": "left_out"}]
    assert owner.get(f"{ROOT}/wiki/items").json() == {"items": [], "next_cursor": None}
    body["settings"] = {"location": str(docs / "nowhere")}
    assert owner.post_json(f"{ROOT}/source-trials", body).status == 400


def test_items_are_paged_and_chosen_and_documents_have_versions(
    owner: AsgiClient, docs: Path, furnished: Furnished
) -> None:
    add(owner, docs)
    furnished.services.sources.scan_all("wiki", InlineContext())
    page = owner.get(f"{ROOT}/wiki/items?limit=3").json()
    assert [each["path"] for each in page["items"]] == ["a.md", "b.md", "c.md"]
    rest = owner.get(f"{ROOT}/wiki/items?limit=3&cursor={page['next_cursor']}").json()
    assert ([each["path"] for each in rest["items"]], rest["next_cursor"]) == (["left.bin"], None)
    left = owner.get(f"{ROOT}/wiki/items?state=left_out&state=gone").json()["items"]
    assert [(each["path"], each["reason"]) for each in left] == [("left.bin", "no parser for .bin")]
    assert [each["path"] for each in owner.get(f"{ROOT}/wiki/items?q=B.M").json()["items"]] == ["b.md"]
    assert owner.get(f"{ROOT}/wiki/items?cursor=odd").status == 400
    assert owner.get(f"{ROOT}/wiki/items?state=odd").status == 400
    shown = owner.get(f"{ROOT}/wiki/documents/a.md").json()
    assert (shown["item"]["state"], shown["versions"]) == ("live", [])
    assert owner.get(f"{ROOT}/wiki/documents/nothing.md").json()["error"]["code"] == "PS-1416"
    known = owner.get(f"{ROOT}/handbook/documents").json()["documents"][0]["path"]
    versions = owner.get(f"{ROOT}/handbook/documents/{known}").json()["versions"]
    assert [each["is_live"] for each in versions] == [True]


def test_a_run_is_a_job_and_the_same_run_is_not_queued_twice(owner: AsgiClient, docs: Path) -> None:
    add(owner, docs)
    first = owner.post_json(f"{ROOT}/wiki/runs", {"sources": ["notes"]})
    assert (first.status, first.json()["state"]) == (202, "queued")
    assert owner.post_json(f"{ROOT}/wiki/runs", {"sources": ["notes"]}).json() == first.json()
    assert owner.post_json(f"{ROOT}/wiki/runs", {}).status == 409
    assert owner.post_json(f"{ROOT}/wiki/runs", {"sources": ["odd"]}).status == 404


def test_the_kinds_are_listed_with_their_settings(owner: AsgiClient) -> None:
    kinds = {each["kind"]: each["settings"] for each in owner.get(f"{ROOT}/source-kinds").json()["kinds"]}
    assert set(kinds) == {"folder", "files", "web", "store", "database", "jsonl"}
    depth = next(each for each in kinds["web"] if each["name"] == "depth")
    assert (depth["default"], depth["is_required"], depth["type"]) == (2, False, "int")


def test_a_setting_that_is_none_is_refused_with_the_nearest(owner: AsgiClient, docs: Path) -> None:
    refused = add(owner, docs, settings={"location": str(docs), "exlude": []})
    assert refused.status == 400
    assert "exclude" in refused.json()["error"]["hint"]
